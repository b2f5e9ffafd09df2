/** Migration through a device file: states, calls of the model, streams, failures. */
import { describe, expect, it } from 'vitest';
import { SlowMemory } from '../../../tests/kit/dma-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { eventLines } from '../../../tests/kit/event-words.ts';
import { BDF, load, MigrationSide, readAll, save } from '../../../tests/kit/migration-rig.ts';
import { type MovableModel, type MovableOptions, movable } from '../../../tests/kit/movable-model.ts';
import type { MigrationStream } from '../../abi/device.ts';
import { Feature, MigrationFlags, MigrationState } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { featureBytes } from '../../device/feature-bytes.ts';
import type { MigrationStateName } from '../../drivers/kit/migration.ts';
import { hasState, states, wayTo } from './states.ts';

const bytes = (block: number, blockSize = 512) => new Uint8Array(blockSize).fill(block + 1);

function open(options: MovableOptions = {}): MigrationSide & { model: MovableModel } {
  const side = new MigrationSide(movable(options));
  const model = side.host.model as MovableModel;
  model.calls.length = 0;
  return Object.assign(side, { model });
}

const combinations: MovableOptions[] = [{}, { p2p: true }, { bulk: true }, { p2p: true, bulk: true }];
const title = ({ p2p, bulk }: MovableOptions) => `${bulk ? 'PRE_COPY' : 'no PRE_COPY'}, ${p2p ? 'P2P' : 'no P2P'}`;

describe.each(combinations.map((options) => [title(options), options] as const))('B.11 a device with %s', (_, options) => {
  const flags = MigrationFlags.STOP_COPY | (options.p2p ? MigrationFlags.P2P : 0) | (options.bulk ? MigrationFlags.PRE_COPY : 0);
  const own = states.flatMap((row, i) => (i !== MigrationState.ERROR && hasState(flags, i) ? [row.name] : []));

  it('says what it can do', () => {
    using side = open(options);
    expect(side.migration.flags).toBe(flags);
    expect(side.migration.state).toBe('RUNNING');
  });

  /** Bring a device into a state, with valid data where it arrives. */
  function bring(side: MigrationSide, to: MigrationStateName): MigrationStream | null {
    if (to !== 'RESUMING') return side.migration.go(to);
    using source = open(options);
    const data = save(source);
    const stream = side.migration.go('RESUMING')!;
    stream.write(data);
    return stream;
  }

  it('every pair: the state is reached, with a stream where a session begins, and the model runs where it should', () => {
    for (const from of own) {
      for (const to of [...own, 'ERROR'] as const) {
        using side = open(options);
        const pair = `${from} to ${to}`;
        const before = bring(side, from);
        const way = wayTo(flags, MigrationState[from], MigrationState[to]);
        if (way === null) {
          expect(
            errnoFrom(() => side.migration.go(to)),
            pair,
          ).toBe('EINVAL');
          expect(side.migration.state, pair).toBe(from);
          continue;
        }
        const made = side.migration.go(to);
        expect(side.migration.state, pair).toBe(to);
        const [a, b] = [states[MigrationState[from]]!, states[MigrationState[to]]!];
        const keeps = way.every((state) => states[state]!.stream === a.stream);
        expect(made !== null, pair).toBe(b.stream !== null && !keeps);
        if (before !== null && !keeps)
          expect(
            errnoFrom(() => before.read(new Uint8Array(1))),
            pair,
          ).toBe('ENODEV');
        // The model's last call of each kind agrees with the state.
        const last = (...of: string[]) => side.model.calls.filter((call) => of.includes(call)).at(-1);
        expect(last('stop', 'start') !== 'stop', pair).toBe(b.runs);
        if (options.p2p) expect(last('enter', 'leave') === 'enter', pair).toBe(b.quiet);
        expect(side.logged, pair).toEqual([]);
      }
    }
  });

  it('refuses states that it has not, and numbers that are none', () => {
    using side = open(options);
    for (const state of [0, 8, 0xffff_ffff, ...states.flatMap((_row, i) => (hasState(flags, i) ? [] : [i]))]) {
      const data = new Uint8Array(8);
      new DataView(data.buffer).setUint32(0, state, true);
      const set = () => featureBytes(side.device, { feature: Feature.MIG_DEVICE_STATE, set: true, data, onDataStream: (s) => s.close() });
      expect(errnoFrom(set)).toBe('EINVAL');
      expect(new DataView(data.buffer).getInt32(4, true)).toBe(-1);
    }
    expect([side.migration.state, side.model.calls]).toEqual(['RUNNING', []]);
  });
});

