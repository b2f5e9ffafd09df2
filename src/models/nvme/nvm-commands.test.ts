import { describe, expect, it } from 'vitest';
import { MDTS, pattern, TestIo } from '../../../tests/kit/nvme/test-io.ts';
import { TestStorage } from '../../../tests/kit/nvme/test-storage.ts';
import { DsmAttribute, NSID_ALL, NvmCdw12, NvmOpcode } from '../../abi/nvme.ts';
import { Status, StatusBit } from '../../abi/nvme-status.ts';
import { Errno } from '../../base/errno.ts';
import { MemoryStorage } from '../storage/memory-storage.ts';
import { NVM_ATOMIC_WRITE_UNIT } from './nvm-commands.ts';

const DNR = StatusBit.DO_NOT_RETRY;
const MIB = 2 ** 20;

function over(storage: TestStorage): TestStorage {
  storage.bytes.set(pattern(storage.size, 3));
  return storage;
}

describe('what every I/O command is checked for (9.1)', () => {
  it('NVMe 1.4 4.6.1 Invalid Command Opcode: what is not offered, Write Uncorrectable among it', () => {
    using io = new TestIo([{ storage: new MemoryStorage(MIB) }]);
    for (const opcode of [0x03, NvmOpcode.WRITE_UNCORRECTABLE, NvmOpcode.RESERVATION_REPORT, 0xff]) {
      expect(io.status({ opcode })).toBe(Status.INVALID_OPCODE | DNR);
    }
    expect(io.idle).toBe(true);
  });

  it('NVMe 1.4 6.2 fused operations are not offered: either half is refused', () => {
    using io = new TestIo([{ storage: new MemoryStorage(MIB) }]);
    for (const fused of [1, 2, 3]) {
      for (const opcode of [NvmOpcode.COMPARE, NvmOpcode.WRITE, NvmOpcode.FLUSH]) {
        expect(io.status({ opcode, fused })).toBe(Status.INVALID_FIELD | DNR);
      }
    }
  });

  it('NVMe 1.4 6.1.2 a namespace that is not there, 0, and the broadcast value where it has no meaning', () => {
    using io = new TestIo([{ storage: new MemoryStorage(MIB) }]);
    for (const nsid of [0, 2, 0x8000_0000, NSID_ALL]) {
      for (const opcode of [NvmOpcode.READ, NvmOpcode.WRITE, NvmOpcode.DATASET_MANAGEMENT, NvmOpcode.VERIFY]) {
        expect(io.status({ opcode, nsid })).toBe(Status.INVALID_NAMESPACE | DNR);
      }
    }
    expect(io.status({ opcode: NvmOpcode.FLUSH, nsid: 2 })).toBe(Status.INVALID_NAMESPACE | DNR);
  });

  it('NVMe 1.4 4.6.1.2.1 LBA Out of Range: SLBA + NLB past the end, also where the sum passes 64 bits', () => {
    using io = new TestIo([{ storage: new MemoryStorage(MIB) }]);
    const end = MIB / 512;
    for (const opcode of [NvmOpcode.READ, NvmOpcode.WRITE, NvmOpcode.COMPARE, NvmOpcode.VERIFY, NvmOpcode.WRITE_ZEROES]) {
      expect(io.status({ opcode, lba: end - 1, blocks: 1 })).toBe(Status.SUCCESS);
      for (const lba of [end - 1, end, 2n ** 32n, 2n ** 53n - 1n, 2n ** 63n, 2n ** 64n - 2n]) {
        expect(io.status({ opcode, lba, blocks: 2 })).toBe(Status.LBA_OUT_OF_RANGE | DNR);
      }
    }
    expect(io.idle).toBe(true);
  });

  it('NVMe 1.4 5.15.2.2 MDTS: more is an invalid field before any list is looked at; Verify and Write Zeroes transfer nothing', () => {
    using io = new TestIo([{ storage: new MemoryStorage(64 * MIB) }]);
    const blocks = MDTS / 512 + 1;
    for (const opcode of [NvmOpcode.READ, NvmOpcode.WRITE, NvmOpcode.COMPARE]) {
      expect(io.status({ opcode, blocks })).toBe(Status.INVALID_FIELD | DNR);
    }
    expect(io.memory.reads).toBe(0);
    expect(io.status({ opcode: NvmOpcode.WRITE_ZEROES, blocks: 0x1_0000 })).toBe(Status.SUCCESS);
    io.start({ opcode: NvmOpcode.VERIFY, blocks: 0x1_0000 });
    io.clock.advance(0);
    io.clock.advance(10);
    expect(io.completed.at(-1)![1]).toBe(Status.SUCCESS);
    expect(io.idle).toBe(true);
  });

  it('NVMe 1.4 6.15 a directive type, which is not offered, is an invalid field of Write', () => {
    using io = new TestIo([{ storage: new MemoryStorage(MIB) }]);
    expect(io.status({ opcode: NvmOpcode.WRITE, cdw12: 1 << 20 })).toBe(Status.INVALID_FIELD | DNR);
  });

  it('NVMe 1.4 8.3 PRINFO means nothing without protection information, and LR asks for less than is done', () => {
    using io = new TestIo([{ storage: new MemoryStorage(MIB) }]);
    for (const opcode of [NvmOpcode.READ, NvmOpcode.WRITE]) {
      expect(io.status({ opcode, cdw12: NvmCdw12.PRINFO | NvmCdw12.LR })).toBe(Status.SUCCESS);
    }
  });

  it('NVMe 1.4 4.6.1.2.1 Attempted Write to Read Only Range: media that cannot be written', () => {
    const storage = new TestStorage(MIB);
    storage.readOnly = true;
    storage.blocks = { read: false, write: false };
    using io = new TestIo([{ storage }]);
    for (const opcode of [NvmOpcode.WRITE, NvmOpcode.WRITE_ZEROES]) {
      expect(io.status({ opcode })).toBe(Status.WRITE_TO_READ_ONLY_RANGE | DNR);
    }
    expect(io.status({ opcode: NvmOpcode.DATASET_MANAGEMENT, cdw10: 0, cdw11: DsmAttribute.DEALLOCATE })).toBe(
      Status.WRITE_TO_READ_ONLY_RANGE | DNR,
    );
    expect(io.status({ opcode: NvmOpcode.READ })).toBe(Status.SUCCESS);
    expect(storage.bytes.every((byte) => byte === 0)).toBe(true);
  });

  it('NVMe 1.4 6.4 one block is what is written atomically', () => {
    expect(NVM_ATOMIC_WRITE_UNIT).toBe(0);
  });
});

