/**
 * A device with every kind of region, for comparing ways to reach it. No register changes by
 * itself.
 */

import { registers, u32, u64 } from '../../src/base/registers.ts';
import { bar, memory } from '../../src/models/kit/bar.ts';
import { device } from '../../src/models/kit/device.ts';
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
    bars: {
      bar0: bar('8K', registers({ scratch: u32(0x00), wide: u64(0x08), high: u32(0x1000), fixed: u32(0x10, 'ro') }), {
        fixed: { reset: 0x1234_5678 },
      }),
      bar1: memory('64K'),
      bar2: bar('256', registers({ port: u32(0x00), other: u32(0x04) }), {}, { type: 'io' }),
      bar3: bar('16K', registers({ beside: u32(0x3000) })),
      bar4: memory('64K', { type: 'mem64', prefetchable: true }),
    },
  });
}
