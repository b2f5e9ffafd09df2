/**
 * Accesses to mapped registers as a device sees them: our client on our virtual kernel, which
 * carries out each instruction of the program on the model. The client's instructions are real, and
 * the model's are the accesses that the processor would make.
 *
 * VFIO_TS_ACCESSES=10000000 makes as many, for minutes.
 */
import { expect, it } from 'vitest';
import { machineAround, startMachine } from '../../src/api/simulation.ts';
import { CountingModel, counting } from './counting-model.ts';
import { answersOf } from './machine.ts';

const ACCESSES = Number(process.env.VFIO_TS_ACCESSES ?? 100_000);

it.skipIf(process.arch !== 'x64')(
  'house: each access to a mapped register is one access of its width, in order (skipped unless on x64)',
  async () => {
    const model = new CountingModel();
    const around = machineAround(counting(model));
    const { machine, owns } = startMachine(around, {});
    using _owns = owns;
    const answers = await answersOf(machine, 'accesses', [around.bdf, String(ACCESSES)]);
    expect({ answers, wrong: model.wrong, wrongs: model.wrongs }).toEqual({ answers: { wrong: 0 }, wrong: [], wrongs: 0 });
    expect(Object.keys(model.counts).sort()).toEqual(['read 1', 'read 2', 'read 4', 'read 8', 'write 1', 'write 2', 'write 4', 'write 8']);
    expect(Object.values(model.counts).reduce((sum, n) => sum + n, 0)).toBe(ACCESSES);
  },
  3_600_000,
);
