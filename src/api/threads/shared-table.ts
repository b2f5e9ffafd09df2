/**
 * The things that threads of a server share, in one piece of memory that all of them see:
 *
 * - the numbers of groups, devices and containers, each of which is given out only once;
 * - the locked memory of each user, whose limit holds for all devices together.
 *
 * Everything else belongs to one thread. A thread can end in the middle of anything, so that what
 * it holds is written down beside its number, and nothing is ever locked.
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

/** States of a user's place in the table. */
const FREE = 0;
const CHANGING = 1;
const USED = 2;

/** Places of the parts, in bytes. */
const NUMBERS_BYTES = KINDS.length * NUMBERS_MAX * 4;
const STATES_AT = NUMBERS_BYTES;
const HOLDERS_AT = STATES_AT + USERS_MAX * 4;
const KEYS_AT = HOLDERS_AT + USERS_MAX * THREADS_MAX * 4;
const SUMS_AT = KEYS_AT + USERS_MAX * 8;
const CHARGES_AT = SUMS_AT + USERS_MAX * 8;
const BYTES = CHARGES_AT + USERS_MAX * THREADS_MAX * 8;

/** The numbers that functions have at power-on, by address. They keep them over a plug. */
export type PowerOnNumbers = Readonly<Record<keyof MachineNumbers, Readonly<Record<string, number>>>>;

/** Where a thread gets its numbers. */
export type ThreadNumbers = MachineNumbers & { readonly containers: Numbers };

export class SharedTable {
  /** For the other threads. */
  readonly memory: SharedArrayBuffer;
  /** The bits of the threads that have a number. */
  readonly #numbers: readonly Int32Array[];
  readonly #states: Int32Array;
  /** By user and thread: how many connections hold the account. */
  readonly #holders: Int32Array;
  readonly #keys: BigInt64Array;
  readonly #sums: BigInt64Array;
  /** By user and thread: its part of the sum. */
  readonly #charges: BigInt64Array;

  /** @param memory another thread's table. Default: a new one */
  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(BYTES)) {
    this.memory = memory;
    this.#numbers = KINDS.map((_, i) => new Int32Array(memory, i * NUMBERS_MAX * 4, NUMBERS_MAX));
    this.#states = new Int32Array(memory, STATES_AT, USERS_MAX);
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
    const [groups, vfioDevices, containers] = this.#numbers as [Int32Array, Int32Array, Int32Array];
    return {
      groups: new SharedNumbers(groups, thread, atPowerOn.groups),
      vfioDevices: new SharedNumbers(vfioDevices, thread, atPowerOn.vfioDevices),
      containers: new SharedNumbers(containers, thread, {}),
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
    for (;;) {
      const slot = this.#find(name) ?? this.#claim(name, before);
      if (slot === null) {
        throw new VfioError('EUSERS', `more than ${USERS_MAX} processes use devices of this server`, {
          fix: 'Serve some of them elsewhere.',
        });
      }
      const holder = slot * THREADS_MAX + thread;
      Atomics.add(this.#holders, holder, 1);
      // Before this thread held it, another one may have given the place to another user, or the
      // same user a place further down.
      if (this.#find(name) === slot) {
        return new SharedAccount(this.#sums, this.#charges, slot, holder, () => void Atomics.sub(this.#holders, holder, 1));
      }
      Atomics.sub(this.#holders, holder, 1);
    }
  }

  #find(name: bigint): number | null {
    for (let slot = 0; slot < USERS_MAX; slot++) {
      if (Atomics.load(this.#states, slot) === USED && Atomics.load(this.#keys, slot) === name) return slot;
    }
    return null;
  }

  /** A place that no user has, or that no thread holds any more. */
  #claim(name: bigint, before: number): number | null {
    for (const from of [FREE, USED]) {
      for (let slot = 0; slot < USERS_MAX; slot++) {
        if (from === USED && this.#isHeld(slot)) continue;
        if (Atomics.compareExchange(this.#states, slot, from, CHANGING) !== from) continue;
        if (this.#isHeld(slot)) {
          Atomics.store(this.#states, slot, from);
          continue;
        }
        Atomics.store(this.#keys, slot, name);
        Atomics.store(this.#sums, slot, BigInt(before));
        Atomics.store(this.#states, slot, USED);
        if (!this.#isElsewhere(name, slot)) return slot;
        // Another thread was quicker, and its place is found now.
        Atomics.store(this.#states, slot, FREE);
        return this.#find(name) ?? this.#claim(name, before);
      }
    }
    return null;
  }

  /** Whether the user has another place, which a thread holds. */
  #isElsewhere(name: bigint, slot: number): boolean {
    for (let other = 0; other < USERS_MAX; other++) {
      if (other === slot || Atomics.load(this.#keys, other) !== name) continue;
      if (Atomics.load(this.#states, other) === USED && this.#isHeld(other)) return true;
    }
    return false;
  }

  #isHeld(slot: number): boolean {
    for (let thread = 0; thread < THREADS_MAX; thread++) {
      if (Atomics.load(this.#holders, slot * THREADS_MAX + thread) !== 0) return true;
    }
    return false;
  }

  /** The thread has ended: all that it held is free. */
  forget(thread: number): void {
    for (const numbers of this.#numbers) for (let n = 0; n < NUMBERS_MAX; n++) Atomics.and(numbers, n, ~(1 << thread));
    for (let slot = 0; slot < USERS_MAX; slot++) {
      const at = slot * THREADS_MAX + thread;
      Atomics.sub(this.#sums, slot, Atomics.exchange(this.#charges, at, 0n));
      Atomics.store(this.#holders, at, 0);
    }
  }
}

class SharedNumbers implements Numbers {
  readonly #taken: Int32Array;
  readonly #bit: number;
  readonly #atPowerOn: Readonly<Record<string, number>>;

  constructor(taken: Int32Array, thread: number, atPowerOn: Readonly<Record<string, number>>) {
    this.#taken = taken;
    this.#bit = 1 << thread;
    this.#atPowerOn = atPowerOn;
  }

  take(user: string): number {
    const known = Object.hasOwn(this.#atPowerOn, user) ? this.#atPowerOn[user] : undefined;
    if (known !== undefined) {
      Atomics.or(this.#taken, known, this.#bit);
      return known;
    }
    for (let number = 0; number < NUMBERS_MAX; number++) {
      if (Atomics.compareExchange(this.#taken, number, 0, this.#bit) === 0) return number;
    }
    throw new VfioError('ENOSPC', `${user}: no number below ${NUMBERS_MAX} is free`);
  }

  release(number: number): void {
    Atomics.and(this.#taken, number, ~this.#bit);
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

/** 64 bits of FNV-1a, which keep a thousand keys apart. */
function hashOf(text: string): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(text)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return BigInt.asIntN(64, hash);
}
