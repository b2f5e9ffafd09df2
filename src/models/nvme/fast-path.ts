/**
 * Reads and writes that end at once: one or two pages of directly mapped memory on one side, a
 * storage that has its bytes in this process on the other. Commands that stand in a queue together
 * are decoded first, then copied: the first bytes of all sources are asked for before the first
 * copy waits for its own, so that a disk larger than the processor's caches is not a wait for
 * memory at each command. Nothing is allocated but the view that a copy needs.
 *
 * A command that is anything else, or wrong in any way, stays at the head of its queue:
 * `NvmCommands` decides about it.
 */
import { type DeviceHost, DmaPlace } from '../../abi/device-host.ts';
import { Access, type BytesAt } from '../../abi/memory.ts';
import { NvmCdw12, NvmOpcode, SQE_SIZE } from '../../abi/nvme.ts';
import type { Namespace } from './namespace.ts';
import type { SubmissionQueue } from './submission-queue.ts';

/** Commands that are decoded before they are copied. */
export const FAST_MAX = 32;
const WORDS = SQE_SIZE / 4;
const TWO32 = 2 ** 32;
/** An address whose upper half is below it is a number that doubles hold. */
const HIGH_MAX = 2 ** 21;
/** CDW0: opcode, FUSE, reserved bits and PSDT (figure 105); only plain PRP commands are fast. */
const CDW0_KIND = 0xffff;
const NO_BYTES = new Uint8Array(0);

/** Executes commands that stand in a queue together and end at once, without an object for any. */
export interface FastCommands {
  /** Identifiers of the commands of the last `runFast`. */
  readonly fastIds: Uint16Array;
  /**
   * Executes up to `max` commands from the head of `sq` on, which does not move.
   *
   * @returns how many have succeeded: the caller posts their completions; `CommandSet.start` takes
   *   the next one
   */
  runFast(sq: SubmissionQueue, max: number): number;
}

/** The controller's part in it. */
export interface FastPathPort {
  /** MDTS in bytes. */
  readonly maxBytes: number;
  /** The namespace `nsid`, if its commands may end at once now. */
  namespace(nsid: number): Namespace | null;
  /** Whether its writes may end at once: it takes writes, and none has to be durable. */
  takesWrites(namespace: Namespace): boolean;
}

export class FastPath {
  /** CC.MPS in bytes. */
  pageSize = 4096;
  /** Identifiers of the commands of the last `run`. */
  readonly ids = new Uint16Array(FAST_MAX);
  /** How many of these were reads, and the bytes that reads and writes moved. */
  reads = 0;
  bytesRead = 0;
  bytesWritten = 0;
  readonly #host: Pick<DeviceHost, 'dma' | 'events'>;
  readonly #port: FastPathPort;
  readonly #memory = new DmaPlace();
  readonly #disk: BytesAt = new DmaPlace();
  // The copies, in order: at most two for a command.
  readonly #from: Uint8Array[] = [];
  readonly #to: Uint8Array[] = [];
  readonly #fromAt = new Float64Array(2 * FAST_MAX);
  readonly #toAt = new Float64Array(2 * FAST_MAX);
  readonly #sizes = new Uint32Array(2 * FAST_MAX);
  #copies = 0;
  /** Takes the bytes that are asked for early, so that no compiler leaves the loads out. */
  readonly #asked = new Int32Array(1);

  constructor(host: Pick<DeviceHost, 'dma' | 'events'>, port: FastPathPort) {
    this.#host = host;
    this.#port = port;
  }

