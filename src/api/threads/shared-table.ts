/**
 * The things that threads of a server share, in one piece of memory that all of them see:
 *
 * - the numbers of groups, devices and containers, each of which is given out only once;
 * - the locked memory of each user, whose limit holds for all devices together.
 *
 * Everything else belongs to one thread. A thread can end in the middle of anything, so that what
 * it holds is written down beside its number. Only a connection's first look for its account takes
 * a lock, which has the number of the thread that holds it: the end of that thread releases it.
 */
import { VfioError } from '../../base/errno.ts';
import type { Numbers } from '../../base/numbers.ts';
import type { LockedAccount } from '../../engine/dma/process.ts';
import type { MachineNumbers } from '../../engine/machine/machine-options.ts';

/** Threads that hold something have a bit each; one bit more is for the machine at power-on. */
export const THREADS_MAX = 31;
const AT_POWER_ON = 31;

/** Numbers of one kind: a machine has 65536 functions at most, in each domain. */
const NUMBERS_MAX = 65_536;
/** Processes that use devices at the same time. */
const USERS_MAX = 1024;
const KINDS = ['groups', 'vfioDevices', 'containers'] as const;

/** Places of the parts, in bytes. */
const NUMBERS_BYTES = KINDS.length * NUMBERS_MAX * 4;
const LOCK_AT = NUMBERS_BYTES;
const FROM_AT = LOCK_AT + 4;
const HOLDERS_AT = FROM_AT + KINDS.length * 4;
const KEYS_AT = HOLDERS_AT + USERS_MAX * THREADS_MAX * 4;
const SUMS_AT = KEYS_AT + USERS_MAX * 8;
const CHARGES_AT = SUMS_AT + USERS_MAX * 8;
const BYTES = CHARGES_AT + USERS_MAX * THREADS_MAX * 8;

/** How long a thread waits for the lock before it looks again, in milliseconds. */
const LOOK_MS = 10;
const UNLOCKED = 0;

/** The numbers that functions have at power-on, by address. They keep them over a plug. */
export type PowerOnNumbers = Readonly<Record<keyof MachineNumbers, Readonly<Record<string, number>>>>;

/** Where a thread gets its numbers. */
export type ThreadNumbers = MachineNumbers & { readonly containers: Numbers };

export class SharedTable {
  /** For the other threads. */
  readonly memory: SharedArrayBuffer;
  /** The bits of the threads that have a number. */
  readonly #numbers: readonly Int32Array[];
  /** By kind: the first number that may be free. */
  readonly #from: Int32Array;
  /** UNLOCKED, or 1 more than the thread that looks for an account. */
  readonly #lock: Int32Array;
  /** By user and thread: how often the account is held. A place that no thread holds is free. */
  readonly #holders: Int32Array;
  /** By user: the hash of its key; 0 while the place changes hands. */
  readonly #keys: BigInt64Array;
  readonly #sums: BigInt64Array;
  /** By user and thread: its part of the sum. */
  readonly #charges: BigInt64Array;

