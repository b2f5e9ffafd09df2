/** The threads of one server: they begin and end here, and what they share is kept here. */
import { VfioError } from '../../base/errno.ts';
import type { EventSource } from '../../events/source.ts';
import type { EventStream } from '../../events/stream.ts';
import type { AdminDesk } from '../admin/desk.ts';
import { DeviceThread, type ThreadHost } from './device-thread.ts';
import { EventMerger } from './event-relay.ts';
import type { Job, ServedSocket } from './jobs.ts';
import { type PowerOnNumbers, SharedTable, THREADS_MAX } from './shared-table.ts';

/** Where the reports of a server's threads go. */
export interface ThreadReports {
  /** Gets the events of all threads. */
  readonly events: EventStream;
  /** Gets lines about code that was loaded anew. */
  readonly report: (line: string) => void;
}

export class ServerThreads implements AsyncDisposable {
  readonly table = new SharedTable();
  readonly #reports: ThreadReports;
  /** Of the server itself. */
  readonly #source: EventSource;
  readonly #merger: EventMerger;
  readonly #threads = new Map<number, DeviceThread>();
  /** Those that have not begun to serve yet, by number. */
  readonly #starting = new Map<number, Promise<unknown>>();
  /** The server ends: no thread begins any more. */
  readonly #end = new AbortController();
  /** The functions of each thread, by address. */
  readonly #functions = new Map<number, ReadonlySet<string>>();

  constructor(reports: ThreadReports) {
    this.#reports = reports;
    this.#source = reports.events.source('threads');
    this.#merger = new EventMerger(reports.events);
    this.#source.onSwitch = () => {
      for (const thread of this.#threads.values()) thread.watch(this.#wanted());
    };
  }

  #wanted(): { readonly on: boolean; readonly data: boolean } {
    return { on: this.#source.on, data: this.#source.data };
  }

  /** The threads that run, by number. */
  get threads(): ReadonlyMap<number, DeviceThread> {
    return this.#threads;
  }

  /** Whether one more may begin. */
  get hasRoom(): boolean {
    return this.#threads.size < THREADS_MAX;
  }

  /** The functions of a thread, also of one that is down. */
  functionsOf(thread: DeviceThread): ReadonlySet<string> {
    return this.#functions.get(thread.number) ?? new Set();
  }

  /** Numbers that functions have at power-on: no other function gets them. */
  reserve(atPowerOn: PowerOnNumbers): void {
    this.table.reserve(atPowerOn);
  }

  /**
   * @param desk carries out what administrators ask for at the sockets of the thread
   * @param signal gives up while the thread begins
   * @throws VfioError (rejects) as `DeviceThread.start`; EINTR when the server ends meanwhile
   */
  async start(
    job: Job,
    desk: AdminDesk | null,
    signal?: AbortSignal,
  ): Promise<{ readonly thread: DeviceThread; readonly sockets: readonly ServedSocket[] }> {
    let number = 0;
    while (this.#threads.has(number) || this.#starting.has(number)) number++;
    const starting = this.#start(number, job, desk, signal);
    this.#starting.set(number, starting);
    try {
      return await starting;
    } finally {
      this.#starting.delete(number);
    }
  }

  async #start(number: number, job: Job, desk: AdminDesk | null, signal?: AbortSignal) {
    const end = this.#end.signal;
    end.throwIfAborted();
    const started = await DeviceThread.start(number, job, this.#hostFor(desk), signal === undefined ? end : AbortSignal.any([signal, end]));
    if (end.aborted) {
      await started.thread[Symbol.asyncDispose]();
      throw end.reason;
    }
    this.#threads.set(number, started.thread);
    started.thread.watch(this.#wanted());
    return started;
  }

  #hostFor(desk: AdminDesk | null): ThreadHost {
    const { events, report } = this.#reports;
    return {
      table: this.table.memory,
      wanted: () => this.#wanted(),
      log: (level, text) => events.logger.log(level, text),
      note: (level, text) => this.#source.note(level, text, text),
      report,
      functions: (thread, functions) => void this.#functions.set(thread, new Set(functions)),
      events: (thread, batch) => this.#merger.receive(thread, batch),
      begins: (thread, taken) => this.#merger.add(thread, taken),
      ended: (thread) => {
        this.#merger.remove(thread);
        this.table.forget(thread);
      },
      asked: {
        carryOut: (request, progress) => desk!.carryOut(request, progress),
        status: () => desk!.status(),
      },
    };
  }

  /** Every thread closes its devices and ends, and so does one that begins. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort(new VfioError('EINTR', 'the server ends', { fix: 'Start it again first.' }));
    await Promise.allSettled(this.#starting.values());
    await Promise.all([...this.#threads.values()].map((thread) => thread[Symbol.asyncDispose]()));
    this.#threads.clear();
    this.#merger[Symbol.dispose]();
    this.#source[Symbol.dispose]();
  }
}
