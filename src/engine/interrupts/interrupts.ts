/**
 * The interrupts of one device as VFIO gives them to its user: five IRQ indexes, of which INTx, MSI
 * and MSI-X exclude each other, and the matrix of SET_IRQS over them (B.9). `HostIrq` is the
 * device's own side.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_intrs.c, vfio_pci_set_irqs_ioctl()
 */
import type { IrqInfo, SetIrqs } from '../../abi/device.ts';
import { CapId, Config } from '../../abi/pci.ts';
import { IrqIndex, IrqInfoFlags } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { checkAction, checkIndexAction, checkIrqIndex, validateSetIrqs } from '../../device/set-irqs.ts';
import type { HostIrq } from '../../hardware/host-irq.ts';
import { InterruptLine } from '../../hardware/interrupt-line.ts';
import type { MsixTable } from '../../hardware/msix-table.ts';
import type { ConfigSpace } from '../../pci/config-space.ts';
import type { EngineContext } from '../context.ts';
import { IntxInterrupt } from './interrupt-intx.ts';
import { MessageInterrupts, type MessageKind } from './interrupt-messages.ts';
import { NotifyInterrupt } from './interrupt-notify.ts';

export interface InterruptsOptions {
  readonly bdf: string;
  readonly ctx: EngineContext;
  readonly config: ConfigSpace;
  readonly host: HostIrq;
  readonly msix: MsixTable | null;
  /**
   * The pin as the user sees it (virtual config): 0 hides INTx. Default: the hardware's; 0 with
   * `noIntx`.
   */
  readonly virtualPin?: () => number;
  /**
   * INTx of this device is known to be broken: the engine never uses it, and keeps
   * COMMAND.InterruptDisable set.
   */
  readonly noIntx?: boolean;
  /** The wire of the pin; null: not connected. Default: a wire of its own. */
  readonly line?: InterruptLine | null;
  /** Vectors that the machine has for this device. Default: no limit. */
  readonly maxVectors?: () => number;
  /** Whether MSI-X vectors can be added while others are in use. Default: true. */
  readonly dynamicMsix?: boolean;
}

const { EVENTFD, MASKABLE, AUTOMASKED, NORESIZE } = IrqInfoFlags;

export class Interrupts {
  readonly #bdf: string;
  readonly #host: HostIrq;
  readonly #virtualPin: () => number;
  readonly #reportsErrors: boolean;
  readonly #dynamicMsix: boolean;
  readonly #intx: IntxInterrupt;
  readonly #messages: MessageInterrupts;
  readonly #error: NotifyInterrupt;
  readonly #request: NotifyInterrupt;
  readonly #count = (index: number): number => this.count(index);

