/**
 * Device-specific regions (index 9 and up): no BARs, so no decoding bit of COMMAND gates them. A
 * region is plain memory, or registers that reach the model.
 *
 * @see linux/include/uapi/linux/vfio.h, VFIO_REGION_INFO_CAP_TYPE;
 * drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_register_dev_region()
 */
import type { RegionInfo, RegionMapping } from '../../abi/device.ts';
import type { Width } from '../../abi/device-host.ts';
import { type DirectMemory, WINDOW_BYTES } from '../../abi/memory.ts';
import { RegionFlags } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { checkMapRange } from '../../device/map-range.ts';
import { load, store } from '../../device/register-value.ts';
import { FileRegion } from './region-io.ts';
import { RegionMemoryMapping } from './region-mapping.ts';
import type { RegionFile } from './region-ports.ts';

const { READ, WRITE } = RegionFlags;

abstract class DeviceRegion extends FileRegion {
  /** As `clip`. @throws VfioError EINVAL against the region's flags too */
  protected allowed(offset: number, count: number, flag: number): number {
    if ((this.info.flags & flag) === 0) throw new VfioError('EINVAL', `${this.name} is ${flag === WRITE ? 'read' : 'write'}-only`);
    return this.clip(offset, count);
  }
}

/** Every access reaches the model, naturally aligned. */
export class RegisterRegion extends DeviceRegion {
  protected readAwake(offset: number, into: Uint8Array): number {
    return this.#split(offset, this.allowed(offset, into.length, READ), (at, width, done) =>
      store(into, done, width, this.device.host.read(this.info.index, at, width)),
    );
  }

  protected writeAwake(offset: number, from: Uint8Array): number {
    return this.#split(offset, this.allowed(offset, from.length, WRITE), (at, width, done) =>
      this.device.host.write(this.info.index, at, width, load(from, done, width)),
    );
  }

  #split(offset: number, count: number, access: (at: number, width: Width, done: number) => void): number {
    for (let done = 0; done < count; ) {
      const at = offset + done;
      const left = count - done;
      const width = left >= 4 && at % 4 === 0 ? 4 : left >= 2 && at % 2 === 0 ? 2 : 1;
      this.file.checkLive();
      if (this.device.standing || this.device.fn.config.sleeping) throw this.device.closedGate(this.name);
      access(at, width, done);
      done += width;
    }
    return count;
  }
}

/** Plain memory: a model's, or a mediator's. */
export class MemoryRegion extends DeviceRegion {
  readonly #memory: DirectMemory;

  constructor(file: RegionFile, info: RegionInfo, memory: DirectMemory) {
    super(file, info);
    this.#memory = memory;
  }

  protected readAwake(offset: number, into: Uint8Array): number {
    const count = this.allowed(offset, into.length, READ);
    eachPiece(this.#memory, offset, count, (piece, done) => into.set(piece, done));
    if (this.events.on) this.seeMemory(false, offset, into.subarray(0, count));
    return count;
  }

  protected writeAwake(offset: number, from: Uint8Array): number {
    const count = this.allowed(offset, from.length, WRITE);
    eachPiece(this.#memory, offset, count, (piece, done) => piece.set(from.subarray(done, done + piece.length)));
    if (this.events.on) this.seeMemory(true, offset, from.subarray(0, count));
    return count;
  }

  override get plain(): boolean {
    return true;
  }

  override map(offset = 0, size?: number): RegionMapping {
    this.file.checkLive();
    const length = checkMapRange(this.name, this.info, offset, size, this.device.ctx.pageSize);
    const range = { offset, size: length, backed: Math.min(length, this.info.size - offset) };
    return new RegionMemoryMapping(this.file, this.info.index, this.name, this.#memory, range);
  }
}

/** [offset, offset + count) of `memory` as the bytes themselves, window by window. */
function eachPiece(memory: DirectMemory, offset: number, count: number, use: (piece: Uint8Array, done: number) => void): void {
  for (let done = 0; done < count; ) {
    const within = (offset + done) % WINDOW_BYTES;
    const window = memory.windows[Math.floor((offset + done) / WINDOW_BYTES)]!;
    const piece = window.subarray(within, Math.min(window.length, within + count - done));
    use(piece, done);
    done += piece.length;
  }
}
