/**
 * Mediators and hypervisors that break their contract: they throw, answer nonsense, and call the
 * engine while it asks them.
 */
import { describe, expect, it } from 'vitest';
import { alone, testMachine } from '../../../tests/kit/machines.ts';
import type { IrqInfo, SetIrqs } from '../../abi/device.ts';
import { type Accepted, type MediatedDevice, type Mediator, PASS_THROUGH } from '../../abi/mediator.ts';
import { Feature, IrqIndex, RegionFlags, RegionIndex } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { featureBytes } from '../../device/feature-bytes.ts';
import { FakeEventFd, HeapMemory } from '../../sys/fake.ts';
import type { DeviceFile } from '../device/device-file.ts';
import type { GroupFile } from '../machine/group-file.ts';
import type { Machine } from '../machine/machine.ts';
import { SyntheticVm } from '../vm/synthetic-vm.ts';
import { VmProvider } from '../vm/vm-provider.ts';
import { Mediators } from './mediators.ts';

const BDF = '0000:01:00.0';
const driver = 'vfio-pci';

/** A machine with one mediator, whose hooks may look at all of it. */
function setup(make: (rig: Rig) => Partial<Mediator> & { accepted?: Accepted<unknown> }) {
  const mediators = new Mediators();
  const test = testMachine({ devices: [alone('01.0', { at: '00.0', model: 'probe', driver })] }, { mediators });
  const trace: string[] = [];
  const vm = new SyntheticVm(new VmProvider('kvm'), 'vm');
  const rig: Rig = {
    ...test,
    trace,
    vm,
    mediators,
    fn: test.machine.function(BDF),
    group: null as never,
    device: null as never,
    code: (act) => {
      try {
        act();
        return 'ok';
      } catch (error) {
        if (error instanceof VfioError) return error.code;
        throw error;
      }
    },
  };
  const { accepted = { handle: 0 }, ...own } = make(rig);
  const registration = mediators.register({
    name: 'a',
    open: () => {
      trace.push('open');
      return accepted;
    },
    release: () => void trace.push('release'),
    ...own,
  });
  const group = test.machine.openGroup(rig.fn.group!.id);
  const container = test.machine.openContainer();
  group.setContainer(container);
  container.setIommu(3);
  group.setVm(vm);
  rig.group = group;
  return Object.assign(rig, { registration, container });
}

interface Rig {
  readonly machine: Machine;
  readonly trace: string[];
  readonly lines: readonly string[];
  readonly vm: SyntheticVm;
  readonly mediators: Mediators;
  readonly fn: ReturnType<Machine['function']>;
  group: GroupFile;
  device: DeviceFile;
  code(act: () => unknown): string;
}

/** No reference is left. */
function expectNothingLeft({ fn, vm, registration, trace }: ReturnType<typeof setup>): void {
  const device = fn.vfio;
  expect({
    files: device?.openCount ?? 0,
    mediation: device?.mediation ?? null,
    vm: vm.references,
    pins: vm.provider.pins,
    users: registration.users,
    balance: trace.filter((t) => t === 'open').length - trace.filter((t) => t === 'release').length,
  }).toEqual({ files: 0, mediation: null, vm: 1, pins: 0, users: 0, balance: 0 });
}