describe.each([512, 4096] as const)('blocks of %i bytes', (blockSize) => {
  it('NVMe 1.4 6.9 Read, 6.15 Write: what was written is read back, where it was written', () => {
    using io = new TestIo([{ storage: new MemoryStorage(MIB), blockSize }]);
    const data = pattern(2 * blockSize, 1);
    io.memory.bytes.set(data, 0x4000);
    expect(io.write(3, 2, 0x4000, 0x5000)).toBe(Status.SUCCESS);
    expect(io.read(2, 4, 0x8000, 0x9000)).toBe(blockSize === 512 ? Status.SUCCESS : Status.DATA_TRANSFER_ERROR);
    io.list(0xf000, [0x9000, 0xa000, 0xb000]);
    expect(io.read(2, 4, 0x8000, blockSize === 512 ? 0 : 0xf000)).toBe(Status.SUCCESS);
    const read = io.memory.bytes.subarray(0x8000, 0x8000 + 4 * blockSize);
    expect(read.subarray(blockSize, 3 * blockSize)).toEqual(data);
    expect(read.subarray(0, blockSize).every((b) => b === 0)).toBe(true);
    expect(read.subarray(3 * blockSize).every((b) => b === 0)).toBe(true);
  });

  it('NVMe 1.4 6.6 Compare: Compare Failure says that one byte differs', () => {
    using io = new TestIo([{ storage: new MemoryStorage(MIB), blockSize }]);
    io.memory.bytes.set(pattern(blockSize, 1), 0x4000);
    io.write(7, 1, 0x4000);
    const compare = { opcode: NvmOpcode.COMPARE, lba: 7, prp1: 0x4000 };
    expect(io.status(compare)).toBe(Status.SUCCESS);
    io.memory.bytes[0x4000 + blockSize - 1]! ^= 1;
    expect(io.status(compare)).toBe(Status.COMPARE_FAILURE);
    expect(io.idle).toBe(true);
  });

  it('NVMe 1.4 6.17 Write Zeroes: exactly the blocks named read as zeroes', () => {
    using io = new TestIo([{ storage: new MemoryStorage(MIB), blockSize }]);
    io.memory.bytes.fill(0xee, 0, 0x4000);
    io.list(0xf000, [0x1000, 0x2000, 0x3000]);
    io.write(0, 4, 0, blockSize === 512 ? 0 : 0xf000);
    expect(io.status({ opcode: NvmOpcode.WRITE_ZEROES, lba: 1, blocks: 2, cdw12: NvmCdw12.DEAC })).toBe(Status.SUCCESS);
    io.list(0xf000, [0x5000, 0x6000, 0x7000]);
    io.read(0, 4, 0x4000, blockSize === 512 ? 0 : 0xf000);
    const blocks = [0, 1, 2, 3].map((i) => io.memory.bytes.subarray(0x4000 + i * blockSize, 0x4000 + (i + 1) * blockSize));
    expect(blocks.map((b) => b.every((byte) => byte === 0xee))).toEqual([true, false, false, true]);
    expect(blocks.map((b) => b.every((byte) => byte === 0))).toEqual([false, true, true, false]);
  });
});

