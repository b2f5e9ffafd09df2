/** Signatures first; the bodies follow. */
import type {
  Device,
  DeviceEvent,
  DeviceInfo,
  FeatureRequest,
  HotResetDependent,
  InterruptSource,
  IrqInfo,
  Region,
  SetIrqs,
} from '../abi/device.ts';
import type { ContainerDmaSpace } from './container-dma-space.ts';
import type { DeviceFileHolder } from './hosted-function.ts';
import type { VfioPciDevice } from './pci-device.ts';

export interface IoeventfdRequest {
  /** Region index; only BARs can have one. */
  readonly region: number;
  /** Byte offset in the region. */
  readonly offset: number;
  /** Bytes to write: 1, 2 or 4. */
  readonly size: number;
  readonly data: bigint;
  /** null removes the one with the same region, offset, size and data. */
  readonly source: InterruptSource | null;
}

export declare class DeviceFile implements Device {
  readonly device: VfioPciDevice;
  readonly holder: DeviceFileHolder;
  get info(): DeviceInfo;
  region(index: number): Region;
  irq(index: number): IrqInfo;
  setIrqs(request: SetIrqs): number;
  reset(): void;
  hotResetInfo(): readonly HotResetDependent[];
  /** PCI_HOT_RESET's first checks, before its descriptors are looked at: `count` = how many were given. @throws VfioError EINVAL, ENODEV */
  checkHotReset(count: number): void;
  /** PCI_HOT_RESET: `groups` are the group files given (any object whose `group` owns devices). @throws VfioError EINVAL not all devices owned; EBUSY; EAGAIN */
  hotReset(groups: readonly { readonly group: { readonly id: number } }[]): void;
  /** @throws VfioError EINVAL, EEXIST, ENODEV, ENOSPC as B.8 IOEVENTFD */
  ioeventfd(request: IoeventfdRequest): void;
  feature(request: FeatureRequest): number;
  get dma(): ContainerDmaSpace;
  on(listener: (event: DeviceEvent) => void): Disposable;
  /** close() was called (mappings may still hold the device). */
  readonly closed: boolean;
  close(): void;
  [Symbol.dispose](): void;
}
