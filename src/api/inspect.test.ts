/** console.log prints an object of this package as one line, without an access to the device. */
import { inspect } from 'node:util';
import { expect, it } from 'vitest';
import { VfioError } from '../base/errno.ts';
import { Machine } from '../engine/machine/machine.ts';
import { edu } from '../models/edu/edu.ts';
import { HeapMemory } from '../sys/fake.ts';
import { open } from './open.ts';

it('each object of a driver prints as one line', async () => {
  using dev = await open('sim:edu');
  const irq = dev.msi.enable(1);
  const buffer = dev.dma.alloc(4096);
  const lines = [dev, irq, buffer, dev.dma, dev.config, dev.device].map((each) => inspect(each));
  expect(lines).toEqual([
    'DriverDevice 0000:00:04.0 (1234:11e8): 1 MSI interrupts, 1 DMA buffers',
    'Interrupts of 0000:00:04.0: 1 MSI',
    'DmaBuffer of 4096 bytes at IOVA 0x100000',
    'DriverDma with 1 buffers',
    'ConfigView of 256 bytes',
    expect.stringMatching(/^DeviceFile of 0000:00:04\.0, open by process \d+$/),
  ]);
  dev.close();
  expect(inspect(dev)).toBe('DriverDevice 0000:00:04.0 (1234:11e8): closed');
});

it('a machine and each of its parts print as one line', () => {
  using machine = new Machine(
    { name: 'desk', devices: [{ at: '04.0', model: edu(), driver: 'vfio-pci' }] },
    { allocate: HeapMemory.allocate },
  );
  const fn = machine.function('00:04.0');
  const lines = [machine, fn, fn.group, machine.openContainer(), machine.openGroup(fn.group!.id), machine.process];
  expect(lines.map((each) => inspect(each))).toEqual([
    'Machine desk: 1 functions, 1 groups',
    'PciFunction 0000:00:04.0 1234:11e8 edu, driver vfio-pci, group 0',
    'IsolationGroup 0: 0000:00:04.0',
    'Container with 0 groups',
    expect.stringMatching(/^GroupFile of group 0, open by /),
    expect.stringMatching(/^Process \d+, uid 0$/),
  ]);
});

it('an error prints with its code first, and its message has no code', () => {
  const error = new VfioError('EBUSY', 'group 12 is open', { fix: 'Close it.', cause: new Error('below') });
  expect(error.message).toBe('group 12 is open');
  expect([String(error), error.stack!.split('\n')[0]]).toEqual(['EBUSY: group 12 is open', 'EBUSY: group 12 is open']);
  expect(inspect(error)).toMatch(/^EBUSY: group 12 is open\n {2}fix: Close it\.\n {4}at .*\n[\s\S]*cause: Error: below$/);
});
