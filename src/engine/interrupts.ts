/** Signatures first; the bodies follow. */
import type { InterruptSink, IrqInfo, SetIrqs } from '../abi/device.ts';
import type { ConfigSpace } from '../pci/config-space.ts';
import type { EngineContext } from './context.ts';
import type { HostIrq } from './host-irq.ts';
import type { InterruptLine } from './interrupt-line.ts';
import type { MsixTable } from './msix-table.ts';

export interface InterruptsOptions {
  readonly bdf: string;
  readonly ctx: EngineContext;
  readonly config: ConfigSpace;
  readonly host: HostIrq;
  readonly msix: MsixTable | null;
  /** The pin as the user sees it (virtual config): 0 hides INTx. Default: the hardware's, 0 when `noIntx`. */
  readonly virtualPin?: () => number;
  /** A device whose INTx is known to be broken, or a virtual function: never signalled, COMMAND.InterruptDisable kept set. */
  readonly noIntx?: boolean;
  /** The wire the pin is on; one of its own by default, null = not routed anywhere. */
  readonly line?: InterruptLine | null;
  /** Vectors the platform has left for this device. Default: no limit. */
  readonly maxVectors?: () => number;
  /** Whether MSI-X vectors can be added while others are in use. Default: yes. */
  readonly dynamicMsix?: boolean;
  /** irqfd bypass: told of each vector and its sink; what it throws is only logged (B.9). */
  readonly bypass?: (vector: number, sink: InterruptSink) => Disposable;
}

/** vfio-pci's side of the interrupts of one device (B.9). */
export declare class Interrupts {
  constructor(options: InterruptsOptions);
  get type(): 'none' | 'intx' | 'msi' | 'msix';
  /** First open, after the reset: find out whether COMMAND.InterruptDisable works, and clear it. */
  open(): void;
  /** @throws VfioError EINVAL for an index the device does not have, or ERR on a device that is not PCI Express */
  info(index: number): IrqInfo;
  /** VFIO_DEVICE_SET_IRQS: 0, or the number of vectors that can be had when that is fewer than asked. */
  setIrqs(request: SetIrqs): number;
  /** Last close: every interrupt off, every sink released. Idempotent. */
  disableAll(): void;
  /** VirtualConfig's hook: the user set or cleared COMMAND.InterruptDisable. */
  intxDisable(on: boolean): void;
  /** log2 of the vectors MSI was enabled with: the most the user may write into the capability. 0 when MSI is off. */
  get msiQueueMax(): number;
  /** Write messages, masks and enables into the hardware again, after it lost them: reset, or D3hot to D0. */
  restore(): void;
  /** Before and after low power: INTx is masked meanwhile unless the user had masked it (B.10). */
  sleep(): void;
  wake(): void;
  /** Fire ERR or REQ. False when nobody listens. */
  signalError(): boolean;
  signalRequest(): boolean;
}
