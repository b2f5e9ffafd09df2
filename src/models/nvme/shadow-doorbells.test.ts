import { describe, expect, it } from 'vitest';
import { ControllerUnderTest } from '../../../tests/kit/nvme/controller-under-test.ts';
import { PagedHost, settle } from '../../../tests/kit/nvme/paged-host.ts';
import { AdminOpcode, LogId, NvmOpcode, sqDoorbell } from '../../abi/nvme.ts';
import { Status } from '../../abi/nvme-status.ts';
import { MemoryStorage } from '../storage/memory-storage.ts';

const FLUSH = { opcode: NvmOpcode.FLUSH, nsid: 1 };

function make(options: ConstructorParameters<typeof ControllerUnderTest>[0] = {}) {
  const c = new ControllerUnderTest(options);
  c.enable();
  const shadow = c.page();
  const events = c.page();
  const configure = () => c.admin({ opcode: AdminOpcode.DOORBELL_BUFFER_CONFIG, prp1: shadow, prp2: events });
  /**
   * The work of a host that moves doorbell `index` from `old` to `value`: rings when the event
   * index is passed (7.13).
   */
  const move = (index: number, old: number, value: number): boolean => {
    c.setU32(shadow + 4 * index, value);
    const event = c.u32(events + 4 * index);
    const rings = ((value - event - 1) & 0xffff) < ((value - old) & 0xffff);
    if (rings) c.w(0x1000 + 4 * index, value);
    return rings;
  };
  return { c, shadow, events, configure, move };
}

describe('NVMe 1.4 5.7 Doorbell Buffer Config', () => {
  it.each([
    ['shadow', 64, 0],
    ['event index', 0, 64],
  ])('a %s buffer that is not at a page: Invalid Field in Command', (_, a, b) => {
    const { c, shadow, events } = make();
    expect(c.admin({ opcode: AdminOpcode.DOORBELL_BUFFER_CONFIG, prp1: shadow + a, prp2: events + b }).code).toBe(Status.INVALID_FIELD);
  });

  it('memory that DMA does not reach: Data Transfer Error, and doorbells work as before', () => {
    const { c, shadow } = make();
    c.createPair(1);
    expect(c.admin({ opcode: AdminOpcode.DOORBELL_BUFFER_CONFIG, prp1: shadow, prp2: 0xffff_f000 }).code).toBe(Status.DATA_TRANSFER_ERROR);
    expect(c.run(1, FLUSH).code).toBe(0);
  });

  it('queues that exist go on from where they are', () => {
    const { c, shadow, events, configure, move } = make();
    c.createPair(1);
    c.run(1, FLUSH);
    expect(configure().code).toBe(0);
    expect([c.u32(shadow + 8), c.u32(shadow + 12), c.u32(events + 8)]).toEqual([1, 1, 1]);
    c.put(1, FLUSH);
    expect(move(2, 1, 2)).toBe(true);
    expect(c.completions(1, false)).toHaveLength(1);
  });
});

