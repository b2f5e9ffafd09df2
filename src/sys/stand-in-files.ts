/**
 * Files that stand in for device files in another process, and the news that the last descriptor of
 * one is closed. A stand-in is an empty memfd: its inode identifies it through every copy that the
 * process makes of its descriptor or sends to others, and inotify sees the end of the last copy,
 * mappings included. A stand-in for a file of values has bytes, which a process reads and writes
 * without us; inotify reports the writes.
 *
 * @see inotify(7), memfd_create(2)
 */
import { openSync } from 'node:fs';
import { type Addon, addon, checked, Sys } from './addon.ts';
import { FdWatch } from './fd-watch.ts';
import { deviceNumber } from './mapped-areas.ts';
import { ThreadFiles } from './other-process.ts';
import { OwnedFd } from './owned-fd.ts';

/** struct inotify_event without a name. */
const EVENT_BYTES = 16;
const EVENTS = 64;

/** One open file. `open` is the descriptor to hand on; ours is closed then. */
export interface StandIn {
  readonly inode: number;
  readonly open: OwnedFd;
}

/** The listener of stand-ins. */
export interface StandInEvents {
  /** No process has it open any more. */
  closed(inode: number): void;
  /** A process has written these bytes at `offset` of a stand-in that was made to be written. */
  written(inode: number, offset: number, bytes: Uint8Array): void;
}

/**
 * The bytes of a stand-in, which a process reads and writes without us. `value`: a write is a new
 * value, wherever the file's position is. `image`: a write changes bytes, and one that changes none
 * is not seen.
 */
export type StandInBytes = { readonly kind: 'constant' | 'image'; readonly bytes: Uint8Array } | { readonly kind: 'value' };

interface Body {
  readonly file: OwnedFd;
  /** Bytes as they were last seen; null for a value. */
  readonly seen: Uint8Array | null;
}

/** A longer write to a stand-in is cut: bytes. */
const WRITTEN_MAX = 4096;

export class StandInFiles implements Disposable {
  readonly #sys: Addon = addon();
  readonly #own = ThreadFiles.of('self');
  readonly #inotify: OwnedFd;
  readonly #watch: FdWatch;
  readonly #bytes = new Uint8Array(EVENT_BYTES * EVENTS);
  readonly #words = new Int32Array(this.#bytes.buffer);
  readonly #inodes = new Map<number, number>();
  readonly #watches = new Map<number, number>();
  /** Descriptors of ours of those that can be written, by inode. */
  readonly #bodies = new Map<number, Body>();
  readonly #events: StandInEvents;
  #major = -1;
  #minor = -1;

  constructor(events: StandInEvents) {
    this.#events = events;
    this.#inotify = OwnedFd.own(this.#sys.inotifyInit(Sys.IN_CLOEXEC_NONBLOCK), 'watching for closed files');
    this.#watch = new FdWatch(this.#inotify);
    this.#watch.listen(() => this.drain());
  }

  /** Readable while closes were not reported yet. For calls of this room only. */
  get news(): OwnedFd {
    return this.#inotify;
  }

  /** Stand-ins that a process has open. */
  get size(): number {
    return this.#inodes.size;
  }

