/** Clients of a socket as the engine knows them: processes, by what the kernel and /proc tell of whoever connected. */
import { VfioError } from '../base/errno.ts';
import { DEFAULT_MEMLOCK, Process, type ProcessOptions } from '../engine/dma/process.ts';
import type { PeerCredentials } from '../sys/byte-stream.ts';
import { readProcess } from '../sys/process-identity.ts';

interface Held {
  readonly process: Process;
  holders: number;
}

/** All connections of one process share its locked-memory account, whichever device they are to. */
export class PeerProcesses {
  readonly #held = new Map<number, Held>();
  readonly #memlockLimit: number | undefined;

  /** @param memlockLimit bytes that every client may lock, whatever its own limit is */
  constructor(memlockLimit?: number) {
    this.#memlockLimit = memlockLimit;
  }

  /** @param peer null: nobody knows, so it is taken for ourselves. Dispose the result when the connection is over. */
  acquire(peer: PeerCredentials | null): { readonly process: Process } & Disposable {
    const pid = peer?.pid ?? process.pid;
    let held = this.#held.get(pid);
    // A number that was given away anew, after its process had ended with a connection still open here.
    if (held !== undefined && peer !== null && held.process.uid !== peer.uid) held = undefined;
    if (held === undefined) {
      held = { process: this.#make(peer), holders: 0 };
      this.#held.set(pid, held);
    }
    const mine = held;
    mine.holders++;
    let released = false;
    return {
      process: mine.process,
      [Symbol.dispose]: () => {
        if (released) return;
        released = true;
        if (--mine.holders > 0) return;
        if (this.#held.get(pid) === mine) this.#held.delete(pid);
        mine.process.exit();
      },
    };
  }

  #make(peer: PeerCredentials | null): Process {
    const identity = identify(peer);
    return new Process(this.#memlockLimit === undefined ? identity : { ...identity, memlockLimit: this.#memlockLimit });
  }
}

function identify(peer: PeerCredentials | null): ProcessOptions {
  try {
    const found = readProcess(peer?.pid ?? process.pid);
    // Who connected is what the kernel wrote down then; /proc is what is there now.
    return peer === null ? found : { ...found, uid: peer.uid };
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    // In another pid namespace, hidden, or gone: no more than Linux gives anybody.
    return { pid: peer?.pid ?? 0, uid: peer?.uid ?? 0, memlockLimit: DEFAULT_MEMLOCK };
  }
}
