/** What every part of one machine shares. Made once per `Machine`; there is no global state. */
import type { MemoryAllocator } from '../abi/memory.ts';
import { DMA_ENTRY_LIMIT } from '../abi/vfio.ts';
import { checkIndex } from '../base/check.ts';
import type { Clock } from '../base/clock.ts';
import { VfioError } from '../base/errno.ts';
import type { RateLimitedLogger } from '../base/log.ts';
import type { FaultPlan } from './fault-plan.ts';
import type { Mediators } from './mediation/mediators.ts';

/** The module parameters of vfio, vfio-pci and vfio_iommu_type1 (B.8), and ours. */
export interface EngineParams {
  /** type1 dma_entry_limit: mappings per container. */
  readonly dmaEntryLimit: number;
  /** type1 allow_unsafe_interrupts: attach groups whose MSIs are not isolated. */
  readonly allowUnsafeInterrupts: boolean;
  /** vfio-pci nointxmask: never use COMMAND.InterruptDisable to mask. */
  readonly noIntxMask: boolean;
  /** vfio-pci disable_idle_d3: keep unused devices in D0. */
  readonly disableIdleD3: boolean;
  /** vfio-pci enable_sriov: let sriov_numvfs of functions under vfio-pci be written. */
  readonly enableSriov: boolean;
  /** vfio-pci disable_denylist: bind devices that are known to harm their host in a user's hands. */
  readonly disableDenylist: boolean;
  /** Ours (S2-31): refuse to bind a device that cannot be reset. */
  readonly requireReset: boolean;
  /** Ours (S2-41, E-08): revoke an unplugged device this long after the first request; null = wait for ever, as Linux does. */
  readonly forceRevokeAfterMs: number | null;
  /** Ours (S2-42): how long a suspend waits for drivers to acknowledge. */
  readonly suspendTimeoutMs: number;
}

/** 24 days: timers take no more. */
const MAX_DELAY_MS = 2 ** 31 - 1;

export const defaultParams: EngineParams = {
  dmaEntryLimit: DMA_ENTRY_LIMIT,
  allowUnsafeInterrupts: false,
  noIntxMask: false,
  disableIdleD3: false,
  enableSriov: false,
  disableDenylist: false,
  requireReset: false,
  forceRevokeAfterMs: null,
  suspendTimeoutMs: 5000,
};

/** The defaults, but for what is given. @throws VfioError EINVAL for a name that is none, or a value of another kind than its default */
export function checkParams(given: Partial<EngineParams> = {}): EngineParams {
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(defaultParams, name)) {
      throw new VfioError('EINVAL', `there is no parameter '${name}'`, { fix: `There are ${Object.keys(defaultParams).join(', ')}.` });
    }
    const usual = defaultParams[name as keyof EngineParams];
    if (typeof usual === 'boolean') {
      if (typeof value !== 'boolean') throw new VfioError('EINVAL', `${name} is ${String(value)}; it must be true or false`);
    } else if (value !== usual) checkIndex(value as number, name === 'dmaEntryLimit' ? 0xffff_ffff : MAX_DELAY_MS, name);
  }
  return { ...defaultParams, ...given };
}

export interface EngineContext {
  readonly clock: Clock;
  readonly log: RateLimitedLogger;
  readonly params: EngineParams;
  /** The CPU's page size: 4096, 16384 or 65536 (S2-34). */
  readonly pageSize: number;
  readonly faults: FaultPlan;
  readonly allocate: MemoryAllocator;
  /** Who is asked at the first open of a device (S0); absent: nobody. */
  readonly mediators?: Mediators;
}
