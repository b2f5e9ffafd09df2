/**
 * A device by Linux's VFIO answers as it does in this process: any sequence of calls, also of wrong
 * ones, with the same values and the same errno, call by call.
 */
import { expect, it } from 'vitest';
import { Machine } from '../../src/engine/machine/machine.ts';
import { edu } from '../../src/models/edu/edu.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';
import manyBars from '../kit/many-bars-model.ts';
import { programsUseVfio } from '../kit/program-cases.ts';
import { answersOf } from './machine.ts';

const RUNS = 60;
const models = { any: manyBars, careless: edu };

for (const via of ['group', 'cdev']) {
  for (const which of ['any', 'careless'] as const) {
    it.skipIf(!programsUseVfio)(`${which} calls by ${via}, and in this process, are answered alike`, async () => {
      const devices = [{ at: '04.0', model: models[which](), driver: 'vfio-pci' }];
      using machine = new Machine({ devices }, { allocate: MemfdMemory.allocate });
      const environment = { ...process.env, VIA: via, RUNS: String(RUNS) };
      expect(await answersOf(machine, 'equal-calls', [which], { environment })).toEqual({ runs: RUNS });
    });
  }
}