describe('NVMe 1.4 7.13 shadow doorbells', () => {
  it('what the host adds while the controller works is found without a ring', () => {
    const { c, shadow, configure, move } = make();
    configure();
    c.createPair(1, 64);
    c.put(1, FLUSH);
    // The host adds two more when it sees the first completion, before the controller has left its
    // event index.
    let once = true;
    const view = c.host.dma.view;
    c.host.dma.view = (iova, size, access) => {
      if (once && BigInt(iova) === BigInt(c.pairs.get(1)!.cq)) {
        once = false;
        c.put(1, FLUSH);
        c.put(1, FLUSH);
        c.setU32(shadow + 8, 3);
      }
      return view.call(c.host.dma, iova, size, access);
    };
    expect(move(2, 0, 1)).toBe(true);
    expect(c.completions(1, false)).toHaveLength(3);
    c.put(1, FLUSH);
    expect(move(2, 3, 4)).toBe(true);
    expect(c.completions(1, false)).toHaveLength(1);
  });

  it('a long run through small queues: nothing is lost, and heads are rung only when a waiter needs it', () => {
    const { c, configure, move } = make();
    configure();
    c.createPair(1, 8, { cqSize: 4 });
    const pair = c.pairs.get(1)!;
    let ended = 0;
    let headRings = 0;
    for (let i = 0; i < 200; i++) {
      const old = pair.tail;
      c.put(1, FLUSH);
      c.put(1, FLUSH);
      move(2, old, pair.tail);
      for (let j = 0; j < 3 && ended < 2 * (i + 1); j++) {
        const head = pair.head;
        ended += c.completions(1, false).length;
        if (pair.head !== head && move(3, head, pair.head)) headRings++;
      }
      expect(ended).toBe(2 * (i + 1));
    }
    expect(headRings).toBeLessThan(200);
    expect(c.csts.cfs).toBe(0);
  });

  it('a host that consumes one by one of a full completion queue is asked to ring, and gets all', () => {
    const { c, configure, move } = make();
    configure();
    c.createPair(1, 64, { cqSize: 4 });
    const pair = c.pairs.get(1)!;
    for (let i = 0; i < 40; i++) c.put(1, FLUSH);
    move(2, 0, pair.tail);
    for (let i = 0; i < 40; i++) {
      expect((c.u32(pair.cq + 16 * pair.head + 12) >>> 16) & 1).toBe(pair.phase);
      const { head } = pair;
      pair.head = (head + 1) % 4;
      if (pair.head === 0) pair.phase ^= 1;
      move(3, head, pair.head);
    }
    expect(c.completions(1, false)).toEqual([]);
  });

  it('a completion queue in remote memory that was filled by one message: the host is asked to ring when it made room', async () => {
    const host = new PagedHost();
    const { c, configure, move } = make({ host });
    configure();
    c.createPair(1, 16, { cqSize: 4 });
    const pair = c.pairs.get(1)!;
    host.make('remote', pair.cq, 1);
    host.paged.hold = true;
    let old = 0;
    const put = (count: number) => {
      for (let i = 0; i < count; i++) c.put(1, FLUSH);
      move(2, old, pair.tail);
      old = pair.tail;
    };
    put(3);
    await settle();
    put(5);
    let ended = 0;
    for (let round = 0; round < 20; round++) {
      host.paged.answer();
      await settle();
      const { head } = pair;
      ended += c.completions(1, false).length;
      if (pair.head !== head) move(3, head, pair.head);
      await settle();
    }
    expect(ended).toBe(8);
  });

  it('the admin queue is rung as ever', () => {
    const { c, configure, shadow } = make();
    configure();
    for (let i = 0; i < 100; i++) expect(c.admin({ opcode: AdminOpcode.KEEP_ALIVE }).code).toBe(0);
    expect(c.u32(shadow)).toBe(c.pairs.get(0)!.tail);
  });

  it('with the pin, the host reports every head: it falls when all is consumed', () => {
    const { c, configure, move } = make({ mode: 'intx' });
    configure();
    c.createPair(1, 16, { vector: 0 });
    const pair = c.pairs.get(1)!;
    for (let i = 0; i < 40; i++) {
      const old = pair.tail;
      c.put(1, FLUSH);
      move(2, old, pair.tail);
      expect(c.host.asserted).toBe(true);
      const head = pair.head;
      expect(c.completions(1, false)).toHaveLength(1);
      move(3, head, pair.head);
      expect(c.host.asserted).toBe(false);
    }
  });

  it('nonsense in the buffer is an invalid doorbell, and does no harm', () => {
    const { c, shadow, configure, move } = make();
    configure();
    c.createPair(1);
    c.setU32(shadow + 8, 0xdead_beef);
    c.w(sqDoorbell(1, 0), 1);
    expect(c.completions(1, false)).toEqual([]);
    const page = c.page();
    c.admin({ opcode: AdminOpcode.GET_LOG_PAGE, prp1: page, cdw10: (15 << 16) | LogId.ERROR_INFORMATION });
    expect(c.u32(page)).toBe(1);
    c.put(1, FLUSH);
    expect(move(2, 0, 1)).toBe(true);
    expect(c.completions(1, false)).toHaveLength(1);
  });

  it('a queue that is created starts from 0, whatever lay there', () => {
    const { c, shadow, events, configure } = make();
    c.bytes(shadow, 4096).fill(0x0c);
    c.bytes(events, 4096).fill(0x0c);
    configure();
    c.createPair(1);
    expect([c.u32(shadow + 8), c.u32(shadow + 12), c.u32(events + 8), c.u32(events + 12)]).toEqual([0, 0, 0, 0]);
  });

  it('commands that end later: the host rings for what it adds meanwhile', async () => {
    const { c, configure, move } = make({ namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs: 1 } }] });
    configure();
    c.createPair(1);
    for (let i = 0; i < 10; i++) {
      c.put(1, FLUSH);
      expect(move(2, i, i + 1)).toBe(true);
    }
    c.host.clock.advance(1);
    await Promise.resolve();
    expect(c.completions(1, false)).toHaveLength(10);
  });
});
