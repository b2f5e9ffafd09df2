/**
 * A PCI device as one declaration: ids, BARs, interrupts, and what happens when a register is written.
 *
 *     export default device({
 *       id: '1234:11e8',
 *       msi: 1,
 *       bar0: bar('4K', { ident: reg(0x00).ro(1), go: reg(0x08) }),
 *       on: {
 *         async 'bar0.go'(dev, value) {
 *           await dev.sleep(1);            // registers keep answering meanwhile
 *           dev.irq.trigger(0);
 *         },
 *       },
 *     });
 */
import type { DeviceHost, ErrorKind, Model, Width } from '../../abi/device-host.ts';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/log.ts';
import type { PmOptions } from '../../pci/capabilities.ts';
import type { ClassName } from '../../pci/class-codes.ts';
import type { Capability, DeviceModel, SriovDeclaration } from '../../pci/declaration.ts';
import type { BarSize, MemoryBar, RegisterBar, Registers, RegistersView } from './bar.ts';
import { checkSpec } from './check-spec.ts';
import { makeDeclaration } from './declaration.ts';
import type { ModelDma, ModelIrq } from './life.ts';
import { KitModel } from './model.ts';
import type { Reg } from './register.ts';

export type AnyBar = RegisterBar<Registers> | MemoryBar;

/** The type of a BAR that is not declared. */
// biome-ignore lint/complexity/noBannedTypes: it has no members on purpose
export type NoBar = {};

type BarView<B> = B extends RegisterBar<infer R> ? RegistersView<R> : B extends MemoryBar ? Uint8Array : never;

/** What a handler gets: its device. It is good until the next reset; a stale one reaches nothing. */
export type Dev<Bars, State = unknown> = {
  readonly [K in keyof Bars as Bars[K] extends AnyBar ? K : never]: BarView<Bars[K]>;
} & {
  /** What `state()` of the declaration made at power-on or the last reset. */
  readonly state: State;
  /** The bytes of `regions` that are plain memory, by their place there. */
  readonly regions: readonly Uint8Array[];
  readonly dma: ModelDma;
  readonly irq: ModelIrq;
  readonly clock: Pick<Clock, 'nowNs'>;
  /** Lines that differ in numbers only are one to the log's rate limit: a driver must not be able to flood it. */
  readonly log: Logger;
  /** Resolves after `delayMs` of the device's clock; rejects with `DeviceReset` when a reset comes first. */
  sleep(delayMs: number): Promise<void>;
  /**
   * Whoever made the access that is being handled gets its answer when `work` is done, where the way to it can wait (a vfio-user reply). Call it
   * before the handler's first `await`. Everything else goes on meanwhile; a driver in this process is not held up.
   */
  answerAfter(work: Promise<unknown>): void;
  /**
   * Reports a PCI Express error, and sets its bits in the capability of `aer()` where the device
   * has one. Users hear of uncorrectable errors (ERR). False: no message was sent, because the
   * error is masked or its reporting is off.
   */
  reportError(kind: ErrorKind, status?: number): boolean;
  /** Signals PME, from a state that `pm: { pme }` names: wakes a device whose user has asked for low power. False: it is not armed. */
  wake(): boolean;
  /** Runs `callback` after `delayMs`, unless disposed or reset before. */
  after(delayMs: number, callback: () => unknown): Disposable;
  /**
   * Runs the timer of that name (`timers` of the declaration) after `delayMs`; anew when it is running. Unlike the other ways to wait it goes along when
   * the device is moved to another process.
   */
  schedule(timer: string, delayMs: number): void;
  /** The timer of that name does not run. */
  cancel(timer: string): void;
};

type RawOf<R> = R extends Reg<infer _, infer N> ? N : never;
type RegistersOf<B> = B extends RegisterBar<infer R> ? R : NoBar;

