/**
 * The states of migration and the way between any two of them (B.11), as data: a device's activity
 * in each state, and the next state on the way to another. States that a device does not have are
 * passed over.
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_mig_get_next_state(); include/uapi/linux/vfio.h, enum
 * vfio_device_mig_state
 */
import { MigrationFlags, MigrationState } from '../../abi/vfio.ts';

const { STOP_COPY: C, P2P, PRE_COPY: PRE } = MigrationFlags;

export interface StateRow {
  readonly name: keyof typeof MigrationState;
  /** The flags that a device needs for the state. */
  readonly flags: number;
  /** The device works: it changes by itself, interrupts, does DMA. */
  readonly runs: boolean;
  /** The device sends no DMA. */
  readonly quiet: boolean;
  /** The stream that is open in the state. */
  readonly stream: 'saving' | 'resuming' | null;
}

/** By number. */
export const states: readonly StateRow[] = [
  { name: 'ERROR', flags: 0xffff_ffff, runs: false, quiet: true, stream: null },
  { name: 'STOP', flags: C, runs: false, quiet: true, stream: null },
  { name: 'RUNNING', flags: C, runs: true, quiet: false, stream: null },
  { name: 'STOP_COPY', flags: C, runs: false, quiet: true, stream: 'saving' },
  { name: 'RESUMING', flags: C, runs: false, quiet: true, stream: 'resuming' },
  { name: 'RUNNING_P2P', flags: C | P2P, runs: true, quiet: true, stream: null },
  { name: 'PRE_COPY', flags: C | PRE, runs: true, quiet: false, stream: 'saving' },
  { name: 'PRE_COPY_P2P', flags: C | P2P | PRE, runs: true, quiet: true, stream: 'saving' },
];

type Target = Exclude<keyof typeof MigrationState, 'ERROR'>;

const { ERROR: E, STOP: S, RUNNING: R, STOP_COPY: SC, RESUMING: RE, RUNNING_P2P: RP, PRE_COPY: P, PRE_COPY_P2P: PP } = MigrationState;

/** From a state: the next one on the way to each other. ERROR: there is no way. */
const nextStates: Readonly<Record<keyof typeof MigrationState, Readonly<Record<Target, MigrationState>>>> = {
  STOP: { STOP: S, RUNNING: RP, PRE_COPY: RP, PRE_COPY_P2P: RP, STOP_COPY: SC, RESUMING: RE, RUNNING_P2P: RP },
  RUNNING: { STOP: RP, RUNNING: R, PRE_COPY: P, PRE_COPY_P2P: RP, STOP_COPY: RP, RESUMING: RP, RUNNING_P2P: RP },
  PRE_COPY: { STOP: R, RUNNING: R, PRE_COPY: P, PRE_COPY_P2P: PP, STOP_COPY: PP, RESUMING: R, RUNNING_P2P: R },
  PRE_COPY_P2P: { STOP: RP, RUNNING: RP, PRE_COPY: P, PRE_COPY_P2P: PP, STOP_COPY: SC, RESUMING: RP, RUNNING_P2P: RP },
  STOP_COPY: { STOP: S, RUNNING: S, PRE_COPY: E, PRE_COPY_P2P: E, STOP_COPY: SC, RESUMING: S, RUNNING_P2P: S },
  RESUMING: { STOP: S, RUNNING: S, PRE_COPY: S, PRE_COPY_P2P: S, STOP_COPY: S, RESUMING: RE, RUNNING_P2P: S },
  RUNNING_P2P: { STOP: S, RUNNING: R, PRE_COPY: R, PRE_COPY_P2P: PP, STOP_COPY: S, RESUMING: S, RUNNING_P2P: RP },
  ERROR: { STOP: E, RUNNING: E, PRE_COPY: E, PRE_COPY_P2P: E, STOP_COPY: E, RESUMING: E, RUNNING_P2P: E },
};

/** Whether a device that can do `flags` (MigrationFlags) has the state of this number. */
export function hasState(flags: number, state: number): boolean {
  const row = states[state];
  return row !== undefined && (row.flags & flags) >>> 0 === row.flags;
}

/**
 * The next state of a device that can do `flags` on its way from `from` to `to`; null when there is
 * no way: from or to ERROR or a state that the device does not have, or back from STOP_COPY to a
 * state in which the device runs and is copied.
 */
export function nextState(flags: number, from: MigrationState, to: number): MigrationState | null {
  if (!hasState(flags, to) || !hasState(flags, from)) return null;
  const target = states[to]!.name as Target;
  let next = nextStates[states[from]!.name][target];
  while (next !== E && !hasState(flags, next)) next = nextStates[states[next]!.name][target];
  return next === E ? null : next;
}

/**
 * The states from `from` (not in it) to `to`; null when there is no way. The loop ends, because
 * each arc leads closer.
 */
export function wayTo(flags: number, from: MigrationState, to: number): readonly MigrationState[] | null {
  if (!Number.isInteger(to)) return null;
  const way: MigrationState[] = [];
  for (let at: MigrationState = from; at !== to; ) {
    const next = nextState(flags, at, to);
    if (next === null) return null;
    way.push(next);
    at = next;
  }
  return hasState(flags, to) ? way : null;
}
