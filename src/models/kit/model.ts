/** The run-time half of `device()`: dispatches accesses to register files, runs handlers, and starts afresh at every reset. */
import type { DeviceHost, ErrorKind, Model, ModelMigration, Width } from '../../abi/device-host.ts';
import { DmaFault } from '../../abi/device-host.ts';
import { VfioError } from '../../base/errno.ts';
import { isThenable, settle, textOf } from '../../base/foreign.ts';
import type { Logger } from '../../base/log.ts';
import { nearest } from '../../base/nearest.ts';
import { WatchedPromise } from '../../base/watched-promise.ts';
import { RegisterBar } from './bar.ts';
import type { AnyBar } from './device.ts';
import { DeviceReset, Life, ModelDma, ModelIrq, type Wait } from './life.ts';
import { type KindMigration, KitMigration, type MovedDevice } from './migration.ts';
import { allOnes } from './register.ts';
import { RegisterFile } from './register-file.ts';

/** Handlers that may wait at once, besides one per register: a register written in a loop must not pile up work without end. */
export const PENDING_MAX = 1024;

type Handler = (dev: object, written: never, before: never) => unknown;
type ReadHandler = (dev: object) => number | bigint;

interface Hooks {
  /** `bar0.name`, by slot. */
  readonly paths: readonly string[];
  readonly handlers: readonly (Handler | undefined)[];
  readonly readers: readonly (ReadHandler | undefined)[];
  readonly handled: Uint8Array;
  readonly computed: Uint8Array;
}

/** Of `regions` of the declaration; its index is its place there and `FIRST_REGION`. */
interface Region {
  readonly read?: (dev: object, offset: number, width: Width) => number;
  readonly write?: (dev: object, offset: number, width: Width, value: number) => unknown;
}

interface KindSpec {
  readonly state?: () => unknown;
  readonly on?: object;
  readonly read?: object;
  readonly timers?: object;
  readonly regions?: readonly object[] | undefined;
  readonly migration?: true | object;
}

/** What all devices of one declaration share. */
export interface Kind {
  readonly name: string;
  readonly bars: readonly (AnyBar | undefined)[];
  /** By BAR. */
  readonly hooks: readonly (Hooks | null)[];
  readonly state: () => unknown;
  readonly start: Handler | undefined;
  readonly config: Handler | undefined;
  readonly power: Handler | undefined;
  readonly timers: Readonly<Record<string, Handler>>;
  readonly regions: readonly Region[];
  /** Null: it cannot be moved. */
  readonly migration: KindMigration | null;
}

/** VFIO_PCI_NUM_REGIONS: where device-specific regions begin. */
const FIRST_REGION = 9;

const lifeHandlers = ['start', 'config', 'power'];
const ones = [0, 0xff, 0xffff, 0, 0xffff_ffff] as const;

export class KitModel implements Model, MovedDevice {
  /** Absent on devices whose declaration does not say that they can be moved. */
  declare readonly migration?: ModelMigration;
  readonly #kind: Kind;
  readonly #host: DeviceHost;
  /** Which the host limits in rate. */
  readonly #log: Logger;
  readonly #devLog: Logger;
  #files: (RegisterFile | null)[] = [];
  #life: Life;
  #dev: object = {};
  /** Handlers that wait, all together and by name; both start afresh with each life. */
  #pending = 0;
  #pendingOf = new Map<string, number>();
  /** Timers that run, by name. */
  readonly #timers = new Map<string, Wait>();
  #stopped = false;

  static compile(name: string, bars: readonly (AnyBar | undefined)[], spec: KindSpec): Kind {
    const on = { ...spec.on } as Record<string, Handler | undefined>;
    const read = { ...spec.read } as Record<string, ReadHandler | undefined>;
    const known = new Set(lifeHandlers);
    const hooks = bars.map((bar, index): Hooks | null => {
      if (!(bar instanceof RegisterBar)) return null;
      const { names, declarations, readable } = bar.layout;
      const paths = names.map((register) => `bar${index}.${register}`);
      const path = (slot: number) => paths[slot]!;
      for (let slot = 1; slot < names.length; slot++) {
        const d = declarations[slot]!;
        known.add(path(slot));
        if (on[path(slot)] !== undefined && d.writable === 0n && d.writeOneClears === 0n) {
          throw new VfioError('EINVAL', `${name}: ${path(slot)} is read-only, so its handler in 'on' would never run`);
        }
        if (read[path(slot)] !== undefined && readable[slot] === 0) {
          throw new VfioError('EINVAL', `${name}: ${path(slot)} is write-only, so its handler in 'read' would never run`);
        }
      }
      const handlers = names.map((_, slot) => (slot === 0 ? undefined : on[path(slot)]));
      const readers = names.map((_, slot) => (slot === 0 ? undefined : read[path(slot)]));
      const flags = (list: readonly unknown[]) => Uint8Array.from(list, (f) => Number(f !== undefined));
      return { paths, handlers, readers, handled: flags(handlers), computed: flags(readers) };
    });
    for (const key of [...Object.keys(on), ...Object.keys(read)]) {
      if (known.has(key)) continue;
      const near = nearest(key, known);
      throw new VfioError(
        'EINVAL',
        `${name}: there is no register ${key} for its handler`,
        near === null ? {} : { fix: `Did you mean '${near}'?` },
      );
    }
    return {
      name,
      bars,
      hooks,
      state: spec.state ?? (() => undefined),
      start: on.start,
      config: on.config,
      power: on.power,
      timers: { ...spec.timers } as Record<string, Handler>,
      regions: (spec.regions ?? []) as readonly Region[],
      migration: spec.migration === undefined ? null : spec.migration === true ? {} : (spec.migration as KindMigration),
    };
  }

