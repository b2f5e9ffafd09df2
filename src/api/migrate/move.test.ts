/**
 * Moves within one process: no written page is missed, and no device runs twice, wherever the link
 * breaks.
 */
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { MigrationSide } from '../../../tests/kit/migration-rig.ts';
import { type MovableModel, movable } from '../../../tests/kit/movable-model.ts';
import { enable, type MoveOutcome, moveBetween } from '../../../tests/kit/move-rig.ts';
import { Random } from '../../../tests/soak/random.ts';
import { Access } from '../../abi/memory.ts';
import { VfioError } from '../../base/errno.ts';
import { edu } from '../../models/edu/edu.ts';
import type { DeviceModel } from '../../pci/declaration.ts';
import { MemfdMemory } from '../../sys/memfd.ts';
import { InDoubt } from './departure.ts';

const PAGE = 4096;
const opened: Disposable[] = [];

afterEach(() => {
  for (const each of opened.splice(0).reverse()) each[Symbol.dispose]();
});

function side(model: DeviceModel = edu()): MigrationSide {
  const one = new MigrationSide(model);
  opened.push(one);
  enable(one.device);
  return one;
}

function memory(bytes: number): MemfdMemory {
  const one = MemfdMemory.allocate(bytes);
  opened.push(one);
  return one;
}

/** The mappings at the destination, by address. */
function bytesAt({ arrived }: MoveOutcome, iova: bigint, size: number): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let at = iova; at < iova + BigInt(size); ) {
    const mapping = arrived!.mappings.find((each) => at >= each.iova && at < each.iova + BigInt(each.size));
    if (mapping === undefined) throw new Error(`nothing is mapped at 0x${at.toString(16)}`);
    const ahead = Number(at - mapping.iova);
    const length = Math.min(mapping.size - ahead, size - Number(at - iova));
    const start = mapping.offset + ahead;
    parts.push(arrived!.files[mapping.memory]!.windows[0]!.subarray(start, start + length));
    at += BigInt(length);
  }
  return Buffer.concat(parts);
}