describe('what goes along', () => {
  it('B.11 registers, store, memory BAR and configuration arrive; what the host owns does not', () => {
    using source = open({ bulk: true });
    using target = open({ bulk: true });
    const config = source.device.region(7);
    const COMMAND = 4;
    config.write16(COMMAND, 0x406);
    config.write8(0x3c, 0x55);
    config.write8(0x0c, 0x10);
    const bar = config.read32(0x10);
    config.write32(0x10, 0xfeed_0000);
    source.device.region(0).write32(0x10, 0xcafe_f00d);
    source.device.region(2).write32(0x7ffc, 0x1234_5678);
    target.device.region(2).write32(0x1000, 0x9999);
    source.model.store.write(3, bytes(3));
    source.model.store.write(63, bytes(63));
    // A block that is not at the source is gone at the target.
    target.model.store.write(7, bytes(7));
    target.device.region(7).write32(0x10, bar);
    load(target, save(source));
    expect(target.model.store.contents).toEqual(source.model.store.contents);
    const there = target.device.region(7);
    expect([there.read16(COMMAND), there.read8(0x3c), there.read8(0x0c), there.read32(0x10)]).toEqual([0x406, 0x55, 0x10, 0xfeed_0000]);
    expect(target.host.config.read(0x10, 4)).toBe(bar);
    expect(target.device.region(0).read32(0x10)).toBe(0xcafe_f00d);
    expect([target.device.region(2).read32(0x7ffc), target.device.region(2).read32(0x1000)]).toEqual([0x1234_5678, 0]);
    expect(target.model.calls).toEqual(['stop', 'reset', 'load 3', 'start']);
  });

  it('B.11 interrupts that were not sent yet are sent at the target: messages that wait, and the level of the pin', () => {
    using source = open();
    using target = open();
    const arm = (side: MigrationSide, index: number, count: number) => {
      const seen: number[] = [];
      const sink = (vector: number) => ({ signal: () => void seen.push(vector), get: () => sink(vector), put: () => {} });
      side.device.region(7).write16(4, 6);
      const sinks = Array.from({ length: count }, (_, vector) => sink(vector));
      side.device.setIrqs({ index, action: 'trigger', data: 'sinks', start: 0, count, sinks: sinks as never });
      return seen;
    };
    const here = arm(source, 2, 4);
    const there = arm(target, 2, 4);
    source.model.host.irq.trigger(1);
    source.migration.go('STOP');
    // A write to a register may make one meanwhile.
    expect(source.model.host.irq.trigger(2)).toBe(true);
    expect(source.model.host.irq.trigger(99)).toBe(false);
    load(target, save(source));
    expect([here, there]).toEqual([[1], [2]]);
    // And the source, which was not lost, sends its own when it goes on.
    source.migration.go('RUNNING');
    expect(here).toEqual([1, 2]);

    using pinSource = open();
    using pinTarget = open();
    pinSource.model.host.irq.raise();
    const pinned = arm(pinTarget, 0, 1);
    load(pinTarget, save(pinSource));
    expect(pinned).toEqual([0]);
    expect(pinTarget.host.config.interruptStatus).toBe(true);
  });

  it('B.11 PRE_COPY: all once, then what was written since; ENOMSG when nothing is left; no block is missed', () => {
    using source = open({ bulk: true, p2p: true });
    using target = open({ bulk: true, p2p: true });
    for (let block = 0; block < 40; block++) source.model.store.write(block, bytes(block));
    using stream = source.migration.go('PRE_COPY')!;
    using into = target.migration.go('RESUMING')!;
    const info = stream.precopyInfo();
    expect(info.initialBytes).toBeGreaterThanOrEqual(40 * 512);
    expect(info.dirtyBytes).toBe(0);
    into.write(readAll(stream, 1000));
    expect(stream.precopyInfo()).toEqual({ initialBytes: 0, dirtyBytes: 0 });
    expect(errnoFrom(() => stream.read(new Uint8Array(10)))).toBe('ENOMSG');
    expect(stream.read(new Uint8Array(0))).toBe(0);
    source.model.store.write(5, bytes(100));
    source.model.store.write(6, new Uint8Array(512));
    source.model.store.write(50, bytes(50));
    expect(stream.precopyInfo()).toEqual({ initialBytes: 0, dirtyBytes: 3 * 512 });
    expect(source.migration.stopCopyBytes).toBeGreaterThan(3 * 512);
    into.write(readAll(stream, 7));
    source.model.store.write(5, bytes(200));
    expect(source.migration.go('PRE_COPY_P2P')).toBeNull();
    into.write(stream.read(new Uint8Array(0)) === 0 ? new Uint8Array(0) : new Uint8Array(1));
    expect(source.migration.go('STOP_COPY')).toBeNull();
    expect(errnoFrom(() => stream.precopyInfo())).toBe('EINVAL');
    into.write(readAll(stream, 5000));
    expect(stream.read(new Uint8Array(10))).toBe(0);
    target.migration.go('RUNNING');
    expect(target.model.store.contents).toEqual(source.model.store.contents);
    source.migration.go('STOP');
    expect(source.model.store.tracking).toBe(false);
    expect(errnoFrom(() => stream.read(new Uint8Array(10)))).toBe('ENODEV');
  });

  it('B.11 PRE_COPY of a store too large to count: the estimate of the rest is never too small, and is 0 in the end', () => {
    using source = open({ bulk: true, blocks: 2 ** 21, blockSize: 512 });
    source.model.store.write(2 ** 20, bytes(1));
    using stream = source.migration.go('PRE_COPY')!;
    expect(stream.precopyInfo().initialBytes).toBeGreaterThanOrEqual(2 ** 30);
    const data = readAll(stream);
    expect(data.length).toBeLessThan(10_000);
    expect(stream.precopyInfo()).toEqual({ initialBytes: 0, dirtyBytes: 0 });
    expect(source.migration.stopCopyBytes).toBeLessThan(2 ** 20);
  });

  it('B.11 MIG_DATA_SIZE is about what STOP_COPY gives, in any state', () => {
    using side = open({ bulk: true });
    for (let block = 0; block < 60; block++) side.model.store.write(block, bytes(block));
    const told = side.migration.stopCopyBytes;
    const sent = save(side).length;
    expect(told).toBeGreaterThan(sent * 0.8);
    expect(told).toBeLessThan(sent + 0x8000 + 32 * 1024);
    expect(side.migration.stopCopyBytes).toBe(0);
  });

  it('B.11 the streams: one way each, EBADF when closed, and closing is no change of state', () => {
    using side = open({ bulk: true });
    const saving = side.migration.go('STOP_COPY')!;
    expect(errnoFrom(() => saving.write(new Uint8Array(1)))).toBe('EINVAL');
    saving.close();
    expect(errnoFrom(() => saving.read(new Uint8Array(1)))).toBe('EBADF');
    expect(side.migration.state).toBe('STOP_COPY');
    const resuming = side.migration.go('RESUMING')!;
    expect(errnoFrom(() => resuming.read(new Uint8Array(1)))).toBe('EINVAL');
    expect(errnoFrom(() => resuming.precopyInfo())).toBe('EINVAL');
    expect(side.migration.state).toBe('RESUMING');
  });
});

