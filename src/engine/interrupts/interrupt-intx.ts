/**
 * INTx as vfio-pci gives it: an edge to the user for a level of the device. When the pin is
 * asserted, the engine masks it first and signals then (automask). An unmask looks whether the pin
 * is still asserted; if so the engine keeps the mask and signals again, without a trip through the
 * wire.
 *
 * The mask is COMMAND.InterruptDisable where the device has a working one (PCI 2.3), else the
 * interrupt controller's; then the line must not be shared (S2-12). COMMAND.InterruptDisable as the
 * user sees it is virtual, and a second mask over it.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_intrs.c, vfio_intx_enable(), vfio_pci_intx_mask(),
 * vfio_pci_intx_unmask_handler()
 */
import type { InterruptSource, SetIrqs } from '../../abi/device.ts';
import { Command, Config } from '../../abi/pci.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { asksFor } from '../../device/set-irqs.ts';
import { type EventSource, Irq, Reason, Step } from '../../events/source.ts';
import type { HostIrq, IrqListener } from '../../hardware/host-irq.ts';
import type { InterruptLine } from '../../hardware/interrupt-line.ts';
import type { ConfigSpace } from '../../pci/config-space.ts';
import type { FaultPlan } from '../fault-plan.ts';
import { type GuardedSink, listenGuarded } from './guarded-sink.ts';
import { sinkAt, sourceAt } from './interrupt-request.ts';

export interface IntxOptions {
  readonly bdf: string;
  readonly config: ConfigSpace;
  readonly host: HostIrq;
  readonly faults: FaultPlan;
  readonly events: EventSource;
  readonly line: InterruptLine | null;
  readonly noIntx: boolean;
  /** Do not use COMMAND.InterruptDisable even if it works (module parameter nointxmask). */
  readonly noIntxMask: boolean;
}

export class IntxInterrupt implements IrqListener {
  readonly #bdf: string;
  readonly #config: ConfigSpace;
  readonly #host: HostIrq;
  readonly #faults: FaultPlan;
  readonly #events: EventSource;
  readonly #line: InterruptLine | null;
  readonly #noIntx: boolean;
  readonly #noIntxMask: boolean;
  /** COMMAND.InterruptDisable works; null before the trial. */
  #maskable: boolean | null = null;
  /** The user's own COMMAND.InterruptDisable. */
  #virtuallyDisabled = false;
  #active = false;
  #masked = false;
  #maskedForSleep = false;
  #sink: GuardedSink | null = null;
  #held: Disposable | null = null;
  #unmaskSource: Disposable | null = null;

  constructor(options: IntxOptions) {
    this.#bdf = options.bdf;
    this.#config = options.config;
    this.#host = options.host;
    this.#faults = options.faults;
    this.#events = options.events;
    this.#line = options.line;
    this.#noIntx = options.noIntx;
    this.#noIntxMask = options.noIntxMask;
  }

  get active(): boolean {
    return this.#active;
  }

  get masked(): boolean {
    return this.#masked;
  }

