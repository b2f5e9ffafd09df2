import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ControllerUnderTest } from '../../../../tests/kit/nvme/controller-under-test.ts';
import { TestStorage } from '../../../../tests/kit/nvme/test-storage.ts';
import { AdminOpcode, EventError, FeatureId, FormatCdw10, LogId, NvmeReg, NvmOpcode, regBits } from '../../../abi/nvme.ts';
import { Status } from '../../../abi/nvme-status.ts';
import { IdentifyController, SmartLog } from '../../../abi/nvme-structs.ts';
import { decodePlain, encodePlain } from '../../kit/plain-data.ts';
import { MemoryStorage } from '../../storage/memory-storage.ts';
import { OverlayStorage } from '../../storage/overlay-storage.ts';
import type { NvmeOptions } from '../nvme.ts';

/**
 * A controller, and how to move it to another one on the same host: the same object drives that one
 * from then on.
 */
function make(options: Partial<NvmeOptions> = {}, mode: 'msix' | 'intx' = 'msix') {
  const c = new ControllerUnderTest({ queues: 4, queueEntries: 64, mode, ...options });
  const other = (changed: Partial<NvmeOptions> = {}) => {
    const fresh = { namespaces: (options.namespaces ?? [{}]).map((n) => ({ ...n, storage: new MemoryStorage(2 ** 20) })) };
    return new ControllerUnderTest({ queues: 4, queueEntries: 64, ...options, ...fresh, serial: 'OTHER', ...changed, host: c.host });
  };
  return { c, other, save: () => save(c) };
}

function save(c: ControllerUnderTest): Uint8Array {
  c.model.migration!.stop();
  return c.model.migration!.save();
}

function load(into: ControllerUnderTest, state: Uint8Array, from?: ControllerUnderTest): void {
  into.model.migration!.stop();
  into.model.reset();
  into.model.migration!.load(state, 1);
  if (from === undefined) return;
  for (const [id, pair] of from.pairs) into.pairs.set(id, pair);
}

const AER = { opcode: AdminOpcode.ASYNC_EVENT_REQUEST };
const FLUSH = { opcode: NvmOpcode.FLUSH, nsid: 1 };

