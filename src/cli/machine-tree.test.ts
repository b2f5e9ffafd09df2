import { expect, it } from 'vitest';
import { alone, openAll, testMachine } from '../../tests/kit/machines.ts';
import { recordingTerminal } from '../../tests/kit/recording-terminal.ts';
import { machineDocument } from '../api/machine-document.ts';
import { treeLines } from './machine-tree.ts';

it('a function whose DMA does not land, or whose interrupts are lost, says how often and why', async () => {
  const { machine } = testMachine({ devices: [alone('01.0')] });
  machine.bind('0000:01:00.0', 'vfio-pci');
  const { device } = openAll(machine, '0000:01:00.0');
  const { host } = machine.function('0000:01:00.0');
  const text = () => treeLines(machineDocument(machine), recordingTerminal())[1]!.split('  ').at(-1);
  expect(text()).toMatch(/^open by process 1/);
  expect(text()).not.toContain('faults');
  const write = () => expect(host.dma.write(0x1000n, new Uint8Array(4))).rejects.toThrow();
  await write();
  device.region(7).write16(4, 0x6);
  for (let i = 0; i < 2; i++) await write();
  host.irq.trigger(0);
  expect(text()).toMatch(/; DMA faults: bus-master-off 1, not-mapped 2; interrupts dropped: [a-z-]+ 1$/);
});
