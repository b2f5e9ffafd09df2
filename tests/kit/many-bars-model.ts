/**
 * A device with every kind of region, for comparing ways to reach it. No register changes by
 * itself.
 */
import { bar, memory } from '../../src/models/kit/bar.ts';
import { device } from '../../src/models/kit/device.ts';
import { reg } from '../../src/models/kit/register.ts';
import type { DeviceModel } from '../../src/pci/declaration.ts';

export default function manyBars(): DeviceModel {
  const rom = new Uint8Array(2048).fill(0x5a);
  rom.set([0x55, 0xaa, 4]);
  return device({
    id: '1234:be57',
    pcie: { flr: true },
    pm: true,
    intx: 'A',
    msi: 4,
    msix: { vectors: 8, bar: 3 },
    rom,
    bar0: bar('8K', { scratch: reg(0x00), wide: reg(0x08).u64(), high: reg(0x1000), fixed: reg(0x10).ro(0x1234_5678) }),
    bar1: memory('64K'),
    bar2: bar('256', { port: reg(0x00), other: reg(0x04) }, { type: 'io' }),
    bar3: bar('16K', { beside: reg(0x3000) }),
    bar4: memory('64K', { type: 'mem64', prefetchable: true }),
  });
}
