import { describe, expect, it } from 'vitest';
import { MDTS, pattern, type SglText, TestIo } from '../../../tests/kit/nvme/test-io.ts';
import { TestStorage } from '../../../tests/kit/nvme/test-storage.ts';
import { DsmAttribute, NvmCdw12, NvmOpcode } from '../../abi/nvme.ts';
import { Status } from '../../abi/nvme-status.ts';
import { Errno } from '../../base/errno.ts';
import { MemoryStorage } from '../storage/memory-storage.ts';

const MIB = 2 ** 20;
const { READ, WRITE, COMPARE, VERIFY, WRITE_ZEROES, DATASET_MANAGEMENT, FLUSH } = NvmOpcode;

function stalling(options: ConstructorParameters<typeof TestIo>[1] = {}) {
  const storage = new TestStorage(MIB);
  storage.bytes.set(pattern(MIB, 3));
  return { storage, io: new TestIo([{ storage }], options) };
}

describe('a storage that would block', () => {
  it('a batch is submitted once, and each command ends with its own operation, in whatever order', () => {
    const { storage, io } = stalling();
    io.memory.bytes.set(pattern(512, 9), 0x4000);
    const [read, write, compare] = io.start(
      { opcode: READ, lba: 4, prp1: 0 },
      { opcode: WRITE, lba: 8, prp1: 0x4000 },
      { opcode: COMPARE, lba: 4, prp1: 0x5000 },
    );
    expect(storage.batches).toBe(1);
    expect(storage.underWay.map((o) => [o.kind, o.offset])).toEqual([
      ['read', 2048],
      ['write', 4096],
      ['read', 2048],
    ]);
    for (const i of [2, 1, 0]) storage.underWay[i]!.end();
    expect(io.completed).toEqual([
      [compare, Status.COMPARE_FAILURE],
      [write, Status.SUCCESS],
      [read, Status.SUCCESS],
    ]);
    expect(io.memory.bytes.subarray(0, 512)).toEqual(storage.bytes.subarray(2048, 2560));
    expect(storage.bytes.subarray(4096, 4608)).toEqual(pattern(512, 9));
    expect(io.idle).toBe(true);
  });

  it('a write takes its data when it is started: what the host writes there later is not on the disk', () => {
    const { storage, io } = stalling();
    io.memory.bytes.set(pattern(512, 9), 0);
    io.start({ opcode: WRITE, prp1: 0 });
    io.memory.bytes.fill(0);
    storage.endAll();
    expect(storage.bytes.subarray(0, 512)).toEqual(pattern(512, 9));
  });

  it('Verify reads everything, in pieces, and stops at the first error', () => {
    const { storage, io } = stalling();
    const [id] = io.start({ opcode: VERIFY, blocks: 2048 });
    const read: number[] = [];
    while (storage.underWay.length > 0) {
      read.push(storage.underWay[0]!.offset);
      storage.underWay[0]!.end();
    }
    expect(read).toEqual([0, 0x4_0000, 0x8_0000, 0xc_0000]);
    expect(io.completed).toEqual([[id, Status.SUCCESS]]);
    io.start({ opcode: VERIFY, blocks: 2048 });
    storage.underWay[0]!.end();
    storage.underWay[0]!.end(-Errno.EIO);
    expect(storage.underWay).toEqual([]);
    expect(io.completed.at(-1)![1]).toBe(Status.UNRECOVERED_READ_ERROR);
    expect(io.idle).toBe(true);
  });

  it('NVMe 1.4 9.3 a fault at the end of a read: Data Transfer Error', () => {
    const { storage, io } = stalling();
    io.start({ opcode: READ, prp1: 0x4000 });
    io.memory.kinds[4] = 'none';
    storage.endAll();
    expect(io.completed.at(-1)![1]).toBe(Status.DATA_TRANSFER_ERROR);
    expect(io.idle).toBe(true);
  });
});

