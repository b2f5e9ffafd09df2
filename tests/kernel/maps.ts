/**
 * Maps memory at the limits of a container, and reports written pages of a container and of an
 * address space. The argument is the story.
 */
import { open } from '../../src/api/open.ts';
import { VfioError } from '../../src/base/errno.ts';
import { EduDriver } from '../../src/drivers/edu/edu-driver.ts';

const lines: string[] = [];
const log = { log: (level: string, text: string) => void (level === 'warn' && lines.push(text)) };

/** Mappings until the kernel allows no more. */
async function limit(): Promise<object> {
  using dev = await open('01:00.0', { via: 'group', log });
  const { space } = dev.dma;
  const first = space.available;
  using memory = space.allocate(4096);
  let refused = '';
  for (let i = 0n; refused === ''; i++) {
    try {
      space.map({ iova: 0x10_0000n + i * 0x2000n, memory });
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      refused = error.explain();
    }
  }
  const left = space.available;
  return { first, left, refused, unmapped: Number(space.unmapAll()), references: memory.references };
}

/** The pages that the device writes. */
async function dirty(): Promise<object[]> {
  const found: object[] = [];
  for (const via of ['group', 'cdev'] as const) {
    using dev = await open('01:00.0', { via, log });
    using edu = new EduDriver(dev);
    const { space } = dev.dma;
    using memory = space.allocate(0x8000);
    space.map({ iova: 0x10_0000n, memory });
    const tracking = space.dirty!;
    tracking.start();
    await edu.copyFromDevice(0x10_2000n, 64);
    await edu.copyFromDevice(0x10_6000n, 64);
    const first = new Uint8Array(8);
    tracking.report(0x10_0000n, 0x8000n, 4096n, first);
    await edu.copyFromDevice(0x10_1000n, 64);
    const second = new Uint8Array(8);
    const unmapped = Number(tracking.unmap(0x10_0000n, 0x8000n, 4096n, second));
    tracking.stop();
    found.push({ via, first: first[0], second: second[0], unmapped, references: memory.references });
  }
  return found;
}

const answers = process.argv[2] === 'limit' ? await limit() : await dirty();
console.log(JSON.stringify({ answers, lines }));
