/**
 * Random users of one machine, against a reference that knows nothing of the engine's inside. Users
 * open, map, drive DMA and close in any order, and any step of the engine may be made to fail.
 *
 * After every step: a group has one user at most; each process is charged for exactly the pages
 * that it has mapped; no byte of memory changes but those that a device may write. After everything
 * is closed: no memory, interrupt sink, owner or timer is left.
 */
import fc from 'fast-check';
import type { RegionMapping } from '../../src/abi/device.ts';
import { Access } from '../../src/abi/memory.ts';
import { Extension, IrqIndex } from '../../src/abi/vfio.ts';
import { ManualClock } from '../../src/base/clock.ts';
import { VfioError } from '../../src/base/errno.ts';
import type { DeviceFile } from '../../src/engine/device/device-file.ts';
import type { Container } from '../../src/engine/dma/container.ts';
import { Process } from '../../src/engine/dma/process.ts';
import type { GroupFile } from '../../src/engine/machine/group-file.ts';
import { Machine } from '../../src/engine/machine/machine.ts';
import { models } from '../../src/models/registry.ts';
import { FakeEventFd, HeapMemory } from '../../src/sys/fake.ts';

const PAGE = 4096;
const MEMORY_PAGES = 8;
const SLOTS = 12;

interface Mapped {
  readonly container: Container;
  readonly process: Process;
  readonly memory: number;
  readonly slot: number;
  readonly memoryPage: number;
  readonly pages: number;
  readonly access: Access;
}

/** One random step: an operation, and four numbers for its arguments. */
export type Step = readonly [op: number, a: number, b: number, c: number, d: number];

export const steps = (maxLength: number) =>
  fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.nat(), fc.nat()), { minLength: 1, maxLength, size: 'max' }) as fc.Arbitrary<Step[]>;

const pick = <T>(from: readonly T[], n: number): T | undefined => (from.length === 0 ? undefined : from[n % from.length]);
const iovaOf = (slot: number) => 0x10_0000n + BigInt(slot * PAGE);

export class World {
  readonly clock = new ManualClock();
  readonly machine: Machine;
  readonly memories = [HeapMemory.allocate(MEMORY_PAGES * PAGE), HeapMemory.allocate(MEMORY_PAGES * PAGE)];
  /** The right contents of the memories. */
  readonly expected = this.memories.map(() => new Uint8Array(MEMORY_PAGES * PAGE));
  readonly processes = [Process.user({ pid: 100, memlockLimit: 10 * PAGE }), Process.user({ pid: 200, memlockLimit: 1000 * PAGE })];
  readonly sinks = [new FakeEventFd(), new FakeEventFd()];
  containers: Container[] = [];
  groups: GroupFile[] = [];
  devices: DeviceFile[] = [];
  mappings: RegionMapping[] = [];
  mapped: Mapped[] = [];
  readonly #steps: string[] = [];
  #fill = 0;
  /** Counts of events, so that a test can see that enough happened. */
  readonly seen = { opened: 0, mapped: 0, landed: 0, stopped: 0, failed: 0 };

  constructor() {
    this.machine = new Machine(
      {
        devices: [
          { at: '04.0', model: 'edu', driver: 'vfio-pci', options: { dmaMask: 0xffff_ffff } },
          { at: '05.0', model: 'edu', driver: 'vfio-pci', options: { dmaMask: 0xffff_ffff } },
          { at: '05.1', model: 'edu', driver: 'vfio-pci', options: { dmaMask: 0xffff_ffff } },
        ],
      },
      { allocate: HeapMemory.allocate, models, clock: this.clock, nodeOwner: 1000 },
    );
  }

