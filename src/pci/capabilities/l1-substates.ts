/** L1 power management substates of a link (PCI Express Base 6.0, 7.8.3). */
import { ExtCapId } from '../../abi/pci.ts';
import { extract } from '../decode/text.ts';
import { hidden, Why } from '../permissions/rows.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';
import { latency } from './latency-tolerance.ts';

const decode: CapabilityDecoder = (r, d) => {
  const title = 'L1 PM Substates';
  if (!r.has(4, 12)) return { title };
  const cap = r.u32(4);
  const control1 = r.u32(8);
  const control2 = r.u32(12);
  const power = (scale: number, value: number) => (scale === 3 ? '<error>' : `${value * [2, 10, 100][scale]!}us`);
  d.line('L1SubCap', cap, '\t\tL1SubCap: PCI-PM_L1.2{0} PCI-PM_L1.1{1} ASPM_L1.2{2} ASPM_L1.1{3} L1_PM_Substates{4}');
  const twelve = (cap & 0x5) !== 0;
  if (twelve) {
    const on = power(extract(cap, 17, 16), extract(cap, 23, 19));
    d.set('L1SubCap', 'PortTPowerOnTime', on);
    d.line('L1SubCap', cap, `\t\t\t  PortCommonModeRestoreTime={15:8}us PortTPowerOnTime=${on}`);
  }
  d.line('L1SubCtl1', control1, '\t\tL1SubCtl1: PCI-PM_L1.2{0} PCI-PM_L1.1{1} ASPM_L1.2{2} ASPM_L1.1{3}');
  if (!twelve) {
    d.lines.push('\t\tL1SubCtl2:');
    return { title };
  }
  const scale = extract(control1, 31, 29);
  const threshold = scale > 5 ? '<error>' : latency(extract(control1, 25, 16), scale);
  const aspm = (cap & 0x4) !== 0;
  if (aspm) d.set('L1SubCtl1', 'LTR1.2_Threshold', threshold);
  d.line('L1SubCtl1', control1, `\t\t\t   T_CommonMode={15:8}us${aspm ? ` LTR1.2_Threshold=${threshold}` : ''}`);
  const on = power(extract(control2, 1, 0), extract(control2, 7, 3));
  d.set('L1SubCtl2', 'T_PwrOn', on).lines.push(`\t\tL1SubCtl2: T_PwrOn=${on}`);
  return { title };
};

export const l1Substates: CapabilityKind = {
  id: ExtCapId.L1SS,
  extended: true,
  name: 'L1 PM Substates',
  access: hidden(Why.REACHES_BEYOND),
  decode,
};
