/**
 * The run-time half of `device()`: it leads accesses to register files, runs handlers, and starts
 * afresh at every reset.
 */
import type { DeviceHost, ErrorKind, Model, ModelMigration, Width } from '../../abi/device-host.ts';
import { callForeign, isThenable, settle } from '../../base/foreign.ts';
import type { Logger, LogLevel } from '../../base/log.ts';
import { WatchedPromise } from '../../base/watched-promise.ts';
import { AsyncCauses } from './async-causes.ts';
import { RegisterBar } from './bar.ts';
import { Commands } from './commands.ts';
import { type Handler, Handlers } from './handlers.ts';
import { CONFIG_SPACE, type Kind, type Space } from './kind.ts';
import { Life, ModelDma, ModelIrq, type Wait } from './life.ts';
import { KitMigration, type MovedDevice } from './migration.ts';
import { noSuch } from './no-such.ts';
import { allOnes } from './register.ts';
import { RegisterFile } from './register-file.ts';

/** VFIO_PCI_NUM_REGIONS: where device-specific regions begin. */
const FIRST_REGION = 9;

const ones = [0, 0xff, 0xffff, 0, 0xffff_ffff] as const;

export class KitModel implements Model, MovedDevice {
  /** Absent on devices whose declaration does not say that they can be moved. */
  declare readonly migration?: ModelMigration;
  readonly #kind: Kind;
  readonly #host: DeviceHost;
  /** Which the host limits in rate. */
  readonly #log: Logger;
  readonly #devLog: Logger;
  readonly #causes: AsyncCauses;
  readonly #handlers: Handlers;
  readonly #commands: Commands;
  /** By BAR; of config space, where the device has registers there, at `CONFIG_SPACE`. */
  #files: (RegisterFile | null)[] = [];
  #life: Life;
  #dev: object = {};
  readonly #outputs: Outputs;
  /** The world's effects on the device. */
  readonly inputs: Readonly<Record<string, (...args: unknown[]) => void>>;
  /** Timers that run, by name. */
  readonly #timers = new Map<string, Wait>();
  #stopped = false;

  constructor(kind: Kind, host: DeviceHost) {
    this.#kind = kind;
    this.#host = host;
    this.#log = host.log;
    this.#life = new Life(host);
    this.#causes = new AsyncCauses(host.events);
    const log = this.#causes.bind((level: LogLevel, message: string) => this.#log.log(level, `${kind.name}: ${message}`));
    this.#devLog = { log };
    this.#handlers = new Handlers(kind.name, host.log, this.#causes, this.#life);
    this.#commands = new Commands(kind.commands, host.events, host.clock, (what, error) => this.#handlers.failed(what, error));
    this.#outputs = new Outputs(kind.outputs, (what, error) => this.#handlers.failed(what, error));
    this.inputs = Object.freeze(
      Object.fromEntries(
        Object.entries(kind.inputs).map(([name, handler]) => [
          name,
          (...args: unknown[]) => this.#run(`input ${name}`, (dev: object) => handler(dev, ...(args as never))),
        ]),
      ),
    );
    if (kind.migration !== null) this.migration = new KitMigration(kind.name, kind.migration, this);
    this.#begin(true);
  }

  read(bar: number, offset: number, width: Width): number {
    const file = bar < CONFIG_SPACE ? this.#files[bar] : null;
    if (file === null || file === undefined) return bar >= FIRST_REGION ? this.#readRegion(bar, offset, width) : ones[width];
    try {
      return file.read(offset, width);
    } catch (error) {
      this.#failed(`a read of BAR ${bar} at 0x${offset.toString(16)}`, error);
      return ones[width];
    }
  }

