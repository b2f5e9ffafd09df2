/**
 * A whole controller, driven through its registers by a host that behaves most of the time, against
 * the contents that its blocks may hold.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { AdminOpcode, NvmeReg, NvmOpcode } from '../../src/abi/nvme.ts';
import { Status } from '../../src/abi/nvme-status.ts';
import { settle } from '../kit/nvme/paged-host.ts';
import { TestStorage } from '../kit/nvme/test-storage.ts';
import { NvmeHost, PAIRS, ZONES } from './nvme-host.ts';

/** How long the project's soak runs make these tests. Default: 1. */
const FACTOR = Number(process.env.VFIO_FUZZ_FACTOR ?? '1');

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc') as () => void;

/** Bytes in use, on the heap and in buffers. */
function inUse(): number {
  gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

const word = fc.oneof(fc.constantFrom(0, 1, 2, 0xffff, 0x1_0000, 0x8000_0000, 0xffff_ffff), fc.integer({ min: 0, max: 0xffff_ffff }));
const queue = fc.integer({ min: 1, max: PAIRS });
const nsid = fc.constantFrom(1, 2);
const zone = fc.nat(ZONES - 1);

/** A command with one wrong field, and the expected report of it. */
const wrongs: readonly [fields: Record<string, number>, status: number][] = [
  [{ nsid: 0 }, Status.INVALID_NAMESPACE],
  [{ nsid: 3 }, Status.INVALID_NAMESPACE],
  [{ nsid: 0xffff_ffff }, Status.INVALID_NAMESPACE],
  [{ cdw11: 1 }, Status.LBA_OUT_OF_RANGE],
  [{ cdw11: 0x20_0000 }, Status.LBA_OUT_OF_RANGE],
  [{ cdw10: 0xffff_ffff }, Status.LBA_OUT_OF_RANGE],
  [{ cdw12: 0xffff }, Status.INVALID_FIELD],
  [{ prp1: 0x12_0001 }, Status.PRP_OFFSET_INVALID],
  [{ flags: 1 }, Status.INVALID_FIELD],
  [{ flags: 0xc0 }, Status.INVALID_FIELD],
  [{ opcode: NvmOpcode.WRITE_UNCORRECTABLE }, Status.INVALID_OPCODE],
  [{ opcode: 0xff }, Status.INVALID_OPCODE],
];

const io = fc.record({
  step: fc.constant('io' as const),
  queue,
  kind: fc.constantFrom('read', 'write', 'read', 'write', 'zero', 'deallocate', 'compare', 'verify', 'flush'),
  nsid,
  zone,
  zones: fc.integer({ min: 1, max: 6 }),
  offset: fc.oneof(fc.constant(0), fc.nat(1023)),
});

const step = fc.oneof(
  { weight: 40, arbitrary: io },
  {
    weight: 8,
    arbitrary: fc.record({ step: fc.constant('wrong' as const), queue, nsid, zone, which: fc.nat(wrongs.length - 1), write: fc.boolean() }),
  },
  { weight: 8, arbitrary: fc.record({ step: fc.constant('look' as const) }) },
  { weight: 4, arbitrary: fc.record({ step: fc.constant('end' as const), which: fc.nat(20) }) },
  { weight: 6, arbitrary: fc.record({ step: fc.constant('finish' as const) }) },
  { weight: 4, arbitrary: fc.record({ step: fc.constant('identify' as const), nsid }) },
  { weight: 3, arbitrary: fc.record({ step: fc.constant('event' as const) }) },
  { weight: 3, arbitrary: fc.record({ step: fc.constant('format' as const), nsid, lbaf: fc.nat(1) }) },
  { weight: 3, arbitrary: fc.record({ step: fc.constant('shadows' as const) }) },
  { weight: 3, arbitrary: fc.record({ step: fc.constant('abort' as const), queue, cid: fc.nat(200) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      step: fc.constant('pages' as const),
      kind: fc.constantFrom('direct', 'remote', 'remote', 'none', 'read-only'),
      page: fc.nat(95),
      count: fc.integer({ min: 1, max: 30 }),
      hold: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ step: fc.constant('remote queues' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({ step: fc.constant('reset' as const), how: fc.constantFrom('controller', 'subsystem', 'function', 'shutdown') }),
  },
  // From here on the host misbehaves.
  {
    weight: 1,
    arbitrary: fc.record({
      step: fc.constant('garbage' as const),
      queue: fc.nat(PAIRS),
      opcode: fc.oneof(fc.constantFrom(...Object.values(AdminOpcode)), fc.nat(255)),
      words: fc.array(word, { minLength: 6, maxLength: 6 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      step: fc.constant('register' as const),
      offset: fc.oneof(
        fc.constantFrom(...Object.values(NvmeReg)),
        fc.nat(20).map((n) => 0x1000 + 4 * n),
        fc.nat(0x7ff).map((n) => 4 * n),
      ),
      value: fc.oneof(word, fc.nat(20), fc.constantFrom(0, 0x46_0001, 0x46_4001, 0x46_8000, 0x4e56_4d65)),
    }),
  },
  { weight: 1, arbitrary: fc.record({ step: fc.constant('lie' as const), dword: fc.nat(7), value: fc.oneof(fc.nat(10), word) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      step: fc.constant('memory gone' as const),
      kind: fc.constantFrom('none', 'read-only', 'remote'),
      page: fc.nat(23),
    }),
  },
  { weight: 1, arbitrary: fc.record({ step: fc.constant('no bus mastering' as const) }) },
);

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Steps between a misbehaviour and a reset. */
const WILD_STEPS = 6;

async function take(h: NvmeHost, s: Step): Promise<void> {
  const { c, host } = h;
  if (h.wild && h.wildSteps++ === WILD_STEPS) await h.begin();
  switch (s.step) {
    case 'io':
      h.io(s.queue, s.kind as 'read', s.nsid, s.zone, s.zones, s.offset);
      break;
    case 'wrong': {
      const [fields, status] = wrongs[s.which]!;
      h.io(s.queue, s.write ? 'write' : 'read', s.nsid, s.zone, 1, 0, { fields, status });
      break;
    }
    case 'look':
      h.look();
      break;
    case 'end': {
      for (const { underWay } of h.storages) if (underWay.length > 0) underWay[s.which % underWay.length]!.end();
      break;
    }
    case 'finish':
      await h.finish();
      break;
    case 'identify':
      h.admin({ opcode: AdminOpcode.IDENTIFY, nsid: s.nsid, prp1: h.nowhere(1) });
      break;
    case 'event':
      h.admin({ opcode: AdminOpcode.ASYNC_EVENT_REQUEST }, null);
      break;
    case 'format':
      await h.format(s.nsid, s.lbaf);
      break;
    case 'shadows':
      await h.shadows();
      break;
    case 'abort':
      h.abort(s.queue, s.cid);
      break;
    case 'pages':
      await h.finish();
      h.slotPages(s.kind as 'remote', s.page, s.count);
      host.paged.hold = s.hold;
      break;
    case 'remote queues':
      for (const { sq, cq } of c.pairs.values()) {
        host.make('remote', sq, 1);
        host.make('remote', cq, 1);
      }
      break;
    case 'reset':
      await h.begin(s.how as 'controller');
      break;
    case 'garbage': {
      if (s.opcode === AdminOpcode.FORMAT_NVM) break;
      h.goWild();
      const [cdw10 = 0, cdw11 = 0, cdw12 = 0, ns = 0, flags = 0, page = 0] = s.words;
      // It writes no block: commands with an address get one past the end.
      const lba = s.queue === 0 ? {} : { cdw11: cdw11 | 1 };
      c.put(s.queue, {
        opcode: s.opcode,
        nsid: ns,
        flags: flags & 0xff,
        prp1: h.nowhere(page),
        prp2: h.nowhere(page + 1),
        cdw10,
        cdw11,
        cdw12,
        ...lba,
      });
      h.ring(s.queue);
      break;
    }
    case 'register':
      h.goWild();
      c.w(s.offset, s.value);
      break;
    case 'lie':
      h.lie(s.dword, s.value);
      break;
    case 'memory gone':
      h.goWild();
      host.make(s.kind as 'none', 0x10_0000 + s.page * 4096, 1);
      break;
    case 'no bus mastering':
      h.goWild();
      host.make('none');
      break;
  }
  await settle(3);
}

it(
  'whatever a host does: blocks hold allowed contents, well-formed commands end as they must, and a reset always helps',
  async () => {
    let ended = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 120, size: 'max' }),
        fc.constantFrom('intx', 'msi', 'msix'),
        fc.record({ read: fc.boolean(), write: fc.boolean() }),
        async (steps, mode, blocks) => {
          const storages = [new TestStorage(ZONES * 4096), new TestStorage(ZONES * 4096)];
          storages[0]!.blocks = blocks;
          storages[1]!.blocks = { read: blocks.write, write: blocks.read };
          const h = new NvmeHost(storages, mode as 'msix');
          await h.begin();
          for (const s of steps) await take(h, s);
          if (!h.wild) await h.finish();
          await h.begin();
          h.check();
          for (const nsid of [1, 2]) for (let zone = 0; zone < ZONES; zone += 4) h.io(1, 'read', nsid, zone, 4, 0);
          await h.finish();
          expect(h.host.logged.filter((l) => l.level === 'error')).toEqual([]);
          h.c.model.dispose!();
          expect(h.host.clock.pendingTimers).toBe(0);
          expect(h.host.asserted).toBe(false);
          expect(storages.map((s) => [s.queues, s.underWay.length])).toEqual([
            [0, 0],
            [0, 0],
          ]);
          ended += h.ended;
        },
      ),
      { numRuns: 120 * FACTOR },
    );
    // Without ended commands the test says little.
    expect(ended).toBeGreaterThan(1000);
  },
  180_000 * FACTOR,
);

it('whatever a host does: the controller keeps no memory of it', async () => {
  const storages = [new TestStorage(ZONES * 4096), new TestStorage(ZONES * 4096)];
  const h = new NvmeHost(storages, 'msix');
  await h.begin();
  /** The least of a few looks, after as many steps each. */
  const least = async (looks: number): Promise<number> => {
    let least = Number.POSITIVE_INFINITY;
    for (let look = 0; look < looks; look++) {
      for (const s of fc.sample(step, { seed: look, numRuns: 300 })) await take(h, s);
      await h.begin();
      h.forget();
      least = Math.min(least, inUse());
    }
    return least;
  };
  await least(3);
  const before = await least(3);
  await least(6);
  // Compiled code stays below this; a buffer or a table kept for each life does not.
  expect((await least(3)) - before).toBeLessThan(500_000);
});
