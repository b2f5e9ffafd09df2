import { describe, expect, it } from 'vitest';
import { ControllerUnderTest } from '../../../../tests/kit/nvme/controller-under-test.ts';
import { AdminOpcode, FormatCdw10, LogId, NvmeReg, NvmOpcode, regBits, sqDoorbell } from '../../../abi/nvme.ts';
import { Status } from '../../../abi/nvme-status.ts';
import { MemoryStorage } from '../../storage/memory-storage.ts';

const FLUSH = { opcode: NvmOpcode.FLUSH, nsid: 1 };

function enabled(options: ConstructorParameters<typeof ControllerUnderTest>[0] = {}): ControllerUnderTest {
  const c = new ControllerUnderTest(options);
  c.enable();
  return c;
}

describe('NVMe 1.4 5.1 Abort', () => {
  it('an event request that waits is aborted', () => {
    const c = enabled();
    c.submit(0, { opcode: AdminOpcode.ASYNC_EVENT_REQUEST, cid: 0x1234 });
    c.submit(0, { opcode: AdminOpcode.ABORT, cid: 5, cdw10: 0x1234_0000 });
    expect(c.completions(0)).toMatchObject([
      { cid: 0x1234, code: Status.ABORT_REQUESTED, more: false },
      { cid: 5, code: 0, result: 0 },
    ]);
  });

  it.each([
    ['one that does not exist', 0x4444_0000],
    ['one of a queue that does not exist', 0x0001_0009],
    ['itself', 0x0005_0000],
  ])('%s: Successful Completion, and not aborted', (_, cdw10) => {
    const c = enabled();
    expect(c.admin({ opcode: AdminOpcode.ABORT, cid: 5, cdw10 })).toMatchObject({ code: 0, result: 1 });
  });

  it('a command of an I/O queue that waits for its turn is aborted; one that has ended, not', async () => {
    const c = enabled({ namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs: 5 } }] });
    c.createPair(1);
    c.submit(1, { ...FLUSH, cid: 9 });
    c.submit(1, { ...FLUSH, cid: 10 });
    expect(c.admin({ opcode: AdminOpcode.ABORT, cdw10: 0x0009_0001 })).toMatchObject({ code: 0, result: 0 });
    expect(c.completions(1)).toMatchObject([{ cid: 9, code: Status.ABORT_REQUESTED }]);
    c.host.clock.advance(5);
    await Promise.resolve();
    expect(c.completions(1)).toMatchObject([{ cid: 10, code: 0 }]);
    expect(c.admin({ opcode: AdminOpcode.ABORT, cdw10: 0x000a_0001 })).toMatchObject({ code: 0, result: 1 });
  });
});

it('NVMe 1.4 5.1 Abort Command Limit: each ends before the next is looked at, so that no number at once is too many', () => {
  const c = enabled({ namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs: 5 } }] });
  c.createPair(1);
  for (let cid = 0; cid < 12; cid++) c.submit(1, { ...FLUSH, cid });
  for (let cid = 0; cid < 12; cid++) c.put(0, { opcode: AdminOpcode.ABORT, cdw10: (cid << 16) | 1 });
  c.ringTail(0);
  expect(c.completions(0).map(({ code, result }) => [code, result])).toEqual(new Array(12).fill([0, 0]));
  expect(c.completions(1).map(({ cid, code }) => [cid, code])).toEqual(Array.from({ length: 12 }, (_, i) => [i, Status.ABORT_REQUESTED]));
});

describe('NVMe 1.4 5.2 Asynchronous Event Request', () => {
  it('waits; more than AERL + 1 at once: Asynchronous Event Request Limit Exceeded', () => {
    const c = enabled();
    for (let i = 0; i < 8; i++) c.submit(0, { opcode: AdminOpcode.ASYNC_EVENT_REQUEST });
    expect(c.completions(0)).toEqual([]);
    expect(c.admin({ opcode: AdminOpcode.ASYNC_EVENT_REQUEST })).toMatchObject({ code: Status.AER_LIMIT_EXCEEDED, doNotRetry: true });
  });

  it('an event that came before the request is reported with it; the next of its type when the log was read', () => {
    const c = enabled();
    c.w(sqDoorbell(9, 0), 1);
    const first = c.admin({ opcode: AdminOpcode.ASYNC_EVENT_REQUEST });
    expect(first).toMatchObject({ code: 0, result: LogId.ERROR_INFORMATION << 16 });
    c.submit(0, { opcode: AdminOpcode.ASYNC_EVENT_REQUEST, cid: 900 });
    c.w(sqDoorbell(0, 0), 999);
    expect(c.completions(0)).toEqual([]);
    const page = c.page();
    const log = { opcode: AdminOpcode.GET_LOG_PAGE, prp1: page, cdw10: LogId.ERROR_INFORMATION };
    expect(c.admin({ ...log, cdw10: log.cdw10 | 0x8000 }).code).toBe(0);
    c.submit(0, log);
    expect(c.completions(0).find((e) => e.cid === 900)?.result).toBe((LogId.ERROR_INFORMATION << 16) | (1 << 8));
  });

  it('a flood of events is reported once', () => {
    const c = enabled();
    for (let i = 0; i < 1000; i++) c.w(sqDoorbell(9, 0), 1);
    c.admin({ opcode: AdminOpcode.ASYNC_EVENT_REQUEST });
    c.submit(0, { opcode: AdminOpcode.ASYNC_EVENT_REQUEST, cid: 900 });
    c.submit(0, { opcode: AdminOpcode.GET_LOG_PAGE, prp1: c.page(), cdw10: LogId.ERROR_INFORMATION });
    expect(c.completions(0).some((e) => e.cid === 900)).toBe(false);
  });

  it('requests are forgotten by a reset', () => {
    const c = enabled();
    for (let i = 0; i < 8; i++) c.submit(0, { opcode: AdminOpcode.ASYNC_EVENT_REQUEST });
    c.w(NvmeReg.CC, 0);
    c.enable();
    c.submit(0, { opcode: AdminOpcode.ASYNC_EVENT_REQUEST });
    expect(c.completions(0)).toEqual([]);
    expect(c.csts.cfs).toBe(0);
  });
});

