/**
 * Config space as a driver uses it: through VFIO's config region, where the kernel decides which
 * bits a driver changes.
 */

import type { Region } from '../../abi/device.ts';
import { Command, Config } from '../../abi/pci.ts';
import { driverView } from '../../base/driver-view.ts';
import { INSPECT } from '../../base/inspect.ts';
import type { DriverView, Registers } from '../../base/registers.ts';
import { type ConfigReader, findCapabilities, findCapability, findExtendedCapability } from '../../pci/capabilities/walk.ts';

/**
 * Config space as a driver has it: loads and stores by offset, the common registers by name, and
 * the capabilities.
 */
export class ConfigView implements ConfigReader {
  /** VFIO's config region of the device. */
  readonly region: Region;

  constructor(region: Region) {
    this.region = region;
  }

  /** Reads no register of the device. */
  [INSPECT](): string {
    return `ConfigView of ${this.region.info.size} bytes`;
  }

  /** Bytes: 256, or 4096 with PCI Express. */
  get size(): number {
    return this.region.info.size;
  }

  /** Loads 8 bits from `offset`. */
  read8(offset: number): number {
    return this.region.read8(offset);
  }
  /** Loads 16 bits from `offset`. */
  read16(offset: number): number {
    return this.region.read16(offset);
  }
  /** Loads 32 bits from `offset`. */
  read32(offset: number): number {
    return this.region.read32(offset);
  }
  /** Stores 8 bits at `offset`. The kernel keeps the bits that a driver may not change. */
  write8(offset: number, value: number): void {
    this.region.write8(offset, value);
  }
  /** Stores 16 bits at `offset`. The kernel keeps the bits that a driver may not change. */
  write16(offset: number, value: number): void {
    this.region.write16(offset, value);
  }
  /** Stores 32 bits at `offset`. The kernel keeps the bits that a driver may not change. */
  write32(offset: number, value: number): void {
    this.region.write32(offset, value);
  }

  /**
   * Registers of config space by name, for example those of a capability.
   *
   * @param at where the map begins: the offset of the capability. Default: 0.
   */
  registers<R extends Registers>(map: R, at = 0): DriverView<R> {
    return driverView(map, this.region, at);
  }

  /** Vendor ID. */
  get vendor(): number {
    return this.read16(Config.VENDOR_ID);
  }

  /** Device ID. */
  get device(): number {
    return this.read16(Config.DEVICE_ID);
  }

  /** `vendor:device`, as lspci -n prints it. */
  get ids(): string {
    return `${this.vendor.toString(16).padStart(4, '0')}:${this.device.toString(16).padStart(4, '0')}`;
  }

  /**
   * Base class, subclass and programming interface, as PCI Code and ID Assignment writes them:
   * 0x010802 is NVM Express.
   */
  get classCode(): number {
    return this.read32(Config.REVISION_ID) >>> 8;
  }

  /** The COMMAND register, 16 bits. */
  get command(): number {
    return this.read16(Config.COMMAND);
  }
  /** Stores all 16 bits. */
  set command(value: number) {
    this.write16(Config.COMMAND, value);
  }

  /**
   * COMMAND.BusMaster: off after open. While it is off, the device can do no DMA and send no
   * message.
   */
  get busMaster(): boolean {
    return (this.command & Command.MASTER) !== 0;
  }
  /** Changes this bit of COMMAND alone. */
  set busMaster(on: boolean) {
    this.command = on ? this.command | Command.MASTER : this.command & ~Command.MASTER;
  }

  /** COMMAND.IOSpace: while it is off, I/O BARs do not answer. */
  get ioEnabled(): boolean {
    return (this.command & Command.IO) !== 0;
  }
  /** Changes this bit of COMMAND alone. */
  set ioEnabled(on: boolean) {
    this.command = on ? this.command | Command.IO : this.command & ~Command.IO;
  }

  /** COMMAND.MemorySpace: while it is off, memory BARs do not answer. */
  get memoryEnabled(): boolean {
    return (this.command & Command.MEMORY) !== 0;
  }
  /** Changes this bit of COMMAND alone. */
  set memoryEnabled(on: boolean) {
    this.command = on ? this.command | Command.MEMORY : this.command & ~Command.MEMORY;
  }

  /** Offset of the first capability `id`; 0 when there is none. */
  findCapability(id: number): number {
    return findCapability(this, id);
  }

  /** Offsets of all capabilities `id`: a device may have several vendor-specific ones. */
  findCapabilities(id: number): readonly number[] {
    return findCapabilities(this, id);
  }

  /** Offset of an extended capability; 0 when there is none. */
  findExtendedCapability(id: number): number {
    return findExtendedCapability(this, id);
  }
}
