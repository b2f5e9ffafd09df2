/**
 * All queues of a controller: doorbells, arbitration (round robin, NVMe 1.4, 4.13), fetching, and posting completions. A doorbell starts the work, which
 * goes on until there is none, or others have their turn.
 */
import { type DeviceHost, Dma } from '../../abi/device-host.ts';
import { EventError } from '../../abi/nvme.ts';
import { Status, StatusBit } from '../../abi/nvme-status.ts';
import type { Command, CommandSet } from './command.ts';
import { CommandPool } from './command-pool.ts';
import type { CompletionQueue } from './completion-queue.ts';
import type { Interrupts } from './interrupts.ts';
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

export interface QueuesHooks {
  /** A command failed: may record it, and gives the status to tell (More may be added). */
  failed(command: Command, status: number): number;
  /** A doorbell that cannot be (5.2.1): `error` is one of `EventError`. */
  invalidDoorbell(error: number, queueId: number): void;
  /** Queues cannot be reached: the controller stops (3.1.6, CFS). */
  fatal(reason: string): void;
}

export class Queues {
  /** By queue identifier; null: not created. */
  readonly sq: (SubmissionQueue | null)[];
  readonly cq: (CompletionQueue | null)[];
  /** Commands of one queue in a row (5.21.1.1, Arbitration Burst). */
  burst = Number.POSITIVE_INFINITY;
  admin!: CommandSet;
  io!: CommandSet;
  interrupts!: Interrupts;
  readonly #host: DeviceHost;
  readonly #shadow: ShadowDoorbells;
  readonly #hooks: QueuesHooks;
  readonly #ready: ReadyList;
  readonly #pool = new CommandPool();
  readonly #remote = new RemoteWork();
  #life = 0;
  /** I/O commands under way. */
  #underWay = 0;
  /** Queues wait for one of them to end. */
  #starved = false;
  readonly #touched: CompletionQueue[] = [];
  #running = false;
  #busy = false;
  /** Nothing is fetched or told: it stands still. */
  #halted = false;
  /** Work goes on from a timer, or from the end of what runs now. */
  #timer: Disposable | null = null;
  #soon = false;

  /** @param count  queues, the admin queue included */
  constructor(host: DeviceHost, count: number, shadow: ShadowDoorbells, hooks: QueuesHooks) {
    this.#host = host;
    this.#shadow = shadow;
    this.#hooks = hooks;
    this.sq = new Array(count).fill(null);
    this.cq = new Array(count).fill(null);
    this.#ready = new ReadyList(count);
  }

  /** Whether commands are taken: from `start` until `stop`. */
  get running(): boolean {
    return this.#running;
  }

  get life(): number {
    return this.#life;
  }

  /** Commands under way, those of the admin queue too; completions that wait for room count. */
  get outstanding(): number {
    let sum = 0;
    for (const sq of this.sq) if (sq !== null) sum += sq.outstanding;
    return sum;
  }

  start(): void {
    this.#running = true;
  }

  /** Nothing is fetched, completed or told from here on; the queues stay as they are until `reset`. */
  stop(): void {
    this.#running = false;
    this.#life++;
    this.#ready.clear();
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
    this.#underWay = 0;
    this.#starved = false;
    this.#pool.clear();
    this.#touched.length = 0;
  }

  reset(): void {
    this.stop();
    this.sq.fill(null);
    this.cq.fill(null);
    this.burst = Number.POSITIVE_INFINITY;
  }

  /** After `reset`: see RemoteWork. */
  quiet(): Promise<void> | null {
    return this.#remote.quiet();
  }

  /** Nothing more is fetched. What ends now is still told, by `settle`. */
  halt(): void {
    this.#halted = true;
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
  }

  /** While halted: post what has ended where that needs no waiting, and interrupt the host. */
  settle(): void {
    if (this.#running) this.#tell();
  }

  /** Completions are on their way to remote memory: whether they arrive is not known yet. */
  get posting(): boolean {
    return this.cq.some((cq) => cq?.posting === true);
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
    this.#guarded(() => {
      try {
        restart();
        if (this.#running) this.#catchUp();
      } finally {
        this.#busy = within;
      }
      this.kick();
    });
  }

