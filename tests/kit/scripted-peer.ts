/**
 * A vfio-user server in another thread that does what it is told: answers as a small device would, and wrongly where its script says so. For tests of
 * a client, which blocks its own thread.
 */
import { Worker } from 'node:worker_threads';
import { UnixSocket } from '../../src/sys/unix-socket.ts';
import { typescript } from './typescript.ts';

export interface PeerRegion {
  readonly flags: number;
  readonly size: number;
  /** Backed by a memfd that goes along with its info. */
  readonly shared?: boolean;
  readonly sparse?: readonly (readonly [offset: number, size: number])[];
}

/** What to do instead of, or beside, the usual answer. `next` are done one after the other, one for each message of that command. */
export type PeerAction =
  /** The usual answer. */
  | { readonly do: 'answer' }
  | { readonly do: 'nothing' }
  /** Close the connection, after the first `bytes` of the usual answer. */
  | { readonly do: 'die'; readonly bytes?: number }
  | { readonly do: 'error'; readonly errno: number; readonly size?: number }
  /** The usual answer with some of its bytes changed, `at` counted from the header. */
  | { readonly do: 'patch'; readonly at: number; readonly bytes: readonly number[] }
  /** The usual answer, this many bytes longer or shorter, its header says so. */
  | { readonly do: 'resize'; readonly by: number }
  /** These bytes instead of an answer; `die`: and nothing more. */
  | { readonly do: 'send'; readonly bytes: readonly number[]; readonly die?: boolean }
  /** The usual answer in pieces of this many bytes. */
  | { readonly do: 'dribble'; readonly bytes: number }
  /** Ask the client, and look at its answer, before or after the usual answer. */
  | {
      readonly do: 'ask';
      readonly when: 'before' | 'after' | 'behind';
      readonly command: number;
      readonly payload: Uint8Array;
      readonly flags?: number;
    }
  /** Signal eventfd `vector` of IRQ index `index`, then the usual answer. */
  | { readonly do: 'signal'; readonly index: number; readonly vector: number };

export interface PeerScript {
  /** Null: no JSON. `undefined`: what our own server would say. */
  readonly json?: string | null;
  readonly version?: readonly [major: number, minor: number];
  readonly twin?: boolean;
  readonly flags?: number;
  readonly regions?: Readonly<Record<number, PeerRegion>>;
  readonly numRegions?: number;
  readonly irqs?: readonly (readonly [flags: number, count: number])[];
  /** First bytes of config space. */
  readonly config?: readonly number[];
  readonly on?: Readonly<Record<number, readonly PeerAction[]>>;
}

/** A message as the peer saw it: what the client sent, or how it answered. */
export interface SeenMessage {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly error: number;
  readonly payload: Uint8Array;
  readonly fds: number;
}

export interface PeerReport {
  readonly seen: readonly SeenMessage[];
  /** What went wrong in the peer itself. */
  readonly failed: string | null;
}

export class ScriptedPeer implements AsyncDisposable {
  readonly #worker: Worker;
  /** Connections that are not at their end, by number. */
  readonly #open = new Map<number, { readonly done: Promise<PeerReport>; readonly resolve: (report: PeerReport) => void }>();
  #connections = 0;

  private constructor() {
    // The worker is TypeScript, and its thread knows of no loader before it is told.
    this.#worker = new Worker(
      'const { loader, file } = require("node:worker_threads").workerData; import(loader).then(() => import(file));',
      {
        eval: true,
        workerData: {
          loader: typescript[1],
          file: new URL('./scripted-peer-worker.ts', import.meta.url).href,
        },
      },
    );
  }

  static async start(): Promise<ScriptedPeer> {
    const peer = new ScriptedPeer();
    await new Promise<void>((resolve, reject) => {
      peer.#worker.once('message', () => resolve());
      peer.#worker.once('error', reject);
    });
    peer.#worker.on('message', ({ connection, report }: { connection: number; report: PeerReport }) => {
      peer.#open.get(connection)!.resolve(report);
      peer.#open.delete(connection);
    });
    return peer;
  }

  /** A stream to a peer that follows `script`; `report` is what it has seen when the connection has ended. One after the other. */
  serve(script: PeerScript = {}): { readonly stream: UnixSocket; readonly report: Promise<PeerReport> } {
    const [ours, theirs] = UnixSocket.pair();
    const connection = this.#connections++;
    let resolve: (report: PeerReport) => void = () => {};
    const done = new Promise<PeerReport>((settle) => {
      resolve = settle;
    });
    this.#open.set(connection, { done, resolve });
    this.#worker.postMessage({ connection, fd: theirs.release().number, script });
    return { stream: ours, report: done };
  }

  /** When every connection so far is at its end. */
  async idle(): Promise<void> {
    await Promise.all([...this.#open.values()].map(({ done }) => done));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}