describe('a move', () => {
  it('S0-19 takes registers, mappings and memory along; pages that were never written take no room', async () => {
    const [from, to] = [side(), side()];
    const bar0 = from.device.region(0);
    bar0.write32(0x20, 0x80);
    const one = memory(64 * PAGE);
    one.windows[0]!.fill(0xaa, 3 * PAGE, 5 * PAGE);
    from.device.dma.map({ iova: 0x10_0000n, memory: one });
    // The same memory at two addresses: one memory at the destination, too.
    from.device.dma.map({ iova: 0x20_0000n, memory: one, offset: 2 * PAGE, size: 4 * PAGE, access: Access.READ });
    const outcome = await moveBetween(from.device, to.device);
    expect(outcome).toMatchObject({ sourceError: null, destinationError: null, gone: true });
    expect(outcome.figures).toMatchObject({ memoryBytes: 2 * PAGE });
    expect(to.migration.state).toBe('RUNNING');
    expect(to.device.region(0).read32(0x20)).toBe(0x80);
    const moved = outcome.arrived!.mappings.find(({ iova }) => iova === 0x10_0000n)!;
    // The check comes before any read, because a read makes pages.
    expect(outcome.arrived!.files[0]!.nextData(0)).toEqual({ first: moved.offset + 3 * PAGE, end: moved.offset + 5 * PAGE });
    expect(Buffer.compare(bytesAt(outcome, 0x10_0000n, 64 * PAGE), one.windows[0]!)).toBe(0);
    const shared = outcome.arrived!.mappings.find(({ iova }) => iova === 0x20_0000n)!;
    expect(shared).toMatchObject({ size: 4 * PAGE, access: Access.READ, offset: moved.offset + 2 * PAGE });
  });

  it.each(Array.from({ length: 12 }, (_, i) => i + 1))(
    'S0-19 misses no page that driver or device writes, while the mappings change (%i)',
    async (seed) => {
      const random = new Random(seed);
      const [from, to] = [side(movable({ bulk: true })), side(movable({ bulk: true }))];
      const memories = [memory(512 * PAGE), memory(2048 * PAGE)];
      const mapped = new Map<bigint, { memory: MemfdMemory; offset: number; size: number; access: Access }>();
      const map = (): void => {
        const one = random.pick(memories);
        const first = random.below(one.size / PAGE);
        const size = (1 + random.below(one.size / PAGE - first)) * PAGE;
        const iova = BigInt(random.below(64)) * 0x100_0000n;
        if (mapped.has(iova)) return;
        const access = random.once(4) ? Access.READ : Access.READ_WRITE;
        from.device.dma.map({ iova, memory: one, offset: first * PAGE, size, access });
        mapped.set(iova, { memory: one, offset: first * PAGE, size, access });
      };
      for (let i = 0; i < 6; i++) map();
      let running = true;
      const work = async (): Promise<void> => {
        while (running) {
          for (let i = 0; i < 20; i++) {
            const one = random.pick(memories);
            const at = random.below(one.size);
            if (random.once(5)) one.windows[0]!.fill(0, at & ~(PAGE - 1), (at & ~(PAGE - 1)) + PAGE);
            else one.windows[0]![at] = random.next();
            const [iova, range] = random.pick([...mapped]);
            const count = Math.min(1 + random.below(9000), range.size);
            from.host.dma.tryWrite(Number(iova) + random.below(range.size - count + 1), random.bytes(count));
          }
          if (random.once(3)) map();
          if (random.once(4) && mapped.size > 1) {
            const [iova, range] = random.pick([...mapped]);
            from.device.dma.unmap(iova, BigInt(range.size));
            mapped.delete(iova);
          }
          await new Promise<void>((resolve) => setImmediate(resolve));
        }
      };
      const onPause = (): void => {
        running = false;
      };
      const [outcome] = await Promise.all([moveBetween(from.device, to.device, { downtimeMs: Number.POSITIVE_INFINITY, onPause }), work()]);
      expect([seed, outcome.sourceError, outcome.destinationError]).toEqual([seed, null, null]);
      for (const [iova, { memory: one, offset, size }] of mapped) {
        const same = Buffer.compare(bytesAt(outcome, iova, size), one.windows[0]!.subarray(offset, offset + size));
        expect([seed, iova, same]).toEqual([seed, iova, 0]);
      }
      const pages = outcome.arrived!.mappings.reduce((sum, { size }) => sum + size, 0);
      expect(pages).toBe([...mapped.values()].reduce((sum, { size }) => sum + size, 0));
    },
  );

  describe('cut anywhere', () => {
    const whole = async (breakAfter?: number) => {
      const [from, to] = [side(movable({ bulk: true })), side(movable({ bulk: true }))];
      const one = memory(256 * PAGE);
      one.windows[0]!.fill(5, 0, 100 * PAGE);
      from.device.dma.map({ iova: 0n, memory: one });
      from.device.region(0).write32(8, 77);
      const outcome = await moveBetween(from.device, to.device, breakAfter === undefined ? {} : { breakAfter });
      return { from, to, outcome };
    };

    /** The number of bytes of a move that reports no progress; a longer move reports it. */
    let bytes = 0;
    beforeAll(async () => {
      for (let before = -1; bytes !== before; ) {
        before = bytes;
        bytes = (await whole()).outcome.bytes;
      }
    });

    const kinds = new Map<string, number>();
    async function cut(point: number): Promise<void> {
      const { from, to, outcome } = await whole(point);
      const there = outcome.arrived !== null;
      const here = from.migration.state === 'RUNNING' && !outcome.paused;
      const doubt = outcome.sourceError instanceof InDoubt;
      expect([point, there && here]).toEqual([point, false]);
      if (outcome.figures === null && !doubt) {
        expect([point, here, there, outcome.gone]).toEqual([point, true, false, false]);
        expect(from.device.region(0).read32(8)).toBe(77);
        // The source keeps nothing of the attempt: no log, no stream.
        from.migration.startLogging([{ iova: 0n, length: 4096n }]);
        from.migration.stopLogging();
        expect(outcome.sourceError).toBeInstanceOf(VfioError);
      }
      if (there) expect(to.migration.state).toBe('RUNNING');
      if (doubt) {
        expect([point, from.migration.state, outcome.paused]).toEqual([point, 'STOP_COPY', true]);
        if (!there) (outcome.sourceError as InDoubt).resume();
        if (!there) expect(from.migration.state).toBe('RUNNING');
      }
      const kind = doubt ? `in doubt, ${there ? 'arrived' : 'not arrived'}` : there ? 'moved' : 'here';
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
      from[Symbol.dispose]();
      outcome.arrived?.[Symbol.dispose]();
      opened.splice(0);
    }

    // The hand-over is in the last hundred bytes: GO from the source, RUNNING from the
    // destination.
    const back = (from: number) => Array.from({ length: 30 }, (_, i) => bytes - from - 5 * i);
    it.each<[string, () => number[]]>([
      ['at its beginning, or not at all', () => [0, 1, 11, 12, 100, 2 * bytes]],
      ['in twenty places', () => Array.from({ length: 20 }, (_, i) => Math.floor((bytes * i) / 20))],
      ['long after its end', () => back(-400)],
      ['after its end', () => back(-250)],
      ['at its end', () => back(-100)],
      ['before its end', () => back(50)],
    ])('S0-19 %s: the device runs at the source or at the destination, and never at both', async (_, points) => {
      for (const point of points()) await cut(point);
    });

    it('S0-19 any of these ways is taken', () => {
      expect([...kinds.keys()]).toEqual(expect.arrayContaining(['here', 'moved', 'in doubt, arrived']));
    });
  });

  it('S0-19 fails and goes on at the source when the device changes as fast as it is copied', async () => {
    const [from, to] = [side(), side()];
    const one = memory(4096 * PAGE);
    from.device.dma.map({ iova: 0n, memory: one });
    let running = true;
    let round = 1;
    const work = async (): Promise<void> => {
      while (running) {
        for (let page = 0; page < 4096; page++) one.windows[0]![page * PAGE] = round;
        round = (round % 255) + 1;
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
    };
    const done = work();
    const outcome = await moveBetween(from.device, to.device, { downtimeMs: 11 });
    running = false;
    await done;
    expect(outcome.sourceError).toMatchObject({ code: 'ETIMEDOUT', fix: expect.stringContaining('--downtime-ms') });
    expect(outcome.destinationError).toMatchObject({ code: 'ETIMEDOUT' });
    expect([from.migration.state, outcome.paused, outcome.gone, outcome.arrived]).toEqual(['RUNNING', false, false, null]);
  });

  it('S0-19 a destination that cannot take the device sends the reason, and the device goes on at the source', async () => {
    const [from, to] = [side(), side(movable())];
    const outcome = await moveBetween(from.device, to.device);
    expect(outcome.sourceError).toMatchObject({ code: 'EINVAL', message: expect.stringContaining('another device') });
    expect(from.migration.state).toBe('RUNNING');
  });

  it('S0-19 a model that fails to load the state leaves the device running at the source', async () => {
    const [from, to] = [side(movable()), side(movable())];
    (to.machine.function('0000:00:04.0').model as unknown as MovableModel).failures.set('load 3', new VfioError('EINVAL', 'not like this'));
    const outcome = await moveBetween(from.device, to.device);
    expect(outcome.sourceError).toMatchObject({ code: 'EINVAL' });
    expect([from.migration.state, outcome.paused, outcome.arrived]).toEqual(['RUNNING', false, null]);
  });

  it('S0-19 a destination whose model does not start after the hand-over reports it, and the source runs the device', async () => {
    const [from, to] = [side(movable()), side(movable())];
    (to.machine.function('0000:00:04.0').model as unknown as MovableModel).failures.set('start', new Error('broken'));
    const outcome = await moveBetween(from.device, to.device);
    expect(outcome.sourceError).toMatchObject({ code: 'EIO' });
    expect(outcome.sourceError).not.toBeInstanceOf(InDoubt);
    expect([from.migration.state, outcome.paused, outcome.gone, outcome.arrived]).toEqual(['RUNNING', false, false, null]);
  });

  it('S0-19 a model without migration is not moved: EOPNOTSUPP', async () => {
    const [from, to] = [side(edu({ migration: false })), side()];
    const outcome = await moveBetween(from.device, to.device);
    expect(outcome.sourceError).toMatchObject({ code: 'EOPNOTSUPP' });
  });

  it('S0-19 a client that resets its device during the move keeps it', async () => {
    const [from, to] = [side(movable({ bulk: true })), side(movable({ bulk: true }))];
    from.device.dma.map({ iova: 0n, memory: memory(16 * PAGE) });
    const outcome = await moveBetween(from.device, to.device, { onPause: () => queueMicrotask(() => from.device.reset()) });
    expect(outcome.sourceError).toBeInstanceOf(VfioError);
    expect([from.migration.state, outcome.arrived]).toEqual(['RUNNING', null]);
  });
});
