/**
 * A region of a device of the kernel's VFIO: pread and pwrite of the device's file, at the place
 * where the kernel says that the region is.
 *
 * The client answers what needs no device: offsets past the end, sizes, and writes of what is
 * read-only.
 */
import type { RegionMapping } from '../abi/device.ts';
import { Access } from '../abi/memory.ts';
import { RegionFlags } from '../abi/vfio.ts';
import { hex } from '../base/check.ts';
import { errnoName, VfioError } from '../base/errno.ts';
import { FileWindow } from '../device/file-window.ts';
import { checkMapRange } from '../device/map-range.ts';
import { seeAccess, seeRefusedAccess } from '../events/seen-access.ts';
import { MappedRegisters } from '../sys/mapped-registers.ts';
import { pageSize } from '../sys/page-size.ts';
import { generalRemedy } from './calls.ts';
import type { KernelPort } from './device-port.ts';
import { KernelMapping } from './mapping.ts';
import { describeRegion, type KernelRegionInfo } from './region-info.ts';

/** One read or write has at most this many bytes: the kernel takes less than 2^31. */
const TRANSFER_MAX = 2 ** 30;

const remedies: Partial<Record<string, string>> = {
  EIO: 'Turn memory decoding on (the bit MEMORY of COMMAND), and wake the device (D0).',
  EINVAL: 'The region does not take an access of this kind, or is a BAR that the computer gave no addresses.',
};

export class KernelRegion extends FileWindow {
  readonly #port: KernelPort;
  /** Where the region starts in the device's file. */
  readonly #start: number;

  private constructor(port: KernelPort, { info, offset }: KernelRegionInfo) {
    super(info);
    this.#port = port;
    this.#start = offset;
  }

  /** Asks the kernel what the region is. @throws as `describeRegion` */
  static open(port: KernelPort, index: number): KernelRegion {
    return new KernelRegion(port, describeRegion(port, index));
  }

  protected get deviceName(): string {
    return this.#port.name;
  }

  protected checkOpen(): void {
    this.#port.checkOpen();
  }

  protected readBytes(offset: number, into: Uint8Array): number {
    const count = this.clip(offset, into.length);
    const bytes = count === into.length ? into : into.subarray(0, count);
    return this.#port.source.on ? this.#seen(false, offset, bytes) : this.#transfer(false, offset, bytes);
  }

  protected writeBytes(offset: number, from: Uint8Array): number {
    const count = this.clip(offset, from.length);
    if ((this.info.flags & RegionFlags.WRITE) === 0) throw new VfioError('EINVAL', `${this.name} is read-only`);
    const bytes = count === from.length ? from : from.subarray(0, count);
    return this.#port.source.on ? this.#seen(true, offset, bytes) : this.#transfer(true, offset, bytes);
  }

  #seen(write: boolean, offset: number, bytes: Uint8Array): number {
    let done = 0;
    seeAccess(this.#port.source, this.#access(write, offset, bytes.length), false, () => {
      done = this.#transfer(write, offset, bytes);
      return bytes.subarray(0, done);
    });
    return done;
  }

  /** As many calls as it takes. An error after the first bytes is a short transfer. */
  #transfer(write: boolean, offset: number, bytes: Uint8Array): number {
    const { file } = this.#port;
    let done = 0;
    while (done < bytes.length) {
      const rest = done === 0 && bytes.length <= TRANSFER_MAX ? bytes : bytes.subarray(done, done + TRANSFER_MAX);
      const at = this.#start + offset + done;
      const moved = write ? file.pwrite(at, rest) : file.pread(at, rest);
      if (moved < 0) {
        this.#port.failed(moved);
        if (done === 0) throw this.#failure(moved, write, offset, bytes.length);
      }
      if (moved <= 0) break;
      done += moved;
    }
    return done;
  }

  #failure(result: number, write: boolean, offset: number, count: number): VfioError {
    const code = errnoName(result);
    const act = `${this.name}: the kernel refuses to ${write ? 'write' : 'read'} ${count} bytes at ${hex(offset)}`;
    if (code === undefined) return new VfioError('EIO', `${act}, with errno ${-result}`, { fix: generalRemedy(code) });
    return new VfioError(code, act, { fix: remedies[code] ?? generalRemedy(code) });
  }

  #access(write: boolean, offset: number, size: number) {
    return { op: write ? 'write' : 'read', region: this.info.index, offset, size } as const;
  }

  protected override refused(offset: number, size: number, from: Uint8Array | null, error: unknown): void {
    const { source } = this.#port;
    if (source.on) seeRefusedAccess(source, this.#access(from !== null, offset, size), error);
  }

  /**
   * Map whole pages of the region. Each access is one instruction (`MappedRegisters`).
   *
   * @throws VfioError EINVAL as `Region.map`; and other codes of mmap(2)
   */
  override map(offset = 0, size?: number): RegionMapping {
    this.#port.checkOpen();
    const length = checkMapRange(this.name, this.info, offset, size, pageSize());
    const { flags, size: bytes } = this.info;
    const access = ((flags & RegionFlags.READ) !== 0 ? Access.READ : 0) | ((flags & RegionFlags.WRITE) !== 0 ? Access.WRITE : 0);
    return new KernelMapping(this.#port, this.#registers(offset, length, access as Access), {
      region: this.info.index,
      offset,
      backed: Math.min(length, bytes - offset),
    });
  }

  #registers(offset: number, length: number, access: Access): MappedRegisters {
    try {
      return MappedRegisters.map(this.#port.file, this.#start + offset, length, access);
    } catch (cause) {
      if (!(cause instanceof VfioError)) throw cause;
      this.#port.failed(cause.errno);
      const act = `${this.name}: the kernel refuses mmap of ${hex(length)} bytes at ${hex(offset)}`;
      throw new VfioError(cause.code, act, { cause, fix: generalRemedy(cause.code) });
    }
  }
}