  /** @param memory another thread's table. Default: a new one */
  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(BYTES)) {
    this.memory = memory;
    this.#numbers = KINDS.map((_, i) => new Int32Array(memory, i * NUMBERS_MAX * 4, NUMBERS_MAX));
    this.#from = new Int32Array(memory, FROM_AT, KINDS.length);
    this.#lock = new Int32Array(memory, LOCK_AT, 1);
    this.#holders = new Int32Array(memory, HOLDERS_AT, USERS_MAX * THREADS_MAX);
    this.#keys = new BigInt64Array(memory, KEYS_AT, USERS_MAX);
    this.#sums = new BigInt64Array(memory, SUMS_AT, USERS_MAX);
    this.#charges = new BigInt64Array(memory, CHARGES_AT, USERS_MAX * THREADS_MAX);
  }

  // ---- Numbers

  /** No other function gets the numbers that `atPowerOn` has. */
  reserve(atPowerOn: PowerOnNumbers): void {
    for (const [i, kind] of KINDS.entries()) {
      if (kind === 'containers') continue;
      for (const number of Object.values(atPowerOn[kind])) Atomics.or(this.#numbers[i]!, number, 1 << AT_POWER_ON);
    }
  }

  /** Where the parts of `thread` get numbers. */
  numbers(thread: number, atPowerOn: PowerOnNumbers): ThreadNumbers {
    const of = (kind: (typeof KINDS)[number], known: Readonly<Record<string, number>>) => {
      const i = KINDS.indexOf(kind);
      return new SharedNumbers(this.#numbers[i]!, this.#from.subarray(i, i + 1), thread, known);
    };
    return {
      groups: of('groups', atPowerOn.groups),
      vfioDevices: of('vfioDevices', atPowerOn.vfioDevices),
      containers: of('containers', {}),
    };
  }

  // ---- Accounts

  /**
   * The account of the user `key`, for as long as `thread` holds it.
   *
   * @param before bytes that the process has locked for other reasons
   * @throws VfioError EUSERS when too many processes use devices
   */
  account(thread: number, key: string, before: number): SharedAccount {
    const name = hashOf(key);
    this.#acquire(thread);
    try {
      const slot = this.#find(name) ?? this.#claim(name, before);
      if (slot === null) {
        throw new VfioError('EUSERS', `more than ${USERS_MAX} processes use devices of this server`, {
          fix: 'Serve some of the devices with another server.',
        });
      }
      const holder = slot * THREADS_MAX + thread;
      Atomics.add(this.#holders, holder, 1);
      return new SharedAccount(this.#sums, this.#charges, slot, holder, () => void Atomics.sub(this.#holders, holder, 1));
    } finally {
      this.#release(thread);
    }
  }

  /** Never for long: the holder looks through a table, or has ended and is forgotten soon. */
  #acquire(thread: number): void {
    for (;;) {
      const holder = Atomics.compareExchange(this.#lock, 0, UNLOCKED, thread + 1);
      if (holder === UNLOCKED) return;
      Atomics.wait(this.#lock, 0, holder, LOOK_MS);
    }
  }

  #release(thread: number): void {
    if (Atomics.compareExchange(this.#lock, 0, thread + 1, UNLOCKED) === thread + 1) Atomics.notify(this.#lock, 0, 1);
  }

  #find(name: bigint): number | null {
    for (let slot = 0; slot < USERS_MAX; slot++) {
      if (Atomics.load(this.#keys, slot) === name && this.#isHeld(slot)) return slot;
    }
    return null;
  }

  /** A place that no thread holds. */
  #claim(name: bigint, before: number): number | null {
    for (let slot = 0; slot < USERS_MAX; slot++) {
      if (this.#isHeld(slot)) continue;
      Atomics.store(this.#keys, slot, 0n);
      Atomics.store(this.#sums, slot, BigInt(before));
      for (let i = 0; i < THREADS_MAX; i++) Atomics.store(this.#charges, slot * THREADS_MAX + i, 0n);
      Atomics.store(this.#keys, slot, name);
      return slot;
    }
    return null;
  }

  #isHeld(slot: number): boolean {
    for (let thread = 0; thread < THREADS_MAX; thread++) {
      if (Atomics.load(this.#holders, slot * THREADS_MAX + thread) !== 0) return true;
    }
    return false;
  }

  /** The thread has ended: all that it held is free. */
  forget(thread: number): void {
    for (const [i, numbers] of this.#numbers.entries()) {
      for (let n = 0; n < NUMBERS_MAX; n++) Atomics.and(numbers, n, ~(1 << thread));
      Atomics.store(this.#from, i, 0);
    }
    for (let slot = 0; slot < USERS_MAX; slot++) {
      const at = slot * THREADS_MAX + thread;
      Atomics.sub(this.#sums, slot, Atomics.exchange(this.#charges, at, 0n));
      Atomics.store(this.#holders, at, 0);
    }
    this.#release(thread);
  }
}

class SharedNumbers implements Numbers {
  readonly #taken: Int32Array;
  /** One word: no number below is free, unless a thread has ended just now. */
  readonly #from: Int32Array;
  readonly #bit: number;
  readonly #atPowerOn: Readonly<Record<string, number>>;

  constructor(taken: Int32Array, from: Int32Array, thread: number, atPowerOn: Readonly<Record<string, number>>) {
    this.#taken = taken;
    this.#from = from;
    this.#bit = 1 << thread;
    this.#atPowerOn = atPowerOn;
  }

  take(user: string): number {
    const known = Object.hasOwn(this.#atPowerOn, user) ? this.#atPowerOn[user] : undefined;
    if (known !== undefined) {
      Atomics.or(this.#taken, known, this.#bit);
      return known;
    }
    const from = Atomics.load(this.#from, 0);
    for (let i = 0; i < NUMBERS_MAX; i++) {
      const number = (from + i) % NUMBERS_MAX;
      if (Atomics.compareExchange(this.#taken, number, 0, this.#bit) !== 0) continue;
      // It stays lower where another thread has released a number meanwhile.
      if (number >= from) Atomics.compareExchange(this.#from, 0, from, number + 1);
      return number;
    }
    throw new VfioError('ENOSPC', `${user}: no number below ${NUMBERS_MAX} is free`);
  }

  release(number: number): void {
    Atomics.and(this.#taken, number, ~this.#bit);
    for (let from = Atomics.load(this.#from, 0); from > number; ) {
      const before = Atomics.compareExchange(this.#from, 0, from, number);
      if (before === from) break;
      from = before;
    }
  }
}

/** The locked memory of one process, over all threads. */
export class SharedAccount implements LockedAccount, Disposable {
  readonly #sums: BigInt64Array;
  readonly #charges: BigInt64Array;
  readonly #slot: number;
  readonly #own: number;
  #release: (() => void) | null;

  constructor(sums: BigInt64Array, charges: BigInt64Array, slot: number, own: number, release: () => void) {
    this.#sums = sums;
    this.#charges = charges;
    this.#slot = slot;
    this.#own = own;
    this.#release = release;
  }

  get bytes(): number {
    return Number(Atomics.load(this.#sums, this.#slot));
  }

  add(bytes: number): number {
    const change = BigInt(bytes);
    Atomics.add(this.#charges, this.#own, change);
    return Number(Atomics.add(this.#sums, this.#slot, change)) + bytes;
  }

  /** The thread holds it no more. Idempotent. */
  [Symbol.dispose](): void {
    this.#release?.();
    this.#release = null;
  }
}

/** 64 bits of FNV-1a, which keep a thousand keys apart; never 0. */
function hashOf(text: string): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(text)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return BigInt.asIntN(64, hash === 0n ? 1n : hash);
}
