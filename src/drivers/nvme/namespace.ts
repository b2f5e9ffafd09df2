/**
 * A namespace: blocks to read and write (NVMe 1.4, 6). The driver splits each call into as many
 * commands as the controller's limits require.
 */

import { DSM_RANGES_MAX, DsmAttribute, NvmCdw12, NvmOpcode, regField } from '../../abi/nvme.ts';
import { Status } from '../../abi/nvme-status.ts';
import { DsmRange, IdentifyNamespace, Lbaf } from '../../abi/nvme-structs.ts';
import { checkIndex } from '../../base/check.ts';
import { viewOf } from '../../base/data-view.ts';
import { VfioError } from '../../base/errno.ts';
import type { DmaBuffer } from '../kit/dma.ts';
import type { CommandPort } from './command-port.ts';
import { iovaOf } from './dma-range.ts';
import { NvmeError } from './errors.ts';
import { checkAddress } from './prp.ts';
import { retry } from './retry.ts';
import { Submission } from './submission.ts';

const HIGH = 2 ** 32;
/** NLB has 16 bits and is zero-based. */
const NLB_MAX = 0x1_0000;
/**
 * The most bytes that one call reads into fresh memory: 4 GiB - 1, the length of an array that
 * every version of Node allows.
 */
const READ_MAX = HIGH - 1;

/** How a write is carried out. */
export interface WriteOptions {
  /** Force Unit Access: the write completes when the data is on the medium. */
  readonly fua?: boolean;
}

/** A range of logical blocks. */
export interface BlockRange {
  readonly lba: number;
  readonly blocks: number;
}

/** A namespace: reads, writes and discards of logical blocks. */
export class NvmeNamespace {
  /** NSID. */
  readonly id: number;
  readonly #port: CommandPort;
  #raw!: Uint8Array;
  #identify!: IdentifyNamespace;
  #unusable: VfioError | null = null;
  /** Bytes. */
  blockSize = 512;
  /**
   * Bytes of metadata beside each block; a namespace with metadata can be identified, but not read
   * or written.
   */
  metadataSize = 0;
  /** NSZE. */
  blocks = 0;
  /**
   * Blocks that one command moves: MDTS, what the lists of a queue describe, and 16 bits. 0: the
   * namespace cannot be used.
   */
  maxBlocks = 0;

  constructor(id: number, raw: Uint8Array, port: CommandPort) {
    this.id = id;
    this.#port = port;
    this.update(raw);
  }

  /** The size in bytes. */
  get bytes(): number {
    return this.blocks * this.blockSize;
  }

  /** Identify Namespace, 4096 bytes. */
  get raw(): Uint8Array {
    return this.#raw;
  }

  /** The same, field by field. */
  get identify(): IdentifyNamespace {
    return this.#identify;
  }

  /** The Write Zeroes command. */
  get canWriteZeroes(): boolean {
    return this.#port.info.has.writeZeroes;
  }

  /** Dataset Management, for `deallocate`. */
  get canDeallocate(): boolean {
    return this.#port.info.has.datasetManagement;
  }

  /** The Compare command. */
  get canCompare(): boolean {
    return this.#port.info.has.compare;
  }

  /** The Verify command. */
  get canVerify(): boolean {
    return this.#port.info.has.verify;
  }

