/**
 * Each step that can fail fails once, in turn. One long story passes all of them, with every kind
 * of file, PF, VFs, tokens, mediators and virtual machines. A failed act has changed nothing, so it
 * works when it is repeated; and at the end no count is left.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import type { InterruptSink, SetIrqs } from '../../src/abi/device.ts';
import { type MediatedDevice, PASS_THROUGH } from '../../src/abi/mediator.ts';
import { DirtyFlags, DmaUnmapFlags, Extension, IrqIndex } from '../../src/abi/vfio.ts';
import { VfioError } from '../../src/base/errno.ts';
import type { DeviceFile } from '../../src/engine/device/device-file.ts';
import type { Container } from '../../src/engine/dma/container.ts';
import { Process } from '../../src/engine/dma/process.ts';
import type { Iommufd } from '../../src/engine/iommufd/iommufd.ts';
import type { CdevFile } from '../../src/engine/machine/cdev-file.ts';
import type { GroupFile } from '../../src/engine/machine/group-file.ts';
import { type MediatorRegistration, Mediators } from '../../src/engine/mediation/mediators.ts';
import { SyntheticVm } from '../../src/engine/vm/synthetic-vm.ts';
import { VfioFileSet } from '../../src/engine/vm/vfio-file-set.ts';
import { VmProvider } from '../../src/engine/vm/vm-provider.ts';
import { FakeEventFd, HeapMemory } from '../../src/sys/fake.ts';
import { testMachine } from '../kit/machines.ts';
import { movable } from '../kit/movable-model.ts';
import { PF, TOKEN, VF0, VF1 } from '../kit/sriov-rig.ts';

const OTHER = '0000:02:00.0';
const PLUGGED = '0000:03:00.0';
const PAGE = 4096n;
const driver = 'vfio-pci';

/** Things that acts make, for later acts. */
class Story {
  readonly mediators = new Mediators();
  readonly handles = new Set<object>();
  readonly rig;
  readonly process = Process.root({ pid: 7, allocate: HeapMemory.allocate });
  readonly heir = Process.root({ pid: 8, allocate: HeapMemory.allocate });
  readonly provider = new VmProvider('kvm');
  ended = 0;
  readonly vm = new SyntheticVm(this.provider, 'vm', () => void this.ended++);
  readonly set = new VfioFileSet(this.vm);
  holds = 0;
  readonly sink = new FakeEventFd();
  readonly vaddr = this.process.addressSpace.anonymous(Number(4n * PAGE));
  readonly memory = HeapMemory.allocate(Number(PAGE));
  registration!: MediatorRegistration;
  container!: Container;
  groups = new Map<string, GroupFile>();
  devices = new Map<string, DeviceFile>();
  iommufd!: Iommufd;
  cdev!: CdevFile;
  going: Promise<unknown>[] = [];

  constructor() {
    const pf = movable({ p2p: true });
    const part = movable();
    const sriov = {
      totalVfs: 2,
      firstOffset: 1,
      stride: 1,
      vf: { declaration: { ...part.declaration, device: 0x4d4e }, create: (host: never) => part.create(host) },
    };
    const port = (at: string, iommu: string, model?: object) => ({
      at,
      kind: 'root-port' as const,
      iommu,
      devices: model === undefined ? [] : [{ at: '00.0', model: model as never, driver: null }],
    });
    this.rig = testMachine(
      {
        iommus: { a: {}, b: {} },
        devices: [
          port('01.0', 'a', { declaration: pf.declaration, create: (host: never) => pf.create(host), sriov }),
          port('02.0', 'b', movable()),
          port('03.0', 'b'),
        ],
      },
      { mediators: this.mediators, params: { enableSriov: true } },
    );
  }

  get machine() {
    return this.rig.machine;
  }

  group(bdf: string): void {
    this.groups.set(bdf, this.machine.openGroup(this.machine.function(bdf).group!.id, this.process));
  }

  open(bdf: string, token = ''): void {
    this.devices.set(bdf, this.groups.get(bdf)!.openDevice(`${bdf}${token}`));
  }

  close(bdf: string): void {
    this.devices.get(bdf)!.close();
  }

  irqs(bdf: string, index: number, sinks: readonly InterruptSink[], start = 0): void {
    const request: SetIrqs = { index, start, count: sinks.length, action: 'trigger', data: 'sinks', sinks };
    expect(this.devices.get(bdf)!.setIrqs(request)).toBe(0);
  }

  quiet(bdf: string, index: number): void {
    this.devices.get(bdf)!.setIrqs({ index, start: 0, count: 0, action: 'trigger', data: 'none' });
  }