describe('the pool is bounded', () => {
  it('commands wait in order when it is empty, none is lost', () => {
    const { storage, io } = stalling({ bounceBytes: 2 * MDTS, operations: 1024 });
    const tests = Array.from({ length: 100 }, (_, i) => ({ opcode: READ, lba: i * 8, blocks: 8, prp1: 0 }));
    const ids = io.start(...tests);
    expect(io.commands.inUse).toEqual({ bounceBytes: 2 * MDTS, operations: 64 });
    expect(io.commands.pending).toBe(100);
    storage.underWay[63]!.end();
    expect(storage.underWay.length).toBe(64);
    expect(storage.underWay.at(-1)!.offset).toBe(64 * 4096);
    storage.endAll();
    expect(io.completed.map(([id]) => id).sort((a, b) => a - b)).toEqual(ids);
    expect(io.idle).toBe(true);
  });

  it('as are the operations; a flush waits behind those that wait', () => {
    const { storage, io } = stalling({ operations: 2 });
    const ids = io.start(...[0, 8, 16].map((lba) => ({ opcode: WRITE, lba })), { opcode: FLUSH }, { opcode: READ, lba: 64 });
    const kinds: string[] = [];
    while (storage.underWay.length > 0) {
      kinds.push(storage.underWay[0]!.kind);
      expect(io.commands.inUse.operations).toBeLessThanOrEqual(2);
      storage.underWay[0]!.end();
    }
    expect(kinds).toEqual(['write', 'write', 'write', 'flush', 'read']);
    expect(io.completed.map(([id]) => id)).toEqual(ids);
    expect(io.idle).toBe(true);
  });
});

describe('NVMe 1.4 6.4 no block is torn between two commands', () => {
  it('a command that touches what a write under way touches waits for it; others pass', () => {
    const { storage, io } = stalling();
    storage.blocks = { read: false, write: true };
    const [write] = io.start({ opcode: WRITE, lba: 8, blocks: 8, prp1: 0 });
    const [overlapping] = io.start({ opcode: READ, lba: 15, blocks: 2, prp1: 0x4000 });
    const [beside] = io.start({ opcode: READ, lba: 16, blocks: 1, prp1: 0x5000 });
    expect(io.completed).toEqual([[beside, 0]]);
    storage.endAll();
    expect(io.completed.map(([id]) => id)).toEqual([beside, write, overlapping]);
    expect(io.memory.bytes[0x4000]).toBe(0);
    expect(io.memory.bytes.subarray(0x4200, 0x4400)).toEqual(storage.bytes.subarray(16 * 512, 17 * 512));
  });

  it('a write waits for a read under way; two reads do not wait for each other', () => {
    const { storage, io } = stalling();
    storage.blocks = { read: true, write: false };
    const before = storage.bytes.slice(0, 4096);
    io.start({ opcode: READ, lba: 0, blocks: 8, prp1: 0x4000 }, { opcode: READ, lba: 4, blocks: 8, prp1: 0x5000 });
    io.start({ opcode: WRITE, lba: 7, blocks: 1, prp1: 0 });
    expect(storage.underWay.length).toBe(2);
    storage.endAll();
    expect(io.memory.bytes.subarray(0x4000, 0x5000)).toEqual(before);
    expect(storage.bytes[7 * 512]).toBe(0);
    expect(io.idle).toBe(true);
  });

  it('a block in two pieces of memory is one operation of the storage', () => {
    const storage = new TestStorage(MIB);
    storage.immediate = true;
    storage.blocks = { read: false, write: false };
    using io = new TestIo([{ storage, blockSize: 4096 }]);
    io.memory.bytes.set(pattern(4096, 5), 0x4800);
    const sizes: number[] = [];
    const open = io.namespaces.get(1)!.queue;
    const tryWrite = open.tryWrite.bind(open);
    open.tryWrite = (offset, from) => {
      sizes.push(from.length);
      return tryWrite(offset, from);
    };
    expect(io.write(1, 1, 0x4800, 0x5000)).toBe(Status.SUCCESS);
    expect(sizes).toEqual([4096]);
    expect(storage.bytes.subarray(4096, 8192)).toEqual(pattern(4096, 5));
    expect(io.read(1, 1, 0x8800, 0xa000)).toBe(Status.SUCCESS);
    expect(io.memory.bytes.subarray(0x8800, 0x9000)).toEqual(pattern(4096, 5).subarray(0, 0x800));
    expect(io.memory.bytes.subarray(0xa000, 0xa800)).toEqual(pattern(4096, 5).subarray(0x800));
  });

  it('what is deallocated counts from the first range to the last', () => {
    const { storage, io } = stalling();
    storage.blocks = { read: false, write: false };
    const view = new DataView(io.memory.bytes.buffer);
    for (const [i, lba] of [8, 24].entries()) {
      view.setUint32(0x4000 + 16 * i + 4, 8, true);
      view.setBigUint64(0x4000 + 16 * i + 8, BigInt(lba), true);
    }
    io.start({ opcode: DATASET_MANAGEMENT, prp1: 0x4000, cdw10: 1, cdw11: DsmAttribute.DEALLOCATE });
    io.start({ opcode: WRITE, lba: 30 }, { opcode: WRITE, lba: 32 });
    expect(io.completed.map(([id]) => id)).toEqual([3]);
    storage.underWay[0]!.end();
    expect(io.completed.length).toBe(1);
    storage.endAll();
    expect(io.completed.map(([id]) => id)).toEqual([3, 1, 2]);
    expect(io.idle).toBe(true);
  });
});

