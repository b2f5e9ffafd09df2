/** Programs that map the regions of devices, as they do with Linux's VFIO. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { BarAccess } from '../../src/api/exec.ts';
import { loadModel, machineAround, startMachine } from '../../src/api/simulation.ts';
import { modelAddress } from '../../src/cli/serve/model-address.ts';
import { edu } from '../../src/models/edu/edu.ts';
import mapped from '../kit/mapped-model.ts';
import { compiled, compiler, type Ended, folder, runOn, runWith } from './programs.ts';

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

describe.skipIf(compiler === null || process.arch !== 'x64')('a program that maps the registers and doorbells of NVMe', () => {
  async function runNvme(bars: BarAccess, doorbells: string, ...command: string[]): Promise<Ended> {
    const around = machineAround(await loadModel(modelAddress(`nvme,size=64M,doorbells=${doorbells}`)));
    const { machine, owns } = startMachine(around, {});
    using _owns = owns;
    const given =
      command.length > 0 ? command : [compiled('maps-doorbells'), `/dev/vfio/${machine.function(around.bdf).group!.id}`, around.bdf];
    return await runWith({ bars }, machine, ...given);
  }

  it.each([
    ['trap', 'registers', 'registers, registers; registers'],
    ['trap', 'mapped', 'registers, registers; registers'],
    ['poll', 'registers', 'registers, registers; registers'],
    ['poll', 'mapped', 'registers, memory; memory'],
  ] as const)('has them by %s, where the model has doorbells as %s', async (bars, doorbells, kinds) => {
    const { status, lines } = await runNvme(bars, doorbells);
    expect(lines).toEqual(['mappable 1', kinds, 'version 10400', 'device still open EBUSY', 'device closed yes']);
    expect(status).toBe(0);
  });

  it('cannot map them where BARs are only read and written', async () => {
    expect(await runNvme('rw', 'mapped')).toEqual({ status: 0, lines: ['mappable 0', 'mmap EINVAL'] });
  });

  const hasQemu = spawnSync('qemu-img', ['--help'], { encoding: 'utf8' }).stdout?.includes(' nvme ') ?? false;

  it.skipIf(!hasQemu).each([
    ['trap', 'registers'],
    ['poll', 'mapped'],
  ] as const)('QEMU copies a disk there and back, by %s', async (bars, doorbells) => {
    const [source, back] = [join(folder, 'source.raw'), join(folder, `back-${bars}.raw`)];
    const bytes = Buffer.alloc(8 << 20, 'a disk that QEMU writes ');
    writeFileSync(source, bytes);
    const disk = 'nvme://0000:01:00.0/1';
    const script = `set -e
      qemu-img convert -n -f raw -O raw ${source} ${disk}
      qemu-img dd -f raw -O raw if=${disk} of=${back} bs=1M count=8
      qemu-img bench -c 2000 -d 16 -s 4096 -f raw ${disk} >/dev/null`;
    expect(await runNvme(bars, doorbells, 'sh', '-c', script)).toEqual({ status: 0, lines: [] });
    expect(readFileSync(back).equals(bytes)).toBe(true);
  });
});