describe('B.11 what goes along with an NVMe controller', () => {
  it('B.11 registers, features, logs, counts and who it is; a disk that was moved stays that disk', () => {
    const { c, other } = make({ serial: 'SOURCE' });
    c.enable();
    c.createPair(1);
    const data = c.page();
    c.run(1, { opcode: NvmOpcode.WRITE, nsid: 1, prp1: data, cdw12: 7 });
    c.admin({ opcode: 0xc5 });
    c.admin({ opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.ERROR_RECOVERY, cdw11: 77 });
    c.admin({ opcode: AdminOpcode.SET_FEATURES, cdw10: 0x8000_0000 | FeatureId.TEMPERATURE_THRESHOLD, cdw11: 350 });
    const registers = [NvmeReg.CC, NvmeReg.CSTS, NvmeReg.AQA, NvmeReg.ASQ, NvmeReg.ACQ];
    const before = registers.map((register) => c.r(register));
    const to = other();
    load(to, save(c), c);
    to.model.migration!.start();
    expect(registers.map((register) => to.r(register))).toEqual(before);
    expect(to.admin({ opcode: AdminOpcode.GET_FEATURES, nsid: 1, cdw10: FeatureId.ERROR_RECOVERY }).result).toBe(77);
    expect(to.admin({ opcode: AdminOpcode.GET_FEATURES, cdw10: 0x200 | FeatureId.TEMPERATURE_THRESHOLD }).result).toBe(350);
    const view = new DataView(c.host.memory.buffer, data - 0x10_0000, 4096);
    const serialOf = (of: ControllerUnderTest) => {
      expect(of.admin({ opcode: AdminOpcode.IDENTIFY, cdw10: 1, prp1: data }).code).toBe(0);
      return IdentifyController.decode(view).sn.trim();
    };
    expect(serialOf(to)).toBe('SOURCE');
    to.admin({ opcode: AdminOpcode.GET_LOG_PAGE, prp1: data, cdw10: (127 << 16) | LogId.SMART });
    expect(SmartLog.decode(view)).toMatchObject({ hostWriteCommands: 1n, dataUnitsWritten: 1n, errorLogEntries: 1n, powerCycles: 1n });
    expect(to.run(1, { opcode: NvmOpcode.WRITE, nsid: 1, prp1: data, cdw12: 7 }).code).toBe(0);
    // The next host of that server sees the same disk.
    const again = new ControllerUnderTest({ host: c.host });
    Object.assign(again, { model: to.device.create(c.host) });
    again.enable();
    expect(serialOf(again)).toBe('SOURCE');
  });

  it('B.11 requests for events: one that comes after the move is reported by the other controller, once', () => {
    const { c, other } = make();
    c.enable();
    c.submit(0, { ...AER, cid: 900 });
    const to = other();
    load(to, save(c), c);
    to.model.migration!.start();
    expect(to.completions(0)).toEqual([]);
    to.w(NvmeReg.DOORBELLS + 8 * 3, 1);
    expect(to.completions(0)).toMatchObject([
      { cid: 900, code: 0, result: (EventError.INVALID_DOORBELL_REGISTER << 8) | (LogId.ERROR_INFORMATION << 16) },
    ]);
    to.w(NvmeReg.DOORBELLS + 8 * 3, 1);
    to.submit(0, { ...AER, cid: 901 });
    expect(to.completions(0)).toEqual([]);
  });

  it('B.11 a format that waits for commands is done by the stop; its block size goes along', () => {
    const storage = new MemoryStorage(2 ** 20);
    const { c, other } = make({ namespaces: [{ storage, limits: { latencyMs: 1 } }] });
    c.enable();
    c.createPair(1);
    const cid = c.submit(0, { opcode: AdminOpcode.FORMAT_NVM, nsid: 1, cdw10: regBits(FormatCdw10.LBAF, 1) });
    const state = save(c);
    const to = other();
    load(to, state, c);
    to.model.migration!.start();
    expect(to.completions(0)).toMatchObject([{ cid, code: 0 }]);
    const data = to.page();
    to.admin({ opcode: AdminOpcode.IDENTIFY, nsid: 1, prp1: data });
    expect(to.u32(data)).toBe(256);
  });

  it('B.11 Delete I/O Submission Queue that waits for a command: both end where it arrives', () => {
    const { c, other } = make({ namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs: 5 } }] });
    c.enable();
    c.createPair(1);
    c.submit(1, { ...FLUSH, cid: 7 });
    const cid = c.submit(0, { opcode: AdminOpcode.DELETE_SQ, cdw10: 1 });
    const to = other();
    c.host.clock.advance(2);
    load(to, save(c), c);
    to.model.migration!.start();
    c.host.clock.advance(2.9);
    expect(to.completions(0)).toEqual([]);
    c.host.clock.advance(0.2);
    return Promise.resolve().then(() => {
      expect(to.completions(1)).toMatchObject([{ cid: 7, code: 0 }]);
      expect(to.completions(0)).toMatchObject([{ cid, code: 0 }]);
      expect(to.submit(1, FLUSH)).toBeGreaterThan(0);
      expect(to.completions(1)).toEqual([]);
    });
  });

  it('a command that moves is an event where it ends, with its time since it arrived', () => {
    const { c, other } = make({ namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs: 5 } }] });
    c.enable();
    c.createPair(1);
    using events = c.host.stream.read({ kinds: ['command'] });
    c.submit(1, { ...FLUSH, cid: 7 });
    const to = other();
    c.host.clock.advance(2);
    load(to, save(c), c);
    to.model.migration!.start();
    c.host.clock.advance(3);
    expect(events.take()).toMatchObject([{ name: 'Flush', queue: 'I/O 1', fields: { cid: 7 }, status: 'ok', latencyNs: 3e6 }]);
    c.model.reset();
    expect(events.take()).toMatchObject([{ name: 'Flush', status: 'controller reset', latencyNs: 5e6 }]);
  });

  it('B.11 the Keep Alive timer keeps what was left of it, and does not run while it stands still', () => {
    const { c, other } = make();
    c.enable();
    c.admin({ opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.KEEP_ALIVE_TIMER, cdw11: 5000 });
    c.host.clock.advance(3000);
    const to = other();
    const state = save(c);
    c.host.clock.advance(60_000);
    expect(c.csts.cfs).toBe(0);
    load(to, state, c);
    to.model.migration!.start();
    c.host.clock.advance(1999);
    expect(to.csts.cfs).toBe(0);
    c.host.clock.advance(2);
    expect(to.csts.cfs).toBe(1);
  });

  it('B.11 the pin: what the host has not consumed keeps it up at the other end', () => {
    const { c, other } = make({}, 'intx');
    c.host.irq.vectors = 1;
    c.enable();
    c.submit(0, { opcode: AdminOpcode.GET_FEATURES, cdw10: FeatureId.NUMBER_OF_QUEUES });
    expect(c.host.asserted).toBe(true);
    const to = other();
    load(to, save(c), c);
    expect(c.host.asserted).toBe(false);
    to.model.migration!.start();
    expect(c.host.asserted).toBe(true);
    expect(to.completions(0)).toHaveLength(1);
    expect(c.host.asserted).toBe(false);
  });

  it('B.11 a controller that is off, has failed, or was shut down is moved as such', () => {
    for (const bring of [
      () => {},
      (c: ControllerUnderTest) => c.w(NvmeReg.CC, 1),
      (c: ControllerUnderTest) => {
        c.enable();
        c.w(NvmeReg.CC, c.r(NvmeReg.CC) | (1 << 14));
      },
    ]) {
      const { c, other } = make();
      bring(c);
      const before = [c.r(NvmeReg.CC), c.r(NvmeReg.CSTS)];
      const to = other();
      load(to, save(c), c);
      to.model.migration!.start();
      expect([to.r(NvmeReg.CC), to.r(NvmeReg.CSTS)]).toEqual(before);
      to.w(NvmeReg.CC, 0);
      to.enable();
      expect(to.admin({ opcode: AdminOpcode.GET_FEATURES, cdw10: FeatureId.NUMBER_OF_QUEUES }).code).toBe(0);
    }
  });
});

