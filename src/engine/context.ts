/**
 * The objects that all parts of one machine share. Made once for each `Machine`; there is no global
 * state.
 */
import type { MemoryAllocator } from '../abi/memory.ts';
import type { Clock } from '../base/clock.ts';
import type { EventSource } from '../events/source.ts';
import type { EventStream } from '../events/stream.ts';
import type { FaultPlan } from './fault-plan.ts';
import type { LinuxRules } from './linux-version.ts';
import type { Mediators } from './mediation/mediators.ts';
import type { EngineParams } from './params.ts';

export { checkParams, defaultParams, type EngineParams } from './params.ts';

export interface EngineContext {
  readonly clock: Clock;
  /** Where the machine and its devices emit. */
  readonly stream: EventStream;
  /** The machine's own events, which belong to no single function. */
  readonly events: EventSource;
  /** One object for the life of the machine: an administrator may change values in it. */
  readonly params: EngineParams;
  /** Where kernels differ, the answers of the machine's. */
  readonly linux: LinuxRules;
  /** The CPU's page size: 4096, 16384 or 65536 (S2-34). */
  readonly pageSize: number;
  readonly faults: FaultPlan;
  readonly allocate: MemoryAllocator;
  /**
   * MSI and MSI-X vectors that all devices of the machine hold now. Absent: the machine has no
   * limit.
   */
  readonly vectorsInUse?: () => number;
  /** The mediators that are asked at the first open of a device (S0). Absent: there are none. */
  readonly mediators?: Mediators;
  /**
   * The command that binds a function to another driver, for the fixes that errors name. Default:
   * `vfio bind BDF DRIVER`.
   */
  readonly bindCommand?: (bdf: string, driver: string) => string;
}
