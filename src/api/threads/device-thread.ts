/**
 * A thread that does one job, as the thread that started it sees it. When it ends by itself, for
 * want of heap or because a device called process.exit(), it is started anew; other threads notice
 * nothing.
 */
import { rmSync } from 'node:fs';
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
import { SharedTable } from './shared-table.ts';
import { type OutputPiece, takeOutput } from './thread-output.ts';
import { type Handlers, ThreadPort } from './thread-port.ts';

/** Heap of a thread, in MiB. Memory of devices, as disks and BARs, is not in it. */
const HEAP_MIB = 1024;
/** How often a thread is asked whether it still answers. */
const PING_MS = 1000;
/** A thread that has not answered for so long is reported. */
const SLOW_MS = 5000;
/** The time that a thread has for its end. */
const STOP_MS = 5000;
/** The time that a thread has when its code is interrupted. */
const TERMINATE_MS = 1000;
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
  /** The run that has begun to serve. Another end is the end of an attempt. */
  #serving: Run | null = null;
  #stopping = false;
  /** The pause before it starts anew. */
  #pauseMs = 0;
  /** Questions that wait for an answer, by their way to give up. */
  readonly #asking = new Set<(error: Error) => void>();
  /** The thread has not answered for some time, and questions give up; null: it answers. */
  #silence: VfioError | null = null;
  #begun = 0;
  #restart: NodeJS.Timeout | null = null;
  /** Sockets that it may have left, when it was ended. */
  readonly #paths = new Set<string>();
  #pings: NodeJS.Timeout | null = null;

  private constructor(number: number, job: Job, host: ThreadHost) {
    this.number = number;
    this.job = job;
    this.#host = host;
    if (job.kind === 'devices') for (const { path } of job.devices) this.#paths.add(path);
  }

  /**
   * A thread that serves.
   *
   * @param signal ends an attempt that takes too long
   * @returns it, and the sockets that it listens at
   * @throws VfioError (rejects) the errors of `startPart`, EIO when its code ends it; then the
   *   thread is gone
   */
  static async start(
    number: number,
    job: Job,
    host: ThreadHost,
    signal?: AbortSignal,
  ): Promise<{ thread: DeviceThread; sockets: readonly ServedSocket[] }> {
    const thread = new DeviceThread(number, job, host);
    try {
      return { thread, sockets: await thread.#begin(signal) };
    } catch (error) {
      await thread[Symbol.asyncDispose]();
      throw error;
    }
  }

  /**
   * @throws VfioError (rejects) EIO while the thread is down or starts anew; ETIMEDOUT when it does
   *   not answer; the other thread's error
   */
  async ask<T>(word: string, value: unknown, progress?: (text: string) => void): Promise<T> {
    if (this.#serving === null) throw this.#down();
    const answer = this.#serving.port.ask<T>(word, value, progress);
    let giveUp = (_error: Error): void => {};
    // Not a race with one promise for the whole life of the thread, which would keep each answer.
    const given = new Promise<T>((resolve, reject) => {
      giveUp = reject;
      answer.then(resolve, reject);
    });
    this.#asking.add(giveUp);
    if (this.#silence !== null) giveUp(this.#silence);
    try {
      return await given;
    } finally {
      this.#asking.delete(giveUp);
    }
  }

  /** The server wants events from now on, or does not. */
  watch(wanted: ThreadData['events']): void {
    this.#run?.port.tell('watch', wanted);
  }

  #down(): VfioError {
    return new VfioError('EIO', `the thread of ${this.job.name} has ended`, { fix: 'Its last lines in the log say why.' });
  }

  async #begin(signal?: AbortSignal): Promise<readonly ServedSocket[]> {
    const { number, job } = this;
    const host = this.#host;
    const shared = newShared();
    host.begins(number, new Int32Array(shared.taken));
    this.#begun = performance.now();
    const run = startWorker(
      { work: job, thread: number, table: host.table, ...shared, events: host.wanted() },
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
    // Before `#ended`: it knows a better reason.
    const answer = beginning<readonly ServedSocket[]>(run, job.name, host, signal);
    void run.ended.then((why) => this.#ended(run, why));
    try {
      const sockets = await answer;
      this.#serving = run;
      for (const { path } of sockets) this.#paths.add(path);
      this.#watchOver(run);
      return sockets;
    } catch (error) {
      await endWorker(run, job.name, host);
      if (this.#run === run) this.#run = null;
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
    this.#silence = null;
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
            this.#silence = null;
            reported = waiting = false;
          },
          () => {},
        );
      } else if (!reported && performance.now() - since > SLOW_MS) {
        reported = true;
        this.#silence = new VfioError('ETIMEDOUT', `${this.job.name} does not answer: its code runs without a pause`, {
          fix: 'The thread does as asked when its code pauses. To end it, end the server.',
        });
        for (const giveUp of this.#asking) giveUp(this.#silence);
        this.#host.note(
          'error',
          `${this.job.name} has not answered for ${SLOW_MS / 1000} s: its code runs without a pause. Other devices go on`,
        );
      }
    }, PING_MS);
    this.#pings.unref();
  }

  #ended(run: Run, why: string): void {
    const served = this.#serving === run;
    run.port.end(this.#down());
    // One that could not be ended in time may end when the next one runs.
    if (this.#run === run) this.#run = null;
    this.#host.ended(this.number);
    if (!served) return;
    this.#serving = null;
    if (this.#pings !== null) clearInterval(this.#pings);
    if (performance.now() - this.#begun >= STEADY_MS) this.#pauseMs = 0;
    this.#startAnew(`has ended: ${why}. Its clients are disconnected, and it starts anew`);
  }

  #startAnew(what: string): void {
    if (this.#stopping) return;
    const soon = this.#pauseMs === 0 ? 'at once' : `in ${this.#pauseMs / 1000} s`;
    this.#host.note('error', `${this.job.name} ${what} ${soon}, as after power-on`);
    this.#restart = setTimeout(() => {
      this.#begin().catch((error: unknown) => this.#startAnew(`does not start: ${textOf(error)}. It is tried again`));
    }, this.#pauseMs);
    this.#pauseMs = Math.min(Math.max(PAUSE_MS, 2 * this.#pauseMs), PAUSE_MAX_MS);
  }

  /** The devices are closed, and the thread ends; one that does not answer is ended. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping = true;
    if (this.#restart !== null) clearTimeout(this.#restart);
    const run = this.#run;
    const gone = run === null || (await this.#stop(run));
    // A thread that was ended has left them; one that cannot be ended listens there still.
    for (const path of this.#paths) for (const file of [path, managePathOf(path)]) gone ? removeLeft(file) : rmSync(file, { force: true });
  }

  /** @returns whether it has ended */
  async #stop(run: Run): Promise<boolean> {
    const { name } = this.job;
    const host = this.#host;
    if (this.#serving === run) {
      let late = false;
      run.port.ask('stop', null).catch((error: unknown) => {
        if (!late) host.note('error', `${name} did not close: ${textOf(error)}`);
      });
      if (await within(run.ended, STOP_MS)) return true;
      late = true;
      host.note('warn', `${name} has not closed within ${STOP_MS / 1000} s: its thread is ended`);
    }
    return await endWorker(run, name, host);
  }
}

