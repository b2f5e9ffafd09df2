/**
 * Random users of shared parts of functions: a PF's VFs and tokens, mediators, virtual machines,
 * migration. They enable and disable VFs, bind and unbind, register and remove mediators and
 * hypervisors, set machines on groups, open with the token or without, and move devices from state
 * to state. Any step of the engine may be made to fail.
 *
 * After every step: counts match the open files. After everything is closed: every count is 0, and
 * nothing was released twice.
 */

import fc from 'fast-check';
import type { MigrationStream } from '../../src/abi/device.ts';
import type { DeviceHost } from '../../src/abi/device-host.ts';
import { type MediatedDevice, PASS_THROUGH } from '../../src/abi/mediator.ts';
import { Extension, Feature } from '../../src/abi/vfio.ts';
import { FeatureMigState } from '../../src/abi/vfio-structs.ts';
import { ManualClock } from '../../src/base/clock.ts';
import { VfioError } from '../../src/base/errno.ts';
import { featureBytes } from '../../src/device/feature-bytes.ts';
import type { DeviceFile } from '../../src/engine/device/device-file.ts';
import type { VfioPciDevice } from '../../src/engine/device/pci-device.ts';
import { Process } from '../../src/engine/dma/process.ts';
import type { GroupFile } from '../../src/engine/machine/group-file.ts';
import { Machine } from '../../src/engine/machine/machine.ts';
import { type MediatorRegistration, Mediators } from '../../src/engine/mediation/mediators.ts';
import { SyntheticVm } from '../../src/engine/vm/synthetic-vm.ts';
import { VfioFileSet } from '../../src/engine/vm/vfio-file-set.ts';
import { VmProvider } from '../../src/engine/vm/vm-provider.ts';
import { FakeEventFd, HeapMemory } from '../../src/sys/fake.ts';
import { type MovableModel, movable } from '../kit/movable-model.ts';
import { type Step, steps } from './lifecycle.ts';

const PF = '0000:00:04.0';
const TOKENS = ['83d8f4f2-509f-382f-3c1e-e6bfe0fa1001', '83d8f4f2-509f-382f-3c1e-e6bfe0fa1002'] as const;

const pick = <T>(from: readonly T[], n: number): T | undefined => (from.length === 0 ? undefined : from[n % from.length]);

/** One mediator, which counts its opens and its closes. */
class Counting {
  readonly handles = new Set<object>();
  opened = 0;
  throwsAtRelease = false;
  registration: MediatorRegistration | null = null;
}

export class SharedWorld {
  readonly clock = new ManualClock();
  readonly mediators = new Mediators();
  readonly machine: Machine;
  readonly vendors = [new Counting(), new Counting()];
  readonly providers = [new VmProvider('kvm'), new VmProvider('vac')];
  readonly process = Process.user({ pid: 100 });
  vms: SyntheticVm[] = [];
  sets: { readonly vm: SyntheticVm; readonly set: VfioFileSet }[] = [];
  groups: GroupFile[] = [];
  devices: DeviceFile[] = [];
  streams: MigrationStream[] = [];
  readonly sink = new FakeEventFd();
  /** Holds of file sets that are not returned yet. */
  holds = 0;
  ended = 0;
  made = 0;
  readonly seen = { opened: 0, mediated: 0, withVm: 0, withToken: 0, moved: 0, vfs: 0, failed: 0, refused: 0 };
  readonly #steps: string[] = [];
  readonly #waiting: Promise<unknown>[] = [];

  constructor() {
    const { declaration, create } = movable({ bulk: true, p2p: true });
    const part = movable({ p2p: true });
    const model = {
      declaration,
      create: (host: DeviceHost) => create(host),
      sriov: {
        totalVfs: 3,
        firstOffset: 1,
        stride: 1,
        vf: { declaration: { ...part.declaration, device: 0x4d4e }, create: (host: DeviceHost) => part.create(host) },
      },
    };
    this.machine = new Machine(
      {
        devices: [
          { at: '04.0', model, driver: 'vfio-pci' },
          { at: '05.0', model: movable({ p2p: true }), driver: 'vfio-pci' },
        ],
      },
      { allocate: HeapMemory.allocate, clock: this.clock, mediators: this.mediators, params: { enableSriov: true }, nodeOwner: 1000 },
    );
  }

