/**
 * FunctionHost: the hardware side of one PCI function. It is the `DeviceHost` that the function's
 * model holds, and the only way to that model. Knows nothing of VFIO.
 *
 * Longer than 400 lines because it is the list of all that the bus, the host and the model ask of
 * one function; the work is done in the files beside it.
 */
import type { DeviceHost, ErrorKind, Model, Width } from '../abi/device-host.ts';
import { type DirectMemory, type MemoryAllocator, WINDOW_BYTES } from '../abi/memory.ts';
import { Bar, CapId, Command, Config, Pm, PowerState } from '../abi/pci.ts';
import { NUM_REGIONS } from '../abi/vfio.ts';
import type { Clock } from '../base/clock.ts';
import { VfioError } from '../base/errno.ts';
import { guardedClock } from '../base/foreign.ts';
import type { Logger } from '../base/log.ts';
import type { EventSource } from '../events/source.ts';
import { checkRegions } from '../pci/check-regions.ts';
import type { ConfigSpace } from '../pci/config-space.ts';
import type { BarDeclaration, PciDeclaration, RegionDeclaration } from '../pci/declaration.ts';
import { noteError, notePme } from './event-registers.ts';
import { FunctionClock } from './function-clock.ts';
import { GuardedModel } from './guarded-model.ts';
import { HostDma } from './host-dma.ts';
import { HostIrq } from './host-irq.ts';
import type { IommuDomain } from './iommu-domain.ts';
import { MsixTable } from './msix-table.ts';

export interface FunctionHostOptions {
  readonly bdf: string;
  readonly declaration: PciDeclaration;
  readonly config: ConfigSpace;
  /** The function's group now; null before it has one. */
  readonly group: () => { readonly domain: IommuDomain | null } | null;
  readonly clock: Clock;
  /** Where the function emits: its own. */
  readonly events: EventSource;
  readonly allocate: MemoryAllocator;
  /** The platform's action at a message of the function. */
  readonly messages?: FunctionMessages;
}

/** Messages of a function, on which the platform acts. */
export interface FunctionMessages {
  error(kind: ErrorKind): void;
  /** PME, while it is enabled. */
  wake(): void;
}

const ENABLES = Command.MASTER | Command.MEMORY | Command.IO;
/** By the number in PMCSR. */
const powerStates = ['D0', 'D1', 'D2', 'D3hot'] as const;

/** A BAR that is more than registers of the model. */
interface SpecialBar {
  readonly memory: Uint8Array<ArrayBufferLike>[] | null;
  readonly msix: MsixTable | null;
}

export class FunctionHost implements DeviceHost {
  readonly bdf: string;
  readonly declaration: PciDeclaration;
  readonly config: ConfigSpace;
  readonly dma: HostDma;
  readonly irq: HostIrq;
  readonly msix: MsixTable | null;
  readonly clock: FunctionClock;
  readonly log: Logger;
  /** In D0: DMA and interrupts can leave the function. */
  powered = true;
  /** Resets that the model has seen. */
  resets = 0;
  /** The memory of `sparseAreas` has had a user: the next reset gives the model another one. */
  areasUsed = false;
  /** A PF's VFs: a reset of the PF resets them, too. */
  virtualFunctions: FunctionHost[] = [];
  /** Called after each reset of the function, whatever its cause. */
  onReset: (() => void) | null = null;
  readonly #model: GuardedModel;
  /** The answer to the present access waits for this promise; null: it does not wait. */
  #held: Promise<void> | null = null;
  #lockedBy: string | null = null;
  #resetting = false;
  #powerState: number = PowerState.D0;
  /** The bits of COMMAND that `enable` events say. */
  #enabled = 0;
  readonly #pmControl: number;
  readonly #allocate: MemoryAllocator;
  readonly #group: () => { readonly domain: IommuDomain | null } | null;
  readonly #memory: (DirectMemory | null)[] = [null, null, null, null, null, null];
  readonly #special: (SpecialBar | null)[] = [null, null, null, null, null, null];
  /**
   * By BAR and region: 1 while COMMAND decodes it; and 1 while, besides, an access goes straight to
   * the model.
   */
  readonly #decoded: Uint8Array;
  readonly #straight: Uint8Array;
  readonly #configListener: Disposable;
  readonly #messages: FunctionMessages | undefined;
  /** Where the function emits. */
  readonly events: EventSource;

