/**
 * Clients of a socket as the engine knows them: processes, by the data that the kernel and /proc
 * have of the peer, and the groups that each process uses.
 */
import { VfioError } from '../base/errno.ts';
import { DEFAULT_MEMLOCK, type LockedAccount, Process, type ProcessOptions } from '../engine/dma/process.ts';
import type { PeerCredentials } from '../sys/byte-stream.ts';
import { type PeerProcess, processOf } from '../sys/peer-process.ts';
import { readProcess } from '../sys/process-identity.ts';
import { GroupUses } from './group-use.ts';

/** The account of the process with that key, over all threads of a server. */
export type AccountOf = (key: string, lockedBefore: number) => LockedAccount & Disposable;

interface Held {
  readonly process: Process;
  /** Released after the process. Null: the process has an account of its own. */
  readonly account: Disposable | null;
  holders: number;
}

/** Stands in place of a key for connections whose peer is unknown: they count as this process. */
const OURSELVES = 'ourselves';

/**
 * All connections of one process share its locked-memory account, for any device, and count as one
 * user of a group.
 */
export class PeerProcesses {
  /** The processes' use of the machine's groups. */
  readonly groups = new GroupUses();
  /**
   * The key is the identity of the process, its user included: a process that changes its user gets
   * a new entry.
   */
  readonly #held = new Map<string, Held>();
  readonly #memlockLimit: number | undefined;
  readonly #accountOf: AccountOf | null;

  /**
   * @param memlockLimit bytes that every client may lock, in place of the client's own limit
   * @param accountOf for servers in several threads. Default: accounts are this object's own
   */
  constructor(memlockLimit?: number, accountOf: AccountOf | null = null) {
    this.#memlockLimit = memlockLimit;
    this.#accountOf = accountOf;
  }

  /**
   * @param peer null: the peer is unknown and counts as this process. Dispose the result when the
   *   connection is over.
   */
  acquire(peer: PeerCredentials | null): { readonly process: Process } & Disposable {
    const known = knownAs(peer);
    const key = keyOf(peer, known);
    let held = key === null ? undefined : this.#held.get(key);
    if (held === undefined) {
      held = { ...this.#make(peer, known, key), holders: 0 };
      if (key !== null) this.#held.set(key, held);
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
        if (key !== null && this.#held.get(key) === mine) this.#held.delete(key);
        using _account = mine.account;
        mine.process.exit();
      },
    };
  }

  /**
   * The peer's process while one of its connections holds it; null before, and for a process
   * without an identity.
   */
  find(peer: PeerCredentials | null): Process | null {
    const key = keyOf(peer, knownAs(peer));
    return key === null ? null : (this.#held.get(key)?.process ?? null);
  }

  #make(peer: PeerCredentials | null, known: PeerProcess | null, key: string | null): Omit<Held, 'holders'> {
    const identity = identify(peer, known);
    const limited = this.#memlockLimit === undefined ? identity : { ...identity, memlockLimit: this.#memlockLimit };
    const account = key === null ? null : (this.#accountOf?.(key, identity.lockedBytes ?? 0) ?? null);
    return { process: new Process(account === null ? limited : { ...limited, account }), account };
  }
}

function knownAs(peer: PeerCredentials | null): PeerProcess | null {
  if (peer === null) return null;
  return peer.process === undefined ? processOf(peer.pid) : peer.process;
}

/** Null: the connection has no identity and counts as a different user's. */
function keyOf(peer: PeerCredentials | null, known: PeerProcess | null): string | null {
  if (peer === null) return OURSELVES;
  return known === null ? null : `${known.key}, uid ${peer.uid}`;
}

function identify(peer: PeerCredentials | null, known: PeerProcess | null): ProcessOptions {
  if (peer === null) return ourselves();
  // The kernel stored the peer's credentials when the peer connected; /proc shows the present
  // state.
  if (known?.found != null) return { ...known.found, uid: peer.uid };
  // The process is in another pid namespace, hidden, or gone: it gets the limit that Linux gives
  // every process.
  return { pid: peer.pid, uid: peer.uid, memlockLimit: DEFAULT_MEMLOCK };
}

function ourselves(): ProcessOptions {
  try {
    return readProcess();
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    return { pid: process.pid, uid: process.getuid?.() ?? 0, memlockLimit: DEFAULT_MEMLOCK };
  }
}