describe('a mediator that comes back while it is asked', () => {
  it('S0-14 it cannot leave from within its own open, nor does one that has left meanwhile get the device', () => {
    const codes: string[] = [];
    const rig = setup((r) => ({
      open: () => {
        r.trace.push('open');
        codes.push(r.code(() => rig.registration.unregister()));
        later.unregister();
        return null;
      },
      release: () => {},
    }));
    const later = rig.mediators.register({
      name: 'b',
      open: () => {
        codes.push('asked after it left');
        return { handle: 0 };
      },
      release: () => {},
    });
    const file = rig.group.openDevice(BDF);
    expect([codes, rig.fn.vfio!.mediation, later.users]).toEqual([['EBUSY'], null, 0]);
    file.close();
    rig.registration.unregister();
    expect(rig.mediators.names).toEqual([]);
  });

  it('S0-15 opening the device again from within its open is EBUSY, and the open goes on', () => {
    const codes: string[] = [];
    const rig = setup((r) => ({
      open: () => {
        r.trace.push('open');
        if (codes.length < 3) codes.push(r.code(() => r.group.openDevice(BDF)));
        return { handle: 0 };
      },
    }));
    const file = rig.group.openDevice(BDF);
    expect([codes, rig.trace, rig.fn.vfio!.openCount]).toEqual([['EBUSY'], ['open'], 1]);
    file.close();
    expectNothingLeft(rig);
  });

  it('S0-15 a group file that is closed within an open stays until that open is over', () => {
    const rig = setup((r) => ({
      open: () => {
        r.trace.push('open');
        r.group.close();
        r.trace.push(r.code(() => r.machine.openGroup(r.fn.group!.id)));
        return { handle: 0 };
      },
    }));
    const file = rig.group.openDevice(BDF);
    expect([rig.trace, rig.fn.group!.owner === null]).toEqual([['open', 'EBUSY'], false]);
    file.close();
    expect([rig.fn.group!.file, rig.fn.group!.owner, rig.fn.group!.domain]).toEqual([null, null, null]);
    expectNothingLeft(rig);
  });

  it('S0-15 a group file that is closed within an open that fails is gone with it', () => {
    const rig = setup((r) => ({
      open: () => {
        r.trace.push('open');
        r.group.close();
        r.machine.context.faults.failNext('device.open');
        return { handle: 0 };
      },
    }));
    expect(rig.code(() => rig.group.openDevice(BDF))).toBe('EIO');
    expect([rig.fn.group!.file, rig.fn.group!.owner, rig.fn.group!.domain]).toEqual([null, null, null]);
    expectNothingLeft(rig);
  });

  it('S0-15 the device is unbound within its open: the open is refused, and the unbind ends', async () => {
    let gone: Promise<void> | null = null;
    const rig = setup((r) => ({
      open: () => {
        r.trace.push('open');
        gone = r.machine.unbind(BDF);
        return { handle: 0 };
      },
    }));
    expect(rig.code(() => rig.group.openDevice(BDF))).toBe('ENODEV');
    await gone!;
    expect([rig.fn.driver, rig.fn.vfio, rig.trace]).toEqual([null, null, ['open', 'release']]);
    expectNothingLeft(rig);
  });

  it('S0-15 the device is taken away within its open: refused, released once', () => {
    const rig = setup((r) => ({
      open: () => {
        r.trace.push('open');
        r.fn.vfio!.revoke('a test');
        return { handle: 0 };
      },
    }));
    expect(rig.code(() => rig.group.openDevice(BDF))).toBe('ENODEV');
    expect(rig.trace).toEqual(['open', 'release']);
    expectNothingLeft(rig);
  });

  it('S0-15 the process ends, or the machine is switched off, within an open', () => {
    for (const end of ['exit', 'off'] as const) {
      const rig = setup((r) => ({
        open: () => {
          r.trace.push('open');
          if (end === 'exit') r.machine.process.exit();
          else r.machine[Symbol.dispose]();
          return { handle: 0 };
        },
      }));
      expect([end, rig.code(() => rig.group.openDevice(BDF))]).toEqual([end, end === 'exit' ? 'ESRCH' : 'ENODEV']);
      expect([end, rig.trace, rig.fn.group!.file]).toEqual([end, ['open', 'release'], null]);
      expectNothingLeft(rig);
    }
  });

  it('S0-15 a hook that closes the file that it is called for: nothing more is done through it', () => {
    const sink = new FakeEventFd();
    const rig = setup((r) => {
      const close = (): typeof PASS_THROUGH => {
        r.device.close();
        return PASS_THROUGH;
      };
      return {
        accepted: {
          handle: 0,
          regions: { 0: { read: close, write: close, map: close } },
          irqs: { [IrqIndex.MSI]: { set: close } },
          feature: close,
        },
      };
    });
    const msi: SetIrqs = { index: IrqIndex.MSI, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] };
    const acts: Record<string, (device: DeviceFile) => unknown> = {
      read: (device) => device.region(0).read32(0),
      write: (device) => device.region(0).write32(4, 1),
      map: (device) => device.region(0).map(),
      setIrqs: (device) => device.setIrqs(msi),
      feature: (device) => device.lowPower.enter(),
    };
    for (const [name, act] of Object.entries(acts)) {
      rig.device = rig.group.openDevice(BDF);
      rig.device.region(RegionIndex.CONFIG).write16(4, 2);
      expect([name, rig.code(() => act(rig.device))]).toEqual([name, 'ENODEV']);
      expect([name, sink.references, rig.fn.vfio!.power.engaged]).toEqual([name, 1, false]);
      expectNothingLeft(rig);
    }
  });

  it('S0-10 a function that a hook kept from its call is refused when the file is closed', () => {
    const sink = new FakeEventFd();
    let kept: ((request: SetIrqs) => number) | null = null;
    const rig = setup(() => ({
      accepted: {
        handle: 0,
        irqs: {
          [IrqIndex.MSI]: {
            set: (_, request, direct) => {
              kept = direct;
              return direct(request);
            },
          },
        },
      },
    }));
    const msi: SetIrqs = { index: IrqIndex.MSI, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] };
    rig.device = rig.group.openDevice(BDF);
    rig.device.setIrqs(msi);
    rig.device.close();
    const next = rig.group.openDevice(BDF);
    expect(rig.code(() => kept!(msi))).toBe('ENODEV');
    next.close();
    expect(sink.references).toBe(1);
  });

  it('S0-18 a release that opens the device anew gets one that is whole', () => {
    let again: DeviceFile | null = null;
    const rig = setup((r) => ({
      release: () => {
        r.trace.push('release');
        again ??= r.group.openDevice(BDF);
      },
    }));
    rig.group.openDevice(BDF).close();
    expect([rig.trace, rig.fn.vfio!.openCount, rig.vm.references]).toEqual([['open', 'release', 'open'], 1, 2]);
    again!.region(RegionIndex.CONFIG).write16(4, 2);
    expect(again!.region(0).read32(0)).toBe(0x600df00d);
    again!.close();
    expectNothingLeft(rig);
  });

  it('S0-18 a release that unbinds the device, or closes its group', async () => {
    let gone: Promise<void> | null = null;
    const rig = setup((r) => ({
      release: () => {
        r.trace.push('release');
        r.group.close();
        gone = r.machine.unbind(BDF);
      },
    }));
    rig.group.openDevice(BDF).close();
    await gone!;
    expect([rig.fn.driver, rig.fn.group!.file, rig.fn.group!.owner]).toEqual([null, null, null]);
    expectNothingLeft(rig);
  });

  it('S0-18 a mediator’s view has no effect after the last close, and does not reach the next user’s memory', () => {
    let shown: MediatedDevice | null = null;
    const rig = setup((r) => ({
      open: (device: MediatedDevice) => {
        r.trace.push('open');
        shown ??= device;
        return { handle: 0 };
      },
    }));
    rig.group.openDevice(BDF).close();
    const file = rig.group.openDevice(BDF);
    file.region(RegionIndex.CONFIG).write16(4, 2);
    const memory = HeapMemory.allocate(4096);
    file.dma.map({ iova: 0x1000n, memory });
    expect([rig.code(() => shown!.dmaWrite(0x1000n, Uint8Array.of(7))), memory.windows[0]![0]]).toEqual(['ENODEV', 0]);
    expect(rig.code(() => shown!.dmaRead(0x1000n, new Uint8Array(1)))).toBe('ENODEV');
    shown!.write(0, 4, 4, 5);
    shown!.write64(0, 4, 5n);
    expect([file.region(0).read32(4), shown!.read(0, 0, 4), shown!.read64(0, 0)]).toEqual([0, 0xffff_ffff, 2n ** 64n - 1n]);
    file.close();
  });
});

