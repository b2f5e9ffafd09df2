/**
 * Dynamic power allocation: substates of D0 that take less power (PCI Express Base 6.0, 7.9.12).
 */
import { ExtCapId } from '../../abi/pci.ts';
import { type CapabilityKind, titleOnly } from './kind.ts';

const Dpa = { CAP: 4, CAP_SUBSTATE_MASK: 0x1f, BASE_SIZE: 16 } as const;

export const dynamicPower: CapabilityKind = {
  id: ExtCapId.DPA,
  extended: true,
  name: 'Dynamic Power Allocation',
  access: {
    length: {
      kind: 'variable',
      most: 48,
      rule: '16, and a byte per substate',
      of: (read) => Dpa.BASE_SIZE + (read(Dpa.CAP, 1) & Dpa.CAP_SUBSTATE_MASK) + 1,
    },
    why: 'read-only: the power budget is the platform’s',
  },
  decode: titleOnly('Dynamic Power Allocation <?>'),
};
