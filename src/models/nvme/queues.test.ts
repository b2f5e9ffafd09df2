import { describe, expect, it } from 'vitest';
import { ControllerUnderTest } from '../../../tests/kit/nvme/controller-under-test.ts';
import { Dma, DmaFault } from '../../abi/device-host.ts';
import { AdminOpcode, cqDoorbell, EventError, FeatureId, LogId, NvmeReg, NvmOpcode, sqDoorbell } from '../../abi/nvme.ts';
import { Status } from '../../abi/nvme-status.ts';
import { TestHost } from '../kit/test-host.ts';
import { MemoryStorage } from '../storage/memory-storage.ts';

const FLUSH = { opcode: NvmOpcode.FLUSH, nsid: 1 };

function enabled(options: ConstructorParameters<typeof ControllerUnderTest>[0] = {}): ControllerUnderTest {
  const c = new ControllerUnderTest(options);
  c.enable();
  return c;
}

describe('submission and completion', () => {
  it('NVMe 1.4 4.1: entries are taken in order, and a completion says how far', () => {
    const c = enabled();
    c.createPair(1);
    const ids = [c.put(1, FLUSH), c.put(1, FLUSH), c.put(1, FLUSH)];
    expect(c.completions(1)).toEqual([]);
    c.ringTail(1);
    const ended = c.completions(1);
    expect(ended.map((e) => e.cid)).toEqual(ids);
    expect(ended.map((e) => e.sqhd)).toEqual([1, 2, 3]);
  });

  it('NVMe 1.4 4.6, Phase Tag: inverted with every pass through the completion queue', () => {
    const c = enabled();
    c.createPair(1, 4);
    const heads = [];
    for (let i = 0; i < 11; i++) heads.push(c.run(1, FLUSH).sqhd);
    expect(heads).toEqual([1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]);
  });

  it('NVMe 1.4 4.1.1, 4.1.2: a full completion queue holds completions back, and none is lost', () => {
    const c = enabled();
    c.createPair(1, 64, { cqSize: 4 });
    const ids = Array.from({ length: 50 }, () => c.put(1, FLUSH));
    c.ringTail(1);
    const seen: number[] = [];
    for (let rounds = 0; seen.length < 50 && rounds < 50; rounds++) {
      const some = c.completions(1);
      expect(some.length).toBeLessThanOrEqual(3);
      seen.push(...some.map((s) => s.cid));
    }
    expect(seen).toEqual(ids);
    expect(c.csts.cfs).toBe(0);
  });

  it('NVMe 1.4 4.1: several submission queues may share a completion queue', () => {
    const c = enabled();
    c.createPair(1, 16, { cqSize: 8 });
    const sq = c.page();
    expect(c.admin({ opcode: AdminOpcode.CREATE_SQ, prp1: sq, cdw10: (15 << 16) | 2, cdw11: (1 << 16) | 1 }).code).toBe(0);
    c.pairs.set(2, { ...c.pairs.get(1)!, sq, tail: 0 });
    for (let i = 0; i < 10; i++) {
      c.put(1, FLUSH);
      c.put(2, FLUSH);
    }
    c.ringTail(1);
    c.ringTail(2);
    const seen: number[] = [];
    for (let i = 0; i < 20; i++) seen.push(...c.completions(1).map((e) => e.sqid));
    expect(seen.filter((q) => q === 1)).toHaveLength(10);
    expect(seen.filter((q) => q === 2)).toHaveLength(10);
  });

  it('NVMe 1.4 4.13 arbitration: queues take turns, in bursts as the host says (5.21.1.1)', () => {
    const c = enabled({ namespaces: [{ storage: new MemoryStorage(2 ** 20) }] });
    c.createPair(1, 16, { cqSize: 2 });
    const page = c.page();
    const shared = c.pairs.get(1)!;
    c.admin({ opcode: AdminOpcode.CREATE_CQ, prp1: page, cdw10: (63 << 16) | 2, cdw11: 1 });
    for (const id of [3, 4]) {
      const sq = c.page();
      c.admin({ opcode: AdminOpcode.CREATE_SQ, prp1: sq, cdw10: (15 << 16) | id, cdw11: (2 << 16) | 1 });
      c.pairs.set(id, { ...shared, sq, cq: page, cqSize: 64, tail: 0, head: 0, phase: 1 });
    }
    c.admin({ opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.ARBITRATION, cdw11: 1 });
    // Doorbells that ring while the controller works have to wait: ring both from within the
    // other's interrupt.
    for (let i = 0; i < 4; i++) {
      c.put(3, FLUSH);
      c.put(4, FLUSH);
    }
    const trigger = c.host.irq.trigger;
    c.host.irq.trigger = (vector) => {
      c.host.irq.trigger = trigger;
      c.ringTail(3);
      c.ringTail(4);
      return trigger(vector);
    };
    c.submit(0, { opcode: AdminOpcode.IDENTIFY, cdw10: 1, prp1: c.page() });
    expect(c.completions(3).map((e) => e.sqid)).toEqual([3, 3, 4, 4, 3, 3, 4, 4]);
  });

  it('NVMe 1.4 4.6.1.2.1, 9.1 Command Identifier Conflict: an identifier of a command that is under way', () => {
    const c = enabled({ namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs: 5 } }] });
    c.createPair(1);
    c.submit(1, { ...FLUSH, cid: 7 });
    for (let i = 0; i < 2; i++) {
      c.submit(1, { ...FLUSH, cid: 7 });
      expect(c.completions(1)).toMatchObject([{ cid: 7, code: Status.COMMAND_ID_CONFLICT, doNotRetry: true }]);
    }
    c.submit(1, { ...FLUSH, cid: 8 });
    c.host.clock.advance(5);
    return Promise.resolve().then(() => {
      expect(c.completions(1)).toMatchObject([
        { cid: 7, code: 0 },
        { cid: 8, code: 0 },
      ]);
      c.submit(1, { ...FLUSH, cid: 7 });
      c.host.clock.advance(5);
      expect(c.completions(1)).toMatchObject([{ cid: 7, code: 0 }]);
    });
  });

  it('commands that end together later are reported by one interrupt', async () => {
    const c = enabled({ namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs: 5 } }] });
    c.createPair(1);
    for (let i = 0; i < 5; i++) c.put(1, FLUSH);
    c.ringTail(1);
    c.host.irqEvents.length = 0;
    c.host.clock.advance(5);
    await Promise.resolve();
    expect(c.completions(1)).toHaveLength(5);
    expect(c.host.irqEvents).toEqual(['trigger 1']);
  });

  it('one interrupt for each batch, not for each command', () => {
    const c = enabled();
    c.createPair(1);
    c.host.irqEvents.length = 0;
    for (let i = 0; i < 10; i++) c.put(1, FLUSH);
    c.ringTail(1);
    expect(c.completions(1)).toHaveLength(10);
    expect(c.host.irqEvents).toEqual(['trigger 1']);
  });

  it('a long queue is served in turns: others are heard between, and all of it ends', () => {
    const c = enabled();
    c.createPair(1, 1024);
    c.createPair(2, 1024);
    for (const id of [1, 2]) {
      for (let i = 0; i < 1023; i++) c.put(id, FLUSH);
    }
    c.host.irq.trigger = () => true;
    c.ringTail(1);
    c.ringTail(2);
    for (let i = 0; i < 10; i++) c.host.clock.advance(0);
    expect(c.completions(1)).toHaveLength(1023);
    expect(c.completions(2)).toHaveLength(1023);
    expect(c.host.clock.pendingTimers).toBe(0);
  });
});

