/**
 * A thread that does one job, as the thread that started it sees it. When it ends by itself, for
 * want of heap or because a device called process.exit(), it is started anew; other threads notice
 * nothing.
 */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { VfioError } from '../../base/errno.ts';
import { textOf } from '../../base/foreign.ts';
import type { LogLevel } from '../../base/log.ts';
import { isCompiled, packageFile } from '../../sys/package-files.ts';
import { removeStaleSocket } from '../../sys/unix-listener.ts';
import type { AdminRequest } from '../admin/desk.ts';
import { managePathOf } from '../migrate/door.ts';
import type { EventBatch } from './event-relay.ts';
import type { Job, ServedSocket, Survey, ThreadData } from './jobs.ts';
import { type Handlers, ThreadPort } from './thread-port.ts';

/** Heap of a thread, in MiB. Memory of devices, as disks and BARs, is not in it. */
const HEAP_MIB = 1024;
/** How often a thread is asked whether it still answers. */
const PING_MS = 1000;
/** A thread that has not answered for so long is reported. */
const SLOW_MS = 5000;
/** The time that a thread has for its end. */
const STOP_MS = 5000;
/** The pause before a thread that ends again starts anew: it doubles each time, up to the most. */
const PAUSE_MS = 250;
const PAUSE_MAX_MS = 30_000;
/** A thread that has run for so long starts anew at once. */
const STEADY_MS = 60_000;

/** The server, as its threads use it. */
export interface ThreadHost {
  readonly table: SharedArrayBuffer;
  /** Whether the server wants events now. */
  readonly wanted: () => ThreadData['events'];
  /** A line that the thread's own stream has for the log. */
  log(level: LogLevel, text: string): void;
  /** Something happened to the thread. */
  note(level: LogLevel, text: string): void;
  report(line: string): void;
  /** The addresses of the functions that the thread has now. */
  functions(thread: number, functions: readonly string[]): void;
  events(thread: number, batch: EventBatch): void;
  /** It begins, for the first time or anew. */
  begins(thread: number, taken: Int32Array): void;
  /** It has ended, and holds nothing any more. */
  ended(thread: number): void;
  readonly asked: { carryOut(request: AdminRequest, progress: (text: string) => Promise<void>): unknown; status(): unknown };
}

/** The worker and the conversation with it, from its start to its end. */
interface Run {
  readonly worker: Worker;
  readonly port: ThreadPort;
  /** The reason of its end. */
  readonly ended: Promise<string>;
}

export class DeviceThread implements AsyncDisposable {
  readonly number: number;
  readonly job: Job;
  readonly #host: ThreadHost;
  #run: Run | null = null;
  #stopping = false;
  /** The pause before it starts anew. */
  #pauseMs = 0;
  #begun = 0;
  #restart: NodeJS.Timeout | null = null;
  /** Sockets that it may have left, when it was ended. */
  readonly #paths = new Set<string>();
  #pings: NodeJS.Timeout | null = null;

  private constructor(number: number, job: Job, host: ThreadHost) {
    this.number = number;
    this.job = job;
    this.#host = host;
  }

  /**
   * A thread that serves.
   *
   * @returns it, and the sockets that it listens at
   * @throws VfioError (rejects) the errors of `startPart`; then the thread is gone
   */
  static async start(number: number, job: Job, host: ThreadHost): Promise<{ thread: DeviceThread; sockets: readonly ServedSocket[] }> {
    const thread = new DeviceThread(number, job, host);
    return { thread, sockets: await thread.#begin() };
  }

  /** @throws VfioError (rejects) EIO while the thread is down; the other thread's error */
  ask<T>(word: string, value: unknown, progress?: (text: string) => void): Promise<T> {
    return this.#run === null ? Promise.reject(this.#down()) : this.#run.port.ask<T>(word, value, progress);
  }

  /** The server wants events from now on, or does not. */
  watch(wanted: ThreadData['events']): void {
    this.#run?.port.tell('watch', wanted);
  }

  #down(): VfioError {
    return new VfioError('EIO', `the thread of ${this.job.name} has ended`, { fix: 'Its last lines in the log say why.' });
  }

  async #begin(): Promise<readonly ServedSocket[]> {
    const { number, job } = this;
    const host = this.#host;
    const taken = new SharedArrayBuffer(4);
    host.begins(number, new Int32Array(taken));
    this.#begun = performance.now();
    const run = startWorker(
      { work: job, thread: number, table: host.table, taken, events: host.wanted() },
      {
        asked: host.asked,
        told: {
          log: ({ level, text }: { level: LogLevel; text: string }) => host.log(level, text),
          report: (line: string) => host.report(line),
          functions: (functions: readonly string[]) => this.#has(functions),
          events: (batch: EventBatch) => host.events(number, batch),
        },
      },
    );
    this.#run = run;
    void run.ended.then((why) => this.#ended(run, why));
    try {
      const sockets = await run.port.ask<readonly ServedSocket[]>('begin', null);
      for (const { path } of sockets) this.#paths.add(path);
      this.#watchOver(run);
      return sockets;
    } catch (error) {
      this.#stopping = true;
      await run.worker.terminate();
      throw error;
    }
  }

