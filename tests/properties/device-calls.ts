/**
 * Calls on any `Device` for properties that compare two of them: right ones, and wrong ones. The
 * device is one of many-bars-model.ts, which has every kind of region.
 */
import fc from 'fast-check';
import { BusError } from '../../src/abi/bus-error.ts';
import type { Device, InterruptSink, RegionMapping, SetIrqs } from '../../src/abi/device.ts';
import type { Access } from '../../src/abi/memory.ts';
import { Extension } from '../../src/abi/vfio.ts';
import { VfioError } from '../../src/base/errno.ts';
import { featureBytes } from '../../src/device/feature-bytes.ts';
import { Machine } from '../../src/engine/machine/machine.ts';
import { EventFd } from '../../src/sys/eventfd.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';
import manyBars from '../kit/many-bars-model.ts';

/** The addresses to which x86 sends interrupt messages: no IOVA. */
const RESERVED = 0xfee0_0000n;
const LAST_PAGE = 2n ** 64n - 4096n;

/** A device and its user's things. */
export class User implements Disposable {
  readonly device: Device;
  readonly fds: readonly EventFd[];
  readonly memories: readonly MemfdMemory[];
  readonly #mappings = new Map<number, RegionMapping>();
  readonly #machine: Machine | null;
  readonly #available: number;

  constructor(device: Device, machine: Machine | null) {
    this.device = device;
    this.#machine = machine;
    this.#available = device.dma.available;
    this.fds = [EventFd.create(), EventFd.create(), EventFd.create()];
    this.memories = [MemfdMemory.allocate(4096) as MemfdMemory, MemfdMemory.allocate(0x8000) as MemfdMemory];
  }

  mapping(bar: number): RegionMapping {
    let mapping = this.#mappings.get(bar);
    if (mapping === undefined) {
      mapping = this.device.region(bar).map();
      this.#mappings.set(bar, mapping);
    }
    return mapping;
  }

  /** Mappings of memory for DMA that the device has made. */
  get mapped(): number {
    return this.#available - this.device.dma.available;
  }

  /** Signals since the last look. */
  get signals(): (bigint | null)[] {
    return this.fds.map((fd) => fd.read());
  }

  [Symbol.dispose](): void {
    for (const mapping of this.#mappings.values()) mapping[Symbol.dispose]();
    this.device.close();
    this.#machine?.[Symbol.dispose]();
    for (const held of [...this.fds, ...this.memories]) held[Symbol.dispose]();
  }
}

/** A device of the engine, in this process. */
export function here(): User {
  const bdf = '0000:00:04.0';
  const machine = new Machine({ devices: [{ at: '04.0', model: manyBars(), driver: 'vfio-pci' }] }, { allocate: MemfdMemory.allocate });
  const container = machine.openContainer();
  const group = machine.openGroup(machine.function(bdf).group!.id);
  group.setContainer(container);
  container.setIommu(Extension.TYPE1v2_IOMMU);
  return new User(group.openDevice(bdf), machine);
}

/** One call, and its words. */
export interface Call {
  readonly what: string;
  readonly run: (user: User) => unknown;
}

const width = fc.constantFrom(1, 2, 4, 8);
const value = fc.oneof(fc.bigInt(0n, 2n ** 64n - 1n), fc.constantFrom(0n, 1n, 0xffff_ffffn, 2n ** 64n - 1n));

function access(
  on: { [K in keyof RegionMapping]: RegionMapping[K] } | Pick<RegionMapping, 'read8'>,
  bytes: number,
  offset: number,
  v: bigint | null,
): unknown {
  const registers = on as RegionMapping;
  if (v === null) {
    if (bytes === 8) return registers.read64(offset);
    return bytes === 4 ? registers.read32(offset) : bytes === 2 ? registers.read16(offset) : registers.read8(offset);
  }
  if (bytes === 8) registers.write64(offset, v);
  else if (bytes === 4) registers.write32(offset, Number(v & 0xffff_ffffn));
  else if (bytes === 2) registers.write16(offset, Number(v & 0xffffn));
  else registers.write8(offset, Number(v & 0xffn));
  return 'written';
}

/** Offsets in use, near the ends, and anywhere. */
const barOffset = fc.oneof(
  fc.constantFrom(0, 4, 8, 0x10, 0x1000, 0xffc, 0x1ffc, 0x2000, 0x3000, 0x3ffc, 0xfffc, 0x1_0000, 2 ** 40, -1, 0.5, 2 ** 53),
  fc.integer({ min: 0, max: 0x1_0010 }),
);
const configOffset = fc.oneof(
  fc.constantFrom(0, 4, 6, 0x10, 0x30, 0x3c, 0x40, 0x44, 0x50, 0x60, 0xfe, 0x100, 4092, 4096),
  fc.integer({ min: 0, max: 4100 }),
);
const region = fc.constantFrom(0, 1, 2, 3, 4, 5, 6);

/** Any call. */
export const calls: fc.Arbitrary<Call> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(region, width, barOffset, fc.option(value)).map(([r, w, o, v]) => ({
      what: `region ${r}: ${v === null ? 'read' : `write ${v}`} ${w} at ${o}`,
      run: ({ device }: User) => access(device.region(r), w, o, v),
    })),
  },
  {
    weight: 5,
    arbitrary: fc.tuple(width, configOffset, fc.option(value)).map(([w, o, v]) => ({
      what: `config: ${v === null ? 'read' : `write ${v}`} ${w} at ${o}`,
      run: ({ device }: User) => access(device.region(7), w, o, v),
    })),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(fc.constantFrom(0, 2, 4, 6), fc.boolean()).map(([command, whole]) => ({
      what: `COMMAND = ${command}`,
      run: ({ device }: User) => access(device.region(7), whole ? 2 : 1, 4, BigInt(command)),
    })),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.integer({ min: 0, max: 9 }), barOffset, fc.integer({ min: 0, max: 300 }), fc.boolean())
      .map(([r, o, n, write]) => ({
        what: `region ${r}: ${write ? 'write' : 'read'} ${n} bytes at ${o}`,
        run: ({ device }: User) => {
          const bytes = new Uint8Array(n).fill(n);
          const done = write ? device.region(r).write(o, bytes) : device.region(r).read(o, bytes);
          return [done, [...bytes]];
        },
      })),
  },
  {
    weight: 5,
    arbitrary: fc.tuple(fc.constantFrom(0, 1, 2, 4), width, barOffset, fc.option(value)).map(([r, w, o, v]) => ({
      what: `mapping of BAR ${r}: ${v === null ? 'read' : `write ${v}`} ${w} at ${o}`,
      run: (user: User) => access(user.mapping(r), w, o, v),
    })),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(region, barOffset, barOffset).map(([r, o, n]) => ({
      what: `map ${n} at ${o} of region ${r}`,
      run: ({ device }: User) => {
        using mapping = device.region(r).map(o, n);
        return [mapping.size, mapping.memory?.offset ?? null];
      },
    })),
  },
  { weight: 6, arbitrary: irqCalls() },
  { weight: 3, arbitrary: dmaCalls() },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.integer({ min: 0, max: 12 }), fc.boolean(), fc.boolean(), fc.boolean(), fc.constantFrom(0, 8))
      .map(([feature, probe, get, set, n]) => ({
        what: `feature ${feature} ${JSON.stringify({ probe, get, set, n })}`,
        // A DMA_BUF has to be taken, and no message carries one.
        run: ({ device }: User) =>
          feature === 11 && get && !probe ? null : featureBytes(device, { feature, probe, get, set, data: new Uint8Array(n) }),
      })),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Call>(
      { what: 'reset', run: ({ device }) => device.reset() },
      {
        what: 'infos',
        run: ({ device }) => [
          device.info.flags,
          [0, 1, 2, 4, 5, 6, 7].map((r) => device.region(r).info),
          [0, 1, 2, 3, 4].map((i) => device.irq(i)),
        ],
      },
    ),
  },
);