  constructor(options: FunctionHostOptions) {
    this.bdf = options.bdf;
    this.declaration = options.declaration;
    this.config = options.config;
    this.#model = new GuardedModel(options.bdf, options.declaration.name, options.events);
    this.clock = new FunctionClock(guardedClock(options.clock, this.#model.failed), options.events);
    this.#allocate = options.allocate;
    this.#group = options.group;
    this.#messages = options.messages;
    this.events = options.events;
    this.log = { log: (level, message) => options.events.note(level, 'model', `${options.bdf}: ${message}`) };
    this.msix = MsixTable.of(options.config);
    this.dma = new HostDma(this, options.events, options.bdf);
    this.irq = new HostIrq({
      config: options.config,
      msix: this.msix,
      events: options.events,
      bdf: options.bdf,
      powered: () => this.powered,
    });
    const pm = options.config.findCapability(CapId.PM);
    this.#pmControl = pm === 0 ? -1 : pm + Pm.CTRL;
    const { name, regions = [] } = options.declaration;
    checkRegions(name, regions);
    const count = regions.length === 0 ? Bar.COUNT : NUM_REGIONS + regions.length;
    this.#decoded = new Uint8Array(count);
    this.#straight = new Uint8Array(count);
    for (const bar of options.declaration.bars ?? []) this.#special[bar.index] = this.#specialBar(bar);
    for (const [i, region] of regions.entries()) this.#addRegion(NUM_REGIONS + i, region);
    this.#enabled = options.config.command & ENABLES;
    this.#decodingWritten();
    this.events.onSwitch = () => this.#findStraight();
    this.#configListener = options.config.onWrite((offset, width) => this.#configWritten(offset, width));
  }

  /** Gate of `HostDma`. */
  get busMaster(): boolean {
    return (this.config.bytes[Config.COMMAND]! & Command.MASTER) !== 0;
  }

  /** Gate of `HostDma`: the domain that translates for this function now. */
  get domain(): IommuDomain | null {
    return this.#group()?.domain ?? null;
  }

  /**
   * Called once, when the model is made: `host.attach(deviceModel.create(host))`.
   *
   * @throws VfioError EINVAL for a value that is no model
   */
  attach(model: Model): void {
    this.#model.attach(model);
    if (typeof model.configRead === 'function' && (this.declaration.registers ?? []).length > 0) {
      this.config.answer({
        read: (offset, width) => this.#model.configRead(offset, width),
        write: (offset, width, value) => this.#model.configWrite(offset, width, value),
      });
    }
  }

  /**
   * The function is removed for good: the model is disposed, and BAR memory released. Idempotent.
   */
  dispose(): void {
    this.#configListener[Symbol.dispose]();
    this.#model.dispose();
    this.events[Symbol.dispose]();
    for (let i = 0; i < this.#memory.length; i++) {
      this.#memory[i]?.[Symbol.dispose]();
      this.#memory[i] = null;
      this.#special[i] = null;
    }
  }

  bar(index: number): BarDeclaration | undefined {
    return this.declaration.bars?.find((bar) => bar.index === index);
  }

  readConfig(offset: number, width: Width): number {
    return this.config.read(offset, width);
  }

  barMemory(index: number): DirectMemory {
    const memory = this.#memory[index];
    if (memory == null)
      throw new VfioError('EINVAL', `${this.bdf}: region ${String(index)} is not declared with backing: 'memory' or sparseAreas`);
    return memory;
  }

  answerAfter(work: Promise<unknown>): void {
    const held: Promise<void> = Promise.allSettled([this.#held, work]).then(() => {
      if (this.#held === held) this.#held = null;
    });
    this.#held = held;
  }

  reportError(kind: ErrorKind, status?: number): boolean {
    const { events } = this;
    const sent = noteError(this.config, kind, status);
    const before = events.cause;
    const seq = events.emit('error', { severity: kind, sent });
    if (seq !== 0) events.cause = seq;
    if (sent) this.#messages?.error(kind);
    events.cause = before;
    return sent;
  }

  wake(): boolean {
    const sent = notePme(this.config);
    if (sent) this.#messages?.wake();
    return sent;
  }

  /** The promise that the answer to the last access waits for, once; null: it does not wait. */
  takeHeld(): Promise<void> | null {
    const held = this.#held;
    this.#held = null;
    return held;
  }

  // ---- Accesses to the function's BARs, as they arrive from the bus. The caller has checked that
  // they are aligned and inside. A BAR that COMMAND does not decode reads as all ones.

  read(bar: number, offset: number, width: Width): number {
    if (this.#straight[bar] === 1) return this.#model.read(bar, offset, width);
    return this.events.on ? this.#readSeen(bar, offset, width) : this.#readSpecial(bar, offset, width);
  }

  write(bar: number, offset: number, width: Width, value: number): void {
    if (this.#straight[bar] === 1) this.#model.write(bar, offset, width, value);
    else if (this.events.on) this.#writeSeen(bar, offset, width, value);
    else this.#writeSpecial(bar, offset, width, value);
  }

  read64(bar: number, offset: number): bigint {
    if (this.#straight[bar] === 1 && this.#model.reads64) return this.#model.read64(bar, offset);
    if (this.events.on && this.#isWhole64(bar) && this.#model.reads64) return this.#read64Seen(bar, offset);
    const low = this.read(bar, offset, 4);
    return BigInt(low) | (BigInt(this.read(bar, offset + 4, 4)) << 32n);
  }

  write64(bar: number, offset: number, value: bigint): void {
    if (this.#straight[bar] === 1 && this.#model.writes64) {
      this.#model.write64(bar, offset, value);
      return;
    }
    if (this.events.on && this.#isWhole64(bar) && this.#model.writes64) {
      this.#write64Seen(bar, offset, value);
      return;
    }
    this.write(bar, offset, 4, Number(value & 0xffff_ffffn));
    this.write(bar, offset + 4, 4, Number(value >> 32n));
  }

  // ---- Reset, power, locking

  /**
   * Take the device lock: a reset of the function or of its bus holds it.
   *
   * @throws VfioError EAGAIN while it is held; the message names the holder
   */
  lock(who: string): Disposable {
    this.checkUnlocked();
    this.#lockedBy = who;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (held) this.#lockedBy = null;
        held = false;
      },
    };
  }

  get lockedBy(): string | null {
    return this.#lockedBy;
  }

  /** @throws VfioError EAGAIN while the device lock is held */
  checkUnlocked(): void {
    if (this.#lockedBy === null) return;
    throw new VfioError('EAGAIN', `${this.bdf} is locked by ${this.#lockedBy}`, { fix: 'Try again when that is done.' });
  }

  /**
   * The function's own reset, whatever its cause: registers, messages and configuration go back to
   * power-on values.
   */
  functionReset(): void {
    this.#resetting = true;
    try {
      this.resets++;
      this.config.reset();
      this.dma.cut();
      this.irq.reset();
      this.#renewAreas();
      this.#model.reset();
    } finally {
      this.#resetting = false;
    }
    for (const vf of this.virtualFunctions) vf.#resetWithPhysical();
    this.onReset?.();
  }

  #resetWithPhysical(): void {
    const { events } = this;
    events.during(events.on ? events.emit('reset', { by: 'physical function' }) : 0, () => this.functionReset());
  }

  /**
   * The model is as after power-on, and the pin quiet; the configuration and the host's settings
   * stay.
   */
  resetModel(): void {
    this.resets++;
    this.dma.cut();
    this.irq.loadUnsent(false, []);
    this.#model.reset();
  }

  /**
   * Nothing new leaves the function until `release`: neither DMA nor interrupts. Registers answer.
   * Idempotent, as is `release`.
   */
  hold(): void {
    this.dma.stopped = true;
    this.irq.hold();
  }

  release(): void {
    this.dma.stopped = false;
    this.irq.release();
  }

  /**
   * While the machine sleeps (S2-42): no DMA and no interrupt leaves, and time stands still for the
   * model. Then everything goes on. Idempotent.
   */
  stand(still: boolean): void {
    this.dma.asleep = still;
    if (still) {
      this.irq.hold('sleep');
      this.clock.pause();
    } else {
      this.irq.release('sleep');
      this.clock.goOn();
    }
  }

  /** Report a mistake of the model that other code has found. */
  modelFailed(what: string, error: unknown): void {
    this.#model.fail(what, error);
  }

  /** The model behind the registers; null before it is made, and after it is gone. */
  get model(): Model | null {
    return this.#model.model;
  }

  /** Exceptions, rejections and values that are none: each is a bug of the model. */
  get modelErrors(): number {
    return this.#model.errors;
  }

  #configWritten(offset: number, width: number): void {
    const pm = this.#pmControl;
    if (pm >= offset && pm < offset + width) this.#powerWritten();
    if (offset <= Config.COMMAND) {
      this.#decodingWritten();
      this.#enableWritten();
    }
    if (!this.#resetting) this.#model.configWritten(offset, width);
  }

  /** COMMAND.Memory or COMMAND.IO may have changed. */
  #decodingWritten(): void {
    for (const { index, type } of this.declaration.bars ?? []) {
      this.#decoded[index] = (type === 'io' ? this.config.ioEnabled : this.config.memoryEnabled) ? 1 : 0;
    }
    this.#findStraight();
  }

  #enableWritten(): void {
    const enabled = this.config.command & ENABLES;
    if (enabled === this.#enabled) return;
    this.#enabled = enabled;
    if (!this.events.on) return;
    const on = (bit: number) => (enabled & bit) !== 0;
    this.events.emit('enable', { busMaster: on(Command.MASTER), memory: on(Command.MEMORY), io: on(Command.IO) });
  }

  /** While there is a reader of events, every access goes the way that emits one. */
  #findStraight(): void {
    const seen = this.events.on;
    for (let i = 0; i < this.#straight.length; i++) this.#straight[i] = !seen && this.#special[i] == null ? this.#decoded[i]! : 0;
  }

  /**
   * PMCSR.PowerState may have changed. Leaving D3hot without No_Soft_Reset is an internal reset
   * (PCI PM 1.2, 5.4.1): therefore 'pm' is a reset method. The configuration is at power-on values
   * then; the code that woke the function restores it.
   */
  #powerWritten(): void {
    const state = this.config.powerState;
    const was = this.#powerState;
    if (state === was) return;
    this.#powerState = state;
    this.powered = state === PowerState.D0;
    const { events } = this;
    const before = events.cause;
    if (events.on) events.cause = events.emit('power', { state: powerStates[state]! });
    const wakes = was === PowerState.D3HOT && state === PowerState.D0 && !this.#resetting;
    if (wakes && (this.config.bytes[this.#pmControl]! & Pm.CTRL_NO_SOFT_RESET) === 0) this.#powerReset();
    if (state === PowerState.D3HOT) this.#model.power('D3hot');
    else if (was === PowerState.D3HOT) this.#model.power('D0');
    events.cause = before;
  }

  /** A reset that uses the power state holds the lock, and has an event of its own. */
  #powerReset(): void {
    const { events } = this;
    const before = events.cause;
    if (events.on && this.#lockedBy === null) events.cause = events.emit('reset', { by: 'power' });
    this.functionReset();
    events.cause = before;
  }

  // ---- Accesses that emit an event

  #readSeen(bar: number, offset: number, width: Width): number {
    const { events } = this;
    if (this.#decoded[bar] === 0) {
      const ones = width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff;
      events.emit('access', { op: 'read', region: bar, offset, size: width, value: ones, verdict: 'dropped', rule: this.#undecoded(bar) });
      return ones;
    }
    const before = events.cause;
    const seq = events.access(false, bar, offset, width, 0, 0, this.#isMemory(bar, offset, width));
    events.cause = seq;
    const value = this.#readSpecial(bar, offset, width);
    events.cause = before;
    events.read(seq, value, 0);
    return value;
  }

  #writeSeen(bar: number, offset: number, width: Width, value: number): void {
    const { events } = this;
    const memory = this.#isMemory(bar, offset, width);
    if (this.#decoded[bar] === 0) {
      const rule = this.#undecoded(bar);
      events.emit('access', { op: 'write', region: bar, offset, size: width, ...(memory ? {} : { value }), verdict: 'dropped', rule });
      return;
    }
    const before = events.cause;
    events.cause = events.access(true, bar, offset, width, value, 0, memory);
    this.#writeSpecial(bar, offset, width, value);
    events.cause = before;
  }

  #read64Seen(bar: number, offset: number): bigint {
    const { events } = this;
    const before = events.cause;
    const seq = events.access(false, bar, offset, 8, 0, 0, false);
    events.cause = seq;
    const value = this.#model.read64(bar, offset);
    events.cause = before;
    events.read(seq, Number(value & 0xffff_ffffn), Number(value >> 32n));
    return value;
  }

  #write64Seen(bar: number, offset: number, value: bigint): void {
    const { events } = this;
    const before = events.cause;
    events.cause = events.access(true, bar, offset, 8, Number(value & 0xffff_ffffn), Number(value >> 32n), false);
    this.#model.write64(bar, offset, value);
    events.cause = before;
  }

  /** Whether 8 bytes of the BAR reach the model in one access, where it takes them. */
  #isWhole64(bar: number): boolean {
    return this.#decoded[bar] === 1 && this.#special[bar] == null;
  }

  #isMemory(bar: number, offset: number, size: number): boolean {
    const special = this.#special[bar];
    if (special == null || special.memory === null) return false;
    const { msix } = special;
    return msix === null || !(msix.contains(bar, offset, size) || msix.containsPending(bar, offset, size));
  }

  #undecoded(bar: number): string {
    if (this.config.sleeping) return 'the function is in D3hot';
    return this.bar(bar)?.type === 'io' ? 'I/O decoding is off (COMMAND.IO)' : 'memory decoding is off (COMMAND.Memory)';
  }

  // ---- BARs that are more than registers

  /** A process that was a user can still have the memory of the areas mapped. */
  #renewAreas(): void {
    if (!this.areasUsed) return;
    this.areasUsed = false;
    for (const { index, size, sparseAreas } of this.declaration.bars ?? []) {
      if (sparseAreas === undefined) continue;
      const before = this.#memory[index];
      this.#memory[index] = this.#allocate(size);
      before?.[Symbol.dispose]();
    }
  }

  /** No bit of COMMAND gates a device-specific region. */
  #addRegion(index: number, { backing, size }: RegionDeclaration): void {
    this.#decoded[index] = 1;
    if (backing === 'memory') {
      const memory = this.#allocate(size);
      this.#memory[index] = memory;
      this.#special[index] = { memory: [...memory.windows], msix: null };
    }
  }

