/**
 * Programs that join a served machine: other processes start them, and the engine of this one
 * answers their system calls.
 */
import { Cleanup } from '../../base/cleanup.ts';
import { Errno, VfioError } from '../../base/errno.ts';
import { FaultPlan } from '../../engine/fault-plan.ts';
import type { Machine } from '../../engine/machine/machine.ts';
import { wordsOf } from '../../events/kinds.ts';
import type { EventSource } from '../../events/source.ts';
import type { EventStream } from '../../events/stream.ts';
import { firstRegionSize } from '../../exec/first-region.ts';
import { Supervisor } from '../../exec/supervisor.ts';
import { SysfsTree } from '../../exec/sysfs/sysfs-tree.ts';
import { KernelDoor } from '../../ioctl/kernel-door.ts';
import type { Kernel } from '../../ioctl/user-process.ts';
import type { PeerCredentials } from '../../sys/byte-stream.ts';
import { NotifiedCalls } from '../../sys/notified-calls.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import { decodeJson, Kind, kindName } from '../migrate/frames.ts';
import type { Link } from '../migrate/link.ts';
import { checkRequest, checkStart, JOIN_VERSION, type ProgramRequest, type ProgramView } from './conversation.ts';

/** The kernel's name of the file behind a listener. */
const LISTENER = 'anon_inode:seccomp notify';
/** The time that a client has to start its program. */
const START_MS = 30_000;

/** A machine, and what it has for programs of other processes. */
export interface ProgramsDeskOptions {
  readonly machine: Machine;
  /** The server's stream: each program is a source of it. */
  readonly events: EventStream;
  /** Bytes that each program may map, in place of its RLIMIT_MEMLOCK. */
  readonly memlockLimit: number | undefined;
  /** Called when a program has closed files: other users may wait for a group. */
  readonly closed: () => void;
}

export class ProgramsDesk implements Disposable {
  readonly #options: ProgramsDeskOptions;
  readonly #programs = new Set<Disposable>();

  constructor(options: ProgramsDeskOptions) {
    this.#options = options;
  }

