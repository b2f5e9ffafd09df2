// A device that takes its thread for itself, or ends it, one way in each register. The access has
// its answer first.
import { execSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import { bar, device, registers, u32 } from 'vfio-ts';

const Selfish = registers({
  id: u32(0),
  untilFile: u32(4),
  forEver: u32(8),
  heap: u32(12),
  exit: u32(16),
  systemCall: u32(20),
  print: u32(24),
  timer: u32(28),
});

/** While a file beside `file` is there, the device does not load: it ends its thread, or waits. */
export default ({ file = '' } = {}) => {
  if (existsSync(`${file}.exit`) && !isMainThread) process.exit(8);
  while (existsSync(`${file}.wait`));
  return device({
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
        setTimeout(() => process.exit(7), 20);
      },
      'bar0.systemCall'() {
        // The shell outlives this process, but not the test's folder.
        setImmediate(() => execSync(`while test -d ${dirname(file)} && ! test -e ${file}; do sleep 0.1; done`));
      },
      'bar0.print'() {
        setImmediate(() => {
          for (let i = 0; ; i++) console.log(`line ${i} ${'x'.repeat(1000)}`);
        });
      },
      'bar0.timer'() {
        setInterval(() => {}, 1000);
      },
    },
  });
};
