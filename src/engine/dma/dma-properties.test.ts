/**
 * The whole DMA side against a model so plain that it can be checked by reading: a Map from I/O
 * page to its target.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type TestContext, testContext, testGroup } from '../../../tests/kit/dma-rig.ts';
import { Dma } from '../../abi/device-host.ts';
import type { Access, DirectMemory } from '../../abi/memory.ts';
import { VfioError } from '../../base/errno.ts';
import { HostDma } from '../../hardware/host-dma.ts';
import { HeapMemory } from '../../sys/fake.ts';
import { Container } from './container.ts';
import type { AttachableGroup } from './iommu-properties.ts';
import { Process } from './process.ts';

const PAGE = 4096;
const PAGES = 8;
const VADDR = 0x10;
const LIMIT = 6;
const steps = [
  'type1.map.resolve',
  'type1.map.charge',
  'type1.map.domain',
  'type1.map.record',
  'type1.vaddr.charge',
  'type1.attach.domain',
  'type1.attach.reserved',
  'type1.attach.replay',
  'type1.dirty.start',
  'type1.unmap.dirty',
  'container.attach',
  'container.set-iommu',
] as const;

interface Target {
  readonly memory: number;
  readonly page: number;
  readonly access: number;
}

interface Mapping {
  readonly first: number;
  readonly last: number;
  /** Pieces of memory, as the domains have them. */
  readonly pieces: number[];
  owner: number;
  locked: number;
  invalid: boolean;
}

/**
 * The target of each page of each process: [memory, page, protection]. Process 0 and 1 see the two
 * memories the other way round.
 */
const areas = [
  [
    { at: VADDR, memory: 0, prot: 3 },
    { at: VADDR + PAGES, memory: 1, prot: 1 },
  ],
  [
    { at: VADDR, memory: 1, prot: 3 },
    { at: VADDR + PAGES + 2, memory: 0, prot: 2 },
  ],
] as const;

const reserved = [[], [], [20, 21]];
const aperture = [2 ** 36 - 1, 35, 2 ** 36 - 1];

class World {
  readonly context: TestContext = testContext({ dmaEntryLimit: LIMIT });
  readonly memories: DirectMemory[] = [HeapMemory.allocate(PAGES * PAGE), HeapMemory.allocate(PAGES * PAGE)];
  readonly processes: Process[];
  readonly groups: AttachableGroup[];
  readonly hosts: HostDma[];
  readonly gates: { busMaster: boolean; powered: boolean; readonly domain: AttachableGroup['domain'] }[];
  readonly container: Container;
  views: { host: number; page: number; byte: number; view: Uint8Array; epoch: number }[] = [];

  // The model.
  readonly shadows = this.memories.map((m) => new Uint8Array(m.size));
  readonly pages = new Map<number, Target>();
  readonly dirty = new Set<number>();
  mappings: Mapping[] = [];
  attached: number[] = [];
  type = 0;
  tracking = false;
  fill = 0;

  constructor() {
    this.processes = areas.map((list, i) => {
      const process = Process.user({ pid: i, memlockLimit: (i === 0 ? 20 : 10) * PAGE });
      for (const { at, memory, prot } of list) process.addressSpace.map(this.memories[memory], { at: BigInt(at * PAGE), prot });
      return process;
    });
    const unit = {};
    this.groups = [unit, unit, {}].map((unit, i) =>
      testGroup(i, {
        unit,
        apertureLast: BigInt((aperture[i] + 1) * PAGE) - 1n,
        reserved:
          reserved[i].length === 0
            ? []
            : [{ first: BigInt(reserved[i][0] * PAGE), last: BigInt((reserved[i][1] + 1) * PAGE) - 1n, kind: 'msi' }],
      }),
    );
    this.gates = this.groups.map((group) => ({
      busMaster: true,
      powered: true,
      get domain() {
        return group.domain;
      },
    }));
    this.hosts = this.gates.map((gate) => new HostDma(gate, this.context.events));
    this.container = new Container(this.context);
  }