describe('NVMe 1.4 6.7 Dataset Management', () => {
  function ranges(io: TestIo, at: number, list: readonly [lba: number | bigint, blocks: number, attributes?: number][]): number {
    const view = new DataView(io.memory.bytes.buffer);
    list.forEach(([lba, blocks, attributes], i) => {
      view.setUint32(at + 16 * i, attributes ?? 0, true);
      view.setUint32(at + 16 * i + 4, blocks, true);
      view.setBigUint64(at + 16 * i + 8, BigInt(lba), true);
    });
    return list.length - 1;
  }
  const dsm = { opcode: NvmOpcode.DATASET_MANAGEMENT, cdw11: DsmAttribute.DEALLOCATE, prp1: 0x4000 };

  it('AD deallocates every range: it reads as zeroes, and takes no room', () => {
    const storage = new MemoryStorage(MIB);
    using io = new TestIo([{ storage }]);
    io.memory.bytes.fill(0xee, 0x1_0000, 0x3_0000);
    io.list(
      0xf000,
      Array.from({ length: 31 }, (_, i) => 0x1_1000 + i * 0x1000),
    );
    io.write(0, 256, 0x1_0000, 0xf000);
    expect(storage.allocated()).toBe(0x2_0000);
    const cdw10 = ranges(io, 0x4000, [
      [0, 128, 0x3f],
      [130, 1],
      [200, 0],
    ]);
    expect(io.status({ ...dsm, cdw10 })).toBe(Status.SUCCESS);
    expect(storage.allocated()).toBe(0x1_0000);
    io.read(128, 4, 0x5000);
    expect([0, 512, 1024, 1536].map((at) => io.memory.bytes[0x5000 + at])).toEqual([0xee, 0xee, 0, 0xee]);
  });

  it('256 ranges, in a buffer over two pages', () => {
    const storage = new TestStorage(MIB);
    storage.bytes.fill(0xee);
    storage.immediate = true;
    using io = new TestIo([{ storage }]);
    const list = Array.from({ length: 256 }, (_, i): [number, number] => [i * 2, 1]);
    const cdw10 = ranges(io, 0x4800, list);
    expect(io.status({ ...dsm, cdw10, prp1: 0x4800, prp2: 0x5000 })).toBe(Status.SUCCESS);
    for (let i = 0; i < 1024; i++) expect(storage.bytes[i * 512]).toBe(i < 512 && i % 2 === 0 ? 0 : 0xee);
    expect(io.idle).toBe(true);
  });

  it('one range out of range: none is deallocated', () => {
    const storage = over(new TestStorage(MIB));
    storage.immediate = true;
    using io = new TestIo([{ storage }]);
    const before = storage.bytes.slice();
    for (const bad of [
      [2047, 2],
      [2n ** 64n - 1n, 1],
      [2n ** 53n, 0],
      [0, 0xffff_ffff],
    ] as [number | bigint, number][]) {
      const cdw10 = ranges(io, 0x4000, [[0, 8], bad]);
      expect(io.status({ ...dsm, cdw10 })).toBe(Status.LBA_OUT_OF_RANGE | DNR);
    }
    expect(Buffer.compare(storage.bytes, before)).toBe(0);
    expect(io.idle).toBe(true);
  });

  it('without AD they are hints, and change nothing', () => {
    const storage = over(new TestStorage(MIB));
    using io = new TestIo([{ storage }]);
    const before = storage.bytes.slice();
    const cdw10 = ranges(io, 0x4000, [[0, 8]]);
    expect(io.status({ ...dsm, cdw11: DsmAttribute.INTEGRAL_READ | DsmAttribute.INTEGRAL_WRITE, cdw10 })).toBe(Status.SUCCESS);
    expect(Buffer.compare(storage.bytes, before)).toBe(0);
  });

  it('ranges that DMA does not reach: Data Transfer Error', () => {
    using io = new TestIo([{ storage: new MemoryStorage(MIB) }]);
    io.memory.kinds[4] = 'none';
    expect(io.status({ ...dsm, cdw10: 0 })).toBe(Status.DATA_TRANSFER_ERROR);
    expect(io.idle).toBe(true);
  });
});

