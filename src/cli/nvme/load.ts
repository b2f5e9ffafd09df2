/**
 * Load on queues: so many commands in flight, a new one for each that ends, and how long each took.
 * Nothing is allocated for a command, so that what is
 * measured is the driver and the device.
 */
import { statusName } from '../../abi/nvme-status.ts';
import { VfioError } from '../../base/errno.ts';
import { LatencyHistogram } from './latency-histogram.ts';
import { destroys, type Pattern } from './patterns.ts';

/** One queue pair. Tags are 0 to depth - 1; each has memory of its own for its data. */
export interface LoadQueue {
  /** Queue a command; the device knows nothing of it before `ring`. False: the queue is full. */
  read(lba: number, blocks: number, tag: number): boolean;
  write(lba: number, blocks: number, tag: number): boolean;
  ring(): void;
  /** Look for completions, and hand each to `onComplete`. Returns their number. */
  poll(): number;
  /** @param status 0, or the status field */
  onComplete: (tag: number, status: number) => void;
}

export interface LoadOptions {
  readonly pattern: Pattern;
  /** Blocks of the namespace, and of one command. */
  readonly blocks: number;
  readonly blocksPerCommand: number;
  /** Bytes. */
  readonly blockSize: number;
  /** Commands in flight on each queue. */
  readonly depth: number;
  readonly seconds: number;
  /** Run before the figures begin, so that the compiler has done its work. Default: 0.3. */
  readonly warmupSeconds?: number;
  /** Completions come by interrupts: no code polls. */
  readonly interrupts?: boolean;
  readonly seed?: number;
  /** Nanoseconds. Default: the clock of the process. */
  readonly now?: () => number;
  /** Ends it early. */
  readonly signal?: AbortSignal;
  /** Seconds after which a command without an answer is ETIMEDOUT. Default: 30. */
  readonly patienceSeconds?: number;
}

export interface LoadResult {
  /** That were measured. */
  readonly seconds: number;
  readonly reads: number;
  readonly writes: number;
  readonly iops: number;
  readonly bytesPerSecond: number;
  /** Nanoseconds, from a command's submission to its completion being found. */
  readonly latency: LatencyHistogram;
}

/** How long nothing else in this process gets a turn: signals, sockets, a model's timers. */
const TURN_NS = 500_000;

/**
 * Keep `depth` commands in flight on each queue for `seconds`, then let them end.
 *
 * @throws VfioError EINVAL for a namespace smaller than a command; EIO naming the first command
 * that failed; ETIMEDOUT when no more answers come
 */
export async function runLoad(queues: readonly LoadQueue[], options: LoadOptions): Promise<LoadResult> {
  if (options.blocks < options.blocksPerCommand) {
    throw new VfioError('EINVAL', `a command of ${options.blocksPerCommand} blocks does not fit into ${options.blocks}`);
  }
  const load = new Load(queues, options);
  return await load.run();
}

class Load {
  readonly latency = new LatencyHistogram();
  readonly now: () => number;
  readonly #options: LoadOptions;
  readonly #workers: readonly Worker[];
  readonly #places: Places;

  constructor(queues: readonly LoadQueue[], options: LoadOptions) {
    this.#options = options;
    this.now = options.now ?? (() => performance.now() * 1e6);
    this.#places = new Places(options);
    this.#workers = queues.map((queue) => new Worker(queue, options, this.#places, this.latency, this.now));
  }

