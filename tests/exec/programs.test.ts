/** Programs that ask VFIO as on any Linux, on a machine of models. */
import { describe, expect, it } from 'vitest';
import { machineAround, startMachine } from '../../src/api/simulation.ts';
import { edu } from '../../src/models/edu/edu.ts';
import { compiled, compiler, runOn } from './programs.ts';

const answers = [
  'container ok',
  'version 0',
  'group ok',
  'bad pointer EFAULT',
  'GET_STATUS ok',
  'viable 1',
  'SET_CONTAINER ok',
  'SET_IOMMU ok',
  'GET_DEVICE_FD ok',
  'REGION_INFO ok',
  'REGION_INFO ok',
  'id 11e81234',
  'bus master',
  'edu 010000ed',
  'read into nowhere EFAULT',
  'MAP_DMA ok',
  'anonymous memory: through the device',
  'UNMAP_DMA ok',
  'unmapped 65536',
  'MAP_DMA ok',
  'shared memory: through the device',
  'UNMAP_DMA ok',
  'unmapped 65536',
  'SET_IRQS ok',
  'interrupts 1',
  'SET_IRQS of a container EINVAL',
  'a second open EBUSY',
  'read by a copy 4',
  "an open device's group EBUSY",
  'by its descriptor ENXIO',
  'read by a copy 4',
  'after the last close ok',
];

describe.skipIf(compiler === null)('a program on a machine with edu', () => {
  it.each([
    ['dynamic', []],
    ['static', ['-static']],
  ])('is answered as by Linux: %s', async (_, flags) => {
    const around = machineAround(edu());
    const { machine, owns } = startMachine(around, {});
    using _owns = owns;
    const { status, lines } = await runOn(machine, compiled('asks', ...flags), `/dev/vfio/${machine.function(around.bdf).group!.id}`);
    expect(lines).toEqual(answers);
    expect(status).toBe(7);
  });

  it('S2-52 executes another program, into whose memory no DMA leads', async () => {
    const around = machineAround(edu());
    const { machine, owns } = startMachine(around, {});
    using _owns = owns;
    const { lines } = await runOn(machine, compiled('executes'), `/dev/vfio/${machine.function(around.bdf).group!.id}`);
    expect(lines).toEqual(["the new program's memory is its own", 'the file has: by the device']);
  });
});
