import fc from 'fast-check';
import { expect, it } from 'vitest';
import { about } from '../../../tests/kit/arbitrary-events.ts';
import { DeviceRig, plain, resettable } from '../../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import type { SetIrqs } from '../../abi/device.ts';
import { VfioError } from '../../base/errno.ts';
import { type FeatureBytes, featureBytes } from '../../device/feature-bytes.ts';
import { formatNamed } from '../../events/printers/formats.ts';
import { msi, pcie, pm } from '../../pci/capabilities.ts';
import { FakeEventFd } from '../../sys/fake.ts';
import type { DeviceFile, IoeventfdRequest } from './device-file.ts';

it('S2-14 a closed file answers ENODEV everywhere, and closing is idempotent', () => {
  const rig = new DeviceRig();
  rig.open();
  const file = rig.open();
  const region = file.region(0);
  file.close();
  file.close();
  file[Symbol.dispose]();
  const requests = [
    () => file.info,
    () => file.region(0),
    () => file.irq(0),
    () => file.reset(),
    () => file.hotResetInfo(),
    () => file.dma,
    () => file.on(() => {}),
    () => region.read32(0),
    () => region.write8(0, 1),
    () => region.read(0, new Uint8Array(0)),
    () => region.map(),
  ];
  expect(requests.map(errnoFrom)).toEqual(requests.map(() => 'ENODEV'));
  expect(rig.device.openCount).toBe(1);
});

it('S2-14 the same region is the same object as long as the file is open', () => {
  const file = new DeviceRig().open();
  expect(file.region(0)).toBe(file.region(0));
  expect(file.dma).toBe(file.dma);
});

it('S2-22 info and errors name the device', () => {
  const file = new DeviceRig(plain).open();
  expect(() => file.reset()).toThrow(/^0000:00:04\.0 /);
  expect(() => file.region(99)).toThrow(/^0000:00:04\.0/);
});

/** Numbers that no caller should give, and a few that a caller may. */
const number = fc.oneof(
  fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, -1, -0.5, 0.5, 2 ** 31, 2 ** 32, 2 ** 32 - 1, 2 ** 53, -(2 ** 53), 2 ** 63, 1e300),
  fc.nat(12),
  fc.integer(),
  fc.double(),
);

/** With a reader: each event can be printed, and the call leaves no cause and no open event. */
function watcher({ machine: { context } }: DeviceRig, watched: boolean): { look(): void } & Disposable {
  const reader = watched ? context.stream.read() : null;
  const printers = ['text', 'jsonl', 'perfetto'].map((name) => formatNamed(name).make({ about }));
  return {
    look: () => {
      for (const event of reader?.take() ?? []) for (const printer of printers) printer.event(event);
      const { seq, settled } = context.stream.ring ?? { seq: 0, settled: 0 };
      expect([context.stream.cause, settled]).toEqual([0, seq]);
    },
    [Symbol.dispose]: () => reader?.[Symbol.dispose](),
  };
}

it.each([false, true])(
  'S2-21 whatever numbers come in, the answer is an errno or a result; an errno has changed nothing; with a reader: %j',
  (watched) => {
    const declaration = { ...resettable, capabilities: [pcie({ flr: true }), msi({ vectors: 4 }), pm()] };
    const rig = new DeviceRig(declaration);
    const file = rig.open();
    using watch = watcher(rig, watched);
    const sink = new FakeEventFd();
    const snapshot = () =>
      JSON.stringify({
        config: [...rig.fn.config.bytes],
        seen: rig.device.openState.vconfig.bytes.join(),
        type: rig.device.openState.interrupts.type,
        engaged: rig.device.power.engaged,
        ioeventfds: rig.device.openState.ioeventfds.count,
        sink: sink.references,
        mappings: file.mappings,
        open: rig.device.openCount,
        resets: rig.model.resets,
        writes: rig.model.accesses.filter((access) => access.startsWith('w')).length,
      });
    const calls: ((a: number, b: number, c: number) => unknown)[] = [
      (a) => file.region(a),
      (a, b) => file.region(a).read(b, new Uint8Array(8)),
      (a, b, c) => file.region(a).read32(b + c),
      (a, b) => file.region(a).read64(b),
      (a, b, c) => file.region(a).write8(b, c),
      (_a, b, c) => file.region(0).write32(b, c),
      (a, b) => file.region(0).write64(a, BigInt(Math.trunc(Number.isFinite(b) ? b : 0))),
      (a, b, c) => file.region(a).map(b, c)[Symbol.dispose](),
      (_a, b, c) => file.region(0).map(b, c)[Symbol.dispose](),
      (a) => file.irq(a),
      (a, b, c) => file.setIrqs({ index: a, start: b, count: c, action: 'trigger', data: 'none' }),
      (a, b, c) => file.setIrqs({ index: a, start: b, count: c, action: 'mask', data: 'bool', values: [true] }),
      (a, b, c) => file.setIrqs({ index: a, start: b, count: c, action: 'trigger', data: 'sinks', sinks: [sink] } as SetIrqs),
      (a, b, c) => featureBytes(file, { feature: a, probe: b > 3, get: c > 3, set: c < 3, data: new Uint8Array(16) } as FeatureBytes),
      (a, b, c) => file.ioeventfd({ region: a, offset: b, size: c, data: 1n, source: sink } as IoeventfdRequest),
      (a) => file.checkHotReset(a),
      () => file.hotResetInfo(),
      () => file.hotReset([rig.group]),
    ];
    fc.assert(
      fc.property(fc.nat(calls.length - 1), number, number, number, (which, a, b, c) => {
        const before = snapshot();
        try {
          calls[which]!(a, b, c);
        } catch (error) {
          expect(error).toBeInstanceOf(VfioError);
          expect(snapshot()).toBe(before);
        }
        watch.look();
      }),
      { numRuns: 3000 },
    );
    file.close();
    expect(rig.device.openCount).toBe(0);
    expect(sink.references).toBe(1);
  },
);

