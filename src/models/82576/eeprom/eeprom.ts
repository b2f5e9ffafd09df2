/**
 * EEPROM and flash registers (8.4). Contents outlive resets, as those of a chip do, and what the
 * hardware reads from them at a reset is there at once: EECD.AUTO_RD is set.
 */
import { Eecd, Eerd, Reg } from '../../../abi/82576.ts';
import { EEPROM_WORDS } from '../../../abi/82576-phy.ts';
import type { RegisterSpace } from '../register-space.ts';
import { SerialEeprom } from './serial-eeprom.ts';

/** EECD.EE_SIZE: 2^(8 + 7) bytes (8.4.1). */
const SIZE = (Math.log2(EEPROM_WORDS * 2) - 7) << Eecd.EE_SIZE_SHIFT;
/** EECD bit 10: addresses have 16 bits. */
const ADDRESS_BITS = 0x400;
const FLASH_WRITES_OFF = 0x10;
const PINS = Eecd.SK | Eecd.CS | Eecd.DI;
/** EEMNGCTL: the configuration of port 0 is loaded, and no command is under way (8.4.21). */
const CFG_DONE_0 = 0x4_0000;
const MNG_DONE = 0x8000_0000;
/** FLMNGCTL and EEARBC: nothing is under way. */
const FLASH_DONE = 0x8000_0000;

export class Eeprom {
  readonly contents: Uint16Array;
  readonly #words: Uint32Array;
  readonly #chip: SerialEeprom;
  readonly #reload: () => void;

  /** @param reload software asks that the hardware reads its configuration anew (EE_RST) */
  constructor(registers: RegisterSpace, contents: Uint16Array, reload: () => void) {
    this.contents = contents;
    this.#words = registers.words;
    this.#chip = new SerialEeprom(contents);
    this.#reload = reload;
    registers.declare([
      {
        name: 'EECD',
        offset: Reg.EECD,
        section: '8.4.1',
        reset: FLASH_WRITES_OFF | Eecd.PRES | Eecd.AUTO_RD | ADDRESS_BITS | SIZE,
        writable: PINS | Eecd.FWE | Eecd.REQ,
        read: (_, stored) => (this.#chip.output ? stored | Eecd.DO : stored & ~Eecd.DO),
        write: (_, value) => this.#driven(value),
      },
      { name: 'EERD', offset: Reg.EERD, section: '8.4.2', writable: 0, write: (_, __, written) => this.#readWord(written) },
      { name: 'FLA', offset: Reg.FLA, section: '8.4.3' },
      { name: 'EEMNGCTL', offset: Reg.EEMNGCTL, section: '8.4.21', reset: CFG_DONE_0 | MNG_DONE, writable: 0 },
      { name: 'EEMNGDATA', offset: Reg.EEMNGDATA, section: '8.4.22', writable: 0 },
      { name: 'FLMNGCTL', offset: Reg.FLMNGCTL, section: '8.4.23', reset: FLASH_DONE, writable: 0 },
      { name: 'FLMNGDATA', offset: Reg.FLMNGDATA, section: '8.4.24', writable: 0 },
      { name: 'FLMNGCNT', offset: Reg.FLMNGCNT, section: '8.4.25', writable: 0 },
      { name: 'EEARBC', offset: Reg.EEARBC, section: '8.4.6', writable: 0 },
      { name: 'FLASHOP', offset: Reg.FLASHOP, section: '8.4.4' },
      { name: 'VPDDIAG', offset: Reg.VPDDIAG, section: '8.4.7', writable: 0 },
    ]);
  }

  /** CTRL_EXT.EE_RST (8.2.3). */
  reload(): void {
    this.#reload();
  }

  /** The pins reach the chip while software has asked for them (8.4.1). */
  #driven(value: number): void {
    const requested = (value & Eecd.REQ) !== 0;
    const at = Reg.EECD >>> 2;
    this.#words[at] = (requested ? value | Eecd.GNT : value & ~(Eecd.GNT | PINS)) >>> 0;
    this.#chip.drive(requested && (value & Eecd.CS) !== 0, (value & Eecd.SK) !== 0, (value & Eecd.DI) !== 0);
  }

  /** 8.4.2. A word past the end reads as an erased one. */
  #readWord(written: number): void {
    const address = (written & Eerd.ADDR) >>> Eerd.ADDR_SHIFT;
    const at = Reg.EERD >>> 2;
    if ((written & Eerd.START) === 0) {
      this.#words[at] = written & Eerd.ADDR;
      return;
    }
    const data = this.contents[address] ?? 0xffff;
    this.#words[at] = ((data << Eerd.DATA_SHIFT) | (written & Eerd.ADDR) | Eerd.DONE) >>> 0;
  }
}