  /** For the driver itself: take over a new answer of Identify. @returns whether it has changed */
  update(raw: Uint8Array): boolean {
    // NUSE, the space in use, changes with every write.
    const same = this.#raw?.every((byte, i) => byte === raw[i] || (i >= 16 && i < 24)) === true;
    this.#raw = raw;
    const identify = IdentifyNamespace.decode(viewOf(raw));
    this.#identify = identify;
    const format = identify.lbaf[identify.flbas & 15]!;
    const shift = regField(format, Lbaf.LBADS);
    this.metadataSize = regField(format, Lbaf.MS);
    this.blockSize = shift >= 9 && shift <= 31 ? 2 ** shift : 0;
    // Block numbers of 2^53 and above cannot be named.
    this.blocks = identify.nsze > 2n ** 53n - 1n ? Number.MAX_SAFE_INTEGER : Number(identify.nsze);
    this.maxBlocks = this.blockSize === 0 ? 0 : Math.min(NLB_MAX, Math.floor(this.#port.maxTransfer / this.blockSize));
    this.#unusable = this.#whyUnusable(shift);
    if (this.#unusable !== null) this.maxBlocks = 0;
    return !same;
  }

  /** For the driver itself: the controller does not have the namespace any more. */
  remove(): void {
    this.maxBlocks = 0;
    this.blocks = 0;
    this.#unusable = new VfioError('ENODEV', `namespace ${this.id} of ${this.#port.deviceName} is not there any more`);
  }

  /**
   * @throws VfioError EOPNOTSUPP for a format that the driver does not support; ENODEV once the
   * namespace is gone
   */
  checkUsable(): void {
    if (this.#unusable !== null) throw this.#unusable;
  }

  /**
   * Read `blocks` blocks from `lba` on into fresh memory.
   * @throws VfioError EINVAL past the end, or 4 GiB and more at once; NvmeError
   */
  async read(lba: number, blocks: number): Promise<Uint8Array> {
    this.#check(lba, blocks);
    if (blocks * this.blockSize > READ_MAX) {
      throw new VfioError('EINVAL', `${blocks * this.blockSize} bytes in one piece of memory`, { fix: 'Read less than 4 GiB at a time.' });
    }
    const into = new Uint8Array(blocks * this.blockSize);
    await this.#copied(NvmOpcode.READ, lba, blocks, into, 0);
    return into;
  }

  /**
   * Read into the caller's memory: in place into a `DmaBuffer` of this device, which the caller
   * keeps until the end; by a copy otherwise.
   *
   * @param offset first byte in `buffer`; a multiple of 4 in a `DmaBuffer`
   * @throws VfioError EINVAL past the end of namespace or buffer, or for a buffer of another
   * device; NvmeError
   */
  async readInto(lba: number, blocks: number, buffer: DmaBuffer | Uint8Array, offset = 0): Promise<void> {
    this.#check(lba, blocks);
    await this.#transfer(NvmOpcode.READ, lba, blocks, buffer, offset, 0);
  }

  /** Write all of `data`, which has whole blocks. @see writeFrom */
  async write(lba: number, data: Uint8Array | DmaBuffer, options: WriteOptions = {}): Promise<void> {
    await this.writeFrom(lba, this.#blocksOf(data), data, 0, options);
  }

  /**
   * Write `blocks` blocks from `offset` of `data` on: in place from a `DmaBuffer`, which the caller
   * keeps unchanged until the end.
   * @see readInto
   */
  async writeFrom(lba: number, blocks: number, data: Uint8Array | DmaBuffer, offset = 0, options: WriteOptions = {}): Promise<void> {
    this.#check(lba, blocks);
    await this.#transfer(NvmOpcode.WRITE, lba, blocks, data, offset, options.fua === true ? NvmCdw12.FUA : 0);
  }

  /**
   * Put all written data on the medium (6.8). A controller without a volatile write cache completes
   * the command without work.
   */
  async flush(): Promise<void> {
    this.checkUsable();
    await this.#command(new Submission(false, NvmOpcode.FLUSH, this.id, 0, 0, this.#port.ticks()));
  }

  /**
   * Write zeroes, without sending data (6.17).
   * @param options deallocate: the space may be given back
   * @throws VfioError EOPNOTSUPP; NvmeError
   */
  async writeZeroes(lba: number, blocks: number, options: { readonly deallocate?: boolean } & WriteOptions = {}): Promise<void> {
    this.#supports(this.canWriteZeroes, 'Write Zeroes');
    const flags = (options.deallocate === true ? NvmCdw12.DEAC : 0) | (options.fua === true ? NvmCdw12.FUA : 0);
    await this.#withoutData(NvmOpcode.WRITE_ZEROES, lba, blocks, flags);
  }

  /**
   * Have the controller read the medium, without moving data (6.15).
   * @throws VfioError EOPNOTSUPP; NvmeError
   */
  async verify(lba: number, blocks: number): Promise<void> {
    this.#supports(this.canVerify, 'Verify');
    await this.#withoutData(NvmOpcode.VERIFY, lba, blocks, 0);
  }

  /**
   * Say that these blocks are not needed any more: Dataset Management, deallocate (6.7).
   * @throws VfioError EOPNOTSUPP; EINVAL; NvmeError
   */
  async deallocate(ranges: readonly BlockRange[]): Promise<void> {
    this.#supports(this.canDeallocate, 'Dataset Management');
    const pieces: BlockRange[] = [];
    for (const { lba, blocks } of ranges) {
      this.#check(lba, blocks);
      for (let at = 0; at < blocks; at += HIGH - 1) pieces.push({ lba: lba + at, blocks: Math.min(HIGH - 1, blocks - at) });
    }
    for (let at = 0; at < pieces.length; at += DSM_RANGES_MAX) {
      const some = pieces.slice(at, at + DSM_RANGES_MAX);
      const write = new Uint8Array(some.length * DsmRange.structSize);
      const view = new DataView(write.buffer);
      for (const [i, { lba, blocks }] of some.entries()) {
        DsmRange.encode(view, i * DsmRange.structSize, { length: blocks, slba: BigInt(lba) });
      }
      const fields = { opcode: NvmOpcode.DATASET_MANAGEMENT, nsid: this.id, cdw10: some.length - 1, cdw11: DsmAttribute.DEALLOCATE };
      await this.#port.admin.execute({ ...fields, write }, this.#port.pick() ?? (await this.#port.live()));
    }
  }

  /**
   * Whether the blocks from `lba` on hold `data` (6.6).
   * @throws VfioError EOPNOTSUPP; EINVAL; NvmeError for any other failure
   */
  async compare(lba: number, data: Uint8Array | DmaBuffer): Promise<boolean> {
    this.#supports(this.canCompare, 'Compare');
    const blocks = this.#blocksOf(data);
    this.#check(lba, blocks);
    try {
      await this.#transfer(NvmOpcode.COMPARE, lba, blocks, data, 0, 0);
      return true;
    } catch (error) {
      if (error instanceof NvmeError && error.is(Status.COMPARE_FAILURE)) return false;
      throw error;
    }
  }

  /** Number of blocks that `data` fills. @throws VfioError EINVAL when it is not whole */
  #blocksOf(data: Uint8Array | DmaBuffer): number {
    this.checkUsable();
    const size = data instanceof Uint8Array ? data.length : data.size;
    if (size === 0 || size % this.blockSize !== 0) {
      throw new VfioError('EINVAL', `${size} bytes are not whole blocks of ${this.blockSize}`);
    }
    return size / this.blockSize;
  }

  #transfer(opcode: number, lba: number, blocks: number, data: Uint8Array | DmaBuffer, offset: number, flags: number): Promise<unknown> {
    const size = blocks * this.blockSize;
    const has = data instanceof Uint8Array ? data.length : data.size;
    checkIndex(offset, has, 'offset');
    if (size > has - offset) throw new VfioError('EINVAL', `${size} bytes from byte ${offset} of a buffer of ${has} on`);
    if (data instanceof Uint8Array) return this.#copied(opcode, lba, blocks, data.subarray(offset, offset + size), flags);
    if (!this.#port.dev.dma.owns(data)) {
      throw new VfioError('EINVAL', `the buffer at IOVA 0x${data.iova.toString(16)} is not of ${this.#port.deviceName}, or was disposed`, {
        fix: 'Use one from dev.dma.alloc of the same device, or a Uint8Array.',
      });
    }
    const iova = iovaOf(data) + offset;
    checkAddress(iova, size);
    if (blocks <= this.maxBlocks) return this.#command(this.#ranged(opcode, lba, blocks, iova, size, flags));
    return this.#inParts(blocks, (at, part) => {
      const bytes = part * this.blockSize;
      return this.#command(this.#ranged(opcode, lba + at, part, iova + at * this.blockSize, bytes, flags));
    });
  }

  /** Copy by way of memory that the device reaches. */
  #copied(opcode: number, lba: number, blocks: number, bytes: Uint8Array, flags: number): Promise<unknown> {
    if (blocks <= this.maxBlocks) return this.#bounced(opcode, lba, blocks, bytes, flags);
    const { blockSize } = this;
    return this.#inParts(blocks, (at, part) =>
      this.#bounced(opcode, lba + at, part, bytes.subarray(at * blockSize, (at + part) * blockSize), flags),
    );
  }

  async #bounced(opcode: number, lba: number, blocks: number, bytes: Uint8Array, flags: number): Promise<void> {
    const { pool } = this.#port;
    const lent = pool.take(bytes.length);
    const bounce = lent instanceof Promise ? await lent : lent;
    try {
      if (opcode !== NvmOpcode.READ) bounce.bytes.set(bytes);
      await this.#command(this.#ranged(opcode, lba, blocks, bounce.iova, bytes.length, flags));
      if (opcode === NvmOpcode.READ) bytes.set(bounce.bytes.subarray(0, bytes.length));
    } finally {
      pool.give(bounce);
    }
  }

  /**
   * The whole ends after all of its parts, also when one has failed, because the buffer is in use
   * until then.
   */
  async #inParts(blocks: number, move: (at: number, part: number) => Promise<unknown>): Promise<void> {
    const parts: Promise<unknown>[] = [];
    const step = this.maxBlocks;
    for (let at = 0; at < blocks; at += step) parts.push(move(at, Math.min(step, blocks - at)));
    for (const part of await Promise.allSettled(parts)) if (part.status === 'rejected') throw part.reason;
  }

  async #withoutData(opcode: number, lba: number, blocks: number, flags: number): Promise<void> {
    this.#check(lba, blocks);
    for (let at = 0; at < blocks; at += NLB_MAX) {
      await this.#command(this.#ranged(opcode, lba + at, Math.min(NLB_MAX, blocks - at), 0, 0, flags));
    }
  }

  #ranged(opcode: number, lba: number, blocks: number, iova: number, size: number, flags: number): Submission {
    const submission = new Submission(false, opcode, this.id, iova, size, this.#port.ticks());
    submission.cdw10 = lba >>> 0;
    submission.cdw11 = Math.floor(lba / HIGH);
    submission.cdw12 = (blocks - 1) | flags;
    return submission;
  }

  #command(submission: Submission): Promise<number> {
    const queue = this.#port.pick();
    const first = queue === null ? this.#port.live().then((q) => q.run(submission)) : queue.run(submission);
    return first.catch((error: unknown) => retry(this.#port, error, () => this.#afresh(submission)));
  }

  async #afresh(ended: Submission): Promise<number> {
    const queue = this.#port.pick() ?? (await this.#port.live());
    return queue.run(ended.copy());
  }

  #check(lba: number, blocks: number): void {
    this.checkUsable();
    checkIndex(lba, Number.MAX_SAFE_INTEGER, 'lba');
    checkIndex(blocks, Number.MAX_SAFE_INTEGER, 'blocks');
    if (blocks === 0) throw new VfioError('EINVAL', 'a command of 0 blocks; 1 is the least');
    if (lba + blocks > this.blocks) {
      throw new VfioError('EINVAL', `blocks ${lba} to ${lba + blocks - 1}: namespace ${this.id} has ${this.blocks}`);
    }
  }

  #supports(has: boolean, command: string): void {
    this.checkUsable();
    if (!has) throw new VfioError('EOPNOTSUPP', `${this.#port.deviceName} does not have ${command}`);
  }

  #whyUnusable(shift: number): VfioError | null {
    const name = `namespace ${this.id} of ${this.#port.deviceName}`;
    if (this.#identify.nlbaf > 15 && (this.#identify.flbas & 0x60) !== 0) {
      return new VfioError(
        'EOPNOTSUPP',
        `${name} has an LBA format beyond the 16 of NVMe 1.4 (FLBAS 0x${this.#identify.flbas.toString(16)})`,
      );
    }
    if (this.blockSize === 0) return new VfioError('EOPNOTSUPP', `${name} has blocks of 2^${shift} bytes`);
    if (this.metadataSize > 0) {
      return new VfioError(
        'EOPNOTSUPP',
        `${name} has ${this.metadataSize} bytes of metadata beside each block, which the driver does not do`,
        {
          fix: 'Format it with an LBA format without metadata.',
        },
      );
    }
    if (this.maxBlocks === 0) {
      return new VfioError('EOPNOTSUPP', `${name} has blocks of ${this.blockSize} bytes, and a command moves ${this.#port.maxTransfer}`);
    }
    return null;
  }
}
