/**
 * Doorbells in memory that the host maps. A store of the host reaches no register, so the
 * controller polls them (`DoorbellPoller`). They are the page of BAR 0 from 1000h on: the place of
 * the doorbell registers (NVMe 1.4, 3.1.24 and 3.1.25), and nothing else.
 *
 * Two stores to one doorbell between two looks count as one, and a store of the value that the
 * doorbell has is not noticed. Everything else is as with registers: the memory has the values of
 * the queues, or `NONE`, and never keeps a value that was refused. Writes that arrive as accesses
 * ring at once.
 */
import type { DeviceHost } from '../../abi/device-host.ts';
import { NvmeReg } from '../../abi/nvme.ts';
import { Command, Config } from '../../abi/pci.ts';
import { DoorbellPoller } from './doorbell-poller.ts';

/** The BAR with registers and doorbells. */
const BAR = 0;
/** Bytes that are mapped: a host maps whole pages. */
export const DOORBELL_BYTES = 4096;

/** In the memory of a doorbell without a queue: no host stores it there. */
export const NONE = 0xffff_ffff;

/** The queues' part in polling; `Queues` has it. */
export interface PolledQueues {
  /** Commands are taken. */
  readonly running: boolean;
  readonly halted: boolean;
  readonly doorbells: {
    take(index: number, value: number): void;
    /** The tail or head that doorbell `index` stands for; `NONE` without a queue. */
    valueOf(index: number): number;
  };
  /** Do the work that the doorbells announced. */
  kick(): void;
  /** Calls `work`, and reports its errors. */
  guarded(work: () => void): void;
}

export class MappedDoorbells {
  readonly #host: DeviceHost;
  readonly #queues: PolledQueues;
  readonly #poller: DoorbellPoller;
  /** The memory that users map. */
  #words: Uint32Array;
  /** By doorbell: the value that the controller has seen last. */
  readonly #seen = new Uint32Array(DOORBELL_BYTES / 4);
  /** The doorbells before this one belong to queues, at most. */
  #end = 0;
  /** Memory decoding is on, and the function in D0: a bus would carry stores. */
  #decoded = false;
  #sleeping = false;

  constructor(host: DeviceHost, queues: PolledQueues) {
    this.#host = host;
    this.#queues = queues;
    this.#words = this.#find().fill(NONE);
    this.#seen.fill(NONE);
    this.#poller = new DoorbellPoller(
      host.clock,
      (everywhere) => this.look(everywhere),
      (turn) => queues.guarded(turn),
    );
  }

  /**
   * The controller was reset and has no queues. A reset of the function may bring other memory.
   */
  reset(): void {
    this.#words = this.#find();
    this.#words.fill(NONE);
    this.#seen.fill(NONE);
    this.#end = 0;
    this.#sleeping = false;
    this.#decoded = this.#isDecoded();
    this.update();
  }

  /** Poll, or stop, as the states of the controller and the function ask for. */
  update(): void {
    const { running, halted } = this.#queues;
    if (running && !halted && this.#decoded) this.#poller.start();
    else this.#poller.stop();
  }

  /** The configuration was written. Stores that came before the write are seen first. */
  configWritten(): void {
    this.#setDecoded();
  }

  power(state: 'D0' | 'D3hot'): void {
    this.#sleeping = state === 'D3hot';
    this.#setDecoded();
  }

  /** The value of doorbell `index` that a load finds. */
  read(index: number): number {
    return Atomics.load(this.#words, index);
  }

  /** Doorbell `index` has `value`, by an access, or because its queue is new or gone. */
  set(index: number, value: number): void {
    this.#seen[index] = value;
    Atomics.store(this.#words, index, value);
    if (index >= this.#end) this.#end = index + 1;
  }

  /**
   * Ring the doorbells whose values have changed, and do the work. True: there were some. While the
   * controller stands still, the work waits.
   *
   * @param everywhere also at doorbells of queues that do not exist
   */
  look(everywhere: boolean): boolean {
    if (!this.#decoded || !this.#queues.running) return false;
    const words = this.#words;
    const seen = this.#seen;
    const end = everywhere ? words.length : this.#end;
    let found = false;
    // An atomic load is a call, and slower than plain ones. The first keeps the compiler from using
    // the loads of the look before. The one for news makes the entries visible that the host stored
    // before it.
    let value = Atomics.load(words, 0);
    for (let i = 0; i < end; i++) {
      if (i > 0) value = words[i]!;
      if (value === seen[i]) continue;
      value = Atomics.load(words, i);
      seen[i] = value;
      this.#ring(i, value);
      this.#putBack(i, value);
      found = true;
    }
    if (found) this.#queues.kick();
    return found;
  }

  #ring(index: number, value: number): void {
    const { events } = this.#host;
    const { doorbells } = this.#queues;
    if (!events.on) {
      doorbells.take(index, value);
      return;
    }
    const offset = NvmeReg.DOORBELLS + 4 * index;
    const before = events.cause;
    events.cause = events.emit('access', { op: 'write', region: BAR, offset, size: 4, value, verdict: 'device', rule: 'found by polling' });
    doorbells.take(index, value);
    events.cause = before;
  }

  /** A value that was refused goes, so that the same store is noticed again. */
  #putBack(index: number, value: number): void {
    const known = this.#queues.doorbells.valueOf(index);
    if (known === value) return;
    this.#seen[index] = known;
    // The host may have stored another value by now.
    Atomics.compareExchange(this.#words, index, value, known);
  }

  #setDecoded(): void {
    const on = this.#isDecoded();
    if (on === this.#decoded) return;
    if (on) {
      // No bus carries the stores of the time between.
      for (let i = 0; i < this.#words.length; i++) Atomics.store(this.#words, i, this.#seen[i]!);
    } else this.look(true);
    this.#decoded = on;
    this.update();
  }

  #isDecoded(): boolean {
    return !this.#sleeping && (this.#host.readConfig(Config.COMMAND, 2) & Command.MEMORY) !== 0;
  }

  #find(): Uint32Array {
    const bytes = this.#host.barMemory(BAR).windows[0]!;
    return new Uint32Array(bytes.buffer, bytes.byteOffset + NvmeReg.DOORBELLS, DOORBELL_BYTES / 4);
  }
}
