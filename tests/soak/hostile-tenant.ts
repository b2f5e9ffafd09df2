/**
 * A guest that wants to do harm with its function of an 82576: its registers at random, rings that
 * lie on each other, descriptors that point anywhere, storms of mailbox messages, resets. It has
 * two pieces of memory between guards, and one of them is for the device to read alone.
 */

import { Ctrl, Rctl, Reg, Srrctl, VfReg } from '../../src/abi/82576.ts';
import { TxCommand, TxData, TxStatus } from '../../src/abi/82576-descriptors.ts';
import { Message, VfMailbox } from '../../src/abi/82576-mailbox.ts';
import { Access, type DirectMemory } from '../../src/abi/memory.ts';
import { VfioError } from '../../src/base/errno.ts';
import { macBytes, macHigh, macLow } from '../../src/drivers/82576/mac-address.ts';
import type { DriverDevice } from '../../src/drivers/kit/driver-device.ts';
import type { Random } from './random.ts';

/** Where drivers of this package have their memory, too. */
export const OWN_IOVA = 0x10_0000;
const READ_ONLY_IOVA = 0x20_0000;
const PIECE = 0x1_0000;
const GUARD = 0x4000;
const GUARD_BYTE = 0xa5;
const D0 = 0;
const D3_HOT = 3;

