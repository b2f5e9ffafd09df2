/**
 * MSI and MSI-X as vfio-pci gives them. The host owns the messages: it writes address, data, mask
 * and enable bits into the hardware, and the user's view of those registers is virtual or hidden.
 * One type at a time; vectors get and lose their sinks one by one.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_intrs.c, vfio_msi_enable(), vfio_msi_set_vector_signal(),
 * vfio_msi_set_block()
 */
import type { InterruptSink, SetIrqs } from '../../abi/device.ts';
import { CapId, Command, Config, Msi, Msix } from '../../abi/pci.ts';
import { VfioError } from '../../base/errno.ts';
import { asksFor } from '../../device/set-irqs.ts';
import { type EventSource, Irq, Reason, Step } from '../../events/source.ts';
import type { HostIrq, IrqListener } from '../../hardware/host-irq.ts';
import type { MsixTable } from '../../hardware/msix-table.ts';
import type { ConfigSpace } from '../../pci/config-space.ts';
import type { FaultPlan } from '../fault-plan.ts';
import type { GuardedSink } from './guarded-sink.ts';
import type { IntxInterrupt } from './interrupt-intx.ts';
import { sinkAt } from './interrupt-request.ts';

export type MessageKind = 'msi' | 'msix';

/**
 * Messages in the remappable format of Intel's IOMMU: bits 19:5 of the address are the handle (an
 * index of a remapping table that is the function's own here), bit 4 marks it as a handle, and bit
 * 3 adds the low bits of the data to it.
 *
 * @see Intel Virtualization Technology for Directed I/O, 5.1.2.2
 */
const MESSAGE_BASE = 0xfee0_0000;
const REMAPPABLE = 0x10;
const SUBHANDLE_VALID = 0x08;
const HANDLE_SHIFT = 5;

export interface MessagesOptions {
  readonly bdf: string;
  readonly config: ConfigSpace;
  readonly host: HostIrq;
  readonly msix: MsixTable | null;
  readonly intx: IntxInterrupt;
  readonly faults: FaultPlan;
  readonly events: EventSource;
  readonly maxVectors: () => number;
  readonly dynamicMsix: boolean;
}

export class MessageInterrupts implements IrqListener {
  readonly #bdf: string;
  readonly #config: ConfigSpace;
  readonly #host: HostIrq;
  readonly #msix: MsixTable | null;
  readonly #intx: IntxInterrupt;
  readonly #faults: FaultPlan;
  readonly #events: EventSource;
  readonly #maxVectors: () => number;
  readonly #dynamicMsix: boolean;
  readonly #msiAt: number;
  readonly #msixAt: number;
  readonly #msiMaskAt: number;
  #kind: MessageKind | null = null;
  /** The newest kind, as events have it. */
  #irq = 0;
  /**
   * Vectors that the kind was enabled with; MSI-X may have added others since, see
   * `MsixTable.isRouted`.
   */
  #initial = 0;
  #allocated = 0;
  #sinks: (GuardedSink | null)[] = [];
  /** Messages that arrived for a vector without a sink. */
  unclaimed = 0;

  constructor(options: MessagesOptions) {
    const { config } = options;
    this.#bdf = options.bdf;
    this.#config = config;
    this.#host = options.host;
    this.#msix = options.msix;
    this.#intx = options.intx;
    this.#faults = options.faults;
    this.#events = options.events;
    this.#maxVectors = options.maxVectors;
    this.#dynamicMsix = options.dynamicMsix;
    this.#msiAt = config.findCapability(CapId.MSI);
    this.#msixAt = config.findCapability(CapId.MSIX);
    const flags = this.#msiAt === 0 ? 0 : config.read(this.#msiAt + Msi.FLAGS, 2);
    const maskAt = (flags & Msi.FLAGS_64BIT) !== 0 ? Msi.MASK_64 : Msi.MASK_32;
    this.#msiMaskAt = (flags & Msi.FLAGS_MASKBIT) !== 0 ? this.#msiAt + maskAt : 0;
  }

