/** General control and status (8.2), semaphores (8.7), and the resets that they start (4.2.1). */
import { Ctrl, CtrlExt, Factps, Reg, Status, Swsm } from '../../../abi/82576.ts';
import type { CardPort } from '../parts.ts';
import type { RegisterRow, RegisterSpace } from '../register-space.ts';

/** Work that the registers start. */
export interface GeneralPort {
  softwareReset(): void;
  phyReset(): void;
  linkControl(): void;
  reloadEeprom(): void;
  /** The driver of the PF is ready for virtual functions. */
  pfResetDone(): void;
}

/** CTRL: bits that exist. RST and PHY_RST clear themselves. */
const CTRL_WRITABLE = 0x5bff_1bcd;
const CTRL_EXT_WRITABLE = 0x1fff_ffff & ~CtrlExt.EE_RST & ~CtrlExt.PFRSTD;
/** LED 0 shows link, 1 activity, 2 and 3 the speed (7.5, 8.2.8). */
const LEDCTL_RESET = 0x0706_8302;
/** STATUS: the clocks of DMA may be gated. */
const CLOCK_GATING = Status.MAC_CLK_GATED;

export function declareGeneral(registers: RegisterSpace, card: CardPort, port: GeneralPort): void {
  const { words } = registers;
  const rows: readonly RegisterRow[] = [
    {
      name: 'CTRL',
      offset: Reg.CTRL,
      section: '8.2.1',
      reset: Ctrl.FD | Ctrl.LRST | Ctrl.SPEED_1000 | Ctrl.ADVD3WUC,
      writable: CTRL_WRITABLE,
      write(_, __, written) {
        if ((written & Ctrl.PHY_RST) !== 0) {
          words[Reg.STATUS >>> 2]! |= Status.PHYRA;
          port.phyReset();
        }
        if ((written & Ctrl.RST) !== 0) port.softwareReset();
        else port.linkControl();
      },
    },
    { name: 'CTRL alias', offset: Reg.CTRL_DUP, section: '8.2.1', alias: 'CTRL' },
    {
      name: 'STATUS',
      offset: Reg.STATUS,
      section: '8.2.2',
      reset: Status.PHYRA | CLOCK_GATING,
      writable: 0,
      read: (_, stored) => status(stored, words, card),
      // A zero clears PHYRA, and nothing else can be written.
      write(_, __, written) {
        if ((written & Status.PHYRA) === 0) words[Reg.STATUS >>> 2]! &= ~Status.PHYRA;
      },
    },
    {
      name: 'CTRL_EXT',
      offset: Reg.CTRL_EXT,
      section: '8.2.3',
      writable: CTRL_EXT_WRITABLE,
      write(_, __, written) {
        if ((written & CtrlExt.EE_RST) !== 0) port.reloadEeprom();
        if ((written & CtrlExt.PFRSTD) !== 0) {
          words[Reg.STATUS >>> 2]! |= Status.PF_RST_DONE;
          port.pfResetDone();
        }
      },
    },
    { name: 'SERDESCTL', offset: Reg.SERDESCTL, section: '8.2.5', reset: 0x8000_0000, writable: 0x7fff_ffff },
    // The address and type of PAUSE frames (8.5).
    { name: 'FCAL', offset: Reg.FCAL, section: '8.5.1', reset: 0x00c2_8001 },
    { name: 'FCAH', offset: Reg.FCAH, section: '8.5.2', reset: 0x0100, writable: 0xffff },
    { name: 'FCT', offset: Reg.FCT, section: '8.5.3', reset: 0x8808, writable: 0xffff },
    { name: 'CONNSW', offset: Reg.CONNSW, section: '8.2.6', writable: 0x7 },
    { name: 'LEDCTL', offset: Reg.LEDCTL, section: '8.2.8', reset: LEDCTL_RESET, writable: 0xcfcf_cfcf },
    { name: 'I2CCMD', offset: Reg.I2CCMD, section: '8.17.8' },
    { name: 'I2CPARAMS', offset: Reg.I2CPARAMS, section: '8.17.9' },
    {
      name: 'SWSM',
      offset: Reg.SWSM,
      section: '8.7.1',
      kept: true,
      writable: Swsm.SMBI | Swsm.SWESMBI | Swsm.WMNG | Swsm.EEUR,
      // The first reader sees 0, and has the semaphore until it writes 0.
      read(_, stored) {
        words[Reg.SWSM >>> 2] = stored | Swsm.SMBI;
        return stored;
      },
    },
    // No management firmware runs: its mode is 0, and it never holds a semaphore.
    { name: 'FWSM', offset: Reg.FWSM, section: '8.7.2', writable: 0 },
    { name: 'SW_FW_SYNC', offset: Reg.SW_FW_SYNC, section: '8.7.3', kept: true, writable: 0xffff },
    { name: 'FACTPS', offset: Reg.FACTPS, section: '8.6.10', reset: Factps.LAN0_VALID | Factps.FUNC0_AUX_EN, writable: 0 },
  ];
  registers.declare(rows);
}

/** STATUS: FD, LU and PHYRA are stored; the rest follows from other registers. */
function status(stored: number, words: Uint32Array, card: CardPort): number {
  const ctrl = words[Reg.CTRL >>> 2]!;
  const fullDuplex = (ctrl & Ctrl.FRCDPLX) === 0 || (ctrl & Ctrl.FD) !== 0;
  const forced = (ctrl & Ctrl.FRCSPD) !== 0;
  // CTRL.SPEED has the numbers of STATUS.SPEED, two bits up.
  const speed = forced ? (ctrl & Ctrl.SPEED) >>> 2 : Status.SPEED_1000;
  const vfs = card.virtualFunctions;
  return (
    stored |
    (fullDuplex ? Status.FD : 0) |
    speed |
    (vfs === 0 ? 0 : (vfs << Status.NUM_VFS_SHIFT) | Status.IOV_MODE) |
    ((ctrl & Ctrl.GIO_MASTER_DISABLE) === 0 ? Status.GIO_MASTER_EN : 0)
  );
}
