/** The options of a machine, and the context that its parts share. */
import type { MemoryAllocator } from '../../abi/memory.ts';
import { type Clock, SystemClock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import { type Logger, silentLogger } from '../../base/log.ts';
import type { Numbers } from '../../base/numbers.ts';
import { type EventStream, streamOf } from '../../events/stream.ts';
import type { EngineContext } from '../context.ts';
import { FaultPlan } from '../fault-plan.ts';
import { type LinuxVersion, linuxRules } from '../linux-version.ts';
import type { Mediators } from '../mediation/mediators.ts';
import { checkParams, type EngineParams } from '../params.ts';
import type { Remedies } from './explain.ts';
import type { ModelRegistry } from './function-builder.ts';
import type { MachineSpec } from './machine-spec.ts';

/** Where a machine gets numbers. */
export interface MachineNumbers {
  /** Of isolation groups. */
  readonly groups: Numbers;
  /** Of devices under vfio-pci: their nodes in /dev/vfio/devices. */
  readonly vfioDevices: Numbers;
}

/** A machine’s needs beside its declaration. */
export interface MachineOptions {
  /** The source of BAR memory and of anonymous process memory. */
  readonly allocate: MemoryAllocator;
  /** Models that the declaration names. */
  readonly models?: ModelRegistry;
  /** Default: that of `events`, or the system's. */
  readonly clock?: Clock;
  /** Receives lines of the machine's own stream; a stream that is given has a log of its own. */
  readonly log?: Logger;
  /**
   * The stream to which the machine emits; it stays the caller's. Events name the device, not the
   * machine: machines with equal addresses are better off with a stream each. Default: one of its
   * own.
   */
  readonly events?: EventStream;
  readonly params?: Partial<EngineParams>;
  /** The kernel whose answers the machine gives. Default: that of the declaration, or 7.3. */
  readonly linux?: LinuxVersion;
  /** 4096 (default), 16384 or 65536. */
  readonly pageSize?: number;
  readonly faults?: FaultPlan;
  /** Mediators of the devices that vfio-pci drives (S0). */
  readonly mediators?: Mediators;
  /**
   * The command that binds a function to another driver, for the fixes that errors name. Default:
   * `vfio bind BDF DRIVER`.
   */
  readonly bindCommand?: (bdf: string, driver: string) => string;
  /** Remedies that `Machine.explain` names. Default: those of a machine file. */
  readonly remedies?: Remedies;
  /**
   * uid that owns the nodes of groups as they appear, as a udev rule would give them. Default: 0.
   */
  readonly nodeOwner?: number;
  /** Where groups and devices get their numbers, for machines that share them. Default: its own. */
  readonly numbers?: MachineNumbers;
}

/**
 * @param vectorsInUse counts the MSI and MSI-X vectors that all devices of the machine hold
 * @throws VfioError EINVAL for a page size, a parameter or a kernel that does not exist
 */
export function contextOf(spec: MachineSpec, options: MachineOptions, vectorsInUse: () => number): EngineContext {
  const pageSize = options.pageSize ?? spec.pageSize ?? 4096;
  if (![4096, 16384, 65536].includes(pageSize)) {
    throw new VfioError('EINVAL', `page size is ${String(pageSize)}; CPUs have 4096, 16384 or 65536`);
  }
  const clock = options.clock ?? options.events?.clock ?? new SystemClock();
  const stream = streamOf(options.events, { clock, log: options.log ?? silentLogger });
  return {
    clock,
    stream,
    events: stream.source('machine'),
    params: checkParams({
      ...(spec.enableSriov === undefined ? {} : { enableSriov: spec.enableSriov }),
      ...spec.params,
      ...options.params,
    }),
    linux: linuxRules(options.linux ?? spec.linux),
    pageSize,
    faults: options.faults ?? new FaultPlan(),
    allocate: options.allocate,
    vectorsInUse,
    ...(options.mediators === undefined ? {} : { mediators: options.mediators }),
    ...(options.bindCommand === undefined ? {} : { bindCommand: options.bindCommand }),
  };
}
