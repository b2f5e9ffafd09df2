/** Registers of interrupts (8.8), and those of VFs as the PF reaches them (8.26). */
import { Eicr, Eitr, Gpie, Reg } from '../../../abi/82576.ts';
import { PF, POOLS } from '../parts.ts';
import type { RegisterRow } from '../register-space.ts';
import { VECTORS } from './moderation.ts';

/** Causes that exist (8.8.7). */
const CAUSES = 0x77d4_fbfd;
const VF_STRIDE = 0x100;

/** The effects of the registers. @param of `PF`, or a VF, whose own bits are at 2:0 */
export interface InterruptControl {
  readonly causes: number;
  readonly mask: number;
  readCauses(): number;
  acknowledge(cleared: number): void;
  cause(icr: number): void;
  setMask(bits: number): void;
  clearMask(bits: number): void;
  readExtendedCauses(of: number): number;
  acknowledgeExtended(of: number, value: number): void;
  setExtended(of: number, value: number): void;
  setExtendedMask(of: number, value: number): void;
  clearExtendedMask(of: number, value: number): void;
  replace(register: number, of: number, value: number): void;
  read(register: number, of: number): number;
  throttleWritten(vector: number, written: number): void;
  /** The vectors of queues have changed. */
  remap(): void;
}

export function interruptRows(interrupts: InterruptControl): readonly RegisterRow[] {
  return [
    {
      name: 'ICR',
      offset: Reg.ICR,
      section: '8.8.7',
      writable: 0,
      read: () => interrupts.readCauses(),
      write: (_, __, written) => interrupts.acknowledge(written),
    },
    {
      name: 'ICS',
      offset: Reg.ICS,
      section: '8.8.8',
      writable: 0,
      read: () => interrupts.causes,
      write: (_, __, written) => interrupts.cause(written & CAUSES),
    },
    {
      name: 'IMS',
      offset: Reg.IMS,
      section: '8.8.9',
      writable: 0,
      write: (_, __, written) => interrupts.setMask(written & CAUSES),
    },
    {
      name: 'IMC',
      offset: Reg.IMC,
      section: '8.8.10',
      writable: 0,
      read: () => interrupts.mask,
      write: (_, __, written) => interrupts.clearMask(written),
    },
    { name: 'IAM', offset: Reg.IAM, section: '8.8.11', writable: CAUSES },
    { name: 'ICR alias', offset: Reg.ICR_ALIAS, section: '8.8.7', alias: 'ICR' },
    { name: 'ICS alias', offset: Reg.ICS_ALIAS, section: '8.8.8', alias: 'ICS' },
    { name: 'IMS alias', offset: Reg.IMS_ALIAS, section: '8.8.9', alias: 'IMS' },
    { name: 'IMC alias', offset: Reg.IMC_ALIAS, section: '8.8.10', alias: 'IMC' },
    { name: 'IAM alias', offset: Reg.IAM_ALIAS, section: '8.8.11', alias: 'IAM' },
    {
      name: 'GPIE',
      offset: Reg.GPIE,
      section: '8.8.15',
      writable: Gpie.NSICR | Gpie.MULTIPLE_MSIX | Gpie.LL_INTERVAL | Gpie.EIAME | Gpie.PBA_SUPPORT,
      write: () => interrupts.remap(),
    },
    {
      name: 'EICS',
      offset: Reg.EICS,
      section: '8.8.2',
      writable: 0,
      read: () => interrupts.read(Reg.EICR, PF),
      write: (_, __, written) => interrupts.setExtended(PF, written),
    },
    {
      name: 'EIMS',
      offset: Reg.EIMS,
      section: '8.8.3',
      // Other causes are enabled from the start: software of earlier controllers knows IMS alone.
      reset: Eicr.OTHER,
      writable: 0,
      read: () => interrupts.read(Reg.EIMS, PF),
      write: (_, __, written) => interrupts.setExtendedMask(PF, written),
    },
    {
      name: 'EIMC',
      offset: Reg.EIMC,
      section: '8.8.4',
      writable: 0,
      read: () => interrupts.read(Reg.EIMS, PF),
      write: (_, __, written) => interrupts.clearExtendedMask(PF, written),
    },
    {
      name: 'EIAC',
      offset: Reg.EIAC,
      section: '8.8.5',
      writable: 0,
      read: () => interrupts.read(Reg.EIAC, PF),
      write: (_, __, written) => interrupts.replace(Reg.EIAC, PF, written),
    },
    {
      name: 'EIAM',
      offset: Reg.EIAM,
      section: '8.8.6',
      writable: 0,
      read: () => interrupts.read(Reg.EIAM, PF),
      write: (_, __, written) => interrupts.replace(Reg.EIAM, PF, written),
    },
    {
      name: 'EICR',
      offset: Reg.EICR,
      section: '8.8.1',
      writable: 0,
      read: () => interrupts.readExtendedCauses(PF),
      write: (_, __, written) => interrupts.acknowledgeExtended(PF, written),
    },
    {
      name: 'EITR',
      offset: Reg.EITR,
      count: VECTORS,
      section: '8.8.12',
      kept: true,
      writable: Eitr.INTERVAL | Eitr.LLI_EN | Eitr.LL_COUNTER | Eitr.MODERATION_COUNTER,
      write: (index, _, written) => interrupts.throttleWritten(index, written),
    },
    { name: 'IVAR', offset: Reg.IVAR0, count: 8, section: '8.8.13', write: () => interrupts.remap() },
    { name: 'IVAR_MISC', offset: Reg.IVAR_MISC, section: '8.8.14', writable: 0xffff, write: () => interrupts.remap() },
    // Pending bits of MSI-X are the host's: clearing one that is masked has no effect here.
    { name: 'PBACL', offset: Reg.PBACL, section: '8.8.16', writable: 0 },
    { name: 'VTIVAR', offset: Reg.VTIVAR, count: POOLS, section: '8.26', write: () => interrupts.remap() },
    { name: 'VTIVAR_MISC', offset: Reg.VTIVAR_MISC, count: POOLS, section: '8.26', writable: 0xff, write: () => interrupts.remap() },
    ...ofFunctions(interrupts),
  ];
}