/**
 * The answer of a thread that lives for one question.
 *
 * @param signal ends a thread that takes too long
 * @throws VfioError (rejects) the thread's error; EIO when its code ends it
 */
export async function askOnce<T>(survey: Survey, host: Pick<ThreadHost, 'note'>, signal?: AbortSignal): Promise<T> {
  const table = new SharedTable().memory;
  const run = startWorker({ work: survey, thread: 0, table, ...newShared(), events: { on: false, data: false } }, { asked: {}, told: {} });
  try {
    return await beginning<T>(run, survey.name, host, signal);
  } finally {
    await endWorker(run, survey.name, host);
  }
}

const newShared = () => ({ taken: new SharedArrayBuffer(4), printed: new SharedArrayBuffer(4) });

/**
 * The first answer of a thread.
 *
 * @throws VfioError (rejects) the thread's error; EIO when its code ends it; the reason of `signal`
 */
async function beginning<T>(run: Run, name: string, host: Pick<ThreadHost, 'note'>, signal?: AbortSignal): Promise<T> {
  const slow = setTimeout(() => {
    host.note('warn', `${name} has not been loaded for ${SLOW_MS / 1000} s: a file of a device computes, or waits for something`);
  }, SLOW_MS);
  const giveUp = () => run.port.end(signal!.reason);
  signal?.addEventListener('abort', giveUp);
  void run.ended.then((why) => run.port.end(new VfioError('EIO', `${name} cannot be loaded: ${why}`)));
  try {
    signal?.throwIfAborted();
    return await run.port.ask<T>('begin', null);
  } finally {
    clearTimeout(slow);
    signal?.removeEventListener('abort', giveUp);
  }
}

/**
 * End a thread, whatever its code does. Code that waits in a call of the system, such as
 * execSync(), cannot be interrupted, and Node waits for it before the process ends: then the end of
 * the process is by SIGKILL, after all else is done.
 *
 * @returns whether it has ended
 */
async function endWorker({ worker, ended }: Run, name: string, host: Pick<ThreadHost, 'note'>): Promise<boolean> {
  void worker.terminate();
  if (await within(ended, TERMINATE_MS)) return true;
  host.note('error', `${name} cannot be ended: its code waits in a call of the system. The end of this process will be by SIGKILL`);
  worker.unref();
  const kill = () => process.kill(process.pid, 'SIGKILL');
  process.once('exit', kill);
  void ended.then(() => process.off('exit', kill));
  return false;
}

/** Whether `done` settles in time. */
async function within(done: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(resolve, ms, false);
  });
  try {
    return await Promise.race([done.then(() => true), late]);
  } finally {
    clearTimeout(timer);
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
  const waiting = new Int32Array(data.printed);
  const output = (piece: OutputPiece) => takeOutput(waiting, piece);
  return { worker, port: new ThreadPort(worker, { ...handlers, told: { ...handlers.told, output } }), ended };
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
