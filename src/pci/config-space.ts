/**
 * ConfigSpace: the configuration space of the hardware itself, before VFIO virtualizes it. A native
 * driver, the engine and the gate of VFIO all end here. Writes follow the hardware's rules:
 * read-only bits stay, address bits below a BAR's size stay 0, write-one-to-clear bits clear.
 *
 * The file is longer than 400 lines because one class owns the bytes of a function's registers, and
 * each kind of register has its rule there.
 */

import type { Width } from '../abi/device-host.ts';
import {
  Bar,
  CapId,
  CFG_SPACE_EXP_SIZE,
  CFG_SPACE_SIZE,
  Command,
  Config,
  HEADER_SIZE,
  HeaderType,
  Pm,
  PowerState,
  Status,
} from '../abi/pci.ts';
import { checkIndex, checkU64, hex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import { barRegisters, romBarSize } from './bars.ts';
import { layOutCapabilities, type PlacedCapability, writeCapabilityHeader } from './capabilities/chain.ts';
import { Vpd } from './capabilities/vpd.ts';
import { ConfigBytes, capabilityPointerAt, findCapability, findExtendedCapability } from './capabilities/walk.ts';
import type { VpdCapability } from './capabilities.ts';
import type { BarDeclaration, ConfigRegister, PciDeclaration } from './declaration.ts';

/** The registers that `save` gives and `restore` takes. */
export interface SavedConfig {
  readonly bytes: Uint8Array;
}

/**
 * Called after each write to the hardware's bytes [offset, offset+width). `restore` and `reset`
 * call it once, with (0, size).
 */
export type ConfigListener = (offset: number, width: number) => void;

/**
 * COMMAND bits that the hardware implements, as QEMU's devices do: I/O, memory, bus master, SERR#,
 * INTx disable.
 */
const COMMAND_WRITABLE = Command.IO | Command.MEMORY | Command.MASTER | Command.SERR | Command.INTX_DISABLE;

/** The device's own registers of `PciDeclaration.registers`, where a model answers them. */
export interface OwnRegisters {
  /** Reads one whole register. */
  read(offset: number, width: Width): number;
  /** Writes registers. The model ignores bytes beside them. */
  write(offset: number, width: Width, value: number): void;
}

export class ConfigSpace {
  readonly declaration: PciDeclaration;
  /** Bytes of config space: 4096 with a PCI Express capability, else 256. */
  readonly size: typeof CFG_SPACE_SIZE | typeof CFG_SPACE_EXP_SIZE;
  /**
   * The bytes that reads answer. Hardware (status bits, link state) may change bytes directly;
   * software writes through `write`. Code that reads these bytes without `read` calls `refresh`
   * first.
   */
  readonly bytes: Uint8Array;
  readonly #powerOn: Uint8Array;
  readonly #writable: Uint8Array;
  readonly #writeOneClears: Uint8Array;
  readonly #listeners = new Set<ConfigListener>();
  readonly #pm: number;
  readonly #vpd: number;
  readonly #vpdImage: Uint8Array;
  readonly #registers: readonly ConfigRegister[];
  #own: OwnRegisters | null = null;
  /** Addresses of the BARs of a virtual function, which has no BAR registers. */
  readonly #vfBars: bigint[] = [0n, 0n, 0n, 0n, 0n, 0n];

  /** @throws VfioError EINVAL when the declaration describes hardware that cannot exist */
  constructor(declaration: PciDeclaration) {
    this.declaration = declaration;
    const layout = layOutCapabilities(declaration);
    const bars = barRegisters(declaration);
    const express = (declaration.capabilities ?? []).some((c) => c.id === CapId.EXP) || layout.extended.length > 0;
    this.size = express ? CFG_SPACE_EXP_SIZE : CFG_SPACE_SIZE;
    this.bytes = new Uint8Array(this.size);
    this.#writable = new Uint8Array(this.size);
    this.#writeOneClears = new Uint8Array(this.size);
    this.#declareHeader(declaration);
    for (const bar of bars) this.#declare(bar.offset, 4, bar.initial, bar.writable);
    for (const placed of [...layout.standard, ...layout.extended]) {
      this.bytes.set(placed.capability.bytes, placed.offset);
      this.#writable.set(placed.capability.writable, placed.offset);
      this.#writeOneClears.set(placed.capability.writeOneClears, placed.offset);
      writeCapabilityHeader(this.bytes, placed);
      this.#writable.fill(0, placed.offset, placed.offset + (placed.capability.extended ? 4 : 2));
      this.#writeOneClears.fill(0, placed.offset, placed.offset + (placed.capability.extended ? 4 : 2));
    }
    if (layout.standard.length > 0) {
      this.bytes[Config.STATUS] = this.bytes[Config.STATUS]! | Status.CAP_LIST;
      this.bytes[Config.CAPABILITY_LIST] = layout.standard[0]!.offset;
    }
    this.#registers = declaration.registers ?? [];
    for (const register of this.#registers) this.#declareOwn(register, [...layout.standard, ...layout.extended]);
    this.#powerOn = this.bytes.slice();
    this.#pm = this.findCapability(CapId.PM);
    const vpd = layout.standard.find((placed) => 'image' in placed.capability);
    this.#vpd = vpd?.offset ?? 0;
    this.#vpdImage = (vpd?.capability as VpdCapability | undefined)?.image.slice() ?? new Uint8Array(0);
  }

  #declare(offset: number, width: Width, initial: number, writable: number, writeOneClears = 0): void {
    for (let i = 0; i < width; i++) {
      this.bytes[offset + i] = (initial >>> (8 * i)) & 0xff;
      this.#writable[offset + i] = (writable >>> (8 * i)) & 0xff;
      this.#writeOneClears[offset + i] = (writeOneClears >>> (8 * i)) & 0xff;
    }
  }

  #declareOwn({ name, offset, bytes, reset, writable, writeOneClears }: ConfigRegister, capabilities: readonly PlacedCapability[]): void {
    const what = `${this.declaration.name}: register ${name} at ${hex(offset)} of config space`;
    if (offset < HEADER_SIZE || offset + bytes > this.size || offset % bytes !== 0) {
      throw new VfioError('EINVAL', `${what} is misplaced: it must be aligned, from ${hex(HEADER_SIZE)}, ending by ${hex(this.size)}`);
    }
    const header = capabilities.find((c) => offset < c.offset + (c.capability.extended ? 4 : 2) && offset + bytes > c.offset);
    if (header !== undefined) throw new VfioError('EINVAL', `${what} lies in the header of ${header.capability.name}`);
    this.#declare(offset, bytes, reset, writable | writeOneClears, writeOneClears);
  }

  /** Have `own` answer the declaration's `registers` from now on. */
  answer(own: OwnRegisters): void {
    this.#own = own;
    this.refresh(0, this.size);
  }

  /** Reads each of the device's own registers in [offset, offset + count) into `bytes`. */
  refresh(offset: number, count: number): void {
    if (this.#own === null) return;
    for (const register of this.#registers) {
      if (register.offset >= offset + count || register.offset + register.bytes <= offset) continue;
      const value = this.#own.read(register.offset, register.bytes);
      for (let i = 0; i < register.bytes; i++) this.bytes[register.offset + i] = (value >>> (8 * i)) & 0xff;
    }
  }

  #touches(offset: number, count: number): boolean {
    return this.#registers.some((r) => r.offset < offset + count && r.offset + r.bytes > offset);
  }

  #declareHeader(d: PciDeclaration): void {
    const number = (value: number | undefined, most: number, what: string) => checkIndex(value ?? 0, most, `${d.name}: ${what}`);
    const bridge = d.header === 'bridge';
    const vf = d.virtualFunction === true;
    this.#declare(Config.VENDOR_ID, 2, number(d.vendor, 0xffff, 'vendor id') | (vf ? 0xffff : 0), 0);
    this.#declare(Config.DEVICE_ID, 2, number(d.device, 0xffff, 'device id') | (vf ? 0xffff : 0), 0);
    const intxDisable = d.interruptDisable === false ? Command.INTX_DISABLE : 0;
    const wired = d.busMaster === 'always' ? Command.MASTER : 0;
    const writable = vf ? Command.MASTER : COMMAND_WRITABLE;
    this.#declare(Config.COMMAND, 2, wired, writable & ~intxDisable & ~wired);
    this.#declare(Config.STATUS, 2, 0, 0, Status.ERRORS);
    const classCode = number(d.classCode, 0xffffff, 'class code');
    this.#declare(Config.REVISION_ID, 4, ((classCode << 8) | number(d.revision, 0xff, 'revision')) >>> 0, 0);
    this.#declare(Config.CACHE_LINE_SIZE, 1, 0, 0xff);
    this.#declare(Config.HEADER_TYPE, 1, bridge ? HeaderType.BRIDGE : HeaderType.NORMAL, 0);
    this.#declare(Config.INTERRUPT_LINE, 1, 0, 0xff);
    this.#declare(Config.INTERRUPT_PIN, 1, number(d.interruptPin, 4, 'interrupt pin'), 0);
    if (bridge) {
      this.#declare(Config.BRIDGE_PRIMARY_BUS, 4, 0, 0x00ffffff);
      this.#declare(Config.BRIDGE_IO_BASE, 2, 0, 0xf0f0);
      this.#declare(Config.BRIDGE_SEC_STATUS, 2, 0, 0, Status.ERRORS);
      this.#declare(Config.BRIDGE_MEMORY_BASE, 4, 0, 0xfff0fff0);
      this.#declare(Config.BRIDGE_PREF_MEMORY_BASE, 4, 0x00010001, 0xfff0fff0);
      this.#declare(Config.BRIDGE_PREF_BASE_UPPER32, 4, 0, 0xffffffff);
      this.#declare(Config.BRIDGE_PREF_LIMIT_UPPER32, 4, 0, 0xffffffff);
      this.#declare(Config.BRIDGE_CONTROL, 2, 0, 0x0fff, 0x0400);
    } else {
      this.#declare(Config.SUBSYSTEM_VENDOR_ID, 2, number(d.subsystemVendor, 0xffff, 'subsystem vendor id'), 0);
      this.#declare(Config.SUBSYSTEM_ID, 2, number(d.subsystem, 0xffff, 'subsystem id'), 0);
    }
  }

  #check(offset: number, width: number): void {
    if (
      (width !== 1 && width !== 2 && width !== 4) ||
      !Number.isInteger(offset) ||
      offset < 0 ||
      offset + width > this.size ||
      offset % width !== 0
    ) {
      throw new VfioError(
        'EFAULT',
        `config access of ${String(width)} bytes at ${String(offset)}: aligned 1, 2 or 4 bytes within ${this.size}`,
      );
    }
  }

  /**
   * Read a little-endian, naturally aligned value.
   * @throws VfioError EFAULT outside or misaligned
   */
  read(offset: number, width: Width): number {
    this.#check(offset, width);
    if (this.#own !== null) this.refresh(offset, width);
    const b = this.bytes;
    if (width === 1) return b[offset]!;
    if (width === 2) return b[offset]! | (b[offset + 1]! << 8);
    return (b[offset]! | (b[offset + 1]! << 8) | (b[offset + 2]! << 16) | (b[offset + 3]! << 24)) >>> 0;
  }

  /**
   * Write by the hardware's rules. Bits that software cannot change are ignored.
   * @throws VfioError EFAULT outside or misaligned
   */
  write(offset: number, width: Width, value: number): void {
    this.writeBits(offset, width, value, 0xffff_ffff);
  }

  /**
   * The same for the bits of `mask` only. Not a read-modify-write: write-one-to-clear bits outside
   * of `mask` stay as they are.
   *
   * @throws VfioError EFAULT outside or misaligned
   */
  writeBits(offset: number, width: Width, value: number, mask: number): void {
    this.#check(offset, width);
    for (let i = 0; i < width; i++) {
      const at = offset + i;
      const byte = (value >>> (8 * i)) & 0xff;
      const allowed = (mask >>> (8 * i)) & 0xff;
      const writable = this.#writable[at]! & ~this.#writeOneClears[at]! & allowed;
      const clears = this.#writeOneClears[at]! & allowed & byte;
      this.bytes[at] = ((this.bytes[at]! & ~writable) | (byte & writable)) & ~clears;
    }
    if (this.#vpd !== 0 && offset <= this.#vpd + Vpd.ADDR + 1 && offset + width > this.#vpd + Vpd.ADDR + 1) this.#vpdAccess();
    if (this.#own !== null && this.#touches(offset, width)) this.#writeOwn(this.#own, offset, width, value, mask);
    for (const listener of this.#listeners) listener(offset, width);
  }

  /** Bytes that the mask covers only in part do not reach the device. */
  #writeOwn(own: OwnRegisters, offset: number, width: Width, value: number, mask: number): void {
    const all = width === 4 ? 0xffff_ffff : 2 ** (8 * width) - 1;
    if ((mask & all) >>> 0 === all) own.write(offset, width, (value & all) >>> 0);
    else for (let i = 0; i < width; i++) if (((mask >>> (8 * i)) & 0xff) === 0xff) own.write(offset + i, 1, (value >>> (8 * i)) & 0xff);
  }

  /**
   * Software has written the F bit: 0 asks for four bytes of the image, 1 stores them. The device
   * toggles the bit when it is done. A store past the image is never done.
   */
  #vpdAccess(): void {
    const register = this.#vpd + Vpd.ADDR;
    const address = this.read(register, 2) & Vpd.ADDR_MASK & ~3;
    const data = this.#vpd + Vpd.DATA;
    const store = (this.bytes[register + 1]! & (Vpd.ADDR_F >> 8)) !== 0;
    if (address + 4 > this.#vpdImage.length) {
      if (store) return;
      this.bytes.fill(0, data, data + 4);
    } else if (store) this.#vpdImage.set(this.bytes.subarray(data, data + 4), address);
    else this.bytes.set(this.#vpdImage.subarray(address, address + 4), data);
    this.bytes[register + 1] = this.bytes[register + 1]! ^ (Vpd.ADDR_F >> 8);
  }

  /** Bits that software can set and clear in the byte at `offset`. */
  writableBits(offset: number): number {
    return (this.#writable[offset] ?? 0) & ~(this.#writeOneClears[offset] ?? 0);
  }

  /** Bits of the byte at `offset` that software clears by writing one. */
  writeOneClearsBits(offset: number): number {
    return this.#writeOneClears[offset] ?? 0;
  }

  /**
   * Offset of the first capability `id`, 0 when there is none. The walk is bounded but slow, so
   * callers look up once and keep the offset.
   */
  findCapability(id: number): number {
    return findCapability(new ConfigBytes(this.bytes), id, capabilityPointerAt(this.bytes));
  }

  /** Offset of the first extended capability `id`, 0 when there is none. */
  findExtendedCapability(id: number): number {
    return findExtendedCapability(new ConfigBytes(this.bytes), id);
  }

  onWrite(listener: ConfigListener): Disposable {
    const own: ConfigListener = (offset, width) => listener(offset, width);
    this.#listeners.add(own);
    return { [Symbol.dispose]: () => void this.#listeners.delete(own) };
  }

  /** The bits that software can set, for `restore` after a reset. */
  save(): SavedConfig {
    return { bytes: this.bytes.slice() };
  }

  /**
   * Put back the bits that software had set. Write-one-to-clear and read-only bits stay as the
   * hardware has them now.
   */
  restore(saved: SavedConfig): void {
    for (let at = 0; at < this.size; at++) {
      const writable = this.#writable[at]! & ~this.#writeOneClears[at]!;
      this.bytes[at] = (this.bytes[at]! & ~writable) | ((saved.bytes[at] ?? 0) & writable);
    }
    for (const listener of this.#listeners) listener(0, this.size);
  }

  /**
   * The function shares its device number with others (HEADER_TYPE bit 7): the code that builds the
   * topology calls it.
   */
  markMultifunction(): void {
    this.bytes[Config.HEADER_TYPE] = this.bytes[Config.HEADER_TYPE]! | HeaderType.MULTIFUNCTION;
    this.#powerOn[Config.HEADER_TYPE] = this.#powerOn[Config.HEADER_TYPE]! | HeaderType.MULTIFUNCTION;
  }

  /** Back to power-on values: BARs and COMMAND are 0 again. */
  reset(): void {
    this.bytes.set(this.#powerOn);
    for (const listener of this.#listeners) listener(0, this.size);
  }

  get command(): number {
    return this.bytes[Config.COMMAND]! | (this.bytes[Config.COMMAND + 1]! << 8);
  }

  /**
   * Whether memory BARs answer. A virtual function has no bit for it: its BARs answer while VF
   * Memory Space Enable of the physical function is on.
   */
  get memoryEnabled(): boolean {
    if (this.declaration.virtualFunction === true) return true;
    return (this.bytes[Config.COMMAND]! & Command.MEMORY) !== 0;
  }

  get ioEnabled(): boolean {
    return (this.bytes[Config.COMMAND]! & Command.IO) !== 0;
  }

  get busMaster(): boolean {
    return (this.bytes[Config.COMMAND]! & Command.MASTER) !== 0;
  }

  /** COMMAND.InterruptDisable of the hardware (not the one that the user of VFIO sees). */
  get intxDisabled(): boolean {
    return (this.bytes[Config.COMMAND + 1]! & (Command.INTX_DISABLE >> 8)) !== 0;
  }

  /**
   * STATUS.InterruptStatus, driven by the device: read-only for software, so no listener hears of
   * it.
   */
  get interruptStatus(): boolean {
    return (this.bytes[Config.STATUS]! & Status.INTERRUPT) !== 0;
  }

  set interruptStatus(asserted: boolean) {
    const others = this.bytes[Config.STATUS]! & ~Status.INTERRUPT;
    this.bytes[Config.STATUS] = asserted ? others | Status.INTERRUPT : others;
  }

  /** `PowerState` in the power management capability; D0 when there is none. */
  get powerState(): number {
    return this.#pm === 0 ? PowerState.D0 : this.bytes[this.#pm + Pm.CTRL]! & Pm.CTRL_STATE_MASK;
  }

  /** Whether the function is in D3hot: config space answers, BARs and DMA do not. */
  get sleeping(): boolean {
    return this.#pm !== 0 && (this.bytes[this.#pm + Pm.CTRL]! & Pm.CTRL_STATE_MASK) === PowerState.D3HOT;
  }

  #bar(index: number): BarDeclaration {
    const bar = this.declaration.bars?.find((b) => b.index === index);
    if (bar === undefined) throw new VfioError('EINVAL', `${this.declaration.name} has no BAR ${String(index)}`);
    return bar;
  }

  /** The bus address in BAR `index`. @throws VfioError EINVAL when it is not declared */
  barAddress(index: number): bigint {
    const bar = this.#bar(index);
    if (this.declaration.virtualFunction === true) return this.#vfBars[index]!;
    const at = Config.BASE_ADDRESS_0 + 4 * index;
    const low = BigInt((this.read(at, 4) & (bar.type === 'io' ? Bar.IO_MASK : Bar.MEM_MASK)) >>> 0);
    return bar.type === 'mem64' ? low | (BigInt(this.read(at + 4, 4)) << 32n) : low;
  }

  /**
   * Place BAR `index`, as firmware does.
   * @throws VfioError EINVAL when not declared, misaligned, or above what the BAR can hold
   */
  setBarAddress(index: number, address: bigint): void {
    const bar = this.#bar(index);
    checkU64(address, `address of BAR ${index}`);
    if (address % BigInt(bar.size) !== 0n || (bar.type !== 'mem64' && address + BigInt(bar.size) > 2n ** 32n)) {
      throw new VfioError(
        'EINVAL',
        `${this.declaration.name}: BAR ${index} (${bar.type}, ${hex(bar.size)} bytes) cannot be at ${hex(address)}`,
      );
    }
    if (this.declaration.virtualFunction === true) {
      this.#vfBars[index] = address;
      return;
    }
    const at = Config.BASE_ADDRESS_0 + 4 * index;
    this.write(at, 4, Number(address & 0xffff_ffffn));
    if (bar.type === 'mem64') this.write(at + 4, 4, Number(address >> 32n));
  }

  /** Bytes of the ROM BAR; 0 without one. */
  get romSize(): number {
    return romBarSize(this.declaration);
  }

  /** The bus address in the ROM BAR, without its enable bit. */
  get romAddress(): number {
    return (this.read(this.#romOffset, 4) & Bar.ROM_MASK) >>> 0;
  }

  set romAddress(address: number) {
    checkIndex(address, 0xffff_ffff, 'address of the ROM BAR');
    this.writeBits(this.#romOffset, 4, address, Bar.ROM_MASK);
  }

  get #romOffset(): number {
    return this.declaration.header === 'bridge' ? Config.BRIDGE_ROM_ADDRESS : Config.ROM_ADDRESS;
  }
}
