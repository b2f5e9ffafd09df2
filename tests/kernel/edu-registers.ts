/**
 * edu-registers.ts WAY EDU COUNT: makes accesses to mapped registers of an edu, and prints how many
 * loads gave another value than they should.
 */
import { Command, Config } from '../../src/abi/pci.ts';
import { RegionIndex } from '../../src/abi/vfio.ts';
import { KernelDevice } from '../../src/kernel/device.ts';
import { parseBdf } from '../../src/pci/bdf.ts';
import { eduAccesses } from './edu-accesses.ts';

const [via, edu = '', count = '0'] = process.argv.slice(2);
using device = KernelDevice.open({ kind: 'pci', bdf: parseBdf(edu) }, { via: via as 'group' | 'cdev' });
device.region(RegionIndex.CONFIG).write16(Config.COMMAND, Command.MEMORY);
using mapping = device.region(RegionIndex.BAR0).map();
let wrong = 0;
for (const { op, offset, width, value } of eduAccesses(Number(count))) {
  if (op === 'write') {
    if (width === 8) mapping.write64(offset, value);
    else mapping.write32(offset, Number(value));
  } else if ((width === 8 ? mapping.read64(offset) : BigInt(mapping.read32(offset))) !== value) wrong++;
}
console.log(JSON.stringify({ wrong }));