  run([op, a, b, c, d]: Step): void {
    try {
      this.#actions[op % this.#actions.length]!(a, b, c, d);
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      this.seen[error.message.includes('injected') ? 'failed' : 'refused']++;
    }
    for (const name of this.machine.context.faults.seen.keys()) if (!this.#steps.includes(name)) this.#steps.push(name);
    this.check();
  }

  readonly #actions: readonly ((a: number, b: number, c: number, d: number) => void)[] = [
    (a) => void this.#waiting.push(this.machine.setNumVfs(PF, a % 4)),
    (a) => void this.#waiting.push(this.machine.setNumVfs(PF, 1 + (a % 3))),
    (a) => void this.#waiting.push(this.machine.unbind(pick([...this.machine.functions.keys()], a)!)),
    (a) => this.machine.bind(pick([...this.machine.functions.keys()], a)!, 'vfio-pci'),
    (a) => this.machine.bind(pick([...this.machine.functions.keys()], a)!, 'vfio-pci'),
    (a, b) => this.#register(this.vendors[a % 2]!, a % 2, b),
    (a) => this.vendors[a % 2]!.registration?.unregister(),
    (a) => void this.#newVm(a),
    (a) => {
      const [vm] = this.vms.splice(a % Math.max(1, this.vms.length), 1);
      vm?.[Symbol.dispose]();
    },
    (a) => {
      const provider = this.providers[a % 2]!;
      if (!provider.unloaded && a % 20 === 0) {
        provider.unload();
        if (provider.pins > 0) throw new Error('a provider in use was unloaded');
      }
    },
    (a, b) => pick(this.groups, a)?.setVm(b % 4 === 0 ? null : (pick(this.vms, b) ?? null)),
    (a) => {
      const vm = pick(this.vms, a);
      if (vm !== undefined) this.sets.push({ vm, set: new VfioFileSet(vm) });
    },
    (a, b) => {
      const set = pick(this.sets, a)?.set;
      const file = pick(this.groups, b);
      if (set === undefined || file === undefined) return;
      set.add(file, { [Symbol.dispose]: () => void this.holds-- });
      this.holds++;
    },
    (a, b) => {
      const file = pick(this.groups, b);
      if (file !== undefined) pick(this.sets, a)?.set.delete(file);
    },
    (a) => this.sets.splice(a % Math.max(1, this.sets.length), 1)[0]?.set[Symbol.dispose](),
    (a) => this.#openGroup(a),
    (a) => this.#openGroup(a),
    (a) => this.#openGroup(a),
    (a, b, c) => this.#openDevice(a, b, c),
    (a) => this.#ready(a),
    (a, b, c) => this.#openDevice(a, b, c),
    (a, b, c) => this.#openDevice(a, b, c),
    (a, b, c) => this.#openDevice(a, b, c),
    (a) => this.#close(this.groups, a),
    (a) => this.#close(this.devices, a),
    (a) => this.#close(this.devices, a),
    (a) => pick(this.devices, a)?.reset(),
    (a, b) => this.#go(a, b),
    (a, b) => this.#go(a, b),
    (a, b) => this.#go(a, b),
    (a, b) => this.#stream(a, b),
    (a, b) => this.#failModel(a, b),
    (a) => void pick(this.devices, a)?.setIrqs({ index: 4, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [this.sink] }),
    (a, b) => {
      const token = Uint8Array.from({ length: 16 }, (_, i) =>
        Number.parseInt(TOKENS[b % 2]!.replaceAll('-', '').slice(2 * i, 2 * i + 2), 16),
      );
      pick(this.devices, a)?.feature({ feature: Feature.PCI_VF_TOKEN, set: true, data: token });
    },
    (a, b) => {
      const step = pick(this.#steps, a);
      if (step !== undefined) this.machine.context.faults.failNext(step, b % 2 === 0 ? 'ENOMEM' : 'EIO', b % 3);
    },
  ];

  #newVm(a: number): SyntheticVm {
    const vm = new SyntheticVm(this.providers[a % 2]!, `vm ${++this.made}`, () => void this.ended++);
    this.vms.push(vm);
    return vm;
  }

