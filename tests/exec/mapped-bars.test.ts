/** Programs that map the regions of devices, as they do with Linux's VFIO. */
import { describe, expect, it } from 'vitest';
import { machineAround, startMachine } from '../../src/api/simulation.ts';
import { edu } from '../../src/models/edu/edu.ts';
import mapped from '../kit/mapped-model.ts';
import { compiled, compiler, runOn } from './programs.ts';

describe.skipIf(compiler === null || process.arch !== 'x64')('a program that maps the registers of edu', () => {
  it.each([
    ['dynamic', []],
    ['static', ['-static']],
  ])('accesses them as on hardware: %s', async (_, flags) => {
    const around = machineAround(edu());
    const { machine, owns } = startMachine(around, {});
    using _owns = owns;
    const { status, lines } = await runOn(machine, compiled('maps', ...flags), `/dev/vfio/${machine.function(around.bdf).group!.id}`);
    expect(lines).toEqual([
      'mappable 1',
      'private EINVAL',
      'past the end EINVAL',
      'config space EINVAL',
      'BAR 0 ok',
      'identification 010000ed',
      'liveness edcba987',
      'factorial 120',
      'memory disabled SIGBUS code 2 at +0',
      'memory enabled 010000ed',
      'child 010000ed',
      'by a copy 010000ed',
      'unmapped SIGSEGV code 1 at +0',
      'closed 010000ed',
      'device still open EBUSY',
      'device closed yes',
    ]);
    expect(status).toBe(0);
  });
});

describe.skipIf(compiler === null || process.arch !== 'x64')('a program that maps plain memory of a device', () => {
  it.each([
    ['dynamic', []],
    ['static', ['-static']],
  ])('has the very memory, without a tracer: %s', async (_, flags) => {
    const around = machineAround(mapped);
    const { machine, owns } = startMachine(around, {});
    using _owns = owns;
    const program = compiled('maps-memory', ...flags);
    const { status, lines } = await runOn(machine, program, `/dev/vfio/${machine.function(around.bdf).group!.id}`, around.bdf);
    expect(lines).toEqual([
      'descriptors left 0',
      'read stored through the mapping',
      'mapped written, its second page written',
      'fixed ok',
      'past the end EINVAL',
      'nowhere ENOMEM',
      'wrong 0, descriptors left 0',
      'traced 0',
      'device still open EBUSY',
      'device closed yes',
    ]);
    expect(status).toBe(0);
  });
});
