/**
 * Mapped regions of the engine. Loads and stores of a BAR reach the function as the bus carries
 * them; loads and stores of a device-specific region reach its memory.
 *
 * A C program gets SIGBUS where an access throws `BusError`. Every access looks at the cause, so
 * there is nothing to zap: the mapping is revoked the moment its cause exists, and back the moment
 * the cause is gone (S2-37).
 *
 * The MSI-X table is not hidden here (S2-33): interrupt remapping decides what an entry may do, see
 * msix-table.ts.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_mmap_page_fault()
 */
import { BusError } from '../../abi/bus-error.ts';
import type { MappingMemory } from '../../abi/device.ts';
import type { Width } from '../../abi/device-host.ts';
import type { DirectMemory } from '../../abi/memory.ts';
import { hex } from '../../base/check.ts';
import { regionName } from '../../device/file-window.ts';
import { MappedWindow } from '../../device/mapped-window.ts';
import { MemoryWindows } from '../../device/memory-windows.ts';
import type { FunctionHost } from '../../hardware/function-host.ts';
import type { RegionDevice, RegionFile } from './region-ports.ts';
import { accessDetails, mappedAccess, type SeenAccess, seeRefused } from './seen-access.ts';
import type { VirtualConfig } from './virtual-config.ts';

/** The place of a mapping in its region. */
export interface MappedRange {
  readonly offset: number;
  /** Bytes, whole pages. */
  readonly size: number;
  /** Bytes of the mapping that belong to the region. */
  readonly backed: number;
}

export class BarMapping extends MappedWindow {
  readonly memory: MappingMemory | null;
  readonly #file: RegionFile;
  readonly #device: RegionDevice;
  readonly #vconfig: VirtualConfig;
  readonly #host: FunctionHost;
  readonly #bar: number;
  /** The start of the mapping in the BAR. */
  readonly #offset: number;
  readonly #plain: boolean;

  /**
   * @param memory behind the mapping; null for registers that trap
   * @param plain the BAR is memory alone, whose values are data
   */
  constructor(file: RegionFile, bar: number, { offset, size, backed }: MappedRange, memory: MappingMemory | null, plain: boolean) {
    super(size, backed);
    this.#file = file;
    this.#device = file.device;
    this.#vconfig = file.device.openState.vconfig;
    this.#host = file.device.host;
    this.#bar = bar;
    this.#offset = offset;
    this.#plain = plain;
    memory?.memory.get();
    this.memory = memory;
    file.mapped(this);
    this.#see('map');
  }

  #see(op: 'map' | 'unmap'): void {
    const { events } = this.#host;
    if (events.on) events.emit('mapping', { op, region: this.#bar, offset: this.#offset, size: this.size });
  }

  protected override refused(offset: number, width: Width | 8, value: number | null, error: unknown): void {
    const { events } = this.#host;
    if (events.on) seeRefused(events, this.#access(offset, width, value, null), this.name, error);
  }

  protected override beyond(offset: number, width: Width, value: number | null): void {
    const { events } = this.#host;
    if (!events.on) return;
    const ones = width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff;
    events.emit('access', accessDetails(this.#access(offset, width, value, ones), 'dropped', "behind the region's end"));
  }

  /** The values of plain memory are data. */
  #access(offset: number, width: Width | 8, value: number | null, read: number | null): SeenAccess {
    const access = mappedAccess(this.#bar, this.#offset, offset, width, value, read);
    return this.#plain ? { ...access, bytes: null } : access;
  }

  protected answers(): boolean {
    return !this.#device.slow && this.#vconfig.memoryEnabled;
  }

  protected fault(): void {
    const cause = this.#device.mappingFault();
    if (cause !== null) throw new BusError(`${this.name}: ${cause}`, this.#device.gone === null ? 'EIO' : 'ENODEV');
  }

  protected load(offset: number, width: Width): number {
    return this.#host.read(this.#bar, this.#offset + offset, width);
  }

  protected load64(offset: number): bigint {
    return this.#host.read64(this.#bar, this.#offset + offset);
  }

  protected store(offset: number, width: Width, value: number): void {
    this.#host.write(this.#bar, this.#offset + offset, width, value);
  }

  protected store64(offset: number, value: bigint): void {
    this.#host.write64(this.#bar, this.#offset + offset, value);
  }

  protected get name(): string {
    return `${this.#device.bdf} ${regionName(this.#bar)}`;
  }

  protected get closed(): boolean {
    return this.#file.closed;
  }

  protected release(): void {
    this.memory?.memory.put();
    this.#see('unmap');
    this.#file.unmapped(this);
  }
}

/**
 * Memory of a device-specific region: `BusError` once the device is gone, and behind the region's
 * end in its last page.
 */
export class RegionMemoryMapping extends MappedWindow {
  readonly memory: { readonly memory: DirectMemory; readonly offset: number };
  protected readonly name: string;
  readonly #file: RegionFile;
  readonly #device: RegionDevice;
  readonly #windows: MemoryWindows;
  readonly #region: number;
  readonly #offset: number;

  constructor(file: RegionFile, region: number, name: string, memory: DirectMemory, { offset, size, backed }: MappedRange) {
    super(size, backed);
    this.memory = { memory: memory.get(), offset };
    this.#region = region;
    this.name = name;
    this.#file = file;
    this.#device = file.device;
    this.#windows = new MemoryWindows(memory);
    this.#offset = offset;
    file.mapped(this);
    this.#see('map');
  }

  #see(op: 'map' | 'unmap'): void {
    const { events } = this.#device.host;
    if (events.on) events.emit('mapping', { op, region: this.#region, offset: this.#offset, size: this.size });
  }

  protected override refused(offset: number, width: Width | 8, value: number | null, error: unknown): void {
    const { events } = this.#device.host;
    if (!events.on) return;
    const access = { ...mappedAccess(this.#region, this.#offset, offset, width, value, null), bytes: null };
    seeRefused(events, access, this.name, error);
  }

  protected answers(): boolean {
    return this.#device.gone === null;
  }

  protected fault(offset: number, width: number): void {
    if (this.#device.gone !== null) throw new BusError(`${this.name}: the device is gone`);
    if (offset + width > this.backed) throw new BusError(`${this.name}: ${hex(offset)} is past the region's end`);
  }

  protected load(offset: number, width: Width): number {
    return this.#windows.load(this.#offset + offset, width);
  }

  protected load64(offset: number): bigint {
    return this.#windows.load64(this.#offset + offset);
  }

  protected store(offset: number, width: Width, value: number): void {
    this.#windows.store(this.#offset + offset, width, value);
  }

  protected store64(offset: number, value: bigint): void {
    this.#windows.store64(this.#offset + offset, value);
  }

  protected get closed(): boolean {
    return this.#file.closed;
  }

  protected release(): void {
    this.memory.memory.put();
    this.#see('unmap');
    this.#file.unmapped(this);
  }
}
