/**
 * Random calls with random bytes on every kind of file. The door returns errnos and never throws. A
 * refused call leaves the descriptor table alone. When the process exits nothing is left.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CARD, EDU, Guest, NVME } from '../../tests/kernel-answers/guest.ts';
import { ContainerIoctl, DeviceIoctl, Extension, GroupIoctl, REGION_OFFSET_STEP } from '../abi/vfio.ts';
import { errnoName } from '../base/errno.ts';
import type { EventCounter } from './event-counter.ts';
import { MapFlags, Prot } from './posix.ts';
import { cString, type IoctlArgument } from './user-buffer.ts';
import type { UserProcess } from './user-process.ts';

const requests = [...new Set([ContainerIoctl, GroupIoctl, DeviceIoctl].flatMap((table) => Object.values(table)))];

/**
 * Words that get past the first checks: sizes, flags, indexes, descriptors, halves of addresses.
 */
const word = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: 40 }) },
  { weight: 2, arbitrary: fc.constantFrom(48, 64, 120, 1048, 4096, 8192, 0x100000, 0x7f00, 0x7e00) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 31 }).map((bit) => (1 << bit) >>> 0) },
  { weight: 2, arbitrary: fc.constantFrom(0x21, 0x24, 0x22, 0x14, 0x0c, 0x40003, 0x20003, 0x20004, 0x1000b) },
  { weight: 1, arbitrary: fc.constantFrom(0xffff_ffff, 0xffff_fffe, 0x8000_0000, 0x7fff_ffff, 0xffff_f000) },
  { weight: 1, arbitrary: fc.nat(0xffff_ffff) },
);
const bytes = fc
  .tuple(fc.array(word, { maxLength: 18 }), fc.nat(3))
  .map(([words, cut]) => new Uint8Array(new Uint32Array(words).buffer).subarray(0, Math.max(0, words.length * 4 - cut)));
const text = fc.constantFrom(EDU, NVME, CARD, `${EDU} `, `${EDU} vf_token=zzz`, '').map(cString);
const argument: fc.Arbitrary<IoctlArgument> = fc.oneof(
  { weight: 6, arbitrary: bytes },
  { weight: 1, arbitrary: text },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 12 }) },
  { weight: 1, arbitrary: fc.constantFrom<IoctlArgument>(Number.NaN, -1, 2 ** 53, 2n ** 64n, -1n, Number.POSITIVE_INFINITY) },
);
const fd = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 3, max: 14 }) },
  { weight: 1, arbitrary: fc.constantFrom(-1, 0, 999, Number.NaN) },
);
const offset = fc.oneof(
  fc.tuple(fc.nat(9), fc.nat(0x120)).map(([region, at]) => region * REGION_OFFSET_STEP + at),
  fc.constantFrom<number | bigint>(0xffffc, 0x100000, -1, Number.NaN, 2 ** 53, 2n ** 63n, 2n ** 64n, -1n, 0.5),
);
const length = fc.oneof(fc.nat(64), fc.constantFrom(4096, 0x100000, 2 ** 32, 2 ** 53, -1, Number.NaN, 0.5));
const path = fc.constantFrom('/dev/vfio/vfio', '/dev/vfio/0', '/dev/vfio/1', '/dev/vfio/2', '/dev/vfio/3', '/dev/null', '/dev/vfio/', 'x');
const address = fc.constantFrom(0x7f00_0000_0000, 0x7e00_0000_0000, 0x7e00_0000_0004, 0x7e00_0000_1000, 0, -1, Number.NaN, 2 ** 53);

/** Requests of the file that they go to, with an argsz and flags that may pass. */
const meant = fc
  .constantFrom(
    ...[ContainerIoctl, GroupIoctl, DeviceIoctl].flatMap((table, kind) =>
      Object.values(table).map((request) => [3 + kind, request] as const),
    ),
  )
  .chain(([f, request]) =>
    fc
      .tuple(fc.constantFrom(8, 16, 20, 24, 28, 32, 40, 48, 64), fc.nat(64), fc.array(word, { maxLength: 14 }), fc.nat(80))
      .map(([argsz, flags, rest, length]) => {
        const whole = new Uint8Array(80);
        whole.set(new Uint8Array(new Uint32Array([argsz, flags, ...rest]).buffer));
        return { f, request, arg: whole.subarray(0, length < 60 ? 80 : length) };
      }),
  );
/** MAP_DMA and UNMAP_DMA of ranges that may be there. */
const mapping = fc
  .tuple(fc.boolean(), fc.nat(7), fc.nat(17), fc.integer({ min: 0x100, max: 0x118 }), fc.nat(9))
  .map(([map, flags, page, iovaPage, pages]) => {
    const iova = BigInt(iovaPage) << 12n;
    const size = BigInt(pages) << 12n;
    const vaddr = 0x7f00_0000_0000n + (BigInt(page) << 12n);
    const arg = new Uint8Array(32);
    new Uint32Array(arg.buffer).set([map ? 32 : 24, flags]);
    new BigUint64Array(arg.buffer).set(map ? [vaddr, iova, size] : [iova, size], 1);
    return { f: 3, request: map ? ContainerIoctl.IOMMU_MAP_DMA : ContainerIoctl.IOMMU_UNMAP_DMA, arg };
  });
/** SET_IRQS that may be right, on eventfds 6 and 7. */
const interrupts = fc
  .tuple(
    fc.nat(5),
    fc.constantFrom(1, 2, 4),
    fc.constantFrom(8, 16, 32, 32, 32),
    fc.nat(2),
    fc.nat(3),
    fc.array(fc.constantFrom(-1, 6, 7, 0), { maxLength: 3 }),
  )
  .map(([index, data, action, first, count, fds]) => {
    const arg = new Uint8Array(32);
    new Int32Array(arg.buffer).set([32, data | action, index, first, count, ...fds]);
    return { f: 5, request: DeviceIoctl.SET_IRQS, arg };
  });
