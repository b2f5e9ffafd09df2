import { expect, it } from 'vitest';
import { CardRig } from '../../../../tests/kit/82576/card-rig.ts';
import { Ctrl, CtrlExt, Eecd, Reg, ralOf } from '../../../abi/82576.ts';
import { EEPROM_SUM } from '../../../abi/82576-phy.ts';

/** The chip on EECD's pins, as drivers drive it. */
class Pins {
  readonly #card: CardRig;

  constructor(card: CardRig) {
    this.#card = card;
    card.write(Reg.EECD, Eecd.REQ);
  }

  get granted(): boolean {
    return (this.#card.read(Reg.EECD) & Eecd.GNT) !== 0;
  }

  command(bytes: readonly number[], answer = 0): number[] {
    this.#card.write(Reg.EECD, Eecd.REQ | Eecd.CS);
    for (const byte of bytes) for (let bit = 7; bit >= 0; bit--) this.#clock(((byte >>> bit) & 1) !== 0);
    const out: number[] = [];
    for (let i = 0; i < answer; i++) {
      let byte = 0;
      for (let bit = 0; bit < 8; bit++) byte = (byte << 1) | Number(this.#clock(false));
      out.push(byte);
    }
    this.#card.write(Reg.EECD, Eecd.REQ);
    return out;
  }

  /** @returns the chip's output while the clock is high */
  #clock(input: boolean): boolean {
    const pins = Eecd.REQ | Eecd.CS | (input ? Eecd.DI : 0);
    this.#card.write(Reg.EECD, pins);
    this.#card.write(Reg.EECD, pins | Eecd.SK);
    const level = (this.#card.read(Reg.EECD) & Eecd.DO) !== 0;
    this.#card.write(Reg.EECD, pins);
    return level;
  }
}

it('6.1 the EEPROM has the address, and its words 0 to 3F add up to BABA', () => {
  const card = new CardRig();
  expect(card.read(Reg.EECD) & (Eecd.PRES | Eecd.AUTO_RD)).toBe(Eecd.PRES | Eecd.AUTO_RD);
  expect([card.word(0), card.word(1), card.word(2)]).toEqual([0x5452, 0x1200, 0x5634]);
  let sum = 0;
  for (let address = 0; address <= 0x3f; address++) sum = (sum + card.word(address)) & 0xffff;
  expect(sum).toBe(EEPROM_SUM);
  expect(card.read(ralOf(0))).toBe(0x1200_5452);
});

it('8.4.1 software has the pins while it asks for them, and reads the words that EERD reads', () => {
  const card = new CardRig();
  const pins = new Pins(card);
  expect(pins.granted).toBe(true);
  expect(pins.command([0x03, 0, 0], 6)).toEqual([0x52, 0x54, 0x00, 0x12, 0x34, 0x56]);
  card.write(Reg.EECD, 0);
  expect([pins.granted, pins.command([0x03, 0, 2], 2).length]).toEqual([false, 2]);
});

it('3.3.1 the chip takes a write after the write enable alone, and the write wraps in its page', () => {
  const card = new CardRig();
  const pins = new Pins(card);
  pins.command([0x02, 0x01, 0x00, 0xaa, 0xbb]);
  expect(card.word(0x80)).toBe(0xffff);
  pins.command([0x06]);
  expect(pins.command([0x05], 1)).toEqual([0x02]);
  pins.command([0x02, 0x01, 0x1f, 0xaa, 0xbb]);
  expect([card.word(0x8f), card.word(0x80), pins.command([0x05], 1)]).toEqual([0xaaff, 0xffbb, [0x00]]);
});

it('4.2.1 what software writes to the EEPROM is the address after a reset, and after EE_RST', () => {
  const card = new CardRig();
  const pins = new Pins(card);
  pins.command([0x06]);
  pins.command([0x02, 0, 4, 0x77]);
  card.write(Reg.CTRL, card.read(Reg.CTRL) | Ctrl.RST);
  expect(card.read(ralOf(0) + 4) & 0xffff).toBe(0x5677);
  const again = new Pins(card);
  again.command([0x06]);
  again.command([0x02, 0, 4, 0x78]);
  card.write(Reg.CTRL_EXT, CtrlExt.EE_RST);
  expect(card.read(ralOf(0) + 4) & 0xffff).toBe(0x5678);
});

it('8.4.2 a word past the end is an erased one', () => {
  expect(new CardRig().word(0x3fff)).toBe(0xffff);
});