  /**
   * Runs one step. A `VfioError` is a refusal; the engine may refuse. Any other error is a bug and
   * gets out.
   */
  run([op, a, b, c, d]: Step): void {
    const action = this.#actions[op % this.#actions.length]!;
    try {
      action(a, b, c, d);
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      this.seen.failed++;
    }
    for (const name of this.machine.context.faults.seen.keys()) if (!this.#steps.includes(name)) this.#steps.push(name);
    this.mapped = this.mapped.filter((m) => m.container.iommuType !== null);
    this.check();
  }

  readonly #actions: readonly ((a: number, b: number, c: number, d: number) => void)[] = [
    (a) => void this.containers.push(this.machine.openContainer(pick(this.processes, a)!)),
    (a) => this.#close(this.containers, a),
    (a, b) => void this.groups.push(this.machine.openGroup(a % 3, pick(this.processes, b)!)),
    (a) => this.#close(this.groups, a),
    (a, b) => pick(this.groups, a)?.setContainer(pick(this.containers, b) ?? this.machine.openContainer()),
    (a) => pick(this.groups, a)?.unsetContainer(),
    (a, b) => pick(this.containers, a)?.setIommu(b % 5 === 0 ? Extension.TYPE1_IOMMU : b % 7 === 0 ? 99 : Extension.TYPE1v2_IOMMU),
    (a, b) => {
      const file = pick(this.groups, a);
      const fn = file === undefined ? undefined : pick(file.group.functions, b);
      if (file !== undefined && fn !== undefined) {
        this.devices.push(file.openDevice(fn.bdf));
        this.seen.opened++;
      }
    },
    (a) => this.#close(this.devices, a),
    (a) => {
      const device = pick(this.devices, a);
      if (device !== undefined) this.mappings.push(device.region(0).map());
    },
    (a) => {
      const mapping = pick(this.mappings, a);
      this.mappings = this.mappings.filter((m) => m !== mapping);
      mapping?.[Symbol.dispose]();
    },
    (a, b, c, d) => this.#map(a, b, c, d),
    (a, b, c, d) => this.#map(a, b, c, d),
    (a, b, c) => this.#unmap(a, b, c),
    (a, b, c) => this.#setIrqs(a, b, c),
    (a, b, c) =>
      pick(this.devices, a)
        ?.region(7)
        .write16(4, (b % 3 === 0 ? 0x2 : 0x6) | (c % 5 === 0 ? 0x400 : 0)),
    (a, b, c) =>
      void pick(this.devices, a)
        ?.region(7)
        .write(b % 260, Uint8Array.of(c & 0xff, (c >> 8) & 0xff)),
    (a, b, c, d) => this.#dma(a, b, c, d),
    (a, b, c, d) => this.#dma(a, b, c, d),
    (a, b, c, d) => this.#dma(a, b, c, d),
    (a) => pick(this.devices, a)?.reset(),
    (a, b, c) => this.#ready(a, b, c),
    (a, b, c) => this.#ready(a, b, c),
    (a) => this.clock.advance(a % 50),
    (a, b) => {
      const step = pick(this.#steps, a);
      if (step !== undefined) this.machine.context.faults.failNext(step, b % 2 === 0 ? 'ENOMEM' : 'EIO', b % 3);
    },
  ];

  /**
   * Everything that a user does before the work begins, in one step: random single steps seldom get
   * there.
   */
  #ready(a: number, b: number, c: number): void {
    const process = pick(this.processes, b)!;
    const group = this.machine.openGroup(a % 2, process);
    this.groups.push(group);
    const container = pick(this.containers, c) ?? this.machine.openContainer(process);
    if (!this.containers.includes(container)) this.containers.push(container);
    group.setContainer(container);
    if (container.iommuType === null) container.setIommu(Extension.TYPE1v2_IOMMU);
    for (const fn of group.group.functions) {
      this.devices.push(group.openDevice(fn.bdf));
      this.seen.opened++;
    }
    for (const device of this.devices.slice(-group.group.functions.length)) device.region(7).write16(4, 0x6);
  }

