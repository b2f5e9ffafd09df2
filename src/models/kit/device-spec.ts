/**
 * The parts of a declaration that `device()` takes, and `dev` as its handlers have it: types only.
 */
import type { ErrorKind, Width } from '../../abi/device-host.ts';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/log.ts';
import type { RawOf } from '../../base/registers.ts';
import type { PmOptions } from '../../pci/capabilities.ts';
import type { ClassName } from '../../pci/class-codes.ts';
import type { Capability, SriovDeclaration } from '../../pci/declaration.ts';
import type { AnyBar, BarSize, BarView, RegisterBar } from './bar.ts';
import type { CommandsSpec, CommandValues, RunningCommand } from './commands.ts';
import type { ConfigRegisters, ConfigView } from './config-registers.ts';
import type { Inputs } from './instance.ts';
import type { ModelDma, ModelIrq } from './life.ts';

/** The BARs of a device. A 64-bit BAR takes the next index too. */
export interface Bars {
  readonly bar0?: AnyBar;
  readonly bar1?: AnyBar;
  readonly bar2?: AnyBar;
  readonly bar3?: AnyBar;
  readonly bar4?: AnyBar;
  readonly bar5?: AnyBar;
}

/** Parts of every device, with any BARs. */
interface DevBase<State, O, K> {
  /** The value that `state()` of the declaration made at power-on or the last reset. */
  readonly state: State;
  /** The bytes of `regions` that are plain memory, by their place there. */
  readonly regions: readonly Uint8Array[];
  /** The device's effects on the world: the functions of `outputs`, and the listeners of each. */
  readonly outputs: O;
  readonly dma: ModelDma;
  readonly irq: ModelIrq;
  readonly clock: Pick<Clock, 'nowNs'>;
  /**
   * Lines that differ in numbers only are one to the log's rate limit: a driver must not be able to
   * flood it.
   */
  readonly log: Logger;
  /**
   * Resolves after `delayMs` of the device's clock; rejects with `DeviceReset` when a reset comes
   * first.
   */
  sleep(delayMs: number): Promise<void>;
  /**
   * The access that is being handled is answered when `work` is done, where the way to the driver
   * can wait (a vfio-user reply). Call it before the handler's first `await`. Everything else goes
   * on meanwhile; a driver in this process is not held up.
   */
  answerAfter(work: Promise<unknown>): void;
  /**
   * Reports a PCI Express error, and sets its bits in the capability of `aer()` where the device
   * has one. Users hear of uncorrectable errors (ERR). False: no message was sent, because the
   * error is masked or its reporting is off.
   */
  reportError(kind: ErrorKind, status?: number): boolean;
  /**
   * Signals PME, from a state that `pm: { pme }` names: wakes a device whose user has asked for low
   * power. False: it is not armed.
   */
  wake(): boolean;
  /** Runs `callback` after `delayMs`, unless disposed or reset before. */
  after(delayMs: number, callback: () => unknown): Disposable;
  /**
   * Runs the timer of that name (`timers` of the declaration) after `delayMs`; anew when it is
   * running. Unlike the other ways to wait it goes along when the device is moved to another
   * process.
   */
  schedule(timer: string, delayMs: number): void;
  /** The timer of that name does not run. */
  cancel(timer: string): void;
  /**
   * An access to a BAR of the device's own, as one from the bus: handlers run. For windows onto a
   * BAR.
   */
  readBar(bar: number, offset: number, width: Width): number;
  writeBar(bar: number, offset: number, width: Width, value: number): void;
  /**
   * The device takes a command of that name (`commands` of the declaration). Its end is an event,
   * which `vfio run --events` and `dev.events()` of a driver show: with fields, status, latency by
   * the device's clock, and the access that led to it. A reset ends the commands under way. A
   * command that began before there was a reader makes no event.
   *
   * @param fields those that are known now; `end` may add more
   */
  begin<N extends keyof K & string>(command: N, fields?: Partial<CommandValues<K[N]>>): RunningCommand<K[N]>;
  /**
   * The oldest command of that name is over: for a device that does one at a time, whose handler
   * starts a timer that ends the command.
   *
   * @param status `ok`, or the device's own word for its failure. Default: 'ok'.
   * @param more values of fields that are known only now
   */
  end<N extends keyof K & string>(command: N, status?: string, more?: Partial<CommandValues<K[N]>>): void;
  /**
   * A reset that the device itself does, for example because its driver has written a reset bit:
   * BAR registers, `state` and timers are as after power-on, and `start` runs. Config space, with
   * the device's own registers there, and memory BARs stay. This `dev` reaches nothing afterwards.
   */
  reset(): void;
}

