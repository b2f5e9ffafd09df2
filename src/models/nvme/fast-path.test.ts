/**
 * Commands that end at once, beside the same commands on a disk that does not say where its bytes
 * are: no host may see a difference.
 */
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { ControllerUnderTest } from '../../../tests/kit/nvme/controller-under-test.ts';
import { AdminOpcode, LogId, NvmCdw12, NvmOpcode } from '../../abi/nvme.ts';
import { MemoryStorage } from '../storage/memory-storage.ts';
import type { BlockSize } from './namespace.ts';

const PAGE = 4096;
/** Two chunks of the storage, and half a page. */
const DISK = 0x2_0000 + 2048;
const DATA_PAGES = 24;
const PAIR = 64;

interface Step {
  readonly opcode: number;
  readonly nsid: number;
  readonly lba: number;
  readonly blocks: number;
  readonly flags: number;
  /** PRP1 and PRP2: a page of the data, and a byte of it. */
  readonly first: readonly [page: number, byte: number];
  readonly second: readonly [page: number, byte: number] | null;
}

class Rig {
  readonly storage = new MemoryStorage(DISK);
  readonly controller: ControllerUnderTest;
  readonly data: number;
  /** Calls of `locate` that found something. */
  located = 0;

  /** @param fast  the disk says where its bytes are */
  constructor(blockSize: BlockSize, fast: boolean) {
    const { storage } = this;
    const open = storage.open.bind(storage);
    storage.open = (completed) => {
      const queue = open(completed);
      const locate = queue.locate!.bind(queue);
      const counted: typeof locate = (...of) => {
        const found = locate(...of);
        if (found) this.located++;
        return found;
      };
      return Object.assign(queue, { locate: fast ? counted : undefined });
    };
    this.controller = new ControllerUnderTest({ namespaces: [{ storage, blockSize }] });
    this.controller.enable();
    this.controller.createPair(1, PAIR);
    this.data = this.controller.page(DATA_PAGES);
    const bytes = this.controller.bytes(this.data, DATA_PAGES * PAGE);
    for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 31 + (i >>> 8)) & 0xff;
  }

  /** Runs the steps together; the completions in the order of their commands. */
  run(steps: readonly Step[]): unknown {
    const { controller } = this;
    const at = ([page, byte]: readonly [number, number]) => this.data + page * PAGE + byte;
    for (const { opcode, nsid, lba, blocks, flags, first, second } of steps) {
      const prp2 = second === null ? Math.floor(at(first) / PAGE + 1) * PAGE : at(second);
      controller.put(1, { opcode, nsid, prp1: at(first), prp2, cdw10: lba, cdw12: ((blocks - 1) | flags) >>> 0 });
    }
    controller.ringTail(1);
    // The head of the submission queue may be reported later or earlier.
    return controller
      .completions(1)
      .map(({ sqhd: _, ...rest }) => rest)
      .sort((a, b) => a.cid - b.cid);
  }

  /** All that a host can look at. */
  get seen(): readonly Uint8Array[] {
    const log = this.controller.page();
    this.controller.admin({ opcode: AdminOpcode.GET_LOG_PAGE, nsid: 0xffff_ffff, prp1: log, cdw10: (127 << 16) | LogId.SMART });
    const disk = new Uint8Array(DISK);
    this.storage.read(0, disk);
    return [this.controller.bytes(log, 512).slice(), this.controller.bytes(this.data, DATA_PAGES * PAGE).slice(), disk];
  }
}

