/**
 * A virtual function's end of its mailbox: requests one after another, each with its answer, and
 * messages that the physical function sends by itself (7.8.2.9, 8.26).
 */
import { VfReg } from '../../abi/82576.ts';
import { MAILBOX_WORDS, Message, MessageFlag, VfMailbox } from '../../abi/82576-mailbox.ts';
import type { RegisterAccess } from '../../abi/device.ts';
import { VfioError } from '../../base/errno.ts';
import type { DriverDevice } from '../kit/driver-device.ts';

/** Looks at the mailbox before the event loop gets its turn. */
const LOOKS = 32;

export class VirtualMailbox {
  readonly #dev: DriverDevice;
  readonly #registers: RegisterAccess;
  readonly #timeoutMs: number;
  /** Bits that a read has cleared, and that are not used yet. */
  #seen = 0;
  /** The request under way. Requests wait for the one before. */
  #last: Promise<unknown> = Promise.resolve();
  #busy = false;
  #notice: number | null = null;

  constructor(dev: DriverDevice, registers: RegisterAccess, timeoutMs: number) {
    this.#dev = dev;
    this.#registers = registers;
    this.#timeoutMs = timeoutMs;
  }

  /** A reset: nothing of before counts. */
  clear(): void {
    this.#take(VfMailbox.READ_CLEARS);
    this.#notice = null;
  }

  /** Waits until the physical function's driver works. @throws VfioError EIO after the timeout */
  async partnerReady(): Promise<void> {
    const ready = () => (this.#look() & (VfMailbox.RSTD | VfMailbox.RSTI)) === VfMailbox.RSTD;
    // A driver that started long ago has had its RSTD read: RSTI alone says that there is none.
    const works = () => ready() || (this.#registers.read32(VfReg.VFMAILBOX) & VfMailbox.RSTI) === 0;
    await this.#wait(works, 'its physical function has no driver that is ready');
    this.#take(VfMailbox.RSTD);
  }

  /**
   * A request, and the answer of the physical function.
   * @returns the words of the answer
   * @throws VfioError EIO when no answer comes
   */
  request(message: readonly number[]): Promise<Uint32Array> {
    const work = this.#last.then(() => this.#request(message));
    this.#last = work.catch(() => {});
    return work;
  }

  /**
   * A message that the physical function has sent by itself: word 0; null: there is none. A request
   * under way takes it for its own use, and it is returned after that.
   */
  takeNotice(): number | null {
    if (!this.#busy && (this.#look() & VfMailbox.PFSTS) !== 0) {
      this.#take(VfMailbox.PFSTS);
      const words = this.#read();
      if (words !== null) this.#notice = words[0]!;
    }
    const notice = this.#notice;
    this.#notice = null;
    return notice;
  }

  /** The physical function is in reset, or was. */
  get partnerReset(): boolean {
    return (this.#look() & (VfMailbox.RSTI | VfMailbox.RSTD)) !== 0;
  }

  async #request(message: readonly number[]): Promise<Uint32Array> {
    this.#busy = true;
    try {
      this.#collect();
      this.#take(VfMailbox.PFACK);
      await this.#wait(() => this.#own(), 'its mailbox is in use by the physical function');
      message.forEach((word, i) => {
        this.#registers.write32(VfReg.VMBMEM + 4 * i, word >>> 0);
      });
      // REQ gives the memory back: the bit VFU is 0 in this write.
      this.#registers.write32(VfReg.VFMAILBOX, VfMailbox.REQ);
      await this.#wait(() => (this.#look() & VfMailbox.PFACK) !== 0, 'the physical function does not read its message');
      this.#take(VfMailbox.PFACK);
      for (;;) {
        await this.#wait(() => (this.#look() & VfMailbox.PFSTS) !== 0, 'the physical function does not answer');
        this.#take(VfMailbox.PFSTS);
        const words = this.#read();
        if (words === null) continue;
        if ((words[0]! & 0xffff) !== Message.PF_CONTROL) return words;
        this.#notice = words[0]!;
      }
    } finally {
      this.#busy = false;
    }
  }

  /** A message that the request's own words would overwrite. */
  #collect(): void {
    if ((this.#look() & VfMailbox.PFSTS) === 0) return;
    this.#take(VfMailbox.PFSTS);
    const words = this.#read();
    if (words !== null) this.#notice = words[0]!;
  }

  #read(): Uint32Array | null {
    if (!this.#own()) return null;
    const words = Uint32Array.from({ length: MAILBOX_WORDS }, (_, i) => this.#registers.read32(VfReg.VMBMEM + 4 * i));
    this.#registers.write32(VfReg.VFMAILBOX, VfMailbox.ACK);
    return words;
  }

  #own(): boolean {
    this.#registers.write32(VfReg.VFMAILBOX, VfMailbox.VFU);
    return (this.#look() & VfMailbox.VFU) !== 0;
  }

  #look(): number {
    const value = this.#registers.read32(VfReg.VFMAILBOX);
    if (value === 0xffff_ffff) throw new VfioError('EIO', `${this.#dev.name} does not answer: VFMAILBOX reads as all ones`);
    this.#seen |= value & VfMailbox.READ_CLEARS;
    return value | this.#seen;
  }

  #take(bits: number): void {
    this.#look();
    this.#seen &= ~bits;
  }

  async #wait(condition: () => boolean, what: string): Promise<void> {
    for (let look = 0; look < LOOKS; look++) if (condition()) return;
    try {
      await this.#dev.until(condition, { timeoutMs: this.#timeoutMs });
    } catch (error) {
      if (!(error instanceof VfioError) || error.code !== 'ETIMEDOUT') throw error;
      throw new VfioError('EIO', `${this.#dev.name}: ${what} within ${this.#timeoutMs} ms`, {
        cause: error,
        fix: 'Start a driver of the physical function that serves virtual functions, as vfio net or Linux’s igb.',
      });
    }
  }
}

/** Whether an answer grants its request. */
export function granted(answer: Uint32Array): boolean {
  return (answer[0]! & MessageFlag.NACK) === 0;
}
