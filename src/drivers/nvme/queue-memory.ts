/**
 * The memory of queues, the place of their doorbells, and the number of queues that both have room
 * for.
 */
import type { RegionMapping, RegisterAccess } from '../../abi/device.ts';
import { CQE_SIZE, NvmeReg, SQE_SIZE } from '../../abi/nvme.ts';
import { RegionFlags, RegionIndex } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import type { DriverDevice } from '../kit/driver-device.ts';
import type { AdminCommands } from './admin.ts';
import { QUEUE_ENTRIES_MAX } from './command-slots.ts';
import type { AdminQueueAddresses } from './controller.ts';
import type { Capabilities } from './controller-registers.ts';
import { DmaRange } from './dma-range.ts';
import { Doorbells } from './doorbells.ts';
import { NvmeError } from './errors.ts';
import { IoQueue } from './io-queue.ts';
import { listBytes, longestTransfer, PrpLists } from './prp.ts';
import { type QueueOwner, QueuePair } from './queue-pair.ts';

const ADMIN_ENTRIES = 32;
/** The most bytes that an admin command moves by PRPs of its own. */
const ADMIN_TRANSFER = 2 ** 17;
/** Bytes of I/O queue memory that are allocated in one piece. */
const PIECE_MAX = 2 ** 28;
/**
 * A register read that takes longer than this has left the process or the guest, and so does a
 * doorbell.
 */
const SLOW_REGISTER_NS = 4000;

export interface QueueOptions {
  /** I/O queues wanted. */
  readonly queues: number;
  /** Commands in flight per I/O queue. */
  readonly depth: number;
  /** Bytes per command, at most. */
  readonly maxTransfer: number;
  readonly doorbells: 'auto' | 'shadow' | 'registers';
}

/** Memory that one queue pair takes. */
interface Rings {
  readonly sq: DmaRange;
  readonly cq: DmaRange;
  readonly lists: DmaRange;
}

export class QueueMemory implements Disposable {
  readonly doorbells: Doorbells;
  /** I/O queues that the BAR has doorbells for. */
  readonly queuesMax: number;
  /** Bytes that a command's list describes. */
  readonly transferMax: number;
  readonly #dev: DriverDevice;
  readonly #capabilities: Capabilities;
  readonly #options: QueueOptions;
  readonly #rings = new Map<QueuePair, Rings>();
  readonly #mapping: RegionMapping | null;
  readonly #access: RegisterAccess;
  #shadows: DmaRange | null = null;
  #admin!: Rings;
  /** Memory of queues that are asked for later. */
  readonly #spare: Rings[] = [];