describe('failures', () => {
  it('B.11 ERROR: nothing leads out of it but a reset, after which the device runs', () => {
    using side = open({ p2p: true });
    side.migration.go('RESUMING');
    expect(errnoFrom(() => side.migration.go('STOP'))).toBe('EINVAL');
    expect(side.migration.state).toBe('ERROR');
    for (const state of ['STOP', 'RUNNING', 'RESUMING', 'ERROR'] as const) expect(errnoFrom(() => side.migration.go(state))).toBe('EINVAL');
    expect(side.model.host.dma.tryWrite(0x1000, new Uint8Array(4))).toBe(1);
    side.device.reset();
    expect(side.migration.state).toBe('RUNNING');
    expect(side.model.calls.slice(-3)).toEqual(['reset', 'start', 'leave']);
    expect(side.logged).toEqual([]);
  });

  it('B.11 a reset in any state makes it run, and ends the stream; written to config space too', () => {
    for (const reset of ['call', 'FLR'] as const) {
      for (const state of ['STOP', 'STOP_COPY', 'RESUMING', 'PRE_COPY', 'PRE_COPY_P2P', 'RUNNING_P2P'] as const) {
        using side = open({ p2p: true, bulk: true });
        const stream = side.migration.go(state);
        if (reset === 'call') side.device.reset();
        else side.device.region(7).write16(side.host.config.findCapability(0x10) + 8, 0x8000);
        expect([state, side.migration.state]).toEqual([state, 'RUNNING']);
        if (stream !== null) expect(errnoFrom(() => stream.read(new Uint8Array(1)))).toBe('ENODEV');
        expect(side.model.store.tracking).toBe(false);
        expect(side.model.calls.filter((call) => call === 'stop').length).toBe(side.model.calls.filter((call) => call === 'start').length);
        expect(side.migration.go('STOP_COPY')).not.toBeNull();
      }
    }
  });

  it('B.11 the last close ends it: the next user finds it running', () => {
    using side = new MigrationSide(movable({ bulk: true }));
    const model = side.host.model as MovableModel;
    const stream = side.migration.go('PRE_COPY')!;
    side.migration.startLogging([{ iova: 0n, length: 4096n }]);
    side.device.close();
    expect(errnoFrom(() => stream.read(new Uint8Array(1)))).toBe('ENODEV');
    expect([model.store.tracking, side.host.dma.writes, side.host.dma.stopped]).toEqual([false, null, false]);
  });

  it.each(['stop', 'start', 'enter', 'leave'])('B.11 a model that fails in %s: EIO, ERROR, and reported', (call) => {
    using side = open({ p2p: true });
    if (call === 'start' || call === 'leave') side.migration.go('STOP');
    side.model.failures.set(call, new Error('broken'));
    expect(errnoFrom(() => side.migration.go(call === 'start' || call === 'leave' ? 'RUNNING' : 'STOP'))).toBe('EIO');
    expect(side.migration.state).toBe('ERROR');
    expect(side.logged.join()).toContain('broken');
    // The device ran before: in ERROR it stands still.
    if (call === 'enter' || call === 'leave') expect(side.model.calls.at(-1)).toBe('stop');
    side.device.reset();
    expect(side.migration.state).toBe('RUNNING');
  });

  it('B.11 a model that cannot tell its state: the source runs on, and says it the next time', () => {
    using side = open();
    side.model.words[1] = 77;
    using stream = side.migration.go('STOP_COPY')!;
    side.model.failures.set('save', new VfioError('EBUSY', 'not now'));
    const pieces: Uint8Array[] = [];
    const into = new Uint8Array(1 << 20);
    pieces.push(into.slice(0, stream.read(into)));
    side.model.failures.set('save', new Error('bug'));
    expect(errnoFrom(() => stream.read(into))).toBe('EIO');
    expect(side.migration.state).toBe('STOP_COPY');
    pieces.push(readAll(stream));
    using target = open();
    load(target, Buffer.concat(pieces));
    expect(target.model.words[1]).toBe(77);
    side.migration.go('RUNNING');
    expect(side.device.region(0).read32(4)).toBe(77);
  });

  it('B.11 a state that the model cannot take: it is reset, and in ERROR', () => {
    using source = open();
    using target = open();
    const data = save(source);
    target.model.failures.set('load 3', new VfioError('EINVAL', 'no'));
    expect(errnoFrom(() => load(target, data))).toBe('EINVAL');
    expect([target.migration.state, target.model.calls]).toEqual(['ERROR', ['stop', 'reset', 'load 3', 'reset']]);
  });

  it('B.11 RESUMING to RUNNING_P2P: the loaded model becomes quiet before it starts', () => {
    using source = open({ p2p: true });
    using target = open({ p2p: true });
    using stream = target.migration.go('RESUMING')!;
    stream.write(save(source));
    target.migration.go('RUNNING_P2P');
    expect(target.model.calls).toEqual(['enter', 'stop', 'reset', 'load 3', 'enter', 'start']);
  });

  it('B.11 a state of a newer model is refused before anything is taken; of an older one it is not', () => {
    using source = open();
    using target = open();
    source.model.version = 4;
    expect(errnoFrom(() => load(target, save(source)))).toBe('EINVAL');
    expect(target.model.calls).toEqual(['stop']);
    using older = open();
    using fresh = open();
    older.model.version = 2;
    load(fresh, save(older));
    expect(fresh.model.calls).toContain('load 2');
  });

  it('B.11 a device that is another one says in what', () => {
    const refused = (declaration: object) => {
      using source = new MigrationSide(movable({ declaration }));
      using target = open();
      const data = save(source);
      try {
        load(target, data);
      } catch (error) {
        return (error as Error).message;
      }
      return 'taken';
    };
    expect(refused({ device: 1 })).toContain('device 0x1; this one has 0x4d4d');
    expect(refused({ bars: [{ index: 0, size: 0x8000, type: 'mem32' }] })).toContain('bars 1');
    expect(refused({ name: 'other' })).toContain("'other'");
    expect(refused({})).toBe('taken');
  });

  it('B.11 a device whose model cannot be moved has none of it: ENOTTY', () => {
    const { migration: _, ...plain } = { migration: 0, ...movable() };
    using side = new MigrationSide({
      ...plain,
      create: () => ({ read: () => 0, write: () => {}, reset: () => {} }),
    });
    expect(side.migration.flags).toBe(0);
    const calls = [
      () => side.migration.state,
      () => side.migration.go('STOP'),
      () => side.migration.stopCopyBytes,
      () => side.migration.startLogging([]),
      () => side.migration.stopLogging(),
      () => side.migration.report(0n, 4096n, new Uint8Array(8)),
    ];
    for (const call of calls) expect(errnoFrom(call)).toBe('ENOTTY');
  });
});

