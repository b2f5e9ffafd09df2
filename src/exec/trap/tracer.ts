/**
 * True MMIO for programs that map registers: the pages of the device's file lie behind its end, so
 * that each access raises SIGBUS. The thread stops before the signal, the tracer carries out the
 * instruction on the device, and the thread goes on behind it.
 *
 * A tracer is the thread that seizes (ptrace(2)), and that is the thread of the engine: a stop then
 * needs no hand-over between threads. A process is traced from its first mapping of registers on,
 * with all its threads and its children, until it execs or no device has mappings. All other
 * signals and stops pass unchanged. When this process ends, Linux detaches all: the programs go on,
 * and their accesses raise SIGBUS.
 *
 * Programs must not be children that libuv waits for: its waitpid takes a stop for the end.
 *
 * @see linux/kernel/ptrace.c, linux/kernel/signal.c (ptrace_stop)
 */
import { errnoName, VfioError } from '../../base/errno.ts';
import { commandOf, isOwnThread, readTask, threadsOf, tracerOf } from '../../sys/task-status.ts';
import { checked, type TraceCalls, traceCalls } from '../../sys/trace.ts';
import type { MappedFiles } from './device-memory.ts';
import { type Call, InjectedCalls, type Stops } from './injected-calls.ts';
import { Change, Event, Option, Request, Siginfo, Signal, SYSCALL_STOP, Wait } from './ptrace.ts';
import { StoppedThread } from './stopped-thread.ts';
import { TracedProcess } from './traced-process.ts';

const OPTIONS = Option.TRACESYSGOOD | Option.TRACEFORK | Option.TRACEVFORK | Option.TRACECLONE | Option.TRACEEXEC;
/** Rounds over /proc/PID/task: a process that makes threads all the time is given up. */
const ROUNDS_MAX = 1000;
/** In one turn of the event loop. */
const STOPS_MAX = 64;
const TURN_MS = 1;
/** A child of others is waited for within milliseconds. */
const RETRY_MS = 2;
const ESRCH = -3;

/** The stop that a taker waits for: the one that `interrupt` causes, or one at a system call. */
type Awaited = 'trap' | 'call';

interface Traced {
  readonly process: TracedProcess;
  /** Has the thread's next stop of the kind `awaited`; null: none. */
  taker: (() => void) | null;
  awaited: Awaited;
  /** Its system calls are the tracer's. */
  injecting: boolean;
}

export interface TracerOptions {
  readonly files: MappedFiles;
  /** A line for people: an instruction that is not emulated. */
  readonly report: (line: string) => void;
}

export class Tracer implements Stops, Disposable {
  readonly #sys: TraceCalls = traceCalls();
  readonly #files: MappedFiles;
  readonly #processes = new Map<number, TracedProcess>();
  readonly #threads = new Map<number, Traced>();
  readonly #report: (line: string) => void;
  readonly #thread: StoppedThread;
  /** pid, code, status */
  readonly #change = new Int32Array(3);
  readonly #message = new Uint8Array(Siginfo.BYTES);
  readonly #messageView = new DataView(this.#message.buffer);
  #watching = 0;
  #latest = 0;
  /** Stops that this turn of the event loop may still serve. */
  #left = STOPS_MAX;
  #until = 0;
  #turn: NodeJS.Immediate | null = null;
  #retry: NodeJS.Timeout | null = null;

  constructor({ files, report }: TracerOptions) {
    this.#files = files;
    this.#report = report;
    this.#thread = new StoppedThread(this.#sys, report);
  }

  /** Processes that are traced now. */
  get processes(): number {
    return this.#processes.size;
  }

  /**
   * Trace all threads of process `pid`, and its children from now on. The mappings of a process
   * that is traced already are looked up anew.
   *
   * @throws VfioError EPERM when Linux does not let us: another tracer is there, or rights lack
   */
  seize(pid: number): void {
    const known = this.#processes.get(pid);
    if (known !== undefined) {
      known.memory.forget();
      if (!known.leaving) return;
      known.leaving = false;
      this.#seizeAll(known);
      return;
    }
    this.#watch();
    const process = this.#adoptProcess(pid);
    try {
      this.#seizeAll(process);
    } catch (error) {
      this.#leave(process);
      // A program seldom says more than the errno.
      if (error instanceof VfioError) this.#report(error.fix === undefined ? error.message : `${error.message}. ${error.fix}`);
      throw error;
    }
  }

