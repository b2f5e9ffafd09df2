import { describe, expect, it } from 'vitest';
import type { SglText } from '../../../tests/kit/nvme/test-io.ts';
import { TEST_PAGE, TestMemory } from '../../../tests/kit/nvme/test-memory.ts';
import { Status, StatusBit } from '../../abi/nvme-status.ts';
import { Command } from './command.ts';
import { DataPointer, Walk, walkRemote } from './data-pointer.ts';
import { PIECES_MAX, Pieces } from './pieces.ts';

const DNR = StatusBit.DO_NOT_RETRY;
const PAGE = TEST_PAGE;
/** SGL identifiers: type in bits 7:4, subtype in 3:0. */
const DATA = 0x00;
const BUCKET = 0x10;
const SEGMENT = 0x20;
const LAST = 0x30;

class Walker {
  readonly memory: TestMemory;
  readonly pointer: DataPointer;

  constructor(pages = 64, base?: bigint) {
    this.memory = new TestMemory(pages, base);
    this.pointer = new DataPointer(this.memory);
  }

  prp(prp1: number, prp2: number, bytes: number): Walk {
    const command = new Command(0);
    [command.dw[6], command.dw[7]] = this.memory.address(prp1);
    [command.dw[8], command.dw[9]] = this.memory.address(prp2);
    return this.pointer.walk(command, bytes, true);
  }

  sgl([at, length, identifier]: SglText, bytes: number, toHost = true, psdt = 1): Walk {
    const command = new Command(0);
    command.dw[0] = psdt << 14;
    [command.dw[6], command.dw[7]] = this.memory.address(at);
    command.dw[8] = length;
    command.dw[9] = identifier << 24;
    return this.pointer.walk(command, bytes, toHost);
  }

  put64(at: number, to: number): void {
    new DataView(this.memory.bytes.buffer).setBigUint64(at, this.memory.base + BigInt(to), true);
  }

  list(at: number, pages: readonly number[]): void {
    pages.forEach((page, i) => void this.put64(at + 8 * i, page));
  }

  segment(at: number, descriptors: readonly SglText[]): void {
    descriptors.forEach(([to, length, identifier], i) => {
      this.put64(at + 16 * i, to);
      const view = new DataView(this.memory.bytes.buffer);
      view.setUint32(at + 16 * i + 8, length, true);
      view.setUint32(at + 16 * i + 12, (identifier << 24) >>> 0, true);
    });
  }

  /** `[byte of the memory, or 'bucket', bytes]`. */
  get pieces(): [number | 'bucket', number][] {
    const { pieces } = this.pointer;
    return Array.from({ length: pieces.count }, (_, i) => [
      pieces.isBucket(i) ? 'bucket' : Number(BigInt(pieces.iova(i)) - this.memory.base),
      pieces.size(i),
    ]);
  }
}

