/**
 * The kernel's part towards programs: each of their system calls that the filter stops is looked
 * at here, and answered by the engine, or handed to Linux when it concerns no file of VFIO.
 */
import type { CallEvent } from '../abi/event.ts';
import { Errno, VfioError } from '../base/errno.ts';
import { textOf } from '../base/foreign.ts';
import { refusalOf } from '../events/source.ts';
import type { OpenFile } from '../ioctl/file-table.ts';
import type { Kernel } from '../ioctl/user-process.ts';
import { type NotifiedCalls, Received } from '../sys/notified-calls.ts';
import { processOfThread, ThreadFiles } from '../sys/other-process.ts';
import { PeerFiles } from '../sys/peer-files.ts';
import { startTime } from '../sys/process-identity.ts';
import { callNumbers } from './call-numbers.ts';
import { OpenFiles } from './open-files.ts';
import { type Programs, RealProcess } from './real-process.ts';
import { LATER, PROCEED, type Served } from './served.ts';
import type { SysfsTree } from './sysfs/sysfs-tree.ts';
import { serving } from './system-calls.ts';
import type { CallText } from './trace/call-text.ts';
import { type BarAccess, MappedBars } from './trap/mapped-bars.ts';

/** Threads whose descriptors stay at hand. */
const THREADS_KEPT = 256;
/** Addresses of ours that programs' files may take together. */
const MAPPED_MAX = 2 ** 45;

interface Thread {
  readonly files: ThreadFiles;
  /** Null until it makes a call that concerns VFIO. */
  of: RealProcess | null;
}

export interface SupervisorOptions {
  /** Descriptors of VFIO files get numbers from here on. */
  readonly firstDescriptor: number;
  /** Bytes that each process may map, in place of its RLIMIT_MEMLOCK. */
  readonly memlock?: number | undefined;
  /** The machine's files in /sys and /dev; null when programs see the computer's own. */
  readonly tree: SysfsTree | null;
  /** How programs reach BARs. */
  readonly bars: BarAccess;
  /** Called when files of programs were closed: a group may be free. */
  readonly closed?: () => void;
}

export class Supervisor implements Served, Disposable {
  readonly calls: NotifiedCalls;
  readonly kernel: Kernel;
  readonly tree: SysfsTree | null;
  readonly #programs: Programs;
  readonly #files: OpenFiles;
  readonly bars: MappedBars;
  readonly #pages = new PeerFiles(MAPPED_MAX);
  readonly #threads = new Map<number, Thread>();
  readonly #processes = new Map<number, RealProcess>();
  /** By number of the call. */
  readonly #serving: readonly (((supervisor: Served) => number) | undefined)[];
  #caller: RealProcess | null = null;
  #name = '';
  /** Of the present call, while there is a reader of events and the call concerns VFIO. */
  #text: CallText | null = null;
  #event = 0;
  #cause = 0;
  readonly #ended: () => void;

