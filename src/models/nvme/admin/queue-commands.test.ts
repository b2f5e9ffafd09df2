import { describe, expect, it } from 'vitest';
import { ControllerUnderTest } from '../../../../tests/kit/nvme/controller-under-test.ts';
import { AdminOpcode, Cc, FeatureId, NvmeReg, NvmOpcode, regBits } from '../../../abi/nvme.ts';
import { Status } from '../../../abi/nvme-status.ts';
import { MemoryStorage } from '../../storage/memory-storage.ts';

const FLUSH = { opcode: NvmOpcode.FLUSH, nsid: 1 };
const qsize = (entries: number) => (entries - 1) * 0x1_0000;

function enabled(options: ConstructorParameters<typeof ControllerUnderTest>[0] = {}): ControllerUnderTest {
  const c = new ControllerUnderTest({ queues: 4, queueEntries: 64, ...options });
  c.enable();
  return c;
}

const createCq = (c: ControllerUnderTest, cdw10: number, cdw11 = 1, prp1 = c.page()) =>
  c.admin({ opcode: AdminOpcode.CREATE_CQ, prp1, cdw10, cdw11 });
const createSq = (c: ControllerUnderTest, cdw10: number, cdw11 = (1 << 16) | 1, prp1 = c.page()) =>
  c.admin({ opcode: AdminOpcode.CREATE_SQ, prp1, cdw10, cdw11 });

describe('NVMe 1.4 5.3 Create I/O Completion Queue', () => {
  it('creates queues up to the last there is, of up to MQES entries', () => {
    const c = enabled();
    for (const id of [1, 2, 3, 4]) expect(createCq(c, qsize(id === 4 ? 64 : 2) | id).code).toBe(0);
  });

  it.each([
    ['identifier 0', qsize(16), 1, Status.INVALID_QUEUE_ID],
    ['an identifier beyond all', qsize(16) | 5, 1, Status.INVALID_QUEUE_ID],
    ['an identifier in use', qsize(16) | 1, 1, Status.INVALID_QUEUE_ID],
    ['one entry', 2, 1, Status.INVALID_QUEUE_SIZE],
    ['more entries than MQES', qsize(65) | 2, 1, Status.INVALID_QUEUE_SIZE],
    ['memory in pieces (CAP.CQR)', qsize(16) | 2, 0, Status.INVALID_FIELD],
    ['a vector that is not there', qsize(16) | 2, (5 << 16) | 3, Status.INVALID_INTERRUPT_VECTOR],
  ])('%s', (_, cdw10, cdw11, status) => {
    const c = enabled();
    expect(createCq(c, qsize(16) | 1).code).toBe(0);
    expect(createCq(c, cdw10, cdw11)).toMatchObject({ code: status, doNotRetry: true });
    expect(createCq(c, qsize(16) | 2).code).toBe(0);
  });

  it('PRP Entry 1 not at a page: PRP Offset Invalid', () => {
    const c = enabled();
    expect(createCq(c, qsize(16) | 1, 1, c.page() + 64).code).toBe(Status.PRP_OFFSET_INVALID);
  });

  it('IOCQES not 16: Invalid Queue Size', () => {
    const c = enabled();
    c.w(NvmeReg.CC, regBits(Cc.EN, 1) | regBits(Cc.IOSQES, 6) | regBits(Cc.IOCQES, 5));
    expect(createCq(c, qsize(16) | 1).code).toBe(Status.INVALID_QUEUE_SIZE);
  });

  it.each([
    ['with the pin, those that MSI-X has', 'intx', 5],
    ['MSI has those that the host enabled', 'msi', 2],
  ] as const)('Invalid Interrupt Vector: %s', (_, mode, vector) => {
    const c = enabled({ mode });
    c.host.irq.vectors = mode === 'msi' ? 2 : 1;
    expect(createCq(c, qsize(16) | 1, (vector << 16) | 3).code).toBe(Status.INVALID_INTERRUPT_VECTOR);
    expect(createCq(c, qsize(16) | 1, ((vector - 1) << 16) | 3).code).toBe(0);
  });
});

describe('NVMe 1.4 5.4 Create I/O Submission Queue', () => {
  it.each([
    ['identifier 0', qsize(16), (1 << 16) | 1, Status.INVALID_QUEUE_ID],
    ['an identifier beyond all', qsize(16) | 5, (1 << 16) | 1, Status.INVALID_QUEUE_ID],
    ['an identifier in use', qsize(16) | 1, (1 << 16) | 1, Status.INVALID_QUEUE_ID],
    ['completing in the admin queue', qsize(16) | 2, 1, Status.INVALID_QUEUE_ID],
    ['completing beyond all', qsize(16) | 2, (5 << 16) | 1, Status.INVALID_QUEUE_ID],
    ['a completion queue that does not exist', qsize(16) | 2, (2 << 16) | 1, Status.CQ_INVALID],
    ['one entry', 2, (1 << 16) | 1, Status.INVALID_QUEUE_SIZE],
    ['more entries than MQES', qsize(65) | 2, (1 << 16) | 1, Status.INVALID_QUEUE_SIZE],
    ['memory in pieces (CAP.CQR)', qsize(16) | 2, 1 << 16, Status.INVALID_FIELD],
  ])('%s', (_, cdw10, cdw11, status) => {
    const c = enabled();
    createCq(c, qsize(16) | 1);
    expect(createSq(c, qsize(16) | 1).code).toBe(0);
    expect(createSq(c, cdw10, cdw11)).toMatchObject({ code: status, doNotRetry: true });
    expect(createSq(c, qsize(16) | 2).code).toBe(0);
  });

  it('PRP Entry 1 not at a page: PRP Offset Invalid', () => {
    const c = enabled();
    createCq(c, qsize(16) | 1);
    expect(createSq(c, qsize(16) | 1, (1 << 16) | 1, c.page() + 2048).code).toBe(Status.PRP_OFFSET_INVALID);
  });

  it('IOSQES not 64: Invalid Queue Size', () => {
    const c = enabled();
    createCq(c, qsize(16) | 1);
    c.w(NvmeReg.CC, regBits(Cc.EN, 1) | regBits(Cc.IOSQES, 7) | regBits(Cc.IOCQES, 4));
    expect(createSq(c, qsize(16) | 1).code).toBe(Status.INVALID_QUEUE_SIZE);
  });
});

