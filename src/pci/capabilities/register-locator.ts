/** MMIO Register Block Locator (PCI Express Base 6.3, 7.9.31): blocks of registers in BARs. */
import { ExtCapId } from '../../abi/pci.ts';
import { choice, extract, hexDigits } from '../decode/text.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

const choices = { block: choice(['Empty', 'MCAP'], (value) => `Reserved (${value})`) };
const [FIRST, PER_BLOCK] = [8, 8];

const decode: CapabilityDecoder = (r, d) => {
  const title = 'MMIO Register Block Locator';
  if (!r.has(4, 4)) return { title };
  // A length that leaves no room for a block has none.
  const count = Math.floor((extract(r.u32(4), 11, 0) - FIRST) / PER_BLOCK);
  for (let i = 0; i < count; i++) {
    const at = FIRST + PER_BLOCK * i;
    if (!r.has(at, PER_BLOCK)) {
      d.lines.push('\t\t<unreadable>');
      break;
    }
    const name = `Locator${i}`;
    const offset = hexDigits(r.u64(at) & ~0xffffn, 16);
    d.line(name, r.u32(at), `\t\t${name}: BIR: BAR{BIR=2:0}, ID: {15:8 block}, offset: ${offset}`).set(name, 'offset', `0x${offset}`);
  }
  return { title };
};

export const registerLocator: CapabilityKind = {
  id: ExtCapId.MRBL,
  extended: true,
  name: 'MMIO Register Block Locator',
  choices,
  decode,
};