  /**
   * Executes commands from the head of `sq` on; the head stays where it is.
   *
   * @param max  the most commands
   * @returns how many have succeeded; the caller posts their completions
   */
  run(sq: SubmissionQueue, max: number): number {
    this.reads = 0;
    this.bytesRead = 0;
    this.bytesWritten = 0;
    // Readers of events see each command and its DMA.
    if (this.#host.events.on) return 0;
    const words = sq.ring.words();
    if (words === null) return 0;
    const most = Math.min(max, sq.waiting, FAST_MAX);
    let head = sq.head;
    let count = 0;
    this.#copies = 0;
    while (count < most) {
      const moved = this.#decode(words, head * WORDS);
      if (moved === 0) break;
      if (moved > 0) {
        this.reads++;
        this.bytesRead += moved;
      } else this.bytesWritten -= moved;
      this.ids[count++] = words[head * WORDS]! >>> 16;
      head = head + 1 === sq.size ? 0 : head + 1;
    }
    this.#copy();
    return count;
  }

  /**
   * The command at `at` becomes one or two copies.
   * @returns the bytes that it reads, or those that it writes as a negative number; 0: it is not
   *   for this path
   */
  #decode(words: Uint32Array, at: number): number {
    const kind = words[at]! & CDW0_KIND;
    const read = kind === NvmOpcode.READ;
    if (!read && kind !== NvmOpcode.WRITE) return 0;
    const port = this.#port;
    const namespace = port.namespace(words[at + 1]!);
    if (namespace === null || !(read || port.takesWrites(namespace))) return 0;
    const cdw12 = words[at + 12]!;
    // FUA, limited retry, protection, directives.
    if (cdw12 > NvmCdw12.NLB) return 0;
    const blocks = cdw12 + 1;
    const lba = words[at + 11]! * TWO32 + words[at + 10]!;
    const { blockSize } = namespace;
    const bytes = blocks * blockSize;
    if (bytes > port.maxBytes || lba + blocks > namespace.blocks) return 0;
    // PRP1 may have an offset, a multiple of 4; PRP2 is the second page, or a list (4.3).
    const page = this.pageSize;
    const low1 = words[at + 6]!;
    const high1 = words[at + 7]!;
    const first = Math.min(bytes, page - (low1 & (page - 1)));
    const rest = bytes - first;
    if ((low1 & 3) !== 0 || high1 >= HIGH_MAX || rest > page) return 0;
    const iova = high1 * TWO32 + low1;
    const offset = lba * blockSize;
    if (rest > 0) {
      const low2 = words[at + 8]!;
      const high2 = words[at + 9]!;
      if ((low2 & (page - 1)) !== 0 || high2 >= HIGH_MAX) return 0;
      const second = high2 * TWO32 + low2;
      if (second !== iova + first) return this.#takeTwo(namespace, read, offset, iova, first, second, rest);
    }
    if (!this.#take(namespace, read, offset, iova, bytes)) return 0;
    return read ? bytes : -bytes;
  }

  #takeTwo(namespace: Namespace, read: boolean, offset: number, iova: number, first: number, second: number, rest: number): number {
    // A block in two pieces would be two operations of the storage, and could be torn.
    if (first % namespace.blockSize !== 0) return 0;
    const before = this.#copies;
    if (this.#take(namespace, read, offset, iova, first) && this.#take(namespace, read, offset + first, second, rest)) {
      return read ? first + rest : -(first + rest);
    }
    this.#copies = before;
    this.#forget(before);
    return 0;
  }

  /** One copy between the storage at `offset` and the memory at `iova`. */
  #take(namespace: Namespace, read: boolean, offset: number, iova: number, bytes: number): boolean {
    const { queue } = namespace;
    const { dma } = this.#host;
    const disk = this.#disk;
    const memory = this.#memory;
    if (queue.locate === undefined) return false;
    const at = this.#copies;
    if (read) {
      if (!queue.locate(offset, bytes, false, disk) || !dma.locate(iova, bytes, Access.WRITE, memory)) return false;
      this.#from[at] = disk.bytes;
      this.#fromAt[at] = disk.offset;
      this.#to[at] = memory.bytes;
      this.#toAt[at] = memory.offset;
    } else {
      // A storage that is asked for its bytes to write takes room for them: so it comes last.
      if (!dma.locate(iova, bytes, Access.READ, memory) || !queue.locate(offset, bytes, true, disk)) return false;
      this.#from[at] = memory.bytes;
      this.#fromAt[at] = memory.offset;
      this.#to[at] = disk.bytes;
      this.#toAt[at] = disk.offset;
    }
    this.#sizes[at] = bytes;
    this.#copies = at + 1;
    return true;
  }

  #copy(): void {
    const from = this.#from;
    const to = this.#to;
    const copies = this.#copies;
    let asked = 0;
    for (let i = 0; i < copies; i++) asked += from[i]![this.#fromAt[i]!]!;
    this.#asked[0] = asked;
    for (let i = 0; i < copies; i++) {
      const source = from[i]!;
      const at = this.#fromAt[i]!;
      const size = this.#sizes[i]!;
      to[i]!.set(size === source.length ? source : source.subarray(at, at + size), this.#toAt[i]!);
      this.#forget(i);
    }
    this.#memory.bytes = NO_BYTES;
  }

  /** Memory that the driver unmaps must not stay because of copy `i`. */
  #forget(i: number): void {
    this.#from[i] = NO_BYTES;
    this.#to[i] = NO_BYTES;
  }
}
