/**
 * One process as the kernel serves it: descriptors, system calls, loads and stores. Each call
 * returns what a system call returns, a number that is 0 or more, or a negative errno; none throws.
 * An error of the engine that is not a `VfioError` is our bug: the door logs it with its stack and
 * returns -EIO.
 *
 * Calls never wait. A read of an eventfd whose count is 0 is EAGAIN, blocking or not; poll reports
 * the events that are ready now.
 */
import { Errno, VfioError } from '../base/errno.ts';
import { textOf } from '../base/foreign.ts';
import type { Process } from '../engine/dma/process.ts';
import type { FaultPlan } from '../engine/fault-plan.ts';
import type { EventSource } from '../events/source.ts';
import type { Caller } from './caller.ts';
import { EventCounter } from './event-counter.ts';
import { FileTable, OpenFile } from './file-table.ts';
import { EfdFlags, FD_CLOEXEC, MapFlags, OpenFlags, PollEvents, Prot } from './posix.ts';
import { type AccessWidth, ProcessMemory, type Signal } from './process-memory.ts';
import { checkOffset, ioctlOf, mapOf, preadOf, pwriteOf, readOf, type UserMemory, writeOf } from './system-calls.ts';
import { ByteBuffer, type IoctlArgument } from './user-buffer.ts';

/** The kernel behind a process; `KernelDoor` is one. */
export interface Kernel {
  readonly context: { readonly events: EventSource; readonly faults: FaultPlan };
  /** open(2) of a path. @throws VfioError ENOENT; the errno of the file's own open */
  openPath(path: string, process: Process, access: number): OpenFile;
  /** Called for every errno that goes back to a process. */
  refused(process: Process, call: string, error: VfioError): void;
}

/** One descriptor of a poll, and the events that the caller wants. */
export interface PollRequest {
  readonly fd: number;
  /** `PollEvents` */
  readonly events: number;
}

const DESCRIPTOR_LIMIT = 1024;
const O_ACCMODE_MAX = OpenFlags.O_RDWR;
const EFD_KNOWN = EfdFlags.SEMAPHORE | EfdFlags.NONBLOCK | EfdFlags.CLOEXEC;
const U32_MAX = 0xffff_ffff;

/** A process at the ioctl door. Calls return the result of the system call, or -errno. */
export class UserProcess implements Caller, Disposable {
  readonly process: Process;
  readonly files: FileTable;
  readonly memory: ProcessMemory;
  readonly #door: Kernel;
  readonly #atExit: Disposable;

  /**
   * Made by `KernelDoor.process` and `fork`. Descriptors 0, 1 and 2 are open, as a shell leaves
   * them; they are /dev/null.
   */
  constructor(door: Kernel, process: Process, descriptorLimit = DESCRIPTOR_LIMIT, parent: UserProcess | null = null) {
    this.#door = door;
    this.process = process;
    this.memory = parent?.memory.fork(process) ?? new ProcessMemory(process);
    this.files = parent?.files.fork() ?? new FileTable(descriptorLimit);
    this.#atExit = process.onExit(() => this.#closeAll());
    if (parent !== null) return;
    const console = new OpenFile({ kind: 'null' });
    for (let fd = 0; fd < 3; fd++) this.files.install(console, false);
  }

  /**
   * fork(2): a child with the same descriptors and a copy of the memory. Shared memory and mapped
   * BARs are the same in both. Mappings for DMA stay the parent's.
   *
   * @param pid the child's process id
   * @throws VfioError ENOMEM
   */
  fork(pid: number): UserProcess {
    return new UserProcess(this.#door, this.process.fork(pid), DESCRIPTOR_LIMIT, this);
  }

  /**
   * Opens `/dev/vfio/vfio`, `/dev/vfio/N`, `/dev/iommu`, `/dev/vfio/devices/vfioN`, `/dev/kvm`
   * where there is a hypervisor, or `/dev/null`. ENOENT for any other path. A group has a node
   * while vfio drives one of its devices.
   */
  open(path: string | number, flags: number = OpenFlags.O_RDWR): number {
    return this.#call('open', () => {
      if (typeof path !== 'string') throw new VfioError('EFAULT', 'the path is not in mapped memory');
      if ((flags & OpenFlags.O_ACCMODE) > O_ACCMODE_MAX) throw new VfioError('EINVAL', `open: access mode ${flags & OpenFlags.O_ACCMODE}`);
      this.files.reserve();
      return this.files.install(this.#door.openPath(path, this.process, flags & OpenFlags.O_ACCMODE), (flags & OpenFlags.O_CLOEXEC) !== 0);
    });
  }

