/**
 * A device with everything that `edu` lacks: PCI Express with a function-level reset, MSI-X, memory
 * behind a BAR that a guest maps, and a 64-bit BAR. The test serves it to a guest as a user would
 * serve a device of their own.
 */
import { bar, device, memory, registers, u32 } from 'vfio-ts';

const Card = registers({
  /** Interrupts by this vector. */
  ring: u32(0x00),
  /** Adds so many bytes of the memory up; then, the sum. */
  sum: u32(0x04),
  /** Fills the memory with this byte. */
  fill: u32(0x08),
});

export default device({
  id: '1234:cafd',
  name: 'card',
  class: 'unclassified',
  msix: 4,
  intx: 'A',
  bars: { bar0: bar('4K', Card), bar2: memory('64K', { type: 'mem64', prefetchable: true }) },
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