  async run(): Promise<LoadResult> {
    const { seconds, warmupSeconds = 0.3, signal, blockSize, blocksPerCommand } = this.#options;
    for (const worker of this.#workers) worker.begin();
    await this.#until(this.now() + warmupSeconds * 1e9);
    this.latency.clear();
    for (const worker of this.#workers) worker.clear();
    const begun = this.now();
    await this.#until(begun + seconds * 1e9);
    const took = Math.max(this.now() - begun, 1) / 1e9;
    const reads = this.#workers.reduce((sum, { reads }) => sum + reads, 0);
    const writes = this.#workers.reduce((sum, { writes }) => sum + writes, 0);
    // Those are no part of the figures, and may not be left in flight: their memory is about to go.
    const measured = new LatencyHistogram();
    measured.add(this.latency);
    for (const worker of this.#workers) worker.end();
    await this.#until(Number.POSITIVE_INFINITY);
    for (const { failure } of this.#workers) if (failure !== null && signal?.aborted !== true) throw failure;
    const iops = (reads + writes) / took;
    return { seconds: took, reads, writes, iops, bytesPerSecond: iops * blocksPerCommand * blockSize, latency: measured };
  }

  /** Until then, until nothing is in flight any more, or until the signal stops the load. */
  async #until(end: number): Promise<void> {
    const { signal, interrupts, patienceSeconds = 30 } = this.#options;
    let answered = this.now();
    let completed = this.#completed;
    while (this.#workers.some((worker) => worker.inFlight > 0)) {
      const turn = this.now();
      const over = signal?.aborted === true || this.#workers.some((worker) => worker.failure !== null);
      if (turn >= end || (over && end !== Number.POSITIVE_INFINITY)) return;
      if (interrupts !== true) this.#pollFor(Math.min(turn + TURN_NS, end));
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#completed !== completed) {
        completed = this.#completed;
        answered = this.now();
      } else if (this.now() - answered > patienceSeconds * 1e9) {
        const inFlight = this.#workers.reduce((sum, worker) => sum + worker.inFlight, 0);
        throw new VfioError('ETIMEDOUT', `no answer for ${patienceSeconds} seconds, with ${inFlight} commands in flight`);
      }
    }
  }

  /**
   * As long as there is something to find: a device in this process may need its turn to answer.
   */
  #pollFor(end: number): void {
    let found = 1;
    while (found > 0 && this.now() < end) {
      found = 0;
      for (const worker of this.#workers) found += worker.poll();
    }
  }

  get #completed(): number {
    let sum = 0;
    for (const worker of this.#workers) sum += worker.completed;
    return sum;
  }
}

/**
 * Where commands go: the same for all queues, so that a sequential load is sequential on the disk.
 */
class Places {
  readonly #slots: number;
  readonly #blocksPerCommand: number;
  readonly #random: boolean;
  #next = 0;
  #state: number;

  constructor({ blocks, blocksPerCommand, pattern, seed = 0x2545_f491 }: LoadOptions) {
    this.#slots = Math.floor(blocks / blocksPerCommand);
    this.#blocksPerCommand = blocksPerCommand;
    this.#random = pattern.startsWith('rand');
    this.#state = seed | 0 || 1;
  }

  /** The first block of the next command. */
  next(): number {
    if (this.#random) return this.#below(this.#slots) * this.#blocksPerCommand;
    const at = this.#next;
    this.#next = at + 1 < this.#slots ? at + 1 : 0;
    return at * this.#blocksPerCommand;
  }

  /** Heads or tails. */
  coin(): boolean {
    return (this.#draw() & 0x10) !== 0;
  }

  #below(limit: number): number {
    const low = this.#draw() >>> 0;
    if (limit <= 2 ** 32) return Math.floor((low / 2 ** 32) * limit);
    return Math.floor((((this.#draw() >>> 11) * 2 ** 32 + low) / 2 ** 53) * limit);
  }

  /** xorshift32. */
  #draw(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x;
  }
}

/** One queue's commands. */
class Worker {
  inFlight = 0;
  completed = 0;
  reads = 0;
  writes = 0;
  failure: VfioError | null = null;
  readonly #queue: LoadQueue;
  readonly #pattern: Pattern;
  readonly #blocksPerCommand: number;
  readonly #places: Places;
  readonly #latency: LatencyHistogram;
  readonly #now: () => number;
  /** By tag. */
  readonly #begun: Float64Array;
  readonly #lba: Float64Array;
  readonly #isWrite: Uint8Array;
  readonly #ring: () => void;
  /**
   * When this look for completions began; 0: other code looks, and each completion asks the clock.
   */
  #lookedAt = 0;
  #ringing = false;
  #rungAt = 0;
  #ending = false;

  constructor(queue: LoadQueue, options: LoadOptions, places: Places, latency: LatencyHistogram, now: () => number) {
    this.#queue = queue;
    this.#pattern = options.pattern;
    this.#blocksPerCommand = options.blocksPerCommand;
    this.#places = places;
    this.#latency = latency;
    this.#now = now;
    this.#begun = new Float64Array(options.depth);
    this.#lba = new Float64Array(options.depth);
    this.#isWrite = new Uint8Array(options.depth);
    this.#ring = () => {
      this.#ringing = false;
      queue.ring();
    };
    queue.onComplete = (tag, status) => this.#complete(tag, status);
  }

  begin(): void {
    const now = this.#now();
    for (let tag = 0; tag < this.#begun.length; tag++) this.#submit(tag, now);
    this.#rungAt = now;
    this.#queue.ring();
  }

  /** Nothing new from here on. */
  end(): void {
    this.#ending = true;
  }

  clear(): void {
    this.reads = 0;
    this.writes = 0;
  }

  poll(): number {
    this.#lookedAt = this.#now();
    const found = this.#queue.poll();
    this.#lookedAt = 0;
    if (found > 0) this.#queue.ring();
    return found;
  }

  #submit(tag: number, now: number): void {
    const lba = this.#places.next();
    const isWrite = this.#pattern === 'randrw' ? this.#places.coin() : destroys(this.#pattern);
    const accepted = isWrite ? this.#queue.write(lba, this.#blocksPerCommand, tag) : this.#queue.read(lba, this.#blocksPerCommand, tag);
    if (!accepted) {
      this.#fail(new VfioError('ENOSPC', 'the queue is full before it holds as many commands as it was made for'));
      return;
    }
    this.#begun[tag] = now;
    this.#lba[tag] = lba;
    this.#isWrite[tag] = isWrite ? 1 : 0;
    this.inFlight++;
  }

  #complete(tag: number, status: number): void {
    const now = this.#lookedAt === 0 ? this.#now() : this.#lookedAt;
    this.inFlight--;
    this.completed++;
    this.#latency.record(now - this.#begun[tag]!);
    if (this.#isWrite[tag] === 1) this.writes++;
    else this.reads++;
    if (status !== 0) {
      const what = this.#isWrite[tag] === 1 ? 'Write' : 'Read';
      this.#fail(new VfioError('EIO', `${what} of ${this.#blocksPerCommand} blocks at LBA ${this.#lba[tag]}: ${statusName(status)}`));
    }
    if (this.#ending) return;
    this.#submit(tag, now);
    if (this.#lookedAt === 0) this.#ringSoon(now);
  }

  /**
   * Once for all completions of one interrupt; from time to time only after all other work had a
   * turn.
   */
  #ringSoon(now: number): void {
    if (this.#ringing) return;
    this.#ringing = true;
    if (now - this.#rungAt < TURN_NS) queueMicrotask(this.#ring);
    else {
      this.#rungAt = now;
      setImmediate(this.#ring);
    }
  }

  #fail(failure: VfioError): void {
    this.failure ??= failure;
    this.#ending = true;
  }
}
