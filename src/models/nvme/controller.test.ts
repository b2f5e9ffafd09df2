import { describe, expect, it } from 'vitest';
import { ControllerUnderTest } from '../../../tests/kit/nvme/controller-under-test.ts';
import type { Width } from '../../abi/device-host.ts';
import {
  AdminOpcode,
  Cap,
  Cc,
  capField,
  FeatureId,
  NSSR_VALUE,
  NvmeReg,
  NvmOpcode,
  regBits,
  regField,
  sqDoorbell,
  VERSION_1_4,
} from '../../abi/nvme.ts';
import { MemoryStorage } from '../storage/memory-storage.ts';

const EN = regBits(Cc.EN, 1);

describe('registers', () => {
  it('NVMe 1.4 3.1.1 CAP: what the controller can', () => {
    const c = new ControllerUnderTest({ queueEntries: 256 });
    const cap = (f: (typeof Cap)[keyof typeof Cap]) => capField(c.r(NvmeReg.CAP), c.r(NvmeReg.CAP_HIGH), f);
    expect(cap(Cap.MQES)).toBe(255);
    expect(cap(Cap.CQR)).toBe(1);
    expect(cap(Cap.AMS)).toBe(0);
    expect(cap(Cap.TO)).toBeGreaterThan(0);
    expect(cap(Cap.DSTRD)).toBe(0);
    expect(cap(Cap.NSSRS)).toBe(1);
    expect(cap(Cap.CSS)).toBe(1);
    expect(cap(Cap.MPSMIN)).toBe(0);
    expect(cap(Cap.MPSMAX)).toBe(4);
    c.w(NvmeReg.CAP, 0);
    expect(cap(Cap.MQES)).toBe(255);
  });

  it('NVMe 1.4 3.1.2 VS: 1.4, read-only', () => {
    const c = new ControllerUnderTest();
    c.w(NvmeReg.VS, 0);
    expect(c.r(NvmeReg.VS)).toBe(VERSION_1_4);
  });

  it('NVMe 1.4 3.1.3, 3.1.4 INTMS, INTMC: set and clear bits, and both read the mask', () => {
    const c = new ControllerUnderTest({ mode: 'intx' });
    c.w(NvmeReg.INTMS, 0x8000_0005);
    c.w(NvmeReg.INTMS, 0x2);
    expect(c.r(NvmeReg.INTMS)).toBe(0x8000_0007);
    c.w(NvmeReg.INTMC, 0x8000_0001);
    expect([c.r(NvmeReg.INTMS), c.r(NvmeReg.INTMC)]).toEqual([6, 6]);
  });

  it('NVMe 1.4 3.1.5 CC: EN makes it ready, and clearing it makes it forget all but the admin queue registers', () => {
    const c = new ControllerUnderTest();
    expect(c.csts.rdy).toBe(0);
    c.enable();
    expect(c.csts).toEqual({ rdy: 1, cfs: 0, shst: 0, nssro: 0 });
    const { sq, cq } = c.pairs.get(0)!;
    c.w(NvmeReg.INTMS, 5);
    c.w(NvmeReg.CC, c.r(NvmeReg.CC) & ~EN);
    expect(c.csts.rdy).toBe(0);
    expect([c.r(NvmeReg.CC), c.r(NvmeReg.INTMS)]).toEqual([0, 0]);
    expect([c.r(NvmeReg.AQA), c.r(NvmeReg.ASQ), c.r(NvmeReg.ACQ)]).toEqual([0x001f_001f, sq, cq]);
  });

  it('NVMe 1.4 3.1.5 CC: MPS, AMS and CSS do not change while EN is set; IOSQES and IOCQES do; reserved bits are 0', () => {
    const c = new ControllerUnderTest();
    c.enable();
    c.w(NvmeReg.CC, EN | regBits(Cc.MPS, 2) | regBits(Cc.CSS, 7) | regBits(Cc.AMS, 1) | regBits(Cc.IOSQES, 7) | 0xff00_000e);
    const cc = c.r(NvmeReg.CC);
    expect([Cc.MPS, Cc.CSS, Cc.AMS, Cc.IOSQES, Cc.IOCQES].map((f) => regField(cc, f))).toEqual([0, 0, 0, 7, 0]);
    expect(cc & 0xff00_000e).toBe(0);
  });

  it.each([
    ['MPS above CAP.MPSMAX', regBits(Cc.MPS, 5)],
    ['a command set that is not there', regBits(Cc.CSS, 1)],
    ['weighted round robin', regBits(Cc.AMS, 1)],
  ])('NVMe 1.4 3.1.5 CC: %s is fatal, until a reset', (_, cc) => {
    const c = new ControllerUnderTest();
    c.enable(32, cc);
    expect(c.csts).toMatchObject({ rdy: 0, cfs: 1 });
    c.w(NvmeReg.CC, 0);
    expect(c.csts.cfs).toBe(0);
    c.enable();
    expect(c.csts).toMatchObject({ rdy: 1, cfs: 0 });
  });

  it('NVMe 1.4 3.1.6 CSTS: read-only but for NSSRO', () => {
    const c = new ControllerUnderTest();
    c.w(NvmeReg.CSTS, 0xffff_ffff);
    expect(c.r(NvmeReg.CSTS)).toBe(0);
    c.enable();
    c.w(NvmeReg.CSTS, 0xffff_ffff);
    expect(c.r(NvmeReg.CSTS)).toBe(1);
  });

  it('NVMe 1.4 3.1.7 NSSR: "NVMe" resets everything and NSSRO reports it, which a one clears', () => {
    const c = new ControllerUnderTest();
    c.enable();
    c.w(NvmeReg.NSSR, NSSR_VALUE - 1);
    expect(c.csts.rdy).toBe(1);
    c.w(NvmeReg.NSSR, NSSR_VALUE);
    expect(c.csts).toEqual({ rdy: 0, cfs: 0, shst: 0, nssro: 1 });
    expect([NvmeReg.CC, NvmeReg.AQA, NvmeReg.ASQ, NvmeReg.ACQ, NvmeReg.NSSR].map((r) => c.r(r))).toEqual([0, 0, 0, 0, 0]);
    c.w(NvmeReg.CC, 0);
    expect(c.csts.nssro).toBe(1);
    c.w(NvmeReg.CSTS, 1 << 4);
    expect(c.csts.nssro).toBe(0);
    c.enable();
    expect(c.csts.rdy).toBe(1);
  });

  it('NVMe 1.4 3.1.8 AQA: sizes, reserved bits are 0, and it stays while EN is set', () => {
    const c = new ControllerUnderTest();
    c.w(NvmeReg.AQA, 0xffff_ffff);
    expect(c.r(NvmeReg.AQA)).toBe(0x0fff_0fff);
    c.enable();
    c.w(NvmeReg.AQA, 0x0fff_0fff);
    expect(c.r(NvmeReg.AQA)).toBe(0x001f_001f);
  });

  it('NVMe 1.4 3.1.8 AQA: an admin queue of one entry is fatal', () => {
    const c = new ControllerUnderTest();
    c.w(NvmeReg.AQA, 0x0000_001f);
    c.w(NvmeReg.CC, EN);
    expect(c.csts).toMatchObject({ rdy: 0, cfs: 1 });
  });

  it('NVMe 1.4 3.1.9, 3.1.10 ASQ, ACQ: 64 bits, at a page, and they stay while EN is set', () => {
    const c = new ControllerUnderTest();
    for (const register of [NvmeReg.ASQ, NvmeReg.ACQ]) {
      c.w(register, 0xffff_ffff);
      c.w(register + 4, 0x1234_5678);
      expect([c.r(register), c.r(register + 4)]).toEqual([0xffff_f000, 0x1234_5678]);
    }
    c.enable();
    const before = c.r(NvmeReg.ASQ);
    c.w(NvmeReg.ASQ, 0x5000);
    expect(c.r(NvmeReg.ASQ)).toBe(before);
  });

  it('NVMe 1.4 3.1.9 ASQ: with larger pages it starts at one of those', () => {
    const c = new ControllerUnderTest();
    c.w(NvmeReg.AQA, 0x001f_001f);
    c.w(NvmeReg.ASQ, 0x10_1000);
    c.w(NvmeReg.ACQ, 0x10_4000);
    c.w(NvmeReg.CC, EN | regBits(Cc.MPS, 1));
    expect(c.csts).toMatchObject({ rdy: 0, cfs: 1 });
  });

  it('NVMe 1.4 3.1.11 to 3.1.22 CMBLOC, CMBSZ, BPINFO, CMBSTS, PMRCAP and reserved ones: not there, 0', () => {
    const c = new ControllerUnderTest();
    for (let register = NvmeReg.CMBLOC; register < 0x1000; register += 4) {
      c.w(register, 0xffff_ffff);
      expect(c.r(register)).toBe(0);
    }
    expect([c.r(0x18), c.r(0x1000), c.r(0x1ffc)]).toEqual([0, 0, 0]);
  });

  it('NVMe 1.4 3.1: narrow reads show part of a register, narrow writes do nothing', () => {
    const c = new ControllerUnderTest();
    expect(c.model.read(0, NvmeReg.VS + 1, 1)).toBe(4);
    expect(c.model.read(0, NvmeReg.VS + 2, 2)).toBe(1);
    for (const width of [1, 2] as Width[]) c.model.write(0, NvmeReg.AQA, width, 0xff);
    expect(c.r(NvmeReg.AQA)).toBe(0);
  });
});

