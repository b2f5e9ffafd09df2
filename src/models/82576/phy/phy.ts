/**
 * The integrated PHY: its registers behind MDIC (8.2.4, 8.25). It is the IGP03E1000 to drivers. Its
 * resets are its own: a software reset of the MAC leaves it alone.
 */
import { Mdic, Reg } from '../../../abi/82576.ts';
import { Ana, Gcon, Gstatus, Pctrl, PHY_ADDRESS, PHY_ID, Phy as PhyReg, Pstatus } from '../../../abi/82576-phy.ts';
import type { InterruptPort } from '../parts.ts';
import type { RegisterSpace } from '../register-space.ts';
import type { Link } from './link.ts';

const ADVERTISED = 1 | Ana.HALF_10 | Ana.FULL_10 | Ana.HALF_100 | Ana.FULL_100 | Ana.PAUSE | Ana.ASM_DIR;
/** Any partner is a port like this one. */
const PARTNER = ADVERTISED | Ana.ACKNOWLEDGE;

/** Link partner and local device: next pages (802.3, 28.2.4.1). */
const ANE_ABLE = 0x4;
const ANE_PARTNER = 0x3;
const NPT_RESET = 0x2001;
const ESTATUS_1000T = 0x3000;
/** PSTAT (8.25.3.14): 1000 Mb/s, full duplex is of the MAC. */
const PSTAT_1000 = 0xc000;
const PSTAT_100 = 0x8000;
const PSTAT_10 = 0x4000;
const PSTAT_LINK = 0x0040;
const PCONF_RESET = 0x0120;
/** Power management: D0 and D3 settings, SmartSpeed. */
const POWER_MANAGEMENT = 25;
const POWER_MANAGEMENT_RESET = 0x008d;
/** Automatic gain control of the four pairs: bits 15:9 are the length of the cable. */
const AGC = [0x11b1, 0x12b1, 0x14b1, 0x18b1];
const AGC_SHORT_CABLE = 0x10 << 9;

/** ICR.MDAC: an MDI command with MDIC.I has ended. */
const MDIC_ACCESS_COMPLETE = 0x200;

/** Bits that MDIC writes, by register; others are read only. */
const writable = new Map<number, number>([
  [PhyReg.PCTRL, 0xffc0],
  [PhyReg.ANA, 0xffff],
  [PhyReg.NPT, 0xffff],
  [PhyReg.GCON, 0xff00],
  [PhyReg.PCONF, 0xffff],
  [PhyReg.PCONT, 0xffff],
  [PhyReg.PFIFO, 0xffff],
  [POWER_MANAGEMENT, 0xffff],
  [29, 0xffff],
  [30, 0xffff],
  [PhyReg.PHY_PAGE, 0xffff],
]);
const readable = new Set<number>([
  ...writable.keys(),
  PhyReg.PSTATUS,
  PhyReg.PHYID1,
  PhyReg.PHYID2,
  PhyReg.ANLPA,
  PhyReg.ANE,
  PhyReg.LPN,
  PhyReg.GSTATUS,
  PhyReg.ESTATUS,
  PhyReg.PSTAT,
  PhyReg.LINK,
  PhyReg.CHAN,
]);

export class Phy {
  readonly registers = new Uint16Array(32);
  readonly #words: Uint32Array;
  readonly #interrupts: InterruptPort;
  #link: Link | null = null;

  constructor(space: RegisterSpace, interrupts: InterruptPort) {
    this.#words = space.words;
    this.#interrupts = interrupts;
    space.declare([
      {
        name: 'MDIC',
        offset: Reg.MDIC,
        section: '8.2.4',
        reset: Mdic.R,
        writable: 0,
        write: (_, __, written) => this.#command(written),
      },
    ]);
    this.#powerOn();
  }

  connect(link: Link): void {
    this.#link = link;
  }

  get control(): number {
    return this.registers[PhyReg.PCTRL]!;
  }

  /** CTRL.PHY_RST, PCTRL bit 15, or power (4.2.1). */
  reset(): void {
    this.#powerOn();
    this.#link?.controlChanged(true);
  }

