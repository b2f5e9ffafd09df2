/**
 * The transfers of the endpoint test function: memory to device, device to memory, memory to
 * memory, of any length, in pieces. A transfer that faults stops there: the pieces before have
 * landed, as on a bus.
 */
import { randomFillSync } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { Dma, DmaFault } from '../../abi/device-host.ts';
import type { ModelDma } from '../kit/life.ts';

/** A device, as far as its transfers need it. */
export interface TransferPort {
  readonly dma: Pick<ModelDma, 'tryRead' | 'tryWrite' | 'read' | 'write'>;
  sleep(delayMs: number): Promise<void>;
}

/** The outcome of a transfer: the side that faulted, and the checksum of the bytes. */
export interface Transferred {
  readonly fault: 'source' | 'destination' | null;
  /** Linux's `crc32_le(~0, …)` over all bytes. */
  readonly checksum: number;
}

/** Bytes of one piece. */
const PIECE = 2 ** 16;
/** After so many bytes a transfer lets other work of the thread run. */
const SLICE = 2 ** 23;

/** Read `size` bytes at `source`. */
export function readAll(port: TransferPort, source: bigint, size: number): Promise<Transferred> {
  return inPieces(port, size, async (bytes, at) => ((await readPiece(port, source + at, bytes)) ? null : 'source'));
}

/** Write `size` random bytes at `destination`. */
export function writeAll(port: TransferPort, destination: bigint, size: number): Promise<Transferred> {
  return inPieces(port, size, async (bytes, at) => {
    randomFillSync(bytes);
    return (await writePiece(port, destination + at, bytes)) ? null : 'destination';
  });
}

/** Copy `size` bytes from `source` to `destination`. */
export function copyAll(port: TransferPort, source: bigint, destination: bigint, size: number): Promise<Transferred> {
  return inPieces(port, size, async (bytes, at) => {
    if (!(await readPiece(port, source + at, bytes))) return 'source';
    return (await writePiece(port, destination + at, bytes)) ? null : 'destination';
  });
}

async function inPieces(
  port: TransferPort,
  size: number,
  move: (bytes: Uint8Array, at: bigint) => Promise<Transferred['fault']>,
): Promise<Transferred> {
  const buffer = new Uint8Array(Math.min(size, PIECE));
  let sum = 0;
  for (let at = 0; at < size; at += PIECE) {
    if (at > 0 && at % SLICE === 0) await port.sleep(0);
    const bytes = size - at < buffer.length ? buffer.subarray(0, size - at) : buffer;
    const fault = await move(bytes, BigInt(at));
    sum = crc32(bytes, sum);
    if (fault !== null) return { fault, checksum: ~sum >>> 0 };
  }
  return { fault: null, checksum: ~sum >>> 0 };
}

/** False: it did not land. */
async function readPiece({ dma }: TransferPort, iova: bigint, into: Uint8Array): Promise<boolean> {
  const done = dma.tryRead(iova, into);
  return done === Dma.REMOTE ? landed(dma.read(iova, into)) : done === Dma.DONE;
}

async function writePiece({ dma }: TransferPort, iova: bigint, from: Uint8Array): Promise<boolean> {
  const done = dma.tryWrite(iova, from);
  return done === Dma.REMOTE ? landed(dma.write(iova, from)) : done === Dma.DONE;
}

async function landed(transfer: Promise<unknown>): Promise<boolean> {
  try {
    await transfer;
    return true;
  } catch (error) {
    if (error instanceof DmaFault) return false;
    throw error;
  }
}