describe('life', () => {
  it.each([
    ['normal', 1],
    ['abrupt', 2],
  ])('NVMe 1.4 7.6.2 shutdown (%s): what is cached goes to the disk, and then SHST says so', (_, shn) => {
    const flushed: number[] = [];
    let told: (tag: number, result: number) => void = () => {};
    const memory = new MemoryStorage(2 ** 20);
    const storage = Object.create(memory, {
      size: { value: memory.size },
      readOnly: { value: false },
      name: { value: 'slow' },
      volatile: { value: true },
      allocated: { value: () => 0 },
      open: {
        value: (completed: typeof told) => {
          told = completed;
          const queue = memory.open(completed);
          return Object.assign(Object.create(queue), {
            flush: (tag: number) => void flushed.push(tag),
            submit: () => {},
            drain: () => {},
            [Symbol.dispose]: () => {},
          });
        },
      },
    });
    const c = new ControllerUnderTest({ namespaces: [{ storage }] });
    c.enable();
    c.w(NvmeReg.CC, c.r(NvmeReg.CC) | regBits(Cc.SHN, shn));
    expect(flushed).toHaveLength(1);
    expect(c.csts).toMatchObject({ rdy: 1, shst: 1 });
    c.submit(0, { opcode: AdminOpcode.IDENTIFY, cdw10: 1, prp1: c.page() });
    expect(c.completions(0)).toEqual([]);
    told(flushed[0]!, 0);
    expect(c.csts).toMatchObject({ rdy: 1, shst: 2 });
    c.w(NvmeReg.CC, 0);
    expect(c.csts).toEqual({ rdy: 0, cfs: 0, shst: 0, nssro: 0 });
  });

  it('NVMe 1.4 7.6.2 shutdown: at once where nothing is volatile, also when it is not enabled', () => {
    const c = new ControllerUnderTest();
    c.w(NvmeReg.CC, regBits(Cc.SHN, 1));
    expect(c.csts).toMatchObject({ rdy: 0, shst: 2 });
  });

  it('NVMe 1.4 7.3.2 controller reset: queues are gone, their doorbells do nothing, and it can be enabled again', () => {
    const c = new ControllerUnderTest();
    c.enable();
    c.createPair(1);
    c.w(NvmeReg.CC, 0);
    c.w(sqDoorbell(1, 0), 1);
    expect(c.completions(1)).toEqual([]);
    c.enable();
    c.submit(0, { opcode: AdminOpcode.DELETE_SQ, cdw10: 1 });
    expect(c.completions(0)).toMatchObject([{ code: 0x101 }]);
  });

  it('NVMe 1.4 7.3.2 controller reset: what was under way ends never, and its timers are gone', () => {
    const c = new ControllerUnderTest({ namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs: 10 } }] });
    c.enable();
    c.createPair(1);
    c.submit(1, { opcode: NvmOpcode.FLUSH, nsid: 1 });
    c.w(NvmeReg.CC, 0);
    const before = c.host.memory.slice();
    const events = c.host.irqEvents.length;
    c.host.clock.advance(1000);
    expect(Buffer.compare(c.host.memory, before)).toBe(0);
    expect(c.host.irqEvents.length).toBe(events);
    expect(c.host.clock.pendingTimers).toBe(0);
  });

  it('function-level reset: everything as after power on', () => {
    const c = new ControllerUnderTest();
    c.w(NvmeReg.NSSR, NSSR_VALUE);
    c.enable();
    c.model.reset();
    for (const register of [NvmeReg.CC, NvmeReg.CSTS, NvmeReg.AQA, NvmeReg.ASQ, NvmeReg.ACQ, NvmeReg.INTMS]) expect(c.r(register)).toBe(0);
    c.enable();
    expect(c.csts.rdy).toBe(1);
  });

  it.each([
    ['submission', NvmeReg.ASQ],
    ['completion', NvmeReg.ACQ],
  ])('NVMe 1.4 3.1.6, 9.5 CFS: an admin %s queue that DMA does not reach is fatal, and a reset helps', (_, register) => {
    const c = new ControllerUnderTest();
    c.enable();
    c.w(NvmeReg.CC, 0);
    c.w(register, 0xdead_b000);
    c.w(NvmeReg.CC, EN);
    expect(c.csts).toMatchObject({ rdy: 1, cfs: 0 });
    c.pairs.get(0)!.tail = 0;
    c.submit(0, { opcode: AdminOpcode.IDENTIFY, cdw10: 1, prp1: c.page() });
    expect(c.csts).toMatchObject({ rdy: 1, cfs: 1 });
    expect(c.host.logged.some((l) => l.level === 'warn' && l.message.includes('queue 0 cannot be'))).toBe(true);
    c.w(NvmeReg.CC, 0);
    c.enable();
    expect(c.admin({ opcode: AdminOpcode.IDENTIFY, cdw10: 1, prp1: c.page() }).code).toBe(0);
  });

  it('NVMe 1.4 7.6.1 initialization: disabled, admin queue, enabled, identified, I/O queues, and data', () => {
    const c = new ControllerUnderTest();
    expect([c.csts.rdy, c.r(NvmeReg.CC)]).toEqual([0, 0]);
    c.enable();
    expect(c.csts.rdy).toBe(1);
    const page = c.page();
    for (const fields of [{ cdw10: 1 }, { cdw10: 2 }, { cdw10: 0, nsid: 1 }]) {
      expect(c.admin({ opcode: AdminOpcode.IDENTIFY, prp1: page, ...fields }).code).toBe(0);
    }
    expect(c.admin({ opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.NUMBER_OF_QUEUES, cdw11: 0 })).toMatchObject({
      code: 0,
      result: 0,
    });
    expect(c.createPair(1)).toEqual([0, 0]);
    expect(c.run(1, { opcode: NvmOpcode.READ, nsid: 1, prp1: page }).code).toBe(0);
  });

  it('NVMe 1.4 7.3.1 NVM subsystem reset: as a controller reset, and the admin queue registers are gone too', () => {
    const c = new ControllerUnderTest({ namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs: 10 } }] });
    c.enable();
    c.createPair(1);
    c.submit(1, { opcode: NvmOpcode.FLUSH, nsid: 1 });
    c.w(NvmeReg.NSSR, NSSR_VALUE);
    const before = c.host.memory.slice();
    c.host.clock.advance(1000);
    expect(Buffer.compare(c.host.memory, before)).toBe(0);
    expect([c.r(NvmeReg.AQA), c.r(NvmeReg.ASQ), c.r(NvmeReg.ACQ_HIGH)]).toEqual([0, 0, 0]);
    c.enable();
    expect(c.createPair(1)).toEqual([0, 0]);
  });

  it('NVMe 1.4 5.16 Keep Alive: Successful Completion, also while its timer is off', () => {
    const c = new ControllerUnderTest();
    c.enable();
    expect(c.admin({ opcode: AdminOpcode.KEEP_ALIVE })).toMatchObject({ code: 0, result: 0 });
    expect(c.host.clock.pendingTimers).toBe(0);
  });

  it.each([
    [0, 0],
    [1, 1000],
    [1000, 1000],
    [1001, 2000],
    [0xffff_ffff, 0xffff_ffff],
  ])('NVMe 1.4 5.21.1.15 Keep Alive Timer: %i ms is %i in the units of KAS; 0 is off, and so is a reset', (timeout, kept) => {
    const c = new ControllerUnderTest();
    c.enable();
    expect(c.admin({ opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.KEEP_ALIVE_TIMER, cdw11: timeout }).code).toBe(0);
    expect(c.admin({ opcode: AdminOpcode.GET_FEATURES, cdw10: FeatureId.KEEP_ALIVE_TIMER }).result).toBe(kept);
    expect(c.host.clock.pendingTimers).toBe(kept === 0 ? 0 : 1);
    c.w(NvmeReg.CC, 0);
    expect(c.host.clock.pendingTimers).toBe(0);
    c.enable();
    expect(c.admin({ opcode: AdminOpcode.GET_FEATURES, cdw10: FeatureId.KEEP_ALIVE_TIMER }).result).toBe(0);
  });

  it('NVMe 1.4 7.12 Keep Alive: a host that falls silent has its controller stop; one that does not, not', () => {
    const c = new ControllerUnderTest();
    c.enable();
    c.admin({ opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.KEEP_ALIVE_TIMER, cdw11: 1500 });
    expect(c.admin({ opcode: AdminOpcode.GET_FEATURES, cdw10: FeatureId.KEEP_ALIVE_TIMER }).result).toBe(2000);
    for (let i = 0; i < 5; i++) {
      c.host.clock.advance(1900);
      expect(c.admin({ opcode: AdminOpcode.KEEP_ALIVE }).code).toBe(0);
    }
    expect(c.csts.cfs).toBe(0);
    c.host.clock.advance(2000);
    expect(c.csts.cfs).toBe(1);
    c.w(NvmeReg.CC, 0);
    expect(c.host.clock.pendingTimers).toBe(0);
  });
});