  #powerOn(): void {
    this.registers.fill(0);
    this.registers[PhyReg.PCTRL] = Pctrl.AN_ENABLE | Pctrl.DUPLEX | Pctrl.SPEED_1000;
    this.registers[PhyReg.PHYID1] = PHY_ID.high;
    this.registers[PhyReg.PHYID2] = PHY_ID.low;
    this.registers[PhyReg.ANA] = ADVERTISED;
    this.registers[PhyReg.NPT] = NPT_RESET;
    this.registers[PhyReg.GCON] = Gcon.HALF | Gcon.FULL;
    this.registers[PhyReg.ESTATUS] = ESTATUS_1000T;
    this.registers[PhyReg.PCONF] = PCONF_RESET;
    this.registers[POWER_MANAGEMENT] = POWER_MANAGEMENT_RESET;
  }

  /** 8.2.4: an access that does not exist sets the error bit, and the command is ready at once. */
  #command(written: number): void {
    const register = (written & Mdic.REGADD) >>> Mdic.REGADD_SHIFT;
    const address = (written & Mdic.PHYADD) >>> Mdic.PHYADD_SHIFT;
    const op = written & Mdic.OP;
    let answer = (written & ~(Mdic.R | Mdic.E)) | Mdic.R;
    if (address !== PHY_ADDRESS || (op !== Mdic.OP_READ && op !== Mdic.OP_WRITE)) answer |= Mdic.E;
    else if (op === Mdic.OP_WRITE) this.write(register, written & Mdic.DATA);
    else answer = (answer & ~Mdic.DATA) | this.read(register);
    this.#words[Reg.MDIC >>> 2] = answer >>> 0;
    if ((written & Mdic.I) !== 0) this.#interrupts.cause(MDIC_ACCESS_COMPLETE);
  }

  read(register: number): number {
    const page = this.registers[PhyReg.PHY_PAGE]!;
    // Registers from 16 on are of the page that PHY_PAGE selects; pages are numbers of registers.
    if (register >= 16 && page > 0x1f && register !== PhyReg.PHY_PAGE)
      return AGC.includes(page) && register === (page & 0x1f) ? AGC_SHORT_CABLE : 0;
    if (!readable.has(register)) return 0;
    const link = this.#link;
    const linked = link?.phyUp === true;
    const negotiated = link?.negotiated === true;
    switch (register) {
      case PhyReg.PSTATUS:
        return this.#status(linked, negotiated);
      case PhyReg.ANLPA:
        return negotiated ? PARTNER : 0;
      case PhyReg.ANE:
        return negotiated ? ANE_ABLE | ANE_PARTNER : ANE_ABLE;
      case PhyReg.GSTATUS:
        return negotiated ? Gstatus.HALF | Gstatus.FULL | Gstatus.REMOTE_OK | Gstatus.LOCAL_OK : 0;
      case PhyReg.PSTAT:
        return linked ? this.#speed() | PSTAT_LINK : 0;
      default:
        return this.registers[register]!;
    }
  }

  #status(linked: boolean, negotiated: boolean): number {
    const link = this.#link;
    const lost = link?.lost === true;
    if (link !== null) link.lost = false;
    return (
      Pstatus.EXTENDED |
      Pstatus.AN_ABLE |
      Pstatus.PREAMBLE |
      Pstatus.ESTATUS |
      Pstatus.SPEEDS |
      (negotiated ? Pstatus.AN_COMPLETE : 0) |
      (linked && !lost ? Pstatus.LINK : 0)
    );
  }

  #speed(): number {
    if ((this.control & (Pctrl.AN_ENABLE | Pctrl.SPEED_1000)) !== 0) return PSTAT_1000;
    return (this.control & Pctrl.SPEED_100) !== 0 ? PSTAT_100 : PSTAT_10;
  }

  write(register: number, value: number): void {
    const page = this.registers[PhyReg.PHY_PAGE]!;
    if (register >= 16 && page > 0x1f && register !== PhyReg.PHY_PAGE) return;
    const mask = writable.get(register);
    if (mask === undefined) return;
    if (register !== PhyReg.PCTRL) {
      this.registers[register] = value & mask;
      return;
    }
    if ((value & Pctrl.RESET) !== 0) {
      this.reset();
      return;
    }
    const before = this.control;
    this.registers[PhyReg.PCTRL] = value & mask & ~(Pctrl.RESET | Pctrl.RESTART_AN);
    const negotiates = (value & Pctrl.AN_ENABLE) !== 0;
    const again = negotiates && ((value & Pctrl.RESTART_AN) !== 0 || (before & Pctrl.AN_ENABLE) === 0);
    this.#link?.controlChanged(again);
  }
}
