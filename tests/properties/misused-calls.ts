/**
 * Calls on any `Device` with arguments that may be anything, in any order: those of the features
 * above all. The device is an edu, which can be moved and keeps a log.
 */
import fc from 'fast-check';
import { BusError } from '../../src/abi/bus-error.ts';
import type { Device, InterruptSink, MigrationStream, RegionMapping } from '../../src/abi/device.ts';
import { Extension } from '../../src/abi/vfio.ts';
import { VfioError } from '../../src/base/errno.ts';
import { Machine } from '../../src/engine/machine/machine.ts';
import { edu } from '../../src/models/edu/edu.ts';
import { EventFd } from '../../src/sys/eventfd.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';

export const EDU = '0000:00:04.0';

type Featured = Device & {
  readonly [K in 'migration' | 'dmaLogging' | 'lowPower' | 'exportDmaBuf' | 'hotResetInfo' | 'resetBus' | 'setVfToken']-?: NonNullable<
    Device[K]
  >;
};

/** A device, and the things of a careless user. */
export class Careless implements Disposable {
  /** It has every feature. */
  readonly device: Featured;
  readonly fd = EventFd.create();
  readonly memory = MemfdMemory.allocate(0x8000);
  readonly sink: InterruptSink = { signal: () => {}, get: () => this.sink, put: () => {} };
  mapping: RegionMapping | null = null;
  readonly streams: MigrationStream[] = [];
  readonly #machine: Disposable | null;

  /** @param machine ends with the device */
  constructor(device: Device, machine: Disposable | null = null) {
    this.device = device as Featured;
    this.#machine = machine;
  }

  [Symbol.dispose](): void {
    for (const stream of this.streams) stream.close();
    this.mapping?.[Symbol.dispose]();
    this.device.close();
    this.#machine?.[Symbol.dispose]();
    this.fd[Symbol.dispose]();
    this.memory[Symbol.dispose]();
  }
}

/** The edu of the engine, in this process. */
export function eduHere(): Careless {
  const machine = new Machine({ devices: [{ at: '04.0', model: edu(), driver: 'vfio-pci' }] }, { allocate: MemfdMemory.allocate });
  const container = machine.openContainer();
  const group = machine.openGroup(machine.function(EDU).group!.id);
  group.setContainer(container);
  container.setIommu(Extension.TYPE1v2_IOMMU);
  return new Careless(group.openDevice(EDU), machine);
}

/** A call of a careless user, and its words. */
export interface CarelessCall {
  readonly what: string;
  readonly run: (user: Careless) => unknown;
}

/** Values that no parameter takes. */
const junk: readonly unknown[] = [
  undefined,
  null,
  Number.NaN,
  -1,
  0.5,
  2 ** 32,
  2 ** 53,
  Number.POSITIVE_INFINITY,
  'x',
  {},
  [],
  true,
  -1n,
  2n ** 64n,
  1n,
];
const shown = (value: unknown): string =>
  typeof value === 'bigint'
    ? `${value}n`
    : typeof value === 'number'
      ? `${value}`
      : (JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? `${v}n` : v)) ?? 'undefined');
/** A value of the right kind. */
const either = (...right: readonly unknown[]) => fc.constantFrom(...right);
/** At most one argument is junk: which of two wrong ones an error names is no rule. */
const call = (
  name: string,
  args: readonly fc.Arbitrary<unknown>[],
  // biome-ignore lint/suspicious/noExplicitAny: the arguments are wrong on purpose
  run: (user: Careless, ...args: any[]) => unknown,
): fc.Arbitrary<CarelessCall> =>
  fc.tuple(fc.tuple(...args), fc.integer({ min: 0, max: 3 * args.length }), fc.constantFrom(...junk)).map(([right, at, bad]) => {
    const values = right.map((value, i) => (i === at && typeof value !== 'string' && typeof value !== 'boolean' ? bad : value));
    return { what: `${name}(${values.map(shown).join(', ')})`, run: (user) => run(user, ...values) };
  });

