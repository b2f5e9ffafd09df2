/**
 * Access control services: the transactions that a port keeps apart, so that groups are isolated
 * (PCI Express Base 6.0, 7.7.11).
 */
import { ExtCapId } from '../../abi/pci.ts';
import { checkIndex } from '../../base/check.ts';
import type { Capability } from '../declaration.ts';
import { registers } from '../decode/registers.ts';
import type { RegisterReader } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import type { CapabilityKind } from './kind.ts';

export const Acs = {
  CAP: 4,
  SV: 0x01,
  TB: 0x02,
  RR: 0x04,
  CR: 0x08,
  UF: 0x10,
  EC: 0x20,
  DT: 0x40,
  EGRESS_BITS: 5,
  CTRL: 6,
  EGRESS_CTL: 8,
  SIZE: 8,
} as const;

/**
 * Access control services: the transactions that the port can keep apart. `enabled` has the bits of
 * the control register at power-on, which the host usually sets later. The default capabilities are
 * those that isolate the function in a group of its own: SV, RR, CR, UF.
 */
export function acs(options: { capabilities?: number; enabled?: number; egressVectorBits?: number } & Placed = {}): Capability {
  const bits = checkIndex(options.egressVectorBits ?? 0, 255, 'egress control vector bits');
  const capabilities =
    checkIndex(options.capabilities ?? Acs.SV | Acs.RR | Acs.CR | Acs.UF, 0x7f, 'ACS capabilities') & ~(bits === 0 ? Acs.EC : 0);
  return new CapabilityBuilder(Acs.SIZE + Math.ceil(bits / 32) * 4)
    .set(Acs.CAP, 2, capabilities | (bits << 8))
    .set(Acs.CTRL, 2, (options.enabled ?? 0) & capabilities, capabilities)
    .build(accessControl, options);
}

function length(read: RegisterReader): number {
  if ((read(Acs.CAP, 1) & Acs.EC) === 0) return Acs.SIZE;
  const bits = read(Acs.EGRESS_BITS, 1);
  return Acs.SIZE + (bits === 0 ? 256 : Math.ceil(bits / 32) * 32) / 8;
}

const bits = 'SrcValid{0} TransBlk{1} ReqRedir{2} CmpltRedir{3} UpstreamFwd{4} EgressCtrl{5} DirectTrans{6}';

export const accessControl: CapabilityKind = {
  id: ExtCapId.ACS,
  extended: true,
  name: 'Access Control Services',
  access: {
    length: { kind: 'variable', most: Acs.SIZE + 32, rule: '8, and the egress vector when there is one', of: length },
    why: 'read-only: this is the isolation itself',
  },
  decode: registers('Access Control Services', [
    { name: 'ACSCap', at: Acs.CAP, width: 2, gap: '\t', lines: [bits] },
    { name: 'ACSCtl', at: Acs.CTRL, width: 2, gap: '\t', lines: [bits] },
  ]),
};
