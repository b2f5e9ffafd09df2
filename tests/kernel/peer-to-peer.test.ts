/** A device's DMA into a BAR of another: our client on our virtual kernel. */
import { expect, it } from 'vitest';
import { machineOfModels } from '../../src/api/exec-machine.ts';
import { EventStream } from '../../src/events/stream.ts';
import { edu } from '../../src/models/edu/edu.ts';
import mapped from '../kit/mapped-model.ts';
import { answersOf } from './machine.ts';

it.skipIf(process.arch !== 'x64').each([
  ['group', 'by its address in the process'],
  ['cdev', 'by a dma-buf'],
])('S1-07 a device opened by %s reaches a BAR of another, %s (skipped unless on x64)', async (via) => {
  using events = new EventStream();
  const { machine, owns } = machineOfModels([edu({ dmaMs: 0 }), mapped], { events });
  using _owns = owns;
  expect(await answersOf(machine, 'reaches-bars', [via, '0000:01:00.0', '0000:02:00.0'])).toEqual({
    references: 2,
    value: 0x8765_4321,
    kept: 1,
    left: 0,
    leaked: 0,
  });
});