const place = fc.tuple(fc.nat(DATA_PAGES - 3), fc.oneof(fc.constant(0), fc.constant(512), fc.constant(2048), fc.nat(PAGE - 1)));
const step: fc.Arbitrary<Step> = fc.record({
  opcode: fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(NvmOpcode.READ, NvmOpcode.WRITE) },
    { weight: 1, arbitrary: fc.constantFrom(NvmOpcode.FLUSH, NvmOpcode.WRITE_ZEROES, NvmOpcode.COMPARE, 0x7f) },
  ),
  nsid: fc.oneof({ weight: 20, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: fc.constantFrom(0, 2, 0xffff_ffff) }),
  lba: fc.nat(DISK / 512 + 2),
  blocks: fc.oneof(fc.integer({ min: 1, max: 2 }), fc.integer({ min: 1, max: 20 })),
  flags: fc.oneof({ weight: 8, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constantFrom(NvmCdw12.FUA, 1 << 31, 1 << 20) }),
  first: place,
  second: fc.oneof(
    fc.constant(null),
    fc.tuple(fc.nat(DATA_PAGES - 3), fc.constant(0)),
    fc.tuple(fc.constantFrom(0, 200_000), fc.constantFrom(0, 8, 2048)),
  ),
});

describe('commands that end at once', () => {
  it.each([512, 4096] as const)('do what all others do, with blocks of %i bytes', (blockSize) => {
    let located = 0;
    fc.assert(
      fc.property(fc.array(fc.array(step, { minLength: 1, maxLength: PAIR - 1 }), { minLength: 1, maxLength: 4 }), (batches) => {
        const [fast, other] = [new Rig(blockSize, true), new Rig(blockSize, false)];
        const scaled = (one: Step) => ({ ...one, lba: Math.floor((one.lba * 512) / blockSize) });
        for (const batch of batches) expect(fast.run(batch.map(scaled))).toEqual(other.run(batch.map(scaled)));
        const seen = other.seen;
        expect(fast.seen.map((bytes, i) => Buffer.compare(bytes, seen[i]!))).toEqual([0, 0, 0]);
        located += fast.located;
      }),
      { numRuns: 100 },
    );
    expect(located).toBeGreaterThan(20);
  });

  it('are copied in the order in which they stand', () => {
    const rig = new Rig(4096, true);
    const on = (opcode: number, page: number): Step => ({ opcode, nsid: 1, lba: 3, blocks: 1, flags: 0, first: [page, 0], second: null });
    rig.run([on(NvmOpcode.READ, 1), on(NvmOpcode.WRITE, 2), on(NvmOpcode.READ, 3), on(NvmOpcode.WRITE, 4), on(NvmOpcode.READ, 5)]);
    const page = (n: number) => rig.controller.bytes(rig.data + n * PAGE, PAGE);
    expect(page(1).every((byte) => byte === 0)).toBe(true);
    expect(page(3)).toEqual(page(2));
    expect(page(5)).toEqual(page(4));
    expect(page(5)).not.toEqual(page(2));
    expect(rig.located).toBe(5);
  });

  it('wait for room in the completion queue, and none is lost', () => {
    const { controller, data } = new Rig(4096, true);
    controller.createPair(2, 64, { cqSize: 5 });
    const ids = Array.from({ length: 50 }, (_, i) => controller.put(2, { opcode: NvmOpcode.READ, nsid: 1, prp1: data, cdw10: i % 8 }));
    controller.ringTail(2);
    const ended: number[] = [];
    for (let round = 0; round < 50; round++) ended.push(...controller.completions(2).map(({ cid }) => cid));
    expect(ended).toEqual(ids);
  });

  it('are noted while a disk is moved', () => {
    const { controller, data, storage, ...rig } = new Rig(4096, true);
    expect(rig.located).toBe(0);
    storage.bulk.startTracking();
    const note = vi.spyOn(storage.noted!, 'mark');
    controller.run(1, { opcode: NvmOpcode.READ, nsid: 1, prp1: data, cdw10: 2 });
    controller.run(1, { opcode: NvmOpcode.WRITE, nsid: 1, prp1: data, cdw10: 5, cdw12: 1, prp2: data + PAGE });
    expect(note.mock.calls).toEqual([[5, 6]]);
    expect([storage.bulk.takeDirty(0), storage.bulk.takeDirty(6), storage.bulk.takeDirty(7)]).toEqual([5, 6, -1]);
  });
});
