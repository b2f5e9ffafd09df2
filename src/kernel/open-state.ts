/**
 * Whether a device of Linux's VFIO is open, closed or gone, and what still holds it: the port of
 * its parts.
 */
import { DeviceInfo } from '../abi/vfio-structs.ts';
import { viewOf } from '../base/data-view.ts';
import { errnoName, VfioError } from '../base/errno.ts';
import type { EventSource } from '../events/source.ts';
import type { KernelFile } from '../sys/kernel-file.ts';
import { callFailure, DeviceCall, type KernelCall } from './calls.ts';
import type { KernelPort } from './device-port.ts';

export class OpenState implements KernelPort {
  readonly name: string;
  readonly file: KernelFile;
  readonly source: EventSource;
  closed = false;
  /** The device is gone; called once, after the call that found out. */
  onGone: (reason: string) => void = () => {};
  /** The user has closed the device, and no mapping holds it; called once. */
  onReleased: () => void = () => {};
  #gone: string | null = null;
  #released = false;
  readonly #mappings = new Set<object>();

  constructor(name: string, file: KernelFile, source: EventSource) {
    this.name = name;
    this.file = file;
    this.source = source;
  }

  /** The reason why the device is gone; null while it is not. */
  get goneBecause(): string | null {
    return this.#gone;
  }

  checkOpen(): void {
    if (this.closed) throw new VfioError('ENODEV', `${this.name} is closed`);
    if (this.#gone !== null) throw new VfioError('ENODEV', `${this.name} is gone: ${this.#gone}`);
  }

  call(call: KernelCall, argument: number | Uint8Array): number {
    const result = this.file.ioctl(call.request, argument);
    if (result >= 0) return result;
    this.failed(result);
    throw callFailure(result, call, this.name);
  }

  failed(result: number): void {
    if (errnoName(result) !== 'ENODEV' || this.#released) return;
    // Some requests are ENODEV for other reasons, GET_INFO is not.
    const bytes = new Uint8Array(DeviceInfo.structSize);
    DeviceInfo.argsz.set(viewOf(bytes), 0, bytes.length);
    if (errnoName(this.file.ioctl(DeviceCall.GET_INFO.request, bytes)) === 'ENODEV') this.gone('the kernel has removed it');
  }

  /** Every later call is ENODEV. The file stays open until the user closes the device. */
  gone(reason: string): void {
    if (this.#gone !== null || this.closed) return;
    this.#gone = reason;
    this.source.note('warn', 'device', `${this.name} is gone: ${reason}`);
    // Later, because the current call may be the one that found out.
    queueMicrotask(() => this.onGone(reason));
  }

  held(mapping: object): void {
    this.#mappings.add(mapping);
  }

  dropped(mapping: object): void {
    this.#mappings.delete(mapping);
    this.#release();
  }

  /** The user closes the device. Idempotent. */
  close(): void {
    this.closed = true;
    this.#release();
  }

  #release(): void {
    if (!this.closed || this.#released || this.#mappings.size > 0) return;
    this.#released = true;
    this.onReleased();
  }
}