/**
 * A device as its handlers have it, until its next reset; then it reaches nothing.
 *
 * @typeParam B its BARs: `{ bar0: typeof bar0 }`   @typeParam State of `state()`
 * @typeParam C of `config`   @typeParam O of `outputs`   @typeParam K of `commands`
 */
// biome-ignore lint/complexity/noBannedTypes: a device without commands
export type Dev<B, State = unknown, C = unknown, O = unknown, K = {}> = DevBase<State, O, K> & {
  readonly [K in keyof B as B[K] extends AnyBar ? K : never]: BarView<B[K]>;
} & { readonly config: ConfigView<C> };

/** `bar0.name` of each register of the BARs, and `config.name`. */
type Path<B> = {
  [K in keyof B & string]: B[K] extends RegisterBar<infer R> | ConfigRegisters<infer R> ? `${K}.${keyof R & string}` : never;
}[keyof B & string];

type RawAt<B, P> = P extends `${infer K}.${infer N}`
  ? K extends keyof B
    ? B[K] extends RegisterBar<infer R> | ConfigRegisters<infer R>
      ? N extends keyof R
        ? RawOf<R[N]>
        : never
      : never
    : never
  : never;

/** A handler of writes: the value written, and the value before. */
type WriteHandler<D, N> = (dev: D, written: N, before: N) => unknown;

/**
 * A handler that runs one at a time. Writes that come while it runs are one more run afterwards,
 * with the values of the last: for doorbells, whose handler takes all work that is there.
 */
interface SerialHandler<D, N> {
  readonly serial: WriteHandler<D, N>;
}

/** Handlers of writes, by register, and of the device's life. */
export type WriteHandlers<B, D> = {
  readonly [P in Path<B>]?: WriteHandler<D, RawAt<B, P>> | SerialHandler<D, RawAt<B, P>>;
} & LifeHandlers<D>;

/** The values that reads show, by register. */
export type ReadHandlers<B, D> = { readonly [P in Path<B>]?: (dev: D, stored: RawAt<B, P>) => RawAt<B, P> };

/** The effects of timers, by the name that `dev.schedule` is given. */
export interface TimerHandlers<D> {
  /** The effect of this timer when it runs out. */
  readonly [name: string]: (dev: D) => unknown;
}

/** Handlers of the device's life, beside those of its registers. */
interface LifeHandlers<D> {
  /** At power-on and after every reset. */
  start?(dev: D): unknown;
  /** Config bytes [offset, offset + width) of the hardware were written. */
  config?(dev: D, offset: number, width: number): unknown;
  power?(dev: D, state: 'D0' | 'D3hot'): unknown;
}

// Conditional, though always true: the compiler resolves a conditional type once the other types
// are inferred, and only then can it type the handlers' parameters from them.
type Once<B, T> = [B] extends [infer _] ? T : never;

export interface DeviceIds {
  /** `vendor:device` in hexadecimal, as lspci -n prints it. */
  readonly id: string;
  /** `vendor:device` of the subsystem. */
  readonly subsystem?: string;
  /** For people. Default: the id. */
  readonly name?: string;
  /** Revision ID, 8 bits. Default: 0. */
  readonly revision?: number;
  /**
   * A name, or base class, sub-class and programming interface: 24 bits, or six hexadecimal digits
   * as lspci -n prints them.
   */
  readonly class?: ClassName | number | `0x${string}` | `${number}`;
}

/** MSI-X vectors, and the place of their table. */
export interface MsixPlacement {
  /** 1 to 2048. */
  readonly vectors: number;
  /**
   * The BAR that holds table and pending bits. Their bytes reach the host, not the model. Default:
   * one that is added for them.
   */
  readonly bar?: number;
  /** Bytes from the start of the BAR. */
  readonly tableOffset?: number;
  /** Bytes from the start of the BAR. */
  readonly pbaOffset?: number;
}

export interface DeviceFeatures {
  /** MSI messages, a power of two up to 32. Default: 64-bit addresses, no mask bits. */
  readonly msi?: number | { readonly vectors: number; readonly is64?: boolean; readonly maskable?: boolean };
  /** MSI-X vectors, up to 2048. */
  readonly msix?: number | MsixPlacement;
  /** The INTx pin. */
  readonly intx?: 'A' | 'B' | 'C' | 'D';
  /**
   * False: a device older than PCI 2.3, whose COMMAND.InterruptDisable cannot be set. Default:
   * true.
   */
  readonly interruptDisable?: boolean;
  /**
   * PCI Express with function-level reset (default), without it, or `false` for a conventional PCI
   * device, which cannot be reset.
   */
  readonly pcie?: boolean | { readonly flr: boolean };
  /** 'always': its DMA needs no COMMAND.BusMaster. Default: it does. */
  readonly busMaster?: 'always';
  /** Power management: D0 and D3hot; more by options. */
  readonly pm?: boolean | PmOptions;
  /**
   * More capabilities, made with `capabilities` and `extendedCapabilities` of the package:
   * `[capabilities.vpd(image)]`.
   */
  readonly capabilities?: readonly Capability[];
  /** The same for PCI Express extended capabilities. */
  readonly extendedCapabilities?: readonly Capability[];
  /** The image of the expansion ROM. */
  readonly rom?: Uint8Array;
  /**
   * Virtual functions: `{ totalVfs: 4, vf: device({ … }) }`. The SR-IOV capability follows from it.
   */
  readonly sriov?: SriovDeclaration;
}