  constructor(options: InterruptsOptions) {
    const { bdf, ctx, config, host, msix } = options;
    const { faults } = ctx;
    const { events } = host;
    const noIntx = options.noIntx ?? false;
    this.#bdf = bdf;
    this.#host = host;
    this.#virtualPin = options.virtualPin ?? (() => (noIntx ? 0 : config.read(Config.INTERRUPT_PIN, 1)));
    this.#reportsErrors = ctx.linux.errorInterrupt || config.findCapability(CapId.EXP) !== 0;
    this.#dynamicMsix = options.dynamicMsix ?? true;
    const line = options.line === undefined ? new InterruptLine(bdf) : options.line;
    const { noIntxMask } = ctx.params;
    this.#intx = new IntxInterrupt({ bdf, config, host, faults, events, line, noIntx, noIntxMask });
    this.#messages = new MessageInterrupts({
      bdf,
      config,
      host,
      msix,
      intx: this.#intx,
      faults,
      events,
      maxVectors: options.maxVectors ?? (() => Number.POSITIVE_INFINITY),
      dynamicMsix: this.#dynamicMsix,
    });
    this.#error = new NotifyInterrupt(bdf, 'err', faults, events);
    this.#request = new NotifyInterrupt(bdf, 'req', faults, events);
  }

  get type(): 'none' | 'intx' | MessageKind {
    return this.#intx.active ? 'intx' : (this.#messages.kind ?? 'none');
  }

  /**
   * Called at the first open, after the reset: find out whether COMMAND.InterruptDisable works, and
   * clear it.
   */
  open(): void {
    this.#intx.probe();
  }

  /** The number of interrupts of an index: 0 when the device lacks it. */
  count(index: number): number {
    switch (index) {
      case IrqIndex.INTX:
        return this.#virtualPin() === 0 ? 0 : 1;
      case IrqIndex.MSI:
        return this.#messages.count('msi');
      case IrqIndex.MSIX:
        return this.#messages.count('msix');
      case IrqIndex.ERR:
        return this.#reportsErrors ? 1 : 0;
      default:
        return 1;
    }
  }

  /**
   * VFIO_DEVICE_GET_IRQ_INFO.
   *
   * @throws VfioError EINVAL for an index that does not exist; before Linux 7.3 also for ERR of a
   * device that is not PCI Express
   */
  info(index: number): IrqInfo {
    checkIrqIndex(this.#bdf, index);
    if (index === IrqIndex.ERR && !this.#reportsErrors) {
      throw new VfioError('EINVAL', `${this.#bdf} is not a PCI Express device, so it reports no errors`);
    }
    const count = this.count(index);
    if (index === IrqIndex.INTX) return { index, flags: EVENTFD | MASKABLE | AUTOMASKED, count };
    const resizable = index === IrqIndex.MSIX && count > 0 && this.#dynamicMsix;
    return { index, flags: resizable ? EVENTFD : EVENTFD | NORESIZE, count };
  }

  /**
   * VFIO_DEVICE_SET_IRQS. The engine takes a sink with `get` and releases it with `put`, once each.
   * It reads the elements of `sinks` and `sources` after all other checks, so a caller may resolve
   * them then.
   *
   * @returns 0, or the number of vectors that the device can have when that is fewer than asked;
   * nothing has changed then
   * @throws VfioError EINVAL, ENOTTY, EBUSY, ENODEV, ENOSPC, ERANGE as the matrix has it
   */
  setIrqs(request: SetIrqs): number {
    validateSetIrqs(this.#bdf, request, this.#count);
    const { index, action } = request;
    const idle = this.type === 'none';
    checkAction(this.#bdf, request);
    switch (index) {
      case IrqIndex.INTX:
        if (action === 'trigger') this.#intx.setTrigger(request, idle);
        else if (action === 'mask') this.#intx.setMask(request);
        else this.#intx.setUnmask(request);
        return 0;
      case IrqIndex.MSI:
      case IrqIndex.MSIX:
        checkIndexAction(this.#bdf, request);
        return this.#messages.setTrigger(index === IrqIndex.MSI ? 'msi' : 'msix', request, idle);
      default:
        (index === IrqIndex.ERR ? this.#error : this.#request).set(request);
        return 0;
    }
  }

  /**
   * Called at the last close: every interrupt is off, every sink released once, and the user's
   * COMMAND.InterruptDisable forgotten. Idempotent.
   */
  disableAll(): void {
    this.#intx.disable();
    this.#intx.forget();
    this.#messages.disable();
    this.#error.release();
    this.#request.release();
  }

  /** VirtualConfig's hook: the user set or cleared COMMAND.InterruptDisable. */
  intxDisable(on: boolean): void {
    this.#intx.setVirtuallyDisabled(on);
  }

  /**
   * INTx is enabled, and masked by its own signal, by the user, or by the virtual
   * COMMAND.InterruptDisable.
   */
  get intxMasked(): boolean {
    return this.#intx.active && this.#intx.masked;
  }

  /**
   * log2 of the vectors that MSI was enabled with: the most that the user may write into the
   * capability. 0 when MSI is off.
   */
  get msiQueueMax(): number {
    return this.#messages.msiQueueMax;
  }

  /** MSI or MSI-X vectors that the device holds. */
  get vectors(): number {
    return this.#messages.allocated;
  }

  /** Messages that arrived for a vector without a sink. */
  get unclaimed(): number {
    return this.#messages.unclaimed;
  }

  /**
   * Write messages, masks and enables into the hardware again, after a reset or D3hot took them.
   */
  restore(): void {
    this.#messages.restore();
    this.#intx.restore();
  }

  /** Called before low power: mask INTx, where the user has not. */
  sleep(): void {
    this.#intx.sleep();
  }

  /** Called after low power: undo `sleep`, and send pending messages. */
  wake(): void {
    this.#intx.wake();
    this.#host.update();
  }

  /** The device reported an uncorrectable error. False when no sink is there. */
  signalError(): boolean {
    return this.#error.signal();
  }

  /** Ask the user to release the device (S2-41). False when no sink is there. */
  signalRequest(): boolean {
    return this.#request.signal();
  }
}
