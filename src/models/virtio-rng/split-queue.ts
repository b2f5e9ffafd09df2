/**
 * The device's side of a split virtqueue: chains of buffers that the driver makes available, and
 * the ring in which they come back. All of it lies in the driver's memory, so every number of it is
 * checked; nothing here waits for the driver.
 *
 * @see Virtual I/O Device (VIRTIO) Version 1.2, 2.7 split virtqueues
 */
import { VIRTIO_NO_INTERRUPT, VirtioDescriptor } from '../../abi/virtio.ts';
import type { ModelDma } from '../kit/life.ts';

/** Where a queue lies: `size` entries, and IOVAs of its three parts. */
export interface QueuePlace {
  readonly size: number;
  readonly descriptors: bigint;
  readonly driver: bigint;
  readonly device: bigint;
}

/** Entries of the two rings that are done, modulo 2^16: plain data, for migration. */
export interface QueueProgress {
  available: number;
  used: number;
}

/** One buffer of a chain. */
export interface Buffer {
  readonly iova: bigint;
  readonly size: number;
  /** The device writes it; else it reads it. */
  readonly writable: boolean;
}

/** The driver has made a queue that cannot be: the device needs a reset (2.1.2). */
export class QueueError extends Error {}

/** How many chains the driver has made available that are not taken yet. @throws QueueError */
export async function chainsAvailable(dma: ModelDma, place: QueuePlace, progress: QueueProgress): Promise<number> {
  const count = (u16(await dma.read(place.driver + 2n, 2)) - progress.available) & 0xffff;
  if (count > place.size) throw new QueueError(`${count} chains are available in a queue of ${place.size}`);
  return count;
}

/** The head of the next chain: the index of its first descriptor. @throws QueueError */
export async function nextHead(dma: ModelDma, place: QueuePlace, progress: QueueProgress): Promise<number> {
  const slot = BigInt(progress.available % place.size);
  return checkIndex(u16(await dma.read(place.driver + 4n + 2n * slot, 2)), place);
}

/**
 * The buffers of a chain, in their order.
 * @throws QueueError for a chain that has a loop or leaves the table
 */
export async function* buffersOf(dma: ModelDma, place: QueuePlace, head: number): AsyncGenerator<Buffer, void> {
  let index = head;
  for (let count = 0; count < place.size; count++) {
    const bytes = await dma.read(place.descriptors + BigInt(VirtioDescriptor.BYTES * index), VirtioDescriptor.BYTES);
    const descriptor = new DataView(bytes.buffer, bytes.byteOffset);
    const flags = descriptor.getUint16(12, true);
    yield {
      iova: descriptor.getBigUint64(0, true),
      size: descriptor.getUint32(8, true),
      writable: (flags & VirtioDescriptor.WRITE) !== 0,
    };
    if ((flags & VirtioDescriptor.NEXT) === 0) return;
    index = checkIndex(descriptor.getUint16(14, true), place);
  }
  throw new QueueError(`the chain of descriptor ${head} has more than ${place.size} buffers`);
}

/** Give a chain back. The index is written last: the driver sees the entry complete. */
export async function giveBack(dma: ModelDma, place: QueuePlace, progress: QueueProgress, head: number, written: number): Promise<void> {
  const entry = new DataView(new ArrayBuffer(8));
  entry.setUint32(0, head, true);
  entry.setUint32(4, written, true);
  await dma.write(place.device + 4n + 8n * BigInt(progress.used % place.size), new Uint8Array(entry.buffer));
  progress.available = (progress.available + 1) & 0xffff;
  progress.used = (progress.used + 1) & 0xffff;
  await dma.write(place.device + 2n, Uint8Array.of(progress.used & 0xff, progress.used >> 8));
}

/** Whether the driver wants an interrupt for what it gets back. */
export async function wantsInterrupt(dma: ModelDma, place: QueuePlace): Promise<boolean> {
  return (u16(await dma.read(place.driver, 2)) & VIRTIO_NO_INTERRUPT) === 0;
}

function checkIndex(index: number, { size }: QueuePlace): number {
  if (index < size) return index;
  throw new QueueError(`descriptor ${index} does not exist in a queue of ${size}`);
}

function u16(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint16(0, true);
}
