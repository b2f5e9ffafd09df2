/**
 * I/O commands over a real file: what is in page cache is done at once, the rest by threads, in any
 * order.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { MDTS, pattern, TestIo } from '../../../tests/kit/nvme/test-io.ts';
import { NvmCdw12, NvmOpcode } from '../../abi/nvme.ts';
import { Status } from '../../abi/nvme-status.ts';
import { FileStorage } from '../../sys/file-storage.ts';

const MIB = 2 ** 20;
const BLOCK = 4096;

/** Until everything has ended: threads answer through the event loop. */
async function ended(io: TestIo): Promise<void> {
  while (!io.idle) await new Promise((resolve) => setImmediate(resolve));
}

it('writes of all kinds, zeroes and reads of a file, many at once: its bytes are those of an array', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'nvme-'));
  try {
    const path = join(directory, 'disk.img');
    using storage = FileStorage.open(path, { size: 4 * MIB, create: true });
    using io = new TestIo([{ storage, blockSize: BLOCK }], { pages: 65, bounceBytes: 4 * MDTS });
    const disk = new Uint8Array(4 * MIB);
    let seed = 7;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return (seed >>> 8) % below;
    };
    for (let round = 0; round < 40; round++) {
      io.memory.bytes.set(pattern(65 * BLOCK, round));
      // 32 areas of the disk, so that no two of one round overlap: no order is promised between
      // those.
      for (let area = 0; area < 32; area++) {
        const blocks = 1 + random(2);
        const lba = area * 32 + random(31);
        const at = area * 2 * BLOCK + 4;
        const kind = random(4);
        const bytes = blocks * BLOCK;
        const command =
          kind === 0
            ? { opcode: NvmOpcode.WRITE_ZEROES, lba, blocks, cdw12: NvmCdw12.DEAC }
            : { opcode: NvmOpcode.WRITE, lba, blocks, sgl: [at, bytes, 0] as const, cdw12: kind === 1 ? NvmCdw12.FUA : 0 };
        if (kind === 0) disk.fill(0, lba * BLOCK, lba * BLOCK + bytes);
        else disk.set(io.memory.bytes.subarray(at, at + bytes), lba * BLOCK);
        io.commands.start(io.make(command));
      }
      io.commands.submit();
      await ended(io);
      io.memory.bytes.fill(0);
      const lbas = Array.from({ length: 32 }, () => random(1023));
      for (const [i, lba] of lbas.entries()) io.commands.start(io.make({ opcode: NvmOpcode.READ, lba, prp1: i * BLOCK }));
      io.start({ opcode: NvmOpcode.FLUSH });
      await ended(io);
      for (const [i, lba] of lbas.entries()) {
        const read = io.memory.bytes.subarray(i * BLOCK, (i + 1) * BLOCK);
        expect(Buffer.compare(read, disk.subarray(lba * BLOCK, (lba + 1) * BLOCK))).toBe(0);
      }
    }
    expect(io.completed.length).toBe(40 * 65);
    expect(io.completed.filter(([, status]) => status !== Status.SUCCESS)).toEqual([]);
    expect(Buffer.compare(readFileSync(path), disk)).toBe(0);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

it('a file that is only read: reads pass, writes are Attempted Write to Read Only Range', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'nvme-'));
  try {
    const path = join(directory, 'disk.img');
    FileStorage.open(path, { size: MIB, create: true })[Symbol.dispose]();
    using storage = FileStorage.open(path, { readOnly: true });
    using io = new TestIo([{ storage }]);
    io.start({ opcode: NvmOpcode.READ }, { opcode: NvmOpcode.WRITE }, { opcode: NvmOpcode.WRITE_ZEROES }, { opcode: NvmOpcode.FLUSH });
    await ended(io);
    const statuses = new Map(io.completed.map(([id, status]) => [id, status & 0x7ff]));
    expect([1, 2, 3, 4].map((id) => statuses.get(id))).toEqual([0, Status.WRITE_TO_READ_ONLY_RANGE, Status.WRITE_TO_READ_ONLY_RANGE, 0]);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