type WriteHandlers<D, Name extends string, B> = {
  [K in keyof RegistersOf<B> & string as `${Name}.${K}`]?: (
    dev: D,
    written: RawOf<RegistersOf<B>[K]>,
    before: RawOf<RegistersOf<B>[K]>,
  ) => unknown;
};

type ReadHandlers<D, Name extends string, B> = {
  [K in keyof RegistersOf<B> & string as `${Name}.${K}`]?: (dev: D) => RawOf<RegistersOf<B>[K]>;
};

interface LifeHandlers<D> {
  /** At power-on and after every reset. */
  start?(dev: D): unknown;
  /** Config bytes [offset, offset + width) of the hardware were written. */
  config?(dev: D, offset: number, width: number): unknown;
  power?(dev: D, state: 'D0' | 'D3hot'): unknown;
}

// Conditional, though always true: the compiler resolves a conditional type once the BARs are inferred, and only then can it type the handlers'
// parameters from it.
type AllWriteHandlers<D, B0, B1, B2, B3, B4, B5> = [B0] extends [infer _]
  ? LifeHandlers<D> &
      WriteHandlers<D, 'bar0', B0> &
      WriteHandlers<D, 'bar1', B1> &
      WriteHandlers<D, 'bar2', B2> &
      WriteHandlers<D, 'bar3', B3> &
      WriteHandlers<D, 'bar4', B4> &
      WriteHandlers<D, 'bar5', B5>
  : never;

type AllReadHandlers<D, B0, B1, B2, B3, B4, B5> = [B0] extends [infer _]
  ? ReadHandlers<D, 'bar0', B0> &
      ReadHandlers<D, 'bar1', B1> &
      ReadHandlers<D, 'bar2', B2> &
      ReadHandlers<D, 'bar3', B3> &
      ReadHandlers<D, 'bar4', B4> &
      ReadHandlers<D, 'bar5', B5>
  : never;

export interface DeviceIds {
  /** `vendor:device` in hexadecimal, as lspci -n prints it. */
  readonly id: string;
  /** `vendor:device` of the subsystem. */
  readonly subsystem?: string;
  /** For people; the id unless told. */
  readonly name?: string;
  readonly revision?: number;
  /** A name, or base class, sub-class and programming interface: 24 bits, or six hexadecimal digits as lspci -n prints them. */
  readonly class?: ClassName | number | `0x${string}` | `${number}`;
}

export interface MsixPlacement {
  readonly vectors: number;
  /** The BAR that holds table and pending bits; one is added for them unless told. Bytes of both reach the host, not the model. */
  readonly bar?: number;
  readonly tableOffset?: number;
  readonly pbaOffset?: number;
}

export interface DeviceFeatures {
  /** MSI messages (a power of two up to 32), 64-bit addresses, without mask bits unless told. */
  readonly msi?: number | { readonly vectors: number; readonly is64?: boolean; readonly maskable?: boolean };
  /** MSI-X vectors, up to 2048. */
  readonly msix?: number | MsixPlacement;
  /** The INTx pin. */
  readonly intx?: 'A' | 'B' | 'C' | 'D';
  /** False: a device older than PCI 2.3, whose COMMAND.InterruptDisable cannot be set. Default: true. */
  readonly interruptDisable?: boolean;
  /** PCI Express with function-level reset (default), without it, or `false` for a conventional PCI device, which cannot be reset. */
  readonly pcie?: boolean | { readonly flr: boolean };
  /** 'always': it may do DMA without being told to. Default: when software has set COMMAND.BusMaster. */
  readonly busMaster?: 'always';
  /** Power management: D0 and D3hot; more by options. */
  readonly pm?: boolean | PmOptions;
  /** More capabilities, made with `capabilities` and `extendedCapabilities` of the package: `[capabilities.vpd(image)]`. */
  readonly capabilities?: readonly Capability[];
  readonly extendedCapabilities?: readonly Capability[];
  readonly rom?: Uint8Array;
  /** Virtual functions: `{ totalVfs: 4, vf: device({ … }) }`. The SR-IOV capability follows from it. */
  readonly sriov?: SriovDeclaration;
}

