/**
 * Whole images in and out of a namespace: many commands in flight, in order at the file's end, in
 * memory that does not grow with the image.
 * Both sides are small interfaces, so that the same code runs on a disk and in a test.
 */
import { VfioError } from '../../base/errno.ts';

/**
 * Blocks, and slots of memory that commands move them through. A slot belongs to its command until
 * that has ended.
 */
export interface BlockDevice {
  /** For messages: `namespace 1 on 0000:01:00.0`. */
  readonly name: string;
  /** Bytes. */
  readonly blockSize: number;
  readonly blocks: number;
  /** Bytes of each slot, whole blocks of it: what one command moves at most. */
  readonly slots: readonly Uint8Array[];
  read(lba: number, blocks: number, slot: number): Promise<void>;
  write(lba: number, blocks: number, slot: number): Promise<void>;
  /** Everything that was written is on the disk when it resolves. */
  flush(): Promise<void>;
}

export interface Sink {
  /** Takes all of `bytes`, which may change once it has resolved. */
  write(bytes: Uint8Array): Promise<void>;
}

export interface Source {
  /** Fills `into`, and less only at the end of what there is. Bytes. */
  read(into: Uint8Array): Promise<number>;
}

export interface CopyOptions {
  /** Gets the bytes copied so far, after each command. */
  readonly onProgress?: (bytes: number) => void;
  /** Ends the copy early: what is in flight ends, nothing more begins. */
  readonly signal?: AbortSignal;
}

/** Blocks that are through, from the start on without a gap. */
export type Copied = number;

/**
 * Read `count` blocks from `start` on into `sink`.
 *
 * @throws VfioError EINVAL for a range that the device does not have; and what reading and `sink`
 * throw, when everything in flight has ended
 */
export async function copyOut(from: BlockDevice, start: number, count: number, sink: Sink, options: CopyOptions = {}): Promise<Copied> {
  checkRange(from, start, count);
  const chunk = blocksPerSlot(from);
  const depth = from.slots.length;
  const flights = new Flights(depth);
  const sizeOf = (i: number) => Math.min(chunk, count - i * chunk);
  const chunks = Math.ceil(count / chunk);
  const begin = (i: number) => {
    if (i < chunks) flights.put(i % depth, from.read(start + i * chunk, sizeOf(i), i % depth));
  };
  let done = 0;
  try {
    for (let i = 0; i < depth; i++) begin(i);
    for (let i = 0; i < chunks && options.signal?.aborted !== true; i++) {
      const slot = i % depth;
      await flights.landing(slot);
      await sink.write(from.slots[slot]!.subarray(0, sizeOf(i) * from.blockSize));
      done += sizeOf(i);
      options.onProgress?.(done * from.blockSize);
      begin(i + depth);
    }
  } finally {
    await flights.allDown();
  }
  return done;
}

export interface CopyInOptions extends CopyOptions {
  /**
   * Blocks to write; EINVAL when the source has more or fewer. Default: all blocks of the source.
   */
  readonly count?: number;
  /** Fill the last block with zeroes instead of refusing a source that ends within one. */
  readonly pad?: boolean;
  /**
   * Read back what was written, and compare. Needs twice the slots: the second half is what is read
   * into.
   */
  readonly verify?: boolean;
}

/**
 * Write what `source` has, from block `start` on, and flush.
 *
 * @throws VfioError EINVAL for a source that ends within a block (the whole blocks before are
 * written then) or has another size than `count`; ENOSPC
 * when it does not fit; EIO naming the block that reads back otherwise; and what reading and
 * writing throw. Everything in flight has ended then.
 */
