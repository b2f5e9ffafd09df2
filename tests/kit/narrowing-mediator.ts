// A mediator that lets its user map one page of BAR 2, forbids writes to BAR 0, and adds two
// regions.
import type { DirectMemory, MediatedDevice, Mediator } from '../../src/doors/machine.ts';
import { RegionFlags } from '../../src/doors/machine.ts';

interface Held {
  readonly device: MediatedDevice;
  readonly memory: DirectMemory;
}

export default {
  name: 'narrowing',
  open: (device) => {
    const memory = device.allocate(4096);
    return {
      handle: { device, memory },
      regions: {
        0: { info: (_, info) => ({ ...info, flags: info.flags & ~RegionFlags.WRITE }) },
        2: { info: (_, info) => (info.size === 0 ? info : { ...info, sparseAreas: [{ offset: 0, size: 4096 }] }) },
      },
      addedRegions: [
        { type: 7, subtype: 1, size: 4096, memory },
        { type: 7, subtype: 2, size: 8, read: (_, offset, into) => into.fill(0x40 + offset).length },
      ],
    };
  },
  release: ({ memory }) => memory[Symbol.dispose](),
} satisfies Mediator<Held>;
