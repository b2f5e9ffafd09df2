/**
 * Random I/O commands, valid and malformed, against an array: contents always equal, nothing
 * pending at the end, every buffer back.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PointerReference } from '../../../tests/kit/nvme/pointer-reference.ts';
import { MDTS, pattern, TestIo } from '../../../tests/kit/nvme/test-io.ts';
import { type PageKind, TEST_PAGE } from '../../../tests/kit/nvme/test-memory.ts';
import { TestStorage } from '../../../tests/kit/nvme/test-storage.ts';
import { DsmAttribute, NvmOpcode } from '../../abi/nvme.ts';
import { Status, StatusBit } from '../../abi/nvme-status.ts';
import type { Command } from './command.ts';

const DISK = 0x4_0000;
const PAGES = 80;

/** A data pointer as drivers make them, written into memory; `cut` says where pieces end. */
interface Pointer {
  readonly kind: 'prp' | 'sgl';
  /** Byte of memory the data start at. */
  readonly start: number;
  /** Pages, for PRPs; for SGLs the places of the pieces. */
  readonly places: readonly number[];
  readonly cuts: readonly number[];
  readonly listAt: number;
  readonly bucket: boolean;
}

interface Step {
  readonly opcode: number;
  readonly lba: number;
  readonly blocks: number;
  readonly pointer: Pointer;
  /**
   * Dwords of the command that are changed afterwards, and bytes of memory: what makes it
   * malformed.
   */
  readonly corrupt: readonly (readonly [dword: number, xor: number])[];
  readonly scribble: readonly (readonly [at: number, value: number])[];
  readonly ranges: readonly (readonly [lba: number, blocks: number])[];
  readonly blocks_: { read: boolean; write: boolean };
  readonly fill: number;
}

const LISTS = 70 * TEST_PAGE;
const CONTENTS = pattern(LISTS + 256, 2);
const DISK_CONTENTS = pattern(DISK, 1);

const pointer: fc.Arbitrary<Pointer> = fc.record({
  kind: fc.constantFrom('prp', 'sgl'),
  start: fc.oneof(
    fc.nat(1023).map((n) => 4 * n),
    fc.nat(4095),
  ),
  places: fc.array(fc.nat(68), { minLength: 33, maxLength: 33 }),
  cuts: fc.array(fc.integer({ min: 1, max: 6000 }), { maxLength: 12 }),
  listAt: fc.oneof(fc.nat(500), fc.integer({ min: 500, max: 511 })).map((n) => LISTS + 8 * n),
  bucket: fc.boolean(),
});

const step: fc.Arbitrary<Step> = fc.record({
  opcode: fc.constantFrom(
    NvmOpcode.READ,
    NvmOpcode.WRITE,
    NvmOpcode.READ,
    NvmOpcode.WRITE,
    NvmOpcode.COMPARE,
    NvmOpcode.WRITE_ZEROES,
    NvmOpcode.VERIFY,
    NvmOpcode.DATASET_MANAGEMENT,
  ),
  lba: fc.oneof(fc.nat(DISK / 512 + 4), fc.nat(40)),
  blocks: fc.oneof(fc.integer({ min: 1, max: 16 }), fc.integer({ min: 1, max: MDTS / 512 + 1 })),
  pointer,
  corrupt: fc.oneof(
    { weight: 4, arbitrary: fc.constant([]) },
    {
      weight: 1,
      arbitrary: fc.array(
        fc.tuple(
          fc.constantFrom(0, 1, 6, 7, 8, 9, 10, 11, 12),
          fc.constantFrom(1, 2, 4, 8, 0x100, 0x1000, 0x8000, 0x4000, 0x1000_0000, 0x8000_0000),
        ),
        { maxLength: 2 },
      ),
    },
  ),
  scribble: fc.oneof(
    { weight: 4, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.array(fc.tuple(fc.nat(4095), fc.nat(255)), { maxLength: 4 }) },
  ),
  ranges: fc.array(fc.tuple(fc.nat(DISK / 512 + 1), fc.nat(40)), { minLength: 1, maxLength: 5 }),
  blocks_: fc.record({ read: fc.boolean(), write: fc.boolean() }),
  fill: fc.nat(255),
});

