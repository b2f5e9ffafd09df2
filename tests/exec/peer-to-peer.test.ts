/** Devices that reach the regions of others, which their program has mapped (peer-to-peer DMA). */
import { describe, expect, it } from 'vitest';
import { machineOfModels } from '../../src/api/exec-machine.ts';
import { EventStream } from '../../src/events/stream.ts';
import { edu } from '../../src/models/edu/edu.ts';
import { compiled, compiler, runOn } from './programs.ts';

describe.skipIf(compiler === null || process.arch !== 'x64')('a device that does DMA into registers of another', () => {
  it('reaches them by the address of their mapping, while they answer', async () => {
    using events = new EventStream();
    const { machine, owns } = machineOfModels([edu(), edu()], { events });
    using _owns = owns;
    const both = ['0000:01:00.0', '0000:02:00.0'].flatMap((bdf) => [`/dev/vfio/${machine.function(bdf).group!.id}`, bdf]);
    const { status, lines } = await runOn(machine, compiled('peer-to-peer'), ...both);
    expect(lines).toEqual([
      'memory ok',
      'registers ok',
      'identification 010000ed',
      'written edcba987',
      'read edcba987',
      'without memory decoding edcba987',
      'unmap ok',
      'device ok',
    ]);
    expect(status).toBe(0);
  });
});