describe('memory that answers only later', () => {
  function remote() {
    const io = new TestIo([{ storage: new MemoryStorage(MIB) }]);
    io.memory.kinds.fill('remote');
    return io;
  }

  it('read, write, compare, deallocate with data and lists there', async () => {
    using io = remote();
    const data = pattern(4 * 4096, 6);
    io.memory.bytes.set(data, 0x4000);
    io.list(0x1ff0, [0x5000, 0x2_0000]);
    io.list(0x2_0000, [0x6000, 0x7000]);
    const list = { lba: 16, blocks: 32, prp1: 0x4000, prp2: 0x1ff0 };
    io.start({ opcode: WRITE, ...list });
    await io.settle();
    io.start({ opcode: COMPARE, ...list });
    await io.settle();
    io.segment(0x3000, [
      [0x1_0001, 1000, 0],
      [0, 24, 0x10],
      [0x1_1003, 4 * 4096 - 1024, 0],
    ]);
    io.start({ opcode: READ, lba: 16, blocks: 32, sgl: [0x3000, 48, 0x30] });
    await io.settle();
    expect(io.completed.map(([, status]) => status)).toEqual([0, 0, 0]);
    expect(io.memory.bytes.subarray(0x1_0001, 0x1_0001 + 1000)).toEqual(data.subarray(0, 1000));
    expect(io.memory.bytes.subarray(0x1_1003, 0x1_1003 + 4 * 4096 - 1024)).toEqual(data.subarray(1024));
    new DataView(io.memory.bytes.buffer).setUint32(0x9004, 2048, true);
    io.start({ opcode: DATASET_MANAGEMENT, prp1: 0x9000, cdw10: 0, cdw11: DsmAttribute.DEALLOCATE });
    await io.settle();
    io.start({ opcode: COMPARE, ...list });
    await io.settle();
    expect(io.completed.map(([, status]) => status)).toEqual([0, 0, 0, 0, Status.COMPARE_FAILURE]);
    expect(io.idle).toBe(true);
  });

  it('some pages direct, some not', async () => {
    using io = remote();
    io.memory.kinds.fill('direct', 4, 5);
    io.memory.bytes.set(pattern(8192, 4), 0x4000);
    io.start({ opcode: WRITE, blocks: 16, prp1: 0x4000, prp2: 0x5000 });
    await io.settle();
    io.start({ opcode: READ, blocks: 16, prp1: 0x8000, prp2: 0x4000 });
    await io.settle();
    expect(io.memory.bytes.subarray(0x8000, 0x9000)).toEqual(pattern(8192, 4).subarray(0, 4096));
    expect(io.memory.bytes.subarray(0x4000, 0x5000)).toEqual(pattern(8192, 4).subarray(4096));
    expect(io.idle).toBe(true);
  });

  it('NVMe 1.4 9.3 faults while it answers: Data Transfer Error, for data and for lists', async () => {
    using io = remote();
    io.memory.hold = true;
    io.list(0x3000, [0x5000, 0x6000]);
    const tests = [
      { opcode: WRITE, prp1: 0x4000 },
      { opcode: READ, prp1: 0x4000, lba: 8 },
      { opcode: READ, prp1: 0x8000, prp2: 0x3000, lba: 16, blocks: 24 },
      { opcode: DATASET_MANAGEMENT, prp1: 0x4000, cdw10: 0, cdw11: DsmAttribute.DEALLOCATE },
    ];
    for (const test of tests) {
      io.start(test);
      io.memory.kinds.fill('none');
      io.memory.answer();
      await io.settle();
      expect(io.completed.at(-1)![1]).toBe(Status.DATA_TRANSFER_ERROR);
      io.memory.kinds.fill('remote');
    }
    expect(io.completed.length).toBe(tests.length);
    expect(io.idle).toBe(true);
  });

  it('deallocate holds the whole namespace until its ranges are known', async () => {
    using io = remote();
    io.memory.hold = true;
    const [deallocate] = io.start({ opcode: DATASET_MANAGEMENT, prp1: 0x9000, cdw10: 0, cdw11: DsmAttribute.DEALLOCATE });
    io.memory.kinds[1] = 'direct';
    const [write] = io.start({ opcode: WRITE, prp1: 0x1000 });
    expect(io.completed).toEqual([]);
    io.memory.answer();
    await io.settle();
    expect(io.completed.map(([id]) => id)).toEqual([deallocate, write]);
    expect(io.idle).toBe(true);
  });
});

