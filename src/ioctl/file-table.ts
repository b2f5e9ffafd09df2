/**
 * Open files and the table of descriptors that name them, as one process has them.
 *
 * @see open(2), dup(2): the lowest free number; linux/fs/file.c
 */
import type { DmaBuf, InterruptSink, InterruptSource, MigrationStream } from '../abi/device.ts';
import type { DirectMemory } from '../abi/memory.ts';
import { VfioError } from '../base/errno.ts';
import type { DeviceFile } from '../engine/device/device-file.ts';
import type { Container } from '../engine/dma/container.ts';
import type { FaultQueue } from '../engine/iommufd/fault-queue.ts';
import type { Iommufd } from '../engine/iommufd/iommufd.ts';
import type { CdevFile } from '../engine/machine/cdev-file.ts';
import type { GroupFile } from '../engine/machine/group-file.ts';
import type { VfioFileSet } from '../engine/vm/vfio-file-set.ts';
import type { VmProvider } from '../engine/vm/vm-provider.ts';
import type { EventCounter } from './event-counter.ts';
import { OpenFlags } from './posix.ts';
import type { VirtualMachine } from './virtual-machine.ts';

export type FileBody =
  | { readonly kind: 'container'; readonly container: Container }
  | { readonly kind: 'group'; readonly group: GroupFile }
  | { readonly kind: 'device'; readonly device: DeviceFile }
  /** /dev/vfio/devices/vfioN. */
  | { readonly kind: 'cdev'; readonly cdev: CdevFile }
  | { readonly kind: 'eventfd'; readonly counter: EventCounter }
  /** An eventfd of Linux, which its process reads and writes without us. */
  | { readonly kind: 'real-eventfd'; readonly events: InterruptSink & InterruptSource }
  /** /dev/iommu. */
  | { readonly kind: 'iommufd'; readonly iommufd: Iommufd }
  /** The page requests of an iommufd. */
  | { readonly kind: 'fault-queue'; readonly queue: FaultQueue }
  /** A memfd, or a file of tmpfs. */
  | { readonly kind: 'memory'; readonly memory: DirectMemory }
  /** Ranges of a BAR, from FEATURE DMA_BUF. */
  | { readonly kind: 'dmabuf'; readonly buffer: DmaBuf }
  /** The data of a device that is moved, from a set of MIG_DEVICE_STATE. */
  | { readonly kind: 'migration'; readonly stream: MigrationStream }
  /** /dev/kvm, a virtual machine, and its device that lists VFIO files. */
  | { readonly kind: 'kvm'; readonly provider: VmProvider }
  | { readonly kind: 'vm'; readonly vm: VirtualMachine }
  | { readonly kind: 'vm-device'; readonly set: VfioFileSet }
  /** A file of sysfs, which a real process has open. */
  | { readonly kind: 'attribute'; readonly attribute: AttributeFile }
  /** A file of another kind: /dev/null. */
  | { readonly kind: 'null' };

/** A file of sysfs: a value, or `config`. */
export interface AttributeFile {
  /** Without the links on the way there. */
  readonly path: string;
  /** The bytes to read, as they were at open. */
  readonly content: Uint8Array;
  /** @returns the count of bytes, 0 at the end */
  read(offset: number, into: Uint8Array): number;
  /** @returns the count of bytes that were taken; a promise where the write waits */
  write(offset: number, bytes: Uint8Array): number | Promise<number>;
  /** It has offsets: `config`. A value is read and written whole. */
  readonly isBinary: boolean;
  /** Bytes that a process has written before this is called: an error goes to the log. */
  writeUnseen(offset: number, bytes: Uint8Array): void;
}

/**
 * An open file description. The descriptors that `dup` makes, and those sent to another process,
 * share it.
 */
export class OpenFile {
  readonly body: FileBody;
  /** The position for `read` and `write` without an offset. */
  position = 0;
  /** O_RDONLY, O_WRONLY or O_RDWR. */
  access: number = OpenFlags.O_RDWR;
  /** The node that was opened; null for a file that was made in another way. */
  path: string | null = null;
  #references = 0;
  readonly #release: () => void;

  /** @param release runs when the last descriptor is closed */
  constructor(body: FileBody, release: () => void = () => {}) {
    this.body = body;
    this.#release = release;
  }

  /**
   * The device behind the file; null for a file of another kind.
   *
   * @throws VfioError EINVAL for a device's own file before it is bound
   */
  get device(): DeviceFile | null {
    const { body } = this;
    return body.kind === 'device' ? body.device : body.kind === 'cdev' ? body.cdev.device : null;
  }

  /** @throws VfioError EBADF when it was opened for writing only */
  checkReadable(): void {
    if (this.access === OpenFlags.O_WRONLY) throw new VfioError('EBADF', 'the file was opened for writing only');
  }

  /** @throws VfioError EBADF when it was opened for reading only */
  checkWritable(): void {
    if (this.access === OpenFlags.O_RDONLY) throw new VfioError('EBADF', 'the file was opened for reading only');
  }

  get references(): number {
    return this.#references;
  }

  get(): this {
    this.#references++;
    return this;
  }

  put(): void {
    if (--this.#references === 0) this.#release();
  }
}

interface Slot {
  readonly file: OpenFile;
  readonly closeOnExec: boolean;
}

export class FileTable {
  readonly #slots: (Slot | undefined)[] = [];
  readonly #limit: number;

  /** @param limit RLIMIT_NOFILE: descriptors are below it */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Descriptors in use, ascending. */
  get open(): readonly number[] {
    return [...this.#slots.keys()].filter((fd) => this.#slots[fd] !== undefined);
  }

  /**
   * @throws VfioError EMFILE when no descriptor is left. The caller asks before it opens a file, so
   *   that nothing has to be undone.
   */
  reserve(): number {
    const free = this.#slots.indexOf(undefined);
    const fd = free < 0 ? this.#slots.length : free;
    if (fd >= this.#limit)
      throw new VfioError('EMFILE', `all ${this.#limit} descriptors are in use`, { fix: 'close some, or raise RLIMIT_NOFILE' });
    return fd;
  }

  /** Give `file` the lowest free descriptor. @throws VfioError EMFILE */
  install(file: OpenFile, closeOnExec: boolean): number {
    const fd = this.reserve();
    this.#slots[fd] = { file: file.get(), closeOnExec };
    return fd;
  }

  /** The same descriptors for the same open files, as a child has them. */
  fork(): FileTable {
    const copy = new FileTable(this.#limit);
    for (const slot of this.#slots) {
      slot?.file.get();
      copy.#slots.push(slot);
    }
    return copy;
  }

  /** @throws VfioError EBADF */
  get(fd: number): OpenFile {
    return this.#slot(fd).file;
  }

  /** @throws VfioError EBADF */
  closesOnExec(fd: number): boolean {
    return this.#slot(fd).closeOnExec;
  }

  /** @throws VfioError EBADF */
  close(fd: number): void {
    const { file } = this.#slot(fd);
    this.#slots[fd] = undefined;
    file.put();
  }

  #slot(fd: number): Slot {
    const slot = Number.isInteger(fd) && fd >= 0 ? this.#slots[fd] : undefined;
    if (slot === undefined) throw new VfioError('EBADF', `${fd} is not an open descriptor`);
    return slot;
  }
}