it.each([false, true])(
  'S2-21 values of no sensible type get an errno too, at every door of a Device, and change nothing; with a reader: %j',
  (watched) => {
    const rig = new DeviceRig({ ...resettable, capabilities: [pcie({ flr: true }), msi(), pm()] });
    const file = rig.open();
    using watch = watcher(rig, watched);
    const mapping = file.region(0).map();
    const memory = file.dma.allocate(4096);
    const source = new FakeEventFd();
    const bytes = new Uint8Array(8);
    const doors: ((wrong: never) => unknown)[] = [
      (wrong) => file.region(wrong),
      (wrong) => file.irq(wrong),
      (wrong) => file.setIrqs(wrong),
      (wrong) => file.setIrqs({ index: 1, start: 0, count: 1, action: 'trigger', data: wrong }),
      (wrong) => file.setIrqs({ index: 1, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: wrong }),
      (wrong) => featureBytes(file, wrong),
      (wrong) => featureBytes(file, { feature: 3, set: true, data: wrong }),
      (wrong) => featureBytes(file, { feature: 4, set: true, data: bytes, sinks: [wrong] }),
      (wrong) => file.hotReset(wrong),
      (wrong) => file.hotReset([wrong]),
      (wrong) => file.ioeventfd(wrong),
      (wrong) => file.ioeventfd({ region: wrong, offset: 0, size: 4, data: 0n, source }),
      (wrong) => file.ioeventfd({ region: 0, offset: wrong, size: 4, data: 0n, source }),
      (wrong) => file.ioeventfd({ region: 0, offset: 0, size: 4, data: wrong, source }),
      (wrong) => file.ioeventfd({ region: 0, offset: 0, size: 4, data: 0n, source: wrong }),
      (wrong) => file.dma.allocate(wrong),
      (wrong) => file.dma.map(wrong),
      (wrong) => file.dma.map({ iova: wrong, memory }),
      (wrong) => file.dma.map({ iova: 0n, memory: wrong }),
      (wrong) => file.dma.unmap(wrong, 4096n),
      (wrong) => file.dma.dirty!.report(0n, 4096n, 4096n, wrong),
      (wrong) => file.dma.dirty!.unmap(0n, 4096n, 4096n, wrong),
      (wrong) => mapping.read32(wrong),
      (wrong) => mapping.write16(wrong, 0),
      (wrong) => mapping.write16(0, wrong),
      (wrong) => mapping.write64(0, wrong),
      ...[0, 3, 7].flatMap((index) => {
        const region = file.region(index);
        return [
          (wrong: never) => region.read(wrong, bytes),
          (wrong: never) => region.write(0, wrong),
          (wrong: never) => region.read8(wrong),
          (wrong: never) => region.read64(wrong),
          (wrong: never) => region.write32(wrong, 0),
          (wrong: never) => region.write8(0, wrong),
          (wrong: never) => region.write16(0, wrong),
          (wrong: never) => region.write32(0, wrong),
          (wrong: never) => region.write64(0, wrong),
          (wrong: never) => region.map(wrong, 4096),
        ];
      }),
    ];
    const config = [...rig.fn.config.bytes];
    for (const [i, door] of doors.entries()) {
      for (const wrong of [null, Symbol('wrong'), 'x'.repeat(2 ** 20), true, {}, () => 0, -1n, 2n ** 64n]) {
        expect(
          errnoFrom(() => door(wrong as never)),
          `door ${i}: ${String(wrong).slice(0, 20)}`,
        ).not.toBe('none');
        watch.look();
      }
    }
    expect([...rig.fn.config.bytes]).toEqual(config);
    const { interrupts, ioeventfds } = rig.device.openState;
    expect([interrupts.type, ioeventfds.count, rig.device.power.engaged, file.mappings, memory.references]).toEqual([
      'none',
      0,
      false,
      1,
      1,
    ]);
    expect([source.references, [...rig.container.mappings()], rig.model.accesses]).toEqual([1, [], []]);
  },
);

it('S2-21 a mapping takes any numbers', () => {
  const rig = new DeviceRig(plain);
  const mapping = rig.open().region(0).map(0x1000, 0x2000);
  fc.assert(
    fc.property(number, number, fc.constantFrom(1, 2, 4), (offset, value, width) => {
      const writes = rig.model.accesses.length;
      try {
        if (width === 1) mapping.write8(offset, value);
        else if (width === 2) mapping.write16(offset, value);
        else mapping.write32(offset, value);
        expect(offset).toBeLessThan(0x2000);
      } catch (error) {
        expect(['EFAULT', 'EINVAL']).toContain((error as VfioError).code);
        expect(rig.model.accesses.length).toBe(writes);
      }
    }),
    { numRuns: 2000 },
  );
});

it('S2-14 the order in which files and mappings are closed does not matter', () => {
  fc.assert(
    fc.property(fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6], { minLength: 7 }), (order) => {
      const rig = new DeviceRig();
      const files: DeviceFile[] = [rig.open(), rig.open(), rig.open()];
      const things: Disposable[] = [...files, ...files.map((file) => file.region(0).map()), rig.group];
      for (const [i, which] of order.entries()) {
        expect(rig.device.openCount > 0 || i > 0).toBe(true);
        things[which]![Symbol.dispose]();
      }
      expect([rig.device.openCount, rig.model.resets]).toEqual([0, 2]);
      expect(rig.fn.group!.domain).toBe(null);
      expect(rig.fn.group!.owner).toBe(null);
    }),
    { numRuns: 100 },
  );
});