describe('doorbells', () => {
  /** The event in the answer to an outstanding request: [error, count of log entries]. */
  function invalid(c: ControllerUnderTest, write: () => void): number {
    c.submit(0, { opcode: AdminOpcode.ASYNC_EVENT_REQUEST });
    expect(c.completions(0)).toEqual([]);
    write();
    const [event] = c.completions(0);
    expect(event?.code).toBe(0);
    expect(event!.result & 0xff).toBe(0);
    expect(event!.result >>> 16).toBe(LogId.ERROR_INFORMATION);
    const page = c.page();
    c.admin({ opcode: AdminOpcode.GET_LOG_PAGE, cdw10: (15 << 16) | LogId.ERROR_INFORMATION, prp1: page });
    expect(c.u32(page)).toBeGreaterThan(0);
    expect(c.u32(page + 8)).toBe(0xffff_ffff);
    return (event!.result >>> 8) & 0xff;
  }

  it.each([
    ['a submission queue that was not created', sqDoorbell(5, 0), 1, EventError.INVALID_DOORBELL_REGISTER],
    ['a completion queue that was not created', cqDoorbell(5, 0), 1, EventError.INVALID_DOORBELL_REGISTER],
    ['a queue beyond all', 0x1ff8, 1, EventError.INVALID_DOORBELL_REGISTER],
    ['a tail past the end', sqDoorbell(1, 0), 16, EventError.INVALID_DOORBELL_VALUE],
    ['a tail with reserved bits', sqDoorbell(1, 0), 0x1_0001, EventError.INVALID_DOORBELL_VALUE],
    ['the same tail', sqDoorbell(1, 0), 0, EventError.INVALID_DOORBELL_VALUE],
    ['a head past the end', cqDoorbell(1, 0), 16, EventError.INVALID_DOORBELL_VALUE],
    ['a head past the tail', cqDoorbell(1, 0), 1, EventError.INVALID_DOORBELL_VALUE],
  ])('NVMe 1.4 5.2.1 invalid doorbell: %s', (_, offset, value, error) => {
    const c = enabled();
    c.createPair(1);
    expect(invalid(c, () => c.w(offset, value))).toBe(error);
    expect(c.run(1, FLUSH).code).toBe(0);
  });

  it('NVMe 1.4 5.2.1 invalid doorbell: a tail that overtakes the head', () => {
    const c = enabled();
    c.createPair(1, 8, { cqSize: 2 });
    for (let i = 0; i < 5; i++) c.put(1, FLUSH);
    c.ringTail(1);
    // One was fetched: at 1 all 8 entries would wait, which is what an empty queue looks like.
    for (const tail of [3, 1]) expect(invalid(c, () => c.w(sqDoorbell(1, 0), tail))).toBe(EventError.INVALID_DOORBELL_VALUE);
  });

  it('NVMe 1.4 3.1.25 Completion Queue Head Doorbell: what the host has consumed makes room', () => {
    const c = enabled();
    c.createPair(1, 16, { cqSize: 3 });
    for (let i = 0; i < 4; i++) c.put(1, FLUSH);
    c.ringTail(1);
    expect(c.completions(1, false)).toHaveLength(2);
    expect(c.completions(1, false)).toHaveLength(0);
    c.ringHead(1);
    expect(c.completions(1, false)).toHaveLength(2);
  });

  it('NVMe 1.4 3.1.24: doorbells of a controller that is not enabled do nothing', () => {
    const c = new ControllerUnderTest();
    c.w(sqDoorbell(0, 0), 1);
    expect(c.csts).toEqual({ rdy: 0, cfs: 0, shst: 0, nssro: 0 });
    c.enable();
    expect(c.admin({ opcode: AdminOpcode.KEEP_ALIVE }).code).toBe(0);
  });
});