  get domains(): number {
    return this.type === 0 ? 0 : new Set(this.attached.map((g) => this.groups[g].iommu.unit)).size;
  }

  locked(owner: number): number {
    return this.mappings.reduce((sum, m) => sum + (m.owner === owner ? m.locked : 0), 0);
  }

  inRanges(first: number, last: number): boolean {
    for (const g of this.attached) {
      if (last > aperture[g]) return false;
      for (const r of reserved[g]) if (first <= r && r <= last) return false;
    }
    return true;
  }

  /** The target of each page from `vaddr`, or null where MAP_DMA must be EFAULT. */
  resolve(owner: number, vaddr: number, count: number, access: number): Target[] | null {
    const targets: Target[] = [];
    for (let page = vaddr; page < vaddr + count; page++) {
      const area = areas[owner].find((a) => page >= a.at && page < a.at + PAGES);
      if (area === undefined || (area.prot & access) !== access) return null;
      targets.push({ memory: area.memory, page: page - area.at, access });
    }
    return targets;
  }

  /** The answer that MAP_DMA must give, and its effect on the model when that is no error. */
  expectMap(owner: number, first: number, count: number, resolve: () => Target[] | null): string {
    const last = first + count - 1;
    if (this.type === 0) return 'EINVAL';
    if (count === 0) return 'EINVAL';
    for (let page = first; page <= last; page++) if (this.pages.has(page)) return 'EEXIST';
    if (this.mappings.length === LIMIT) return 'ENOSPC';
    if (!this.inRanges(first, last)) return 'EINVAL';
    if (!this.processes[owner].alive) return 'ESRCH';
    const targets = resolve();
    if (targets === null) return 'EFAULT';
    const process = this.processes[owner];
    if (!process.capabilities.has('CAP_IPC_LOCK') && (this.locked(owner) + count) * PAGE > process.memlockLimit) return 'ENOMEM';
    for (const [i, target] of targets.entries()) this.pages.set(first + i, target);
    const pieces = targets
      .filter((t, i) => i === 0 || targets[i - 1].memory !== t.memory || targets[i - 1].page + 1 !== t.page)
      .map((t) => t.memory);
    this.mappings.push({ first, last, owner, locked: count, invalid: false, pieces });
    return 'none';
  }

  forget(mapping: Mapping): number {
    this.mappings = this.mappings.filter((m) => m !== mapping);
    for (let page = mapping.first; page <= mapping.last; page++) {
      this.pages.delete(page);
      this.dirty.delete(page);
    }
    return mapping.last - mapping.first + 1;
  }

  /** Mappings that unmapping [first, last] takes, or an errno. */
  hit(first: number, last: number, all: boolean): Mapping[] | string {
    const touched = this.mappings.filter((m) => m.last >= first && m.first <= last).sort((a, b) => a.first - b.first);
    if (this.type === 3 && !all && touched.some((m) => m.first < first || m.last > last)) return 'EINVAL';
    if (this.type === 1 && touched.length > 0 && touched[0].first < first) return [];
    return touched;
  }

  /** A device's access: whether it must land, and its effect on the shadow. */
  access(host: number, at: number, size: number, access: number, bytes: Uint8Array | null): boolean {
    if (!this.gates[host].busMaster || !this.attached.includes(host) || this.type === 0) return false;
    for (let page = Math.floor(at / PAGE); page <= Math.floor((at + size - 1) / PAGE); page++) {
      if (((this.pages.get(page)?.access ?? 0) & access) !== access) return false;
    }
    for (let i = 0; bytes !== null && i < size; i++) {
      const page = Math.floor((at + i) / PAGE);
      const target = this.pages.get(page)!;
      this.shadows[target.memory][target.page * PAGE + ((at + i) % PAGE)] = bytes[i];
      if (this.tracking) this.dirty.add(page);
    }
    return true;
  }

