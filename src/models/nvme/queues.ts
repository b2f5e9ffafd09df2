/**
 * All queues of a controller, arbitration between them (round robin, NVMe 1.4, 4.13), and fetching.
 * A doorbell starts the work, which ends when the queues are empty, or when the time slice is over.
 *
 * Longer than 400 lines because fetching, starting and ending commands share one count of those
 * under way, and each can make a queue ready again.
 */
import { type DeviceHost, Dma } from '../../abi/device-host.ts';
import { refused, Status } from '../../abi/nvme-status.ts';
import { textOf } from '../../base/foreign.ts';
import type { Command, CommandSet } from './command.ts';
import type { CommandEvents } from './command-events.ts';
import { CommandPool } from './command-pool.ts';
import type { CompletionQueue } from './completion-queue.ts';
import { type CompletingQueues, type CompletionHooks, Completions } from './completions.ts';
import { type DoorbellHooks, Doorbells, type RungQueues } from './doorbells.ts';
import type { FastCommands } from './fast-path.ts';
import { ReadyList } from './ready-list.ts';
import { RemoteWork } from './remote-work.ts';
import type { ShadowDoorbells } from './shadow-doorbells.ts';
import type { SubmissionQueue } from './submission-queue.ts';

/** I/O commands, and admin commands, under way at once; more wait in their queues. */
const UNDER_WAY_MAX = 4096;
const ADMIN_UNDER_WAY_MAX = 64;
/** Others have their turn after so many commands, or so long. */
const TURN_COMMANDS = 1024;
const TURN_NS = 2e6;
/** Commands between two looks at the clock. */
const STRIDE = 32;

export interface QueuesHooks extends CompletionHooks, DoorbellHooks {}

export class Queues implements CompletingQueues, RungQueues {
  /** By queue identifier; null: not created. */
  readonly sq: (SubmissionQueue | null)[];
  readonly cq: (CompletionQueue | null)[];
  /** Commands of one queue in a row (5.21.1.1, Arbitration Burst). */
  burst = Number.POSITIVE_INFINITY;
  admin!: CommandSet;
  io!: CommandSet;
  /** For I/O commands that end at once; null: the controller has none. */
  fast: FastCommands | null = null;
  readonly doorbells: Doorbells;
  readonly completions: Completions;
  /** Entries on their way from and to queues in remote memory. */
  readonly remote = new RemoteWork();
  readonly #host: DeviceHost;
  readonly #events: CommandEvents;
  readonly #hooks: QueuesHooks;
  readonly #ready: ReadyList;
  readonly #pool = new CommandPool();
  #life = 0;
  /** I/O commands under way. */
  #underWay = 0;
  /** Queues wait for one of them to end. */
  #starved = false;
  #running = false;
  #busy = false;
  #halted = false;
  /** Work goes on from a timer. */
  #timer: Disposable | null = null;

  /** @param count  queues, the admin queue included */
  constructor(host: DeviceHost, count: number, shadow: ShadowDoorbells, events: CommandEvents, hooks: QueuesHooks) {
    this.#host = host;
    this.#events = events;
    this.#hooks = hooks;
    this.doorbells = new Doorbells(this, shadow, events, hooks);
    this.completions = new Completions(this, events, hooks);
    this.sq = new Array(count).fill(null);
    this.cq = new Array(count).fill(null);
    this.#ready = new ReadyList(count);
  }

  /** Whether commands are taken: from `start` until `stop`. */
  get running(): boolean {
    return this.#running;
  }

  /** It counts: commands and messages of another one are no business of this. */
  get life(): number {
    return this.#life;
  }

  /** Within work, which ends with telling what has ended. */
  get busy(): boolean {
    return this.#busy;
  }

  /** The queue stands still: it fetches and reports nothing. */
  get halted(): boolean {
    return this.#halted;
  }

  start(): void {
    this.#running = true;
  }

