/**
 * Resets and shutdowns while data are on their way: nothing of the old life lands in the host's
 * memory once the host knows that it is over.
 */
import { describe, expect, it } from 'vitest';
import { ControllerUnderTest } from '../../../tests/kit/nvme/controller-under-test.ts';
import { PagedHost, settle } from '../../../tests/kit/nvme/paged-host.ts';
import { TestStorage } from '../../../tests/kit/nvme/test-storage.ts';
import { AdminOpcode, Cc, LogId, NSSR_VALUE, NvmeReg, NvmOpcode, regBits } from '../../abi/nvme.ts';
import { Status } from '../../abi/nvme-status.ts';
import { Errno } from '../../base/errno.ts';
import { MemoryStorage } from '../storage/memory-storage.ts';

const EN = regBits(Cc.EN, 1);
const SHN_NORMAL = regBits(Cc.SHN, 1);
const IDENTIFY = { opcode: AdminOpcode.IDENTIFY, cdw10: 1 };
const READ = { opcode: NvmOpcode.READ, nsid: 1, cdw12: 7 };

type Begin = (c: ControllerUnderTest, host: PagedHost) => void;

/** Data that may be on its way to remote memory. */
const underWay: [string, Begin][] = [
  [
    'data of an I/O command',
    (c, host) => {
      const page = c.page();
      host.make('remote', page, 1);
      c.submit(1, { ...READ, prp1: page });
    },
  ],
  [
    'data of an admin command',
    (c, host) => {
      const page = c.page();
      host.make('remote', page, 1);
      c.submit(0, { ...IDENTIFY, prp1: page });
    },
  ],
  [
    'a completion',
    (c, host) => {
      host.make('remote', c.pairs.get(1)!.cq, 1);
      c.submit(1, { opcode: NvmOpcode.FLUSH, nsid: 1 });
    },
  ],
  [
    'the fetch of a command',
    (c, host) => {
      host.make('remote', c.pairs.get(1)!.sq, 1);
      c.submit(1, { opcode: NvmOpcode.FLUSH, nsid: 1 });
    },
  ],
];

function made() {
  const host = new PagedHost();
  const c = new ControllerUnderTest({ host, namespaces: [{ storage: new MemoryStorage(2 ** 20) }] });
  c.enable();
  c.createPair(1);
  host.paged.hold = true;
  return { c, host };
}

