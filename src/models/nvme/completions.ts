/**
 * Reports completions to the host (NVMe 1.4, 4.6): posts entries as soon as there is room, and
 * sends one interrupt for all commands that end together.
 */
import { Dma } from '../../abi/device-host.ts';
import { Status } from '../../abi/nvme-status.ts';
import type { Command } from './command.ts';
import type { CommandEvents } from './command-events.ts';
import type { CompletionQueue } from './completion-queue.ts';
import type { Doorbells } from './doorbells.ts';
import type { Interrupts } from './interrupts.ts';
import type { RemoteWork } from './remote-work.ts';
import type { SubmissionQueue } from './submission-queue.ts';

/**
 * The members of `Queues` that the end of a command needs.
 */
export interface CompletingQueues {
  /** By queue identifier; null: not created. */
  readonly sq: readonly (SubmissionQueue | null)[];
  readonly cq: readonly (CompletionQueue | null)[];
  readonly doorbells: Doorbells;
  readonly remote: RemoteWork;
  /** Counts the starts of the controller: a command of an earlier one is not reported. */
  readonly life: number;
  readonly running: boolean;
  readonly busy: boolean;
  readonly halted: boolean;
  /** `command` of `sq` has ended, and the host's entry for it is posted. */
  ended(sq: SubmissionQueue, command: Command): void;
  /** The host has consumed entries of `cq`. */
  consumed(cq: CompletionQueue): void;
  /** Fetch and start commands, then report those that have ended. */
  kick(): void;
  /** Run `work`; its failure stops the controller. */
  guarded(work: () => void): void;
}

export interface CompletionHooks {
  /** A command failed: may record it, and gives the status to report (More may be added). */
  failed(command: Command, status: number): number;
  /** Queues cannot be reached: the controller stops (3.1.6, CFS). */
  fatal(reason: string): void;
}

export class Completions {
  interrupts!: Interrupts;
  readonly #queues: CompletingQueues;
  readonly #events: CommandEvents;
  readonly #hooks: CompletionHooks;
  /** Queues that have something to tell. */
  readonly #touched: CompletionQueue[] = [];
  /** The report comes at the end of the current work. */
  #soon = false;

  constructor(queues: CompletingQueues, events: CommandEvents, hooks: CompletionHooks) {
    this.#queues = queues;
    this.#events = events;
    this.#hooks = hooks;
  }

  /** Completions are on their way to remote memory: whether they arrive is not known yet. */
  get posting(): boolean {
    return this.#queues.cq.some((cq) => cq?.posting === true);
  }

  /** The end of a command: `Complete` of both halves. */
  complete(command: Command, status: number, result = 0): void {
    const queues = this.#queues;
    if (command.life !== queues.life) return;
    const sq = queues.sq[command.queueId]!;
    command.status = status === Status.SUCCESS ? status : this.#hooks.failed(command, status);
    command.result = result;
    if (this.#events.port.on) this.#postSeen(command, sq);
    else this.#post(command, sq);
  }

  /** The event of `command` is the cause of its completion, and of the interrupt. */
  #postSeen(command: Command, sq: SubmissionQueue): void {
    const { port } = this.#events;
    const seq = this.#events.ended(command, command.status);
    const before = port.cause;
    if (seq !== 0) port.cause = sq.cq.cause = seq;
    this.#post(command, sq);
    port.cause = before;
  }

  #post(command: Command, sq: SubmissionQueue): void {
    const queues = this.#queues;
    const { cq } = sq;
    if (cq.first === null && !cq.posting && !cq.full) {
      const done = cq.post(command, sq.head);
      if (done === Dma.DONE) queues.ended(sq, command);
      else if (done === Dma.REMOTE) cq.wait(command);
      else this.#hooks.fatal(`completion queue ${cq.id} cannot be written`);
    } else cq.wait(command);
    this.touch(cq);
  }

  /**
   * `cq` has completions that wait for room, or for an interrupt to the host.
   */
  touch(cq: CompletionQueue): void {
    if (!cq.touched) {
      cq.touched = true;
      this.#touched.push(cq);
    }
    // Inside `work` the report comes at the end of `work`. Elsewhere one report follows for all
    // commands that end together.
    if (this.#queues.busy || this.#soon) return;
    this.#soon = true;
    queueMicrotask(this.#later);
  }

  /** Post what waits, and interrupt the host. */
  tell(): void {
    const queues = this.#queues;
    const touched = this.#touched;
    for (let i = 0; i < touched.length; i++) {
      const cq = touched[i]!;
      cq.touched = false;
      if (queues.cq[cq.id] !== cq) continue;
      if (this.#events.port.on) this.#reportSeen(cq);
      else this.#report(cq);
    }
    touched.length = 0;
  }

  #reportSeen(cq: CompletionQueue): void {
    const { port } = this.#events;
    const before = port.cause;
    if (cq.cause !== 0) port.cause = cq.cause;
    this.#report(cq);
    port.cause = before;
  }

  #report(cq: CompletionQueue): void {
    const queues = this.#queues;
    if (cq.first !== null || cq.blocked) this.#drain(cq);
    if (cq.fresh === 0 || !queues.running) return;
    cq.cause = 0;
    this.interrupts.posted(cq);
    // The pin falls when the host has consumed all entries, so the host must ring for them.
    if (queues.doorbells.shadowed && this.interrupts.level) queues.doorbells.pollHead(cq);
  }

  /** No completion is reported any more. */
  clear(): void {
    this.#touched.length = 0;
  }

  readonly #later = (): void => {
    this.#soon = false;
    this.#queues.guarded(() => this.#queues.kick());
  };

  #drain(cq: CompletionQueue): void {
    const queues = this.#queues;
    const { doorbells } = queues;
    while (cq.first !== null && !cq.posting && queues.running) {
      if (cq.full && !(doorbells.shadowed && doorbells.pollHead(cq))) return;
      const command = cq.first;
      const sq = queues.sq[command.queueId]!;
      const done = cq.post(command, sq.head);
      if (done === Dma.DONE) {
        cq.takeWaiting();
        queues.ended(sq, command);
      } else if (done === Dma.REMOTE) {
        if (!queues.halted) void this.#postRemote(cq);
        return;
      } else {
        this.#hooks.fatal(`completion queue ${cq.id} cannot be written`);
        return;
      }
    }
    // Submission queues that waited for these completions continue, or the event index asks the
    // host to ring.
    if (cq.first !== null || !cq.blocked || cq.posting) return;
    if (!cq.full) queues.consumed(cq);
    else if (doorbells.shadowed) doorbells.pollHead(cq);
  }

  async #postRemote(cq: CompletionQueue): Promise<void> {
    const queues = this.#queues;
    const { life } = queues;
    queues.remote.begin();
    try {
      const posted = await cq.postRemote((command) => {
        const sq = queues.sq[command.queueId]!;
        // The host may use it again before we hear that it has heard.
        sq.releaseId(command.id);
        return sq.head;
      });
      cq.landed();
      if (queues.life !== life) return;
      queues.guarded(() => {
        for (const command of posted) queues.ended(queues.sq[command.queueId]!, command);
        this.touch(cq);
      });
    } catch {
      cq.landed();
      if (queues.life === life) this.#hooks.fatal(`completion queue ${cq.id} cannot be written`);
    } finally {
      queues.remote.end();
    }
  }
}
