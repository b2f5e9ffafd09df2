/**
 * Power budgeting: the power that the device needs, behind a register that selects the state (PCI
 * Express Base 6.0, 7.8.1).
 */
import { ExtCapId } from '../../abi/pci.ts';
import type { Capability } from '../declaration.ts';
import { fixed, row } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import { type CapabilityKind, titleOnly } from './kind.ts';

const Pwr = { DSR: 4, SIZE: 16 } as const;

/** Power budgeting. */
export function powerBudgeting(options: Placed = {}): Capability {
  return new CapabilityBuilder(Pwr.SIZE).set(Pwr.DSR, 1, 0, 0xff).build(powerBudget, options);
}

export const powerBudget: CapabilityKind = {
  id: ExtCapId.PWR,
  extended: true,
  name: 'Power Budgeting',
  access: {
    length: fixed(Pwr.SIZE),
    why: 'read-only: the power that the device needs',
    rows: [row(Pwr.DSR, 1, 'data select', 0, 0xff, 'only selects what the data register reports')],
  },
  decode: titleOnly('Power Budgeting <?>'),
};