export async function copyIn(to: BlockDevice, start: number, source: Source, options: CopyInOptions = {}): Promise<Copied> {
  const { count, signal } = options;
  checkRange(to, start, count ?? 0);
  const room = count ?? to.blocks - start;
  const chunk = blocksPerSlot(to);
  const depth = options.verify === true ? to.slots.length >> 1 : to.slots.length;
  const flights = new Flights(depth);
  let begun = 0;
  let done = 0;
  const writeSlot = async (lba: number, blocks: number, slot: number) => {
    await to.write(lba, blocks, slot);
    if (options.verify === true) await verify(to, lba, blocks, slot, slot + depth);
    done += blocks;
    options.onProgress?.(done * to.blockSize);
  };
  try {
    for (let i = 0; begun < room && signal?.aborted !== true; i++) {
      const slot = i % depth;
      await flights.landing(slot);
      const wanted = Math.min(chunk, room - begun) * to.blockSize;
      const bytes = to.slots[slot]!.subarray(0, wanted);
      const got = await readUnlessStopped(source, bytes, signal);
      const partial = got % to.blockSize;
      const blocks = Math.floor(got / to.blockSize) + (partial > 0 && options.pad === true ? 1 : 0);
      bytes.fill(0, got);
      if (blocks > 0) flights.put(slot, writeSlot(start + begun, blocks, slot));
      begun += blocks;
      if (partial > 0 && options.pad !== true) {
        throw new VfioError(
          'EINVAL',
          `the input ends ${partial} bytes into a block of ${to.blockSize}; LBA ${start + begun} was not written`,
          {
            fix: 'With --pad the rest of the last block is filled with zeroes.',
          },
        );
      }
      if (got < wanted) break;
    }
    if (signal?.aborted !== true) await checkEnd(to, start, begun, room, source, count);
    await flights.allLanded();
  } finally {
    await flights.allDown();
  }
  await to.flush();
  return done;
}

/**
 * The end of a copy closes the source, too, so that no read waits for it. The source's complaint
 * about that is not an error.
 */
async function readUnlessStopped(source: Source, into: Uint8Array, signal: AbortSignal | undefined): Promise<number> {
  try {
    return await source.read(into);
  } catch (error) {
    if (signal?.aborted === true) return 0;
    throw error;
  }
}

async function checkEnd(
  to: BlockDevice,
  start: number,
  begun: number,
  room: number,
  source: Source,
  count: number | undefined,
): Promise<void> {
  if (count !== undefined && begun < count) {
    throw new VfioError('EINVAL', `the input has ${begun} blocks, not ${count}`);
  }
  if (begun < room || count !== undefined) return;
  if ((await source.read(new Uint8Array(1))) > 0) {
    throw new VfioError(
      'ENOSPC',
      `the input has more than the ${room} blocks from LBA ${start} to the end of ${to.name}, which are written`,
    );
  }
}

async function verify(of: BlockDevice, lba: number, blocks: number, written: number, back: number): Promise<void> {
  await of.read(lba, blocks, back);
  const size = blocks * of.blockSize;
  const [a, b] = [of.slots[written]!.subarray(0, size), of.slots[back]!.subarray(0, size)];
  if (Buffer.compare(a, b) === 0) return;
  const at = a.findIndex((byte, i) => byte !== b[i]);
  throw new VfioError(
    'EIO',
    `LBA ${lba + Math.floor(at / of.blockSize)} of ${of.name} reads back other than it was written (from its byte ${at % of.blockSize} on)`,
  );
}

function blocksPerSlot(device: BlockDevice): number {
  return Math.floor(device.slots[0]!.length / device.blockSize);
}

/** @throws VfioError EINVAL for blocks that the device does not have */
export function checkRange(device: BlockDevice, start: number, count: number): void {
  const whole = (value: number) => Number.isSafeInteger(value) && value >= 0;
  if (whole(start) && whole(count) && start + count <= device.blocks && start < device.blocks) return;
  const range = count > 1 ? `blocks ${start} to ${start + count - 1}` : `block ${start}`;
  throw new VfioError('EINVAL', `${device.name} has no ${range}: its last is ${device.blocks - 1}`);
}

/** Commands under way, one a slot. */
class Flights {
  readonly #under: (Promise<void> | null)[];

  constructor(slots: number) {
    this.#under = Array.from({ length: slots }, () => null);
  }

  put(slot: number, flight: Promise<void>): void {
    // The code that awaits the promise sees the error; until then the error does not count as
    // unhandled.
    flight.catch(() => {});
    this.#under[slot] = flight;
  }

  /** The slot's own has ended. @throws what it failed with */
  async landing(slot: number): Promise<void> {
    await this.#under[slot];
    this.#under[slot] = null;
  }

  /** @throws what the first of them failed with */
  async allLanded(): Promise<void> {
    await Promise.all(this.#under);
  }

  /** All have ended, however. */
  async allDown(): Promise<void> {
    await Promise.allSettled(this.#under);
  }
}