describe('NVMe 1.4 6.8 Flush', () => {
  it('goes to the storage that has a volatile cache, and ends when it has', () => {
    const storage = new TestStorage(MIB);
    using io = new TestIo([{ storage }]);
    const [id] = io.start({ opcode: NvmOpcode.FLUSH });
    expect(io.completed).toEqual([]);
    expect(storage.underWay.map((o) => o.kind)).toEqual(['flush']);
    storage.endAll();
    expect(io.completed).toEqual([[id, Status.SUCCESS]]);
    expect(io.idle).toBe(true);
  });

  it('has nothing to do where nothing is volatile', () => {
    using io = new TestIo([{ storage: new MemoryStorage(MIB) }]);
    expect(io.status({ opcode: NvmOpcode.FLUSH })).toBe(Status.SUCCESS);
    expect(io.status({ opcode: NvmOpcode.FLUSH, nsid: NSID_ALL })).toBe(Status.SUCCESS);
  });

  it('with NSID FFFFFFFFh flushes all, and ends with the last, with the first error', () => {
    const storages = [new TestStorage(MIB), new TestStorage(MIB), new TestStorage(MIB)];
    storages[1]!.volatile = false;
    using io = new TestIo(storages.map((storage) => ({ storage })));
    expect(io.namespaces.vwc).toBe(7);
    const [id] = io.start({ opcode: NvmOpcode.FLUSH, nsid: NSID_ALL });
    expect(storages.map((s) => s.underWay.length)).toEqual([1, 0, 1]);
    storages[2]!.underWay[0]!.end(-Errno.EIO);
    expect(io.completed).toEqual([]);
    storages[0]!.endAll();
    expect(io.completed).toEqual([[id, Status.WRITE_FAULT]]);
    expect(io.idle).toBe(true);
  });
});

describe('durability', () => {
  it('NVMe 1.4 6.15 FUA: a write ends when it is on the disk', () => {
    const storage = new TestStorage(MIB);
    storage.blocks = { read: false, write: false };
    using io = new TestIo([{ storage }]);
    expect(io.write(0, 1, 0)).toBe(Status.SUCCESS);
    io.start({ opcode: NvmOpcode.WRITE, cdw12: NvmCdw12.FUA });
    expect(storage.underWay.map((o) => [o.kind, o.durable])).toEqual([['write', true]]);
    expect(io.commands.pending).toBe(1);
    storage.endAll();
    expect(io.completed.map(([, status]) => status)).toEqual([0, 0]);
  });

  it('NVMe 1.4 5.21.1.6 Volatile Write Cache off: every write, write zeroes and deallocate is on the disk when it ends', () => {
    const storage = new TestStorage(MIB);
    storage.blocks = { read: false, write: false };
    using io = new TestIo([{ storage }]);
    io.commands.writeCache = false;
    io.start({ opcode: NvmOpcode.WRITE });
    expect(storage.underWay.map((o) => o.durable)).toEqual([true]);
    storage.endAll();
    io.start({ opcode: NvmOpcode.WRITE_ZEROES });
    storage.underWay[0]!.end();
    expect(storage.underWay.map((o) => o.kind)).toEqual(['flush']);
    expect(io.commands.pending).toBe(1);
    storage.endAll();
    expect(io.idle).toBe(true);
    new DataView(io.memory.bytes.buffer).setUint32(4, 1, true);
    io.start({ opcode: NvmOpcode.DATASET_MANAGEMENT, cdw10: 0, cdw11: DsmAttribute.DEALLOCATE });
    expect(storage.underWay.map((o) => [o.kind, o.discard])).toEqual([['zero', true]]);
    storage.underWay[0]!.end();
    expect(storage.underWay.map((o) => o.kind)).toEqual(['flush']);
    storage.endAll();
    expect(io.completed.map(([, status]) => status)).toEqual([0, 0, 0]);
  });

  it('NVMe 1.4 6.9 FUA of a read, 6.6 of a compare: what is cached goes to the disk first', () => {
    const storage = over(new TestStorage(MIB));
    storage.blocks = { read: false, write: false };
    using io = new TestIo([{ storage }]);
    for (const opcode of [NvmOpcode.READ, NvmOpcode.COMPARE]) {
      io.start({ opcode, cdw12: NvmCdw12.FUA });
      expect(storage.underWay.map((o) => o.kind)).toEqual(['flush']);
      storage.endAll();
      expect(io.completed.at(-1)![1]).toBe(Status.SUCCESS);
    }
    expect(io.memory.bytes.subarray(0, 512)).toEqual(storage.bytes.subarray(0, 512));
  });
});