describe('NVMe 1.4 4.3 PRP', () => {
  it('one entry: within a page, at any dword of it, PRP2 not looked at', () => {
    const w = new Walker();
    expect(w.prp(PAGE + 0x204, 3, PAGE - 0x204)).toBe(Walk.DONE);
    expect(w.pieces).toEqual([[PAGE + 0x204, PAGE - 0x204]]);
  });

  it('two entries: PRP2 is the second page', () => {
    const w = new Walker();
    expect(w.prp(PAGE + 0xe00, 8 * PAGE, PAGE)).toBe(Walk.DONE);
    expect(w.pieces).toEqual([
      [PAGE + 0xe00, 0x200],
      [8 * PAGE, 0xe00],
    ]);
    expect(w.memory.reads).toBe(0);
  });

  it('a list: PRP2 points to it, at any qword of a page', () => {
    const w = new Walker();
    w.list(2 * PAGE + 0x18, [9 * PAGE, 11 * PAGE]);
    expect(w.prp(PAGE + 0x400, 2 * PAGE + 0x18, 2 * PAGE)).toBe(Walk.DONE);
    expect(w.pieces).toEqual([
      [PAGE + 0x400, PAGE - 0x400],
      [9 * PAGE, PAGE],
      [11 * PAGE, 0x400],
    ]);
  });

  it('pages in a row are one piece, and no entry past the last is read', () => {
    const w = new Walker();
    w.list(
      2 * PAGE,
      [5, 6, 7, 8, 9].map((n) => n * PAGE),
    );
    // Right behind the list memory ends.
    w.memory.kinds.fill('none', 3, 4);
    w.list(3 * PAGE - 16, [5 * PAGE, 6 * PAGE]);
    expect(w.prp(4 * PAGE, 2 * PAGE, 6 * PAGE)).toBe(Walk.DONE);
    expect(w.pieces).toEqual([[4 * PAGE, 6 * PAGE]]);
    expect(w.prp(4 * PAGE, 3 * PAGE - 16, 3 * PAGE)).toBe(Walk.DONE);
    expect(w.pieces).toEqual([[4 * PAGE, 3 * PAGE]]);
  });

  it('chained: when more entries follow, the last of a list page points to the next list page', () => {
    const w = new Walker();
    w.list(3 * PAGE - 16, [10 * PAGE, 20 * PAGE]);
    w.list(20 * PAGE, [12 * PAGE, 14 * PAGE]);
    expect(w.prp(8 * PAGE, 3 * PAGE - 16, 4 * PAGE)).toBe(Walk.DONE);
    expect(w.pieces.map(([at]) => at)).toEqual([8, 10, 12, 14].map((n) => n * PAGE));
    // A list page with room for one entry holds only the pointer.
    w.list(3 * PAGE - 8, [20 * PAGE]);
    expect(w.prp(8 * PAGE, 3 * PAGE - 8, 3 * PAGE)).toBe(Walk.DONE);
    expect(w.pieces.map(([at]) => at)).toEqual([8, 12, 14].map((n) => n * PAGE));
    // When what remains fits into the last entry, it is data.
    w.list(3 * PAGE - 16, [10 * PAGE, 20 * PAGE]);
    expect(w.prp(8 * PAGE, 3 * PAGE - 16, 3 * PAGE)).toBe(Walk.DONE);
    expect(w.pieces.map(([at]) => at)).toEqual([8, 10, 20].map((n) => n * PAGE));
  });

  it('more entries than a list page holds: 1101 pages over three list pages', () => {
    const w = new Walker(2100);
    const pages = Array.from({ length: 1100 }, (_, i) => 2099 - i);
    const entries = pages.map((n) => n * PAGE);
    w.list(1 * PAGE, [...entries.slice(0, 511), 2 * PAGE]);
    w.list(2 * PAGE, [...entries.slice(511, 1022), 3 * PAGE]);
    w.list(3 * PAGE, entries.slice(1022));
    expect(w.prp(5 * PAGE + 4, PAGE, 1101 * PAGE - 4)).toBe(Walk.DONE);
    expect(w.pieces.map(([at]) => at)).toEqual([5 * PAGE + 4, ...entries]);
    expect(w.pointer.pieces.bytes).toBe(1101 * PAGE - 4);
  });

  it.each([
    ['PRP1 not at a dword', PAGE + 2, 0, 512],
    ['PRP2, the second page, with an offset', PAGE, 2 * PAGE + 4, 2 * PAGE],
    ['PRP2, a list, not at a qword', PAGE, 2 * PAGE + 4, 3 * PAGE],
    ['an entry of the list with an offset', PAGE, 4 * PAGE, 3 * PAGE],
    ['the pointer to the next list page with an offset', PAGE, 5 * PAGE - 8, 3 * PAGE],
  ])('PRP Offset Invalid: %s', (_, prp1, prp2, bytes) => {
    const w = new Walker();
    w.list(4 * PAGE, [8 * PAGE, 9 * PAGE + 0x200]);
    w.list(5 * PAGE - 8, [6 * PAGE + 8]);
    expect(w.prp(prp1, prp2, bytes)).toBe(Walk.FAILED);
    expect(w.pointer.status).toBe(Status.PRP_OFFSET_INVALID | DNR);
  });

  it('a list that DMA does not reach: Data Transfer Error, which may go away', () => {
    const w = new Walker();
    w.memory.kinds[4] = 'none';
    expect(w.prp(PAGE, 4 * PAGE, 3 * PAGE)).toBe(Walk.FAILED);
    expect(w.pointer.status).toBe(Status.DATA_TRANSFER_ERROR);
  });

  it('a list that points to itself ends with the transfer', () => {
    const w = new Walker();
    w.list(
      4 * PAGE,
      Array.from({ length: 512 }, () => 4 * PAGE),
    );
    expect(w.prp(PAGE, 4 * PAGE, 2000 * PAGE)).toBe(Walk.DONE);
    expect(w.pointer.pieces.bytes).toBe(2000 * PAGE);
  });

  it.each([8192, 65536, 2 ** 20, 2 ** 27])('CC.MPS: pages of %i bytes', (page) => {
    const w = new Walker(8, 2n ** 40n);
    w.pointer.pageSize = page;
    const command = new Command(0);
    const at = (n: number, offset = 0): [number, number] => [
      (n * page + offset) % 2 ** 32,
      2 ** 8 + Math.floor((n * page + offset) / 2 ** 32),
    ];
    [command.dw[6], command.dw[7]] = at(3, page - 512);
    [command.dw[8], command.dw[9]] = at(5);
    expect(w.pointer.walk(command, page + 512, true)).toBe(Walk.DONE);
    expect([w.pointer.pieces.iova(0), w.pointer.pieces.size(0)]).toEqual([2 ** 40 + 4 * page - 512, 512]);
    expect([w.pointer.pieces.iova(1), w.pointer.pieces.size(1)]).toEqual([2 ** 40 + 5 * page, page]);
    command.dw[8]! += 4096;
    expect(w.pointer.walk(command, page, true)).toBe(Walk.FAILED);
  });

  it('addresses above 2^53 and up to the end of the 64 bits', () => {
    const base = 2n ** 64n - 64n * 4096n;
    const w = new Walker(64, base);
    w.list(2 * PAGE, [63 * PAGE, 62 * PAGE]);
    expect(w.prp(PAGE, 2 * PAGE, 3 * PAGE)).toBe(Walk.DONE);
    expect(w.pieces).toEqual([
      [PAGE, PAGE],
      [63 * PAGE, PAGE],
      [62 * PAGE, PAGE],
    ]);
    expect(typeof w.pointer.pieces.iova(0)).toBe('bigint');
  });

  it('a list in memory that answers only later: the walk stops and resumes', async () => {
    const w = new Walker();
    w.list(3 * PAGE - 16, [10 * PAGE, 20 * PAGE]);
    w.list(20 * PAGE, [12 * PAGE, 14 * PAGE]);
    w.memory.kinds[2] = 'remote';
    w.memory.kinds[20] = 'remote';
    expect(w.prp(8 * PAGE, 3 * PAGE - 16, 4 * PAGE)).toBe(Walk.REMOTE);
    expect(await walkRemote(w.pointer, w.memory, () => true)).toBe(Walk.DONE);
    expect(w.pieces.map(([at]) => at)).toEqual([8, 10, 12, 14].map((n) => n * PAGE));
  });
});