  map(page: bigint): void {
    this.container.mapDma({ process: this.process, vaddr: this.vaddr + page * PAGE, iova: page * PAGE, size: PAGE, flags: 3 });
  }
}

const withToken = ` vf_token=${TOKEN}`;
const bitmap = () => ({ pageSize: PAGE, data: new Uint8Array(8) });

/** In this order. A VF whose bind failed stays without driver until a `probe`. */
const acts: Readonly<Record<string, (s: Story) => unknown>> = {
  'bind the PF': (s) => s.machine.bind(PF, driver),
  'bind another device': (s) => s.machine.bind(OTHER, driver),
  'register a mediator': (s) => {
    s.registration = s.mediators.register({
      name: 'a',
      open: (_: MediatedDevice) => {
        const handle = {};
        s.handles.add(handle);
        return { handle, regions: { 0: { read: () => PASS_THROUGH } } };
      },
      release: (handle: object) => {
        if (!s.handles.delete(handle)) throw new Error('released twice, or never opened');
      },
    });
  },
  'open a container': (s) => {
    s.container = s.machine.openContainer(s.process);
  },
  'open the PF’s group': (s) => s.group(PF),
  'list it for the machine': (s) => {
    s.set.add(s.groups.get(PF)!, { [Symbol.dispose]: () => void s.holds-- });
    s.holds++;
  },
  'set its container': (s) => s.groups.get(PF)!.setContainer(s.container),
  'set the IOMMU': (s) => s.container.setIommu(Extension.TYPE1v2_IOMMU),
  // The first act in the domain: a replay that fails half-way has it already.
  'map memory': (s) => s.container.mapMemory({ process: s.process, iova: 0n, memory: s.memory }),
  map: (s) => s.map(1n),
  'map more': (s) => s.map(2n),
  'open the PF': (s) => s.open(PF, withToken),
  'enable VFs': (s) => s.machine.setNumVfs(PF, 2),
  'have the first': (s) => expect(s.machine.probe(VF0)).toBe(driver),
  'have the second': (s) => expect(s.machine.probe(VF1)).toBe(driver),
  'open the VF’s group': (s) => s.group(VF0),
  'list it too': (s) => {
    s.set.add(s.groups.get(VF0)!, { [Symbol.dispose]: () => void s.holds-- });
    s.holds++;
  },
  'set its container as well': (s) => s.groups.get(VF0)!.setContainer(s.container),
  'open the VF': (s) => s.open(VF0, withToken),
  'open the other group': (s) => s.group(OTHER),
  'attach a second IOMMU': (s) => s.groups.get(OTHER)!.setContainer(s.container),
  'open the other': (s) => s.open(OTHER),
  'start dirty tracking': (s) => s.container.dirtyPages(DirtyFlags.START),
  'unmap with a bitmap': (s) =>
    expect(s.container.unmapDma({ iova: 2n * PAGE, size: PAGE, flags: DmaUnmapFlags.GET_DIRTY_BITMAP, dirtyBitmap: bitmap() })).toBe(PAGE),
  'invalidate addresses': (s) => s.container.unmapDma({ iova: PAGE, size: PAGE, flags: DmaUnmapFlags.VADDR }),
  'hand them to another process': (s) => {
    const vaddr = s.heir.addressSpace.anonymous(Number(PAGE));
    s.container.mapDma({ process: s.heir, vaddr, iova: PAGE, size: PAGE, flags: 4 });
  },
  'enable MSI-X': (s) => s.irqs(PF, IrqIndex.MSIX, [s.sink, s.sink]),
  'add a vector': (s) => s.irqs(PF, IrqIndex.MSIX, [s.sink], 4),
  'disable MSI-X': (s) => s.quiet(PF, IrqIndex.MSIX),
  'enable INTx': (s) => s.irqs(PF, IrqIndex.INTX, [s.sink]),
  'unmask by eventfd': (s) =>
    s.devices.get(PF)!.setIrqs({ index: IrqIndex.INTX, start: 0, count: 1, action: 'unmask', data: 'sinks', sources: [s.sink] }),
  'listen for requests': (s) => s.irqs(VF0, IrqIndex.REQ, [s.sink]),
  'reset the PF': (s) => s.devices.get(PF)!.reset(),
  'reset a bus': (s) => s.devices.get(OTHER)!.hotReset([s.groups.get(OTHER)!]),
  'plug in': (s) => s.machine.add({ at: '00.0', model: movable(), driver: null }, '00:03.0'),
  'bind what was plugged in': (s) => s.machine.bind(PLUGGED, driver),
  'unplug it': (s) => s.machine.remove(PLUGGED),
  'leave while in use': (s) => expect(() => s.registration.unregister()).toThrow(expect.objectContaining({ code: 'EBUSY' })),
  'close the other': (s) => s.close(OTHER),
  'take the machine from its group': (s) => s.groups.get(OTHER)!.setVm(null),
  'open it again': (s) => s.open(OTHER),
  'unbind the PF, whose VF is in use': (s) => s.going.push(s.machine.unbind(PF)),
  'close the VF': (s) => s.close(VF0),
  'close the PF': (s) => s.close(PF),
  'wait for the unbind': (s) => Promise.all(s.going),
  'bind it again': (s) => s.machine.bind(PF, driver),
  'close all': (s) => {
    for (const file of [...s.devices.values(), ...s.groups.values()]) file.close();
    s.container.close();
    s.set[Symbol.dispose]();
    s.vm[Symbol.dispose]();
  },
  'open an iommufd': (s) => {
    s.iommufd = s.machine.openIommufd(s.process);
  },
  'open the other by its own node': (s) => {
    s.cdev = s.machine.openDevice(OTHER, s.process);
  },
  'bind it to the iommufd': (s) => s.cdev.bind({ iommufd: () => s.iommufd }),
  'attach it': (s) => s.cdev.attach(s.iommufd.allocIoas()),
  'close both': (s) => {
    s.cdev.close();
    s.iommufd.close();
  },
  'unregister the mediator': (s) => s.registration.unregister(),
  'unload the hypervisor': (s) => s.provider.unload(),
};

