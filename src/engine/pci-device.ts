/** Signatures first; the bodies follow. */
import type { Container } from './container.ts';
import type { EngineContext } from './context.ts';
import type { DeviceFile } from './device-file.ts';
import type { DeviceFileHolder, HostedFunction } from './hosted-function.ts';
import type { Process } from './process.ts';

export declare class VfioPciDevice {
  readonly fn: HostedFunction;
  readonly ctx: EngineContext;
  /**
   * Bind: check that vfio-pci can drive `fn`, put it to idle. Does not touch `fn.vfio`.
   * @throws VfioError EINVAL bridge header, no IOMMU or not coherent, denied id; ENODEV with requireReset and no reset method
   */
  static probe(fn: HostedFunction, ctx: EngineContext): VfioPciDevice;
  /** GET_DEVICE_FD's string against this device. False = another device's name. @throws VfioError EINVAL bad, unknown or unused option */
  matches(nameAndOptions: string): boolean;
  /** One more file. The first one enables and resets. @throws VfioError ENODEV being unplugged; EAGAIN the device lock is held */
  open(holder: DeviceFileHolder, container: Container, process: Process): DeviceFile;
  /** Files not yet released. */
  get openCount(): number;
  /** Unbind or unplug (S2-41): refuse opens at once, ask users to let go, resolve when the last one did (or was revoked). Idempotent. */
  unregister(): Promise<void>;
  /** S2-42: tell the users, wait for all acknowledgements or ctx.params.suspendTimeoutMs, then block DMA and power down. */
  suspend(): Promise<void>;
  resume(): void;
  /** Hold the device lock, as a sysfs reset or another driver would: opens and resets give EAGAIN meanwhile (S2-32). */
  lock(who: string): Disposable;
  /** An uncorrectable error was reported: ERR sink and 'error' event. */
  reportError(): void;
  /** Wake from low power from outside (PME). */
  wake(): void;
}
