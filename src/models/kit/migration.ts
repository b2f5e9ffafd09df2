/**
 * How a declared device is moved: its registers by name, its state, and what is left of its timers.
 * Nothing of it has to be written for a device whose state is plain data and that waits by timers
 * only.
 */
import type { ModelMigration } from '../../abi/device-host.ts';
import { VfioError } from '../../base/errno.ts';
import { settle } from '../../base/foreign.ts';
import { decodePlain, encodePlain } from './plain-data.ts';
import type { RegisterFile } from './register-file.ts';

export interface KindMigration {
  readonly version?: number;
  readonly save?: (dev: never) => unknown;
  readonly load?: (dev: never, saved: unknown, version: number) => void;
}

/** A device as its migration sees it. */
export interface MovedDevice {
  readonly dev: object & { state?: unknown };
  readonly files: readonly (RegisterFile | null)[];
  readonly atWork: number;
  /** Milliseconds, by name, of the timers that run. Set: these run and no others. */
  timersLeft: Readonly<Record<string, number>>;
  knowsTimer(name: string): boolean;
  stop(): void;
  goOn(): void;
}

interface Saved {
  readonly registers: readonly (Readonly<Record<string, bigint>> | null)[];
  readonly state: unknown;
  readonly timers: Readonly<Record<string, number>>;
}

export class KitMigration implements ModelMigration {
  readonly version: number;
  readonly #name: string;
  readonly #kind: KindMigration;
  readonly #device: MovedDevice;

  constructor(name: string, kind: KindMigration, device: MovedDevice) {
    this.version = kind.version ?? 1;
    this.#name = name;
    this.#kind = kind;
    this.#device = device;
  }

  stop(): void {
    this.#device.stop();
  }

  start(): void {
    this.#device.goOn();
  }

  /** @throws VfioError EBUSY a handler is at work that waits for something else than a timer */
  save(): Uint8Array {
    const { atWork, files, dev, timersLeft } = this.#device;
    if (atWork > 0) {
      throw new VfioError('EBUSY', `${this.#name}: ${atWork} of its handlers are at work and cannot be moved`, {
        fix: 'Try again; or let the device wait by dev.schedule.',
      });
    }
    const saved: Saved = {
      registers: files.map((file) => (file === null ? null : registersOf(file))),
      state: this.#kind.save === undefined ? dev.state : this.#sync('save', this.#kind.save(dev as never)),
      timers: timersLeft,
    };
    return encodePlain(saved);
  }

  load(bytes: Uint8Array, version: number): void {
    const device = this.#device;
    const saved = checkSaved(decodePlain(bytes));
    const { registers, state, timers } = saved;
    if (registers.length !== device.files.length) throw wrong(`registers of ${registers.length} BARs`);
    for (const name of Object.keys(timers)) if (!device.knowsTimer(name)) throw wrong(`a timer ${name}, which this device has not`);
    device.files.forEach((file, bar) => {
      checkRegisters(file, registers[bar] ?? null, bar);
    });
    if (this.#kind.load !== undefined) this.#load(state, version);
    else setState(device.dev, state);
    device.files.forEach((file, bar) => {
      if (file !== null) setRegisters(file, registers[bar]!);
    });
    device.timersLeft = timers;
  }

  /** The rejection says no more than that the method is async. */
  #sync<T>(what: string, result: T): T {
    if (settle(what, result, () => {}))
      throw new Error(`migration.${what} of ${this.#name} is async: its work must be done when it returns`);
    return result;
  }

  /** State that the declaration's own `load` refuses is no bug of it. */
  #load(state: unknown, version: number): void {
    try {
      this.#sync('load', this.#kind.load!(this.#device.dev as never, state, version));
    } catch (cause) {
      throw new VfioError('EINVAL', `${this.#name} cannot take its state: ${cause instanceof Error ? cause.message : String(cause)}`, {
        cause,
      });
    }
  }
}

function registersOf({ layout, words, quads }: RegisterFile): Record<string, bigint> {
  const values: Record<string, bigint> = {};
  layout.names.forEach((name, slot) => {
    if (slot > 0) values[name] = layout.bytes[slot] === 8 ? quads[slot]! : BigInt(words[2 * slot]!);
  });
  return values;
}

function checkRegisters(file: RegisterFile | null, values: Readonly<Record<string, bigint>> | null, bar: number): void {
  if (file === null || values === null) {
    if (file !== null || values !== null) throw wrong(`BAR ${bar} has other contents`);
    return;
  }
  for (const [name, value] of Object.entries(values)) {
    const slot = file.layout.names.indexOf(name);
    if (slot <= 0) throw wrong(`a register ${name} in BAR ${bar}, which this device has not`);
    if (value < 0n || value >= 1n << BigInt(8 * file.layout.bytes[slot]!))
      throw wrong(`register ${name} of BAR ${bar} cannot hold 0x${value.toString(16)}`);
  }
}

function setRegisters({ layout, words, quads }: RegisterFile, values: Readonly<Record<string, bigint>>): void {
  layout.names.forEach((name, slot) => {
    const value = values[name];
    if (slot === 0 || value === undefined) return;
    if (layout.bytes[slot] === 8) quads[slot] = value;
    else words[2 * slot] = Number(value);
  });
}

/**
 * The state made at reset, with the values that were saved. Arrays of numbers keep their place, in
 * case something else points to them; what the state has and the saved one has not, stays: it was
 * added since.
 */
function setState(dev: { state?: unknown }, saved: unknown): void {
  const fresh = dev.state;
  if (!isRecord(fresh)) {
    if (typeof saved !== typeof fresh) throw wrong(`its state is a ${typeof saved}`);
    dev.state = saved;
    return;
  }
  if (!isRecord(saved)) throw wrong('its state is no object');
  for (const [key, value] of Object.entries(saved)) {
    if (!Object.hasOwn(fresh, key)) throw wrong(`state.${key}, which this device has not`);
    const now = fresh[key];
    if (ArrayBuffer.isView(now) !== ArrayBuffer.isView(value) || (now != null && value != null && typeof now !== typeof value)) {
      throw wrong(`state.${key} is a ${typeof value}`);
    }
    if (now instanceof Uint8Array && !(value instanceof Uint8Array && value.length === now.length))
      throw wrong(`state.${key} has other bytes`);
  }
  for (const [key, value] of Object.entries(saved)) {
    const now = fresh[key];
    if (now instanceof Uint8Array) now.set(value as Uint8Array);
    else fresh[key] = value;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

function checkSaved(value: unknown): Saved {
  if (!isRecord(value) || !Array.isArray(value.registers) || !isRecord(value.timers)) throw wrong('it is no state of a device');
  for (const values of value.registers as unknown[]) {
    if (values === null) continue;
    if (!isRecord(values) || Object.values(values).some((each) => typeof each !== 'bigint')) throw wrong('registers without values');
  }
  for (const [name, left] of Object.entries(value.timers)) {
    if (typeof left !== 'number' || !(left >= 0) || left > 2 ** 31) throw wrong(`timer ${name} has ${String(left)} ms left`);
  }
  return value as unknown as Saved;
}

function wrong(what: string): VfioError {
  return new VfioError('EINVAL', `the state cannot be taken: ${what}`);
}