describe('NVMe 1.4 4.4 SGL', () => {
  it('a data block in the command, at any byte, of any length', () => {
    const w = new Walker();
    expect(w.sgl([0x1235, 999, DATA], 999)).toBe(Walk.DONE);
    expect(w.pieces).toEqual([[0x1235, 999]]);
  });

  it('a last segment of data blocks and bit buckets; blocks without bytes are skipped', () => {
    const w = new Walker();
    w.segment(0x4000, [
      [0x8001, 3, DATA],
      [0x8004, 5, DATA],
      [0, 100, BUCKET],
      [0x9000, 0, DATA],
      [0xa000, 404, DATA],
    ]);
    expect(w.sgl([0x4000, 5 * 16, LAST], 512)).toBe(Walk.DONE);
    expect(w.pieces).toEqual([
      [0x8001, 8],
      ['bucket', 100],
      [0xa000, 404],
    ]);
  });

  it('a bit bucket is for data to the host: in a source it has no bytes', () => {
    const w = new Walker();
    w.segment(0x4000, [
      [0x8000, 512, DATA],
      [0, 100, BUCKET],
    ]);
    expect(w.sgl([0x4000, 32, LAST], 512, false)).toBe(Walk.DONE);
    expect(w.pieces).toEqual([[0x8000, 512]]);
    expect(w.sgl([0, 512, BUCKET], 512, true)).toBe(Walk.DONE);
    expect(w.pieces).toEqual([['bucket', 512]]);
  });

  it('segments: each but the last ends in a descriptor of the next', () => {
    const w = new Walker();
    w.segment(0x4000, [
      [0x8000, 100, DATA],
      [0x5010, 32, SEGMENT],
    ]);
    w.segment(0x5010, [
      [0x9000, 100, DATA],
      [0x6000, 16, LAST],
    ]);
    w.segment(0x6000, [[0xa000, 312, DATA]]);
    expect(w.sgl([0x4000, 32, SEGMENT], 512)).toBe(Walk.DONE);
    expect(w.pieces.map(([at]) => at)).toEqual([0x8000, 0x9000, 0xa000]);
  });

  it('more descriptors than are read at once', () => {
    const w = new Walker();
    w.segment(
      0x4008,
      Array.from({ length: 600 }, (_, i): SglText => [0x2_0000 + 2 * i, 1, DATA]),
    );
    expect(w.sgl([0x4008, 600 * 16, LAST], 600)).toBe(Walk.DONE);
    expect(w.pieces).toEqual(Array.from({ length: 600 }, (_, i) => [0x2_0000 + 2 * i, 1]));
  });

  const status = (w: Walker, first: SglText, bytes = 512): number => {
    expect(w.sgl(first, bytes)).toBe(Walk.FAILED);
    return w.pointer.status;
  };

  it('Data SGL Length Invalid: less or more than the command transfers', () => {
    const w = new Walker();
    expect(status(w, [0, 511, DATA])).toBe(Status.DATA_SGL_LENGTH_INVALID | DNR);
    expect(status(w, [0, 513, DATA])).toBe(Status.DATA_SGL_LENGTH_INVALID | DNR);
    expect(status(w, [0, 0xffff_ffff, DATA])).toBe(Status.DATA_SGL_LENGTH_INVALID | DNR);
    w.segment(0x4000, [
      [0x8000, 512, DATA],
      [0x8000, 1, DATA],
    ]);
    expect(status(w, [0x4000, 32, LAST])).toBe(Status.DATA_SGL_LENGTH_INVALID | DNR);
    w.segment(0x4000, [[0x8000, 256, DATA]]);
    expect(status(w, [0x4000, 16, LAST])).toBe(Status.DATA_SGL_LENGTH_INVALID | DNR);
  });

  it('SGL Descriptor Type Invalid: keyed, transport, reserved, vendor specific, or an offset instead of an address', () => {
    const w = new Walker();
    for (const identifier of [0x40, 0x50, 0x60, 0xf0, 0x01, 0x21]) {
      expect(status(w, [0, 512, identifier])).toBe(Status.SGL_TYPE_INVALID | DNR);
      w.segment(0x4000, [[0x8000, 512, identifier]]);
      expect(status(w, [0x4000, 16, LAST])).toBe(Status.SGL_TYPE_INVALID | DNR);
    }
  });

  it('Invalid SGL Segment Descriptor: a length that is no multiple of 16, none, or a segment behind the last', () => {
    const w = new Walker();
    for (const length of [0, 8, 24, 0xffff_ffff]) {
      expect(status(w, [0x4000, length, LAST])).toBe(Status.INVALID_SGL_SEGMENT | DNR);
      expect(status(w, [0x4000, length, SEGMENT])).toBe(Status.INVALID_SGL_SEGMENT | DNR);
    }
    for (const identifier of [SEGMENT, LAST]) {
      w.segment(0x4000, [[0x5000, 16, identifier]]);
      expect(status(w, [0x4000, 16, LAST])).toBe(Status.INVALID_SGL_SEGMENT | DNR);
    }
  });

  it('Invalid Number of SGL Descriptors: a segment descriptor that is not the last of its segment', () => {
    const w = new Walker();
    w.segment(0x4000, [
      [0x5000, 16, LAST],
      [0x8000, 512, DATA],
    ]);
    expect(status(w, [0x4000, 32, SEGMENT])).toBe(Status.INVALID_SGL_COUNT | DNR);
  });

  it('segments that point at each other for ever, and more pieces than anybody needs, end', () => {
    const w = new Walker(128);
    w.segment(0x4000, [
      [0, 0, DATA],
      [0x4000, 32, SEGMENT],
    ]);
    expect(status(w, [0x4000, 32, SEGMENT])).toBe(Status.INVALID_SGL_COUNT | DNR);
    w.segment(
      0x4000,
      Array.from({ length: 256 }, (_, i): SglText => [0x8000 + 2 * i, i === 255 ? 32 : 1, i === 255 ? SEGMENT : DATA]),
    );
    w.segment(0x4ff0, [[0x4000, 4096, SEGMENT]]);
    expect(status(w, [0x4000, 4096, SEGMENT], 2 * PIECES_MAX)).toBe(Status.INVALID_SGL_COUNT | DNR);
  });

  it('PSDT: 2 (metadata SGL, not offered) and 3 (reserved) are invalid fields', () => {
    const w = new Walker();
    for (const psdt of [2, 3]) {
      expect(w.sgl([0, 512, DATA], 512, true, psdt)).toBe(Walk.FAILED);
      expect(w.pointer.status).toBe(Status.INVALID_FIELD | DNR);
    }
  });

  it('a segment that DMA does not reach, or reaches later', async () => {
    const w = new Walker();
    w.segment(0x4ff0, [
      [0x8000, 100, DATA],
      [0x9000, 412, DATA],
    ]);
    w.memory.kinds[5] = 'none';
    expect(status(w, [0x4ff0, 32, LAST])).toBe(Status.DATA_TRANSFER_ERROR);
    w.memory.kinds[5] = 'remote';
    expect(w.sgl([0x4ff0, 32, LAST], 512)).toBe(Walk.REMOTE);
    expect(await walkRemote(w.pointer, w.memory, () => true)).toBe(Walk.DONE);
    expect(w.pieces).toEqual([
      [0x8000, 100],
      [0x9000, 412],
    ]);
  });
});

describe('pieces', () => {
  it('join across 2^32, and not across the end of the 64 bits', () => {
    const pieces = new Pieces();
    pieces.add(0xffff_f000, 1, 4096);
    pieces.add(0, 2, 4096);
    expect([pieces.count, pieces.iova(0), pieces.size(0)]).toEqual([1, 0x1_ffff_f000, 8192]);
    pieces.clear();
    pieces.add(0xffff_f000, 0xffff_ffff, 4096);
    pieces.add(0, 0, 4096);
    expect([pieces.count, pieces.iova(0), pieces.iova(1)]).toEqual([2, 2n ** 64n - 4096n, 0]);
  });

  it('are bounded', () => {
    const pieces = new Pieces();
    for (let i = 0; i < PIECES_MAX; i++) expect(pieces.add(2 * i, 0, 1)).toBe(true);
    expect(pieces.add(0x100, 9, 1)).toBe(false);
    expect(pieces.addBucket(1)).toBe(false);
    expect([pieces.count, pieces.bytes, pieces.iova(PIECES_MAX - 1)]).toEqual([PIECES_MAX, PIECES_MAX, 2 * (PIECES_MAX - 1)]);
  });
});
