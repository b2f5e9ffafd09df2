/**
 * Links from 16 to 64 GT/s, and margining of their lanes (PCI Express Base 6.0, 7.7.5 to 7.7.7 and
 * 7.7.10).
 */

import { ExtCapId } from '../../abi/pci.ts';
import { type Register, registers } from '../decode/registers.ts';
import { undefinedValue } from '../decode/text.ts';
import { hidden, Why } from '../permissions/rows.ts';
import type { CapabilityKind } from './kind.ts';

const status: Register['lines'] = ['EquComplete{0} EquPhase1{1} EquPhase2{2} EquPhase3{3} LinkEquRequest{4}'];

export const physicalLayer16: CapabilityKind = {
  id: ExtCapId.PL_16GT,
  extended: true,
  name: 'Physical Layer 16 GT/s',
  access: hidden(Why.REACHES_BEYOND),
  decode: registers('Physical Layer 16.0 GT/s', [{ name: 'Phy16Sta', at: 12, lines: status }]),
};

export const physicalLayer32: CapabilityKind = {
  id: ExtCapId.PL_32GT,
  extended: true,
  name: 'Physical Layer 32 GT/s',
  access: hidden(Why.REACHES_BEYOND),
  decode: registers('Physical Layer 32.0 GT/s', [
    {
      name: 'Phy32Cap',
      at: 4,
      lines: ['EqualizationBypass{0} NoEqualizationNeeded{1}', 'ModTsMode0{8} ModTsMode1{9} ModTsMode2{10}'],
    },
    {
      name: 'Phy32Ctl',
      at: 8,
      lines: ['EqualizationBypassDis{0} NoEqualizationNeededDis{1}', 'Modified TS Usage Mode: {usage=10:8 usage}'],
    },
    {
      name: 'Phy32Sta',
      at: 12,
      lines: [
        ...status,
        'Received Enhanced Link Behavior Control: {behavior=7:6 behavior}',
        'ModTsRecv{5} TxPrecodeOn{8} TxPrecodeReq{9} NoEqualizationNeededRecv{10}',
      ],
    },
  ]),
  choices: {
    usage: { texts: ['PCI Express', 'Training Set Messages', 'Alternate Protocol Negotiation'], otherwise: undefinedValue },
    behavior: {
      texts: [
        'Full Equalization required',
        'Equalization bypass to highest rate support',
        'No Equalization Needed',
        'Modified TS1/TS2 Ordered Sets supported',
      ],
      otherwise: String,
    },
  },
};

export const physicalLayer64: CapabilityKind = {
  id: ExtCapId.PL_64GT,
  extended: true,
  name: 'Physical Layer 64 GT/s',
  access: hidden(Why.REACHES_BEYOND),
  decode: registers('Physical Layer 64.0 GT/s', [
    { name: 'Phy64Sta', at: 12, lines: [...status, 'TxPrecodeOn{5} TxPrecodeReq{6} NoEqualizationNeededRecv{7}'] },
  ]),
};

export const laneMargining: CapabilityKind = {
  id: ExtCapId.LMR,
  extended: true,
  name: 'Lane Margining at the Receiver',
  decode: registers('Lane Margining at the Receiver', [
    { name: 'PortCap', at: 4, width: 2, lines: ['Uses Driver{0}'] },
    { name: 'PortSta', at: 6, width: 2, lines: ['MargReady{0} MargSoftReady{1}'] },
  ]),
};
