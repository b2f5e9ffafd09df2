import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ControllerUnderTest } from '../../../tests/kit/nvme/controller-under-test.ts';
import { AdminOpcode, NvmeReg, NvmOpcode } from '../../abi/nvme.ts';
import { MemoryStorage } from '../storage/memory-storage.ts';

const QUEUES = 3;

/** Values that mean something, and any others. */
const interesting = (...values: number[]) => fc.oneof(fc.constantFrom(...values), fc.integer({ min: 0, max: 0xffff_ffff }));

const command = fc.record({
  opcode: fc.oneof(fc.constantFrom(...Object.values(AdminOpcode), ...Object.values(NvmOpcode)), fc.integer({ min: 0, max: 255 })),
  flags: fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: 0, max: 255 }) }),
  cid: fc.integer({ min: 0, max: 40 }),
  nsid: interesting(0, 1, 2, 0xffff_ffff),
  prp1: interesting(0x18_0000, 0x18_0004, 0x19_0000, 0x1f_ff00),
  prp2: interesting(0, 0x1a_0000, 0x1b_0008),
  cdw10: interesting(0, 1, 2, 0xf_0001, 0xf_0002, 0x7f_0001, 7, 0x8000_0006, 0xff_0002),
  cdw11: interesting(0, 1, 3, 0x1_0001, 0x2_0003),
  cdw12: interesting(0, 7, 0xff, 0x4000_0000),
  cdw13: interesting(0),
});

const step = fc.oneof(
  { weight: 20, arbitrary: fc.record({ kind: fc.constant('command' as const), queue: fc.integer({ min: 0, max: QUEUES }), command }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      register: fc.oneof(
        fc.constantFrom(...Object.values(NvmeReg)),
        fc.integer({ min: 0, max: 0x7ff }).map((n) => 4 * n),
      ),
      value: interesting(0, 1, 0x0046_0001, 0x0046_4001, 0x001f_001f, 0x4e56_4d65),
    }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('consume' as const), queue: fc.integer({ min: 0, max: QUEUES }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 20 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('enable' as const) }) },
);

it('whatever a host does, the controller answers, throws nothing, and after a reset works as new', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 120 }), fc.constantFrom('intx', 'msi', 'msix'), async (steps, mode) => {
      const c = new ControllerUnderTest({
        mode: mode as 'intx',
        queues: QUEUES,
        queueEntries: 64,
        namespaces: [{ storage: new MemoryStorage(2 ** 18) }, { storage: new MemoryStorage(2 ** 18), limits: { latencyMs: 3 } }],
      });
      const begin = () => {
        c.w(NvmeReg.CC, 0);
        c.reuse();
        c.enable(16);
        for (let id = 1; id <= QUEUES; id++) expect(c.createPair(id, 8, { cqSize: 4, vector: 0 })).toEqual([0, 0]);
      };
      begin();
      for (const s of steps) {
        if (s.kind === 'command') c.submit(s.queue, s.command);
        else if (s.kind === 'write') c.w(s.register, s.value);
        else if (s.kind === 'consume') c.completions(s.queue);
        else if (s.kind === 'wait') {
          c.host.clock.advance(s.ms);
          await Promise.resolve();
        } else begin();
      }
      c.host.clock.advance(1000);
      await Promise.resolve();
      expect(c.host.logged.filter((l) => l.level === 'error')).toEqual([]);
      begin();
      c.submit(1, { opcode: NvmOpcode.READ, nsid: 1, prp1: 0x18_0000, cdw12: 0 });
      await Promise.resolve();
      expect(c.completions(1)).toMatchObject([{ code: 0 }]);
      c.model.dispose!();
      expect(c.host.clock.pendingTimers).toBe(0);
      expect(c.host.asserted).toBe(false);
    }),
    { numRuns: 200 },
  );
});
