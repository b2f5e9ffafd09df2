/**
 * The engine's regions as pread and pwrite see them: an access wakes the device first, and the
 * device may sleep again afterwards. The regions that are no BARs are here.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_rw(); vfio_pci_rdwr.c, vfio_pci_bar_rw()
 */
import type { RegionInfo } from '../../abi/device.ts';
import { VfioError } from '../../base/errno.ts';
import { FileWindow } from '../../device/file-window.ts';
import type { RegionDevice, RegionFile } from './region-ports.ts';
import type { VirtualConfig } from './virtual-config.ts';

export abstract class FileRegion extends FileWindow {
  protected readonly file: RegionFile;
  protected readonly device: RegionDevice;
  protected readonly vconfig: VirtualConfig;

  constructor(file: RegionFile, info: RegionInfo) {
    super(info);
    this.file = file;
    this.device = file.device;
    this.vconfig = file.device.openState.vconfig;
  }

  /** As `readBytes`, of a device that is awake. */
  protected abstract readAwake(offset: number, into: Uint8Array): number;
  protected abstract writeAwake(offset: number, from: Uint8Array): number;

  protected checkOpen(): void {
    this.file.checkLive();
  }

  protected get deviceName(): string {
    return this.device.bdf;
  }

  protected readBytes(offset: number, into: Uint8Array): number {
    this.device.power.wake();
    try {
      return this.readAwake(offset, into);
    } finally {
      this.device.settle();
    }
  }

  protected writeBytes(offset: number, from: Uint8Array): number {
    this.device.power.wake();
    try {
      return this.writeAwake(offset, from);
    } finally {
      this.device.settle();
    }
  }
}

/** Config space, virtualized: EFAULT past the end, as Linux answers there and nowhere else. */
export class ConfigRegion extends FileRegion {
  protected readAwake(offset: number, into: Uint8Array): number {
    return this.vconfig.read(offset, into);
  }

  protected writeAwake(offset: number, from: Uint8Array): number {
    return this.vconfig.write(offset, from);
  }
}

/** The expansion ROM: read-only. The part of the BAR behind the image reads as ones. */
export class RomRegion extends FileRegion {
  protected readAwake(offset: number, into: Uint8Array): number {
    const count = this.clip(offset, into.length);
    const rom = this.device.fn.declaration.rom!;
    if (this.device.standing || (offset < rom.length && !this.vconfig.memoryEnabled)) throw this.device.closedGate(this.name);
    into.set(rom.subarray(offset, offset + count));
    into.fill(0xff, Math.max(0, Math.min(rom.length - offset, count)), count);
    return count;
  }

  protected writeAwake(): number {
    throw new VfioError('EINVAL', `${this.name} is read-only`);
  }
}

/** A region the device does not have: size 0, so that every offset is past its end. */
export class AbsentRegion extends FileRegion {
  protected readAwake(offset: number, into: Uint8Array): number {
    throw this.pastEnd(offset, into.length);
  }

  protected writeAwake(offset: number, from: Uint8Array): number {
    throw this.pastEnd(offset, from.length);
  }
}
