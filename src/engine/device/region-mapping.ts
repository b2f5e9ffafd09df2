/**
 * A mapped BAR: loads and stores that reach the function as the bus carries them. What SIGBUS is to a C program is `BusError` here, looked at in
 * every access, so that there is nothing to zap: the mapping is revoked the moment its cause exists, and back the moment it is gone (S2-37).
 *
 * The MSI-X table is not hidden here (S2-33): what an entry may do is decided by interrupt remapping, see msix-table.ts.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_mmap_page_fault()
 */
import { BusError } from '../../abi/bus-error.ts';
import type { RegionMapping } from '../../abi/device.ts';
import type { Width } from '../../abi/device-host.ts';
import type { DirectMemory } from '../../abi/memory.ts';
import { checkU64, hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { FunctionHost } from '../../hardware/function-host.ts';
import { checkRegisterValue } from './region-io.ts';
import type { RegionDevice, RegionFile } from './region-ports.ts';
import type { VirtualConfig } from './virtual-config.ts';

export class BarMapping implements RegionMapping {
  /** Bytes, whole pages. */
  readonly size: number;
  readonly memory: { readonly memory: DirectMemory; readonly offset: number } | null;
  readonly #file: RegionFile;
  readonly #device: RegionDevice;
  readonly #vconfig: VirtualConfig;
  readonly #host: FunctionHost;
  readonly #bar: number;
  /** Where the mapping starts in the BAR. */
  readonly #offset: number;
  /** Bytes of the mapping that are BAR; in the rest of the last page nothing answers. */
  readonly #backed: number;
  #mapped = true;

  constructor(file: RegionFile, bar: number, offset: number, size: number, plainMemory: boolean) {
    this.size = size;
    this.#file = file;
    this.#device = file.device;
    this.#vconfig = file.device.openState.vconfig;
    this.#host = file.device.host;
    this.#bar = bar;
    this.#offset = offset;
    this.#backed = Math.min(size, this.#host.bar(bar)!.size - offset);
    this.memory = plainMemory ? { memory: this.#host.barMemory(bar).get(), offset } : null;
    file.mapped(this);
  }

  #straight(offset: number, width: number): boolean {
    return (
      !this.#device.slow &&
      this.#mapped &&
      typeof offset === 'number' &&
      offset >>> 0 === offset &&
      (offset & (width - 1)) === 0 &&
      offset + width <= this.#backed &&
      this.#vconfig.memoryEnabled
    );
  }

  read8(offset: number): number {
    return this.#straight(offset, 1) ? this.#host.read(this.#bar, this.#offset + offset, 1) : this.#slowRead(offset, 1);
  }

  read16(offset: number): number {
    return this.#straight(offset, 2) ? this.#host.read(this.#bar, this.#offset + offset, 2) : this.#slowRead(offset, 2);
  }

  read32(offset: number): number {
    return this.#straight(offset, 4) ? this.#host.read(this.#bar, this.#offset + offset, 4) : this.#slowRead(offset, 4);
  }

  read64(offset: number): bigint {
    if (this.#straight(offset, 8)) return this.#host.read64(this.#bar, this.#offset + offset);
    this.#check(offset, 8);
    const low = this.#slowRead(offset, 4);
    return BigInt(low) | (BigInt(this.#slowRead(offset + 4, 4)) << 32n);
  }

  write8(offset: number, value: number): void {
    if (typeof value === 'number' && (value & 0xff) === value && this.#straight(offset, 1))
      this.#host.write(this.#bar, this.#offset + offset, 1, value);
    else this.#slowWrite(offset, 1, value);
  }

  write16(offset: number, value: number): void {
    if (typeof value === 'number' && (value & 0xffff) === value && this.#straight(offset, 2))
      this.#host.write(this.#bar, this.#offset + offset, 2, value);
    else this.#slowWrite(offset, 2, value);
  }

  write32(offset: number, value: number): void {
    if (typeof value === 'number' && value >>> 0 === value && this.#straight(offset, 4))
      this.#host.write(this.#bar, this.#offset + offset, 4, value);
    else this.#slowWrite(offset, 4, value);
  }

  write64(offset: number, value: bigint): void {
    checkU64(value, 'value');
    if (this.#straight(offset, 8)) {
      this.#host.write64(this.#bar, this.#offset + offset, value);
      return;
    }
    this.#check(offset, 8);
    this.#slowWrite(offset, 4, Number(value & 0xffff_ffffn));
    this.#slowWrite(offset + 4, 4, Number(value >> 32n));
  }

  /** Misaligned accesses are split as a processor splits them; where the last page has no BAR nothing answers. */
  #slowRead(offset: number, width: Width): number {
    this.#check(offset, width);
    if (offset % width === 0) {
      if (offset + width <= this.#backed) return this.#host.read(this.#bar, this.#offset + offset, width);
      return width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff;
    }
    let value = 0;
    for (let i = 0; i < width; i++) value |= this.#slowRead(offset + i, 1) << (8 * i);
    return value >>> 0;
  }

  #slowWrite(offset: number, width: Width, value: number): void {
    checkRegisterValue(width, value);
    this.#check(offset, width);
    if (offset % width === 0) {
      if (offset + width <= this.#backed) this.#host.write(this.#bar, this.#offset + offset, width, value);
      return;
    }
    for (let i = 0; i < width; i++) this.#slowWrite(offset + i, 1, (value >>> (8 * i)) & 0xff);
  }

  /** @throws VfioError EFAULT outside of the mapping, where a C program gets SIGSEGV; BusError where it gets SIGBUS */
  #check(offset: number, width: number): void {
    if (!this.#mapped)
      throw new VfioError(
        'EFAULT',
        this.#file.closed ? `${this.#name}: the device is closed` : `the mapping of ${this.#name} was disposed`,
      );
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + width > this.size) {
      throw new VfioError('EFAULT', `${String(offset)} is outside of the mapping of ${this.#name} (${hex(this.size)} bytes)`);
    }
    const cause = this.#device.mappingFault();
    if (cause !== null) throw new BusError(`${this.#name}: ${cause}`, this.#device.gone === null ? 'EIO' : 'ENODEV');
  }

  get #name(): string {
    return `${this.#device.bdf} BAR ${this.#bar}`;
  }

  [Symbol.dispose](): void {
    if (!this.#mapped) return;
    this.#mapped = false;
    this.memory?.memory.put();
    this.#file.unmapped(this);
  }
}
