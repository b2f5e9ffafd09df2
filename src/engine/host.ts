/** Signatures first; the bodies follow. */
import type { DeviceHost, Model } from '../abi/device-host.ts';
import type { DirectMemory, MemoryAllocator } from '../abi/memory.ts';
import type { Clock } from '../base/clock.ts';
import type { Logger, RateLimitedLogger } from '../base/log.ts';
import type { ConfigSpace } from '../pci/config-space.ts';
import type { PciDeclaration } from '../pci/declaration.ts';
import type { HostDma } from './host-dma.ts';
import type { HostIrq } from './host-irq.ts';
import type { IommuDomain } from './iommu-domain.ts';
import type { MsixTable } from './msix-table.ts';

export interface FunctionHostOptions {
  readonly bdf: string;
  readonly declaration: PciDeclaration;
  readonly config: ConfigSpace;
  /** The function's group now; null before it has one. */
  readonly group: () => { readonly domain: IommuDomain | null } | null;
  readonly clock: Clock;
  readonly log: RateLimitedLogger;
  readonly allocate: MemoryAllocator;
}

/** The hardware side of one function: what its model holds, and how everybody else reaches the model. */
export declare class FunctionHost implements DeviceHost {
  constructor(options: FunctionHostOptions);
  readonly config: ConfigSpace;
  readonly dma: HostDma;
  readonly irq: HostIrq;
  readonly msix: MsixTable | null;
  readonly clock: Clock;
  readonly log: Logger;
  /** Call once the model is made: `host.attach(deviceModel.create(host))`. */
  attach(model: Model): void;
  /** The function is removed for good: model.dispose(), BAR memory dropped. */
  dispose(): void;
  barMemory(index: number): DirectMemory;
}
