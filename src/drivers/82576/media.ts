/**
 * The EEPROM and the PHY behind the registers of a physical function, and the semaphores that
 * software shares with firmware (4.7, 8.7).
 */
import { Ctrl, Eecd, Eerd, Mdic, Reg, Status, SwFwSync, Swsm } from '../../abi/82576.ts';
import { Ana, EEPROM_SUM, EepromWord, Gcon, Pctrl, PHY_ADDRESS, Phy, Pstatus } from '../../abi/82576-phy.ts';
import type { RegisterAccess } from '../../abi/device.ts';
import { VfioError } from '../../base/errno.ts';
import type { DriverDevice } from '../kit/driver-device.ts';

/** Looks at a register before the driver gives the event loop its turn between looks. */
const LOOKS = 100;
const ACCESS_MS = 100;
const SEMAPHORE_MS = 1000;

const PAUSES = { none: 0, receive: Ana.PAUSE | Ana.ASM_DIR, transmit: Ana.ASM_DIR, full: Ana.PAUSE, auto: Ana.PAUSE } as const;
type FlowControl = keyof typeof PAUSES;

export class Media {
  readonly #dev: DriverDevice;
  readonly #registers: RegisterAccess;

  constructor(dev: DriverDevice, registers: RegisterAccess) {
    this.#dev = dev;
    this.#registers = registers;
  }

