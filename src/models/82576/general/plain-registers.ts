/**
 * Registers that keep what software writes, and do nothing else here: link layers that a copper
 * port does not use, diagnosis, manageability without firmware, direct cache access.
 */
import { Reg } from '../../../abi/82576.ts';
import type { RegisterRow } from '../register-space.ts';

const FILTERS = 128;

export const plainRegisters: readonly RegisterRow[] = [
  // PCI Express (8.6)
  { name: 'GCR', offset: Reg.GCR, section: '8.6.1', reset: 0x1805_0202, kept: true, writable: 0x0001_f3ff },
  { name: 'FUNCTAG', offset: Reg.FUNCTAG, section: '8.6.2' },
  { name: 'GSCL_1', offset: Reg.GSCL_1, section: '8.6.3' },
  { name: 'GSCL_2', offset: Reg.GSCL_2, section: '8.6.4' },
  { name: 'GSCL_3', offset: Reg.GSCL_3, section: '8.6.5' },
  { name: 'GSCL_4', offset: Reg.GSCL_4, section: '8.6.5' },
  { name: 'GSCN', offset: Reg.GSCN_0, count: 4, section: '8.6.6' },
  { name: 'GIOANACTL', offset: Reg.GIOANACTL0, count: 5, section: '8.6.11' },
  { name: 'CCMCTL', offset: Reg.CCMCTL, section: '8.6.13' },
  { name: 'SCCTL', offset: Reg.SCCTL, section: '8.6.14' },
  { name: 'MREVID', offset: Reg.MREVID, section: '8.6.8', reset: 0x0001, writable: 0 },
  { name: 'DCA_ID', offset: Reg.DCA_ID, section: '8.13.1', writable: 0 },
  { name: 'DCA_CTRL', offset: Reg.DCA_CTRL, section: '8.13.2', reset: 0x1, writable: 0x1f },

  // The watchdog of software (8.15)
  { name: 'WDSTP', offset: Reg.WDSTP, section: '8.15.1' },
  { name: 'SWDSTS', offset: Reg.SWDSTS, section: '8.15.2' },

  // SerDes and SGMII: the port is copper (8.17)
  { name: 'PCS_CFG', offset: Reg.PCS_CFG, section: '8.17.1', reset: 0x8 },
  { name: 'PCS_LCTL', offset: Reg.PCS_LCTL, section: '8.17.2', reset: 0xc0_0000 },
  { name: 'PCS_LSTS', offset: Reg.PCS_LSTS, section: '8.17.3', writable: 0 },
  { name: 'PCS_ANADV', offset: Reg.PCS_ANADV, section: '8.17.4' },
  { name: 'PCS_LPAB', offset: Reg.PCS_LPAB, section: '8.17.5', writable: 0 },
  { name: 'PCS_NPTX', offset: Reg.PCS_NPTX, section: '8.17.6' },
  { name: 'PCS_LPABNP', offset: Reg.PCS_LPABNP, section: '8.17.7', writable: 0 },

  // Manageability (8.21): no firmware looks at it
  { name: 'MFVAL', offset: Reg.MFVAL, section: '8.21.2' },
  { name: 'MANC2H', offset: Reg.MANC2H, section: '8.21.4' },
  { name: 'MDEF', offset: Reg.MDEF, count: 8, section: '8.21.5' },
  { name: 'MANC', offset: Reg.MANC, section: '8.21.3' },
  // Flexible filters: FFMT is 9000 + 8n, FFVT is 9800 + 8n, FFLT is 5F00 + 8n (8.20.11)
  { name: 'FHFT', offset: Reg.FHFT, count: 2 * FILTERS, section: '8.20.11' },
  { name: 'FFVT', offset: 0x9800, count: FILTERS, stride: 8, section: '8.20.11' },
  { name: 'FFLT', offset: 0x5f00, count: 4, stride: 8, section: '8.20.11', writable: 0x7ff },
];