const offsets = either(0, 4, 0x10, 0x20, 0x80, 0xfff, 0x1000, 0xf_fffc, 0x10_0000);
const values = either(0, 1, 0xff, 0xffff_ffff);
const iovas = either(0n, 4096n, 0x8000n, 0x1_0000n, 1n, 0xfee0_0000n, 2n ** 64n - 4096n);
const sizes = either(0n, 4096n, 0x8000n, 100n, 2n ** 63n);
const bytes = fc.constantFrom<unknown>(new Uint8Array(8), new Uint8Array(0), new Uint8Array(64));
const states = either(0, 1, 2, 3, 4, 5, 6, 7, 8);
const pageSizes = either(4096n, 4096n, 8192n, 0n, 4097n, 2n ** 63n);

/** Any call of a careless user. */
export const carelessCalls: fc.Arbitrary<CarelessCall> = fc.oneof(
  call('region', [either(0, 7, 8, 9), offsets], ({ device }, index, offset) => device.region(index).read32(offset)),
  call('write32', [either(0, 7), offsets, values], ({ device }, index, offset, value) => device.region(index).write32(offset, value)),
  call('write64', [either(0), offsets, either(0n, 1n, 2n ** 64n - 1n)], ({ device }, index, offset, value) =>
    device.region(index).write64(offset, value),
  ),
  call('read', [either(0, 7), offsets, bytes], ({ device }, index, offset, into) => device.region(index).read(offset, into)),
  call('write', [either(0, 7), offsets, bytes], ({ device }, index, offset, from) => device.region(index).write(offset, from)),
  call('command', [fc.constantFrom(0, 2, 6)], ({ device }, value) => device.region(7).write16(4, value)),
  call('map', [either(0), either(0, 4096, undefined), either(4096, 1, undefined)], (user, index, offset, size) => {
    const mapping = user.device.region(index).map(offset, size);
    user.mapping?.[Symbol.dispose]();
    user.mapping = mapping;
    return mapping.size;
  }),
  call('load', [offsets], ({ mapping }, offset) => mapping?.read32(offset)),
  call('store', [offsets, values], ({ mapping }, offset, value) => mapping?.write32(offset, value)),
  call('unmap registers', [], ({ mapping }) => mapping?.[Symbol.dispose]()),
  call('irq', [either(0, 1, 2, 3, 4, 5)], ({ device }, index) => device.irq(index)),
  call('setIrqs', [fc.constantFrom(undefined, null, 7, 'x', {}, [])], ({ device }, request) => device.setIrqs(request)),
  fc
    .record({
      index: either(0, 1, 1, 3, 4),
      start: either(0, 0, 1),
      count: either(0, 1, 1, 2),
      action: either('trigger', 'mask', 'unmask'),
      data: either('none', 'bool', 'sinks'),
      list: fc.constantFrom<unknown>([], [true], [false], ['fd'], ['sink'], [null], [undefined], undefined, null, 'x', new Uint8Array(1)),
    })
    .map(
      ({ list, ...request }): CarelessCall => ({
        what: `setIrqs(${shown({ ...request, list })})`,
        run: ({ device, fd, sink }) => {
          const named = (each: unknown) => (each === 'fd' ? fd : each === 'sink' ? sink : each);
          const data = Array.isArray(list) ? list.map(named) : list;
          const set = device.setIrqs({ ...request, sinks: data, sources: data, values: data } as never);
          return [set, fd.references];
        },
      }),
    ),
  call(
    'dma.map',
    [iovas, either('memory', 'memory'), either(0, 4096, undefined), either(4096, 0x8000, undefined), either(1, 2, 3, undefined)],
    ({ device, memory }, iova, what, offset, size, access) => {
      device.dma.map({ iova, memory: what === 'memory' ? memory : what, offset, size, access });
      return memory.references;
    },
  ),
  call('dma.map of', [fc.constantFrom(undefined, null, 7, {})], ({ device }, request) => device.dma.map(request)),
  call('dma.unmap', [iovas, sizes], ({ device, memory }, iova, size) => [device.dma.unmap(iova, size), memory.references]),
  call('dma.unmapAll', [], ({ device }) => device.dma.unmapAll()),
  call('dma.allocate', [either(4096, 1, 100)], ({ device }, size) => {
    using memory = device.dma.allocate(size);
    return memory.size;
  }),
  call('dirty', [fc.constantFrom('start', 'stop')], ({ device }, what: 'start' | 'stop') => device.dma.dirty?.[what]()),
  call(
    'dirty.report',
    [fc.constantFrom('report', 'unmap'), either(0n, 4096n, 0x1_0000n, 1n), sizes, pageSizes, bytes],
    ({ device }, what: 'report' | 'unmap', iova, size, pageSize, into) => device.dma.dirty?.[what](iova, size, pageSize, into),
  ),
  call('migration', [fc.constantFrom('flags', 'state', 'stopCopyBytes')], ({ device }, what: 'flags') => device.migration[what]),
  call('readPrecopyFlags', [], ({ device }) => device.migration.readPrecopyFlags()),
  {
    weight: 4,
    arbitrary: call('setState', [states], (user, state) => {
      const stream = user.device.migration.setState(state);
      if (stream !== null) user.streams.push(stream);
      return stream === null ? null : 'stream';
    }),
  },
  call('stream.read', [either(0, 1, 2), bytes], ({ streams }, n, into) => streams[n]?.read(into)),
  call('stream.write', [either(0, 1, 2), bytes], ({ streams }, n, from) => streams[n]?.write(from)),
  call('stream.precopyInfo', [either(0, 1, 2)], ({ streams }, n) => streams[n]?.precopyInfo()),
  call('stream.close', [either(0, 1, 2)], ({ streams }, n) => streams[n]?.close()),
  call('dmaLogging.start', [fc.array(fc.tuple(iovas, sizes), { maxLength: 3 }), pageSizes], ({ device }, ranges, pageSize) =>
    device.dmaLogging.start(Array.isArray(ranges) ? ranges.map(([iova, length]) => ({ iova, length })) : ranges, pageSize),
  ),
  call(
    'dmaLogging.start of',
    [fc.constantFrom(undefined, null, 7, 'x', [null], [{}], { length: 300 }, { length: -1 }), pageSizes],
    ({ device }, ranges, pageSize) => device.dmaLogging.start(ranges, pageSize),
  ),
  call('dmaLogging.stop', [], ({ device }) => device.dmaLogging.stop()),
  call('dmaLogging.report', [iovas, sizes, pageSizes, bytes], ({ device }, iova, length, pageSize, bitmap) =>
    device.dmaLogging.report({ iova, length, pageSize, bitmap }),
  ),
  call('lowPower', [fc.constantFrom('enter', 'exit')], ({ device }, what: 'enter') => device.lowPower[what]()),
  call('enterWithWakeup', [fc.constantFrom<unknown>('fd', 'sink', undefined, null, {}, 7)], ({ device, fd, sink }, what) => {
    device.lowPower.enterWithWakeup(what === 'fd' ? fd : what === 'sink' ? sink : what);
    return fd.references;
  }),
  call('exportDmaBuf', [either(0), either(0n, 4096n), either(4096n, 1n)], ({ device }, region, offset, length) =>
    device.exportDmaBuf({ region, ranges: [{ offset, length }] }),
  ),
  call('exportDmaBuf of no ranges', [], ({ device }) => device.exportDmaBuf({ region: 0, ranges: [] })),
  call('setVfToken', [], ({ device }) => device.setVfToken(new Uint8Array(16))),
  call(
    'feature',
    [either(0, 1, 2, 5, 7, 11, 200), fc.boolean(), fc.boolean(), fc.boolean(), bytes],
    ({ device }, feature, probe, get, set, data) => device.feature({ feature, probe, get, set, data }),
  ),
  call('feature of', [fc.constantFrom(undefined, null, 7, {})], ({ device }, request) => device.feature(request)),
  call(
    'on',
    [fc.constantFrom<unknown>(() => {}, undefined, 7), fc.constantFrom<unknown>(undefined, ['request'], ['x'], [], 'request', 7, null)],
    ({ device }, listener, kinds) => {
      device.on(listener as never, kinds as never)[Symbol.dispose]();
    },
  ),
  call('resetBus', [], ({ device }) => device.resetBus([])),
  call('hotResetInfo', [], ({ device }) => device.hotResetInfo().length),
  call('reset', [], ({ device }) => device.reset()),
  call('close', [fc.constantFrom(0, 0, 0, 0, 1)], ({ device }, really) => really === 1 && device.close()),
);

/** The value, or the error, of a call: the errno, or the name of an error that has none. */
export function carelessOutcome({ run }: CarelessCall, user: Careless): unknown {
  try {
    const value = run(user);
    return value === undefined ? 'undefined' : value;
  } catch (error) {
    if (error instanceof VfioError) return error instanceof BusError ? 'BusError' : error.code;
    return `${(error as Error).name}: ${(error as Error).message}`;
  }
}
