/**
 * The engine's regions as pread and pwrite see them: an access wakes the device first, and the
 * device may sleep again afterwards. The regions that are no BARs are here.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_rw(); vfio_pci_rdwr.c, vfio_pci_bar_rw()
 */
import type { RegionInfo } from '../../abi/device.ts';
import { VfioError } from '../../base/errno.ts';
import { FileWindow } from '../../device/file-window.ts';
import type { EventSource } from '../../events/source.ts';
import { ConfigVerdicts } from './config-verdict.ts';
import type { RegionDevice, RegionFile } from './region-ports.ts';
import { accessDetails, seeMemory, seeRefused } from './seen-access.ts';
import type { VirtualConfig } from './virtual-config.ts';

export abstract class FileRegion extends FileWindow {
  protected readonly file: RegionFile;
  protected readonly device: RegionDevice;
  protected readonly vconfig: VirtualConfig;
  protected readonly events: EventSource;
  /** An error that has an event: it may pass through another region, of a mediator. */
  static readonly #refused = new WeakSet<object>();

  constructor(file: RegionFile, info: RegionInfo) {
    super(info);
    this.file = file;
    this.device = file.device;
    this.vconfig = file.device.openState.vconfig;
    this.events = file.device.host.events;
  }

  /** As `readBytes`, of a device that is awake. */
  protected abstract readAwake(offset: number, into: Uint8Array): number;
  protected abstract writeAwake(offset: number, from: Uint8Array): number;

  /** All of the region is plain memory: its values are data. */
  get plain(): boolean {
    return false;
  }

  protected override refused(offset: number, size: number, from: Uint8Array | null, error: unknown): void {
    if (!this.events.on) return;
    if (typeof error === 'object' && error !== null) {
      if (FileRegion.#refused.has(error)) return;
      FileRegion.#refused.add(error);
    }
    const access = { write: from !== null, region: this.info.index, offset, size, bytes: this.plain ? null : from };
    seeRefused(this.events, access, this.name, error);
  }

  /** An access that VFIO decides about. Called only while there is a reader. */
  protected see(write: boolean, offset: number, bytes: Uint8Array, verdict: 'device' | 'mixed' | 'dropped', rule?: string): void {
    const access = { write, region: this.info.index, offset, size: bytes.length, bytes };
    this.events.emit('access', accessDetails(access, verdict, rule));
  }

  /** An access of plain memory. Called only while there is a reader. */
  protected seeMemory(write: boolean, offset: number, bytes: Uint8Array): void {
    seeMemory(this.events, { write, region: this.info.index, offset, size: bytes.length, bytes });
  }

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
  #verdicts: ConfigVerdicts | null = null;

  protected readAwake(offset: number, into: Uint8Array): number {
    return this.events.on ? this.#seen(false, offset, into) : this.vconfig.read(offset, into);
  }

  protected writeAwake(offset: number, from: Uint8Array): number {
    return this.events.on ? this.#seen(true, offset, from) : this.vconfig.write(offset, from);
  }

  /** Effects of the access name it as their cause. */
  #seen(write: boolean, offset: number, bytes: Uint8Array): number {
    const { events, vconfig } = this;
    const before = events.cause;
    const seq = events.begin('access');
    events.cause = seq;
    try {
      const done = write ? vconfig.write(offset, bytes) : vconfig.read(offset, bytes);
      this.#end(seq, write, offset, bytes);
      return done;
    } catch (error) {
      // Outside of config space: the refusal is the event.
      if (!events.withdraw(seq)) this.#end(seq, write, offset, bytes);
      throw error;
    } finally {
      events.cause = before;
    }
  }

  #end(seq: number, write: boolean, offset: number, bytes: Uint8Array): void {
    this.#verdicts ??= new ConfigVerdicts(this.vconfig.map);
    const { verdict, rule } = this.#verdicts.of(write, offset, bytes.length);
    const access = { write, region: this.info.index, offset, size: bytes.length, bytes };
    this.events.end(seq, 'access', accessDetails(access, verdict, rule));
  }
}

/** The expansion ROM: read-only. The part of the BAR behind the image reads as ones. */
export class RomRegion extends FileRegion {
  protected readAwake(offset: number, into: Uint8Array): number {
    const count = this.clip(offset, into.length);
    const rom = this.device.fn.declaration.rom!;
    if (this.device.standing || (offset < rom.length && !this.vconfig.memoryEnabled)) throw this.device.closedGate(this.name);
    into.set(rom.subarray(offset, offset + count));
    const there = Math.max(0, Math.min(rom.length - offset, count));
    into.fill(0xff, there, count);
    if (this.events.on) {
      const verdict = there === count ? 'device' : there === 0 ? 'dropped' : 'mixed';
      this.see(false, offset, into.subarray(0, count), verdict, there === count ? undefined : 'behind the image');
    }
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