  /** What doorbells said meanwhile, and what had waited for something. */
  #catchUp(): void {
    for (const cq of this.cq) {
      if (cq === null) continue;
      cq.blocked = false;
      if (this.#shadow.enabled) {
        if (cq.id === 0) this.#setShadow(1, cq.head);
        else this.#pollHead(cq);
      }
      if (cq.first !== null || cq.fresh > 0) this.#touch(cq);
    }
    for (const sq of this.sq) {
      if (sq === null || !this.#running) continue;
      if (this.#shadow.enabled) {
        if (sq.id === 0) this.#setShadow(0, sq.tail);
        else this.#pollTail(sq);
      }
      if (sq.waiting > 0) this.#makeReady(sq);
      else if (sq.deleting !== null && sq.outstanding === 0) this.#deleted(sq);
    }
  }

  /** A write to doorbell `index` (3.1.24, 3.1.25): even ones are tails of submission queues, odd ones heads of completion queues. */
  ring(index: number, value: number): void {
    if (!this.#running) return;
    if ((index & 1) === 0) this.#ringTail(index >>> 1, value);
    else this.#ringHead(index >>> 1, value);
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
        this.kick();
      });
    }
  }

  /** The end of a command: `Complete` of both halves. */
  complete(command: Command, status: number, result = 0): void {
    if (command.life !== this.#life) return;
    const sq = this.sq[command.queueId]!;
    const { cq } = sq;
    command.status = status === Status.SUCCESS ? status : this.#hooks.failed(command, status);
    command.result = result;
    if (cq.first === null && !cq.posting && !cq.full) {
      const done = cq.post(command, sq.head);
      if (done === Dma.DONE) this.#ended(sq, command);
      else if (done === Dma.REMOTE) cq.wait(command);
      else this.#hooks.fatal(`completion queue ${cq.id} cannot be written`);
    } else cq.wait(command);
    this.#touch(cq);
  }

  /** The command `id` of submission queue `queueId` that is under way; null: there is none. */
  find(queueId: number, id: number): Command | null {
    return this.#pool.find(queueId, id);
  }

  createCq(cq: CompletionQueue): void {
    this.cq[cq.id] = cq;
    this.#clearShadow(2 * cq.id + 1);
  }

  createSq(sq: SubmissionQueue): void {
    this.sq[sq.id] = sq;
    sq.cq.users++;
    this.#clearShadow(2 * sq.id);
  }

  deleteCq(cq: CompletionQueue): void {
    this.cq[cq.id] = null;
    this.interrupts.updateLevel();
  }

  /** Delete `sq` (5.6): nothing more is fetched; `command` ends when those under way have. */
  deleteSq(sq: SubmissionQueue, command: Command): void {
    sq.deleting = command;
    sq.head = sq.tail;
    sq.cq.dropWaiting(sq.id, (waiting) => this.#ended(sq, waiting));
    if (sq.deleting !== null && sq.outstanding === 0) this.#deleted(sq);
  }

  /** Shadow doorbells are in use from now on: they start from where the queues are. */
  shadowsConfigured(): void {
    for (const sq of this.sq) if (sq !== null) this.#setShadow(2 * sq.id, sq.tail);
    for (const cq of this.cq) if (cq !== null) this.#setShadow(2 * cq.id + 1, cq.head);
  }

  #ringTail(queueId: number, value: number): void {
    const sq = this.sq[queueId];
    if (sq === undefined || sq === null || sq.deleting !== null) {
      this.#hooks.invalidDoorbell(EventError.INVALID_DOORBELL_REGISTER, queueId);
    } else if (this.#shadow.enabled && queueId !== 0) {
      // The register says only that there is news: the value may be older than what the shadow has told already.
      if (value >= sq.size) this.#hooks.invalidDoorbell(EventError.INVALID_DOORBELL_VALUE, queueId);
      else if (!this.#halted && (sq.waiting > 0 || this.#pollTail(sq))) this.#makeReady(sq);
    } else if (sq.takesTail(value)) {
      sq.tail = value;
      // Hosts that keep their admin queue out of the shadows are many; others find there what they wrote.
      if (this.#shadow.enabled && !this.#halted) this.#setShadow(0, value);
      this.#makeReady(sq);
    } else this.#hooks.invalidDoorbell(EventError.INVALID_DOORBELL_VALUE, queueId);
    this.kick();
  }

  #ringHead(queueId: number, value: number): void {
    const cq = this.cq[queueId];
    if (cq === undefined || cq === null) this.#hooks.invalidDoorbell(EventError.INVALID_DOORBELL_REGISTER, queueId);
    else if (this.#shadow.enabled && queueId !== 0) {
      if (value >= cq.size) this.#hooks.invalidDoorbell(EventError.INVALID_DOORBELL_VALUE, queueId);
      else if (!this.#halted) this.#pollHead(cq);
    } else if (cq.takesHead(value)) {
      cq.head = value;
      if (this.#shadow.enabled && !this.#halted) this.#setShadow(1, value);
      this.#consumed(cq);
    } else this.#hooks.invalidDoorbell(EventError.INVALID_DOORBELL_VALUE, queueId);
    this.kick();
  }

  /** The host made room. */
  #consumed(cq: CompletionQueue): void {
    if (cq.first !== null) this.#touch(cq);
    if (cq.blocked) {
      cq.blocked = false;
      for (const sq of this.sq) if (sq !== null && sq.cq === cq && sq.waiting > 0) this.#makeReady(sq);
    }
    this.interrupts.consumed();
  }

  #makeReady(sq: SubmissionQueue): void {
    if (!sq.fetching && sq.deleting === null) this.#ready.push(sq);
  }

  #work(): void {
    // The clock is looked at only where there is much to do.
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
      this.#tell();
    } while (this.#ready.count > 0 && left > 0 && !this.#halted);
  }

  /** Fetches and starts up to `max` commands of `sq`. Gives how many: at least 1, for the budget. */
  #serve(sq: SubmissionQueue, max: number): number {
    const { cq } = sq;
    const set = sq.id === 0 ? this.admin : this.io;
    const life = this.#life;
    let count = 0;
    for (;;) {
      if (sq.head === sq.tail) {
        if (!this.#running || !this.#shadow.enabled || !this.#pollTail(sq)) break;
      }
      if (count >= max) {
        this.#makeReady(sq);
        break;
      }
      if ((cq.first !== null || cq.posting || cq.full) && !this.#hasRoom(cq)) break;
      if (sq.id === 0 ? sq.outstanding >= ADMIN_UNDER_WAY_MAX : this.#underWay >= UNDER_WAY_MAX) {
        this.#starved = true;
        break;
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
      this.#start(sq, set, command);
      // A host that is interrupted may have reset the controller, and enabled it again, before we hear of it.
      if (this.#life !== life || this.#halted || sq.deleting !== null) break;
    }
    return Math.max(count, 1);
  }

  #start(sq: SubmissionQueue, set: CommandSet, command: Command): void {
    const life = this.#life;
    command.queueId = sq.id;
    sq.outstanding++;
    if (sq.id !== 0) this.#underWay++;
    const { id } = command;
    if (sq.outstanding > 1 && sq.holdsId(id)) {
      this.complete(command, Status.COMMAND_ID_CONFLICT | StatusBit.DO_NOT_RETRY);
      // It stays the other's.
      sq.holdId(id);
      return;
    }
    set.start(command);
    if (command.life === life && this.#life === life) sq.holdId(id);
  }

  /** The completion of `command` has been posted, or is not wanted. */
  #ended(sq: SubmissionQueue, command: Command): void {
    sq.releaseId(command.id);
    sq.outstanding--;
    this.#pool.give(command);
    if (sq.id !== 0) this.#underWay--;
    if (this.#starved) {
      this.#starved = false;
      for (const other of this.sq) if (other !== null && other.waiting > 0 && !other.cq.blocked) this.#makeReady(other);
    }
    if (sq.deleting !== null && sq.outstanding === 0) this.#deleted(sq);
  }

  #deleted(sq: SubmissionQueue): void {
    const command = sq.deleting!;
    sq.deleting = null;
    this.sq[sq.id] = null;
    sq.cq.users--;
    this.complete(command, Status.SUCCESS);
  }

  /** `cq` has something to tell: completions that wait, or that the host has not been interrupted for. */
  #touch(cq: CompletionQueue): void {
    if (!cq.touched) {
      cq.touched = true;
      this.#touched.push(cq);
    }
    // Within work it ends with telling; else what ends together now is told together.
    if (this.#busy || this.#soon) return;
    this.#soon = true;
    queueMicrotask(this.#later);
  }

  readonly #later = (): void => {
    this.#soon = false;
    this.#guarded(() => this.kick());
  };

  /** Nobody above catches what is thrown here. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#host.log.log('error', `nvme: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
      this.#hooks.fatal('a bug');
    }
  }

  /** Post what waits, and interrupt the host. */
  #tell(): void {
    const touched = this.#touched;
    for (let i = 0; i < touched.length; i++) {
      const cq = touched[i]!;
      cq.touched = false;
      if (this.cq[cq.id] !== cq) continue;
      if (cq.first !== null || cq.blocked) this.#drain(cq);
      if (cq.fresh > 0 && this.#running) {
        this.interrupts.posted(cq);
        // The pin falls when all is consumed: the host has to tell.
        if (this.#shadow.enabled && this.interrupts.level) this.#pollHead(cq);
      }
    }
    touched.length = 0;
  }

  #drain(cq: CompletionQueue): void {
    while (cq.first !== null && !cq.posting && this.#running) {
      if (cq.full && !(this.#shadow.enabled && this.#pollHead(cq))) return;
      const command = cq.first;
      const sq = this.sq[command.queueId]!;
      const done = cq.post(command, sq.head);
      if (done === Dma.DONE) {
        cq.takeWaiting();
        this.#ended(sq, command);
      } else if (done === Dma.REMOTE) {
        if (!this.#halted) void this.#postRemote(cq);
        return;
      } else {
        this.#hooks.fatal(`completion queue ${cq.id} cannot be written`);
        return;
      }
    }
    // Queues that found completions waiting here go on, or the host learns that it has to ring for them.
    if (cq.first !== null || !cq.blocked || cq.posting) return;
    if (!cq.full) this.#consumed(cq);
    else if (this.#shadow.enabled) this.#pollHead(cq);
  }

  async #postRemote(cq: CompletionQueue): Promise<void> {
    const life = this.#life;
    this.#remote.begin();
    try {
      const posted = await cq.postRemote((command) => {
        const sq = this.sq[command.queueId]!;
        // The host may use it again before we hear that it has heard.
        sq.releaseId(command.id);
        return sq.head;
      });
      if (this.#life !== life) return;
      this.#guarded(() => {
        for (const command of posted) this.#ended(this.sq[command.queueId]!, command);
        this.#touch(cq);
      });
    } catch {
      if (this.#life === life) this.#hooks.fatal(`completion queue ${cq.id} cannot be written`);
    } finally {
      this.#remote.end();
    }
  }

  async #fetchAhead(sq: SubmissionQueue): Promise<void> {
    const life = this.#life;
    this.#remote.begin();
    try {
      await sq.fetchAhead();
    } catch {
      if (this.#life === life && this.sq[sq.id] === sq) this.#hooks.fatal(`submission queue ${sq.id} cannot be read`);
      return;
    } finally {
      this.#remote.end();
    }
    if (this.#life !== life || this.sq[sq.id] !== sq) return;
    this.#guarded(() => {
      this.#makeReady(sq);
      this.kick();
    });
  }

  /** Whether a command may be fetched that completes in `cq`, which is full or has completions waiting. False: the queue goes on when there is room. */
  #hasRoom(cq: CompletionQueue): boolean {
    if (this.#shadow.enabled && cq.full) this.#pollHead(cq);
    if (cq.first === null && !cq.posting && !cq.full) return true;
    cq.blocked = true;
    return false;
  }

  /** What the shadow doorbell says of the tail, once the host knows that it has to ring from there on. True: there is news. */
  #pollTail(sq: SubmissionQueue): boolean {
    const index = 2 * sq.id;
    this.#shadow.writeEvent(index, sq.tail);
    if (sq.id === 0) return false;
    const tail = this.#shadow.read(index);
    if (this.#shadow.failed) return this.#shadowLost();
    if (tail === sq.tail) return false;
    if (!sq.takesTail(tail)) {
      this.#hooks.invalidDoorbell(EventError.INVALID_DOORBELL_VALUE, sq.id);
      return false;
    }
    sq.tail = tail;
    return true;
  }

  /** As `#pollTail`, of a completion queue's head. */
  #pollHead(cq: CompletionQueue): boolean {
    const index = 2 * cq.id + 1;
    this.#shadow.writeEvent(index, cq.head);
    if (cq.id === 0) return false;
    const head = this.#shadow.read(index);
    if (this.#shadow.failed) return this.#shadowLost();
    if (head === cq.head) return false;
    if (!cq.takesHead(head)) {
      this.#hooks.invalidDoorbell(EventError.INVALID_DOORBELL_VALUE, cq.id);
      return false;
    }
    cq.head = head;
    this.#consumed(cq);
    return true;
  }

  #shadowLost(): false {
    this.#hooks.fatal('the shadow doorbells cannot be reached');
    return false;
  }

  #setShadow(index: number, value: number): void {
    this.#shadow.write(index, value);
    this.#shadow.writeEvent(index, value);
    if (this.#shadow.failed) this.#shadowLost();
  }

  #clearShadow(index: number): void {
    if (this.#shadow.enabled) this.#setShadow(index, 0);
  }
}
