import { describe, expect, it } from 'vitest';
import { ControllerUnderTest } from '../../../../tests/kit/nvme/controller-under-test.ts';
import { TestStorage } from '../../../../tests/kit/nvme/test-storage.ts';
import {
  AdminOpcode,
  EventSmart,
  EventType,
  FEATURE_SAVE,
  FeatureId,
  FeatureSelect,
  LogId,
  NvmeReg,
  NvmOpcode,
} from '../../../abi/nvme.ts';
import { Status } from '../../../abi/nvme-status.ts';
import { MemoryStorage } from '../../storage/memory-storage.ts';
import type { NvmeOptions } from '../nvme.ts';

function make(options: Partial<NvmeOptions> = {}) {
  const c = new ControllerUnderTest(options);
  c.enable();
  return {
    c,
    set: (id: number, cdw11: number, nsid = 0) => c.admin({ opcode: AdminOpcode.SET_FEATURES, cdw10: id, cdw11, nsid }),
    get: (id: number, select = 0, nsid = 0, cdw11 = 0) =>
      c.admin({ opcode: AdminOpcode.GET_FEATURES, cdw10: (select << 8) | id, nsid, cdw11 }),
  };
}

const volatileDisk = (): NvmeOptions['namespaces'] => {
  const memory = new MemoryStorage(2 ** 20);
  return [{ storage: Object.assign(Object.create(memory), { volatile: true, open: memory.open.bind(memory), allocated: () => 0 }) }];
};

it.each([
  ['5.21.1.1 Arbitration', FeatureId.ARBITRATION, 0x0302_0105, 0x0302_0105],
  ['5.21.1.2 Power Management', FeatureId.POWER_MANAGEMENT, 0x20, 0x20],
  ['5.21.1.5 Error Recovery', FeatureId.ERROR_RECOVERY, 77, 77],
  ['5.21.1.8 Interrupt Coalescing', FeatureId.INTERRUPT_COALESCING, 0x0a05, 0x0a05],
  ['5.21.1.10 Write Atomicity Normal', FeatureId.WRITE_ATOMICITY_NORMAL, 0xff, 1],
  ['5.21.1.11 Asynchronous Event Configuration', FeatureId.ASYNC_EVENT_CONFIGURATION, 0x102, 0x102],
])('NVMe 1.4 %s: current, default, saved; a reset brings back what was saved', (_, id, value, kept) => {
  const { c, set, get } = make();
  const nsid = id === FeatureId.ERROR_RECOVERY ? 1 : 0;
  const initial = get(id, FeatureSelect.DEFAULT, nsid).result;
  expect(get(id, 0, nsid)).toMatchObject({ code: 0, result: initial });
  expect(set(id, value, nsid).code).toBe(0);
  expect(get(id, 0, nsid).result).toBe(kept);
  expect(get(id, FeatureSelect.SAVED, nsid).result).toBe(initial);
  c.w(NvmeReg.CC, 0);
  c.enable();
  expect(get(id, 0, nsid).result).toBe(initial);
  expect(set((FEATURE_SAVE | id) >>> 0, value, nsid).code).toBe(0);
  expect(get(id, FeatureSelect.SAVED, nsid).result).toBe(kept);
  expect(get(id, FeatureSelect.DEFAULT, nsid).result).toBe(initial);
  c.w(NvmeReg.CC, 0);
  c.enable();
  expect(get(id, 0, nsid).result).toBe(kept);
  expect(get(id, FeatureSelect.CAPABILITIES, nsid).result).toBe(nsid === 0 ? 5 : 7);
});

it('NVMe 1.4 5.21.1.2 Power Management: a state that is not there', () => {
  const { set } = make();
  expect(set(FeatureId.POWER_MANAGEMENT, 1).code).toBe(Status.INVALID_FIELD);
});