  check(): void {
    this.processes.forEach((process, i) => {
      if (process.lockedBytes !== this.locked(i) * PAGE) throw new Error(`process ${i} has ${process.lockedBytes} bytes locked`);
    });
    this.memories.forEach((memory, i) => {
      const mapped = this.mappings.reduce((sum, m) => sum + m.pieces.filter((p) => p === i).length, 0) * this.domains;
      const lived = this.processes.reduce((sum, p, owner) => sum + (p.alive ? areas[owner].filter((a) => a.memory === i).length : 0), 0);
      if (memory.references !== 1 + lived + mapped)
        throw new Error(`memory ${i} has ${memory.references} references, not ${1 + lived + mapped}`);
      if (Buffer.compare(memory.windows[0], this.shadows[i]) !== 0) throw new Error(`memory ${i} holds bytes that no device wrote`);
    });
    if (this.container.size !== this.mappings.length) throw new Error(`${this.container.size} mappings, not ${this.mappings.length}`);
    if (this.container.domains.length !== this.domains) throw new Error(`${this.container.domains.length} domains, not ${this.domains}`);
  }
}

interface Op {
  readonly kind: (typeof kinds)[number];
  readonly at: number;
  readonly count: number;
  readonly who: number;
  readonly access: number;
  readonly vaddr: number;
  /** Index into `steps` and how many times it passes first; negative = no fault. */
  readonly fault: number;
  readonly skip: number;
}

const kinds = [
  'map', 'map', 'map', 'mapMemory', 'unmap', 'unmap', 'unmapAll', 'invalidate', 'revive', 'attach', 'attach', 'detach', 'setIommu',
  'write', 'write', 'write', 'read', 'takeView', 'useView', 'useView', 'master', 'lockCap', 'exit', 'startDirty', 'getDirty',
] as const; // biome-ignore format: a table

const op = fc.record<Op>({
  kind: fc.constantFrom(...kinds),
  at: fc.nat({ max: 40 }),
  count: fc.nat({ max: 9 }),
  who: fc.nat({ max: 2 }),
  access: fc.integer({ min: 1, max: 3 }),
  vaddr: fc.nat({ max: 20 }),
  fault: fc.integer({ min: -2 * steps.length, max: steps.length - 1 }),
  skip: fc.nat({ max: 2 }),
});