describe('nothing is half done', () => {
  const configOf = ({ device }: MigrationSide) => {
    const into = new Uint8Array(4096);
    device.region(7).read(0, into);
    return Buffer.from(into).toString('hex');
  };

  it('B.11 a state that the model cannot take leaves the configuration as it was, also after the reset', () => {
    using source = open();
    source.device.region(7).write16(4, 0x406);
    source.device.region(7).write8(0x3c, 0x55);
    const data = save(source);
    using to = open();
    const before = configOf(to);
    to.model.failures.set('load 3', new VfioError('EINVAL', 'no'));
    expect(errnoFrom(() => load(to, data))).toBe('EINVAL');
    expect(to.migration.state).toBe('ERROR');
    expect(configOf(to)).toBe(before);
    to.device.reset();
    expect([configOf(to), to.migration.state]).toEqual([before, 'RUNNING']);
  });

  it.each([{}, { bulk: true }])(
    'B.11 DMA of before the stop is waited for before anything is read that it may change: %j',
    async (options) => {
      using side = open({ ...options, blocks: 4 });
      const memory = new SlowMemory(4096);
      side.device.region(7).write16(4, 6);
      side.device.dma.map({ iova: 0x1000n, memory });
      const bar = side.host.barMemory(2).windows[0]!;
      const into = new Uint8Array(512);
      const read = side.model.host.dma.read(0x1000, into).then(() => {
        bar.fill(7, 0, 512);
        side.model.store.write(2, new Uint8Array(512).fill(9));
      });
      using stream = side.migration.go('STOP_COPY')!;
      const pieces: Uint8Array[] = [];
      const take = () => {
        const piece = new Uint8Array(1 << 20);
        const got = stream.read(piece);
        pieces.push(piece.slice(0, got));
        return got;
      };
      expect(
        errnoFrom(() => {
          while (take() > 0);
        }),
      ).toBe('EAGAIN');
      await memory.answer();
      await read;
      while (take() > 0);
      using to = open({ ...options, blocks: 4 });
      load(to, new Uint8Array(Buffer.concat(pieces)));
      expect([...to.host.barMemory(2).windows[0]!.subarray(0, 512)]).toEqual(Array(512).fill(7));
      if (options.bulk) expect([...to.model.store.contents]).toEqual([...side.model.store.contents]);
    },
  );
});

