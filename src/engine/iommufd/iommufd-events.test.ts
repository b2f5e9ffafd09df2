import { expect, it } from 'vitest';
import { ManualClock } from '../../base/clock.ts';
import { edu } from '../../models/edu/edu.ts';
import { HeapMemory } from '../../sys/fake.ts';
import { Machine } from '../machine/machine.ts';

it('an iommufd emits its mappings, refusals included, and the devices that are attached', async () => {
  using machine = new Machine(
    { devices: [{ at: '04.0', model: edu(), driver: 'vfio-pci' }] },
    { allocate: HeapMemory.allocate, clock: new ManualClock() },
  );
  const flow = machine.events({ devices: ['iommufd 0'] });
  const iommufd = machine.openIommufd();
  const cdev = machine.openDevice('0000:00:04.0');
  cdev.bind({ iommufd: () => iommufd });
  const ioas = iommufd.allocIoas();
  const vaddr = machine.process.addressSpace.anonymous(8192);
  const map = (flags: number) =>
    iommufd.map({ ioas, process: machine.process, flags, source: { kind: 'address', vaddr }, length: 8192n, iova: 0n });
  map(4);
  expect(() => map(0)).toThrow();
  cdev.attach(ioas);
  iommufd.unmap(ioas, 0n, 2n ** 64n - 1n);
  cdev.detach();
  iommufd.close();
  cdev.close();
  const seen: string[] = [];
  for await (const event of flow) {
    const { kind, step, iova, size, access, errno } = event as unknown as Record<string, unknown>;
    seen.push([kind, step, iova, size, access, errno].filter((field) => field !== undefined).join(' '));
    if (seen.length === 7) break;
  }
  expect(seen).toEqual([
    'open opened',
    'dma-map 8192 8192 read',
    'dma-map 0 8192 EINVAL',
    'group attached',
    'dma-unmap 0 8192',
    'group detached',
    'open closed',
  ]);
  expect(machine.openIommufd().events.name).toBe('iommufd 0');
});
