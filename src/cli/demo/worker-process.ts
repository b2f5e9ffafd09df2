/**
 * A driver in another process. Each line on its standard input is a request, which it answers with
 * a line of JSON.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { packageFile } from '../../sys/package-files.ts';

const command = packageFile('bin/vfio.js');

/** Everything the demo waits for takes milliseconds; the rest is patience with busy machines. */
const PATIENCE_MS = 300_000;

/** Requests that a worker takes, by name; the results travel as JSON. */
export type Tasks<T> = { readonly [K in keyof T]: () => Promise<object> };

export interface WorkerOptions {
  readonly uid?: number | undefined;
  readonly more?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export class WorkerProcess<T extends Tasks<T>> implements AsyncDisposable {
  readonly pid: number;
  readonly uid: number;
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;
  readonly #ended: Promise<unknown>;
  /** Its standard error so far. */
  readonly #complaint: () => string;
  readonly #timer: NodeJS.Timeout;

  private constructor(
    child: ChildProcess,
    answers: AsyncIterator<string>,
    hello: { pid: number; uid: number },
    timer: NodeJS.Timeout,
    complaint: () => string,
  ) {
    this.#complaint = complaint;
    this.#child = child;
    this.#answers = answers;
    this.#timer = timer;
    this.#ended = new Promise((resolve) => child.once('close', resolve));
    this.pid = hello.pid;
    this.uid = hello.uid;
  }

  /**
   * Start the driver in `WORKER-worker.ts` of this folder, which calls `doTasks`, on the device at
   * `address`.
   *
   * @param uid  the user that it runs as. Default: this process's user   @param more  further
   * arguments of the driver   @param env  what its environment has besides
   * @throws Error with what it said when it does not start
   */
  static async start<T extends Tasks<T>>(
    worker: string,
    address: string,
    { uid, more = [], env = {} }: WorkerOptions = {},
  ): Promise<WorkerProcess<T>> {
    const child = spawn(process.execPath, [command, 'run', packageFile(`dist/demo/${worker}-worker.js`), address, ...more], {
      stdio: ['pipe', 'pipe', 'pipe'],
      cwd: '/',
      env: { ...process.env, ...env },
      ...(uid === undefined ? {} : { uid, gid: uid }),
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS);
    let complaint = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      complaint += text;
    });
    const failed = new Promise<never>((_, reject) => child.once('error', reject));
    failed.catch(() => {});
    const answers = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    const hello = await Promise.race([answers.next(), failed]).catch((error: unknown) => {
      clearTimeout(timer);
      throw error;
    });
    if (hello.done !== true) return new WorkerProcess(child, answers, JSON.parse(hello.value), timer, () => complaint);
    clearTimeout(timer);
    throw new Error(`the driver did not start: ${complaint.trim()}`);
  }

  /** @throws Error when it ends instead of answering */
  async do<K extends keyof T & string>(task: K): Promise<Awaited<ReturnType<T[K]>>> {
    this.#child.stdin!.write(`${task}\n`);
    const answer = await this.#answers.next();
    if (answer.done === true) {
      await this.#ended;
      throw new Error(`the driver ended at '${task}': ${this.#complaint().trim()}`);
    }
    return JSON.parse(answer.value) as Awaited<ReturnType<T[K]>>;
  }

  /** Let it finish: it closes its device on the way out. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin!.end();
    await this.#ended;
    clearTimeout(this.#timer);
  }
}

/** The worker's side: reports its user, then answers requests until standard input ends. */
export async function doTasks<T extends Tasks<T>>(tasks: T): Promise<void> {
  console.log(JSON.stringify({ pid: process.pid, uid: process.getuid!() }));
  for await (const task of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await tasks[task as keyof T]()));
  }
}