  #specialBar(bar: BarDeclaration): SpecialBar | null {
    const msix = this.msix !== null && (this.msix.bar === bar.index || this.msix.pbaBar === bar.index) ? this.msix : null;
    if (bar.sparseAreas !== undefined) this.#memory[bar.index] = this.#allocate(bar.size);
    if (bar.backing !== 'memory') return msix === null ? null : { memory: null, msix };
    const memory = this.#allocate(bar.size);
    this.#memory[bar.index] = memory;
    return { memory: [...memory.windows], msix };
  }

  #readSpecial(bar: number, offset: number, width: Width): number {
    if (this.#decoded[bar] === 0) return width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff;
    const special = this.#special[bar];
    if (special == null) return this.#model.read(bar, offset, width);
    const msix = special.msix;
    if (msix !== null && (msix.contains(bar, offset, width) || msix.containsPending(bar, offset, width))) {
      return msix.read(bar, offset, width);
    }
    if (special.memory === null) return this.#model.read(bar, offset, width);
    const bytes = special.memory[Math.floor(offset / WINDOW_BYTES)]!;
    const at = offset % WINDOW_BYTES;
    if (width === 1) return bytes[at]!;
    if (width === 2) return bytes[at]! | (bytes[at + 1]! << 8);
    return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
  }

  #writeSpecial(bar: number, offset: number, width: Width, value: number): void {
    if (this.#decoded[bar] === 0) return;
    const special = this.#special[bar];
    if (special == null) {
      this.#model.write(bar, offset, width, value);
      return;
    }
    const msix = special.msix;
    if (msix !== null && (msix.contains(bar, offset, width) || msix.containsPending(bar, offset, width))) {
      msix.write(bar, offset, width, value);
      return;
    }
    if (special.memory === null) {
      this.#model.write(bar, offset, width, value);
      return;
    }
    const bytes = special.memory[Math.floor(offset / WINDOW_BYTES)]!;
    const at = offset % WINDOW_BYTES;
    for (let i = 0; i < width; i++) bytes[at + i] = (value >>> (8 * i)) & 0xff;
  }
}