describe('NVMe 1.4 5.21.1.4 Temperature Threshold', () => {
  const UNDER = 1 << 20;

  it('over and under, each by itself', () => {
    const { set, get } = make();
    expect(get(FeatureId.TEMPERATURE_THRESHOLD).result).toBe(343);
    expect(get(FeatureId.TEMPERATURE_THRESHOLD, 0, 0, UNDER).result).toBe(0);
    set(FeatureId.TEMPERATURE_THRESHOLD, 350);
    set(FeatureId.TEMPERATURE_THRESHOLD, UNDER | 280);
    expect(get(FeatureId.TEMPERATURE_THRESHOLD).result).toBe(350);
    expect(get(FeatureId.TEMPERATURE_THRESHOLD, 0, 0, UNDER).result).toBe(280);
    expect(get(FeatureId.TEMPERATURE_THRESHOLD, FeatureSelect.DEFAULT, 0, UNDER).result).toBe(0);
  });

  it('a reset brings back what was saved, over and under, each by itself', () => {
    const { c, set, get } = make();
    const both = () => [0, UNDER].map((type) => get(FeatureId.TEMPERATURE_THRESHOLD, 0, 0, type).result);
    const save = (FEATURE_SAVE | FeatureId.TEMPERATURE_THRESHOLD) >>> 0;
    set(save, 350);
    set(FeatureId.TEMPERATURE_THRESHOLD, 351);
    set(FeatureId.TEMPERATURE_THRESHOLD, UNDER | 270);
    expect(both()).toEqual([351, 270]);
    c.w(NvmeReg.CC, 0);
    c.enable();
    expect(both()).toEqual([350, 0]);
    set(save, UNDER | 280);
    c.w(NvmeReg.CC, 0);
    c.enable();
    expect(both()).toEqual([350, 280]);
  });

  it.each([
    ['over', 0, 313, 314],
    ['under', UNDER, 313, 312],
  ])('%s: at the threshold there is a warning, beside it none (313 K)', (_, type, at, beside) => {
    const { c, set } = make();
    const page = c.page();
    const warning = () => {
      c.admin({ opcode: AdminOpcode.GET_LOG_PAGE, prp1: page, cdw10: (127 << 16) | LogId.SMART });
      return c.bytes(page, 1)[0];
    };
    set(FeatureId.TEMPERATURE_THRESHOLD, type | at);
    expect(warning()).toBe(2);
    set(FeatureId.TEMPERATURE_THRESHOLD, type | beside);
    expect(warning()).toBe(0);
  });

  it.each([[1 << 16], [2 << 20], [9 << 16]])('a sensor or a type that is not there (%i): Invalid Field in Command', (cdw11) => {
    const { set, get } = make();
    expect(set(FeatureId.TEMPERATURE_THRESHOLD, cdw11).code).toBe(Status.INVALID_FIELD);
    expect(get(FeatureId.TEMPERATURE_THRESHOLD, 0, 0, cdw11).code).toBe(Status.INVALID_FIELD);
  });

  it('passed: a critical warning, and an event when the host asked for it', () => {
    const { c, set } = make();
    c.submit(0, { opcode: AdminOpcode.ASYNC_EVENT_REQUEST, cid: 900 });
    set(FeatureId.TEMPERATURE_THRESHOLD, 300);
    expect(set(FeatureId.ASYNC_EVENT_CONFIGURATION, 0).code).toBe(0);
    c.submit(0, { opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.ASYNC_EVENT_CONFIGURATION, cdw11: 2 });
    const event = c.completions(0).find((e) => e.cid === 900);
    expect(event?.result).toBe(EventType.SMART | (EventSmart.TEMPERATURE_THRESHOLD << 8) | (LogId.SMART << 16));
    const page = c.page();
    c.admin({ opcode: AdminOpcode.GET_LOG_PAGE, cdw10: (127 << 16) | LogId.SMART, prp1: page });
    expect(c.bytes(page, 1)[0]).toBe(2);
    set(FeatureId.TEMPERATURE_THRESHOLD, 340);
    c.admin({ opcode: AdminOpcode.GET_LOG_PAGE, cdw10: (127 << 16) | LogId.SMART, prp1: page });
    expect(c.bytes(page, 1)[0]).toBe(0);
  });
});

