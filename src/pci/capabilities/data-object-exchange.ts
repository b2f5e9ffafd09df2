/** Data object exchange: a mailbox in config space (PCI Express Base 6.0, 7.9.24). */
import { ExtCapId } from '../../abi/pci.ts';
import { hidden, Why } from '../permissions/rows.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

const decode: CapabilityDecoder = (r, d) => {
  const title = 'Data Object Exchange';
  if (!r.has(4, 12)) return { title };
  d.line('DOECap', r.u32(4), '\t\tDOECap: IntSup{0}');
  if ((r.u32(4) & 1) !== 0) d.line('DOECap', r.u32(4), '\t\t\tIntMsgNum {11:1}');
  d.line('DOECtl', r.u32(8), '\t\tDOECtl: IntEn{1}');
  d.line('DOESta', r.u32(12), '\t\tDOESta: Busy{0} IntSta{1} Error{2} ObjectReady{31}');
  return { title };
};

export const dataObjectExchange: CapabilityKind = {
  id: ExtCapId.DOE,
  extended: true,
  name: 'Data Object Exchange',
  access: hidden(Why.REACHES_BEYOND),
  decode,
};