describe.each(underWay)('%s on its way', (_, begin) => {
  it('NVMe 1.4 7.3.2 controller reset: RDY is 1 until it has landed, and nothing lands afterwards', async () => {
    const { c, host } = made();
    begin(c, host);
    expect(host.paged.held).toBe(1);
    c.w(NvmeReg.CC, 0);
    expect(c.csts).toEqual({ rdy: 1, cfs: 0, shst: 0, nssro: 0 });
    expect(c.r(NvmeReg.CC)).toBe(0);
    host.paged.answer();
    await settle();
    expect(c.csts.rdy).toBe(0);
    const before = host.memory.slice();
    await settle();
    expect(host.paged.held).toBe(0);
    expect(Buffer.compare(host.memory, before)).toBe(0);
  });

  it('NVMe 1.4 3.1.5 CC: EN set again before it has landed: it is ready when it has, and not before', async () => {
    const { c, host } = made();
    begin(c, host);
    c.w(NvmeReg.CC, 0);
    c.reuse();
    c.enable();
    expect(c.csts.rdy).toBe(0);
    await settle();
    expect(c.csts.rdy).toBe(0);
    host.make('direct');
    host.paged.answer();
    await settle();
    expect(c.csts).toEqual({ rdy: 1, cfs: 0, shst: 0, nssro: 0 });
    expect(c.admin({ ...IDENTIFY, prp1: c.page() }).code).toBe(0);
    expect(c.createPair(1)).toEqual([0, 0]);
    expect(c.run(1, { ...READ, prp1: c.page() }).code).toBe(0);
  });

  it('function-level reset: its answer waits, and so does the next life', async () => {
    const { c, host } = made();
    begin(c, host);
    c.model.reset();
    expect(c.r(NvmeReg.CSTS)).toBe(0);
    expect(host.held).toHaveLength(1);
    let answered = false;
    void host.held[0]!.then(() => {
      answered = true;
    });
    c.reuse();
    c.enable();
    await settle();
    expect([answered, c.csts.rdy]).toEqual([false, 0]);
    host.paged.answer();
    await settle();
    expect([answered, c.csts.rdy]).toEqual([true, 1]);
  });

  it('NVMe 1.4 7.6.2 shutdown: complete when it has landed', async () => {
    const { c, host } = made();
    begin(c, host);
    c.w(NvmeReg.CC, c.r(NvmeReg.CC) | SHN_NORMAL);
    await settle();
    expect(c.csts).toMatchObject({ rdy: 1, shst: 1 });
    host.paged.answer();
    await settle();
    expect(c.csts).toMatchObject({ rdy: 1, shst: 2 });
    const before = host.memory.slice();
    await settle();
    expect(host.paged.held).toBe(0);
    expect(Buffer.compare(host.memory, before)).toBe(0);
  });

  it('removed for good: nothing happens any more', async () => {
    const { c, host } = made();
    begin(c, host);
    c.model.dispose!();
    const registers = [c.r(NvmeReg.CC), c.csts.cfs];
    host.paged.answer();
    await settle();
    expect([c.r(NvmeReg.CC), c.csts.cfs]).toEqual(registers);
    expect(host.clock.pendingTimers).toBe(0);
  });
});

it('NVMe 1.4 7.3.2 controller reset: of data in several pieces only the one on its way lands', async () => {
  const { c, host } = made();
  const pages = [c.page(), c.page(3)];
  c.bytes(pages[0]!, 4096).fill(0xee);
  c.bytes(pages[1]!, 3 * 4096).fill(0xee);
  for (const page of pages) host.make('remote', page, 3);
  c.submit(1, { ...READ, cdw12: 15, prp1: pages[0]!, prp2: pages[1]! + 8192 });
  c.w(NvmeReg.CC, 0);
  host.paged.answer();
  await settle();
  expect([c.csts.rdy, host.paged.held]).toEqual([0, 0]);
  expect([c.bytes(pages[0]!, 1)[0], c.bytes(pages[1]! + 8192, 1)[0]]).toEqual([0, 0xee]);
});

it('NVMe 1.4 7.3.2 controller reset: ten times while the same data are on their way, and the last life begins once', async () => {
  const { c, host } = made();
  underWay[0]![1](c, host);
  for (let i = 0; i < 10; i++) {
    c.w(NvmeReg.CC, 0);
    c.reuse();
    c.enable();
  }
  c.w(NvmeReg.NSSR, NSSR_VALUE);
  c.reuse();
  c.enable();
  expect(host.paged.held).toBe(1);
  host.make('direct');
  host.paged.answer();
  await settle();
  expect(c.csts).toEqual({ rdy: 1, cfs: 0, shst: 0, nssro: 1 });
  expect(c.admin({ ...IDENTIFY, prp1: c.page() }).code).toBe(0);
});

it('NVMe 1.4 7.3.2 controller reset: a controller that is moved is saved before it or after it, not in the middle', async () => {
  const { c, host } = made();
  const { migration } = c.model;
  underWay[0]![1](c, host);
  c.w(NvmeReg.CC, 0);
  migration!.stop();
  host.paged.answer();
  let refused = 0;
  for (let turn = 0; turn < 50; turn++, await Promise.resolve()) {
    try {
      migration!.save();
      expect(c.csts.rdy).toBe(0);
    } catch (error) {
      expect(error).toMatchObject({ code: 'EAGAIN' });
      refused++;
    }
  }
  expect(refused).toBeGreaterThan(0);
  expect(refused).toBeLessThan(50);
});

