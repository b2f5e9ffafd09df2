import { describe, expect, it } from 'vitest';
import { MDTS, pattern, TestIo } from '../../../tests/kit/nvme/test-io.ts';
import { Status, StatusBit } from '../../abi/nvme-status.ts';
import { MemoryStorage } from '../storage/memory-storage.ts';
import { DataTransfer } from './data-transfer.ts';

const DNR = StatusBit.DO_NOT_RETRY;

function made() {
  const io = new TestIo([{ storage: new MemoryStorage(2 ** 20) }]);
  return { io, memory: io.memory, transfer: new DataTransfer(io.host, MDTS) };
}

describe('NVMe 1.4 4.3 data of admin commands', () => {
  it('to and from the host, over two pages, no byte beside them', () => {
    const { io, memory, transfer } = made();
    const command = io.make({ opcode: 6, prp1: 0x4800, prp2: 0x8000 });
    const statuses: number[] = [];
    const data = pattern(4096, 9);
    transfer.toHost(command, data, 3000, (status) => void statuses.push(status));
    expect(memory.bytes.subarray(0x4800, 0x5000)).toEqual(data.subarray(0, 0x800));
    expect(memory.bytes.subarray(0x8000, 0x8000 + 3000 - 0x800)).toEqual(data.subarray(0x800, 3000));
    expect(memory.bytes[0x8000 + 3000 - 0x800]).toBe(0);
    const back = new Uint8Array(3000);
    transfer.fromHost(command, back, 3000, (status) => void statuses.push(status));
    expect(back).toEqual(data.subarray(0, 3000));
    expect(statuses).toEqual([Status.SUCCESS, Status.SUCCESS]);
  });

  it('SGLs are an invalid field, as is more than MDTS or than there is', () => {
    const { io, transfer } = made();
    const status = (command: ReturnType<typeof io.make>, bytes: Uint8Array, length: number) => {
      let told = -1;
      transfer.toHost(command, bytes, length, (s) => {
        told = s;
      });
      return told;
    };
    expect(status(io.make({ opcode: 6, sgl: [0, 4096, 0] }), new Uint8Array(4096), 4096)).toBe(Status.INVALID_FIELD | DNR);
    expect(status(io.make({ opcode: 6 }), new Uint8Array(MDTS + 4096), MDTS + 4)).toBe(Status.INVALID_FIELD | DNR);
    expect(status(io.make({ opcode: 6 }), new Uint8Array(8), 16)).toBe(Status.INVALID_FIELD | DNR);
    expect(status(io.make({ opcode: 6, prp1: 2 }), new Uint8Array(8), 8)).toBe(Status.PRP_OFFSET_INVALID | DNR);
    expect(io.memory.writes).toBe(0);
  });

  it('memory that is not there: Data Transfer Error', () => {
    const { io, memory, transfer } = made();
    memory.kinds[4] = 'none';
    let told = -1;
    transfer.fromHost(io.make({ opcode: 6, prp1: 0x4000 }), new Uint8Array(8), 8, (s) => {
      told = s;
    });
    expect(told).toBe(Status.DATA_TRANSFER_ERROR);
  });

  it('memory that answers only later: what was given is copied first, and reset ends the telling', async () => {
    const { io, memory, transfer } = made();
    memory.kinds[5] = 'remote';
    const data = pattern(8192, 2);
    const before = data.slice();
    const statuses: number[] = [];
    transfer.toHost(io.make({ opcode: 6, prp1: 0x4000, prp2: 0x5000 }), data, 8192, (status) => void statuses.push(status));
    data.fill(0);
    expect(transfer.pending).toBe(1);
    await io.settle();
    expect(statuses).toEqual([Status.SUCCESS]);
    expect(memory.bytes.subarray(0x4000, 0x6000)).toEqual(before);
    memory.hold = true;
    transfer.toHost(io.make({ opcode: 6, prp1: 0x5000 }), data, 8, (status) => void statuses.push(status));
    transfer.reset();
    memory.answer();
    await io.settle();
    expect(statuses).toEqual([Status.SUCCESS]);
    expect(transfer.pending).toBe(0);
  });
});