it('NVMe 1.4 6.14 Verify: the blocks are read, and no memory is touched; one that cannot be read is reported', () => {
  const storage = over(new TestStorage(MIB));
  storage.immediate = true;
  using io = new TestIo([{ storage }]);
  const { reads, writes } = io.memory;
  expect(io.status({ opcode: NvmOpcode.VERIFY, lba: 8, blocks: 16, prp1: 3 })).toBe(Status.SUCCESS);
  expect([io.memory.reads, io.memory.writes]).toEqual([reads, writes]);
  expect(io.commands.counters).toMatchObject({ unitsRead: 16, readCommands: 0 });
  storage.error = -Errno.EIO;
  expect(io.status({ opcode: NvmOpcode.VERIFY, lba: 8, blocks: 16 })).toBe(Status.UNRECOVERED_READ_ERROR);
  storage.error = 0;
  expect(io.status({ opcode: NvmOpcode.VERIFY, lba: 2040, blocks: 9 })).toBe(Status.LBA_OUT_OF_RANGE | DNR);
});

describe('NVMe 1.4 4.6.1.2, 9.2 errors of the storage', () => {
  const cases = [
    [Errno.EIO, Status.UNRECOVERED_READ_ERROR, Status.WRITE_FAULT],
    [Errno.ENOSPC, Status.CAPACITY_EXCEEDED, Status.CAPACITY_EXCEEDED],
    [Errno.EDQUOT, Status.CAPACITY_EXCEEDED, Status.CAPACITY_EXCEEDED],
    [Errno.EROFS, Status.WRITE_TO_READ_ONLY_RANGE | DNR, Status.WRITE_TO_READ_ONLY_RANGE | DNR],
    [Errno.ENOMEM, Status.INTERNAL_ERROR, Status.INTERNAL_ERROR],
  ] as const;

  it.each(cases)('errno %i, reported at once or later', (errno, read, write) => {
    for (const blocks of [true, false]) {
      const storage = new TestStorage(MIB);
      storage.blocks = { read: blocks, write: blocks };
      storage.immediate = true;
      storage.error = -errno;
      using io = new TestIo([{ storage }]);
      for (const opcode of [NvmOpcode.READ, NvmOpcode.COMPARE, NvmOpcode.VERIFY]) expect(io.status({ opcode })).toBe(read);
      for (const opcode of [NvmOpcode.WRITE, NvmOpcode.WRITE_ZEROES, NvmOpcode.FLUSH]) expect(io.status({ opcode })).toBe(write);
      expect(io.commands.counters).toMatchObject({
        unitsRead: 0,
        unitsWritten: 0,
        readCommands: 0,
        writeCommands: 0,
        mediaErrors: errno === Errno.EIO ? 3 : 0,
      });
      expect(io.idle).toBe(true);
    }
  });
});

it('NVMe 1.4 5.14.1.2 SMART counts the blocks of reads, compares, verifies and writes, and the commands', () => {
  using io = new TestIo([{ storage: new MemoryStorage(MIB), blockSize: 4096 }]);
  io.write(0, 1, 0);
  io.write(0, 2, 0, 0x1000);
  io.read(0, 1, 0);
  io.status({ opcode: NvmOpcode.COMPARE, prp1: 0 });
  io.status({ opcode: NvmOpcode.VERIFY, blocks: 3 });
  io.status({ opcode: NvmOpcode.READ, lba: 1n << 40n });
  expect(io.commands.counters).toMatchObject({ unitsRead: 5 * 8, unitsWritten: 3 * 8, readCommands: 2, writeCommands: 2, mediaErrors: 0 });
});

it('NVMe 1.4 5.14.1.5 effects: what is supported is what does not end with Invalid Command Opcode', () => {
  using io = new TestIo([{ storage: new MemoryStorage(MIB) }]);
  const effects = io.commands.effects();
  for (let opcode = 0; opcode < 256; opcode++) {
    expect((effects[opcode]! & 1) === 1).toBe(io.status({ opcode }) !== (Status.INVALID_OPCODE | DNR));
  }
  expect([NvmOpcode.WRITE, NvmOpcode.READ].map((o) => effects[o])).toEqual([3, 1]);
});
