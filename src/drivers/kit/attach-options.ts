/** Options of a `DriverDevice`. */
import type { DirectMemory } from '../../abi/memory.ts';
import type { Clock } from '../../base/clock.ts';
import type { DriverDma } from './dma.ts';

/** How a `DriverDevice` takes over a `Device`. */
export interface AttachOptions<Instance = unknown> {
  /** The device as its model made it, for `instance`. */
  readonly instance?: Instance;
  /** The clock of timeouts. Default: the machine's. */
  readonly clock?: Clock;
  /** `vendor:device` that the driver supports, or several. Other devices are refused. */
  readonly match?: string | readonly string[];
  /** After its abort, waits on the device fail with EINTR. */
  readonly signal?: AbortSignal;
  /**
   * Called when the machine asks for the device back (the event 'request'), unless the driver
   * listens for that itself: the driver has to close the device soon.
   */
  readonly onRequest?: (device: string) => void;
  /**
   * The buffers of a device in the same container, to share them. Default: buffers of its own.
   */
  readonly dma?: DriverDma | undefined;
  /** Memory that came with the device, mapped already. */
  readonly adopted?: readonly { readonly iova: bigint; readonly size: number; readonly memory: DirectMemory; readonly offset: number }[];
  /**
   * Resources that were opened to reach the device. The driver disposes of them after it has closed
   * the device.
   */
  readonly owns?: Disposable;
}
