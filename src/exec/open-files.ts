/**
 * The open files of all programs. An open file lives until the last descriptor of it is closed, in
 * whichever process that is, and the last mapping of it is gone.
 */
import type { FileBody, OpenFile } from '../ioctl/file-table.ts';
import { OpenFlags } from '../ioctl/posix.ts';
import type { MappedArea } from '../sys/mapped-areas.ts';
import type { NotifiedCalls } from '../sys/notified-calls.ts';
import type { ThreadFiles } from '../sys/other-process.ts';
import { type StandInBytes, StandInFiles } from '../sys/stand-in-files.ts';

export class OpenFiles implements Disposable {
  readonly #ended: (file: OpenFile) => void;
  readonly #closedOne: () => void;
  readonly #byInode = new Map<number, OpenFile>();
  readonly standIns = new StandInFiles({
    closed: (inode) => this.#closed(inode),
    written: (inode, offset, bytes) => this.#written(inode, offset, bytes),
  });

  /**
   * @param ended no program has the file open or mapped any more
   * @param closed the engine has closed a file, after `ended`
   */
  constructor(ended: (file: OpenFile) => void, closed: () => void) {
    this.#ended = ended;
    this.#closedOne = closed;
  }

  /** Open files. */
  get size(): number {
    return this.#byInode.size;
  }

  /**
   * Give the program that makes the present call a descriptor of `file`, which the program has
   * open from then on.
   *
   * @param free finds the number; -1: the lowest that is free
   * @param flags of open(2)
   * @returns the number
   * @throws VfioError EMFILE, ESRCH; `file` is closed then
   */
  install(file: OpenFile, calls: NotifiedCalls, free: () => number, flags: number, closeOnExec: boolean): number {
    file.get();
    try {
      const made = this.standIns.create(`vfio-${file.body.kind}`, flags, bytesOf(file.body, flags));
      try {
        const fd = calls.addDescriptor(made.open, free(), closeOnExec);
        this.#byInode.set(made.inode, file);
        made.open[Symbol.dispose]();
        return fd;
      } catch (error) {
        this.standIns.forget(made);
        throw error;
      }
    } catch (error) {
      file.put();
      throw error;
    }
  }

  /** The open file behind the descriptor that `files` has just looked at; null: none of ours. */
  find(files: ThreadFiles): OpenFile | null {
    const inode = this.standIns.inodeOf(files);
    return inode < 0 ? null : (this.#byInode.get(inode) ?? null);
  }

  /** The open file that an area of a process's address space shows; null: none of ours. */
  ofArea({ device, inode, shared }: MappedArea): OpenFile | null {
    return shared && this.standIns.isOn(device) ? (this.#byInode.get(Number(inode)) ?? null) : null;
  }

  /** Close the files whose last descriptor went before now, and carry out writes to sysfs. */
  drain(): void {
    this.standIns.drain();
  }

  /** A program has written to a file of sysfs through a descriptor that the filter does not see. */
  #written(inode: number, offset: number, bytes: Uint8Array): void {
    const body = this.#byInode.get(inode)?.body;
    if (body?.kind === 'attribute') body.attribute.writeUnseen(offset, bytes);
  }

  #closed(inode: number): void {
    const file = this.#byInode.get(inode);
    this.#byInode.delete(inode);
    if (file === undefined) return;
    this.#ended(file);
    file.put();
    this.#closedOne();
  }

  /** All files are closed. */
  [Symbol.dispose](): void {
    this.standIns[Symbol.dispose]();
    for (const file of this.#byInode.values()) file.put();
    this.#byInode.clear();
    this.#closedOne();
  }
}

/** Files of values have bytes, which a program reads without us; see `StandInFiles.create`. */
function bytesOf(body: FileBody, flags: number): StandInBytes | undefined {
  if (body.kind !== 'attribute') return undefined;
  const { content: bytes, isBinary } = body.attribute;
  if ((flags & OpenFlags.O_ACCMODE) === OpenFlags.O_RDONLY) return { kind: 'constant', bytes };
  return isBinary ? { kind: 'image', bytes } : { kind: 'value' };
}
