/**
 * A program as a caller of the engine: its identity and limits, its descriptors and its memory. A
 * process is a thread group; it stays the same when it executes another program.
 */
import { Access } from '../abi/memory.ts';
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import { type MappableParts, Process } from '../engine/dma/process.ts';
import type { Caller, Descriptors } from '../ioctl/caller.ts';
import { OpenFile } from '../ioctl/file-table.ts';
import { EventFd } from '../sys/eventfd.ts';
import type { NotifiedCalls } from '../sys/notified-calls.ts';
import type { ThreadFiles } from '../sys/other-process.ts';
import type { PeerFiles } from '../sys/peer-files.ts';
import { ProcessHandle } from '../sys/process-handle.ts';
import { capabilitiesOf, readProcess, startTime } from '../sys/process-identity.ts';
import type { OpenFiles } from './open-files.ts';
import { RealMemory } from './real-memory.ts';
import { type MappedDevices, RealPages } from './real-pages.ts';

/** The parts that all programs of one machine share. */
export interface Programs {
  readonly calls: NotifiedCalls;
  readonly files: OpenFiles;
  readonly pages: PeerFiles;
  readonly devices: MappedDevices;
  /** Descriptors of ours get numbers from here on, where they are free. */
  readonly firstDescriptor: number;
  /** The parts of BARs that programs can map. */
  readonly mappable: MappableParts;
  /** Bytes that each may map, in place of its RLIMIT_MEMLOCK; undefined: that one. */
  readonly memlock: number | undefined;
}

const PAGE = 4096;
/** The numbers that are tried; then the lowest free one has to do. */
const NUMBERS_TRIED = 4096;

export class RealProcess implements Caller, Descriptors, Disposable {
  readonly process: Process;
  readonly memory: RealMemory;
  readonly pid: number;
  /** With the pid, an identity that no other process has. */
  readonly started: string;
  readonly #programs: Programs;
  readonly #handle: ProcessHandle;
  readonly #pages: RealPages;
  /** Files of the present call that are no files of VFIO. */
  readonly #borrowed: OpenFile[] = [];
  /** As `process.capabilities` has them; NaN: not read yet. */
  #capabilities = Number.NaN;
  /** Of the thread that makes the present call. */
  #thread: ThreadFiles | null = null;

  /**
   * @param ended called from the event loop once, when the process has ended
   * @throws VfioError ESRCH
   */
  constructor(pid: number, programs: Programs, ended: () => void) {
    this.pid = pid;
    this.#programs = programs;
    this.memory = new RealMemory(pid);
    this.started = startTime(pid);
    using undo = new Cleanup();
    this.#handle = undo.use(new ProcessHandle(pid));
    this.#pages = undo.use(new RealPages(this.#handle, programs.pages, programs.devices, () => this.#refresh()));
    const { name, uid, capabilities, lockedBytes, ...limits } = readProcess(pid);
    this.process = new Process({
      pid,
      uid,
      name,
      capabilities,
      memlockLimit: programs.memlock ?? limits.memlockLimit,
      lockedBytes,
      pages: this.#pages,
      mappable: programs.mappable,
    });
    undo.move();
    this.#handle.onEnd(ended);
  }

  /** The descriptors of this process are the Descriptors of the caller. */
  get files(): this {
    return this;
  }

  /** It is about to execute another program. */
  executes(): void {
    this.#pages.executes();
  }

  /** A call begins, of the thread with these files. */
  begin(thread: ThreadFiles): void {
    this.#thread = thread;
  }

  /** The call is over: the engine holds what it needs of the files of others. */
  end(): void {
    for (let file = this.#borrowed.pop(); file !== undefined; file = this.#borrowed.pop()) file.put();
  }

  get(fd: number): OpenFile {
    const thread = this.#thread!;
    if (!thread.look(fd)) throw new VfioError('EBADF', `${fd} is not an open descriptor`);
    const ours = this.#programs.files.find(thread);
    if (ours !== null) return ours;
    const file = this.#foreign(fd).get();
    this.#borrowed.push(file);
    return file;
  }

  /** `install` finds a number, and closes the file when there is none. */
  reserve(): void {}

  install(file: OpenFile, closeOnExec: boolean): number {
    return this.open(file, 2, closeOnExec);
  }

  /** As `install`, with the access mode of open(2). */
  open(file: OpenFile, flags: number, closeOnExec: boolean): number {
    const { files, calls } = this.#programs;
    return files.install(file, calls, () => this.#freeNumber(), flags, closeOnExec);
  }

  #freeNumber(): number {
    const { firstDescriptor } = this.#programs;
    const end = Math.min(firstDescriptor + NUMBERS_TRIED, this.#handle.limits().descriptors);
    for (let fd = firstDescriptor; fd < end; fd++) if (!this.#thread!.look(fd)) return fd;
    return -1;
  }

  /** A file that is not VFIO's: an eventfd, memory, or any other. */
  #foreign(fd: number): OpenFile {
    const kind = this.#thread!.describe(fd);
    if (kind === 'anon_inode:[eventfd]') {
      const events = EventFd.fromFd(this.#handle.descriptor(fd));
      return new OpenFile({ kind: 'real-eventfd', events }, () => events[Symbol.dispose]());
    }
    return this.#memory(fd) ?? new OpenFile({ kind: 'null' });
  }

  /**
   * A file of memory, whole; null for any other file. It is mapped when its bytes are asked for: a
   * file with holes may have a terabyte, and mapping that takes seconds.
   */
  #memory(fd: number): OpenFile | null {
    const file = this.#handle.descriptor(fd);
    const size = file.isMemory ? Math.floor(file.size / PAGE) * PAGE : 0;
    if (size === 0) {
      file[Symbol.dispose]();
      return null;
    }
    const { pages } = this.#programs;
    const body = {
      kind: 'memory' as const,
      get memory() {
        return pages.range(file.duplicate(), 0, size, Access.READ_WRITE).memory;
      },
    };
    return new OpenFile(body, () => file[Symbol.dispose]());
  }

  /** Limits and capabilities may have changed since. */
  #refresh(): void {
    const { memlock, capabilities } = this.#handle.limits();
    this.process.memlockLimit = this.#programs.memlock ?? memlock;
    if (capabilities === this.#capabilities) return;
    this.#capabilities = capabilities;
    this.process.capabilities.clear();
    for (const each of capabilitiesOf(BigInt(capabilities))) this.process.capabilities.add(each);
  }

  /** The process has ended. */
  [Symbol.dispose](): void {
    this.process.exit();
    this.#pages[Symbol.dispose]();
    this.#handle[Symbol.dispose]();
  }
}
