/**
 * Files that stand in for device files in another process, and the news that the last descriptor of
 * one is closed. A stand-in is an empty memfd: its inode identifies it through every copy that the
 * process makes of its descriptor or sends to others, and inotify sees the end of the last copy,
 * mappings included.
 *
 * @see inotify(7), memfd_create(2)
 */
import { openSync } from 'node:fs';
import { type Addon, addon, checked, Sys } from './addon.ts';
import { FdWatch } from './fd-watch.ts';
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

export class StandInFiles implements Disposable {
  readonly #sys: Addon = addon();
  readonly #own = ThreadFiles.of('self');
  readonly #inotify: OwnedFd;
  readonly #watch: FdWatch;
  readonly #bytes = new Uint8Array(EVENT_BYTES * EVENTS);
  readonly #words = new Int32Array(this.#bytes.buffer);
  readonly #inodes = new Map<number, number>();
  readonly #watches = new Map<number, number>();
  readonly #closed: (inode: number) => void;
  #major = -1;
  #minor = -1;

  /** @param closed called for a stand-in that no process has open any more */
  constructor(closed: (inode: number) => void) {
    this.#closed = closed;
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
   * @throws VfioError EMFILE, ENFILE, ENOSPC over the limits of this user
   */
  create(name: string, flags: number): StandIn {
    const memfd = OwnedFd.own(this.#sys.memfdCreate(name, Sys.MFD_CLOEXEC | Sys.MFD_ALLOW_SEALING), 'making a file');
    let open: OwnedFd;
    try {
      // It stays empty: an access to a mapping of it faults.
      checked(this.#sys.fcntl(memfd.number, Sys.F_ADD_SEALS, Sys.F_SEAL_SHRINK | Sys.F_SEAL_GROW | Sys.F_SEAL_SEAL), 'sealing a file');
      // An open file of its own, so that the program's last close is the last.
      open = OwnedFd.own(openSync(`/proc/self/fd/${memfd.number}`, flags), 'opening a file');
    } finally {
      memfd[Symbol.dispose]();
    }
    try {
      const path = `/proc/self/fd/${open.number}`;
      const watch = checked(this.#sys.inotifyAdd(this.#inotify.number, path, Sys.IN_CLOSE_WRITE | Sys.IN_CLOSE_NOWRITE), 'watching a file');
      this.#own.look(open.number);
      if (this.#major < 0) [this.#major, this.#minor] = this.#own.device;
      const { inode } = this.#own;
      this.#inodes.set(watch, inode);
      this.#watches.set(inode, watch);
      return { inode, open };
    } catch (error) {
      open[Symbol.dispose]();
      throw error;
    }
  }

  /** The inode of the descriptor that `files` has just looked at; -1 when it is no stand-in. */
  inodeOf(files: ThreadFiles): number {
    return files.isOn(this.#major, this.#minor) && this.#watches.has(files.inode) ? files.inode : -1;
  }

  /** No process got it: no news will come. */
  forget({ inode, open }: StandIn): void {
    this.#unwatch(this.#watches.get(inode)!, inode);
    open[Symbol.dispose]();
  }

  /** Report the files that were closed by now. */
  drain(): void {
    for (;;) {
      const got = this.#sys.read(this.#inotify.number, this.#bytes, 0, this.#bytes.length);
      if (got <= 0) return;
      for (let at = 0; at < got; at += EVENT_BYTES) {
        const watch = this.#words[at / 4]!;
        const inode = this.#inodes.get(watch);
        // The kernel also says that a watch is gone (IN_IGNORED).
        if (inode === undefined) continue;
        this.#unwatch(watch, inode);
        this.#closed(inode);
      }
      if (got < this.#bytes.length) return;
    }
  }

  #unwatch(watch: number, inode: number): void {
    this.#inodes.delete(watch);
    this.#watches.delete(inode);
    this.#sys.inotifyRemove(this.#inotify.number, watch);
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#inotify[Symbol.dispose]();
    this.#own[Symbol.dispose]();
  }
}