describe('memory', () => {
  /** A host whose memory answers only by messages. */
  function remote(): TestHost {
    const host = new TestHost({ base: 0x10_0000n, memorySize: 256 * 4096, mode: 'msix', vectors: 65 });
    const { dma } = host;
    const { tryRead, tryWrite } = dma;
    const later = async (copy: () => Dma, iova: bigint | number) => {
      await Promise.resolve();
      if (copy() !== Dma.DONE) throw new DmaFault('not-mapped', BigInt(iova));
    };
    dma.tryRead = () => Dma.REMOTE;
    dma.tryWrite = () => Dma.REMOTE;
    dma.view = () => null;
    dma.read = (iova, into) => later(() => tryRead(iova, into), iova);
    dma.write = (iova, from) => {
      const bytes = from.slice();
      return later(() => tryWrite(iova, bytes), iova);
    };
    return host;
  }

  const settled = async () => {
    for (let i = 0; i < 200; i++) await Promise.resolve();
  };

  it('queues in remote memory: fetched and posted by messages, in order', async () => {
    const c = enabled({ host: remote() });
    const cq = c.page();
    const sq = c.page(2);
    c.submit(0, { opcode: AdminOpcode.CREATE_CQ, prp1: cq, cdw10: (15 << 16) | 1, cdw11: (1 << 16) | 3 });
    c.submit(0, { opcode: AdminOpcode.CREATE_SQ, prp1: sq, cdw10: (127 << 16) | 1, cdw11: (1 << 16) | 1 });
    await settled();
    expect(c.completions(0).map((e) => e.code)).toEqual([0, 0]);
    c.pairs.set(1, { sq, cq, size: 128, cqSize: 16, tail: 0, head: 0, phase: 1 });
    const ids = Array.from({ length: 100 }, () => c.put(1, FLUSH));
    c.ringTail(1);
    const seen: number[] = [];
    for (let i = 0; i < 20; i++) {
      await settled();
      seen.push(...c.completions(1).map((e) => e.cid));
    }
    expect(seen).toEqual(ids);
    expect(c.csts.cfs).toBe(0);
  });

  it('queues in remote memory: a reset while a message is under way leaves nothing behind', async () => {
    const c = enabled({ host: remote() });
    c.submit(0, { opcode: AdminOpcode.IDENTIFY, cdw10: 1, prp1: c.page() });
    c.w(NvmeReg.CC, 0);
    const before = c.host.memory.slice();
    await settled();
    expect(Buffer.compare(c.host.memory, before)).toBe(0);
    expect(c.csts).toEqual({ rdy: 0, cfs: 0, shst: 0, nssro: 0 });
  });

  it('queues in remote memory that fails: fatal', async () => {
    const c = new ControllerUnderTest({ host: remote() });
    c.enable();
    c.w(NvmeReg.CC, 0);
    c.w(NvmeReg.ASQ, 0x5000);
    c.w(NvmeReg.CC, 0x0046_0001);
    c.w(sqDoorbell(0, 0), 1);
    await settled();
    expect(c.csts.cfs).toBe(1);
  });

  it('a queue in pieces: each entry is copied by itself', () => {
    const host = new TestHost({ base: 0x10_0000n, memorySize: 256 * 4096, mode: 'msix', vectors: 65 });
    host.dma.view = () => null;
    const c = enabled({ host });
    c.createPair(1, 4);
    for (let i = 0; i < 9; i++) expect(c.run(1, FLUSH).code).toBe(0);
  });

  it('NVMe 1.4 3.1.6, 9.5 CFS: an I/O queue that goes away is fatal, and nothing more is done', () => {
    const c = enabled();
    const cq = c.page();
    c.admin({ opcode: AdminOpcode.CREATE_CQ, prp1: cq, cdw10: (15 << 16) | 1, cdw11: 1 });
    c.admin({ opcode: AdminOpcode.CREATE_SQ, prp1: 0xffff_0000, cdw10: (15 << 16) | 1, cdw11: (1 << 16) | 1 });
    c.w(sqDoorbell(1, 0), 1);
    expect(c.csts).toMatchObject({ rdy: 1, cfs: 1 });
    c.submit(0, { opcode: AdminOpcode.KEEP_ALIVE });
    expect(c.completions(0)).toEqual([]);
  });
});