it('NVMe 1.4 7.6.2 shutdown: asked for together with EN while data are on their way: it takes no command', async () => {
  const { c, host } = made();
  underWay[0]![1](c, host);
  c.w(NvmeReg.CC, 0);
  c.w(NvmeReg.CC, EN | SHN_NORMAL);
  host.make('direct');
  host.paged.answer();
  await settle();
  expect(c.csts).toMatchObject({ rdy: 1, cfs: 0, shst: 2 });
  c.w(0x1000, 1);
  await settle();
  expect(c.csts.cfs).toBe(0);
});

it('NVMe 1.4 7.6.2 shutdown: the error log reports data that could not be written', () => {
  const storage = new TestStorage(2 ** 20);
  const c = new ControllerUnderTest({ namespaces: [{ storage }] });
  c.enable();
  c.w(NvmeReg.CC, c.r(NvmeReg.CC) | SHN_NORMAL);
  storage.underWay[0]!.end(-Errno.EIO);
  expect(c.csts.shst).toBe(2);
  c.w(NvmeReg.CC, 0);
  c.enable();
  const page = c.page();
  c.admin({ opcode: AdminOpcode.GET_LOG_PAGE, prp1: page, cdw10: (15 << 16) | LogId.ERROR_INFORMATION });
  expect([c.u32(page), (c.u32(page + 12) & 0xffff) >>> 1]).toEqual([1, Status.WRITE_FAULT]);
});

it('NVMe 1.4 7.6.2 shutdown: requested twice, abrupt after normal: the second flush counts', () => {
  const storage = new TestStorage(2 ** 20);
  const c = new ControllerUnderTest({ namespaces: [{ storage }] });
  c.enable();
  c.w(NvmeReg.CC, c.r(NvmeReg.CC) | SHN_NORMAL);
  c.w(NvmeReg.CC, (c.r(NvmeReg.CC) & ~SHN_NORMAL) | regBits(Cc.SHN, 2));
  expect(storage.underWay).toHaveLength(2);
  storage.underWay[0]!.end();
  expect(c.csts.shst).toBe(1);
  storage.underWay[0]!.end();
  expect(c.csts.shst).toBe(2);
});

it('NVMe 1.4 3.1.6 CSTS: a controller that was shut down before it was enabled works when it is', () => {
  const c = new ControllerUnderTest();
  c.w(NvmeReg.CC, SHN_NORMAL);
  expect(c.csts).toMatchObject({ rdy: 0, shst: 2 });
  c.enable();
  expect(c.csts).toEqual({ rdy: 1, cfs: 0, shst: 0, nssro: 0 });
  expect(c.admin({ ...IDENTIFY, prp1: c.page() }).code).toBe(0);
});

it.each([
  ['NVMe 1.4 7.6.2 shutdown', (c: ControllerUnderTest) => c.w(NvmeReg.CC, c.r(NvmeReg.CC) | SHN_NORMAL)],
  [
    'NVMe 1.4 3.1.6 CFS',
    (c: ControllerUnderTest) => {
      (c.host as PagedHost).make('none', c.pairs.get(0)!.cq, 1);
      c.submit(0, IDENTIFY);
      expect(c.csts.cfs).toBe(1);
    },
  ],
])('%s: commands that were to begin later do not, and their timers are gone', (_, stop) => {
  const host = new PagedHost();
  const c = new ControllerUnderTest({ host, namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs: 10 } }] });
  c.enable();
  c.createPair(1);
  const page = c.page();
  c.bytes(page, 4096).fill(0xee);
  c.submit(1, { ...READ, prp1: page });
  stop(c);
  c.host.clock.advance(1000);
  expect(c.bytes(page, 4096).every((b) => b === 0xee)).toBe(true);
  expect(c.host.clock.pendingTimers).toBe(0);
});