describe('B.11 an NVMe controller that stands still', () => {
  it('B.11 takes doorbells and does nothing; going on, it does what they said', () => {
    const { c } = make();
    c.enable();
    c.model.migration!.stop();
    const cid = c.submit(0, { opcode: AdminOpcode.GET_FEATURES, cdw10: FeatureId.NUMBER_OF_QUEUES });
    expect(c.completions(0)).toEqual([]);
    expect(c.csts.rdy).toBe(1);
    c.model.migration!.start();
    expect(c.completions(0)).toMatchObject([{ cid, code: 0 }]);
  });

  it('B.11 can be reset, enabled, and given commands: what was kept is forgotten, and the new life begins when it goes on', () => {
    const { c } = make({ namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs: 5 } }] });
    c.enable();
    c.createPair(1);
    c.submit(1, FLUSH);
    c.submit(0, AER);
    c.model.migration!.stop();
    c.w(NvmeReg.CC, 0);
    c.reuse();
    c.enable();
    const cid = c.submit(0, { opcode: AdminOpcode.GET_FEATURES, cdw10: FeatureId.NUMBER_OF_QUEUES });
    expect(c.completions(0)).toEqual([]);
    c.model.migration!.start();
    expect(c.completions(0)).toMatchObject([{ cid, code: 0 }]);
    c.host.clock.advance(100);
    expect(c.completions(0)).toEqual([]);
  });

  it('B.11 was stopped twice, and moved a second time after it was moved: as the first time', () => {
    const { c, other } = make();
    c.enable();
    c.submit(0, { ...AER, cid: 900 });
    c.model.migration!.stop();
    const first = save(c);
    const one = other();
    load(one, first, c);
    const two = other();
    const second = save(one);
    load(two, second, c);
    expect(decodePlain(second)).toEqual(decodePlain(first));
    two.model.migration!.start();
    // And the first one may go on, as after a move that failed.
    expect(two.admin({ opcode: AdminOpcode.GET_FEATURES, cdw10: FeatureId.NUMBER_OF_QUEUES }).code).toBe(0);
  });

  it('B.11 is quiet between devices that stop one after the other, also when it was stopped meanwhile', () => {
    const { c } = make();
    c.enable();
    const { migration } = c.model;
    migration!.p2p!.enter();
    migration!.stop();
    migration!.start();
    c.submit(0, { opcode: AdminOpcode.GET_FEATURES, cdw10: FeatureId.NUMBER_OF_QUEUES });
    expect(c.completions(0)).toEqual([]);
    migration!.p2p!.leave();
    expect(c.completions(0)).toHaveLength(1);
  });

  it('B.11 what it writes to a file would stay behind: such a disk cannot be moved, unless it is only read, or has an overlay', () => {
    const file = (readOnly: boolean) => Object.assign(new TestStorage(2 ** 20), { readOnly });
    expect(make({ namespaces: [{ storage: file(false) }] }).c.model.migration).toBeUndefined();
    expect(make({ namespaces: [{ storage: file(true) }] }).c.model.migration!.bulk).toBeUndefined();
    expect(make({ namespaces: [{ storage: new OverlayStorage(file(true)) }] }).c.model.migration!.bulk!.size).toBeGreaterThan(2 ** 20);
  });
});