describe('NVMe 1.4 5.21.1.5 Error Recovery', () => {
  it('is a namespace’s own; with FFFFFFFFh all have it', () => {
    const { set, get } = make({ namespaces: [1, 2].map(() => ({ storage: new MemoryStorage(2 ** 20) })) });
    set(FeatureId.ERROR_RECOVERY, 5, 2);
    expect([1, 2].map((nsid) => get(FeatureId.ERROR_RECOVERY, 0, nsid).result)).toEqual([0, 5]);
    set(FeatureId.ERROR_RECOVERY, 6, 0xffff_ffff);
    expect([1, 2].map((nsid) => get(FeatureId.ERROR_RECOVERY, 0, nsid).result)).toEqual([6, 6]);
    for (const nsid of [0, 3, 0xffff_ffff]) expect(get(FeatureId.ERROR_RECOVERY, 0, nsid).code).toBe(Status.INVALID_NAMESPACE);
    expect(set(FeatureId.ERROR_RECOVERY, 6, 3).code).toBe(Status.INVALID_NAMESPACE);
  });

  it('DULBE is not offered: Invalid Field in Command', () => {
    expect(make().set(FeatureId.ERROR_RECOVERY, 0x1_0000, 1).code).toBe(Status.INVALID_FIELD);
  });
});

describe('NVMe 1.4 5.21.1.6 Volatile Write Cache', () => {
  it('without one: Invalid Field in Command', () => {
    const { set, get } = make();
    expect(get(FeatureId.VOLATILE_WRITE_CACHE).code).toBe(Status.INVALID_FIELD);
    expect(set(FeatureId.VOLATILE_WRITE_CACHE, 1).code).toBe(Status.INVALID_FIELD);
  });

  it('with one it is on, and can be switched off', () => {
    const { set, get } = make({ namespaces: volatileDisk() });
    expect(get(FeatureId.VOLATILE_WRITE_CACHE).result).toBe(1);
    expect(set(FeatureId.VOLATILE_WRITE_CACHE, 0).code).toBe(0);
    expect(get(FeatureId.VOLATILE_WRITE_CACHE).result).toBe(0);
  });

  it('off, every write is on the disk when it ends; on again after a reset, unless that was saved', () => {
    const storage = new TestStorage(2 ** 20);
    const { c, set } = make({ namespaces: [{ storage }] });
    const durable = () => {
      c.createPair(1);
      c.submit(1, { opcode: NvmOpcode.WRITE, nsid: 1, prp1: 0x18_0000 });
      const [write] = storage.underWay;
      write!.end();
      return write!.durable;
    };
    const again = () => {
      c.w(NvmeReg.CC, 0);
      c.reuse();
      c.enable();
    };
    expect(durable()).toBe(false);
    again();
    set(FeatureId.VOLATILE_WRITE_CACHE, 0);
    expect(durable()).toBe(true);
    again();
    expect(durable()).toBe(false);
    again();
    set((FEATURE_SAVE | FeatureId.VOLATILE_WRITE_CACHE) >>> 0, 0);
    again();
    expect(durable()).toBe(true);
  });
});