  constructor(kind: Kind, host: DeviceHost) {
    this.#kind = kind;
    this.#host = host;
    this.#log = host.log;
    this.#devLog = { log: (level, message) => this.#log.log(level, `${kind.name}: ${message}`) };
    this.#life = new Life(host);
    if (kind.migration !== null) this.migration = new KitMigration(kind.name, kind.migration, this);
    this.#begin();
  }

  read(bar: number, offset: number, width: Width): number {
    const file = this.#files[bar];
    if (file === null || file === undefined) return bar >= FIRST_REGION ? this.#readRegion(bar, offset, width) : ones[width];
    try {
      return file.read(offset, width);
    } catch (error) {
      this.#failed(`a read of BAR ${bar} at 0x${offset.toString(16)}`, error);
      return ones[width];
    }
  }

  read64(bar: number, offset: number): bigint {
    const file = this.#files[bar];
    if (file === null || file === undefined) {
      return bar < FIRST_REGION ? allOnes(8) : BigInt(this.read(bar, offset, 4)) | (BigInt(this.read(bar, offset + 4, 4)) << 32n);
    }
    try {
      return file.read64(offset);
    } catch (error) {
      this.#failed(`a read of BAR ${bar} at 0x${offset.toString(16)}`, error);
      return allOnes(8);
    }
  }

  #readRegion(bar: number, offset: number, width: Width): number {
    const what = `region ${bar}`;
    try {
      const value: unknown = this.#kind.regions[bar - FIRST_REGION]?.read?.(this.#dev, offset, width) ?? ones[width];
      if (typeof value === 'number') return value;
      settle(what, value, (w, error) => this.#failed(w, error));
      this.#failed(what, `a read gave back ${isThenable(value) ? 'a promise' : typeof value} instead of a value`);
    } catch (error) {
      this.#failed(what, error);
    }
    return ones[width];
  }

  write(bar: number, offset: number, width: Width, value: number): void {
    if (bar >= FIRST_REGION) {
      const write = this.#kind.regions[bar - FIRST_REGION]?.write;
      if (write !== undefined) this.#run(`region ${bar}`, (dev: object) => write(dev, offset, width, value), undefined, undefined);
      return;
    }
    try {
      this.#files[bar]?.write(offset, width, value);
    } catch (error) {
      this.#failed(`a write to BAR ${bar} at 0x${offset.toString(16)}`, error);
    }
  }

  write64(bar: number, offset: number, value: bigint): void {
    if (bar >= FIRST_REGION) {
      this.write(bar, offset, 4, Number(value & 0xffff_ffffn));
      this.write(bar, offset + 4, 4, Number(value >> 32n));
      return;
    }
    try {
      this.#files[bar]?.write64(offset, value);
    } catch (error) {
      this.#failed(`a write to BAR ${bar} at 0x${offset.toString(16)}`, error);
    }
  }

  reset(): void {
    this.#life.end();
    this.#host.irq.lower();
    this.#life = new Life(this.#host, this.#stopped);
    this.#timers.clear();
    this.#begin();
  }

  // ---- MovedDevice

  get dev(): object & { state?: unknown } {
    return this.#dev;
  }

  get files(): readonly (RegisterFile | null)[] {
    return this.#files;
  }

  /** What no timer by name stands for: it cannot be told to anybody else. */
  get atWork(): number {
    return this.#pending + this.#life.waiting - this.#timers.size;
  }

  get timersLeft(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#timers].map(([name, { leftMs }]) => [name, leftMs]));
  }

  set timersLeft(left: Readonly<Record<string, number>>) {
    for (const name of [...this.#timers.keys()]) this.#cancel(name);
    for (const [name, leftMs] of Object.entries(left)) this.#schedule(name, leftMs);
  }

  knowsTimer(name: string): boolean {
    return Object.hasOwn(this.#kind.timers, name);
  }

  stop(): void {
    this.#stopped = true;
    this.#life.pause();
  }

  goOn(): void {
    this.#stopped = false;
    this.#life.goOn();
  }

  #schedule(name: string, delayMs: number): void {
    const handler = this.#kind.timers[name];
    if (handler === undefined) throw new Error(`${this.#kind.name}: there is no timer ${name}`);
    const life = this.#life;
    this.#cancel(name);
    this.#timers.set(
      name,
      life.after(delayMs, () => {
        this.#timers.delete(name);
        this.#run(`timer ${name}`, handler, undefined, undefined);
      }),
    );
  }

  #cancel(name: string): void {
    this.#timers.get(name)?.[Symbol.dispose]();
    this.#timers.delete(name);
  }