  #has(functions: readonly string[]): void {
    const { job } = this;
    this.#host.functions(this.number, functions);
    if (job.kind === 'machine') for (const bdf of functions) this.#paths.add(join(job.directory, `${bdf}.sock`));
  }

  /** Reports a thread that does not answer: its device computes, or runs in a circle. */
  #watchOver(run: Run): void {
    let since = performance.now();
    let reported = false;
    let waiting = false;
    this.#pings = setInterval(() => {
      if (!waiting) {
        since = performance.now();
        waiting = true;
        run.port.ask('ping', null).then(
          () => {
            if (reported)
              this.#host.note('warn', `${this.job.name} answers again, after ${Math.round((performance.now() - since) / 1000)} s`);
            reported = waiting = false;
          },
          () => {},
        );
      } else if (!reported && performance.now() - since > SLOW_MS) {
        reported = true;
        this.#host.note(
          'error',
          `${this.job.name} has not answered for ${SLOW_MS / 1000} s: its code runs without a pause. Other devices go on`,
        );
      }
    }, PING_MS);
    this.#pings.unref();
  }

  #ended(run: Run, why: string): void {
    if (this.#pings !== null) clearInterval(this.#pings);
    run.port.end(this.#down());
    if (this.#run === run) this.#run = null;
    this.#host.ended(this.number);
    if (this.#stopping) return;
    const { name } = this.job;
    if (performance.now() - this.#begun >= STEADY_MS) this.#pauseMs = 0;
    const soon = this.#pauseMs === 0 ? 'at once' : `in ${this.#pauseMs / 1000} s`;
    this.#host.note('error', `${name} has ended: ${why}. Its clients are disconnected, and it starts anew ${soon}, as after power-on`);
    this.#restart = setTimeout(() => {
      this.#begin().catch((error: unknown) => this.#host.note('error', `${name} does not start again: ${textOf(error)}`));
    }, this.#pauseMs);
    this.#pauseMs = Math.min(Math.max(PAUSE_MS, 2 * this.#pauseMs), PAUSE_MAX_MS);
  }

  /** The devices are closed, and the thread ends; one that does not answer is ended. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping = true;
    if (this.#restart !== null) clearTimeout(this.#restart);
    const run = this.#run;
    if (run !== null) await this.#stop(run);
    // A thread that was ended has left them.
    for (const path of this.#paths) for (const file of [path, managePathOf(path)]) removeLeft(file);
  }

  async #stop(run: Run): Promise<void> {
    const patience = setTimeout(() => void run.worker.terminate(), STOP_MS);
    run.port.ask('stop', null).catch((error: unknown) => this.#host.note('error', `${this.job.name} did not close: ${textOf(error)}`));
    await run.ended;
    clearTimeout(patience);
  }
}

/**
 * The answer of a thread that lives for one question.
 *
 * @throws VfioError (rejects) the thread's error
 */
export async function askOnce<T>(survey: Survey, table: SharedArrayBuffer): Promise<T> {
  const { worker, port, ended } = startWorker(
    { work: survey, thread: 0, table, taken: new SharedArrayBuffer(4), events: { on: false, data: false } },
    { asked: {}, told: {} },
  );
  void ended.then((why) => port.end(new VfioError('EIO', `${survey.name} cannot be loaded: ${why}`)));
  try {
    return await port.ask<T>('begin', null);
  } finally {
    await worker.terminate();
  }
}

function startWorker(data: ThreadData, handlers: Handlers): Run {
  const entry = isCompiled ? packageFile('dist/thread.js') : packageFile('src/api/threads/thread-entry.ts');
  const worker = new Worker(entry, {
    name: data.work.name.slice(0, 60),
    workerData: data,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
    ...(isCompiled ? {} : { execArgv: ['--import', packageFile('bin/typescript.js')] }),
  });
  let fault: unknown = null;
  worker.on('error', (error) => {
    fault ??= error;
  });
  const ended = new Promise<string>((resolve) => worker.once('exit', (code) => resolve(reasonOf(fault, code))));
  return { worker, port: new ThreadPort(worker, handlers), ended };
}

function reasonOf(fault: unknown, code: number): string {
  if (fault === null) return `its code called process.exit(${code})`;
  const { code: name } = fault as { readonly code?: string };
  return name === 'ERR_WORKER_OUT_OF_MEMORY' ? `its heap is full (${HEAP_MIB} MiB)` : textOf(fault);
}

function removeLeft(path: string): void {
  try {
    removeStaleSocket(path);
  } catch (error) {
    // Another process listens there by now.
    if (!(error instanceof VfioError)) throw error;
  }
}
