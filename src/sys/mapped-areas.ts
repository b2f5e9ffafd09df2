/** The areas of a process's address space (proc(5), /proc/PID/maps). */
import { openSync, readFileSync } from 'node:fs';
import { Errno, VfioError } from '../base/errno.ts';
import { type Addon, addon, checked, Sys } from './addon.ts';
import { ThreadFiles } from './other-process.ts';
import { OwnedFd } from './owned-fd.ts';
import type { ProcessHandle } from './process-handle.ts';

/** One area at a time: `MappedAreas.find` fills it in. */
export interface MappedArea {
  /** Addresses: the first, and the first behind it. */
  first: number;
  end: number;
  readable: boolean;
  writable: boolean;
  /** MAP_SHARED. */
  shared: boolean;
  /** Where it begins in its file, bytes. */
  offset: number;
  /** The file's device and inode, as stat(2) has them. */
  device: bigint;
  /** 0n: anonymous memory. */
  inode: bigint;
}

/** /proc/PID/mountinfo: the device, and the type behind the separator. */
const MOUNT = /^\d+ \d+ (\d+):(\d+) .* - (\S+) /gm;
const LINE = /^([0-9a-f]+)-([0-9a-f]+) (.)(.).(.) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+)/gm;

export class MappedAreas implements Disposable {
  readonly #pid: number;
  readonly #sys: Addon = addon();
  readonly #fields = new Float64Array(8);
  readonly #byte = new Uint8Array(1);
  /** /proc/PID/maps of the program that the process executes; null until it is needed. */
  #maps: OwnedFd | null = null;
  readonly area: MappedArea = { first: 0, end: 0, readable: false, writable: false, shared: false, offset: 0, device: 0n, inode: 0n };

  readonly #changed: () => void;

  /** @param changed called when the address space that was asked before is no more */
  constructor(pid: number, changed: () => void = () => {}) {
    this.#pid = pid;
    this.#changed = changed;
  }

  /** False when the process has ended, or executes another program than when it was asked first. */
  get isSame(): boolean {
    if (this.#maps === null) return true;
    const result = this.#query(0);
    if (result !== -Errno.ENOTTY) return result !== -Errno.ESRCH;
    return this.#sys.preadv2(this.#maps.number, this.#byte, 0, 0, 0) > 0;
  }

  /**
   * `area` becomes the one that holds `address`, or the next one behind it.
   *
   * @returns false when there is none
   * @throws VfioError ESRCH when the process has ended
   */
  find(address: number): boolean {
    let result = this.#query(address);
    if (result === -Errno.ESRCH) {
      // It executes another program, whose address space is another.
      this.#close();
      this.#changed();
      result = this.#query(address);
    }
    if (result === -Errno.ENOTTY) return this.#findInText(address);
    if (result === -Errno.ENOENT) return false;
    if (result === -Errno.ESRCH) throw this.#ended();
    checked(result, `the address space of process ${this.#pid}`);
    const { area } = this;
    const [first, end, flags, offset, major, minor, low, high] = this.#fields;
    area.first = first!;
    area.end = end!;
    area.readable = (flags! & Sys.VMA_READABLE) !== 0;
    area.writable = (flags! & Sys.VMA_WRITABLE) !== 0;
    area.shared = (flags! & Sys.VMA_SHARED) !== 0;
    area.offset = offset!;
    area.device = deviceNumber(major!, minor!);
    area.inode = (BigInt(high!) << 32n) | BigInt(low!);
    return true;
  }

  #query(address: number): number {
    if (this.#maps === null) {
      try {
        this.#maps = OwnedFd.own(openSync(`/proc/${this.#pid}/maps`, 'r'), 'an address space');
      } catch (cause) {
        throw this.#ended(cause);
      }
    }
    return this.#sys.mapQuery(this.#maps.number, address, this.#fields);
  }

  /** Before Linux 6.11. */
  #findInText(address: number): boolean {
    let text: string;
    try {
      text = readFileSync(`/proc/${this.#pid}/maps`, 'latin1');
    } catch (cause) {
      throw this.#ended(cause);
    }
    for (const [, from, to, read, write, kind, offset, major, minor, inode] of text.matchAll(LINE)) {
      const end = Number.parseInt(to!, 16);
      if (end <= address) continue;
      Object.assign(this.area, {
        first: Number.parseInt(from!, 16),
        end,
        readable: read === 'r',
        writable: write === 'w',
        shared: kind === 's',
        offset: Number.parseInt(offset!, 16),
        device: deviceNumber(Number.parseInt(major!, 16), Number.parseInt(minor!, 16)),
        inode: BigInt(inode!),
      } satisfies MappedArea);
      return true;
    }
    return false;
  }

  #ended(cause?: unknown): VfioError {
    return new VfioError('ESRCH', `process ${this.#pid} has ended`, { cause });
  }

  /**
   * The file of memory behind `area`, opened anew: by a descriptor that the process has of it, or
   * by the area itself, where this user may (root). Null when it is no file of memory (memfd,
   * tmpfs, hugetlbfs), or no descriptor is left. Asks no file system that is not memory.
   *
   * @param process the same process
   */
  open(process: ProcessHandle): OwnedFd | null {
    const { inode, device, first, end, writable } = this.area;
    const mode = writable ? 'r+' : 'r';
    using files = ThreadFiles.of(this.#pid);
    for (const fd of files.numbers()) {
      if (!files.look(fd) || BigInt(files.inode) !== inode || deviceNumber(...files.device) !== device) continue;
      const theirs = openedBy(process, fd);
      if (theirs === null) continue;
      if (theirs.isMemory) return anew(`/proc/self/fd/${theirs.number}`, mode, theirs);
      theirs[Symbol.dispose]();
      return null;
    }
    if (!this.#isMemoryDevice(device)) return null;
    return anew(`/proc/${this.#pid}/map_files/${first.toString(16)}-${end.toString(16)}`, mode, null);
  }

  /** A mount of memory that the process sees, or the kernel's own. */
  #isMemoryDevice(device: bigint): boolean {
    let mounts = '';
    try {
      mounts = readFileSync(`/proc/${this.#pid}/mountinfo`, 'latin1');
    } catch {
      // The process has ended.
    }
    for (const [, major, minor, type] of mounts.matchAll(MOUNT)) {
      if (deviceNumber(Number(major), Number(minor)) === device) return type === 'tmpfs' || type === 'hugetlbfs' || type === 'devtmpfs';
    }
    // The file systems of memfds and anonymous shared memory are mounted nowhere.
    return true;
  }

  #close(): void {
    this.#maps?.[Symbol.dispose]();
    this.#maps = null;
  }

  [Symbol.dispose](): void {
    this.#close();
  }
}

/** st_dev (linux/kdev_t.h, new_encode_dev()). */
export function deviceNumber(major: number, minor: number): bigint {
  return (BigInt(minor) & 0xffn) | (BigInt(major) << 8n) | ((BigInt(minor) & ~0xffn) << 12n);
}

/** Null when the process has closed it, or this user may not have it. */
function openedBy(process: ProcessHandle, fd: number): OwnedFd | null {
  try {
    return process.descriptor(fd);
  } catch (error) {
    if (error instanceof VfioError) return null;
    throw error;
  }
}

/** The file at `path`; `instead` where it cannot be opened anew. */
function anew(path: string, mode: string, instead: OwnedFd | null): OwnedFd | null {
  try {
    const file = OwnedFd.own(openSync(path, mode), path);
    instead?.[Symbol.dispose]();
    return file;
  } catch {
    return instead;
  }
}