describe('a mediator that answers nonsense', () => {
  it('S0-15 an acceptance that is none, or that throws: not accepted, nothing counted, released if the mediator had accepted', () => {
    const accepts: unknown[] = [
      undefined,
      7,
      'yes',
      {
        handle: 0,
        get regions(): never {
          throw new Error('oops');
        },
      },
      { handle: 0, regions: { 0: { read: 7 } } },
      { handle: 0, irqs: { 0: { set: 'x' } } },
      { handle: 0, regions: 5, irqs: { 0: 7 } },
      { handle: 0, feature: 1 },
    ];
    for (const [i, accepted] of accepts.entries()) {
      const rig = setup((r) => ({
        open: () => accepted as never,
        release: () => void r.trace.push('release'),
      }));
      const file = rig.group.openDevice(BDF);
      expect([i, rig.fn.vfio!.mediation, rig.registration.users]).toEqual([i, null, 0]);
      file.region(RegionIndex.CONFIG).write16(4, 2);
      expect(file.region(0).read32(0)).toBe(0x600df00d);
      file.close();
      expect([i, rig.trace]).toEqual([i, i < 3 ? [] : ['release']]);
      expect(rig.lines.some((line) => line.includes("mediator 'a'"))).toBe(true);
      rig.registration.unregister();
    }
  });

  it('S0-08 hooks that answer what is no answer are EIO, every one of them', () => {
    for (const nonsense of [undefined, null, 'x', Number.NaN, -1, 2 ** 40, {}]) {
      const hook = () => nonsense as never;
      const rig = setup(() => ({
        accepted: {
          handle: 0,
          regions: { 0: { read: hook, write: hook, map: hook }, 1: { info: hook } },
          irqs: { 0: { info: hook, set: hook } },
          feature: hook,
        },
      }));
      const file = rig.group.openDevice(BDF);
      file.region(RegionIndex.CONFIG).write16(4, 2);
      const bar = file.region(0);
      const mask: SetIrqs = { index: 0, start: 0, count: 1, action: 'mask', data: 'none' };
      expect([
        String(nonsense),
        rig.code(() => file.region(1)),
        rig.code(() => bar.read32(0)),
        rig.code(() => bar.write32(0, 1)),
        rig.code(() => bar.map()),
        rig.code(() => file.irq(0)),
        // SET_IRQS may report as many vectors as there are.
        nonsense === 2 ** 40 ? 'EIO' : rig.code(() => file.setIrqs(mask)),
        rig.code(() => featureBytes(file, { feature: Feature.MIGRATION, get: true, data: new Uint8Array(8) })),
      ]).toEqual([String(nonsense), 'EIO', 'EIO', 'EIO', 'EIO', 'EIO', 'EIO', 'EIO']);
      file.close();
      expectNothingLeft(rig);
    }
  });

  it('S0-08 a mediator that throws everywhere: EIO to its user, each time, and everything ends as it should', () => {
    const oops = (): never => {
      throw new Error('oops');
    };
    const migration = {
      version: 1,
      get stateSize(): never {
        return oops();
      },
      stop: oops,
      start: oops,
      save: oops,
      load: oops,
    };
    const rig = setup((r) => ({
      accepted: {
        handle: 0,
        regions: { 0: { read: oops, write: oops, map: oops }, 1: { info: oops } },
        irqs: { 0: { info: oops, set: oops } },
        migration,
      },
      release: () => {
        r.trace.push('release');
        oops();
      },
    }));
    const file = rig.group.openDevice(BDF);
    const state = new Uint8Array(8);
    state[0] = 1;
    const get = (feature: number) => featureBytes(file, { feature, get: true, data: new Uint8Array(8) });
    expect([
      rig.code(() => file.region(1)),
      rig.code(() => file.region(0).read32(0)),
      rig.code(() => file.region(0).write32(0, 1)),
      rig.code(() => file.region(0).map()),
      rig.code(() => file.irq(0)),
      rig.code(() => file.setIrqs({ index: 0, start: 0, count: 1, action: 'mask', data: 'none' })),
      rig.code(() => get(Feature.MIG_DATA_SIZE)),
      rig.code(() => featureBytes(file, { feature: Feature.MIG_DEVICE_STATE, set: true, data: state })),
    ]).toEqual(Array(8).fill('EIO'));
    file.reset();
    file.close();
    expectNothingLeft(rig);
    expect(rig.lines.length).toBeLessThan(30);
  });

  it('S0-08 information of an interrupt index keeps its index', () => {
    const rig = setup(() => ({ accepted: { handle: 0, irqs: { 1: { info: (_, info): IrqInfo => ({ ...info, index: 2 }) } } } }));
    const file = rig.group.openDevice(BDF);
    expect(rig.code(() => file.irq(1))).toBe('EIO');
    file.close();
  });
});