describe('B.11 what an NVMe controller does not take', () => {
  const storage = (size = 2 ** 20) => ({ storage: new MemoryStorage(size) });
  it.each<[string, Partial<NvmeOptions>, RegExp]>([
    ['fewer I/O queues', { queues: 3 }, /I\/O queues: it has 4, this controller 3/],
    ['shorter queues', { queueEntries: 32 }, /entries in a queue: it has 64, this controller 32/],
    ['another MDTS', { mdts: 3 }, /MDTS: it has 7, this controller 3/],
    ['more namespaces', { namespaces: [storage(), storage()] }, /it has 1 namespaces, this controller 2/],
    ['a larger namespace', { namespaces: [storage(2 ** 21)] }, /namespace 1 has 1048576 bytes, here it has 2097152/],
    [
      'contents elsewhere',
      { namespaces: [{ storage: Object.assign(new TestStorage(2 ** 20), { readOnly: true }) }] },
      /namespace 1 is written to/,
    ],
  ])('B.11 %s: EINVAL that names it', (_, changed, message) => {
    const { c, other, save: saved } = make();
    c.enable();
    const to = other(changed);
    to.model.migration!.stop();
    expect(() => to.model.migration!.load(saved(), 1)).toThrow(
      expect.objectContaining({ code: 'EINVAL', message: expect.stringMatching(message) }),
    );
    c.model.migration!.start();
    expect(c.admin({ opcode: AdminOpcode.GET_FEATURES, cdw10: FeatureId.NUMBER_OF_QUEUES }).code).toBe(0);
  });

  it('B.11 a later version, and fields that it does not know', () => {
    const { c, other, save: saved } = make();
    c.enable();
    const state = decodePlain(saved()) as Record<string, unknown>;
    const to = other();
    expect(() => to.model.migration!.load(encodePlain(state), 2)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => to.model.migration!.load(encodePlain({ ...state, zoned: 1 }), 1)).toThrow(/zoned is not known here/);
  });

  /** Replaces one value somewhere in the state by something else. */
  function damage(value: unknown, at: number[], by: unknown): unknown {
    if (at.length === 0) return by;
    const [first, ...rest] = at;
    if (ArrayBuffer.isView(value)) {
      const copy = (value as Uint8Array).slice();
      if (copy.length > 0 && typeof by === 'number') copy[first! % copy.length] = by;
      return copy;
    }
    if (Array.isArray(value)) {
      if (value.length === 0) return [by];
      return value.map((each, i) => (i === first! % value.length ? damage(each, rest, by) : each));
    }
    if (typeof value !== 'object' || value === null) return by;
    const entries = Object.entries(value);
    return Object.fromEntries(entries.map(([key, each], i) => [key, i === first! % entries.length ? damage(each, rest, by) : each]));
  }

  it('B.11 whatever else: EINVAL, or a controller that works as far as it can, and as new after a reset', () => {
    const { c, other } = make({ namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs: 5 } }] });
    c.enable();
    c.createPair(1);
    c.createPair(2, 4);
    for (let i = 0; i < 3; i++) c.submit(1, FLUSH);
    c.submit(0, AER);
    c.submit(0, { opcode: AdminOpcode.DELETE_SQ, cdw10: 1 });
    const bytes = save(c);
    const state = decodePlain(bytes);
    const saved = c.host.memory.slice();
    let refused = 0;
    let taken = 0;
    const attempt = (damaged: Uint8Array) => {
      const to = other();
      c.host.memory.set(saved);
      to.model.migration!.stop();
      try {
        to.model.migration!.load(damaged, 1);
        taken++;
      } catch (error) {
        expect(error).toMatchObject({ code: 'EINVAL' });
        refused++;
        to.model.reset();
      }
      to.model.migration!.start();
      c.host.clock.advance(20);
      to.model.reset();
      to.reuse();
      to.enable();
      expect(to.admin({ opcode: AdminOpcode.GET_FEATURES, cdw10: FeatureId.NUMBER_OF_QUEUES }).code).toBe(Status.SUCCESS);
      to.model.dispose!();
      expect(to.host.logged.filter(({ level }) => level === 'error')).toEqual([]);
    };
    const value = fc.oneof(
      fc.integer(),
      fc.double(),
      fc.bigInt(),
      fc.boolean(),
      fc.constant(null),
      fc.constant('x'),
      fc.constant([]),
      fc.nat(16),
    );
    fc.assert(
      fc.property(fc.array(fc.nat(64), { maxLength: 5 }), value, (at, by) => attempt(encodePlain(damage(state, at, by)))),
      { numRuns: 1500 },
    );
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(255), fc.boolean(), (at, by, cut) => {
        const damaged = cut ? bytes.slice(0, at) : bytes.slice();
        if (!cut) damaged[at] = by;
        attempt(damaged);
      }),
      { numRuns: 500 },
    );
    expect(refused).toBeGreaterThan(500);
    expect(taken).toBeGreaterThan(10);
  });
});