  /**
   * @param ended called when no program is left
   */
  constructor(calls: NotifiedCalls, kernel: Kernel, options: SupervisorOptions, ended: () => void) {
    this.calls = calls;
    this.kernel = kernel;
    this.tree = options.tree;
    this.#ended = ended;
    this.#files = new OpenFiles((file) => this.bars.closed(file), options.closed ?? (() => {}));
    this.bars = new MappedBars(this.#files, {
      polled: options.bars === 'poll',
      report: (line) => kernel.context.events.note('error', 'exec-trap', line),
    });
    this.#programs = {
      calls,
      files: this.#files,
      pages: this.#pages,
      devices: this.bars,
      firstDescriptor: options.firstDescriptor,
      mappable: options.bars === 'rw' ? 'none' : 'all',
      memlock: options.memlock,
    };
    const { numbers } = callNumbers[process.arch]!;
    const table: (((supervisor: Served) => number) | undefined)[] = [];
    for (const { call, serve } of serving) {
      if (numbers[call] < 0) continue;
      table[numbers[call]] = (supervisor) => {
        this.#name = call;
        return serve(supervisor);
      };
    }
    this.#serving = table;
    calls.listen(() => this.#serve());
  }

  /** Open files of VFIO, in all programs. */
  get openFiles(): number {
    return this.#files.size;
  }

  #serve(): boolean {
    const received = this.calls.receive(this.#files.standIns);
    if (received === Received.CALL) this.#answer();
    if (received !== Received.END) return true;
    this.#ended();
    return false;
  }

  #answer(): void {
    const serve = this.#serving[this.calls.number];
    const result = serve === undefined ? PROCEED : this.#carryOut(serve);
    this.#caller?.end();
    this.#caller = null;
    if (result === PROCEED) this.calls.proceed();
    else if (result !== LATER) this.calls.answer(result);
  }

  #carryOut(serve: (supervisor: Served) => number): number {
    try {
      const result = serve(this);
      // Linux picks the address of a mapping that the engine agrees to.
      if (this.#text !== null) this.#report(result === LATER || result === PROCEED ? {} : { result });
      return result;
    } catch (error) {
      if (this.#text !== null) this.#report(refusalOf(error));
      if (!(error instanceof VfioError)) return this.#bug(error);
      if (this.#caller !== null) this.kernel.refused(this.#caller.process, this.#name, error);
      return error.errno;
    } finally {
      this.#pages.settle();
      this.#pages.unused();
    }
  }

  get traced(): boolean {
    return this.kernel.context.events.on;
  }

  begin(step: string, text: CallText | null): void {
    const { events, faults } = this.kernel.context;
    if (text !== null) {
      this.#text = text;
      this.#event = events.begin('call');
      this.#cause = events.cause;
      events.cause = this.#event;
    }
    faults.step(step);
  }

  /** The present call is over, or waits. */
  #report(end: Pick<CallEvent, 'result' | 'errno' | 'reason'>): void {
    const { events } = this.kernel.context;
    const text = this.#text!;
    this.#text = null;
    events.cause = this.#cause;
    const args = end.result === undefined || end.result < 0 ? text.args : text.after();
    events.end(this.#event, 'call', { pid: this.#caller?.pid ?? this.calls.thread, call: this.#name, args, ...end });
  }

  later(result: Promise<number>): number {
    const answer = this.calls.postpone();
    const { process } = this.caller;
    const name = this.#name;
    const args = this.#text?.args ?? null;
    const ended = (end: Pick<CallEvent, 'result' | 'errno' | 'reason'>) => {
      if (args !== null) this.kernel.context.events.emit('call', { pid: process.pid, call: name, args, ...end });
    };
    const done = (value: number) => {
      ended({ result: value });
      answer(value);
    };
    result.then(done, (error: unknown) => {
      ended(refusalOf(error));
      if (!(error instanceof VfioError)) return answer(this.#bug(error));
      this.kernel.refused(process, name, error);
      answer(error.errno);
    });
    return LATER;
  }

  #bug(error: unknown): number {
    const story = textOf(error);
    this.kernel.context.events.note('error', `exec-bug-${this.#name}`, `bug behind ${this.#name} of thread ${this.calls.thread}: ${story}`);
    return -Errno.EIO;
  }

  /**
   * The open file of VFIO behind a descriptor of the caller; null: none, none of VFIO's, or that of
   * a program that is closed to this user, whose calls are Linux's.
   */
  file(fd: number): OpenFile | null {
    const known = this.#threads.get(this.calls.thread);
    if (known?.files.look(fd)) return this.#found(known);
    // Not open, or the thread with that number was another one.
    try {
      const thread = this.#thread();
      return thread.files.look(fd) ? this.#found(thread) : null;
    } catch (error) {
      if (error instanceof VfioError && error.code === 'EPERM') return null;
      throw error;
    }
  }

  #found(thread: Thread): OpenFile | null {
    const file = this.#files.find(thread.files);
    if (file !== null) this.#enter(thread);
    return file;
  }

  #enter(thread: Thread): RealProcess {
    thread.of ??= this.#process(processOfThread(this.calls.thread));
    thread.of.begin(thread.files);
    this.#caller = thread.of;
    return thread.of;
  }

  /** The process that makes the call. @throws VfioError ESRCH */
  get caller(): RealProcess {
    return this.#caller ?? this.#enter(this.#thread());
  }

  fileOf(thread: number, fd: number): OpenFile | null {
    try {
      using files = ThreadFiles.of(thread);
      return files.look(fd) ? this.#files.find(files) : null;
    } catch (error) {
      // There is no such thread.
      if (error instanceof VfioError) return null;
      throw error;
    }
  }

  executes(): void {
    if (this.#processes.size > 0) this.#processes.get(processOfThread(this.calls.thread))?.executes();
  }

  #thread(): Thread {
    const number = this.calls.thread;
    this.#forget(number);
    if (this.#threads.size >= THREADS_KEPT) {
      const [oldest] = this.#threads.keys();
      this.#forget(oldest!);
    }
    const thread: Thread = { files: ThreadFiles.of(number), of: null };
    this.#threads.set(number, thread);
    return thread;
  }

  #forget(thread: number): void {
    this.#threads.get(thread)?.files[Symbol.dispose]();
    this.#threads.delete(thread);
  }

  #process(pid: number): RealProcess {
    const known = this.#processes.get(pid);
    if (known !== undefined && known.started === startTime(pid)) return known;
    known?.[Symbol.dispose]();
    const made = new RealProcess(pid, this.#programs, () => this.#exited(made));
    this.#processes.set(pid, made);
    return made;
  }

  #exited(process: RealProcess): void {
    if (this.#processes.get(process.pid) === process) this.#processes.delete(process.pid);
    this.#files.drain();
    process[Symbol.dispose]();
  }

  /** All programs are gone, or lose their kernel. */
  [Symbol.dispose](): void {
    this.calls[Symbol.dispose]();
    for (const thread of [...this.#threads.keys()]) this.#forget(thread);
    this.bars[Symbol.dispose]();
    this.#files[Symbol.dispose]();
    for (const process of this.#processes.values()) process[Symbol.dispose]();
    this.#processes.clear();
    this.#pages[Symbol.dispose]();
  }
}