describe('what goes past a mediator', () => {
  const noted = (trace: string[]): Accepted<unknown> => ({
    handle: 0,
    regions: {
      0: {
        info: (_, info) => ({ ...info, flags: info.flags & ~RegionFlags.MMAP }),
        write: (_, offset) => {
          trace.push(`write ${offset}`);
          return PASS_THROUGH;
        },
      },
    },
  });

  it('B.8 IOEVENTFD on a region whose writes a mediator sees is EINVAL, as over the MSI-X table', () => {
    const rig = setup(({ trace }) => ({ accepted: noted(trace) }));
    const file = rig.group.openDevice(BDF);
    const source = new FakeEventFd();
    expect(rig.code(() => file.ioeventfd({ region: 0, offset: 4, size: 4, data: 1n, source }))).toBe('EINVAL');
    file.close();
    rig.registration.unregister();
    const plain = rig.group.openDevice(BDF);
    plain.ioeventfd({ region: 0, offset: 4, size: 4, data: 1n, source });
    plain.close();
  });

  it('S3-05 FEATURE PCI_VF_TOKEN is no mediator’s: it never sees a token', () => {
    const asked: number[] = [];
    const rig = setup(() => ({
      accepted: {
        handle: 0,
        feature: (_, request) => {
          asked.push(request.feature);
          return PASS_THROUGH;
        },
      },
    }));
    const file = rig.group.openDevice(BDF);
    expect(rig.code(() => featureBytes(file, { feature: Feature.PCI_VF_TOKEN, set: true, data: new Uint8Array(16) }))).toBe('ENOTTY');
    expect(rig.code(() => file.lowPower.exit())).toBe('ok');
    expect(asked).toEqual([Feature.LOW_POWER_EXIT]);
    file.close();
  });
});