describe('reset', () => {
  it('nothing is completed or touches memory after it; buffers come back when their operations have ended', () => {
    const { storage, io } = stalling({ operations: 4 });
    io.start(
      { opcode: READ, prp1: 0 },
      { opcode: WRITE, lba: 8, prp1: 0x1000 },
      { opcode: FLUSH },
      { opcode: VERIFY, lba: 64, blocks: 1024 },
      { opcode: READ, lba: 16, prp1: 0x2000 },
    );
    const before = io.memory.bytes.slice();
    io.commands.reset();
    expect(io.commands.pending).toBe(0);
    expect(io.commands.inUse.operations).toBe(4);
    storage.endAll();
    expect(io.idle).toBe(true);
    expect(io.completed).toEqual([]);
    expect(Buffer.compare(io.memory.bytes, before)).toBe(0);
  });

  it('what was queued and not submitted ends too', () => {
    const { storage, io } = stalling();
    io.commands.start(io.make({ opcode: READ }));
    io.commands.reset();
    storage.endAll();
    expect(io.idle).toBe(true);
    expect(io.completed).toEqual([]);
  });

  it('a write of the last life never lands over what the new one wrote', () => {
    const { storage, io } = stalling();
    io.memory.bytes.fill(1, 0, 512);
    io.start({ opcode: WRITE, prp1: 0 });
    io.commands.reset();
    storage.blocks = { read: false, write: false };
    io.memory.bytes.fill(2, 0, 512);
    const [id] = io.start({ opcode: WRITE, prp1: 0 });
    expect(io.completed).toEqual([]);
    storage.endAll();
    expect(io.completed).toEqual([[id, 0]]);
    expect(storage.bytes[0]).toBe(2);
    expect(io.idle).toBe(true);
  });

  it('while memory answers, and while a long Verify lets others pass', async () => {
    const io = new TestIo([{ storage: new MemoryStorage(64 * MIB) }]);
    io.memory.kinds.fill('remote', 0, 16);
    io.memory.hold = true;
    const deallocate = { opcode: DATASET_MANAGEMENT, prp1: 0x2000, cdw10: 0, cdw11: DsmAttribute.DEALLOCATE };
    io.start({ opcode: WRITE, prp1: 0 }, { opcode: READ, lba: 8, prp1: 0x1000 }, { ...deallocate, lba: 9 });
    io.start({ opcode: VERIFY, lba: 64, blocks: 0x1_0000 });
    io.commands.reset();
    expect(io.clock.pendingTimers).toBe(0);
    const { writes, reads } = io.memory;
    io.memory.kinds.fill('none');
    io.memory.answer();
    await io.settle();
    expect([io.memory.writes, io.memory.reads]).toEqual([writes, reads]);
    expect(io.completed).toEqual([]);
    expect(io.idle).toBe(true);
  });

  it('what was sent to remote memory before cannot be called back: `quiet` resolves when it has landed', async () => {
    const { storage, io } = stalling();
    storage.blocks = { read: false, write: false };
    io.memory.kinds.fill('remote', 0, 16);
    io.memory.hold = true;
    expect(io.commands.quiet()).toBeNull();
    io.start({ opcode: READ, prp1: 0 });
    io.commands.reset();
    let quiet = false;
    void io.commands.quiet()!.then(() => {
      quiet = true;
    });
    await io.settle();
    expect(quiet).toBe(false);
    io.memory.answer();
    await io.settle();
    expect(quiet).toBe(true);
    expect(io.commands.quiet()).toBeNull();
    expect(io.completed).toEqual([]);
    expect(io.idle).toBe(true);
  });

  it('a command object may be used again at once', () => {
    const { storage, io } = stalling();
    const command = io.make({ opcode: READ, lba: 0, prp1: 0 });
    io.commands.start(command);
    io.commands.submit();
    io.commands.reset();
    command.dw.set(io.make({ opcode: READ, lba: 100, prp1: 0x4000 }).dw);
    io.commands.start(command);
    io.commands.submit();
    storage.endAll();
    expect(io.completed.length).toBe(1);
    expect(io.memory.bytes.subarray(0, 512).every((b) => b === 0)).toBe(true);
    expect(io.memory.bytes.subarray(0x4000, 0x4200)).toEqual(storage.bytes.subarray(51200, 51712));
  });
});