const kinds: fc.Arbitrary<PageKind[]> = fc.array(
  fc.oneof(
    { weight: 30, arbitrary: fc.constant('direct' as const) },
    { weight: 3, arbitrary: fc.constant('remote' as const) },
    { weight: 1, arbitrary: fc.constant('none' as const) },
  ),
  { minLength: PAGES, maxLength: PAGES },
);

/** The command of a step, with its lists in memory. */
function build(io: TestIo, { opcode, lba, blocks, pointer: p, corrupt, scribble, ranges }: Step, blockSize: number): Command {
  const dsm = opcode === NvmOpcode.DATASET_MANAGEMENT;
  const bytes = dsm ? ranges.length * 16 : blocks * blockSize;
  const common = dsm ? { opcode, cdw10: ranges.length - 1, cdw11: DsmAttribute.DEALLOCATE } : { opcode, lba, blocks };
  let command: Command;
  if (p.kind === 'prp') {
    const start = p.start & ~3;
    const first = TEST_PAGE - start;
    const pages = p.places.map((n) => n * TEST_PAGE);
    const needed = Math.max(0, Math.ceil((bytes - first) / TEST_PAGE));
    const room = (TEST_PAGE - (p.listAt % TEST_PAGE)) / 8;
    const entries = pages.slice(1, needed + 1);
    if (needed > room) {
      io.list(p.listAt, [...entries.slice(0, room - 1), LISTS + TEST_PAGE]);
      io.list(LISTS + TEST_PAGE, entries.slice(room - 1));
    } else if (needed > 1) io.list(p.listAt, entries);
    command = io.make({ ...common, prp1: pages[0]! + start, prp2: needed > 1 ? p.listAt : (entries[0] ?? 0) });
  } else {
    const list: [number, number, number][] = [];
    let left = bytes;
    for (const [i, cut] of p.cuts.entries()) {
      const size = Math.min(cut, left, 2 * TEST_PAGE);
      list.push([p.places[i]! * TEST_PAGE + (p.start % 64), size, p.bucket && i % 3 === 1 && opcode === NvmOpcode.READ ? 0x10 : 0]);
      left -= size;
    }
    list.push([p.start % 512, left, 0]);
    const half = list.length >> 1;
    if (half > 1) {
      io.segment(p.listAt, [...list.slice(0, half), [LISTS + 4 * TEST_PAGE, 16 * (list.length - half), 0x30]]);
      io.segment(LISTS + 4 * TEST_PAGE, list.slice(half));
      command = io.make({ ...common, sgl: [p.listAt, 16 * (half + 1), 0x20] });
    } else if (list.length > 1) {
      io.segment(p.listAt, list);
      command = io.make({ ...common, sgl: [p.listAt, 16 * list.length, 0x30] });
    } else command = io.make({ ...common, sgl: list[0]! });
  }
  if (dsm) {
    const data = new Uint8Array(bytes);
    const view = new DataView(data.buffer);
    for (const [i, [at, count]] of ranges.entries()) {
      view.setUint32(16 * i + 4, count, true);
      view.setBigUint64(16 * i + 8, BigInt(at), true);
    }
    let at = 0;
    for (const [place, size] of new PointerReference(io).pieces(command, bytes, false) ?? []) {
      if (place === 'bucket') continue;
      new PointerReference(io).bytes(place, size)?.set(data.subarray(at, at + size));
      at += size;
    }
  }
  for (const [dword, xor] of corrupt) command.dw[dword]! ^= xor;
  for (const [at, value] of scribble) io.memory.bytes[LISTS + at] = value;
  return command;
}

/**
 * The content that the disk must have after `command`, and what the host reads; null: it must fail,
 * and change nothing on the disk.
 */