describe('a hypervisor that does what it should not', () => {
  it('S4-04 one whose get throws gives no reference: the device opens without', () => {
    const rig = setup(() => ({}));
    const provider = new VmProvider('broken');
    rig.group.setVm({
      provider,
      name: 'broken vm',
      tryGet: () => {
        throw new Error('oops');
      },
      put: () => {
        throw new Error('oops');
      },
    });
    const file = rig.group.openDevice(BDF);
    expect([rig.fn.vfio!.vm, provider.pins]).toEqual([null, 0]);
    expect(rig.lines.some((line) => line.includes('broken vm'))).toBe(true);
    file.close();
    expectNothingLeft(rig);
  });

  it('S4-05 one that takes itself from the group, or closes it, while it is asked', () => {
    for (const act of ['unset', 'close'] as const) {
      const rig = setup(() => ({}));
      const { vm, group } = rig;
      group.setVm({
        provider: vm.provider,
        name: 'reentrant',
        tryGet: () => {
          if (act === 'unset') group.setVm(null);
          else group.close();
          return vm.tryGet();
        },
        put: () => vm.put(),
      });
      const file = group.openDevice(BDF);
      expect([act, vm.references, rig.fn.vfio!.vm?.name, rig.fn.group!.owner === null]).toEqual([act, 2, 'reentrant', false]);
      file.close();
      expectNothingLeft(rig);
    }
  });

  it('S4-03 a put that opens the device anew, or throws, keeps nothing open', () => {
    const rig = setup(() => ({}));
    const { vm, group } = rig;
    let again: DeviceFile | null = null;
    group.setVm({
      provider: vm.provider,
      name: 'reentrant',
      tryGet: () => vm.tryGet(),
      put: () => {
        vm.put();
        if (again !== null) throw new Error('oops');
        again = group.openDevice(BDF);
      },
    });
    group.openDevice(BDF).close();
    expect(vm.references).toBe(2);
    again!.close();
    expectNothingLeft(rig);
  });
});

it('S4-03 the group’s process ends: its devices give the machine back, once', () => {
  const rig = setup(() => ({}));
  const { group } = rig;
  group.openDevice(BDF);
  const second = group.openDevice(BDF);
  second.region(0).map();
  expect(rig.vm.references).toBe(2);
  rig.machine.process.exit();
  expectNothingLeft(rig);
  expect([rig.fn.group!.file, rig.fn.group!.owner]).toEqual([null, null]);
});