/** Do `op` in the world and in the model; both must agree on the errno. */
function step(world: World, op: Op): void {
  const { container } = world;
  const owner = op.who % 2;
  const iova = BigInt(op.at * PAGE);
  const size = BigInt(op.count * PAGE);
  const both = (act: () => unknown, expected: () => string) => {
    if (op.fault >= 0) world.context.faults.failNext(steps[op.fault], 'EIO', op.skip);
    let errno = 'none';
    try {
      act();
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      errno = error.code;
    }
    world.context.faults.clear();
    // An injected fault: the model does nothing, so everything must be as it was.
    if (errno === 'EIO') return;
    const want = expected();
    if (errno !== want) throw new Error(`${op.kind}: ${errno}, expected ${want}`);
  };
  switch (op.kind) {
    case 'map':
      both(
        () => container.mapDma({ process: world.processes[owner], vaddr: BigInt((VADDR + op.vaddr) * PAGE), iova, size, flags: op.access }),
        () => world.expectMap(owner, op.at, op.count, () => world.resolve(owner, VADDR + op.vaddr, op.count, op.access)),
      );
      break;
    case 'mapMemory': {
      const page = op.vaddr % PAGES;
      both(
        () =>
          container.mapMemory({
            process: world.processes[owner],
            memory: world.memories[owner],
            iova,
            offset: page * PAGE,
            size: op.count * PAGE,
            access: op.access as Access,
          }),
        () =>
          world.expectMap(owner, op.at, op.count, () =>
            page + op.count > PAGES
              ? null
              : Array.from({ length: op.count }, (_, i) => ({ memory: owner, page: page + i, access: op.access })),
          ),
      );
      break;
    }
    case 'unmap':
    case 'unmapAll':
    case 'invalidate': {
      const all = op.kind === 'unmapAll';
      let bytes = 0n;
      both(
        () => {
          const flags = (all ? 2 : 0) | (op.kind === 'invalidate' ? 4 : 0);
          bytes = container.unmapDma({ iova: all ? 0n : iova, size: all ? 0n : size, flags });
        },
        () => {
          if (world.type === 0 || (!all && op.count === 0)) return 'EINVAL';
          const hit = world.hit(all ? 0 : op.at, all ? Number.POSITIVE_INFINITY : op.at + op.count - 1, all);
          if (typeof hit === 'string') return hit;
          if (op.kind === 'invalidate' && hit.some((m) => m.invalid)) return 'EINVAL';
          let pages = 0;
          for (const mapping of hit) {
            if (op.kind === 'invalidate') {
              mapping.invalid = true;
              pages += mapping.last - mapping.first + 1;
            } else pages += world.forget(mapping);
          }
          return bytes === BigInt(pages * PAGE) ? 'none' : `none, but of ${pages} pages and not ${bytes} bytes`;
        },
      );
      break;
    }
    case 'revive': {
      // At an existing mapping, when there is one: a random place would seldom meet it.
      const target = world.mappings[op.at % Math.max(1, world.mappings.length)];
      const first = target?.first ?? op.at;
      const count = op.skip === 2 || target === undefined ? op.count : target.last - target.first + 1;
      both(
        () =>
          container.mapDma({
            process: world.processes[owner],
            vaddr: BigInt(op.vaddr * PAGE),
            iova: BigInt(first * PAGE),
            size: BigInt(count * PAGE),
            flags: 4,
          }),
        () => {
          if (world.type === 0 || count === 0) return 'EINVAL';
          const touched = world.mappings.filter((m) => m.last >= first && m.first < first + count).sort((a, b) => a.first - b.first);
          if (touched.length === 0) return 'ENOENT';
          const [mapping] = touched;
          if (!mapping.invalid || mapping.first !== first || mapping.last !== first + count - 1) return 'EINVAL';
          if (mapping.owner !== owner) {
            const process = world.processes[owner];
            if (!process.alive) return 'ESRCH';
            const needed = (world.locked(owner) + mapping.locked) * PAGE;
            if (!process.capabilities.has('CAP_IPC_LOCK') && needed > process.memlockLimit) return 'ENOMEM';
            mapping.owner = owner;
          }
          mapping.invalid = false;
          return 'none';
        },
      );
      break;
    }
    case 'attach':
      both(
        () => container.attachGroup(world.groups[op.who]),
        () => {
          if (world.attached.includes(op.who)) return 'EINVAL';
          if (world.type !== 0) {
            if (world.mappings.some((m) => m.invalid)) return 'EBUSY';
            const clash = [...world.pages.keys()].some((page) => page > aperture[op.who] || reserved[op.who].includes(page));
            if (clash) return 'EINVAL';
          }
          world.attached.push(op.who);
          return 'none';
        },
      );
      break;
    case 'detach':
      both(
        () => container.detachGroup(world.groups[op.who]),
        () => {
          if (!world.attached.includes(op.who)) return 'EINVAL';
          world.attached = world.attached.filter((g) => g !== op.who);
          if (world.attached.length === 0) {
            for (const mapping of world.mappings) world.forget(mapping);
            world.type = 0;
            world.tracking = false;
          }
          return 'none';
        },
      );
      break;
    case 'setIommu': {
      const type = op.access === 1 ? 1 : 3;
      both(
        () => container.setIommu(type),
        () => {
          if (world.type !== 0 || world.attached.length === 0) return 'EINVAL';
          world.type = type;
          return 'none';
        },
      );
      break;
    }
    case 'write': {
      const at = op.at * PAGE + op.vaddr * 200;
      const bytes = new Uint8Array(1 + op.count * 1500).fill(++world.fill);
      const lands = world.access(op.who, at, bytes.length, 2, bytes);
      if ((world.hosts[op.who].tryWrite(at, bytes) === Dma.DONE) !== lands) throw new Error(`write at ${at}: expected ${lands}`);
      break;
    }
    case 'read': {
      const at = op.at * PAGE + op.vaddr * 200;
      const bytes = new Uint8Array(1 + op.count * 1500);
      const lands = world.access(op.who, at, bytes.length, 1, null);
      if ((world.hosts[op.who].tryRead(at, bytes) === Dma.DONE) !== lands) throw new Error(`read at ${at}: expected ${lands}`);
      for (let i = 0; lands && i < bytes.length; i++) {
        const target = world.pages.get(Math.floor((at + i) / PAGE))!;
        if (bytes[i] !== world.shadows[target.memory][target.page * PAGE + ((at + i) % PAGE)])
          throw new Error(`read ${bytes[i]} at ${at + i}`);
      }
      break;
    }
    case 'takeView': {
      const host = world.hosts[op.who];
      const at = op.at * PAGE + op.vaddr * 200;
      const view = host.view(at, 1 + op.count * 1500, op.access as Access);
      if (view === null) break;
      if (!world.access(op.who, at, view.length, op.access, null)) throw new Error(`a view at ${at} that must not be`);
      if ((op.access & 2) === 0) break;
      world.views.push({ host: op.who, page: op.at, byte: op.vaddr * 200, view, epoch: host.epoch });
      for (let page = Math.floor(at / PAGE); world.tracking && page <= Math.floor((at + view.length - 1) / PAGE); page++)
        world.dirty.add(page);
      break;
    }
    case 'useView': {
      const kept = world.views[op.at % Math.max(1, world.views.length)];
      if (kept === undefined || world.hosts[kept.host].epoch !== kept.epoch) break;
      kept.view.fill(++world.fill);
      const bytes = new Uint8Array(kept.view.length).fill(world.fill);
      if (!world.access(kept.host, kept.page * PAGE + kept.byte, bytes.length, 2, bytes)) throw new Error('a view outlived its mapping');
      break;
    }
    case 'master':
      world.gates[op.who].busMaster = op.access !== 1;
      break;
    case 'lockCap':
      if (op.access === 1) world.processes[owner].capabilities.add('CAP_IPC_LOCK');
      else world.processes[owner].capabilities.delete('CAP_IPC_LOCK');
      break;
    case 'exit':
      if (op.count === 9) world.processes[owner].exit();
      break;
    case 'startDirty':
      both(
        () => container.dirtyPages(1),
        () => {
          if (world.type === 0) return 'EINVAL';
          if (world.type === 1) return 'EACCES';
          world.tracking = true;
          return 'none';
        },
      );
      break;
    case 'getDirty': {
      const data = new Uint8Array(8);
      both(
        () => container.dirtyPages(4, { iova, size, bitmap: { pageSize: BigInt(PAGE), data } }),
        () => {
          if (world.type === 0) return 'EINVAL';
          if (world.type === 1) return 'EACCES';
          if (op.count === 0 || !world.tracking) return 'EINVAL';
          if (typeof world.hit(op.at, op.at + op.count - 1, false) === 'string') return 'EINVAL';
          for (let i = 0; i < 64; i++) {
            const set = ((data[i >> 3] >> (i & 7)) & 1) === 1;
            const want = i < op.count && world.dirty.delete(op.at + i);
            if (set !== want) return `none, but page ${op.at + i} is ${set ? '' : 'not '}dirty`;
          }
          return 'none';
        },
      );
      break;
    }
  }
}

