/**
 * A device with everything that `edu` lacks: PCI Express with a function-level reset, MSI-X, memory
 * behind a BAR that a guest maps, and a 64-bit BAR. The test serves it to a guest as a user would
 * serve a device of their own.
 */
import { bar, device, memory, reg } from 'vfio-ts';

export default device({
  id: '1234:cafd',
  name: 'card',
  class: 'unclassified',
  msix: 4,
  intx: 'A',
  bar0: bar('4K', {
    /** Interrupt by this vector. */
    ring: reg(0x00),
    /** Add up so many bytes of the memory; afterwards, the sum. */
    sum: reg(0x04),
    /** Fill so many bytes of the memory, from the start, with the written value. */
    fill: reg(0x08),
  }),
  bar2: memory('64K', { type: 'mem64', prefetchable: true }),
  on: {
    'bar0.ring': ({ irq }, vector) => void irq.trigger(vector),
    'bar0.sum'({ bar0, bar2 }, count) {
      let sum = 0;
      for (const byte of bar2.subarray(0, count)) sum += byte;
      bar0.sum = sum;
    },
    'bar0.fill'({ bar2 }, byte) {
      bar2.fill(byte & 0xff);
    },
  },
});
