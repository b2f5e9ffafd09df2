/** Config space as a driver uses it: through VFIO's config region, so what it may change is the kernel's decision. */

import type { Region } from '../../abi/device.ts';
import { Command, Config } from '../../abi/pci.ts';
import { INSPECT } from '../../base/inspect.ts';
import { type ConfigReader, findCapability, findExtendedCapability } from '../../pci/capabilities/walk.ts';

export class ConfigView implements ConfigReader {
  readonly region: Region;

  constructor(region: Region) {
    this.region = region;
  }

  /** Without a look at the device. */
  [INSPECT](): string {
    return `ConfigView of ${this.region.info.size} bytes`;
  }

  get size(): number {
    return this.region.info.size;
  }

  read8(offset: number): number {
    return this.region.read8(offset);
  }
  read16(offset: number): number {
    return this.region.read16(offset);
  }
  read32(offset: number): number {
    return this.region.read32(offset);
  }
  write8(offset: number, value: number): void {
    this.region.write8(offset, value);
  }
  write16(offset: number, value: number): void {
    this.region.write16(offset, value);
  }
  write32(offset: number, value: number): void {
    this.region.write32(offset, value);
  }

  get vendor(): number {
    return this.read16(Config.VENDOR_ID);
  }

  get device(): number {
    return this.read16(Config.DEVICE_ID);
  }

  /** `vendor:device`, as lspci -n prints it. */
  get ids(): string {
    return `${this.vendor.toString(16).padStart(4, '0')}:${this.device.toString(16).padStart(4, '0')}`;
  }

  /** Base class, subclass and programming interface, as PCI Code and ID Assignment writes them: 0x010802 is NVM Express. */
  get classCode(): number {
    return this.read32(Config.REVISION_ID) >>> 8;
  }

  get command(): number {
    return this.read16(Config.COMMAND);
  }
  set command(value: number) {
    this.write16(Config.COMMAND, value);
  }

  /** COMMAND.BusMaster: off after open. Without it the device can do no DMA and send no message. */
  get busMaster(): boolean {
    return (this.command & Command.MASTER) !== 0;
  }
  set busMaster(on: boolean) {
    this.command = on ? this.command | Command.MASTER : this.command & ~Command.MASTER;
  }

  /** COMMAND.MemorySpace: without it memory BARs do not answer. */
  get memoryEnabled(): boolean {
    return (this.command & Command.MEMORY) !== 0;
  }
  set memoryEnabled(on: boolean) {
    this.command = on ? this.command | Command.MEMORY : this.command & ~Command.MEMORY;
  }

  /** Offset of a capability, 0 when it is not there. */
  findCapability(id: number): number {
    return findCapability(this, id);
  }

  /** Offset of an extended capability, 0 when it is not there. */
  findExtendedCapability(id: number): number {
    return findExtendedCapability(this, id);
  }
}