describe('B.11 events', () => {
  const lines = (side: MigrationSide) => side.machine.events({ kinds: ['migration', 'reset'] });

  it('each state on the way, at the source and where the device arrives', () => {
    using source = open({ bulk: true });
    using target = open({ bulk: true });
    using left = lines(source);
    using came = lines(target);
    const stream = source.migration.go('PRE_COPY')!;
    source.migration.go('STOP_COPY');
    load(target, readAll(stream));
    expect(eventLines(left.take())).toEqual([`${BDF}: migration: RUNNING → PRE_COPY`, `${BDF}: migration: PRE_COPY → STOP_COPY`]);
    expect(eventLines(came.take())).toEqual([
      `${BDF}: migration: RUNNING → STOP`,
      `${BDF}: migration: STOP → RESUMING`,
      `${BDF}: migration: RESUMING → STOP`,
      `${BDF}: migration: STOP → RUNNING`,
    ]);
  });

  it('a state that was refused, data that is none, and the reset that ends ERROR', () => {
    using side = open();
    using reader = lines(side);
    expect(errnoFrom(() => side.migration.go('PRE_COPY'))).toBe('EINVAL');
    const stream = side.migration.go('RESUMING')!;
    expect(errnoFrom(() => stream.write(new Uint8Array(100)))).toBe('EINVAL');
    side.device.reset();
    const events = reader.take();
    expect(events.filter(({ kind }) => kind === 'migration')).toMatchObject([
      { from: 'RUNNING', to: 'PRE_COPY', errno: 'EINVAL', reason: expect.stringContaining('no way') },
      { from: 'RUNNING', to: 'STOP' },
      { from: 'STOP', to: 'RESUMING' },
      { from: 'RESUMING', to: 'ERROR', errno: 'EINVAL' },
      { from: 'ERROR', to: 'RUNNING' },
    ]);
  });

  it('a model that throws is EIO in the event, and nothing of its error', () => {
    using side = open();
    using reader = lines(side);
    side.model.stop = () => {
      throw new Error('secret of the model');
    };
    expect(errnoFrom(() => side.migration.go('STOP'))).toBe('EIO');
    const events = reader.take();
    expect(events).toMatchObject([{ from: 'RUNNING', to: 'ERROR', errno: 'EIO' }]);
    expect(JSON.stringify(events)).not.toContain('secret');
  });
});
