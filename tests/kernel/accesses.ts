/**
 * Makes accesses to mapped registers, as many as its second argument says, and prints how many
 * loads gave another value than the device's.
 */
import { Command, Config } from '../../src/abi/pci.ts';
import { RegionIndex } from '../../src/abi/vfio.ts';
import { KernelDevice } from '../../src/kernel/device.ts';
import { parseBdf } from '../../src/pci/bdf.ts';
import { AccessSequence } from './access-sequence.ts';

const [bdf = '', count = '0'] = process.argv.slice(2);
const device = KernelDevice.open({ kind: 'pci', bdf: parseBdf(bdf) });
device.region(RegionIndex.CONFIG).write16(Config.COMMAND, Command.MEMORY);
const mapping = device.region(0).map();
const sequence = new AccessSequence();
let wrong = 0;
const total = Number(count);
for (let i = 0; i < total; i++) {
  const { write, width, offset, low, high } = sequence.advance();
  if (width === 8) {
    const value = (BigInt(high) << 32n) | BigInt(low);
    if (write) mapping.write64(offset, value);
    else if (mapping.read64(offset) !== value) wrong++;
  } else if (write) {
    if (width === 4) mapping.write32(offset, low);
    else if (width === 2) mapping.write16(offset, low);
    else mapping.write8(offset, low);
  } else {
    const value = width === 4 ? mapping.read32(offset) : width === 2 ? mapping.read16(offset) : mapping.read8(offset);
    if (value !== low) wrong++;
  }
}
mapping[Symbol.dispose]();
device.close();
console.log(JSON.stringify({ wrong }));