  /**
   * Serve a program until it and all programs that it has started have ended, or its client has.
   *
   * @param body of the client's PROGRAM frame
   * @throws VfioError (rejects) EPERM for another user's client; EINVAL, EPROTO, EOPNOTSUPP; the
   *   errno of a folder that cannot be made. The caller sends it.
   */
  async join(link: Link, body: Record<string, unknown>, peer: PeerCredentials | null): Promise<void> {
    const { machine, events: stream } = this.#options;
    checkUser(peer);
    if (body.version !== JOIN_VERSION) {
      throw new VfioError('EOPNOTSUPP', `the server speaks version ${JOIN_VERSION} with programs`, {
        fix: 'Use the same version of vfio on both sides.',
      });
    }
    const request = checkRequest(body);
    using undo = new Cleanup();
    const tree = request.sysfs ? undo.use(SysfsTree.open(machine)) : null;
    link.wantDescriptor();
    const firstDescriptor = await this.#started(link, request, tree);
    const listener = undo.use(link.takeDescriptor());
    checkListener(listener);
    const events = undo.use(stream.source(`program of ${peer!.pid}`));
    const kernel = kernelOf(machine, events, request);
    undo.use(kernel);
    // Lines leave one after the other, and the end behind them.
    let sent: Promise<void> = Promise.resolve();
    const say = (kind: Kind, content: object) => {
      sent = sent.then(() => link.sendJson(kind, content)).catch(() => {});
    };
    const trace = request.trace ? undo.use(traced(stream, events, (text) => say(Kind.PROGRESS, { text }))) : null;
    let ended = () => {};
    const end = new Promise<void>((settle) => {
      ended = settle;
    });
    const { memlockLimit, closed } = this.#options;
    const options = { firstDescriptor, tree, bars: request.bars, memlock: memlockLimit, closed };
    const program = undo.use(new Cleanup());
    program.use(new Supervisor(new NotifiedCalls(listener.move()), kernel, options, ended));
    this.#programs.add(program);
    undo.defer(() => void this.#programs.delete(program));
    events.note('info', 'program', `a program of pid ${peer!.pid}, uid ${peer!.uid} has joined`);
    try {
      await Promise.race([end, untilGone(link)]);
    } finally {
      events.note('info', 'program', `the program of pid ${peer!.pid} has left`);
    }
    trace?.flush();
    say(Kind.DONE, {});
    await sent;
  }

  /** The answers to a client until its program has started. @returns its first descriptor */
  async #started(link: Link, request: ProgramRequest, tree: SysfsTree | null): Promise<number> {
    const region0 = firstRegionSize(this.#options.machine);
    for (const overlay of request.overlay ? [true, false] : [false]) {
      const view: ProgramView = { supervisor: process.pid, region0, mounts: tree?.mounts({ overlay }) ?? null, bindings: tree?.bindings };
      await link.sendJson(Kind.MOUNTS, view);
      const frame = await link.receive(START_MS);
      if (frame.kind === Kind.LISTENER) return checkStart(decodeJson(frame)).firstDescriptor;
      if (frame.kind !== Kind.PROGRAM) throw new VfioError('EPROTO', `${kindName(frame.kind)} came in place of a program's start`);
    }
    throw new VfioError('EPROTO', 'a program was asked for again and again');
  }

  /** All programs lose the machine: their calls fail with ENOSYS. */
  [Symbol.dispose](): void {
    for (const program of this.#programs) program[Symbol.dispose]();
    this.#programs.clear();
  }
}

/**
 * Settles when the client has closed the connection.
 * @throws VfioError (rejects) EPROTO for a frame; the error that ended the link
 */
async function untilGone(link: Link): Promise<void> {
  try {
    const { kind } = await link.receive(Number.POSITIVE_INFINITY);
    throw new VfioError('EPROTO', `${kindName(kind)} came while the program runs`);
  } catch (error) {
    if (!(error instanceof VfioError) || error.code !== 'ECONNRESET') throw error;
  }
}

/** The machine's kernel, whose events and injected faults are those of one program. */
function kernelOf(machine: Machine, events: EventSource, { faults: planned, vfToken }: ProgramRequest): Kernel & Disposable {
  const door = new KernelDoor(machine, { vfToken });
  const faults = new FaultPlan();
  for (const { step, errno, skip } of planned) {
    if (!Object.hasOwn(Errno, errno)) throw new VfioError('EINVAL', `${errno.slice(0, 40)} is no errno`);
    faults.failNext(step, errno, skip);
  }
  const listening = faults.on((step, errno) => {
    if (events.on) events.emit('fault', { step, errno });
  });
  return {
    context: { events, faults },
    openPath: (path, process, access) => door.openPath(path, process, access),
    refused: (process, call, error) => door.refused(process, call, error),
    [Symbol.dispose]: () => listening[Symbol.dispose](),
  };
}

/** Gives `line` the calls that `source` emits, in words, until disposed. */
function traced(stream: EventStream, source: EventSource, line: (text: string) => void): Disposable & { flush(): void } {
  const calls = stream.read({ kinds: ['call'], devices: [source.name] });
  const flush = () => {
    for (const call of calls.take()) line(wordsOf(call));
  };
  void (async () => {
    for await (const call of calls) line(wordsOf(call));
  })();
  return { flush, [Symbol.dispose]: () => calls[Symbol.dispose]() };
}

/** @throws VfioError EPERM: the engine could not reach the program's memory and descriptors */
function checkUser(peer: PeerCredentials | null): asserts peer is PeerCredentials {
  const own = process.geteuid!();
  if (peer === null) throw new VfioError('EPERM', 'programs join through a UNIX socket');
  if (peer.uid !== own) {
    throw new VfioError('EPERM', `uid ${own} serves this machine, and uid ${peer.uid} wants to run a program on it`, {
      fix: 'Run both as the same user.',
    });
  }
  if (peer.pid === 0) {
    throw new VfioError('EPERM', 'the server cannot see the processes of this pid namespace', {
      fix: 'Serve the machine in the same one.',
    });
  }
}

/** @throws VfioError EINVAL */
function checkListener(listener: OwnedFd): void {
  const file = listener.describe();
  if (file !== LISTENER) throw new VfioError('EINVAL', `${file} is not the listener of a seccomp filter`);
}