  /** A word of the EEPROM (8.4.2). @throws VfioError EIO */
  async eepromWord(address: number): Promise<number> {
    const registers = this.#registers;
    registers.write32(Reg.EERD, (address << Eerd.ADDR_SHIFT) | Eerd.START);
    let value = 0;
    await this.#wait(`word ${address} of the EEPROM`, () => {
      value = registers.read32(Reg.EERD);
      return (value & Eerd.DONE) !== 0;
    });
    return value >>> Eerd.DATA_SHIFT;
  }

  /**
   * Whether words 0 to 0x3f add up (6.2.10). No EEPROM: null.
   * @throws VfioError EIO
   */
  async eepromGood(): Promise<boolean | null> {
    if ((this.#registers.read32(Reg.EECD) & Eecd.PRES) === 0) return null;
    let sum = 0;
    for (let address = 0; address <= EepromWord.CHECKSUM; address++) sum += await this.eepromWord(address);
    return (sum & 0xffff) === EEPROM_SUM;
  }

  /** A register of the PHY (8.2.4). @throws VfioError EIO */
  readPhy(register: number): Promise<number> {
    return this.#mdi(Mdic.OP_READ, register, 0);
  }

  async writePhy(register: number, value: number): Promise<void> {
    await this.#mdi(Mdic.OP_WRITE, register, value);
  }

  /**
   * Has the PHY negotiate, unless it has already: a link that is up stays up. Where the driver
   * wants other pauses than the PHY offers, it negotiates anew (3.5.2).
   */
  async negotiate(flowControl: FlowControl): Promise<void> {
    using _owned = await this.#own();
    const control = await this.readPhy(Phy.PCTRL);
    const advertised = await this.readPhy(Phy.ANA);
    const gigabit = await this.readPhy(Phy.GCON);
    const pauses = Ana.PAUSE | Ana.ASM_DIR;
    const wanted = (advertised & ~pauses) | (flowControl === 'auto' ? advertised & pauses : PAUSES[flowControl]);
    const off = Pctrl.POWER_DOWN | Pctrl.ISOLATE | Pctrl.LOOPBACK;
    const complete = ((await this.readPhy(Phy.PSTATUS)) & Pstatus.AN_COMPLETE) !== 0;
    const good =
      complete && (control & off) === 0 && (control & Pctrl.AN_ENABLE) !== 0 && wanted === advertised && (gigabit & Gcon.FULL) !== 0;
    if (good) return;
    await this.writePhy(Phy.ANA, wanted);
    await this.writePhy(Phy.GCON, gigabit | Gcon.FULL);
    await this.writePhy(Phy.PCTRL, (control & ~off) | Pctrl.AN_ENABLE | Pctrl.RESTART_AN);
  }

  /**
   * Has the PHY send frames back in place of the wire (3.5.6.3), at 1000 Mbit/s, which the MAC is
   * forced to, too; or has it negotiate again.
   */
  async setLoopback(on: boolean, flowControl: FlowControl): Promise<void> {
    const registers = this.#registers;
    const forced = Ctrl.FRCSPD | Ctrl.FRCDPLX;
    const ctrl = registers.read32(Reg.CTRL) & ~(forced | Ctrl.SPEED);
    registers.write32(Reg.CTRL, (ctrl | Ctrl.SLU | Ctrl.FD | (on ? forced | Ctrl.SPEED_1000 : 0)) >>> 0);
    if (!on) {
      await this.negotiate(flowControl);
      return;
    }
    using _owned = await this.#own();
    await this.writePhy(Phy.PCTRL, Pctrl.LOOPBACK | Pctrl.DUPLEX | Pctrl.SPEED_1000);
  }

  /** Powers the PHY up or down; an up PHY negotiates (8.25.1). */
  async power(on: boolean): Promise<void> {
    using _owned = await this.#own();
    const control = await this.readPhy(Phy.PCTRL);
    const restart = Pctrl.AN_ENABLE | Pctrl.RESTART_AN;
    await this.writePhy(Phy.PCTRL, on ? (control & ~Pctrl.POWER_DOWN) | restart : control | Pctrl.POWER_DOWN);
  }

  /** CTRL.RFCE and TFCE, as both ends have agreed (3.5.2.1.2; IEEE 802.3, table 28B-3). */
  async agreedPauses(): Promise<number> {
    using _owned = await this.#own();
    if (((await this.readPhy(Phy.PSTATUS)) & Pstatus.AN_COMPLETE) === 0) return 0;
    const own = await this.readPhy(Phy.ANA);
    const partner = await this.readPhy(Phy.ANLPA);
    if ((own & partner & Ana.PAUSE) !== 0) return Ctrl.RFCE | Ctrl.TFCE;
    if ((own & partner & Ana.ASM_DIR) === 0) return 0;
    if ((own & Ana.PAUSE) !== 0) return Ctrl.RFCE;
    return (partner & Ana.PAUSE) !== 0 ? Ctrl.TFCE : 0;
  }

  async #mdi(operation: number, register: number, data: number): Promise<number> {
    const registers = this.#registers;
    registers.write32(Reg.MDIC, operation | (PHY_ADDRESS << Mdic.PHYADD_SHIFT) | (register << Mdic.REGADD_SHIFT) | data);
    let value = 0;
    await this.#wait(`register ${register} of the PHY`, () => {
      value = registers.read32(Reg.MDIC);
      return (value & Mdic.R) !== 0;
    });
    if ((value & Mdic.E) !== 0) throw new VfioError('EIO', `${this.#dev.name}: its PHY does not answer at register ${register}`);
    return value & Mdic.DATA;
  }

  /** Owns the PHY, against firmware and the other port, until it is disposed (4.7). */
  async #own(): Promise<Disposable> {
    const registers = this.#registers;
    const bit = (registers.read32(Reg.STATUS) & Status.LAN_ID) === 0 ? SwFwSync.PHY0 : SwFwSync.PHY1;
    const taken = bit | (bit << SwFwSync.FW_SHIFT);
    await this.#wait(
      'the semaphore of the PHY',
      () => {
        if (!this.#lock()) return false;
        const sync = registers.read32(Reg.SW_FW_SYNC);
        if ((sync & taken) === 0) registers.write32(Reg.SW_FW_SYNC, sync | bit);
        this.#unlock();
        return (sync & taken) === 0;
      },
      SEMAPHORE_MS,
    );
    return {
      [Symbol.dispose]: () => {
        try {
          const locked = this.#lock();
          registers.write32(Reg.SW_FW_SYNC, registers.read32(Reg.SW_FW_SYNC) & ~bit);
          if (locked) this.#unlock();
        } catch (error) {
          // A card that is gone holds no semaphore: the error of the work itself is the one to see.
          if (!(error instanceof VfioError) || error.code !== 'ENODEV') throw error;
        }
      },
    };
  }

  /** A read of SMBI as 0 sets it; SWESMBI is ours when it reads back (8.7). */
  #lock(): boolean {
    const registers = this.#registers;
    if ((registers.read32(Reg.SWSM) & Swsm.SMBI) !== 0) return false;
    registers.write32(Reg.SWSM, registers.read32(Reg.SWSM) | Swsm.SWESMBI);
    if ((registers.read32(Reg.SWSM) & Swsm.SWESMBI) !== 0) return true;
    this.#unlock();
    return false;
  }

  #unlock(): void {
    this.#registers.write32(Reg.SWSM, this.#registers.read32(Reg.SWSM) & ~(Swsm.SMBI | Swsm.SWESMBI));
  }

  async #wait(what: string, ready: () => boolean, timeoutMs = ACCESS_MS): Promise<void> {
    for (let look = 0; look < LOOKS; look++) if (ready()) return;
    try {
      await this.#dev.until(ready, { timeoutMs });
    } catch (error) {
      if (!(error instanceof VfioError) || error.code !== 'ETIMEDOUT') throw error;
      throw new VfioError('EIO', `${this.#dev.name} does not give ${what} within ${timeoutMs} ms`, { cause: error });
    }
  }
}