function expected(
  io: TestIo,
  command: Command,
  disk: Uint8Array,
  blockSize: number,
): { disk: Uint8Array; status: number; read: [number, Uint8Array][] } | null {
  const reference = new PointerReference(io);
  const { dw } = command;
  if (((dw[0]! >>> 8) & 3) !== 0 || dw[1] !== 1) return null;
  const opcode = dw[0]! & 0xff;
  const after = disk.slice();
  if (opcode === NvmOpcode.FLUSH) return { disk: after, status: 0, read: [] };
  const total = BigInt(DISK / blockSize);
  const fetch = (bytes: number): Uint8Array | null => {
    const pieces = reference.pieces(command, bytes, false);
    if (pieces === null) return null;
    const parts = pieces.map(([at, size]) => reference.bytes(at as bigint, size));
    return parts.includes(null) ? null : new Uint8Array(Buffer.concat(parts as Uint8Array[]));
  };
  if (opcode === NvmOpcode.DATASET_MANAGEMENT) {
    if ((dw[11]! & DsmAttribute.DEALLOCATE) === 0) return { disk: after, status: 0, read: [] };
    const data = fetch(((dw[10]! & 0xff) + 1) * 16);
    if (data === null) return null;
    const view = new DataView(data.buffer);
    for (let at = 0; at < data.length; at += 16) {
      const blocks = BigInt(view.getUint32(at + 4, true));
      const lba = view.getBigUint64(at + 8, true);
      if (lba + blocks > total) return null;
      after.fill(0, Number(lba) * blockSize, Number(lba + blocks) * blockSize);
    }
    return { disk: after, status: 0, read: [] };
  }
  const lba = BigInt(dw[10]!) | (BigInt(dw[11]!) << 32n);
  const blocks = (dw[12]! & 0xffff) + 1;
  if (lba + BigInt(blocks) > total) return null;
  const offset = Number(lba) * blockSize;
  const bytes = blocks * blockSize;
  switch (opcode) {
    case NvmOpcode.VERIFY:
      return { disk: after, status: 0, read: [] };
    case NvmOpcode.WRITE_ZEROES:
      after.fill(0, offset, offset + bytes);
      return { disk: after, status: 0, read: [] };
    case NvmOpcode.READ: {
      const pieces = bytes > MDTS ? null : reference.pieces(command, bytes, true);
      if (pieces === null) return null;
      const read: [number, Uint8Array][] = [];
      let at = offset;
      for (const [place, size] of pieces) {
        if (place !== 'bucket') {
          if (reference.bytes(place, size) === null) return null;
          read.push([Number(place - io.memory.base), disk.slice(at, at + size)]);
        }
        at += size;
      }
      return { disk: after, status: 0, read };
    }
    case NvmOpcode.WRITE:
    case NvmOpcode.COMPARE: {
      const data = bytes > MDTS ? null : fetch(bytes);
      if (data === null || (opcode === NvmOpcode.WRITE && (dw[12]! & 0x00f0_0000) !== 0)) return null;
      if (opcode === NvmOpcode.COMPARE) {
        const equal = Buffer.compare(data, disk.subarray(offset, offset + bytes)) === 0;
        return { disk: after, status: equal ? 0 : Status.COMPARE_FAILURE, read: [] };
      }
      after.set(data, offset);
      return { disk: after, status: 0, read: [] };
    }
    default:
      return null;
  }
}

/** End everything: storage, remote memory and timers take turns. */
async function finish(io: TestIo, storages: readonly TestStorage[], order: () => number): Promise<void> {
  for (let turns = 0; turns < 1000 && !io.idle; turns++) {
    await io.settle();
    for (const storage of storages) while (storage.underWay.length > 0) storage.underWay[order() % storage.underWay.length]!.end();
    io.clock.advance(1);
  }
}

