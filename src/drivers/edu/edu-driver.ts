/**
 * Driver of the educational device, QEMU's or ours. It stands on `Device` alone.
 * @see QEMU docs/specs/edu.rst
 */
import { EDU_BUFFER, EduCause, EduCommand, EduRegisters } from '../../abi/edu.ts';
import { checkIndex, checkU32 } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { DriverView } from '../../base/registers.ts';
import type { DmaBuffer } from '../kit/dma.ts';
import type { DriverDevice } from '../kit/driver-device.ts';
import type { Interrupts, IrqKind } from '../kit/interrupts.ts';

/** How long the driver of edu waits, and for which interrupt. */
export interface EduDriverOptions {
  /** Default: 'msi'. 'poll' uses no interrupt. */
  readonly interrupts?: Extract<IrqKind, 'msi' | 'intx'> | 'poll';
  /** The longest time that the device may take for a request. */
  readonly timeoutMs?: number;
  /** Address bits that the device drives. Default: 28, as QEMU's without `dma_mask`. */
  readonly addressBits?: number;
}

/**
 * One request at a time: the device has one set of registers for each kind of request, and one
 * interrupt for all of them.
 */
export class EduDriver implements Disposable {
  static readonly ids = '1234:11e8';
  readonly dev: DriverDevice;
  readonly registers: DriverView<typeof EduRegisters>;
  readonly #irq: Interrupts | null;
  readonly #timeoutMs: number;
  readonly #addressBits: number;

  /**
   * Checks that the device is alive, then enables bus mastering and interrupts.
   *
   * @throws VfioError EIO when it is not an edu device
   */
  constructor(dev: DriverDevice, options: EduDriverOptions = {}) {
    const { interrupts = 'msi', timeoutMs = 2000, addressBits = 28 } = options;
    this.dev = dev;
    this.registers = dev.bar(0, EduRegisters);
    this.#timeoutMs = timeoutMs;
    this.#addressBits = addressBits;
    const { identification } = this.registers;
    if ((identification & 0xffff) !== 0x00ed) {
      throw new VfioError('EIO', `${dev.name} identifies itself as 0x${identification.toString(16)}; an edu device ends in 00ed`);
    }
    this.checkAlive();
    dev.busMaster = true;
    this.#irq = interrupts === 'poll' ? null : dev[interrupts].enable(1);
  }

  /** Major and minor version. */
  get version(): { readonly major: number; readonly minor: number } {
    const { identification } = this.registers;
    return { major: identification >>> 24, minor: (identification >>> 16) & 0xff };
  }

  /** @throws VfioError EIO when the device does not invert a value that the driver writes */
  checkAlive(): void {
    const asked = 0x1234_5678;
    this.registers.liveness = asked;
    const answer = this.registers.liveness;
    if (answer !== ~asked >>> 0)
      throw new VfioError('EIO', `${this.dev.name} is not alive: it made 0x${answer.toString(16)} of 0x${asked.toString(16)}`);
  }

  /** n! modulo 2^32. */
  async factorial(n: number): Promise<number> {
    checkU32(n, 'n');
    if (this.dev.asleep) await this.dev.awake();
    const { registers } = this;
    registers.status.interrupt = this.#irq === null ? 0 : 1;
    registers.factorial = n;
    if (this.#irq === null) await this.#until(() => registers.status.computing === 0);
    else await this.#cause(EduCause.FACTORIAL);
    if (this.dev.asleep) await this.dev.awake();
    return registers.factorial;
  }

  /** A buffer that the device can reach, of at most 4096 bytes a transfer. */
  alloc(size: number): DmaBuffer {
    return this.dev.dma.alloc(size, { addressBits: this.#addressBits });
  }

  /**
   * Memory at `iova` to the device's buffer at `offset`. No bit of the device reports a transfer
   * that does not land.
   */
  copyToDevice(iova: bigint, size: number, offset = 0): Promise<void> {
    return this.#copy(iova, BigInt(this.#inBuffer(offset, size)), size, 0n);
  }

  /** The device's buffer at `offset` to memory at `iova`. */
  copyFromDevice(iova: bigint, size: number, offset = 0): Promise<void> {
    return this.#copy(BigInt(this.#inBuffer(offset, size)), iova, size, EduCommand.TO_RAM);
  }

  /**
   * Makes the device interrupt, waits for the interrupt and acknowledges it.
   *
   * @returns the causes that the device reports
   * @throws VfioError EINVAL when polling, or without a cause
   */
  async interrupt(causes: number): Promise<number> {
    if (this.#irq === null) throw new VfioError('EINVAL', 'the driver polls: there is no interrupt to wait for');
    if (checkU32(causes, 'causes') === 0) throw new VfioError('EINVAL', 'the device interrupts only for a cause');
    if (this.dev.asleep) await this.dev.awake();
    this.registers.irqRaise = causes;
    await this.#next();
    return this.#acknowledge();
  }

  /** Disables the interrupts. The device stays open: it belongs to the caller. Idempotent. */
  [Symbol.dispose](): void {
    this.#irq?.[Symbol.dispose]();
  }

  async #copy(source: bigint, destination: bigint, size: number, direction: bigint): Promise<void> {
    if (this.dev.asleep) await this.dev.awake();
    const { registers } = this;
    registers.dmaSource = source;
    registers.dmaDestination = destination;
    registers.dmaCount = BigInt(size);
    registers.dmaCommand = EduCommand.RUN | direction | (this.#irq === null ? 0n : EduCommand.INTERRUPT);
    if (this.#irq === null) await this.#until(() => (registers.dmaCommand & EduCommand.RUN) === 0n);
    else await this.#cause(EduCause.DMA);
  }

  /**
   * Waits until the device has interrupted for `cause`. Other causes are acknowledged on the way.
   */
  async #cause(cause: number): Promise<void> {
    do await this.#next();
    while ((this.#acknowledge() & cause) === 0);
  }

  /** Wait for the next interrupt, and for the machine to be awake, so that registers answer. */
  async #next(): Promise<void> {
    await this.#irq!.next(0, { timeoutMs: this.#timeoutMs });
    if (this.dev.asleep) await this.dev.awake();
  }

  #acknowledge(): number {
    const causes = this.registers.irqStatus;
    this.registers.irqAcknowledge = causes;
    if (this.#irq!.kind === 'intx') this.#irq!.unmask();
    return causes;
  }

  #until(done: () => boolean): Promise<void> {
    return this.dev.until(done, { timeoutMs: this.#timeoutMs });
  }

  #inBuffer(offset: number, size: number): number {
    checkIndex(size, EDU_BUFFER.size, 'size');
    return EDU_BUFFER.start + checkIndex(offset, EDU_BUFFER.size - size, 'offset');
  }
}
