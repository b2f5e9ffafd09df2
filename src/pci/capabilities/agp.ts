/**
 * AGP (Accelerated Graphics Port 3.0, 6.1). Bit 3 of the status of an AGP 3.0 device says that its
 * rate bits mean faster rates.
 */
import { CapId } from '../../abi/pci.ts';
import { choice, extract } from '../decode/text.ts';
import { fixed } from '../permissions/rows.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

const choices = { plusOne: choice([], (value) => String(value + 1)) };
const rates = { 2: ['x1', 'x2', 'x4'], 3: ['x4', 'x8', 'x16'] } as const;
const [STATUS, COMMAND, SIZE] = [4, 8, 12];

function rateText(register: number, generation: 2 | 3): string {
  const offered = rates[generation].filter((_, bit) => ((register >> bit) & 1) === 1);
  return offered.length === 0 ? '<none>' : offered.join(',');
}

const decode: CapabilityDecoder = (r, d) => {
  const title = d.text('version', r.u8(2), 'AGP version {major=7:4 hex1}.{minor=3:0 hex1}');
  if (!r.has(STATUS, 8)) return { title };
  const status = r.u32(STATUS);
  const command = r.u32(COMMAND);
  const generation = extract(r.u8(2), 7, 4) >= 3 && (status & 8) !== 0 ? 3 : 2;
  const lines = [
    [
      'status',
      status,
      'Status: RQ={31:24 plusOne} Iso{16} ArqSz={15:13} Cal={12:10} SBA{9} ITACoh{8} GART64{7} HTrans{6} 64bit{5} FW{4} AGP3{3}',
    ],
    ['command', command, 'Command: RQ={31:24 plusOne} ArqSz={15:13} Cal={12:10} SBA{9} AGP{8} GART64{7} 64bit{5} FW{4}'],
  ] as const;
  for (const [name, value, template] of lines) {
    const rate = rateText(value, generation);
    d.line(name, value, `\t\t${template} Rate=${rate}`).set(name, 'Rate', rate);
  }
  return { title };
};

export const acceleratedGraphics: CapabilityKind = {
  id: CapId.AGP,
  name: 'AGP',
  access: { length: fixed(SIZE), why: 'read-only: rates are agreed with the bridge' },
  choices,
  decode,
};