export class HostileTenant {
  readonly #dev: DriverDevice;
  readonly #random: Random;
  readonly #victims: readonly string[];
  readonly #own: DirectMemory;
  readonly #readOnly: DirectMemory;
  /** The bytes that the device can write, and all descriptors. */
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #physical: boolean;
  readonly #registers: readonly number[];
  /** A cunning one first does all that a driver does, and then asks and sends what it must not. */
  #cunning = false;
  #left = 0;
  /** Deeds that it leaves out. */
  #asleep = 0;
  readonly #wildDeeds = [
    () => this.#anyRegister(),
    () => this.#anyRing(),
    () => this.#anyDescriptors(),
    () => this.#frames(),
    () => this.#mailbox(),
    () => this.#reset(),
    () => this.#sleep(),
  ];
  readonly #cunningDeeds = [
    () => this.#receiveRing(),
    () => this.#frames(),
    () => this.#frames(),
    () => this.#ask(this.#random.pick(Object.values(Message).filter((message) => message !== Message.RESET))),
    () => this.#ask(Message.SET_MAC_ADDR),
  ];
  /** Accesses that the device refused, as when it sleeps. */
  refused = 0;

  /** @param victims addresses of others */
  constructor(dev: DriverDevice, random: Random, victims: readonly string[]) {
    this.#dev = dev;
    this.#random = random;
    this.#victims = victims;
    this.#physical = dev.ids === '8086:10c9';
    this.#registers = Object.values(this.#physical ? Reg : VfReg);
    this.#own = guarded(dev, OWN_IOVA, Access.READ_WRITE);
    this.#readOnly = guarded(dev, READ_ONLY_IOVA, Access.READ);
    this.#bytes = this.#own.windows[0]!.subarray(GUARD, GUARD + PIECE);
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, PIECE);
    dev.msix.enable();
    this.begin();
  }

  begin(): void {
    this.#dev.config.busMaster = true;
    this.raiseLink();
  }

  /** The port of a physical function negotiates its link. */
  raiseLink(): void {
    if (this.#physical) this.#write(Reg.CTRL, Ctrl.SLU | Ctrl.FD);
  }

  /** One wicked deed. */
  act(): void {
    const random = this.#random;
    try {
      if (this.#asleep-- > 0) return;
      if (this.#left-- <= 0) this.#changeMood();
      random.pick(this.#cunning ? this.#cunningDeeds : this.#wildDeeds)();
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      this.refused++;
    }
  }

  /** The function as after power-on, for a driver that means well. */
  end(): void {
    this.#left = 0;
    this.#dev.config.busMaster = true;
    this.#power(D0);
    this.#dev.reset();
  }

  /** Its guards and the memory that is not the device's to write are as they were. */
  check(secret: Uint8Array): void {
    for (const [name, memory] of [
      ['own', this.#own],
      ['read-only', this.#readOnly],
    ] as const) {
      const bytes = memory.windows[0]!;
      const guards = name === 'own' ? [bytes.subarray(0, GUARD), bytes.subarray(GUARD + PIECE)] : [bytes];
      if (!guards.every((guard) => guard.every((byte) => byte === GUARD_BYTE))) {
        throw new Error(`${this.#dev.name} has written outside of its ${name} memory's mapping`);
      }
    }
    if (Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset, PIECE).includes(Buffer.from(secret))) {
      throw new Error(`${this.#dev.name} has got a frame of others`);
    }
  }

  #changeMood(): void {
    this.#cunning = !this.#cunning;
    if (this.#cunning) this.end();
    this.#left = 50 + this.#random.below(100);
    if (!this.#cunning) return;
    this.begin();
    this.#receiveRing();
    if (this.#physical) this.#write(Reg.RCTL, Rctl.RXEN | Rctl.UPE | Rctl.MPE | Rctl.BAM);
    else {
      this.#ask(Message.RESET);
      // Its physical function answers later.
      this.#asleep = 20;
    }
  }

  #write(offset: number, value: number): void {
    this.#dev.device.region(0).write32(offset, value >>> 0);
  }

  #anyRegister(): void {
    const random = this.#random;
    const bar = this.#dev.device.region(random.once(8) ? 3 : 0);
    const width = random.pick([1, 2, 4, 4] as const);
    const near = random.pick(this.#registers) + random.below(16) * random.pick([0, 4, 0x40]);
    const offset = random.once(2) ? near : random.below(bar.info.size - 4) & ~(width - 1);
    const bytes = new Uint8Array(width);
    if (random.once(3)) {
      bar.read(offset, bytes);
      return;
    }
    const value = random.pick([0, 0xffff_ffff, this.#address(), random.next()]);
    bar.write(
      offset,
      bytes.map((_, i) => value >>> (8 * i)),
    );
  }

  /** An address: its own, of the other piece, of the guards, and of nothing. */
  #address(): number {
    const random = this.#random;
    const at = random.below(PIECE + 2 * 0x800) - 0x800;
    const base = random.pick([OWN_IOVA, OWN_IOVA, READ_ONLY_IOVA, 0, 0xffff_f000, OWN_IOVA + PIECE, 0xfee0_0000]);
    return (base + (random.once(2) ? at & ~0x7f : at)) >>> 0;
  }

  #queue(register: number): number {
    return register + this.#random.below(this.#physical ? 4 : 2) * 0x100;
  }

  /** Receive and transmit ring may be the same bytes, or the buffers of each other. */
  #anyRing(): void {
    const random = this.#random;
    const [base, length, head, tail, control] = random.pick([
      [VfReg.RDBAL, VfReg.RDLEN, VfReg.RDH, VfReg.RDT, VfReg.RXDCTL],
      [VfReg.TDBAL, VfReg.TDLEN, VfReg.TDH, VfReg.TDT, VfReg.TXDCTL],
    ] as const);
    this.#write(this.#queue(control), random.pick([0, 0x0200_0000, random.next()]));
    this.#write(this.#queue(base), random.pick([OWN_IOVA, OWN_IOVA, this.#address()]));
    this.#write(this.#queue(length), random.pick([128, 256, 0x8000, 0xf_ff80, 0, random.next()]));
    this.#write(this.#queue(head), random.pick([0, random.next()]));
    this.#write(this.#queue(control), 0x0200_0000);
    this.#write(this.#queue(tail), random.pick([0, 7, random.below(16), random.next()]));
    if (random.once(4)) this.#write(this.#queue(VfReg.TDWBAL), this.#address() | 1);
    if (random.once(4)) this.#write(this.#queue(VfReg.SRRCTL), random.next());
  }

  #anyDescriptors(): void {
    const random = this.#random;
    const first = random.below(16);
    for (let at = first * 16; at < (first + 24) * 16; at += 16) {
      this.#view.setUint32(at, this.#address(), true);
      this.#view.setUint32(at + 4, random.pick([0, 0, 0, random.next()]), true);
      this.#view.setUint32(at + 8, random.next(), true);
      this.#view.setUint32(at + 12, random.next(), true);
    }
  }

  /** Frames in the name of others, and to them, by rings that are sound. */
  #frames(): void {
    const random = this.#random;
    const count = 1 + random.below(12);
    for (let i = 0; i < count; i++) {
      const at = 0x4000 + i * 0x400;
      const length = 60 + random.below(900);
      const target = random.once(4) ? 'ff:ff:ff:ff:ff:ff' : random.pick(this.#victims);
      this.#bytes.set(random.bytes(32), at);
      this.#bytes.set(macBytes(target), at);
      this.#bytes.set(macBytes(random.pick(this.#victims)), at + 6);
      const entry = 0x2000 + i * 16;
      this.#view.setUint32(entry + TxData.address, OWN_IOVA + at, true);
      this.#view.setUint32(entry + TxData.address + 4, 0, true);
      const wild = random.once(4) ? random.next() & 0x0f00_0000 : 0;
      const command = length | TxCommand.DTYP_DATA | TxCommand.DEXT | TxCommand.EOP | TxCommand.IFCS | TxCommand.RS | wild;
      this.#view.setUint32(entry + TxData.command, command, true);
      this.#view.setUint32(entry + TxData.status, length << TxStatus.PAYLEN_SHIFT, true);
    }
    if (this.#physical) this.#write(Reg.TCTL, 0xa);
    this.#write(VfReg.TXDCTL, 0);
    this.#write(VfReg.TDBAL, OWN_IOVA + 0x2000);
    this.#write(VfReg.TDBAH, 0);
    this.#write(VfReg.TDLEN, 256);
    this.#write(VfReg.TDH, 0);
    this.#write(VfReg.TXDCTL, 0x0200_0000);
    this.#write(VfReg.TDT, count);
  }

  /** Requests for what is not its own, with and without the manners of the mailbox. */
  #mailbox(): void {
    if (this.#physical) return;
    const random = this.#random;
    const victim = macBytes(random.pick(this.#victims));
    const storm = random.once(8) ? 200 : 1;
    for (let i = 0; i < storm; i++) {
      if (!random.once(8)) this.#write(VfReg.VFMAILBOX, VfMailbox.VFU);
      const message = random.once(3) ? Message.RESET : random.pick(Object.values(Message));
      this.#write(VfReg.VMBMEM, message | (random.pick([0, 1, 2, random.next()]) << 16));
      this.#write(VfReg.VMBMEM + 4, random.once(2) ? macLow(victim) : random.next());
      this.#write(VfReg.VMBMEM + 8, random.once(2) ? macHigh(victim) : random.next());
      this.#write(VfReg.VFMAILBOX, random.once(8) ? random.next() : VfMailbox.REQ);
    }
  }

  /** A message with manners; most ask for what others have. */
  #ask(message: Message): void {
    if (this.#physical) return;
    const random = this.#random;
    const victim = macBytes(random.pick(this.#victims));
    this.#write(VfReg.VFMAILBOX, VfMailbox.VFU);
    this.#write(VfReg.VMBMEM, message | (random.below(4) << 16));
    this.#write(VfReg.VMBMEM + 4, macLow(victim));
    this.#write(VfReg.VMBMEM + 8, macHigh(victim));
    this.#write(VfReg.VFMAILBOX, VfMailbox.REQ);
  }

  /** 16 buffers for what comes. */
  #receiveRing(): void {
    for (let i = 0; i < 16; i++) {
      const entry = 0x1000 + i * 16;
      this.#bytes.fill(0, entry, entry + 16);
      this.#view.setUint32(entry, OWN_IOVA + 0x8000 + i * 0x800, true);
    }
    this.#write(VfReg.RXDCTL, 0);
    this.#write(VfReg.RDBAL, OWN_IOVA + 0x1000);
    this.#write(VfReg.RDBAH, 0);
    this.#write(VfReg.RDLEN, 256);
    this.#write(VfReg.SRRCTL, Srrctl.ADV_ONE_BUFFER | 2);
    this.#write(VfReg.RXDCTL, 0x0200_0000);
    this.#write(VfReg.RDT, 15);
  }

  #reset(): void {
    switch (this.#random.below(6)) {
      case 0:
        this.#dev.reset();
        break;
      case 1:
        this.#write(this.#physical ? Reg.CTRL : VfReg.VTCTRL, Ctrl.RST | Ctrl.SLU);
        break;
      default:
        // The link comes back, so that frames flow.
        if (this.#physical) this.#write(Reg.CTRL, Ctrl.SLU | Ctrl.FD);
    }
  }

  #sleep(): void {
    const random = this.#random;
    this.#dev.config.busMaster = !random.once(4);
    this.#power(random.once(8) ? D3_HOT : D0);
  }

  #power(state: number): void {
    const pm = this.#dev.config.findCapability(1);
    if (pm !== 0) this.#dev.config.write16(pm + 4, state);
  }
}

/** Memory whose middle is mapped, and whose ends are not. */
function guarded(dev: DriverDevice, iova: number, access: Access): DirectMemory {
  const memory = dev.device.dma.allocate(PIECE + 2 * GUARD);
  memory.windows[0]!.fill(GUARD_BYTE);
  dev.device.dma.map({ iova: BigInt(iova), memory, offset: GUARD, size: PIECE, access });
  return memory;
}
