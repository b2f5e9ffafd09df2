/** A program of this process on a machine that another process serves. */
import { constants } from 'node:os';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { isOverlayRefusal, type Launched, launchProgram, type StartedProgram } from '../../exec/launcher.ts';
import type { BarAccess } from '../../exec/trap/mapped-bars.ts';
import { barsFor } from '../exec.ts';
import { connectMachine } from '../machine-server.ts';
import { decodeJson, Kind } from '../migrate/frames.ts';
import type { Link } from '../migrate/link.ts';
import { type CallFault, JOIN_VERSION, type ProgramRequest, type ProgramView } from './conversation.ts';

export interface JoinOptions {
  /** As in `ExecOptions`. */
  readonly sysfs?: boolean;
  readonly bars?: BarAccess;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly faults?: readonly CallFault[];
  /** As in `ExecOptions`. */
  readonly vfToken?: string | undefined;
  /** Gets a line for each system call of the program on a file of VFIO. */
  readonly onTrace?: ((line: string) => void) | undefined;
  /** Called with the reason when the server has gone before the program. */
  readonly onLost: (reason: VfioError) => void;
}

const ANSWER_MS = 10_000;

/**
 * Run a program on the machine that is served in `directory`. Its standard streams are this
 * process's, and it ends with this process.
 *
 * @param command as in `execOn`
 * @throws VfioError (rejects) ENOENT when no machine is served there; the server's refusal; as
 *   `execOn`
 */
export async function startJoined(directory: string, command: readonly string[], options: JoinOptions): Promise<StartedProgram> {
  const { sysfs = true, bars, environment, faults = [], vfToken, onTrace, onLost } = options;
  using undo = new Cleanup();
  const link = undo.use(connectMachine(directory));
  await link.expect(Kind.STATUS, ANSWER_MS);
  const request: ProgramRequest = {
    version: JOIN_VERSION,
    bars: barsFor(bars),
    sysfs,
    overlay: true,
    trace: onTrace !== undefined,
    faults,
    ...(vfToken === undefined ? {} : { vfToken }),
  };
  const launchOnce = async (overlay: boolean): Promise<Launched> => {
    await link.sendJson(Kind.PROGRAM, { ...request, overlay });
    const { mounts, bindings, region0, supervisor } = (await link.expect(Kind.MOUNTS, ANSWER_MS)) as unknown as ProgramView;
    return launchProgram({ command, mounts, bindings, region0, supervisor, ...(environment === undefined ? {} : { environment }) });
  };
  const { program, listener, firstDescriptor } = await launchOnce(true).catch((error: unknown) => {
    if (isOverlayRefusal(error)) return launchOnce(false);
    throw error;
  });
  undo.use(program);
  let isServed = false;
  undo.defer(() => {
    if (!isServed) program.kill(constants.signals.SIGKILL);
  });
  {
    // The server has the only one then: its end is the end of the program's kernel.
    using own = listener;
    await link.sendDescriptor(Kind.LISTENER, { firstDescriptor }, own);
    isServed = true;
  }
  let isOver = false;
  undo.defer(() => {
    isOver = true;
  });
  const exited = new Promise<number>((settle) => program.onEnd(settle));
  const left = untilDone(link, onTrace).catch((error: unknown) => {
    if (!isOver) onLost(error instanceof VfioError ? error : new VfioError('EIO', 'the connection failed', { cause: error as Error }));
  });
  const status = Promise.all([exited, left]).then(([first]) => first);
  const owns = undo.move();
  return { program, status, exited, [Symbol.dispose]: () => owns[Symbol.dispose]() };
}

/**
 * Settles when the server says that no program is left.
 *
 * @throws VfioError (rejects) as `Link.receive`
 */
async function untilDone(link: Link, onTrace: JoinOptions['onTrace']): Promise<void> {
  for (;;) {
    const frame = await link.receive(Number.POSITIVE_INFINITY);
    if (frame.kind === Kind.DONE) return;
    if (frame.kind !== Kind.PROGRESS) throw new VfioError('EPROTO', `frame ${frame.kind} came while the program runs`);
    onTrace?.(String(decodeJson(frame).text));
  }
}