  #close<T extends { close(): void }>(files: T[], n: number): void {
    const file = pick(files, n);
    if (file === undefined) return;
    files.splice(files.indexOf(file), 1);
    file.close();
  }

  #map(a: number, b: number, c: number, d: number): void {
    const container = pick(this.containers, a);
    if (container === undefined) return;
    const memory = b % this.memories.length;
    const pages = 1 + (c % 3);
    const memoryPage = d % (MEMORY_PAGES - pages + 1);
    const slot = (a + b + c) % SLOTS;
    const process = pick(this.processes, c + d)!;
    const access = ([Access.READ, Access.WRITE, Access.READ_WRITE] as const)[d % 3]!;
    container.mapMemory({
      process,
      iova: iovaOf(slot),
      memory: this.memories[memory]!,
      offset: memoryPage * PAGE,
      size: pages * PAGE,
      access,
    });
    this.seen.mapped++;
    this.mapped.push({ container, process, memory, slot, memoryPage, pages, access });
  }

  #unmap(a: number, b: number, c: number): void {
    const container = pick(this.containers, a);
    if (container === undefined) return;
    const slot = b % SLOTS;
    const pages = 1 + (c % 4);
    const done = container.unmapDma({ iova: iovaOf(slot), size: BigInt(pages * PAGE) });
    const before = this.mapped;
    // TYPE1 unmaps whole mappings by their first page, TYPE1v2 never cuts: either way a mapping
    // that begins inside is gone.
    if (done > 0n) this.mapped = before.filter((m) => m.container !== container || m.slot < slot || m.slot >= slot + pages);
    const gone = before.filter((m) => !this.mapped.includes(m)).reduce((sum, m) => sum + m.pages * PAGE, 0);
    if (BigInt(gone) !== done) throw new Error(`unmapped ${done} bytes, the reference ${gone}`);
  }

  #setIrqs(a: number, b: number, c: number): void {
    const sink = pick([...this.sinks, null], c)!;
    const index = b % 2 === 0 ? IrqIndex.MSI : b % 3 === 0 ? IrqIndex.REQ : IrqIndex.INTX;
    const common = { index, start: 0, action: 'trigger' } as const;
    pick(this.devices, a)?.setIrqs(
      b % 5 === 0 ? { ...common, count: 0, data: 'none' } : { ...common, count: 1, data: 'sinks', sinks: [sink] },
    );
  }

  /**
   * The device writes to memory, if it may. The reference decides by itself which bytes must have
   * changed.
   */
  #dma(a: number, b: number, c: number, d: number): void {
    const device = pick(this.devices, a);
    if (device === undefined || device.closed) return;
    const fn = this.machine.function(device.info.name);
    const fill = ++this.#fill & 0xff;
    const command = device.region(7).read16(4);
    // The device's buffer is filled from memory that it can only read by DMA. The device then
    // writes its buffer, after a read of a page of our choice.
    const registers = device.region(0);
    const toRam = d % 4 !== 0;
    // Mostly a mapped address: random ones seldom hit.
    const slot = (b % 4 === 0 ? undefined : pick(this.mapped, b)?.slot) ?? b % SLOTS;
    const within = c % 3 === 0 ? 0 : c % PAGE;
    const iova = iovaOf(slot) + BigInt(within);
    const count = 1 + (d % (PAGE - 1));
    registers.write64(0x80, toRam ? 0x4_0000n : iova);
    registers.write64(0x88, toRam ? iova : 0x4_0000n);
    registers.write64(0x90, BigInt(count));
    const buffer = this.#bufferOf(device.info.name);
    registers.write64(0x98, toRam ? 3n : 1n);
    this.clock.advance(1);
    const file = this.machine.group(fn.group!.id).file as GroupFile | null;
    const container = file?.container ?? null;
    const allowed = (command & 4) !== 0 && container !== null && container.iommuType !== null;
    const access = toRam ? Access.WRITE : Access.READ;
    const bytes = allowed ? this.#reach(container, slot, within, count, access) : null;
    if (bytes === null) {
      this.seen.stopped++;
      return;
    }
    this.seen.landed++;
    for (let i = 0; i < count; i++) {
      const [memory, offset] = bytes[i]!;
      if (toRam) this.expected[memory]![offset] = buffer[i]!;
      else buffer[i] = this.expected[memory]![offset]!;
    }
    // Make pages differ, so that a byte in the wrong place shows.
    const [memory, offset] = bytes[0]!;
    this.memories[memory]!.windows[0]![offset] = fill;
    this.expected[memory]![offset] = fill;
  }

  readonly #buffers = new Map<string, Uint8Array>();

  /**
   * The expected content of edu's own buffer. Neither a reset nor the last close clears it here,
   * because these devices have no reset.
   */
  #bufferOf(bdf: string): Uint8Array {
    const buffer = this.#buffers.get(bdf) ?? new Uint8Array(PAGE);
    this.#buffers.set(bdf, buffer);
    return buffer;
  }

  /** Where each byte of the transfer is, or null when not all of it may be reached. */
  #reach(container: Container, slot: number, within: number, count: number, access: Access): [number, number][] | null {
    const found: [number, number][] = [];
    for (let i = 0; i < count; i++) {
      const page = slot + Math.floor((within + i) / PAGE);
      const m = this.mapped.find((one) => one.container === container && page >= one.slot && page < one.slot + one.pages);
      if (m === undefined || (m.access & access) === 0) return null;
      found.push([m.memory, (m.memoryPage + page - m.slot) * PAGE + ((within + i) % PAGE)]);
    }
    return found;
  }

  check(): void {
    for (const group of this.machine.groups.values()) {
      const open = this.groups.filter((file) => file.group === group);
      if (open.length > 1) throw new Error(`group ${group.id} has ${open.length} users`);
      if (group.owner !== null && group.file === null) throw new Error(`group ${group.id} is owned without an open file`);
    }
    for (const process of this.processes) {
      const pages = this.mapped.filter((m) => m.process === process).reduce((sum, m) => sum + m.pages, 0);
      if (process.lockedPages !== pages)
        throw new Error(`process ${process.pid} is charged ${process.lockedPages} pages and has mapped ${pages}`);
    }
    for (const [i, memory] of this.memories.entries()) {
      if (Buffer.compare(memory.windows[0]!, this.expected[i]!) !== 0)
        throw new Error(`memory ${i} holds bytes that no device may have written`);
    }
  }

  /**
   * Close everything that is open, in the order that `seed` makes, then check that nothing is left.
   */
  end(seed: number): void {
    this.machine.context.faults.clear();
    const files: { close(): void }[] = [
      ...this.containers,
      ...this.groups,
      ...this.devices,
      ...this.mappings.map((m) => ({ close: () => m[Symbol.dispose]() })),
    ];
    for (let n = seed >>> 0; files.length > 0; n = (Math.imul(n, 1664525) + 1013904223) >>> 0)
      files.splice(n % files.length, 1)[0]!.close();
    this.clock.advance(1000);
    const left: Record<string, number> = {};
    const count = (what: string, n: number) => {
      if (n !== 0) left[what] = n;
    };
    for (const p of this.processes) count(`locked pages of process ${p.pid}`, p.lockedPages);
    for (const [i, m] of this.memories.entries()) count(`references to memory ${i}`, m.references - 1);
    for (const [i, s] of this.sinks.entries()) count(`references to sink ${i}`, s.references - 1);
    for (const group of this.machine.groups.values()) {
      count(`owner of group ${group.id}`, group.owner === null ? 0 : 1);
      count(`file of group ${group.id}`, group.file === null ? 0 : 1);
      count(`domain of group ${group.id}`, group.domain === null ? 0 : 1);
    }
    for (const fn of this.machine.functions.values()) {
      count(`files of ${fn.bdf}`, fn.vfio?.openCount ?? 0);
      count(`bus mastering of ${fn.bdf}`, fn.config.bytes[4]! & 4);
    }
    // The log waits to print how often it suppressed a line.
    this.machine.context.stream[Symbol.dispose]();
    count('timers', this.clock.pendingTimers);
    if (Object.keys(left).length > 0) throw new Error(`left over: ${JSON.stringify(left)}`);
    this.machine[Symbol.dispose]();
  }
}

/** The property: run the steps in a fresh world, close everything, nothing is left. */
export const lifecycle = (maxLength: number) =>
  fc.property(steps(maxLength), fc.nat(), (sequence, seed) => {
    const world = new World();
    for (const step of sequence) world.run(step);
    world.end(seed);
  });