function run(ops: readonly Op[], start: readonly number[]): void {
  const world = new World();
  for (const who of start) {
    world.container.attachGroup(world.groups[who]);
    world.attached.push(who);
  }
  if (start.length > 0) {
    world.container.setIommu(3);
    world.type = 3;
  }
  for (const next of ops) {
    step(world, next);
    world.check();
  }
  // In every case: when all groups have left, nothing is left.
  for (const who of [...world.attached]) world.container.detachGroup(world.groups[who]);
  for (const process of world.processes) process.exit();
  expect(world.processes.map((p) => p.lockedBytes)).toEqual([0, 0]);
  expect(world.memories.map((m) => m.references)).toEqual([1, 1]);
  expect([world.container.size, world.container.domains.length, world.container.references]).toEqual([0, 0, 1]);
  for (const kept of world.views) expect(world.hosts[kept.host].epoch).not.toBe(kept.epoch);
}

describe('the DMA side against a plain model', () => {
  const start = fc.constantFrom([], [0], [0, 2], [1, 0]);

  test('S2-38 no byte lands outside a live mapping with the right permission, whatever fails, and accounting and references return to zero', () => {
    fc.assert(fc.property(fc.array(op, { maxLength: 60, size: 'max' }), start, run), { numRuns: 2500 });
  });

  test('S2-46 the same without faults, in longer runs', () => {
    const quiet = op.map((o) => ({ ...o, fault: -1 }));
    fc.assert(fc.property(fc.array(quiet, { minLength: 100, maxLength: 250, size: 'max' }), start, run), { numRuns: 300 });
  });
});