  /**
   * Stop fetching, completing and reporting. The queues do not change until `reset`.
   *
   * @param why the reason, for the events of commands under way
   */
  stop(why = 'controller stopped'): void {
    if (this.#events.on) for (const command of this.#pool.underWay()) this.#events.dropped(command, why);
    this.#running = false;
    this.#life++;
    this.#ready.clear();
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
    this.#underWay = 0;
    this.#starved = false;
    this.#pool.clear();
    this.completions.clear();
  }

  reset(): void {
    this.stop('controller reset');
    this.sq.fill(null);
    this.cq.fill(null);
    this.burst = Number.POSITIVE_INFINITY;
  }

  /** Nothing more is fetched. `settle` still reports commands that end now. */
  halt(): void {
    this.#halted = true;
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
  }

  /** While halted: post what has ended where that needs no waiting, and interrupt the host. */
  settle(): void {
    if (this.#running) this.completions.tell();
  }

  /** All commands that are under way. */
  underWay(): Command[] {
    return this.#pool.underWay();
  }

  /** A command that was fetched elsewhere is under way here. */
  take(sq: SubmissionQueue, dw: Uint32Array): Command {
    const command = this.#pool.take(this.#life);
    command.dw.set(dw);
    command.queueId = sq.id;
    if (this.#events.on) this.#events.arrived(command);
    sq.outstanding++;
    if (sq.id !== 0) this.#underWay++;
    sq.holdId(command.id);
    return command;
  }

  /** Go on. @param restart  begins the commands that were suspended */
  goOn(restart: () => void): void {
    this.#halted = false;
    if (!this.#running) return;
    const within = this.#busy;
    this.#busy = true;
    this.guarded(() => {
      try {
        restart();
        if (this.#running) this.#catchUp();
      } finally {
        this.#busy = within;
      }
      this.kick();
    });
  }

  /** Doorbells that rang meanwhile, and work that had waited for something. */
  #catchUp(): void {
    for (const cq of this.cq) {
      if (cq === null) continue;
      cq.blocked = false;
      this.doorbells.catchUpHead(cq);
      if (cq.first !== null || cq.fresh > 0) this.completions.touch(cq);
    }
    for (const sq of this.sq) {
      if (sq === null || !this.#running) continue;
      this.doorbells.catchUpTail(sq);
      if (sq.waiting > 0) this.makeReady(sq);
      else if (sq.deleting !== null && sq.outstanding === 0) this.#deleted(sq);
    }
  }

  /** Do what there is to do. */
  kick(): void {
    if (this.#busy || this.#halted) return;
    this.#busy = true;
    try {
      this.#work();
    } finally {
      this.#busy = false;
    }
    if (this.#ready.count > 0 && this.#timer === null && !this.#halted) {
      this.#timer = this.#host.clock.after(0, () => {
        this.#timer = null;
        this.guarded(() => this.kick());
      });
    }
  }

  /** The command `id` of submission queue `queueId` that is under way; null: there is none. */
  find(queueId: number, id: number): Command | null {
    return this.#pool.find(queueId, id);
  }

  createCq(cq: CompletionQueue): void {
    this.cq[cq.id] = cq;
    this.doorbells.clearHead(cq.id);
  }

  createSq(sq: SubmissionQueue): void {
    this.sq[sq.id] = sq;
    sq.cq.users++;
    this.doorbells.clearTail(sq.id);
  }

  deleteCq(cq: CompletionQueue): void {
    this.cq[cq.id] = null;
    this.doorbells.dropHead(cq.id);
    this.completions.interrupts.updateLevel();
  }

  /** Delete `sq` (5.6): nothing more is fetched; `command` ends when those under way have. */
  deleteSq(sq: SubmissionQueue, command: Command): void {
    sq.deleting = command;
    sq.head = sq.tail;
    sq.cq.dropWaiting(sq.id, (waiting) => this.ended(sq, waiting));
    if (sq.deleting !== null && sq.outstanding === 0) this.#deleted(sq);
  }

  /** The host made room. */
  consumed(cq: CompletionQueue): void {
    if (cq.first !== null) this.completions.touch(cq);
    if (cq.blocked) {
      cq.blocked = false;
      for (const sq of this.sq) if (sq !== null && sq.cq === cq && sq.waiting > 0) this.makeReady(sq);
    }
    this.completions.interrupts.consumed();
  }

  /** There is something to fetch from `sq`. */
  makeReady(sq: SubmissionQueue): void {
    if (!sq.fetching && sq.deleting === null) this.#ready.push(sq);
  }

  #work(): void {
    // Read the clock only when there is much work.
    let until = 0;
    let unclocked = 0;
    let left = TURN_COMMANDS;
    do {
      while (this.#ready.count > 0 && left > 0 && !this.#halted) {
        const sq = this.#ready.take();
        if (this.sq[sq.id] !== sq) continue;
        const served = this.#serve(sq, Math.min(this.burst, left, STRIDE));
        left -= served;
        unclocked += served;
        if (unclocked < STRIDE) continue;
        unclocked = 0;
        const now = this.#host.clock.nowNs();
        if (until === 0) until = now + TURN_NS;
        else if (now >= until) left = 0;
      }
      if (this.#running) this.io.submit();
      this.completions.tell();
    } while (this.#ready.count > 0 && left > 0 && !this.#halted);
  }

  /**
   * Fetches and starts up to `max` commands of `sq`. Returns their number, at least 1, for the
   * budget.
   */
  #serve(sq: SubmissionQueue, max: number): number {
    const { cq } = sq;
    const set = sq.id === 0 ? this.admin : this.io;
    const life = this.#life;
    const seen = this.#events.on;
    let count = 0;
    for (;;) {
      if (sq.head === sq.tail) {
        if (!this.#running || !this.doorbells.shadowed || !this.doorbells.pollTail(sq)) break;
      }
      if (count >= max) {
        this.makeReady(sq);
        break;
      }
      if ((cq.first !== null || cq.posting || cq.full) && !this.#hasRoom(cq)) break;
      if (sq.id === 0 ? sq.outstanding >= ADMIN_UNDER_WAY_MAX : this.#underWay >= UNDER_WAY_MAX) {
        this.#starved = true;
        break;
      }
      const fast = this.#serveFast(sq, max - count);
      if (fast > 0) {
        count += fast;
        continue;
      }
      const command = this.#pool.take(this.#life);
      const done = sq.fetch(command);
      if (done !== Dma.DONE) {
        this.#pool.give(command);
        if (done === Dma.REMOTE) void this.#fetchAhead(sq);
        else this.#hooks.fatal(`submission queue ${sq.id} cannot be read`);
        break;
      }
      count++;
      if (seen) this.#startSeen(sq, set, command);
      else this.#start(sq, set, command);
      // The interrupted host may have reset and enabled the controller again before this promise
      // settles.
      if (this.#life !== life || this.#halted || sq.deleting !== null) break;
    }
    return Math.max(count, 1);
  }

  /** Commands at the head of `sq` that end at once: their number. */
  #serveFast(sq: SubmissionQueue, max: number): number {
    const { fast } = this;
    const { cq } = sq;
    // A command under way has an identifier that no other may have.
    if (fast === null || sq.id === 0 || sq.outstanding > 0 || cq.first !== null || cq.posting) return 0;
    const words = cq.ring.words();
    const room = cq.size - 1 - cq.held;
    if (words === null || room === 0) return 0;
    const count = fast.runFast(sq, max < room ? max : room);
    if (count === 0) return 0;
    sq.skip(count);
    cq.postMany(words, fast.fastIds, count, sq.id, sq.head);
    this.completions.touch(cq);
    return count;
  }

  #startSeen(sq: SubmissionQueue, set: CommandSet, command: Command): void {
    const { port } = this.#events;
    this.#events.began(command, sq);
    const before = port.cause;
    port.cause = command.cause;
    this.#start(sq, set, command);
    port.cause = before;
  }

  #start(sq: SubmissionQueue, set: CommandSet, command: Command): void {
    const life = this.#life;
    command.queueId = sq.id;
    sq.outstanding++;
    if (sq.id !== 0) this.#underWay++;
    const { id } = command;
    if (sq.outstanding > 1 && sq.holdsId(id)) {
      this.completions.complete(command, refused(Status.COMMAND_ID_CONFLICT));
      // It stays the other's.
      sq.holdId(id);
      return;
    }
    set.start(command);
    if (command.life === life && this.#life === life) sq.holdId(id);
  }

  /** The completion of `command` has been posted, or is not wanted. */
  ended(sq: SubmissionQueue, command: Command): void {
    sq.releaseId(command.id);
    sq.outstanding--;
    this.#pool.give(command);
    if (sq.id !== 0) this.#underWay--;
    if (this.#starved) {
      this.#starved = false;
      for (const other of this.sq) if (other !== null && other.waiting > 0 && !other.cq.blocked) this.makeReady(other);
    }
    if (sq.deleting !== null && sq.outstanding === 0) this.#deleted(sq);
  }

  #deleted(sq: SubmissionQueue): void {
    const command = sq.deleting!;
    sq.deleting = null;
    this.sq[sq.id] = null;
    this.doorbells.dropTail(sq.id);
    sq.cq.users--;
    this.completions.complete(command, Status.SUCCESS);
  }

  /** No caller catches an error of this function. */
  guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#host.log.log('error', `nvme: ${textOf(error)}`);
      this.#hooks.fatal('a bug');
    }
  }

  async #fetchAhead(sq: SubmissionQueue): Promise<void> {
    const life = this.#life;
    this.remote.begin();
    try {
      await sq.fetchAhead();
    } catch {
      if (this.#life === life && this.sq[sq.id] === sq) this.#hooks.fatal(`submission queue ${sq.id} cannot be read`);
      return;
    } finally {
      this.remote.end();
    }
    if (this.#life !== life || this.sq[sq.id] !== sq) return;
    this.guarded(() => {
      this.makeReady(sq);
      this.kick();
    });
  }

  /**
   * Whether to fetch a command that completes in `cq`, which is full or has waiting completions.
   * False: fetching continues when the queue has room.
   */
  #hasRoom(cq: CompletionQueue): boolean {
    if (this.doorbells.shadowed && cq.full) this.doorbells.pollHead(cq);
    if (cq.first === null && !cq.posting && !cq.full) return true;
    cq.blocked = true;
    return false;
  }
}
