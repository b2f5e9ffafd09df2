/**
 * Downstream port containment: the port turns its link off at an error (PCI Express Base 6.0,
 * 7.9.14).
 */
import { ExtCapId } from '../../abi/pci.ts';
import { hidden, Why } from '../permissions/rows.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

const decode: CapabilityDecoder = (r, d) => {
  const title = 'Downstream Port Containment';
  if (!r.has(4, 8)) return { title };
  d.line('DpcCap', r.u16(4), '\t\tDpcCap:\tIntMsgNum {4:0}, RPExt{5} PoisonedTLP{6} SwTrigger{7} RP PIO Log {11:8}, DL_ActiveErr{12}');
  d.line('DpcCtl', r.u16(6), '\t\tDpcCtl:\tTrigger:{1:0 hex1} Cmpl{2} INT{3} ErrCor{4} PoisonedTLP{5} SwTrigger{6} DL_ActiveErr{7}');
  d.line('DpcSta', r.u16(8), '\t\tDpcSta:\tTrigger{0} Reason:{2:1 hex2} INT{3} RPBusy{4} TriggerExt:{6:5 hex2} RP PIO ErrPtr:{12:8 hex2}');
  d.line('Source', r.u16(10), '\t\tSource:\t{15:0 hex4}');
  return { title };
};

export const portContainment: CapabilityKind = {
  id: ExtCapId.DPC,
  extended: true,
  name: 'Downstream Port Containment',
  access: hidden(Why.REACHES_BEYOND),
  decode,
};