  #seizeAll(process: TracedProcess): void {
    // A thread that is not traced yet can make another one meanwhile.
    for (let round = 0; round < ROUNDS_MAX; round++) {
      let found = false;
      for (const tid of threadsOf(process.pid)) {
        if (this.#threads.has(tid)) continue;
        const result = this.#sys.ptrace(Request.SEIZE, tid, 0, OPTIONS);
        if (result === ESRCH) continue;
        // A traced thread made it, and so it is traced already.
        if (result < 0 && !this.#isOurs(tid)) throw this.#refused(process.pid, result);
        this.#threads.set(tid, { process, taker: null, awaited: 'trap', injecting: false });
        found = true;
      }
      if (!found) return;
    }
    throw new VfioError('EAGAIN', `process ${process.pid} makes new threads faster than they can be traced`);
  }

  #isOurs(tid: number): boolean {
    return isOwnThread(tracerOf(tid));
  }

  #refused(pid: number, result: number): VfioError {
    const tracer = tracerOf(pid);
    if (tracer > 0) {
      return new VfioError(
        'EPERM',
        `process ${pid} maps registers of a device, and process ${tracer} (${commandOf(tracer)}) traces it already`,
        {
          fix: 'Trap mode needs ptrace for itself: run the program without the tracer, or use "--bars rw".',
        },
      );
    }
    const errno = errnoName(result) ?? `errno ${-result}`;
    return new VfioError('EPERM', `process ${pid} maps registers of a device, and Linux does not let this process trace it (${errno})`, {
      fix: 'Allow ptrace (/proc/sys/kernel/yama/ptrace_scope below 3, no seccomp rule of a container against it), or use "--bars rw".',
    });
  }

  /**
   * System calls in place of the present one of thread `tid`, which waits for an answer: the thread
   * makes them once it is answered.
   *
   * @param next as `InjectedCalls.begin`
   * @throws VfioError ESRCH when the thread has ended
   */
  inject(tid: number, next: (result: number) => Call | null, result: () => number): void {
    const thread = this.#threads.get(tid);
    if (thread === undefined || this.#sys.ptrace(Request.INTERRUPT, tid, 0, 0) < 0)
      throw new VfioError('ESRCH', `thread ${tid} cannot be stopped: it has ended, or is not traced`);
    const calls = new InjectedCalls(this.#sys, this, tid);
    thread.injecting = true;
    thread.awaited = 'trap';
    thread.taker = () => calls.begin(next, result);
  }

  /** Whether the system calls of thread `tid` are those of `inject`. */
  isInjecting(tid: number): boolean {
    return this.#threads.get(tid)?.injecting === true;
  }

  toCall(tid: number, taker: () => void): void {
    const thread = this.#threads.get(tid);
    if (thread === undefined) return;
    thread.awaited = 'call';
    thread.taker = taker;
    this.#sys.ptrace(Request.SYSCALL, tid, 0, 0);
  }

  cont(tid: number): void {
    const thread = this.#threads.get(tid);
    if (thread !== undefined) thread.injecting = false;
    this.#sys.ptrace(Request.CONT, tid, 0, 0);
  }

  /**
   * Devices' files changed: processes that have none mapped any more are not traced further.
   *
   * @param pid of the one that may have changed. Default: all
   */
  release(pid?: number): void {
    for (const process of this.#processes.values()) {
      if (pid !== undefined && process.pid !== pid) continue;
      process.memory.forget();
      if (!process.memory.mapsDevices) this.#leave(process);
    }
  }

  [Symbol.dispose](): void {
    for (const process of this.#processes.values()) this.#leave(process);
    // The rest follows at the threads' next stops.
    if (this.#threads.size === 0) this.#unwatch();
  }

  /** A thread can be detached where it is stopped only. */
  #leave(process: TracedProcess): void {
    process.leaving = true;
    for (const [tid, thread] of this.#threads) {
      if (thread.process === process && this.#sys.ptrace(Request.INTERRUPT, tid, 0, 0) === ESRCH) this.#ended(tid);
    }
    if (!this.#hasThreads(process)) this.#forget(process);
  }

  #forget(process: TracedProcess): void {
    this.#processes.delete(process.pid);
    process.memory[Symbol.dispose]();
  }

  #hasThreads(process: TracedProcess): boolean {
    for (const thread of this.#threads.values()) if (thread.process === process) return true;
    return false;
  }

  #watch(): void {
    if (this.#watching === 0)
      this.#watching = checked(
        this.#sys.childWatch(() => this.#changes()),
        'watching for stops of programs',
      );
  }

  #unwatch(): void {
    if (this.#watching > 0) this.#sys.childUnwatch(this.#watching);
    this.#watching = 0;
  }

  #adoptProcess(pid: number): TracedProcess {
    const process = new TracedProcess(pid, this.#files, this.#sys);
    this.#processes.set(pid, process);
    return process;
  }

  /** SIGCHLD: look what has stopped or ended. */
  #changes(): void {
    // Signals can come faster than the event loop's other work.
    if (this.#left <= 0) return;
    if (this.#turn === null) this.#until = performance.now() + TURN_MS;
    // Most often the thread that accessed registers last, at its next access.
    if (this.#threads.has(this.#latest)) this.#take(this.#latest, true);
    while (this.#left > 0 && this.#look(Wait.P_ALL, 0)) {
      if (this.#changed(this.#change[0]!)) continue;
      // A child that is not ours to watch stands before ours, until its parent has waited for it.
      // Threads that were never seen may be behind it.
      for (const tid of [...this.#threads.keys()]) if (this.#look(Wait.P_PID, tid)) this.#changed(tid);
      this.#retry ??= setTimeout(() => {
        this.#retry = null;
        this.#changes();
      }, RETRY_MS);
      return;
    }
    if (this.#threads.size === 0) this.#unwatch();
  }

  /** A stop was served. Stops over the limit wait for the next turn of the event loop. */
  #spend(): void {
    this.#left--;
    // Where other programs have the processor, a stop takes long.
    if (performance.now() > this.#until) this.#left = 0;
    if (this.#left > STOPS_MAX / 2) return;
    this.#turn ??= setImmediate(() => {
      this.#turn = null;
      this.#left = STOPS_MAX;
      this.#changes();
    });
  }

  /**
   * Whether something has happened; `#change` says what. It is taken later: Linux reports stops of
   * tracees also to those who ask for ends only.
   */
  #look(which: number, id: number): boolean {
    return this.#sys.waitid(which, id, Wait.STOPPED | Wait.EXITED | Wait.NOWAIT | Wait.ALL | Wait.NOTHREAD, this.#change) === 1;
  }

  /** @returns false: it is no thread of ours */
  #changed(tid: number): boolean {
    return this.#change[1]! < Change.TRAPPED ? this.#reap(tid) : this.#take(tid, true);
  }

  /**
   * Take the stops of thread `tid` as long as more come at once, and other work can wait.
   * @returns false: it is no thread of ours
   */
  #take(tid: number, spins: boolean): boolean {
    const change = this.#change;
    const thread = this.#known(tid);
    if (thread === null) return false;
    this.#latest = tid;
    while (this.#sys.waitid(Wait.P_PID, tid, Wait.STOPPED | Wait.ALL, change, spins) === 1) {
      this.#spend();
      if (!this.#stop(tid, thread, change[2]!) || this.#left <= 0) break;
    }
    return true;
  }

  /** Null: it is no thread of ours. A new one may stop or end before the event of its maker. */
  #known(tid: number): Traced | null {
    return this.#threads.get(tid) ?? (this.#isOurs(tid) ? this.#adopt(tid) : null);
  }

  #adopt(tid: number): Traced {
    const { group } = readTask(tid);
    const process = this.#processes.get(group) ?? this.#adoptProcess(group);
    const thread: Traced = { process, taker: null, awaited: 'trap', injecting: false };
    this.#threads.set(tid, thread);
    return thread;
  }

  /** @returns whether the next stop may follow at once: the thread accesses registers */
  #stop(tid: number, thread: Traced, status: number): boolean {
    const event = status >> 8;
    const signal = status & 0xff;
    if (event === Event.NONE && signal !== SYSCALL_STOP) return this.#signalled(tid, thread, signal);
    if (event === Event.STOP && signal !== Signal.TRAP) this.#groupStopped(tid, thread);
    else if (event === Event.NONE || event === Event.STOP) this.#stopped(tid, thread, event === Event.NONE ? 'call' : 'trap');
    else this.#happened(tid, thread, event);
    return false;
  }

  /** As SIGSTOP does it: the thread stays stopped, traced or not. */
  #groupStopped(tid: number, { process, taker }: Traced): void {
    if (process.leaving && taker === null) this.#detach(tid, 0);
    else this.#sys.ptrace(Request.LISTEN, tid, 0, 0);
  }

  /** Before a signal is delivered. */
  #signalled(tid: number, { process, taker }: Traced, signal: number): boolean {
    if (process.leaving && taker === null) {
      this.#detach(tid, signal);
      return false;
    }
    if (signal === Signal.BUS) return this.#thread.fault(tid, process);
    this.#sys.ptrace(taker !== null && this.#threads.get(tid)!.awaited === 'call' ? Request.SYSCALL : Request.CONT, tid, 0, signal);
    return false;
  }

  #stopped(tid: number, thread: Traced, kind: Awaited): void {
    const { process, taker, awaited } = thread;
    if (taker !== null && awaited === kind) {
      thread.taker = null;
      taker();
    } else if (taker !== null) this.#sys.ptrace(awaited === 'call' ? Request.SYSCALL : Request.CONT, tid, 0, 0);
    else if (process.leaving) this.#detach(tid, 0);
    else this.#sys.ptrace(Request.CONT, tid, 0, 0);
  }

  #happened(tid: number, { process }: Traced, event: number): void {
    if (event === Event.EXEC) {
      this.#execed(tid, process);
      return;
    }
    // A new thread or child; it may have been seen already, and may be gone.
    if (event <= Event.CLONE && this.#sys.ptraceBytes(Request.GETEVENTMSG, tid, 0, this.#message) === 0) {
      const made = this.#messageView.getUint32(0, true);
      if (!this.#threads.has(made) && this.#isOurs(made)) this.#adopt(made);
    }
    this.#sys.ptrace(Request.CONT, tid, 0, 0);
  }

  #detach(tid: number, signal: number): void {
    this.#sys.ptrace(Request.DETACH, tid, 0, signal);
    this.#ended(tid);
  }

  /** The process has a new image, without mappings, and one thread. */
  #execed(tid: number, process: TracedProcess): void {
    for (const [each, thread] of this.#threads) if (thread.process === process && each !== tid) this.#threads.delete(each);
    this.#detach(tid, 0);
  }

  /** @returns false: it is no thread of ours */
  #reap(tid: number): boolean {
    const thread = this.#known(tid);
    if (thread === null) return false;
    // Its parent waits for a child of this process.
    const keep = tid === thread.process.pid && readTask(tid).parent === globalThis.process.pid ? Wait.NOWAIT : 0;
    const found = this.#sys.waitid(Wait.P_PID, tid, Wait.EXITED | Wait.ALL | keep, this.#change);
    if (found !== 1) return false;
    this.#ended(tid);
    return keep === 0;
  }

  #ended(tid: number): void {
    const thread = this.#threads.get(tid);
    if (thread === undefined) return;
    this.#threads.delete(tid);
    if (!this.#hasThreads(thread.process)) this.#forget(thread.process);
  }
}
