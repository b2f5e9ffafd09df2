/**
 * An I/O queue as a ring: for thousands of commands in flight, without an object or a promise for
 * any.
 *
 *     queue.onComplete = (tag, status) => { … };
 *     while (queue.submitRead(ns, lba, 1, buffer + tag * 4096, tag)) …   // until it is full
 *     queue.ring();                                                     // one doorbell for all
 *     queue.poll();                                                     // or the interrupt polls
 *
 * The data lies in memory that the device reaches (`dev.dma.alloc`). The caller keeps that memory
 * until the command has completed.
 */
import { NvmCdw12, NvmOpcode } from '../../abi/nvme.ts';
import { VfioError } from '../../base/errno.ts';
import type { NvmeNamespace } from './namespace.ts';
import { checkAddress } from './prp.ts';
import { QueuePair } from './queue-pair.ts';

const HIGH = 2 ** 32;

/** A pair of submission and completion queues for I/O. */
export class IoQueue extends QueuePair {
  /**
   * Read `blocks` blocks from `lba` on to memory at `iova`.
   *
   * @param iova below 2^53, a multiple of 4
   * @param tag 32-bit signed integer, given back to `onComplete`
   * @returns false when the queue is full, or the controller is being reset; the command was not
   * put
   * @throws VfioError EINVAL for blocks that the namespace does not have, or more than
   * `ns.maxBlocks`
   */
  submitRead(ns: NvmeNamespace, lba: number, blocks: number, iova: number, tag: number): boolean {
    return this.#submit(NvmOpcode.READ, ns, lba, blocks, iova, blocks * ns.blockSize, 0, tag);
  }

  /**
   * Write `blocks` blocks.
   * @param fua Force Unit Access: the command completes when the data is on the medium.
   * @see submitRead
   */
  submitWrite(ns: NvmeNamespace, lba: number, blocks: number, iova: number, tag: number, fua = false): boolean {
    return this.#submit(NvmOpcode.WRITE, ns, lba, blocks, iova, blocks * ns.blockSize, fua ? NvmCdw12.FUA : 0, tag);
  }

  /**
   * Write Zeroes, without data (NVMe 1.4, 6.17); the caller checks `ns.canWriteZeroes` once before.
   * @see submitRead
   */
  submitWriteZeroes(ns: NvmeNamespace, lba: number, blocks: number, tag: number, deallocate = false): boolean {
    return this.#submit(NvmOpcode.WRITE_ZEROES, ns, lba, blocks, 0, 0, deallocate ? NvmCdw12.DEAC : 0, tag);
  }

  /**
   * Flush (NVMe 1.4, 6.8). When it completes, the data of commands that completed before is on the
   * medium.
   * @returns false when the queue is full
   */
  submitFlush(ns: NvmeNamespace, tag: number): boolean {
    return this.put(NvmOpcode.FLUSH, ns.id, 0, 0, 0, 0, 0, 0, 0, 0, tag) >= 0;
  }

  #submit(opcode: number, ns: NvmeNamespace, lba: number, blocks: number, iova: number, size: number, flags: number, tag: number): boolean {
    const most = opcode === NvmOpcode.WRITE_ZEROES ? 0x1_0000 : ns.maxBlocks;
    // Only integers pass: NaN and fractions fail the comparisons. A remainder of doubles is a call.
    const inside = lba >= 0 && blocks >= 1 && blocks <= most && lba + blocks <= ns.blocks;
    if (!inside || lba !== Math.floor(lba) || blocks !== Math.floor(blocks)) {
      throw outOfRange(ns, lba, blocks, most);
    }
    if (size > 0) checkAddress(iova, size);
    // A fraction would be a heap object on the way to `put`.
    const high = lba < HIGH ? 0 : Math.floor(lba / HIGH);
    return this.put(opcode, ns.id, iova, size, lba, high, (blocks - 1) | flags, 0, 0, 0, tag) >= 0;
  }
}

function outOfRange(ns: NvmeNamespace, lba: number, blocks: number, most: number): VfioError {
  ns.checkUsable();
  const has = `namespace ${ns.id} has ${ns.blocks} blocks, of which a command of the ring moves 1 to ${most}`;
  return new VfioError('EINVAL', `blocks ${String(lba)} to ${String(lba + blocks - 1)}: ${has}`);
}