function ofFunctions(interrupts: InterruptControl): readonly RegisterRow[] {
  const row = { count: POOLS, stride: VF_STRIDE, section: '8.26', writable: 0 } as const;
  return [
    {
      ...row,
      name: 'PVTEICS',
      offset: Reg.PVTEICS,
      read: (vf) => interrupts.read(Reg.EICR, vf),
      write: (vf, _, written) => interrupts.setExtended(vf, written),
    },
    {
      ...row,
      name: 'PVTEIMS',
      offset: Reg.PVTEIMS,
      read: (vf) => interrupts.read(Reg.EIMS, vf),
      write: (vf, _, written) => interrupts.setExtendedMask(vf, written),
    },
    {
      ...row,
      name: 'PVTEIMC',
      offset: Reg.PVTEIMC,
      read: (vf) => interrupts.read(Reg.EIMS, vf),
      write: (vf, _, written) => interrupts.clearExtendedMask(vf, written),
    },
    {
      ...row,
      name: 'PVTEIAC',
      offset: Reg.PVTEIAC,
      read: (vf) => interrupts.read(Reg.EIAC, vf),
      write: (vf, _, written) => interrupts.replace(Reg.EIAC, vf, written),
    },
    {
      ...row,
      name: 'PVTEIAM',
      offset: Reg.PVTEIAM,
      read: (vf) => interrupts.read(Reg.EIAM, vf),
      write: (vf, _, written) => interrupts.replace(Reg.EIAM, vf, written),
    },
    {
      ...row,
      name: 'PVTEICR',
      offset: Reg.PVTEICR,
      read: (vf) => interrupts.readExtendedCauses(vf),
      write: (vf, _, written) => interrupts.acknowledgeExtended(vf, written),
    },
  ];
}