/**
 * A region that is no BAR (VFIO's device-specific regions): registers by functions, or without any
 * plain memory.
 */
export interface RegionSpec<D> {
  /** VFIO_REGION_INFO_CAP_TYPE, 32 bits each; a vendor's own type is 0x80000000 | vendor. */
  readonly type: number;
  readonly subtype: number;
  /** Bytes, or '16K'; of memory: whole pages of 4096. */
  readonly size: BarSize;
  /** The value of a read of 1, 2 or 4 bytes at `offset`. */
  readonly read?: (dev: D, offset: number, width: Width) => number;
  /** The effect of a write. It may be async, as a handler in `on`. */
  readonly write?: (dev: D, offset: number, width: Width, value: number) => unknown;
}

/** How a device saves what it remembers, when its `state` is not plain data as it stands. */
export interface DeviceMigration<D> {
  /**
   * Of the data that `save` gives, or of registers and state. Give it a higher number when
   * something is added. Default: 1.
   */
  readonly version?: number;
  /** The data to remember in place of `state`: plain data. */
  save?(dev: D): unknown;
  /**
   * Takes it back, after a reset.
   *
   * @param version of the device that saved it, never higher than ours
   * @throws for what it cannot be
   */
  load?(dev: D, saved: unknown, version: number): void;
}

/** A device as `device()` takes it: ids, BARs, interrupts, and the behaviour of its registers. */
export interface DeviceSpec<B extends Bars, S, C, O, I, K extends CommandsSpec> extends DeviceIds, DeviceFeatures {
  /** BARs by name, made with `bar` and `memory`. */
  readonly bars?: B;
  /** Registers of the device's own in config space: see `configRegisters`. */
  readonly config?: C;
  /**
   * Makes what the device remembers besides its registers; called at power-on and at every reset.
   */
  readonly state?: () => S;
  /**
   * The effects of writes, by register: `'bar0.go'(dev, written, before)`. A handler is called once
   * the value is stored, with the value written and the value before. It may be async: registers
   * keep answering while it waits. Its result is ignored otherwise. An error that it throws is
   * logged, a DMA fault that it does not catch too. `{ serial: handler }` runs one at a time.
   */
  readonly on?: Once<B, WriteHandlers<B & { readonly config: C }, Dev<B, S, C, O, K>>>;
  /** The values that reads show, for registers whose value the device makes up at that moment. */
  readonly read?: Once<B, ReadHandlers<B & { readonly config: C }, Dev<B, S, C, O, K>>>;
  /**
   * The device's effects on the world, by name: a UART's `transmit`. The functions run first, then
   * the listeners that a program has given to the instance (`instance.on('transmit', …)`).
   */
  readonly outputs?: O;
  /**
   * The world's effects on the device, by name: a UART's `receive`. A program calls them on one
   * instance: `instance.inputs.receive(bytes)`.
   */
  readonly inputs?: Inputs<I, Dev<B, S, C, O, K>>;
  /**
   * The commands that the device reports to readers of events, by name, with the kind of each
   * field: `{ copy: { iova: 'bigint', count: 'number' } }`. Handlers call `dev.begin('copy', …)`
   * and end what it gives. No contents of a guest's memory belong into fields.
   */
  readonly commands?: K;
  /** Regions besides BARs, from index 9 on. */
  readonly regions?: Once<B, readonly RegionSpec<Dev<B, S, C, O, K>>[]>;
  /** The effects of the timers of `dev.schedule`, by name, when they run out. */
  readonly timers?: Once<B, TimerHandlers<Dev<B, S, C, O, K>>>;
  /**
   * The device can be moved to another process while it runs: its registers, its `state` and its
   * timers go along. All that it waits for must be a timer then; with a handler that is at work in
   * another way it cannot be moved at that moment (EBUSY).
   */
  readonly migration?: true | Once<B, DeviceMigration<Dev<B, S, C, O, K>>>;
}
