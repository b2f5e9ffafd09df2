/**
 * A vfio-user server in another thread that follows a script: it answers as a small device would,
 * and wrongly where its script says so. For tests of a client, which blocks its own thread.
 */
import { Worker } from 'node:worker_threads';
import { UnixSocket } from '../../src/sys/unix-socket.ts';
import { typescript } from './typescript.ts';

export interface PeerRegion {
  readonly flags: number;
  readonly size: number;
  /** Backed by a memfd that goes to the client with the region's info. */
  readonly shared?: boolean;
  readonly sparse?: readonly (readonly [offset: number, size: number])[];
}

/**
 * An action instead of, or beside, the usual answer. The actions of `next` follow one another, one
 * for each message of that command.
 */
export type PeerAction =
  /** The usual answer. */
  | { readonly do: 'answer' }
  | { readonly do: 'nothing' }
  /** Close the connection, after the first `bytes` of the usual answer. */
  | { readonly do: 'die'; readonly bytes?: number }
  | { readonly do: 'error'; readonly errno: number; readonly size?: number }
  /** The usual answer with some of its bytes changed, `at` counted from the header. */
  | { readonly do: 'patch'; readonly at: number; readonly bytes: readonly number[] }
  /** The usual answer, this many bytes longer or shorter; its header says so. */
  | { readonly do: 'resize'; readonly by: number }
  /** These bytes instead of an answer; `die`: and no more. */
  | { readonly do: 'send'; readonly bytes: readonly number[]; readonly die?: boolean }
  /** The usual answer in pieces of this many bytes. */
  | { readonly do: 'dribble'; readonly bytes: number }
  /** Send a command to the client and read its answer, before or after the usual answer. */
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
  /** Null: no JSON. `undefined`: the JSON of our own server. */
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

/** A message as the peer saw it: a command or an answer of the client. */
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
  /** An error in the peer itself. */
  readonly failed: string | null;
}

export class ScriptedPeer implements AsyncDisposable {
  readonly #worker: Worker;
  /** Connections that have not ended, by number. */
  readonly #open = new Map<number, { readonly done: Promise<PeerReport>; readonly resolve: (report: PeerReport) => void }>();
  #connections = 0;

  private constructor() {
    // The worker is TypeScript, and a new thread has no loader.
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

  /**
   * A stream to a peer that follows `script`. `report` resolves to the messages that the peer has
   * seen when the connection has ended. Streams follow one another.
   */
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

  /** Resolves when every connection has ended. */
  async idle(): Promise<void> {
    await Promise.all([...this.#open.values()].map(({ done }) => done));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}