/**
 * The whole story, with `step` failing when it is reached for the `skip + 1`th time.
 *
 * @returns what is left of the story, and the steps that it reached
 */
async function tell(step?: string, skip = 0) {
  const story = new Story();
  const { faults } = story.rig;
  if (step !== undefined) faults.failNext(step, 'EAGAIN', skip);
  for (const [name, act] of Object.entries(acts)) {
    try {
      await act(story);
    } catch (error) {
      if (!(error instanceof VfioError && error.message.includes('injected')))
        throw new Error(`${name}: ${String(error)}`, { cause: error });
      await act(story);
    }
  }
  const { machine, clock } = story.rig;
  const left = {
    handles: story.handles.size,
    mediators: story.mediators.names.length,
    pins: story.provider.pins,
    machines: 1 - story.ended,
    holds: story.holds,
    sinks: story.sink.references - 1,
    memory: story.memory.references - 1,
    locked: story.process.lockedBytes + story.heir.lockedBytes,
    timers: clock.pendingTimers,
    functions: [...machine.functions.keys()].filter((bdf) => bdf === VF0 || bdf === VF1 || bdf === PLUGGED).length,
    // The engine assigns the lowest free index: a lost one shows as a gap.
    indexes: Math.max(...[...machine.functions.values()].map((fn) => fn.vfioIndex ?? 0)) - 1,
    held: [...machine.groups.values()].filter((g) => g.owner !== null || g.file !== null || g.domain !== null).length,
    open: [...machine.functions.values()].filter((fn) => (fn.vfio?.openCount ?? 0) > 0 || (fn.vfio?.token?.users ?? 0) > 0).length,
  };
  const reached = new Map(faults.seen);
  machine[Symbol.dispose]();
  return { left, reached };
}

const nothing = Object.fromEntries(
  ['handles', 'mediators', 'pins', 'machines', 'holds', 'sinks', 'memory', 'locked', 'timers', 'functions', 'indexes', 'held', 'open'].map(
    (w) => [w, 0],
  ),
);

it('E-07 the story passes every step of the engine that can fail', async () => {
  const sources = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.ts') && !f.endsWith('.test.ts'));
  const named = sources.flatMap((f) => [...readFileSync(`src/${f}`, 'utf8').matchAll(/faults\.step\('([^']+)'\)/g)].map((m) => m[1]!));
  const { left, reached } = await tell();
  expect(left).toEqual(nothing);
  expect([...reached.keys()].sort()).toEqual([...new Set(named)].sort());
});

it('E-07 S0-15 S3-23 S4-03 each step fails once at each place: the repeated act works, and in the end nothing is left', async () => {
  const { reached } = await tell();
  for (const [step, count] of reached) {
    for (let skip = 0; skip < count; skip++) {
      const { left } = await tell(step, skip).catch((error: Error) => {
        throw new Error(`${step} ${skip}: ${error.message}`, { cause: error });
      });
      expect([step, skip, left]).toEqual([step, skip, nothing]);
    }
  }
});