  #register(vendor: Counting, name: number, b: number): void {
    vendor.throwsAtRelease = b % 3 === 0;
    vendor.registration = this.mediators.register({
      name: `vendor ${name}`,
      open: (device: MediatedDevice) => {
        if ((device.device + b) % 3 === 0) return null;
        if (b % 7 === 0) throw new Error('a bug');
        const handle = {};
        vendor.handles.add(handle);
        vendor.opened++;
        this.seen.mediated++;
        return { handle, regions: { 0: { read: () => PASS_THROUGH } } };
      },
      release: (handle: object) => {
        if (!vendor.handles.delete(handle)) throw new Error('released twice, or never opened');
        if (vendor.throwsAtRelease) throw new Error('a bug');
      },
    });
  }

  /** With a container that has an IOMMU. */
  #openGroup(a: number): void {
    const fn = pick([...this.machine.functions.values()], a);
    if (fn?.group == null) return;
    const group = this.machine.openGroup(fn.group.id, this.process);
    this.groups.push(group);
    if (a % 3 !== 0) group.setVm(pick(this.vms, a) ?? this.#newVm(a));
    const container = this.machine.openContainer(this.process);
    try {
      group.setContainer(container);
      container.setIommu(Extension.TYPE1v2_IOMMU);
    } finally {
      container.close();
    }
  }

  /** A VF that is open with its token, in one step: random single steps seldom get there. */
  #ready(a: number): void {
    const pf = this.machine.function(PF);
    if (pf.sriov!.numVfs === 0) this.#waiting.push(this.machine.setNumVfs(PF, 3));
    if (pf.vfio?.token?.users === 0) pf.vfio.matches(`${PF} vf_token=${TOKENS[0]}`);
    const vf = pick(pf.vfs, a);
    if (vf === undefined) return;
    if (vf.group!.file === null) this.#openGroup([...this.machine.functions.values()].indexOf(vf));
    this.devices.push((vf.group!.file as GroupFile).openDevice(`${vf.bdf} vf_token=${TOKENS[0]}`));
    this.seen.opened++;
    this.seen.withToken++;
  }

  #openDevice(a: number, b: number, c: number): void {
    const group = pick(this.groups, a);
    const fn = group === undefined ? undefined : pick(group.group.functions, b);
    if (group === undefined || fn === undefined) return;
    const token = c % 4 === 0 ? '' : ` vf_token=${TOKENS[c % 5 === 0 ? 1 : 0]}`;
    this.devices.push(group.openDevice(`${fn.bdf}${token}`));
    this.seen.opened++;
    if (fn.physical !== null) this.seen.withToken++;
    if (fn.vfio!.vm !== null) this.seen.withVm++;
  }

  #go(a: number, b: number): void {
    const file = pick(this.devices, a);
    if (file === undefined) return;
    const data = new Uint8Array(FeatureMigState.structSize);
    FeatureMigState.device_state.set(new DataView(data.buffer), 0, b % 9);
    featureBytes(file, { feature: Feature.MIG_DEVICE_STATE, set: true, data, onDataStream: (stream) => void this.streams.push(stream) });
    this.seen.moved++;
  }

  /** Read one stream, and write its data to another. */
  #stream(a: number, b: number): void {
    const [from, to] = [pick(this.streams, a), pick(this.streams, b)];
    if (from === undefined || to === undefined) return;
    const bytes = new Uint8Array(1 + (b % 100_000));
    const got = from.read(bytes);
    if (from !== to) to.write(bytes.subarray(0, got));
  }

  #failModel(a: number, b: number): void {
    const fn = pick([...this.machine.functions.values()], a);
    const call = pick(['stop', 'start', 'save', 'load 3', 'enter', 'leave'], b)!;
    (fn?.model as MovableModel | null | undefined)?.failures.set(
      call,
      b % 2 === 0 ? new VfioError('EIO', 'the model') : new Error('a bug'),
    );
  }

  #close<T extends { close(): void }>(files: T[], n: number): void {
    const [file] = files.splice(n % Math.max(1, files.length), 1);
    file?.close();
  }

  check(): void {
    const same = (what: string, counted: number, expected: number) => {
      if (counted !== expected) throw new Error(`${what}: ${counted} are counted, ${expected} are there`);
    };
    const open = new Set<VfioPciDevice>(
      this.devices.filter((file) => !file.closed && file.device.gone === null).map((file) => file.device),
    );
    for (const [i, vendor] of this.vendors.entries()) {
      const mine = [...open].filter((device) => device.mediation?.name === `vendor ${i}`).length;
      same(`handles of vendor ${i}`, vendor.handles.size, mine);
      if (vendor.registration !== null) same(`users of vendor ${i}`, vendor.registration.users, mine);
    }
    for (const [i, provider] of this.providers.entries()) {
      same(`pins of provider ${i}`, provider.pins, [...open].filter((device) => device.vm?.provider === provider).length);
    }
    for (const vm of this.vms) same(vm.name, vm.references, 1 + [...open].filter((device) => device.vm === vm).length);
    same(
      'holds',
      this.holds,
      this.sets.reduce((sum, { set }) => sum + set.size, 0),
    );
    const pf = this.machine.function(PF);
    const vfs = pf.vfs;
    this.seen.vfs = Math.max(this.seen.vfs, vfs.length);
    if (pf.vfio !== null)
      same('users of the token', pf.vfio.token!.users, vfs.filter((vf) => vf.vfio !== null && open.has(vf.vfio)).length);
    if (vfs.length > pf.sriov!.numVfs) throw new Error('more VFs than are enabled');
  }

  /**
   * Close everything that is open, in the order that `seed` makes, then check that nothing is left.
   */
  async end(seed: number): Promise<void> {
    this.machine.context.faults.clear();
    const files: (() => void)[] = [
      ...[...this.groups, ...this.devices, ...this.streams].map((file) => () => file.close()),
      ...this.sets.map(
        ({ set }) =>
          () =>
            set[Symbol.dispose](),
      ),
      ...this.vms.map((vm) => () => vm[Symbol.dispose]()),
    ];
    for (let n = seed >>> 0; files.length > 0; n = (Math.imul(n, 1664525) + 1013904223) >>> 0) files.splice(n % files.length, 1)[0]!();
    await Promise.all(this.#waiting);
    await this.machine.setNumVfs(PF, 0);
    const left: Record<string, number> = {};
    const count = (what: string, n: number) => {
      if (n !== 0) left[what] = n;
    };
    for (const [i, vendor] of this.vendors.entries()) {
      count(`handles of vendor ${i}`, vendor.handles.size);
      vendor.registration?.unregister();
    }
    for (const provider of this.providers) count(`pins of ${provider.name}`, provider.pins);
    count('machines', this.made - this.ended);
    count('holds', this.holds);
    count('references to the sink', this.sink.references - 1);
    // The log waits to print how often it suppressed a line.
    this.machine.context.stream[Symbol.dispose]();
    count('timers', this.clock.pendingTimers);
    count('functions', this.machine.functions.size - 2);
    for (const group of this.machine.groups.values()) {
      count(`owner of group ${group.id}`, group.owner === null ? 0 : 1);
      count(`file of group ${group.id}`, group.file === null ? 0 : 1);
      count(`domain of group ${group.id}`, group.domain === null ? 0 : 1);
    }
    for (const fn of this.machine.functions.values()) {
      count(`files of ${fn.bdf}`, fn.vfio?.openCount ?? 0);
      count(`token users of ${fn.bdf}`, fn.vfio?.token?.users ?? 0);
      count(`${fn.bdf} stands still`, fn.host.dma.stopped ? 1 : 0);
      count(`${fn.bdf} is unbinding`, fn.unbinding === null ? 0 : 1);
    }
    if (Object.keys(left).length > 0) throw new Error(`left over: ${JSON.stringify(left)}`);
    this.machine[Symbol.dispose]();
  }
}

/** The property: run the steps in a fresh world, close everything, nothing is left. */
export const sharing = (maxLength: number) =>
  fc.asyncProperty(steps(maxLength), fc.nat(), async (sequence, seed) => {
    const world = new SharedWorld();
    for (const step of sequence) world.run(step);
    await world.end(seed);
  });