  /** @throws VfioError EIO when there is no room for doorbells */
  constructor(dev: DriverDevice, capabilities: Capabilities, options: QueueOptions) {
    this.#dev = dev;
    this.#capabilities = capabilities;
    this.#options = options;
    const { size } = dev.device.region(RegionIndex.BAR0).info;
    const pairs = Math.floor((size - NvmeReg.DOORBELLS) / (2 * capabilities.doorbellStride));
    if (pairs < 2) throw new VfioError('EIO', `${dev.name} is no NVMe controller: its BAR of ${size} bytes has no room for doorbells`);
    this.queuesMax = Math.min(pairs - 1, 0xffff);
    this.transferMax = Math.min(options.maxTransfer, longestTransfer(capabilities.pageSize));
    this.#access = dev.bar(0);
    this.#mapping = mapDoorbells(dev, Math.min(options.queues, this.queuesMax), capabilities.doorbellStride);
    this.doorbells = new Doorbells(this.#mapping === null ? this.#access : shifted(this.#mapping), capabilities.doorbellStride);
  }

  adminQueue(owner: QueueOwner): QueuePair {
    // MQES limits I/O queues only (3.1.1). Admin queues have up to 4096 entries (3.1.8).
    const { pageSize } = this.#capabilities;
    const transfer = Math.min(ADMIN_TRANSFER, longestTransfer(pageSize));
    const rings = this.#allocate(1, ADMIN_ENTRIES, transfer)[0]!;
    const lists = new PrpLists(rings.lists, ADMIN_ENTRIES - 1, transfer, pageSize);
    const queue = new QueuePair(0, ADMIN_ENTRIES, rings.sq, rings.cq, lists, this.doorbells, owner);
    this.#rings.set(queue, rings);
    this.#admin = rings;
    return queue;
  }

  /**
   * @param maxTransfer bytes that its commands move at most, the same for every queue
   * @param more I/O queues that will be asked for after it: their memory is mapped with this one's
   */
  ioQueue(id: number, maxTransfer: number, more: number, owner: QueueOwner): IoQueue {
    const { maxEntries, pageSize } = this.#capabilities;
    const entries = Math.min(this.#options.depth + 1, maxEntries, QUEUE_ENTRIES_MAX);
    if (this.#spare.length === 0) this.#spare.push(...this.#allocate(1 + more, entries, maxTransfer));
    const rings = this.#spare.shift()!;
    const lists = new PrpLists(rings.lists, entries - 1, maxTransfer, pageSize);
    const queue = new IoQueue(id, entries, rings.sq, rings.cq, lists, this.doorbells, owner);
    this.#rings.set(queue, rings);
    return queue;
  }

  get adminAddresses(): AdminQueueAddresses {
    return { sqIova: this.#admin.sq.iova, cqIova: this.#admin.cq.iova, entries: ADMIN_ENTRIES };
  }

  addressesOf(queue: QueuePair): { readonly sqIova: number; readonly cqIova: number } {
    const { sq, cq } = this.#rings.get(queue)!;
    return { sqIova: sq.iova, cqIova: cq.iova };
  }

  /** No completion from before a reset is left. */
  clear(queue: QueuePair): void {
    this.#rings.get(queue)!.cq.bytes.fill(0);
  }

  /**
   * Set up shadow doorbells. Default: where a register is slow to reach. A store into mapped memory
   * is not slow, and a call within this process is faster than a shadow.
   */
  async useShadows(offered: boolean, admin: AdminCommands): Promise<void> {
    const { doorbells: wanted } = this.#options;
    if (!offered || wanted === 'registers' || (wanted === 'auto' && !this.#slow())) return;
    const { pageSize } = this.#capabilities;
    this.#shadows ??= DmaRange.alloc(this.#dev, 2 * pageSize, pageSize);
    this.#shadows.bytes.fill(0);
    try {
      await admin.configureDoorbells(this.#shadows.iova, pageSize);
    } catch (error) {
      // The controller offers shadow doorbells, but refuses them.
      if (error instanceof NvmeError) return;
      throw error;
    }
    this.doorbells.shadow(this.#shadows, pageSize);
  }

  /** The controller was reset, and looks at the shadows no more. */
  dropShadows(): void {
    this.doorbells.shadow(null, 0);
  }

  [Symbol.dispose](): void {
    this.#mapping?.[Symbol.dispose]();
  }

  #slow(): boolean {
    const { clock } = this.#dev;
    let best = Number.POSITIVE_INFINITY;
    for (let i = 0; i < 5; i++) {
      const before = clock.nowNs();
      this.#access.read32(NvmeReg.CSTS);
      best = Math.min(best, clock.nowNs() - before);
    }
    return best > SLOW_REGISTER_NS;
  }

  /**
   * Memory for `count` queue pairs, or as many as fit one piece. It is one mapping, because some
   * servers take as few as 16 (libvfio-user of 2022).
   */
  #allocate(count: number, entries: number, maxTransfer: number): Rings[] {
    const { pageSize } = this.#capabilities;
    const sizes = [entries * SQE_SIZE, entries * CQE_SIZE, (entries - 1) * listBytes(maxTransfer, pageSize)];
    const each = sizes.reduce((sum, size) => sum + Math.ceil(size / pageSize) * pageSize, 0);
    const fitting = Math.max(1, Math.min(count, Math.floor(PIECE_MAX / each)));
    const piece = DmaRange.alloc(this.#dev, fitting * each, pageSize);
    let at = 0;
    const next = (size: number) => {
      const part = piece.part(at, size);
      at += Math.ceil(size / pageSize) * pageSize;
      return part;
    };
    return Array.from({ length: fitting }, () => ({ sq: next(sizes[0]!), cq: next(sizes[1]!), lists: next(sizes[2]!) }));
  }
}

/**
 * The doorbells' part of a BAR of which only parts can be mapped; null when that part cannot be
 * mapped, or the whole BAR is mapped anyway.
 */
function mapDoorbells(dev: DriverDevice, queues: number, stride: number): RegionMapping | null {
  const region = dev.device.region(RegionIndex.BAR0);
  const { flags, sparseAreas } = region.info;
  if ((flags & RegionFlags.MMAP) === 0 || sparseAreas === undefined) return null;
  const end = NvmeReg.DOORBELLS + 2 * (queues + 1) * stride;
  const area = sparseAreas.find(({ offset, size }) => offset <= NvmeReg.DOORBELLS && end <= offset + size);
  if (area === undefined) return null;
  return region.map(NvmeReg.DOORBELLS, area.offset + area.size - NvmeReg.DOORBELLS);
}

/**
 * A mapping that begins at the doorbells, by the BAR's offsets: doorbells only take writes of 32
 * bits.
 */
function shifted(mapping: RegionMapping): Pick<RegisterAccess, 'write32'> {
  return { write32: (offset, value) => mapping.write32(offset - NvmeReg.DOORBELLS, value) };
}