it.each([
  ['with DEAC its space may be given back', NvmCdw12.DEAC, true],
  ['without, it is kept', 0, false],
])('NVMe 1.4 6.17 Write Zeroes: %s, and the storage says when', (_, cdw12, discard) => {
  const { storage, io } = stalling();
  io.start({ opcode: WRITE_ZEROES, lba: 3, blocks: 2, cdw12 });
  expect(storage.underWay.map((o) => [o.kind, o.offset, o.size, o.discard])).toEqual([['zero', 1536, 1024, discard]]);
  storage.endAll();
  expect(io.completed.map(([, status]) => status)).toEqual([0]);
});

it('an SGL with bit buckets between blocks skips exactly those bytes, with views and with buffers', () => {
  for (const read of [false, true]) {
    const { storage, io } = stalling();
    storage.blocks = { read, write: true };
    storage.immediate = true;
    const list: SglText[] = [
      [0x8000, 512, 0],
      [0, 1024, 0x10],
      [0x9000, 512, 0],
    ];
    io.segment(0x4000, list);
    expect(io.status({ opcode: READ, lba: 2, blocks: 4, sgl: [0x4000, 48, 0x30] })).toBe(Status.SUCCESS);
    expect(io.memory.bytes.subarray(0x8000, 0x8200)).toEqual(storage.bytes.subarray(1024, 1536));
    expect(io.memory.bytes.subarray(0x9000, 0x9200)).toEqual(storage.bytes.subarray(2560, 3072));
  }
});