function irqCalls(): fc.Arbitrary<Call> {
  return fc
    .record({
      index: fc.integer({ min: 0, max: 5 }),
      start: fc.integer({ min: 0, max: 5 }),
      count: fc.integer({ min: 0, max: 5 }),
      action: fc.constantFrom('trigger', 'trigger', 'trigger', 'mask', 'unmask'),
      data: fc.constantFrom('none', 'none', 'bool', 'sinks', 'sinks'),
      choice: fc.array(fc.integer({ min: -1, max: 2 }), { minLength: 5, maxLength: 5 }),
    })
    .map(({ choice, ...request }) => ({
      what: `SET_IRQS ${JSON.stringify({ ...request, choice })}`,
      run: (user: User) => {
        const sinks: (InterruptSink | null)[] = choice.map((i) => user.fds[i] ?? null);
        // A source that is signalled already unmasks in a later turn of the event loop, which is
        // not the same moment on both sides.
        const sources = choice.map(() => null);
        const set = user.device.setIrqs({ ...request, sinks, sources, values: choice.map((i) => i > 0) } as unknown as SetIrqs);
        return [set, user.signals];
      },
    }));
}

function dmaCalls(): fc.Arbitrary<Call> {
  const iova = fc.oneof(
    fc.integer({ min: 0, max: 16 }).map((page) => BigInt(page) * 4096n),
    fc.constantFrom(0x1001n, LAST_PAGE, RESERVED, -1n, 2n ** 64n, 2n ** 39n),
  );
  const size = fc.constantFrom(0, 4096, 8192, 0x8000, 100, 0x10_0000);
  const map = fc
    .tuple(iova, fc.integer({ min: 0, max: 1 }), fc.constantFrom(0, 4096, 10), fc.option(size), fc.constantFrom(1, 2, 3, 0))
    // Where the server alone knows that it cannot be mapped, no other argument may be wrong: the
    // client cannot see which error comes first.
    .map(([at, which, offset, n, rights]) =>
      at === RESERVED
        ? ([at, which, 0, 4096, 3] as const)
        : at === LAST_PAGE
          ? ([at, which, 0, n, 3] as const)
          : ([at, which, offset, n, rights] as const),
    )
    .map(
      ([at, which, offset, n, rights]): Call => ({
        what: `map ${at} memory ${which} offset ${offset} size ${n} access ${rights}`,
        run: (user) => {
          const { device, memories } = user;
          device.dma.map({ iova: at, memory: memories[which]!, offset, access: rights as Access, ...(n === null ? {} : { size: n }) });
          return [user.mapped, memories.map((m) => m.references)];
        },
      }),
    );
  const unmap = fc.tuple(iova, size).map(
    ([at, n]): Call => ({
      what: `unmap ${at} + ${n}`,
      run: (user) => [user.device.dma.unmap(at, BigInt(n)), user.mapped, user.memories.map((m) => m.references)],
    }),
  );
  return fc.oneof(
    map,
    map,
    unmap,
    fc.constant<Call>({ what: 'unmap all', run: ({ device }) => [device.dma.unmapAll(), device.dma.pageSizes & 4096n] }),
  );
}

/** The value, or the errno, of a call. */
export function outcome(call: Call, user: User): unknown {
  try {
    return call.run(user);
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    return error instanceof BusError ? 'BusError' : error.code;
  }
}
