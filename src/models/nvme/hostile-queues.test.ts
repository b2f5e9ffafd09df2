/**
 * Queues of hosts that mean no good: memory that changes under them, at the edges of the address
 * space, or that never answers.
 */
import { expect, it } from 'vitest';
import { ControllerUnderTest } from '../../../tests/kit/nvme/controller-under-test.ts';
import { PagedHost, settle } from '../../../tests/kit/nvme/paged-host.ts';
import { TestMemory } from '../../../tests/kit/nvme/test-memory.ts';
import { AdminOpcode, FeatureId, NvmeReg, NvmOpcode } from '../../abi/nvme.ts';
import { MemoryStorage } from '../storage/memory-storage.ts';
import { CompletionQueue } from './completion-queue.ts';
import { Ring } from './ring.ts';

const FLUSH = { opcode: NvmOpcode.FLUSH, nsid: 1 };
const IDENTIFY = { opcode: AdminOpcode.IDENTIFY, cdw10: 1 };

function made() {
  const host = new PagedHost();
  const c = new ControllerUnderTest({ host, namespaces: [{ storage: new MemoryStorage(2 ** 20) }] });
  c.enable(64);
  return { c, host };
}

it('NVMe 1.4 4.1: entries that a message brought are not taken for others once the queue was reached without one', async () => {
  const { c, host } = made();
  c.createPair(1, 64);
  const { sq } = c.pairs.get(1)!;
  host.make('remote', sq, 1);
  host.paged.hold = true;
  const ids = Array.from({ length: 8 }, () => c.put(1, FLUSH));
  c.ringTail(1);
  // They are there, but taken directly: the ring is mapped by now.
  host.make('direct', sq, 1);
  host.paged.answer();
  await settle();
  expect(c.completions(1).map((e) => e.cid)).toEqual(ids);
  host.make('remote', sq, 1);
  const more = Array.from({ length: 8 }, () => c.put(1, FLUSH));
  c.ringTail(1);
  host.paged.hold = false;
  host.paged.answer();
  await settle();
  expect(c.completions(1).map((e) => e.cid)).toEqual(more);
});

it('a flood of admin commands for memory that does not answer: so many at once, and all of them in the end', async () => {
  const { c, host } = made();
  c.w(NvmeReg.CC, 0);
  c.enable(256);
  const page = c.page();
  host.make('remote', page, 1);
  host.paged.hold = true;
  const ids = Array.from({ length: 200 }, () => c.put(0, { ...IDENTIFY, prp1: page }));
  c.ringTail(0);
  expect(host.paged.held).toBeGreaterThan(8);
  expect(host.paged.held).toBeLessThanOrEqual(64);
  const ended: number[] = [];
  for (let round = 0; round < 50; round++) {
    host.paged.answer();
    await settle();
    ended.push(...c.completions(0).map((e) => e.cid));
  }
  expect(ended).toEqual(ids);
});

it.each([0, 5])('NVMe 1.4 4.1.2: completions for remote memory wait for room as any others (commands take %i ms)', async (latencyMs) => {
  const host = new PagedHost();
  const c = new ControllerUnderTest({ host, namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs } }] });
  c.enable();
  c.createPair(1, 64, { cqSize: 4 });
  const { cq } = c.pairs.get(1)!;
  host.make('remote', cq, 1);
  const ids = Array.from({ length: 20 }, () => c.put(1, FLUSH));
  c.ringTail(1);
  host.clock.advance(latencyMs);
  await settle();
  expect(c.u32(cq + 48 + 12)).toBe(0);
  const seen: number[] = [];
  for (let round = 0; round < 20; round++) {
    const some = c.completions(1);
    expect(some.length).toBeLessThanOrEqual(3);
    seen.push(...some.map((e) => e.cid));
    host.clock.advance(latencyMs);
    await settle();
  }
  expect(seen).toEqual(ids);
});

it('NVMe 1.4 5.6 Delete I/O Submission Queue: while completions are on their way to a queue that the host does not read', async () => {
  const { c, host } = made();
  c.createPair(1, 64, { cqSize: 4 });
  host.make('remote', c.pairs.get(1)!.cq, 1);
  host.paged.hold = true;
  for (let i = 0; i < 10; i++) c.put(1, FLUSH);
  c.ringTail(1);
  await settle();
  expect(host.paged.held).toBe(1);
  c.submit(0, { opcode: AdminOpcode.DELETE_SQ, cdw10: 1 });
  expect(c.completions(0)).toEqual([]);
  host.paged.answer();
  await settle();
  expect(c.completions(0)).toMatchObject([{ code: 0 }]);
  expect(c.admin({ opcode: AdminOpcode.DELETE_CQ, cdw10: 1 }).code).toBe(0);
  expect(host.paged.held).toBe(0);
});

it.each([2n ** 53n - 4096n, 2n ** 53n, 2n ** 60n])('NVMe 1.4 4.1: a ring that begins at %i is reached to its end', (base) => {
  const memory = new TestMemory(4, base);
  const ring = new Ring(memory, base < 2n ** 53n ? Number(base) : base, 1024, 16, 2);
  expect([0, 255, 256, 257, 1023].map((i) => BigInt(ring.at(i)) - base)).toEqual([0n, 4080n, 4096n, 4112n, 16368n]);
  for (const at of [255, 256, 1023].map((i) => ring.at(i))) expect(typeof at === 'bigint' || Number.isSafeInteger(at)).toBe(true);
});

it('NVMe 1.4 4.1: a ring that goes past the end of the address space does not begin again at 0', () => {
  const memory = new TestMemory(4, 0n);
  const cq = new CompletionQueue(memory, 1, 2n ** 64n - 4096n, 1024, 0, false);
  expect(cq.ring.words()).toBeNull();
  expect(cq.ring.at(256)).toBe(2n ** 64n);
  expect(memory.tryWrite(cq.ring.at(256), new Uint8Array(16))).not.toBe(0);
});

it.each([
  ['that completions bring', false],
  ['that an admin command brings', true],
])('NVMe 1.4 7.3.2 controller reset: a host that resets in the middle of an interrupt %s gets nothing of the old queues', (_, held) => {
  const { c, host } = made();
  c.createPair(1, 64);
  const old = [...c.pairs.values()].map((pair) => pair.cq);
  let resets = 0;
  if (held) {
    c.admin({ opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.INTERRUPT_COALESCING, cdw11: 0xff_10 });
    c.submit(1, FLUSH);
  }
  const { trigger } = host.irq;
  host.irq.trigger = (vector) => {
    const sent = trigger(vector);
    if (vector === 1 && resets++ === 0) {
      c.w(NvmeReg.CC, 0);
      c.page(16);
      c.enable();
    }
    return sent;
  };
  if (held) c.put(0, { opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.INTERRUPT_COALESCING });
  for (let i = 0; i < 40; i++) c.put(held ? 0 : 1, held ? { ...IDENTIFY, prp1: 0x18_0000 } : FLUSH);
  c.ringTail(held ? 0 : 1);
  expect(resets).toBe(1);
  expect(c.csts).toEqual({ rdy: 1, cfs: 0, shst: 0, nssro: 0 });
  const before = old.map((cq) => c.bytes(cq, 1024).slice());
  c.host.clock.advance(10);
  expect(old.map((cq) => c.bytes(cq, 1024))).toEqual(before);
  expect(c.completions(0)).toEqual([]);
  expect(c.admin({ ...IDENTIFY, prp1: c.page() }).code).toBe(0);
  expect(c.createPair(1)).toEqual([0, 0]);
  expect(c.run(1, FLUSH).code).toBe(0);
});