describe('NVMe 1.4 5.21.1.9 Interrupt Vector Configuration', () => {
  it('is as it was after a reset, and cannot be saved', () => {
    const { c, set, get } = make();
    const id = FeatureId.INTERRUPT_VECTOR_CONFIGURATION;
    expect(set(id, 0x1_0003).code).toBe(0);
    expect(get(id, 0, 0, 3).result).toBe(0x1_0003);
    expect(set((FEATURE_SAVE | id) >>> 0, 0x1_0003).code).toBe(Status.FEATURE_NOT_SAVEABLE);
    c.w(NvmeReg.CC, 0);
    c.enable();
    expect(get(id, 0, 0, 3).result).toBe(3);
  });

  it('a vector that is not there: Invalid Field in Command', () => {
    const { set, get } = make({ queues: 3 });
    expect(set(FeatureId.INTERRUPT_VECTOR_CONFIGURATION, 4).code).toBe(Status.INVALID_FIELD);
    expect(get(FeatureId.INTERRUPT_VECTOR_CONFIGURATION, 0, 0, 4).code).toBe(Status.INVALID_FIELD);
    expect(set(FeatureId.INTERRUPT_VECTOR_CONFIGURATION, 3).code).toBe(0);
  });
});

it('NVMe 1.4 5.21.1.14 Timestamp: counts from a reset, or from what the host set', () => {
  const { c, set } = make();
  const page = c.page();
  const read = (select = 0) => {
    expect(c.admin({ opcode: AdminOpcode.GET_FEATURES, cdw10: FeatureId.TIMESTAMP | (select << 8), prp1: page }).code).toBe(0);
    const value = c.u32(page) + (c.u32(page + 4) & 0xffff) * 2 ** 32;
    return [value, (c.u32(page + 4) >>> 17) & 7];
  };
  c.host.clock.advance(250);
  expect(read()).toEqual([250, 0]);
  c.setU32(page, 0x89ab_cdef);
  c.setU32(page + 4, 0xffff_0123);
  expect(c.admin({ opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.TIMESTAMP, prp1: page }).code).toBe(0);
  c.host.clock.advance(1000);
  expect(read()).toEqual([0x123_89ab_cdef + 1000, 1]);
  expect(set((FEATURE_SAVE | FeatureId.TIMESTAMP) >>> 0, 0).code).toBe(Status.FEATURE_NOT_SAVEABLE);
  // SEL: default and saved are what a reset leaves; capabilities are dword 0 alone.
  expect([1, 2].map((select) => read(select))).toEqual([
    [0, 0],
    [0, 0],
  ]);
  c.setU32(page, 0x1234_5678);
  const capabilities = c.admin({ opcode: AdminOpcode.GET_FEATURES, cdw10: FeatureId.TIMESTAMP | (3 << 8), prp1: page });
  expect([capabilities.code, capabilities.result, c.u32(page)]).toEqual([0, 4, 0x1234_5678]);
  c.w(NvmeReg.CC, 0);
  c.enable();
  expect(read()).toEqual([0, 0]);
});

it.each([0x00, 0x03, 0x0c, 0x0d, 0x10, 0x11, 0x16, 0x80, 0x81, 0x84, 0xff])(
  'NVMe 1.4 5.13, 5.21: feature %i is not there: Invalid Field in Command',
  (id) => {
    const { set, get } = make();
    expect(set(id, 0)).toMatchObject({ code: Status.INVALID_FIELD, doNotRetry: true });
    expect(get(id)).toMatchObject({ code: Status.INVALID_FIELD, doNotRetry: true });
  },
);

it('NVMe 1.4 5.13 Get Features: a select that is reserved', () => {
  expect(make().get(FeatureId.ARBITRATION, 4).code).toBe(Status.INVALID_FIELD);
});

it('NVMe 1.4 5.21 Set Features: saving what cannot be, and a namespace where there is none to say', () => {
  const { set } = make();
  expect(set((FEATURE_SAVE | FeatureId.NUMBER_OF_QUEUES) >>> 0, 0).code).toBe(Status.FEATURE_NOT_SAVEABLE);
  expect(set(FeatureId.ARBITRATION, 0, 1).code).toBe(Status.FEATURE_NOT_NAMESPACE_SPECIFIC);
  expect(set(FeatureId.ARBITRATION, 0, 0xffff_ffff).code).toBe(0);
});
