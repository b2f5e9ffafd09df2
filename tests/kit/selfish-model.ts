// A device that takes its thread for itself, or ends it, one way in each register. The access has
// its answer first.
import { existsSync } from 'node:fs';
import { bar, device, registers, u32 } from 'vfio-ts';

const Selfish = registers({
  id: u32(0),
  untilFile: u32(4),
  forEver: u32(8),
  heap: u32(12),
  exit: u32(16),
});

export default ({ file = '' } = {}) =>
  device({
    id: '1234:5e1f',
    name: 'selfish',
    bars: { bar0: bar('4K', Selfish) },
    read: { 'bar0.id': () => 0x5e1f },
    on: {
      'bar0.untilFile'() {
        setImmediate(() => {
          while (!existsSync(file));
        });
      },
      'bar0.forEver'() {
        setImmediate(() => {
          for (;;);
        });
      },
      'bar0.heap'() {
        setImmediate(() => {
          const all: number[][] = [];
          for (;;) all.push(new Array(100_000).fill(all.length));
        });
      },
      'bar0.exit'() {
        setImmediate(() => process.exit(7));
      },
    },
  });