describe('NVMe 1.4 5.23 Format NVM', () => {
  it('changes the block size, and blocks read as zeroes', async () => {
    const c = enabled();
    c.createPair(1);
    const data = c.page();
    c.bytes(data, 4096).fill(0x77);
    expect(c.run(1, { opcode: NvmOpcode.WRITE, nsid: 1, prp1: data, cdw12: 7 }).code).toBe(0);
    c.submit(0, { opcode: AdminOpcode.FORMAT_NVM, nsid: 1, cdw10: regBits(FormatCdw10.LBAF, 1) | regBits(FormatCdw10.SES, 1) });
    await Promise.resolve();
    expect(c.completions(0)).toMatchObject([{ code: 0 }]);
    expect(c.run(1, { opcode: NvmOpcode.READ, nsid: 1, prp1: data, cdw12: 0 }).code).toBe(0);
    expect(c.bytes(data, 4096).every((b) => b === 0)).toBe(true);
    c.admin({ opcode: AdminOpcode.IDENTIFY, nsid: 1, prp1: data });
    expect(c.u32(data)).toBe(256);
  });

  it.each([
    ['a format that is not there', 1, regBits(FormatCdw10.LBAF, 2), Status.INVALID_FORMAT],
    ['protection information', 1, regBits(FormatCdw10.PI, 1), Status.INVALID_FORMAT],
    ['cryptographic erase', 1, regBits(FormatCdw10.SES, 2), Status.INVALID_FIELD],
    ['a reserved erase', 1, regBits(FormatCdw10.SES, 7), Status.INVALID_FIELD],
    ['a namespace that is not there', 2, 0, Status.INVALID_NAMESPACE],
    ['namespace 0', 0, 0, Status.INVALID_NAMESPACE],
  ])('%s', (_, nsid, cdw10, status) => {
    const c = enabled();
    expect(c.admin({ opcode: AdminOpcode.FORMAT_NVM, nsid, cdw10 })).toMatchObject({ code: status, doNotRetry: true });
  });
});

describe('malformed', () => {
  it.each([
    AdminOpcode.NAMESPACE_MANAGEMENT,
    AdminOpcode.FIRMWARE_COMMIT,
    AdminOpcode.FIRMWARE_DOWNLOAD,
    AdminOpcode.DEVICE_SELF_TEST,
    AdminOpcode.NAMESPACE_ATTACHMENT,
    AdminOpcode.DIRECTIVE_SEND,
    AdminOpcode.SECURITY_SEND,
    AdminOpcode.SANITIZE,
    AdminOpcode.GET_LBA_STATUS,
    0x03,
    0xff,
  ])('NVMe 1.4 5: opcode %i is not offered: Invalid Command Opcode', (opcode) => {
    expect(enabled().admin({ opcode, nsid: 1 })).toMatchObject({ code: Status.INVALID_OPCODE, doNotRetry: true });
  });

  it.each([
    ['FUSE: first', 1],
    ['FUSE: second', 2],
    ['PSDT: SGL', 0x40],
    ['PSDT: SGL with metadata', 0x80],
    ['PSDT: reserved', 0xc0],
  ])('NVMe 1.4 4.2, 4.4: %s in an admin command: Invalid Field in Command', (_, flags) => {
    const c = enabled();
    const page = c.page();
    expect(c.admin({ opcode: AdminOpcode.IDENTIFY, cdw10: 1, prp1: page, flags })).toMatchObject({
      code: Status.INVALID_FIELD,
      doNotRetry: true,
    });
    expect(c.u32(page)).toBe(0);
  });

  it.each([
    AdminOpcode.CREATE_CQ,
    AdminOpcode.CREATE_SQ,
    AdminOpcode.DELETE_CQ,
    AdminOpcode.DELETE_SQ,
    AdminOpcode.ABORT,
    AdminOpcode.ASYNC_EVENT_REQUEST,
    AdminOpcode.DOORBELL_BUFFER_CONFIG,
  ])('NVMe 1.4 6.1.5: opcode %i knows no namespace: Invalid Field in Command', (opcode) => {
    expect(enabled().admin({ opcode, nsid: 1, cdw10: (15 << 16) | 1, cdw11: 1 }).code).toBe(Status.INVALID_FIELD);
  });

  it('a command of the NVM command set on the admin queue is none, and the reverse', () => {
    const c = enabled();
    c.createPair(1);
    expect(c.admin({ opcode: NvmOpcode.DATASET_MANAGEMENT, nsid: 1 }).code).not.toBe(0);
    expect(c.run(1, { opcode: AdminOpcode.IDENTIFY, cdw10: 1, prp1: c.page() }).code).toBe(Status.INVALID_OPCODE);
  });
});
