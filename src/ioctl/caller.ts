/** The process that makes a system call: the part that handlers may use. */
import type { InterruptSink, InterruptSource } from '../abi/device.ts';
import type { ErrnoName } from '../base/errno.ts';
import { VfioError } from '../base/errno.ts';
import type { Process } from '../engine/dma/process.ts';
import type { OpenFile } from './file-table.ts';
import type { UserMemoryWindow } from './process-memory.ts';
import type { IoctlArgument, UserBuffer } from './user-buffer.ts';

export interface Caller {
  readonly process: Process;
  readonly files: Descriptors;
  readonly memory: CallerMemory;
}

/** The descriptors of the caller. */
export interface Descriptors {
  /** @throws VfioError EBADF. A file that is not VFIO's has the kind 'null' */
  get(fd: number): OpenFile;
  /** @throws VfioError EMFILE when no descriptor is left */
  reserve(): void;
  /** Gives `file` a descriptor. @throws VfioError EMFILE; the file's owner is the caller then */
  install(file: OpenFile, closeOnExec: boolean): number;
}

/** The memory of the caller, by address. */
export interface CallerMemory {
  /** @throws VfioError EFAULT */
  copyIn(address: number | bigint, size: number): Uint8Array<ArrayBuffer>;
  /** Bytes to change in place. @throws VfioError EFAULT */
  window(address: bigint, size: number): UserMemoryWindow;
}

/** An eventfd as a device sees it: interrupts go in, and unmask requests come out. */
export type EventTarget = InterruptSink & InterruptSource;

/**
 * One request of one kind of file.
 *
 * @param user the argument as memory; every access may throw EFAULT
 * @param argument the same, for requests that take a number
 * @returns the result of ioctl: 0, or a request's own positive value
 */
export type Handler<T> = (object: T, caller: Caller, user: UserBuffer, argument: IoctlArgument) => number;

/**
 * The eventfd behind a descriptor.
 *
 * @throws VfioError EBADF when the descriptor is not open; EINVAL for another kind of file
 */
export function eventTarget(caller: Caller, fd: number): EventTarget {
  const file = caller.files.get(fd);
  if (file.body.kind === 'eventfd') return file.body.counter;
  if (file.body.kind === 'real-eventfd') return file.body.events;
  throw new VfioError('EINVAL', `descriptor ${fd} is not an eventfd but ${describeFile(file)}`);
}

/**
 * An eventfd as a source. The engine looks it up when it starts to listen, after all other checks;
 * null for a negative descriptor.
 */
export function lazySource(caller: Caller, fd: number): InterruptSource | null {
  return fd < 0 ? null : { listen: (listener) => eventTarget(caller, fd).listen(listener) };
}

export function describeFile(file: OpenFile): string {
  switch (file.body.kind) {
    case 'container':
      return 'a container';
    case 'group':
      return 'a group';
    case 'device':
    case 'cdev':
      return 'a device';
    case 'eventfd':
    case 'real-eventfd':
      return 'an eventfd';
    case 'iommufd':
      return 'an iommufd';
    case 'fault-queue':
      return 'a queue of page requests';
    case 'memory':
      return 'a file of memory';
    case 'dmabuf':
      return 'a DMA buffer';
    case 'migration':
      return "a device's data";
    case 'kvm':
      return '/dev/kvm';
    case 'vm':
      return 'a virtual machine';
    case 'vm-device':
      return 'the VFIO device of a virtual machine';
    case 'attribute':
      return 'a file of sysfs';
    case 'null':
      return 'no file of VFIO';
  }
}

/** Throw `code` when an argsz is too small for the request's first version. */
export function checkArgsz(argsz: number, minsz: number, request: string, code: ErrnoName = 'EINVAL'): void {
  if (argsz < minsz) throw new VfioError(code, `${request}: argsz is ${argsz}, at least ${minsz} are needed`);
}

/** Throw EINVAL when `flags` has bits outside `known`. */
export function checkFlags(flags: number, known: number, request: string): void {
  const unknown = (flags & ~known) >>> 0;
  if (unknown !== 0) throw new VfioError('EINVAL', `${request}: unknown flags 0x${unknown.toString(16)}`);
}