  /**
   * @param flags of open(2): the access mode that the process sees
   * @param content left out: the file stays empty, and an access to a mapping of it faults
   * @throws VfioError EMFILE, ENFILE, ENOSPC over the limits of this user
   */
  create(name: string, flags: number, content?: StandInBytes): StandIn {
    const memfd = OwnedFd.own(this.#sys.memfdCreate(name, Sys.MFD_CLOEXEC | Sys.MFD_ALLOW_SEALING), 'making a file');
    let open: OwnedFd;
    let body: Body | null = null;
    try {
      if (content !== undefined && content.kind !== 'value' && content.bytes.length > 0) {
        checked(this.#sys.pwritev2(memfd.number, content.bytes, 0, 0, 0), 'filling a file');
      }
      if (content === undefined || content.kind === 'constant') {
        checked(this.#sys.fcntl(memfd.number, Sys.F_ADD_SEALS, Sys.F_SEAL_SHRINK | Sys.F_SEAL_GROW | Sys.F_SEAL_SEAL), 'sealing a file');
      } else body = { file: memfd.duplicate(), seen: content.kind === 'image' ? content.bytes.slice() : null };
      // An open file of its own, so that the program's last close is the last.
      open = OwnedFd.own(openSync(`/proc/self/fd/${memfd.number}`, flags), 'opening a file');
    } finally {
      memfd[Symbol.dispose]();
    }
    try {
      const path = `/proc/self/fd/${open.number}`;
      const mask = Sys.IN_CLOSE_WRITE | Sys.IN_CLOSE_NOWRITE | (body === null ? 0 : Sys.IN_MODIFY);
      const watch = checked(this.#sys.inotifyAdd(this.#inotify.number, path, mask), 'watching a file');
      this.#own.look(open.number);
      if (this.#major < 0) [this.#major, this.#minor] = this.#own.device;
      const { inode } = this.#own;
      this.#inodes.set(watch, inode);
      this.#watches.set(inode, watch);
      if (body !== null) this.#bodies.set(inode, body);
      return { inode, open };
    } catch (error) {
      open[Symbol.dispose]();
      body?.file[Symbol.dispose]();
      throw error;
    }
  }

  /** The inode of the descriptor that `files` has just looked at; -1 when it is no stand-in. */
  inodeOf(files: ThreadFiles): number {
    return files.isOn(this.#major, this.#minor) && this.#watches.has(files.inode) ? files.inode : -1;
  }

  /** Whether a device number, as `MappedArea` has it, is the one of stand-ins. */
  isOn(device: bigint): boolean {
    return this.#major >= 0 && deviceNumber(this.#major, this.#minor) === device;
  }

  /** No process got it: no news will come. */
  forget({ inode, open }: StandIn): void {
    this.#unwatch(this.#watches.get(inode)!, inode);
    open[Symbol.dispose]();
  }

  /** Report the files that were written and closed by now. */
  drain(): void {
    for (;;) {
      const got = this.#sys.read(this.#inotify.number, this.#bytes, 0, this.#bytes.length);
      if (got <= 0) return;
      for (let at = 0; at < got; at += EVENT_BYTES) {
        const watch = this.#words[at / 4]!;
        const inode = this.#inodes.get(watch);
        // The kernel also says that a watch is gone (IN_IGNORED).
        if (inode === undefined) continue;
        if (this.#words[at / 4 + 1] === Sys.IN_MODIFY) {
          this.#written(inode);
          continue;
        }
        this.#unwatch(watch, inode);
        this.#events.closed(inode);
      }
      if (got < this.#bytes.length) return;
    }
  }

  #written(inode: number): void {
    const body = this.#bodies.get(inode);
    if (body === undefined) return;
    const { file, seen } = body;
    if (seen !== null) {
      this.#compare(inode, file, seen);
      return;
    }
    const bytes = new Uint8Array(file.size);
    const got = bytes.length === 0 ? 0 : this.#sys.preadv2(file.number, bytes, 0, 0, 0);
    // The cut is a change, too, and comes here again.
    if (got <= 0) return;
    checked(this.#sys.ftruncate(file.number, 0), 'emptying a file');
    // The next value comes after a hole, since the process has a position.
    const first = bytes.findIndex((byte) => byte !== 0);
    if (first >= 0) this.#events.written(inode, 0, bytes.subarray(first, Math.min(got, first + WRITTEN_MAX)));
  }

  /** Report each run of bytes that changed. */
  #compare(inode: number, file: OwnedFd, seen: Uint8Array): void {
    const now = new Uint8Array(seen.length);
    const got = this.#sys.preadv2(file.number, now, 0, 0, 0);
    for (let at = 0; at < got; at++) {
      if (now[at] === seen[at]) continue;
      const from = at;
      while (at < got && now[at] !== seen[at]) at++;
      seen.set(now.subarray(from, at), from);
      this.#events.written(inode, from, now.subarray(from, at));
    }
  }

  #unwatch(watch: number, inode: number): void {
    this.#inodes.delete(watch);
    this.#watches.delete(inode);
    this.#sys.inotifyRemove(this.#inotify.number, watch);
    this.#bodies.get(inode)?.file[Symbol.dispose]();
    this.#bodies.delete(inode);
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#inotify[Symbol.dispose]();
    this.#own[Symbol.dispose]();
    for (const { file } of this.#bodies.values()) file[Symbol.dispose]();
    this.#bodies.clear();
  }
}