/** A region that is no BAR (VFIO's device-specific regions): registers by functions, or without any plain memory. */
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

/** How a device tells what it remembers, when its `state` is not plain data as it stands. */
export interface DeviceMigration<D> {
  /** Of what `save` gives, or of registers and state; 1 unless told. Give it a higher number when something is added. */
  readonly version?: number;
  /** What is to be remembered in place of `state`: plain data. */
  save?(dev: D): unknown;
  /** Take it back, after a reset. @param version  of whoever saved it, never higher than ours   @throws for what it cannot be */
  load?(dev: D, saved: unknown, version: number): void;
}

// Conditional as AllWriteHandlers.
type Timers<D, B0> = [B0] extends [infer _] ? { readonly [name: string]: (dev: D) => unknown } : never;
type Regions<D, B0> = [B0] extends [infer _] ? readonly RegionSpec<D>[] : never;
type Migration<D, B0> = [B0] extends [infer _] ? DeviceMigration<D> : never;

export interface DeviceSpec<B0, B1, B2, B3, B4, B5, S, D> extends DeviceIds, DeviceFeatures {
  readonly bar0?: B0;
  readonly bar1?: B1;
  readonly bar2?: B2;
  readonly bar3?: B3;
  readonly bar4?: B4;
  readonly bar5?: B5;
  /** Makes what the device remembers besides its registers; called at power-on and at every reset. */
  readonly state?: () => S;
  /**
   * What writes do, by register: called once the value is stored, with what was written and what was there before. A handler may be async: registers
   * keep answering while it waits. What it gives back otherwise is ignored; what it throws is logged, a DMA fault that it does not catch too.
   */
  readonly on?: AllWriteHandlers<D, B0, B1, B2, B3, B4, B5>;
  /** What reads show, for registers whose value the device makes up at that moment. */
  readonly read?: AllReadHandlers<D, B0, B1, B2, B3, B4, B5>;
  /** Regions besides BARs, from index 9 on. */
  readonly regions?: Regions<D, B0>;
  /** What happens when a timer of `dev.schedule` runs out. */
  readonly timers?: Timers<D, B0>;
  /**
   * The device can be moved to another process while it runs: its registers, its `state` and its timers go along. All that it waits for must be a timer
   * then; with a handler that is at work in another way it cannot be moved at that moment (EBUSY).
   */
  readonly migration?: true | Migration<D, B0>;
}

/**
 * Declare a device.
 *
 * @throws VfioError EINVAL for a declaration that cannot be: keys that do not exist, values of the wrong kind, registers that overlap, a handler of a
 * register that is not there
 */
export function device<
  const B0 extends AnyBar | NoBar = NoBar,
  const B1 extends AnyBar | NoBar = NoBar,
  const B2 extends AnyBar | NoBar = NoBar,
  const B3 extends AnyBar | NoBar = NoBar,
  const B4 extends AnyBar | NoBar = NoBar,
  const B5 extends AnyBar | NoBar = NoBar,
  S = undefined,
>(spec: DeviceSpec<B0, B1, B2, B3, B4, B5, S, Dev<{ bar0: B0; bar1: B1; bar2: B2; bar3: B3; bar4: B4; bar5: B5 }, S>>): DeviceModel {
  checkSpec(spec);
  const bars = [spec.bar0, spec.bar1, spec.bar2, spec.bar3, spec.bar4, spec.bar5] as readonly (AnyBar | undefined)[];
  const regions = (spec.regions ?? []) as readonly RegionSpec<never>[];
  const declaration = makeDeclaration(spec, bars, regions);
  const kind = KitModel.compile(declaration.name, bars, spec);
  return {
    declaration,
    create: (host: DeviceHost): Model => new KitModel(kind, host),
    ...(spec.sriov === undefined ? {} : { sriov: spec.sriov }),
  };
}
