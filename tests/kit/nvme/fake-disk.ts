/** The scripted controller's I/O commands. */
import { NvmOpcode } from '../../../src/abi/nvme.ts';
import type { FakeCommand, FakeController } from './fake-controller.ts';

/** Does it, and gives its status. */
export function runIo(fake: FakeController, command: FakeCommand): number {
  const disk = fake.disks.get(command.nsid);
  if (disk === undefined) return 0x00b;
  const { dw, opcode } = command;
  const blockSize = 2 ** disk.lbads;
  const size = ((dw[12]! & 0xffff) + 1) * blockSize;
  let at = (dw[10]! + dw[11]! * 2 ** 32) * blockSize;
  if (opcode === NvmOpcode.FLUSH) return 0;
  if (opcode === NvmOpcode.DATASET_MANAGEMENT) return deallocate(fake, command, disk.data, blockSize);
  if (at + size > disk.data.length) return 0x080;
  if (opcode === NvmOpcode.WRITE_ZEROES) {
    disk.data.fill(0, at, at + size);
    return 0;
  }
  if (opcode === NvmOpcode.VERIFY) return 0;
  if (fake.controller.mdts !== 0 && size > 4096 * 2 ** (fake.cap.mpsmin + fake.controller.mdts)) return 0x002;
  for (const piece of fake.data(command, size)) {
    const blocks = disk.data.subarray(at, at + piece.length);
    if (opcode === NvmOpcode.READ) piece.set(blocks);
    else if (opcode === NvmOpcode.WRITE) blocks.set(piece);
    else if (opcode !== NvmOpcode.COMPARE) return 0x001;
    else if (blocks.some((byte, i) => byte !== piece[i])) return 0x285;
    at += piece.length;
  }
  return 0;
}

function deallocate(fake: FakeController, command: FakeCommand, data: Uint8Array, blockSize: number): number {
  const count = (command.dw[10]! & 0xff) + 1;
  const bytes = new Uint8Array(16 * count);
  let at = 0;
  for (const piece of fake.data(command, bytes.length)) {
    bytes.set(piece, at);
    at += piece.length;
  }
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < count; i++) {
    const lba = Number(view.getBigUint64(16 * i + 8, true));
    data.fill(0, lba * blockSize, (lba + view.getUint32(16 * i + 4, true)) * blockSize);
  }
  return 0;
}
