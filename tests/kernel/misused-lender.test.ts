/** A broker of a device survives processes that misuse its socket. */
import { expect, it } from 'vitest';
import { Machine } from '../../src/engine/machine/machine.ts';
import { edu } from '../../src/models/edu/edu.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';
import { programsUseVfio } from '../kit/program-cases.ts';
import { answersOf } from './machine.ts';

it.skipIf(!programsUseVfio)('S2-27 keeps no descriptor that a process sends, and goes on when one hangs up', async () => {
  using machine = new Machine({ devices: [{ at: '04.0', model: edu(), driver: 'vfio-pci' }] }, { allocate: MemfdMemory.allocate });
  expect(await answersOf(machine, 'misuses-lender')).toEqual({ refused: 5, kept: 0 });
});