  read64(bar: number, offset: number): bigint {
    const file = bar < CONFIG_SPACE ? this.#files[bar] : null;
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
      if (write !== undefined) this.#run(`region ${bar}`, (dev: object) => write(dev, offset, width, value));
      return;
    }
    try {
      if (bar < CONFIG_SPACE) this.#files[bar]?.write(offset, width, value);
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
      if (bar < CONFIG_SPACE) this.#files[bar]?.write64(offset, value);
    } catch (error) {
      this.#failed(`a write to BAR ${bar} at 0x${offset.toString(16)}`, error);
    }
  }

  /** Config bytes [offset, offset + width), all of them of one register of the device's own. */
  configRead(offset: number, width: Width): number {
    try {
      return this.#files[CONFIG_SPACE]!.read(offset, width);
    } catch (error) {
      this.#failed(`a read of config space at 0x${offset.toString(16)}`, error);
      return ones[width];
    }
  }

  configWrite(offset: number, width: Width, value: number): void {
    try {
      this.#files[CONFIG_SPACE]?.write(offset, width, value);
    } catch (error) {
      this.#failed(`a write to config space at 0x${offset.toString(16)}`, error);
    }
  }

  reset(): void {
    this.#newLife(true);
  }

  #newLife(everything: boolean): void {
    this.#life.end();
    this.#commands.drop('reset');
    this.#host.irq.lower();
    this.#life = new Life(this.#host, this.#stopped);
    this.#timers.clear();
    this.#handlers.begin(this.#life);
    this.#begin(everything);
  }

  // ---- Instance

  /**
   * Calls `listener` at each output of that name.
   * @throws VfioError EINVAL for an output that the device does not have
   */
  on(output: string, listener: (...args: never) => unknown): Disposable {
    return this.#outputs.on(output, listener);
  }

  /** Handlers that wait, and how many of them wait for the device's clock. */
  get waiting(): { readonly handlers: number; readonly clock: number } {
    return { handlers: this.#handlers.atWork, clock: this.#life.sleeping };
  }

  // ---- MovedDevice

  get dev(): object & { state?: unknown } {
    return this.#dev;
  }

  get files(): readonly (RegisterFile | null)[] {
    return this.#files;
  }

  /** Work that no timer by name stands for: it cannot go to another process. */
  get atWork(): number {
    return this.#handlers.atWork + this.#life.waiting - this.#timers.size;
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
    if (handler === undefined) throw noSuch('timer', name, Object.keys(this.#kind.timers));
    const life = this.#life;
    this.#cancel(name);
    this.#timers.set(
      name,
      life.after(delayMs, () => {
        this.#timers.delete(name);
        this.#run(`timer ${name}`, handler);
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
    this.#commands.drop('gone');
    this.#causes[Symbol.dispose]();
  }

  /**
   * Fresh registers, fresh state, and a `dev` that knows only them.
   *
   * @param everything also registers of config space
   */
  #begin(everything: boolean): void {
    const kind = this.#kind;
    const life = this.#life;
    const host = this.#host;
    const handlers = this.#handlers;
    const causes = this.#causes;
    const dev: Record<string, unknown> = {
      bar0: undefined,
      bar1: undefined,
      bar2: undefined,
      bar3: undefined,
      bar4: undefined,
      bar5: undefined,
      config: undefined,
      state: undefined,
      regions: kind.regions.map(({ read, write }, i) =>
        read === undefined && write === undefined ? host.barMemory(FIRST_REGION + i).windows[0] : new Uint8Array(),
      ),
      outputs: this.#outputs.of(life),
      dma: new ModelDma(life, host, causes, (what, error) => handlers.forgotten(what, error, life)),
      irq: new ModelIrq(life, host, causes),
      clock: host.clock,
      log: this.#devLog,
      answerAfter: (work: Promise<unknown>) => host.answerAfter(work),
      reportError: causes.bind((kind: ErrorKind, status?: number) => !life.ended && host.reportError(kind, status)),
      wake: causes.bind(() => !life.ended && host.wake()),
      sleep: (delayMs: number) => WatchedPromise.of(life.sleep(delayMs), (error) => handlers.forgotten('sleep', error, life)),
      after: causes.bind((delayMs: number, callback: () => unknown) => life.after(delayMs, () => this.#run('a timer', callback))),
      schedule: causes.bind((timer: string, delayMs: number) => life.ended || this.#schedule(timer, delayMs)),
      cancel: (timer: string) => life.ended || this.#cancel(timer),
      readBar: causes.bind((bar: number, offset: number, width: Width) => (life.ended ? ones[width] : this.read(bar, offset, width))),
      writeBar: causes.bind(
        (bar: number, offset: number, width: Width, value: number) => life.ended || this.write(bar, offset, width, value),
      ),
      begin: causes.bind((command: string, fields: object = {}) => this.#commands.begin(command, fields, !life.ended)),
      end: (command: string, status?: string, more?: object) => life.ended || this.#commands.end(command, status, more),
      reset: causes.bind(() => life.ended || this.#newLife(false)),
    };
    this.#dev = dev;
    const configFile = everything ? null : this.#files[CONFIG_SPACE];
    this.#files = kind.spaces.map((space, index) => {
      const file = space === null ? null : ((index === CONFIG_SPACE ? configFile : null) ?? this.#makeFile(space));
      if (index === CONFIG_SPACE) return file;
      if (file !== null) dev[`bar${index}`] = file.view;
      else if (kind.bars[index] !== undefined && !(kind.bars[index] instanceof RegisterBar))
        dev[`bar${index}`] = host.barMemory(index).windows[0];
      return file;
    });
    dev.config = configView(host, this.#files[CONFIG_SPACE]?.view ?? {});
    try {
      dev.state = kind.state();
      if (settle('state()', dev.state, (what, error) => this.#failed(what, error))) {
        this.#failed('state()', 'it is async; the state has to be there at once');
      }
    } catch (error) {
      this.#failed('state()', error);
    }
    if (kind.start !== undefined) this.#run('start', kind.start);
  }

  #makeFile({ layout, paths, handlers, readers, handled, computed }: Space): RegisterFile {
    return new RegisterFile(layout, {
      handled,
      computed,
      afterWrite: (slot, written, before) => this.#run(paths[slot]!, handlers[slot]!, written, before),
      beforeRead: (slot, stored) => {
        const value: unknown = readers[slot]!(this.#dev, stored);
        if (typeof value === 'number' || typeof value === 'bigint') return value;
        settle(paths[slot]!, value, (what, error) => this.#failed(what, error));
        throw new Error(
          `the handler in 'read' of ${paths[slot]} gave back ${isThenable(value) ? 'a promise' : typeof value} instead of a value`,
        );
      },
    });
  }

  #run(what: string, handler: Handler, a?: unknown, b?: unknown): void {
    this.#handlers.run(what, handler, this.#dev, a, b);
  }

  #failed(what: string, error: unknown): void {
    this.#handlers.failed(what, error);
  }
}

/** The registers of the device's own, and reads of all of its config space. */
function configView(host: DeviceHost, registers: object): object {
  const read = (width: Width) => ({ value: (offset: number) => host.readConfig(offset, width), configurable: true });
  return Object.defineProperties(registers, { read8: read(1), read16: read(2), read32: read(4) });
}

/** The outputs of one device: the declaration's own function of each, and then its listeners. */
class Outputs {
  readonly #declared: Kind['outputs'];
  readonly #failed: (what: string, error: unknown) => void;
  readonly #listeners = new Map<string, Set<(...args: never) => unknown>>();

  constructor(declared: Kind['outputs'], failed: (what: string, error: unknown) => void) {
    this.#declared = declared;
    this.#failed = failed;
  }

  /** As the handlers of one life call them: those of a life that has ended reach no listener. */
  of(life: Life): object {
    return Object.freeze(
      Object.fromEntries(Object.keys(this.#declared).map((name) => [name, (...args: never[]) => life.ended || this.#put(name, args)])),
    );
  }

  on(name: string, listener: (...args: never) => unknown): Disposable {
    if (!Object.hasOwn(this.#declared, name)) {
      throw noSuch('output', name, Object.keys(this.#declared));
    }
    const own = (...args: never) => listener(...args);
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(own));
    return { [Symbol.dispose]: () => void listeners.delete(own) };
  }

  #put(name: string, args: readonly never[]): void {
    for (const each of [this.#declared[name]!, ...(this.#listeners.get(name) ?? [])]) {
      callForeign(`output ${name}`, () => each(...(args as never)), this.#failed);
    }
  }
}
