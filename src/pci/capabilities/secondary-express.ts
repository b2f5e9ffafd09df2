/** Secondary PCI Express: equalization of links from 8 GT/s on (PCI Express Base 6.0, 7.7.3). */
import { ExtCapId } from '../../abi/pci.ts';
import { extract } from '../decode/text.ts';
import { hidden, Why } from '../permissions/rows.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

const decode: CapabilityDecoder = (r, d) => {
  const title = 'Secondary PCI Express';
  if (!r.has(4, 8)) return { title };
  d.line('LnkCtl3', r.u32(4), '\t\tLnkCtl3: LnkEquIntrruptEn{1} PerformEqu{0}');
  const lanes: number[] = [];
  for (let lane = 0; lane < 16; lane++) if (extract(r.u32(8), lane, lane) === 1) lanes.push(lane);
  d.set('LaneErrStat', 'lanes', lanes);
  d.lines.push(`\t\tLaneErrStat: ${lanes.length === 0 ? '0' : `LaneErr at lane: ${lanes.join(' ')}`}`);
  return { title };
};

export const secondaryExpress: CapabilityKind = {
  id: ExtCapId.SECPCI,
  extended: true,
  name: 'Secondary PCI Express',
  access: hidden(Why.REACHES_BEYOND),
  decode,
};
