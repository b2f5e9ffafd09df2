/**
 * The driver that `vfio run` runs in this process. Its devices stop waiting when the driver has to
 * end, and emit into the stream of the command.
 */
import type { EventStream } from '../events/stream.ts';
import { packageVersion } from '../sys/package-files.ts';

/**
 * A driver may import a copy of the package of its own, which reads these here: a variable of this
 * module would not reach that copy.
 */
const RUNNING = Symbol.for('vfio-ts.running-driver');
const running = globalThis as { [RUNNING]?: AbortSignal | null };

/** A stream is code, so a copy of another version leaves it alone. */
const EVENTS = Symbol.for('vfio-ts.running-driver-events');
const watched = globalThis as { [EVENTS]?: { readonly version: string; readonly stream: EventStream } | null };

/** The signal of the driver that runs; null when none does. */
export function runSignal(): AbortSignal | null {
  return running[RUNNING] ?? null;
}

/**
 * The stream for devices of the driver that runs; null when none does, or when `vfio run` writes no
 * events.
 */
export function runEvents(): EventStream | null {
  const given = watched[EVENTS] ?? null;
  if (given === null) return null;
  if (given.version === packageVersion()) return given.stream;
  const said = `the driver imports vfio-ts ${packageVersion()}, and vfio is of version ${given.version}`;
  process.emitWarning(`${said}: events of its devices are not written`, { code: 'VFIO_TS_VERSIONS' });
  return null;
}

/** How the command wants devices to be opened, where the driver does not say. */
export interface RunOpening {
  /** As `OpenOptions.via`. */
  readonly via?: 'group' | 'cdev' | undefined;
  /** As `OpenOptions.unsafeNoIommu`. */
  readonly unsafeNoIommu?: boolean | undefined;
  /** As `OpenOptions.onRequest`. */
  readonly onRequest?: ((device: string) => void) | undefined;
}

const OPENING = Symbol.for('vfio-ts.running-driver-opening');
const opening = globalThis as { [OPENING]?: RunOpening | null };

/** The wishes of the command whose driver runs; none when none does. */
export function runOpening(): RunOpening {
  return opening[OPENING] ?? {};
}

/**
 * Run `work` as the driver that the abort of `of` ends, and whose devices emit into `events`.
 *
 * @param how devices are opened
 */
export async function duringRun<T>(of: AbortSignal, events: EventStream | null, work: () => Promise<T>, how: RunOpening = {}): Promise<T> {
  const before = [runSignal(), watched[EVENTS] ?? null, opening[OPENING] ?? null] as const;
  running[RUNNING] = of;
  watched[EVENTS] = events === null ? null : { version: packageVersion(), stream: events };
  opening[OPENING] = how;
  try {
    return await work();
  } finally {
    [running[RUNNING], watched[EVENTS], opening[OPENING]] = before;
  }
}