describe('bad input', () => {
  const u64 = fc.oneof(
    fc.constantFrom(
      0n,
      1n,
      4095n,
      4096n,
      2n ** 52n,
      2n ** 53n,
      2n ** 63n,
      2n ** 64n - 4096n,
      2n ** 64n - 1n,
      2n ** 64n,
      -1n,
      -4096n,
      2n ** 200n,
    ),
    fc.bigInt({ min: -(2n ** 65n), max: 2n ** 65n }),
    fc.constantFrom(Number.NaN, 1, undefined, null, '1', {}) as fc.Arbitrary<never>,
  );
  const number = fc.oneof(
    fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, -1, 0, 1, 2, 3, 4, 7, 8, 0.5, 2 ** 31, 2 ** 32, 2 ** 53, 2 ** 63, -(2 ** 53)),
    fc.double(),
    fc.constantFrom(undefined, null, '1', {}) as fc.Arbitrary<never>,
  );
  const errnos = ['EINVAL', 'EOVERFLOW', 'EEXIST', 'EFAULT', 'ENOENT', 'ENODEV'];

  test('S2-21 any request gets an errno or is right, leaves other mappings alone and allocates nothing for its lies', () => {
    fc.assert(
      fc.property(u64, u64, u64, number, number, (a, b, c, n, m) => {
        const world = new World();
        world.container.attachGroup(world.groups[0]);
        world.container.setIommu(3);
        const [process] = world.processes;
        const { container } = world;
        container.mapDma({ process, vaddr: BigInt(VADDR * PAGE), iova: 0x8000n, size: 0x2000n, flags: 3 });
        container.dirtyPages(1);
        const [memory] = world.memories;
        const requests: [boolean, () => unknown][] = [
          [false, () => container.mapDma({ process, vaddr: a, iova: b, size: c, flags: n })],
          [false, () => container.mapMemory({ process, memory, iova: a, offset: n, size: m })],
          [false, () => container.mapMemory({ process, memory, iova: a, access: n as never })],
          [true, () => container.unmapDma({ iova: a, size: b, flags: n })],
          [true, () => container.unmapDma({ iova: a, size: b, flags: n, dirtyBitmap: { pageSize: c, data: new Uint8Array(8) } })],
          [false, () => container.dirtyPages(n, { iova: a, size: b, bitmap: { pageSize: c, size: a, data: new Uint8Array(8) } })],
          [false, () => container.setIommu(n)],
        ];
        for (const [unmaps, request] of requests) {
          const before = container.size;
          let threw = false;
          try {
            request();
          } catch (error) {
            if (!(error instanceof VfioError) || !errnos.includes(error.code)) throw error;
            threw = true;
          }
          if (threw) expect(container.size).toBe(before);
          else if (!unmaps) expect(container.size).toBeGreaterThanOrEqual(before);
        }
        container.checkExtension(n);
        const [host] = world.hosts;
        for (const iova of [a, b, n]) {
          host.tryRead(iova, new Uint8Array(3));
          host.tryWrite(iova, new Uint8Array(3));
          host.view(iova, n, m as never);
        }
        container.detachGroup(world.groups[0]);
        expect([process.lockedBytes, memory.references]).toEqual([0, 3]);
      }),
      { numRuns: 1500 },
    );
  });
});