  get kind(): MessageKind | null {
    return this.#kind;
  }

  /** Vectors allocated now. */
  get allocated(): number {
    return this.#allocated;
  }

  /** Vectors that the hardware has. */
  count(kind: MessageKind): number {
    if (kind === 'msix') return this.#msix === null ? 0 : this.#msix.vectors;
    if (this.#msiAt === 0) return 0;
    return 1 << ((this.#config.read(this.#msiAt + Msi.FLAGS, 2) & Msi.FLAGS_QMASK) >>> Msi.FLAGS_QMASK_SHIFT);
  }

  /** log2 of the messages that MSI was enabled with, rounded up. */
  get msiQueueMax(): number {
    return this.#kind === 'msi' ? log2Up(this.#initial) : 0;
  }

  // --- the wire

  intxAsserted(): void {}

  message(vector: number): void {
    const sink = this.#sinks[vector];
    if (sink === undefined || sink === null) {
      this.unclaimed++;
      if (this.#events.on) this.#events.emit('interrupt', { step: 'dropped', irq: this.#kind ?? 'msi', vector, reason: 'no-sink' });
    } else sink.deliver(this.#irq, vector);
  }

  // --- SET_IRQS

  /** @param idle no interrupt type is enabled on the device */
  setTrigger(kind: MessageKind, request: SetIrqs, idle: boolean): number {
    const active = this.#kind === kind;
    if (active && request.count === 0 && request.data === 'none') {
      this.disable();
      return 0;
    }
    const name = kind === 'msi' ? 'MSI' : 'MSI-X';
    if (!active && !idle) {
      throw new VfioError('EINVAL', `${this.#bdf}: ${name} cannot be enabled while another interrupt type is`, {
        fix: 'Disable that first: DATA_NONE, count 0.',
      });
    }
    if (request.data === 'sinks') {
      const sinks = 'sinks' in request ? request.sinks : [];
      return active ? this.#setActive(request.start, request.count, sinks) : this.#enable(kind, request.start, request.count, sinks);
    }
    if (!active) {
      throw new VfioError('EINVAL', `${this.#bdf}: ${name} is not enabled`, { fix: 'Give it eventfds first: TRIGGER with DATA_EVENTFD.' });
    }
    for (let i = 0; i < request.count; i++) if (asksFor(request, i)) this.#sinks[request.start + i]?.deliver(this.#irq, request.start + i);
    return 0;
  }

  #enable(kind: MessageKind, start: number, count: number, sinks: readonly (InterruptSink | null)[]): number {
    const wanted = start + count;
    if (wanted === 0) throw new VfioError('ERANGE', `${this.#bdf}: no vectors were asked for`);
    this.#faults.step('irq.vectors.allocate');
    const available = Math.min(this.count(kind), Math.max(0, this.#maxVectors()));
    if (available === 0) throw new VfioError('ENOSPC', `${this.#bdf}: the machine has no interrupt vectors left`);
    if (wanted > available) return available;
    this.#checkSinks(count, sinks);
    this.#kind = kind;
    this.#irq = Irq[kind];
    this.#initial = wanted;
    this.#allocated = wanted;
    this.#sinks = new Array<GuardedSink | null>(wanted).fill(null);
    if (kind === 'msix') for (let vector = 0; vector < wanted; vector++) this.#routeMsix(vector);
    try {
      this.#faults.step('irq.vectors.enable');
      this.#enableHardware();
      this.#host.listener = this;
      this.#setBlock(start, count, sinks);
    } catch (error) {
      this.disable();
      throw error;
    }
    return 0;
  }

  /**
   * A block of an enabled type. Requests that are known to fail are refused before anything
   * changes.
   */
  #setActive(start: number, count: number, sinks: readonly (InterruptSink | null)[]): number {
    let added = 0;
    for (let i = 0; i < count; i++) {
      if ((sinks[i] ?? null) === null || this.#isAllocated(start + i)) continue;
      if (this.#kind === 'msi' || !this.#dynamicMsix) {
        throw new VfioError('EINVAL', `${this.#bdf}: vector ${start + i} was not allocated; ${this.#initial} were`, {
          fix: 'Disable, then enable with as many vectors as will ever be used.',
        });
      }
      added++;
    }
    if (added > 0 && this.#allocated + added > this.#maxVectors()) {
      throw new VfioError('ENOSPC', `${this.#bdf}: ${added} more interrupt vectors are needed, the machine has fewer left`);
    }
    this.#checkSinks(count, sinks);
    this.#setBlock(start, count, sinks);
    return 0;
  }

  #checkSinks(count: number, sinks: readonly (InterruptSink | null)[]): void {
    for (let i = 0; i < count; i++) sinkAt(this.#bdf, this.#events, sinks, i);
  }

  /**
   * All of the block, or none of it: after an error the vectors that the request came to have no
   * sink any more.
   */
  #setBlock(start: number, count: number, sinks: readonly (InterruptSink | null)[]): void {
    let i = 0;
    try {
      for (; i < count; i++) this.#setVector(start + i, sinkAt(this.#bdf, this.#events, sinks, i));
    } catch (error) {
      for (let j = 0; j <= i; j++) this.#setVector(start + j, null);
      throw error;
    }
  }

  #isAllocated(vector: number): boolean {
    return this.#kind === 'msix' ? this.#msix!.isRouted(vector) : vector < this.#initial;
  }

  #setVector(vector: number, sink: GuardedSink | null): void {
    if (sink === null) {
      if (this.#isAllocated(vector)) {
        this.#mask(vector, true);
        if (this.#events.on && this.#sinks[vector] != null) this.#events.interrupt(Step.masked, this.#irq, vector, Reason.driver);
      }
      this.#swap(vector, null);
      return;
    }
    if (!this.#isAllocated(vector)) {
      this.#faults.step('irq.vector.allocate');
      this.#routeMsix(vector);
      this.#allocated++;
    }
    this.#faults.step('irq.vector.request');
    sink.get();
    this.#mask(vector, true);
    this.#program(vector);
    if (this.#events.on && this.#sinks[vector] == null) this.#events.interrupt(Step.unmasked, this.#irq, vector, Reason.driver);
    this.#swap(vector, sink);
    // Last, because this sends a message that came meanwhile.
    this.#mask(vector, false);
  }

  #swap(vector: number, sink: GuardedSink | null): void {
    const old = this.#sinks[vector] ?? null;
    if (sink !== null) while (this.#sinks.length <= vector) this.#sinks.push(null);
    if (vector < this.#sinks.length) this.#sinks[vector] = sink;
    old?.put();
  }

  /** Quiet first, then release every sink once. */
  disable(): void {
    if (this.#kind === null) return;
    this.#disableHardware(this.#kind);
    this.#host.listener = null;
    const sinks = this.#sinks;
    this.#kind = null;
    this.#initial = 0;
    this.#allocated = 0;
    this.#sinks = [];
    for (const sink of sinks) sink?.put();
  }

  // --- the hardware

  /** Write everything into the hardware again, after a reset took it. */
  restore(): void {
    if (this.#kind === null) return;
    this.#enableHardware();
    for (let vector = 0; vector < this.#sinks.length; vector++) {
      if (this.#sinks[vector] === null) continue;
      this.#program(vector);
      this.#mask(vector, false);
    }
  }

  #routeMsix(vector: number): void {
    this.#msix!.route(vector, MESSAGE_BASE | (vector << HANDLE_SHIFT) | REMAPPABLE, 0, 0);
  }

  #enableHardware(): void {
    this.#intx.quietForMessages(true);
    if (this.#kind === 'msi') this.#enableMsi();
    else this.#enableMsix();
  }

  /** The message is written while MSI is off; vectors start masked where they can be. */
  #enableMsi(): void {
    const at = this.#msiAt;
    const flags = this.#config.read(at + Msi.FLAGS, 2);
    const is64 = (flags & Msi.FLAGS_64BIT) !== 0;
    const off = flags & ~(Msi.FLAGS_ENABLE | Msi.FLAGS_QSIZE);
    const queue = log2Up(this.#initial) << Msi.FLAGS_QSIZE_SHIFT;
    const low = (MESSAGE_BASE | REMAPPABLE | SUBHANDLE_VALID) >>> 0;
    this.#config.write(at + Msi.FLAGS, 2, off);
    this.#host.routeMsi(this.#initial, low, 0, 0);
    if (this.#msiMaskAt !== 0) this.#config.write(this.#msiMaskAt, 4, 0xffff_ffff);
    this.#config.write(at + Msi.ADDRESS_LO, 4, low);
    if (is64) this.#config.write(at + Msi.ADDRESS_HI, 4, 0);
    this.#config.write(at + (is64 ? Msi.DATA_64 : Msi.DATA_32), 2, 0);
    this.#config.write(at + Msi.FLAGS, 2, off | queue | Msi.FLAGS_ENABLE);
  }

  /** Mask every entry under the function mask, write the messages, then clear the function mask. */
  #enableMsix(): void {
    const table = this.#msix!;
    const { FLAGS, FLAGS_ENABLE, FLAGS_MASKALL } = Msix;
    this.#config.writeBits(this.#msixAt + FLAGS, 2, FLAGS_ENABLE | FLAGS_MASKALL, FLAGS_ENABLE | FLAGS_MASKALL);
    this.#decoding(() => {
      for (let vector = 0; vector < table.vectors; vector++) {
        table.setMasked(vector, true);
        if (table.isRouted(vector)) table.program(vector);
      }
    });
    this.#config.writeBits(this.#msixAt + FLAGS, 2, 0, FLAGS_MASKALL);
  }

  #disableHardware(kind: MessageKind): void {
    if (kind === 'msi') {
      this.#config.writeBits(this.#msiAt + Msi.FLAGS, 2, 0, Msi.FLAGS_ENABLE);
      if (this.#msiMaskAt !== 0) this.#config.write(this.#msiMaskAt, 4, 0);
      this.#host.unrouteMsi();
    } else {
      const table = this.#msix!;
      this.#decoding(() => {
        for (let vector = 0; vector < table.vectors; vector++) table.setMasked(vector, true);
      });
      this.#config.writeBits(this.#msixAt + Msix.FLAGS, 2, 0, Msix.FLAGS_ENABLE | Msix.FLAGS_MASKALL);
      for (let vector = 0; vector < table.vectors; vector++) table.unroute(vector);
    }
    this.#intx.quietForMessages(false);
  }

  #program(vector: number): void {
    if (this.#kind === 'msix') this.#decoding(() => this.#msix!.program(vector));
  }

  #mask(vector: number, masked: boolean): void {
    if (this.#kind === 'msix') this.#decoding(() => this.#msix!.setMasked(vector, masked));
    else if (this.#msiMaskAt !== 0) {
      const bit = (1 << vector) >>> 0;
      this.#config.writeBits(this.#msiMaskAt, 4, masked ? bit : 0, bit);
    }
  }

  /**
   * The table is in a BAR: the engine switches memory decoding on around the accesses, whatever the
   * user has set, and restores it (B.9).
   */
  #decoding(access: () => void): void {
    const on = this.#config.memoryEnabled;
    if (!on) this.#config.writeBits(Config.COMMAND, 2, Command.MEMORY, Command.MEMORY);
    try {
      access();
    } finally {
      if (!on) this.#config.writeBits(Config.COMMAND, 2, 0, Command.MEMORY);
    }
  }
}

function log2Up(vectors: number): number {
  return 32 - Math.clz32(vectors - 1);
}