  /** Whether the mask is COMMAND.InterruptDisable. */
  get maskable(): boolean {
    if (this.#maskable === null) this.probe();
    return this.#maskable === true;
  }

  /**
   * Try whether COMMAND.InterruptDisable can be toggled, and leave it clear (or set, when INTx is
   * not to be used).
   */
  probe(): void {
    if (this.#noIntx) {
      this.#maskable = false;
      this.#disableIntx(true);
      return;
    }
    if (this.#noIntxMask) {
      this.#maskable = false;
      return;
    }
    const before = this.#config.intxDisabled;
    this.#disableIntx(!before);
    this.#maskable = this.#config.intxDisabled !== before;
    if (this.#maskable) this.#disableIntx(false);
  }

  #disableIntx(on: boolean): void {
    const { INTX_DISABLE } = Command;
    this.#config.writeBits(Config.COMMAND, 2, on ? INTX_DISABLE : 0, INTX_DISABLE);
  }

  /**
   * A function that uses messages keeps its pin quiet; afterwards the bit has the user's last value
   * again.
   */
  quietForMessages(quiet: boolean): void {
    this.#disableIntx(quiet || this.#noIntx || (this.maskable && this.#virtuallyDisabled));
  }

  // --- the wire

  intxAsserted(): void {
    if (!this.#active || this.#masked) return;
    this.#masked = true;
    if (this.#events.on) this.#events.interrupt(Step.masked, Irq.intx, 0, Reason.automask);
    if (this.#maskable === true) this.#disableIntx(true);
    this.#signal();
  }

  message(_vector: number): void {}

  #signal(): void {
    if (!this.#virtuallyDisabled) this.#sink?.deliver(Irq.intx, 0);
  }

  /** True when the mask changed. @param reason of `Reason` */
  mask(reason: number): boolean {
    if (!this.#active) {
      if (this.maskable) this.#disableIntx(true);
      return false;
    }
    if (this.#masked) return false;
    this.#masked = true;
    if (this.#events.on) this.#events.interrupt(Step.masked, Irq.intx, 0, reason);
    if (this.maskable) this.#disableIntx(true);
    return true;
  }

  /** @param reason of `Reason` */
  unmask(reason: number): void {
    if (!this.#active) {
      if (this.maskable) this.#disableIntx(false);
      return;
    }
    if (!this.#masked || this.#virtuallyDisabled) return;
    if (this.maskable) {
      if (this.#config.interruptStatus) {
        this.#signal();
        return;
      }
      this.#unmasked(reason);
      this.#disableIntx(false);
    } else {
      this.#unmasked(reason);
      if (this.#host.pinAsserted) this.intxAsserted();
    }
  }

  #unmasked(reason: number): void {
    this.#masked = false;
    if (this.#events.on) this.#events.interrupt(Step.unmasked, Irq.intx, 0, reason);
  }

  /**
   * The user wrote COMMAND.InterruptDisable, which is virtual. The hardware's bit follows while
   * INTx is not in use.
   */
  setVirtuallyDisabled(on: boolean): void {
    if (on === this.#virtuallyDisabled) return;
    this.#virtuallyDisabled = on;
    if (on) this.mask(Reason['COMMAND.InterruptDisable']);
    else this.unmask(Reason['COMMAND.InterruptDisable']);
  }

  /** Set the mask again after the hardware lost its registers. */
  restore(): void {
    if (this.#noIntx) this.#disableIntx(true);
    else if (this.#active && this.maskable) this.#disableIntx(this.#masked);
  }

  sleep(): void {
    if (this.#active && this.mask(Reason.sleep)) this.#maskedForSleep = true;
  }

  wake(): void {
    if (!this.#maskedForSleep) return;
    this.#maskedForSleep = false;
    this.unmask(Reason.sleep);
  }

  // --- SET_IRQS

  /** @throws VfioError ENODEV without a line; EBUSY when the line cannot be shared */
  enable(sink: GuardedSink | null): void {
    const line = this.#line;
    if (line === null)
      throw new VfioError('ENODEV', `${this.#bdf}: INTx is not connected to an interrupt line`, { fix: 'Use MSI or MSI-X.' });
    this.#faults.step('irq.intx.allocate');
    using undo = new Cleanup();
    const held = undo.use(line.request(this.#bdf, this.maskable));
    if (sink !== null) {
      sink.get();
      undo.defer(() => sink.put());
    }
    this.#faults.step('irq.intx.request');
    undo.move();
    this.#held = held;
    this.#sink = sink;
    this.#masked = this.#virtuallyDisabled;
    this.#active = true;
    if (this.#maskable === true) this.#disableIntx(this.#masked);
    this.#host.listener = this;
  }

  /** From here on the device is quiet towards the engine; each reference is released once. */
  disable(): void {
    if (!this.#active) return;
    this.#host.listener = null;
    this.#active = false;
    this.#masked = false;
    this.#maskedForSleep = false;
    this.#disarm();
    const sink = this.#sink;
    const held = this.#held;
    this.#sink = null;
    this.#held = null;
    held?.[Symbol.dispose]();
    sink?.put();
  }

  /** The device's last user is gone, and the user's write to COMMAND with it. */
  forget(): void {
    this.#virtuallyDisabled = false;
  }

  /**
   * Replace the sink in one step: every interrupt goes to the old sink or to the new one (S2-08).
   */
  #replace(sink: GuardedSink | null): void {
    sink?.get();
    const old = this.#sink;
    this.#sink = sink;
    old?.put();
  }

  #arm(source: InterruptSource): void {
    if (this.#unmaskSource !== null) {
      throw new VfioError('EBUSY', `${this.#bdf}: INTx has an unmask eventfd already`, { fix: 'Take it away first, with fd -1.' });
    }
    this.#faults.step('irq.unmask.arm');
    // The source may be signalled already and call back before `listen` returns.
    const listening = listenGuarded(source, () => this.unmask(Reason.driver), this.#bdf, this.#events);
    if (this.#active) this.#unmaskSource = listening;
    else listening[Symbol.dispose]();
  }

  #disarm(): void {
    const source = this.#unmaskSource;
    this.#unmaskSource = null;
    source?.[Symbol.dispose]();
  }

  /** @param idle no interrupt type is enabled on the device */
  setTrigger(request: SetIrqs, idle: boolean): void {
    if (this.#active && request.count === 0 && request.data === 'none') {
      this.disable();
      return;
    }
    if (!this.#active && !idle) {
      throw new VfioError('EINVAL', `${this.#bdf}: INTx cannot be used while MSI or MSI-X is`, {
        fix: 'Disable that first: DATA_NONE, count 0.',
      });
    }
    this.#checkSingle(request);
    if (request.data === 'sinks') {
      const sink = 'sinks' in request ? sinkAt(this.#bdf, this.#events, request.sinks, 0) : null;
      if (this.#active) this.#replace(sink);
      else this.enable(sink);
      return;
    }
    this.#checkActive();
    if (asksFor(request, 0)) this.#signal();
  }

  setMask(request: SetIrqs): void {
    this.#checkActive();
    this.#checkSingle(request);
    if (request.data === 'sinks') throw new VfioError('ENOTTY', `${this.#bdf}: INTx cannot be masked by an eventfd, only unmasked`);
    if (asksFor(request, 0)) this.mask(Reason.driver);
  }

  setUnmask(request: SetIrqs): void {
    this.#checkActive();
    this.#checkSingle(request);
    if (request.data !== 'sinks') {
      if (asksFor(request, 0)) this.unmask(Reason.driver);
      return;
    }
    const source = 'sources' in request ? sourceAt(this.#bdf, request.sources) : null;
    if (source === null) this.#disarm();
    else this.#arm(source);
  }

  #checkActive(): void {
    if (!this.#active) {
      throw new VfioError('EINVAL', `${this.#bdf}: INTx is not enabled`, { fix: 'Give it an eventfd first: TRIGGER with DATA_EVENTFD.' });
    }
  }

  #checkSingle(request: SetIrqs): void {
    if (request.start !== 0 || request.count !== 1) {
      throw new VfioError('EINVAL', `${this.#bdf}: INTx is one interrupt: start 0 and count 1, not ${request.start} and ${request.count}`);
    }
  }
}
