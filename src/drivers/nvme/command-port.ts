/**
 * A controller as its namespaces see it: its limits, memory that it reaches, and queues that take
 * commands. The session behind the port survives resets, so a namespace does too.
 */
import type { DriverDevice } from '../kit/driver-device.ts';
import type { AdminCommands } from './admin.ts';
import type { BouncePool } from './bounce-pool.ts';
import type { ControllerInfo } from './controller-info.ts';
import type { QueuePair } from './queue-pair.ts';
import type { Pauses } from './retry.ts';

export interface CommandPort extends Pauses {
  readonly dev: DriverDevice;
  readonly deviceName: string;
  readonly info: ControllerInfo;
  readonly admin: AdminCommands;
  readonly pool: BouncePool;
  /** Bytes that one command moves: MDTS, and the room in the lists of a queue. */
  readonly maxTransfer: number;
  /** The driver's timeout for a command, in ticks of the watchdog. */
  ticks(): number;
  /**
   * The queue for the next command; null while the controller is not live: `live` then waits, or
   * throws the reason.
   */
  pick(): QueuePair | null;
  /**
   * @throws VfioError ENODEV when the controller is gone or closed; EIO when it did not come back,
   *   or has no I/O queues
   */
  live(): Promise<QueuePair>;
}