const likely = fc.oneof({ weight: 3, arbitrary: meant }, { weight: 1, arbitrary: mapping }, { weight: 1, arbitrary: interrupts }).map(
  ({ f, request, arg }): Call =>
    (user) =>
      user.ioctl(f, request, arg.slice()),
);

type Call = (user: UserProcess) => unknown;
const call: fc.Arbitrary<Call> = fc.oneof(
  { weight: 16, arbitrary: likely },
  {
    weight: 6,
    arbitrary: fc
      .tuple(fd, fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...requests) }, { weight: 1, arbitrary: fc.nat(0xffff_ffff) }), argument)
      .map(
        ([f, request, arg]): Call =>
          (user) =>
            user.ioctl(f, request, arg),
      ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(fd, bytes, offset, length).map(
      ([f, b, o, n]): Call =>
        (user) =>
          user.pread(f, b.slice(), o, n),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(fd, bytes, offset, length).map(
      ([f, b, o, n]): Call =>
        (user) =>
          user.pwrite(f, b, o, n),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fd, bytes).map(
      ([f, b]): Call =>
        (user) =>
          user.write(f, b),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fd, bytes).map(
      ([f, b]): Call =>
        (user) =>
          user.read(f, b.slice()),
    ),
  },
  {
    weight: 1,
    arbitrary: path.map(
      (p): Call =>
        (user) =>
          user.open(p),
    ),
  },
  {
    weight: 1,
    arbitrary: fd.map(
      (f): Call =>
        (user) =>
          user.close(f),
    ),
  },
  {
    weight: 1,
    arbitrary: fd.map(
      (f): Call =>
        (user) =>
          user.dup(f),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(length, fc.nat(4), fc.constantFrom(0, 1, 2, 33, 34), fd, offset).map(
      ([n, prot, flags, f, o]): Call =>
        (user) =>
          user.mmap(n, prot, flags, f, o),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(address, length).map(
      ([a, n]): Call =>
        (user) =>
          user.munmap(a, n),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(address, fc.constantFrom(1, 2, 4, 8)).map(
      ([a, w]): Call =>
        (user) =>
          user.load(a, w as 1),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(address, fc.constantFrom(1, 2, 4, 8)).map(
      ([a, w]): Call =>
        (user) =>
          user.store(a, w as 1, 0xff),
    ),
  },
);

/**
 * Descriptors 3 container, 4 group, 5 device, then eventfds, and a BAR of anonymous memory for
 * pointers.
 */
function opened(guest: Guest, bdf: string): { user: UserProcess; counters: EventCounter[] } {
  const { user } = guest.open(bdf, Extension.TYPE1v2_IOMMU);
  user.mmap(0x10000, Prot.READ | Prot.WRITE, MapFlags.PRIVATE | MapFlags.ANONYMOUS);
  const counters = [user.eventfd(), user.eventfd()].map((event) => {
    const { body } = user.files.get(event);
    if (body.kind !== 'eventfd') throw new Error('no eventfd');
    return body.counter;
  });
  return { user, counters };
}

const signals = ['SIGBUS', 'SIGSEGV'];

function answerIsOne(answer: unknown): boolean {
  if (typeof answer === 'bigint') return answer >= 0n;
  if (typeof answer === 'string') return signals.includes(answer);
  return Number.isInteger(answer) && ((answer as number) >= 0 || errnoName(answer as number) !== undefined);
}

function run(bdf: string, calls: readonly Call[]): void {
  const guest = new Guest();
  const { user, counters } = opened(guest, bdf);
  for (const one of calls) {
    const before = user.files.open;
    const answer = one(user);
    if (!answerIsOne(answer)) throw new Error(`answered ${String(answer)}`);
    if (typeof answer === 'number' && answer < 0) expect(user.files.open).toEqual(before);
  }
  guest.clock.advance(200);
  user.exit();
  const left = {
    bugs: guest.errors,
    descriptors: user.files.open,
    areas: user.memory.areas,
    locked: user.process.lockedBytes,
    held: counters.map((c) => [c.references, c.listeners]),
    groups: [...guest.machine.groups.values()].filter((g) => g.file !== null || g.domain !== null || g.owner !== null).map((g) => g.id),
    open: [...guest.machine.functions.values()].map((fn) => fn.vfio?.openCount ?? 0).filter((n) => n > 0),
    barReferences: guest.machine.function(CARD).host.barMemory(2).references,
  };
  guest[Symbol.dispose]();
  expect(left).toEqual({
    bugs: [],
    descriptors: [],
    areas: 0,
    locked: 0,
    held: [
      [0, 0],
      [0, 0],
    ],
    groups: [],
    open: [],
    barReferences: 1,
  });
}

describe('random calls', () => {
  it.each([EDU, NVME, CARD])(
    'S2-21 %s: any sequence of calls gives errnos, changes nothing where it refuses, and leaves nothing behind',
    (bdf) => {
      fc.assert(
        fc.property(fc.array(call, { maxLength: 60 }), (calls) => run(bdf, calls)),
        { numRuns: 150 },
      );
    },
  );

  it('S2-21 every request of every kind of file with any bytes', () => {
    fc.assert(
      fc.property(fc.array(argument, { minLength: 1, maxLength: 6 }), (args) => {
        run(
          NVME,
          args.flatMap((arg) =>
            requests.flatMap((request) =>
              [3, 4, 5, 6].map(
                (f): Call =>
                  (user) =>
                    user.ioctl(f, request, arg),
              ),
            ),
          ),
        );
      }),
      { numRuns: 100 },
    );
  });
});
