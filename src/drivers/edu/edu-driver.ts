/** Driver of the educational device, QEMU's or ours. It stands on `Device` alone. @see QEMU docs/specs/edu.rst */
import { bit } from '../../base/bit-fields.ts';
import { checkIndex, checkU32 } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { DmaBuffer } from '../kit/dma.ts';
import type { DriverDevice } from '../kit/driver-device.ts';
import type { Interrupts, IrqKind } from '../kit/interrupts.ts';
import { type RegisterView, regs, u32, u64 } from '../kit/registers.ts';

export const EduRegisters = regs({
  identification: u32(0x00),
  liveness: u32(0x04),
  factorial: u32(0x08),
  status: u32(0x20, { computing: bit(0, 'ro'), interrupt: bit(7) }),
  irqStatus: u32(0x24),
  irqRaise: u32(0x60),
  irqAcknowledge: u32(0x64),
  dmaSource: u64(0x80),
  dmaDestination: u64(0x88),
  dmaCount: u64(0x90),
  dmaCommand: u64(0x98),
});

export const EduCause = { FACTORIAL: 0x1, DMA: 0x100 } as const;
export const EduCommand = { RUN: 1n, TO_RAM: 2n, INTERRUPT: 4n } as const;

/** The device's own buffer. */
export const EDU_BUFFER = { start: 0x4_0000, size: 4096 } as const;

export interface EduDriverOptions {
  /** MSI unless told: 'poll' uses no interrupt at all. */
  readonly interrupts?: Extract<IrqKind, 'msi' | 'intx'> | 'poll';
  /** How long the device may take for anything. */
  readonly timeoutMs?: number;
  /** Address bits the device drives: 28 unless QEMU's dma_mask was set. */
  readonly addressBits?: number;
}

/** One request at a time: the device has one set of registers for each, and interrupts for all of them alike. */
export class EduDriver implements Disposable {
  static readonly ids = '1234:11e8';
  readonly dev: DriverDevice;
  readonly registers: RegisterView<typeof EduRegisters>;
  readonly #irq: Interrupts | null;
  readonly #timeoutMs: number;
  readonly #addressBits: number;

  /** Checks that the device is alive, enables bus mastering and interrupts. @throws VfioError EIO when it is not an edu device */
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

  /** @throws VfioError EIO when the device does not invert what it is told */
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

  /** Memory at `iova` to the device's buffer at `offset`. What does not land is not told: the device has no bit for it. */
  copyToDevice(iova: bigint, size: number, offset = 0): Promise<void> {
    return this.#copy(iova, BigInt(this.#inBuffer(offset, size)), size, 0n);
  }

  /** The device's buffer at `offset` to memory at `iova`. */
  copyFromDevice(iova: bigint, size: number, offset = 0): Promise<void> {
    return this.#copy(BigInt(this.#inBuffer(offset, size)), iova, size, EduCommand.TO_RAM);
  }

  /** Makes the device interrupt, waits for it and acknowledges; gives the causes it told. @throws VfioError EINVAL when polling, or without a cause */
  async interrupt(causes: number): Promise<number> {
    if (this.#irq === null) throw new VfioError('EINVAL', 'the driver polls: there is no interrupt to wait for');
    if (checkU32(causes, 'causes') === 0) throw new VfioError('EINVAL', 'the device interrupts only for a cause');
    if (this.dev.asleep) await this.dev.awake();
    this.registers.irqRaise = causes;
    await this.#next();
    return this.#acknowledge();
  }

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

  /** Waits until the device has interrupted for `cause`; what it interrupts for besides is acknowledged on the way. */
  async #cause(cause: number): Promise<void> {
    do await this.#next();
    while ((this.#acknowledge() & cause) === 0);
  }

  /** The next interrupt, and the machine awake to see why it came. */
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