  /**
   * eventfd2(2): a descriptor of a counter that begins at `initial`, 32 bits. -EINVAL for
   * EFD_SEMAPHORE and for unknown flags.
   */
  eventfd(initial = 0, flags: number = EfdFlags.CLOEXEC): number {
    return this.#call('eventfd', () => {
      if (!Number.isInteger(initial) || initial < 0 || initial > U32_MAX)
        throw new VfioError('EINVAL', `eventfd: initial count ${initial}`);
      if ((flags & ~EFD_KNOWN) !== 0) throw new VfioError('EINVAL', `eventfd: flags 0x${flags.toString(16)}`);
      if ((flags & EfdFlags.SEMAPHORE) !== 0) throw new VfioError('EINVAL', 'eventfd: no semaphores here');
      const counter = new EventCounter(initial);
      return this.files.install(new OpenFile({ kind: 'eventfd', counter }, () => counter.hangUp()), (flags & EfdFlags.CLOEXEC) !== 0);
    });
  }

  /**
   * memfd_create(2) and ftruncate(2): a descriptor of a file of `bytes` zeroes, rounded up to whole
   * pages, which `mmap` takes and which IOAS_MAP_FILE maps for devices.
   */
  memfd(bytes: number): number {
    return this.#call('memfd_create', () => {
      this.files.reserve();
      const memory = this.process.allocate(bytes);
      return this.files.install(new OpenFile({ kind: 'memory', memory }, () => memory[Symbol.dispose]()), false);
    });
  }

  /** close(2): 0, or -EBADF. */
  close(fd: number): number {
    return this.#call('close', () => {
      this.files.close(fd);
      return 0;
    });
  }

  /** dup(2): a second descriptor of the same open file; -EBADF, or -EMFILE at the limit. */
  dup(fd: number): number {
    return this.#call('dup', () => this.files.install(this.files.get(fd), false));
  }

  /** fcntl(F_GETFD). */
  getFd(fd: number): number {
    return this.#call('fcntl', () => (this.files.closesOnExec(fd) ? FD_CLOEXEC : 0));
  }

  /**
   * Give another process a descriptor for the same open file, as SCM_RIGHTS does. Returns the
   * number that it has there. The file lives until its last descriptor is closed, in any process.
   */
  sendFd(fd: number, to: UserProcess): number {
    return this.#call('sendmsg', () => to.files.install(this.files.get(fd), false));
  }

  /**
   * ioctl(2). `argument` is a number, or the bytes that the pointer points to, which the call may
   * change. -EBADF; -ENOTTY for a request that the file does not know; else the errno of
   * linux/vfio.h.
   */
  ioctl(fd: number, request: number, argument: IoctlArgument = 0): number {
    return this.#call('ioctl', () => {
      return ioctlOf(this.files.get(fd), request, this, new ByteBuffer(argument), argument);
    });
  }

  /** From the file's own position, which it moves. */
  read(fd: number, into: UserMemory, count: number = lengthOf(into)): number {
    return this.#call('read', () => readOf(this.files.get(fd), into, count));
  }

  /** write(2) at the file's own position, which the call moves. Bytes written, or -errno. */
  write(fd: number, from: UserMemory, count: number = lengthOf(from)): number {
    return this.#call('write', () => writeOf(this.files.get(fd), from, count));
  }

  /**
   * pread(2). Bytes read, or -errno: -ESPIPE for an eventfd and a migration stream.
   *
   * @param offset in the file: region index << 40, plus the offset in the region
   */
  pread(fd: number, into: UserMemory, offset: number | bigint, count: number = lengthOf(into)): number {
    return this.#call('pread', () => preadOf(this.files.get(fd), into, offset, count));
  }

  /** pwrite(2). Bytes written, or -errno; `offset` as in pread. */
  pwrite(fd: number, from: UserMemory, offset: number | bigint, count: number = lengthOf(from)): number {
    return this.#call('pwrite', () => pwriteOf(this.files.get(fd), from, offset, count));
  }

  /**
   * The address of the mapping. Anonymous memory with `MapFlags.ANONYMOUS`; `offset` as in pread.
   */
  mmap(length: number, prot: number, flags: number, fd = -1, offset: number | bigint = 0): number {
    return this.#call('mmap', () => {
      const page = this.process.pageSize;
      const type = flags & MapFlags.TYPE_MASK;
      const at = checkOffset(offset);
      if (!Number.isSafeInteger(length) || length <= 0) throw new VfioError('EINVAL', `mmap: length ${length}`);
      if (at % page !== 0) throw new VfioError('EINVAL', `mmap: offset ${at} is not a multiple of the page size ${page}`);
      if ((prot & ~(Prot.READ | Prot.WRITE)) !== 0) throw new VfioError('EINVAL', `mmap: protection ${prot}`);
      if (type !== MapFlags.SHARED && type !== MapFlags.PRIVATE && type !== MapFlags.SHARED_VALIDATE) {
        throw new VfioError('EINVAL', 'mmap: neither MAP_SHARED nor MAP_PRIVATE');
      }
      if ((flags & MapFlags.ANONYMOUS) !== 0) {
        return this.memory.mapAnonymous(length, (prot & 3) as 0 | 1 | 2 | 3, type !== MapFlags.PRIVATE);
      }
      const { body } = this.files.get(fd);
      if (body.kind === 'memory' && type !== MapFlags.PRIVATE)
        return this.memory.mapFile(body.memory, at, length, (prot & 3) as 0 | 1 | 2 | 3);
      const mapping = mapOf(this.files.get(fd), at, Math.ceil(length / page) * page, prot, type !== MapFlags.PRIVATE);
      return this.memory.mapRegion(mapping, (prot & 3) as 0 | 1 | 2 | 3);
    });
  }

  /** Whole mappings only. */
  munmap(address: number, length: number): number {
    return this.#call('munmap', () => {
      this.memory.unmap(address, length);
      return 0;
    });
  }

  /** A load instruction: the value (a bigint for 8 bytes), or the signal it ends in. */
  load(address: number, width: AccessWidth): number | bigint | Signal {
    return this.#access(() => this.memory.load(address, width));
  }

  /** A store instruction: 0, or the signal it ends in. */
  store(address: number, width: AccessWidth, value: number | bigint): 0 | Signal {
    return this.#access(() => this.memory.store(address, width, value));
  }

  /**
   * The events that are ready now: how many of `requests` have some, and the events of each. Never
   * waits.
   */
  poll(requests: readonly PollRequest[]): { readonly ready: number; readonly events: readonly number[] } {
    const events = requests.map(({ fd, events: wanted }) => {
      try {
        return wanted & this.#readiness(fd);
      } catch {
        return PollEvents.NVAL;
      }
    });
    return { ready: events.filter((e) => e !== 0).length, events };
  }

  /** The process ends: mappings and descriptors go, in that order. Idempotent. */
  exit(): void {
    this.process.exit();
  }

  /** The same as `exit`. */
  [Symbol.dispose](): void {
    this.exit();
  }

  #readiness(fd: number): number {
    const { body } = this.files.get(fd);
    if (body.kind === 'fault-queue') return PollEvents.OUT;
    if (body.kind !== 'eventfd') return PollEvents.IN | PollEvents.OUT;
    return (body.counter.readable ? PollEvents.IN : 0) | PollEvents.OUT;
  }

  #closeAll(): void {
    this.#atExit[Symbol.dispose]();
    this.#guard('exit', () => this.memory.clear());
    for (const fd of [...this.files.open].reverse()) this.#guard('exit', () => this.files.close(fd));
  }

  #guard(name: string, step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#bug(name, error);
    }
  }

  #call(name: string, call: () => number): number {
    try {
      return call();
    } catch (error) {
      if (error instanceof VfioError) {
        this.#door.refused(this.process, name, error);
        return error.errno;
      }
      this.#bug(name, error);
      return -Errno.EIO;
    }
  }

  /**
   * An error of a mapped register's device file that is not a bus error is our bug too; the program
   * would see a machine check.
   */
  #access<T>(access: () => T): T | 'SIGBUS' {
    try {
      return access();
    } catch (error) {
      this.#bug('access', error);
      return 'SIGBUS';
    }
  }

  #bug(name: string, error: unknown): void {
    const story = textOf(error);
    this.#door.context.events.note('error', `ioctl-door-bug-${name}`, `bug behind ${name} of process ${this.process.pid}: ${story}`);
  }
}

function lengthOf(memory: UserMemory): number {
  return typeof memory === 'number' ? 0 : memory.length;
}