  configWritten(offset: number, width: number): void {
    if (this.#kind.config !== undefined) this.#run('config', this.#kind.config, offset, width);
  }

  power(state: 'D0' | 'D3hot'): void {
    if (this.#kind.power !== undefined) this.#run('power', this.#kind.power, state, undefined);
  }

  dispose(): void {
    this.#life.end();
  }

  /** Fresh registers, fresh state, and a `dev` that knows only them. */
  #begin(): void {
    const kind = this.#kind;
    const life = this.#life;
    const host = this.#host;
    const dev: Record<string, unknown> = {
      bar0: undefined,
      bar1: undefined,
      bar2: undefined,
      bar3: undefined,
      bar4: undefined,
      bar5: undefined,
      state: undefined,
      regions: kind.regions.map(({ read, write }, i) =>
        read === undefined && write === undefined ? host.barMemory(FIRST_REGION + i).windows[0] : new Uint8Array(),
      ),
      dma: new ModelDma(life, host, (what, error) => this.#forgotten(what, error, life)),
      irq: new ModelIrq(life, host),
      clock: host.clock,
      log: this.#devLog,
      answerAfter: (work: Promise<unknown>) => host.answerAfter(work),
      reportError: (kind: ErrorKind, status?: number) => !life.ended && host.reportError(kind, status),
      wake: () => !life.ended && host.wake(),
      sleep: (delayMs: number) => WatchedPromise.of(life.sleep(delayMs), (error) => this.#forgotten('sleep', error, life)),
      after: (delayMs: number, callback: () => unknown) => life.after(delayMs, () => this.#run('a timer', callback, undefined, undefined)),
      schedule: (timer: string, delayMs: number) => life.ended || this.#schedule(timer, delayMs),
      cancel: (timer: string) => life.ended || this.#cancel(timer),
    };
    this.#dev = dev;
    this.#pending = 0;
    this.#pendingOf = new Map();
    this.#files = kind.bars.map((bar, index) => {
      const hooks = kind.hooks[index];
      if (bar === undefined) return null;
      if (!(bar instanceof RegisterBar) || hooks === null || hooks === undefined) {
        dev[`bar${index}`] = host.barMemory(index).windows[0];
        return null;
      }
      const { View } = bar.layout;
      const file: RegisterFile = new RegisterFile(bar.layout, {
        handled: hooks.handled,
        computed: hooks.computed,
        afterWrite: (slot, written, before) => this.#run(hooks.paths[slot]!, hooks.handlers[slot]!, written, before),
        beforeRead: (slot) => {
          const value: unknown = hooks.readers[slot]!(dev);
          if (typeof value === 'number' || typeof value === 'bigint') return value;
          settle(hooks.paths[slot]!, value, (what, error) => this.#failed(what, error));
          throw new Error(
            `the handler in 'read' of ${hooks.paths[slot]} gave back ${isThenable(value) ? 'a promise' : typeof value} instead of a value`,
          );
        },
      });
      dev[`bar${index}`] = new View(file.words, file.quads);
      return file;
    });
    try {
      dev.state = kind.state();
      if (settle('state()', dev.state, (what, error) => this.#failed(what, error))) {
        this.#failed('state()', 'it is async; the state has to be there at once');
      }
    } catch (error) {
      this.#failed('state()', error);
    }
    if (kind.start !== undefined) this.#run('start', kind.start, undefined, undefined);
  }

  #run(what: string, handler: Handler, a: unknown, b: unknown): void {
    const life = this.#life;
    if (this.#pending >= PENDING_MAX && this.#pendingOf.has(what)) {
      this.#log.log('warn', `${this.#kind.name}: ${this.#pending} handlers are still at work; one for ${what} was not started`);
      return;
    }
    try {
      const result = handler(this.#dev, a as never, b as never);
      if (result === undefined || !isThenable(result)) return;
      const pendingOf = this.#pendingOf;
      this.#pending++;
      pendingOf.set(what, (pendingOf.get(what) ?? 0) + 1);
      const done = () => {
        if (this.#life !== life) return;
        this.#pending--;
        const left = pendingOf.get(what)! - 1;
        if (left === 0) pendingOf.delete(what);
        else pendingOf.set(what, left);
      };
      Promise.resolve(result).then(done, (error: unknown) => {
        done();
        this.#failed(what, error, life);
      });
    } catch (error) {
      this.#failed(what, error, life);
    }
  }

  /** A promise of `dev` that no handler awaited has rejected. */
  #forgotten(what: string, error: unknown, life: Life): void {
    this.#failed(`${what}, which no handler awaits,`, error, life);
  }

  /** A handler threw. A DMA fault is the driver's doing; anything else is a bug of the model; after a reset it is neither. */
  #failed(what: string, error: unknown, life: Life = this.#life): void {
    if (error instanceof DeviceReset && life.ended) return;
    const { name } = this.#kind;
    if (error instanceof DmaFault) this.#log.log('warn', `${name}: ${what}: ${error.message}`);
    else this.#log.log('error', `${name}: ${what} failed: ${textOf(error)}`);
  }
}
