/**
 * A mapped region of a device of the kernel's VFIO: each access is one load or store of the
 * processor. An access throws `BusError` where a C program gets SIGBUS: the kernel has revoked the
 * mapping, because memory decoding is off, the device is reset, sleeps or is gone.
 */
import { BusError } from '../abi/bus-error.ts';
import type { Width } from '../abi/device-host.ts';
import { RegionIndex } from '../abi/vfio.ts';
import { hex } from '../base/check.ts';
import { Errno, VfioError } from '../base/errno.ts';
import { regionName } from '../device/file-window.ts';
import { MappedWindow } from '../device/mapped-window.ts';
import { seeAccess, seeRefusedAccess } from '../events/seen-access.ts';
import type { EventSource } from '../events/source.ts';
import type { MappedRegisters } from '../sys/mapped-registers.ts';
import { BarMemory } from './bar-memory.ts';
import type { KernelPort } from './device-port.ts';

export interface KernelMappingPlace {
  readonly region: number;
  /** Where the mapping starts in the region: bytes. */
  readonly offset: number;
  /** Bytes of the mapping that the region has. */
  readonly backed: number;
}

export class KernelMapping extends MappedWindow {
  readonly memory = null;
  readonly #port: KernelPort;
  readonly #source: EventSource;
  readonly #registers: MappedRegisters;
  readonly #place: KernelMappingPlace;
  #peer: BarMemory | null = null;
  #released = false;

  /** Takes `registers` over. */
  constructor(port: KernelPort, registers: MappedRegisters, place: KernelMappingPlace) {
    super(registers.size, place.backed);
    this.#port = port;
    this.#source = port.source;
    this.#registers = registers;
    this.#place = place;
    port.held(this);
    this.#emit('map');
  }

  get peer(): BarMemory | undefined {
    const { region, offset } = this.#place;
    if (region >= RegionIndex.ROM) return undefined;
    if (this.#released) throw new VfioError('EFAULT', `the mapping of ${this.name} was disposed`);
    this.#peer ??= new BarMemory(this.#registers, this.#port, { region, offset });
    return this.#peer;
  }

  protected get name(): string {
    return `${this.#port.name} ${regionName(this.#place.region)}`;
  }

  protected get closed(): boolean {
    return this.#port.closed;
  }

  /** The access itself finds out. */
  protected answers(): boolean {
    return true;
  }

  protected fault(): void {}

  protected load(offset: number, width: Width): number {
    return this.#source.on ? this.#seenLoad(offset, width) : this.#load(offset, width);
  }

  protected load64(offset: number): bigint {
    return this.#source.on ? this.#seenLoad64(offset) : this.#load64(offset);
  }

  protected store(offset: number, width: Width, value: number): void {
    if (this.#source.on) this.#seenStore(offset, width, value);
    else this.#store(offset, width, value);
  }

  protected store64(offset: number, value: bigint): void {
    if (this.#source.on) this.#seenStore64(offset, value);
    else this.#store64(offset, value);
  }

  #load(offset: number, width: Width): number {
    try {
      if (width === 4) return this.#registers.load32(offset);
      return width === 2 ? this.#registers.load16(offset) : this.#registers.load8(offset);
    } catch (error) {
      throw this.#failure(error, offset);
    }
  }

  #load64(offset: number): bigint {
    try {
      return this.#registers.load64(offset);
    } catch (error) {
      throw this.#failure(error, offset);
    }
  }

  #store(offset: number, width: Width, value: number): void {
    try {
      if (width === 4) this.#registers.store32(offset, value);
      else if (width === 2) this.#registers.store16(offset, value);
      else this.#registers.store8(offset, value);
    } catch (error) {
      throw this.#failure(error, offset);
    }
  }

  #store64(offset: number, value: bigint): void {
    try {
      this.#registers.store64(offset, value);
    } catch (error) {
      throw this.#failure(error, offset);
    }
  }

  #failure(error: unknown, offset: number): unknown {
    if (!(error instanceof BusError)) return error;
    const gone = this.#isGone();
    const at = hex(this.#place.offset + offset);
    const why = gone ? 'the device is gone' : 'memory decoding is off, or the device sleeps or is being reset';
    return new BusError(`${this.name}: the register at ${at} does not answer: ${why}`, gone ? 'ENODEV' : 'EIO', { cause: error });
  }

  /** SIGBUS has no errno, so the device asks the kernel. */
  #isGone(): boolean {
    if (this.#port.closed) return false;
    this.#port.failed(-Errno.ENODEV);
    try {
      this.#port.checkOpen();
      return false;
    } catch {
      return true;
    }
  }

  #seenLoad(offset: number, width: Width): number {
    let value = 0;
    this.#seen('read', offset, width, () => {
      value = this.#load(offset, width);
      return valueBytes(BigInt(value), width);
    });
    return value;
  }

  #seenLoad64(offset: number): bigint {
    let value = 0n;
    this.#seen('read', offset, 8, () => {
      value = this.#load64(offset);
      return valueBytes(value, 8);
    });
    return value;
  }

  #seenStore(offset: number, width: Width, value: number): void {
    this.#seen('write', offset, width, () => {
      this.#store(offset, width, value);
      return valueBytes(BigInt(value), width);
    });
  }

  #seenStore64(offset: number, value: bigint): void {
    this.#seen('write', offset, 8, () => {
      this.#store64(offset, value);
      return valueBytes(value, 8);
    });
  }

  #seen(op: 'read' | 'write', offset: number, size: number, act: () => Uint8Array): void {
    const access = { op, region: this.#place.region, offset: this.#place.offset + offset, size } as const;
    seeAccess(this.#source, access, false, act);
  }

  protected override refused(offset: number, width: Width | 8, value: number | null, error: unknown): void {
    if (!this.#source.on) return;
    const op = value === null ? 'read' : 'write';
    seeRefusedAccess(this.#source, { op, region: this.#place.region, offset: this.#place.offset + offset, size: width }, error);
  }

  #emit(op: 'map' | 'unmap'): void {
    const { region, offset } = this.#place;
    if (this.#source.on) this.#source.emit('mapping', { op, region, offset, size: this.size });
  }

  protected release(): void {
    this.#released = true;
    this.#emit('unmap');
    // Other devices may have the peer mapped still.
    (this.#peer ?? this.#registers)[Symbol.dispose]();
    this.#port.dropped(this);
  }
}

function valueBytes(value: bigint, width: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes.subarray(0, width);
}