describe('random I/O commands against an array', () => {
  it.each([512, 4096] as const)('one after the other, blocks of %i bytes: contents equal, errors change nothing', async (blockSize) => {
    let succeeded = 0;
    let failed = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 12 }),
        kinds,
        fc.constantFrom(0x10_0000n, 2n ** 60n),
        async (steps, pages, base) => {
          const storage = new TestStorage(DISK);
          storage.bytes.set(DISK_CONTENTS);
          const io = new TestIo([{ storage, blockSize }], { pages: PAGES, base });
          io.memory.kinds.splice(0, PAGES, ...pages);
          let disk: Uint8Array = storage.bytes.slice();
          for (const [i, one] of steps.entries()) {
            io.memory.bytes.set(CONTENTS.subarray(one.fill, one.fill + LISTS), 0);
            storage.blocks = one.blocks_;
            const command = build(io, one, blockSize);
            const want = expected(io, command, disk, blockSize);
            const host = io.memory.bytes.slice();
            io.commands.start(command);
            io.commands.submit();
            await finish(io, [storage], () => 0);
            expect(io.completed.length).toBe(i + 1);
            const [, status] = io.completed.at(-1)!;
            if (want === null) {
              failed++;
              expect(status & StatusBit.CODE).not.toBe(Status.SUCCESS);
            } else {
              succeeded++;
              expect(status).toBe(want.status);
              disk = want.disk;
              for (const [at, bytes] of want.read) host.set(bytes, at);
              expect(Buffer.compare(io.memory.bytes, host)).toBe(0);
            }
            expect(Buffer.compare(storage.bytes, disk)).toBe(0);
            expect(io.idle).toBe(true);
          }
        },
      ),
      { numRuns: 150 },
    );
    // Both happen, or this says little.
    expect(succeeded).toBeGreaterThan(100);
    expect(failed).toBeGreaterThan(100);
  });

  it('many at once, ended in any order, with resets between: no block is lost, torn, or comes from another life', async () => {
    const SLOTS = 16;
    const action = fc.record({
      slot: fc.nat(SLOTS - 1),
      kind: fc.constantFrom('write', 'write', 'read', 'zero', 'flush', 'reset', 'end'),
      sgl: fc.boolean(),
      pick: fc.nat(63),
      settle: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(action, { maxLength: 60 }),
        fc.array(fc.boolean(), { minLength: SLOTS, maxLength: SLOTS }),
        fc.boolean(),
        async (actions, remote, now) => {
          const storage = new TestStorage(DISK);
          storage.blocks = { read: !now, write: true };
          const io = new TestIo([{ storage }], { pages: 4 * SLOTS, operations: 5, bounceBytes: 2 * MDTS });
          for (const [slot, is] of remote.entries()) if (is) io.memory.kinds.fill('remote', 4 * slot, 4 * slot + 4);
          /**
           * The contents that each slot's blocks may have: what was there, and what commands
           * without an end would have put there.
           */
          const may = Array.from({ length: SLOTS }, () => new Set([0]));
          const busy = new Map<number, { slot: number; value: number; kind: string }>();
          let value = 0;
          let seen = 0;
          const look = () => {
            for (; seen < io.completed.length; seen++) {
              const [id, status] = io.completed[seen]!;
              expect(status).toBe(Status.SUCCESS);
              const ended = busy.get(id)!;
              expect(ended).toBeDefined();
              busy.delete(id);
              const at = 4 * ended.slot * TEST_PAGE + 8;
              if (ended.kind === 'read') {
                const bytes = io.memory.bytes.subarray(at, at + 1024);
                expect(may[ended.slot]!.has(bytes[0]!)).toBe(true);
                expect(bytes.every((byte) => byte === bytes[0])).toBe(true);
              } else if (ended.kind !== 'flush') may[ended.slot] = new Set([ended.value]);
            }
          };
          for (const { slot, kind, sgl, pick, settle } of actions) {
            if (kind === 'reset') {
              io.commands.reset();
              await io.commands.quiet();
              // Their data may still land: until something else is written there.
              busy.clear();
            } else if (kind === 'end') {
              if (storage.underWay.length > 0) storage.underWay[pick % storage.underWay.length]!.end();
            } else if (![...busy.values()].some((other) => other.slot === slot)) {
              const at = 4 * slot * TEST_PAGE + 8;
              value = (value % 250) + 1;
              const opcode = { write: NvmOpcode.WRITE, read: NvmOpcode.READ, zero: NvmOpcode.WRITE_ZEROES, flush: NvmOpcode.FLUSH }[kind];
              if (kind === 'write') io.memory.bytes.fill(value, at, at + 1024);
              if (kind === 'write') may[slot]!.add(value);
              if (kind === 'zero') may[slot]!.add(0);
              const test = { opcode, lba: slot * 2, blocks: 2, ...(sgl ? { sgl: [at, 1024, 0] as const } : { prp1: at }) };
              const command = io.make(test);
              busy.set(command.id, { slot, value: kind === 'zero' ? 0 : value, kind });
              io.commands.start(command);
              if (pick % 2 === 0) io.commands.submit();
            }
            if (settle) await io.settle();
            look();
          }
          io.commands.submit();
          await finish(io, [storage], () => 7);
          look();
          expect(busy.size).toBe(0);
          expect(io.idle).toBe(true);
          for (let slot = 0; slot < SLOTS; slot++) {
            const bytes = storage.bytes.subarray(slot * 1024, slot * 1024 + 1024);
            expect([...may[slot]!]).toContain(bytes[0]);
            expect(bytes.every((byte) => byte === bytes[0])).toBe(true);
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});