describe('NVMe 1.4 5.5 Delete I/O Completion Queue', () => {
  it.each([[0], [2], [0xffff]])('%i, which is none: Invalid Queue Identifier', (id) => {
    const c = enabled();
    expect(c.admin({ opcode: AdminOpcode.DELETE_CQ, cdw10: id }).code).toBe(Status.INVALID_QUEUE_ID);
  });

  it('Invalid Queue Deletion while a submission queue uses it; afterwards it can be created again', () => {
    const c = enabled();
    expect(c.createPair(1)).toEqual([0, 0]);
    expect(c.admin({ opcode: AdminOpcode.DELETE_CQ, cdw10: 1 }).code).toBe(Status.INVALID_QUEUE_DELETION);
    expect(c.admin({ opcode: AdminOpcode.DELETE_SQ, cdw10: 1 }).code).toBe(0);
    expect(c.admin({ opcode: AdminOpcode.DELETE_CQ, cdw10: 1 }).code).toBe(0);
    expect(c.createPair(1)).toEqual([0, 0]);
    expect(c.run(1, FLUSH).code).toBe(0);
  });

  it('the pin falls with its completions', () => {
    const c = enabled({ mode: 'intx' });
    c.createPair(1, 16, { vector: 0 });
    c.submit(1, FLUSH);
    c.admin({ opcode: AdminOpcode.DELETE_SQ, cdw10: 1 });
    expect(c.host.asserted).toBe(true);
    c.admin({ opcode: AdminOpcode.DELETE_CQ, cdw10: 1 });
    expect(c.host.asserted).toBe(false);
  });
});

describe('NVMe 1.4 5.6 Delete I/O Submission Queue', () => {
  it.each([[0], [2], [0xffff]])('%i, which is none: Invalid Queue Identifier', (id) => {
    const c = enabled();
    expect(c.admin({ opcode: AdminOpcode.DELETE_SQ, cdw10: id }).code).toBe(Status.INVALID_QUEUE_ID);
  });

  it('ends when the commands of the queue have', async () => {
    const c = enabled({ namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs: 5 } }] });
    c.createPair(1);
    for (let i = 0; i < 3; i++) c.submit(1, FLUSH);
    c.submit(0, { opcode: AdminOpcode.DELETE_SQ, cdw10: 1 });
    expect(c.completions(0)).toEqual([]);
    c.host.clock.advance(5);
    await Promise.resolve();
    expect(c.completions(1)).toHaveLength(3);
    expect(c.completions(0)).toMatchObject([{ code: 0 }]);
  });

  it('does not wait for room in a completion queue that the host does not read', () => {
    const c = enabled();
    c.createPair(1, 16, { cqSize: 2 });
    for (let i = 0; i < 10; i++) c.put(1, FLUSH);
    c.ringTail(1);
    expect(c.admin({ opcode: AdminOpcode.DELETE_SQ, cdw10: 1 }).code).toBe(0);
    expect(c.admin({ opcode: AdminOpcode.DELETE_CQ, cdw10: 1 }).code).toBe(0);
  });

  it('a second one meanwhile: Invalid Queue Identifier', () => {
    const c = enabled({ namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs: 5 } }] });
    c.createPair(1);
    c.submit(1, FLUSH);
    c.submit(0, { opcode: AdminOpcode.DELETE_SQ, cdw10: 1 });
    expect(c.admin({ opcode: AdminOpcode.DELETE_SQ, cdw10: 1 }).code).toBe(Status.INVALID_QUEUE_ID);
  });
});

describe('NVMe 1.4 5.21.1.7 Number of Queues', () => {
  const set = (c: ControllerUnderTest, cdw11: number) =>
    c.admin({ opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.NUMBER_OF_QUEUES, cdw11 });

  it('gives what there is at most, and no more can be created', () => {
    const c = enabled();
    expect(set(c, (99 << 16) | 1)).toMatchObject({ code: 0, result: (3 << 16) | 1 });
    expect(c.admin({ opcode: AdminOpcode.GET_FEATURES, cdw10: FeatureId.NUMBER_OF_QUEUES }).result).toBe((3 << 16) | 1);
    expect(createCq(c, qsize(16) | 4).code).toBe(0);
    expect(createSq(c, qsize(16) | 3, (4 << 16) | 1).code).toBe(Status.INVALID_QUEUE_ID);
    expect(createSq(c, qsize(16) | 2, (4 << 16) | 1).code).toBe(0);
  });

  it.each([[0xffff], [0xffff_0000]])('65536 queues (%i): Invalid Field in Command', (cdw11) => {
    expect(set(enabled(), cdw11).code).toBe(Status.INVALID_FIELD);
  });

  it('once there are I/O queues: Command Sequence Error', () => {
    const c = enabled();
    c.createPair(1);
    expect(set(c, 0).code).toBe(Status.COMMAND_SEQUENCE_ERROR);
  });
});
