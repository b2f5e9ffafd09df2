/**
 * The rules of a data pointer (NVMe 1.4, 4.3, 4.4) in the plainest form: the pieces, or null for a
 * malformed one.
 */
import type { Command } from '../../../src/models/nvme/command.ts';
import type { TestIo } from './test-io.ts';
import { TEST_PAGE } from './test-memory.ts';

export type Piece = readonly [at: bigint | 'bucket', bytes: number];

export class PointerReference {
  readonly io: TestIo;
  constructor(io: TestIo) {
    this.io = io;
  }

  /** Bytes [at, at + size) of the host's memory; null when the host lacks some of them. */
  bytes(at: bigint, size: number): Uint8Array | null {
    const from = at - this.io.memory.base;
    if (from < 0n || from + BigInt(size) > BigInt(this.io.memory.bytes.length)) return null;
    for (let page = Number(from >> 12n); page * TEST_PAGE < Number(from) + size; page++) {
      if (this.io.memory.kinds[page] === 'none') return null;
    }
    return this.io.memory.bytes.subarray(Number(from), Number(from) + size);
  }

  u64(at: bigint): bigint | null {
    const bytes = this.bytes(at, 8);
    return bytes === null ? null : new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  }

  pieces(command: Command, bytes: number, toHost: boolean): Piece[] | null {
    const { dw } = command;
    const psdt = (dw[0]! >>> 14) & 3;
    const first = BigInt(dw[6]!) | (BigInt(dw[7]!) << 32n);
    if (psdt === 0) return this.prp(first, BigInt(dw[8]!) | (BigInt(dw[9]!) << 32n), bytes);
    if (psdt !== 1) return null;
    const pieces: Piece[] = [];
    const ok = this.sgl(pieces, [[first, dw[8]!, dw[9]! >>> 24]], 'command', toHost);
    const sum = pieces.reduce((s, [, size]) => s + size, 0);
    return ok && sum === bytes ? pieces : null;
  }

  prp(prp1: bigint, prp2: bigint, bytes: number): Piece[] | null {
    if (prp1 % 4n !== 0n) return null;
    const pieces: Piece[] = [[prp1, Math.min(bytes, TEST_PAGE - Number(prp1 % 4096n))]];
    let left = bytes - pieces[0]![1];
    if (left === 0) return pieces;
    if (left <= TEST_PAGE) return prp2 % 4096n === 0n ? [...pieces, [prp2, left]] : null;
    if (prp2 % 8n !== 0n) return null;
    for (let at = prp2; left > 0; ) {
      const entry = this.u64(at);
      if (entry === null || entry % 4096n !== 0n) return null;
      const last = at % 4096n === 4088n;
      if (last && left > TEST_PAGE) at = entry;
      else {
        pieces.push([entry, Math.min(left, TEST_PAGE)]);
        left -= Math.min(left, TEST_PAGE);
        at += 8n;
      }
    }
    return pieces;
  }

  sgl(pieces: Piece[], list: [bigint, number, number][], within: 'command' | 'segment' | 'last', toHost: boolean): boolean {
    for (const [i, [at, size, identifier]] of list.entries()) {
      const type = identifier >> 4;
      if (identifier % 16 !== 0 || type > 3) return false;
      if (type === 0 && size > 0) pieces.push([at, size]);
      if (type === 1 && size > 0 && toHost) pieces.push(['bucket', size]);
      if (type < 2) continue;
      if (within === 'last' || i !== list.length - 1 || size === 0 || size % 16 !== 0 || size > this.io.memory.bytes.length) return false;
      const bytes = this.bytes(at, size);
      if (bytes === null) return false;
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      const next = Array.from({ length: size / 16 }, (_, n): [bigint, number, number] => [
        view.getBigUint64(16 * n, true),
        view.getUint32(16 * n + 8, true),
        view.getUint8(16 * n + 15),
      ]);
      return this.sgl(pieces, next, type === 3 ? 'last' : 'segment', toHost);
    }
    return true;
  }
}
