/**
 * A physical function's driver that mediates its virtual ones, and the narrowing of information
 * besides mappings.
 */
import { expect, it } from 'vitest';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { alone, openAll, testMachine } from '../../../tests/kit/machines.ts';
import type { Model } from '../../abi/device-host.ts';
import { type MediatedDevice, type MediatedPhysical, type Mediator, PASS_THROUGH } from '../../abi/mediator.ts';
import { Feature, IrqIndex, IrqInfoFlags, RegionFlags } from '../../abi/vfio.ts';
import { featureBytes } from '../../device/feature-bytes.ts';
import { pcie } from '../../pci/capabilities.ts';
import type { DeviceModel } from '../../pci/declaration.ts';
import { FakeEventFd, HeapMemory } from '../../sys/fake.ts';
import { Machine } from '../machine/machine.ts';
import { Mediators } from './mediators.ts';

const PF = '0000:01:00.0';
const VFS = ['0000:01:00.1', '0000:01:00.2'];

/** A card: a word per register; the PF holds the limits of its VFs at 0x100. */
class Words implements Model {
  readonly words = new Uint32Array(1024);
  read(_bar: number, offset: number): number {
    return this.words[offset >> 2]!;
  }
  write(_bar: number, offset: number, _width: number, value: number): void {
    this.words[offset >> 2] = value;
  }
  reset(): void {}
}

const card = (device: number): DeviceModel => ({
  declaration: {
    name: 'card',
    vendor: 0x1234,
    device,
    classCode: 0x020000,
    bars: [{ index: 0, size: 4096, type: 'mem32' }],
    capabilities: [pcie({ flr: true })],
  },
  create: () => new Words(),
});

const RATE = 0x10;
const LIMITS = 0x100;
const GRANTED = 0x200;

/**
 * The driver `nic` of the PF: a VF's rate is cut to the limit in its PF's table, and noted there.
 */
const nicDriver: Mediator<{ readonly physical: MediatedPhysical; readonly index: number }> = {
  name: 'nic',
  open: ({ physical, vfIndex }) =>
    physical === null || vfIndex === null || physical.driver !== 'nic' || physical.vendor !== 0x1234
      ? null
      : {
          handle: { physical, index: vfIndex },
          regions: {
            0: {
              info: (_, info) => ({ ...info, flags: info.flags & ~RegionFlags.MMAP }),
              write({ physical, index }, offset, from, direct) {
                if (offset !== RATE || from.length !== 4) return PASS_THROUGH;
                const wanted = new DataView(from.buffer, from.byteOffset).getUint32(0, true);
                const granted = Math.min(wanted, physical.read(0, LIMITS + 4 * index, 4));
                physical.write(0, GRANTED + 4 * index, 4, granted);
                direct.write32(RATE, granted);
                return 4;
              },
            },
          },
        },
  release: ({ physical, index }) => physical.write(0, GRANTED + 4 * index, 4, 0),
};

it('S0-05 a PF’s driver mediates its VFs: which VF of which PF, and the PF’s registers', async () => {
  const mediators = new Mediators();
  const seen: MediatedDevice[] = [];
  mediators.register({
    name: 'looks',
    open: (device) => {
      seen.push(device);
      return null;
    },
    release: () => {},
  });
  mediators.register(nicDriver);
  const machine = new Machine(
    {
      hostDrivers: [{ name: 'nic', ids: ['1234:0001'], dma: 'kernel', sriov: true }],
      devices: [
        {
          at: '01.0',
          kind: 'root-port',
          devices: [
            {
              at: '00.0',
              model: { ...card(1), sriov: { totalVfs: 4, vf: card(2) } },
              driver: 'nic',
              numVfs: 2,
              vfDriver: 'vfio-pci',
              acs: true,
            },
          ],
        },
      ],
    },
    { allocate: HeapMemory.allocate, mediators },
  );
  const pf = machine.function(PF);
  const limits = (pf.host.model as Words).words;
  limits.set([1000, 10], LIMITS >> 2);
  const vfs = VFS.map((bdf) => openAll(machine, bdf).device);
  for (const vf of vfs) {
    vf.region(7).write16(4, 2);
    vf.region(0).write32(RATE, 500);
    vf.region(0).write32(RATE + 4, 7);
  }
  expect(vfs.map((vf) => [vf.region(0).read32(RATE), vf.region(0).read32(RATE + 4)])).toEqual([
    [500, 7],
    [10, 7],
  ]);
  expect([...limits.subarray(GRANTED >> 2, (GRANTED >> 2) + 2)]).toEqual([500, 10]);
  expect(
    seen.map(({ name, vfIndex, totalVfs, physical }) => [name, vfIndex, totalVfs, physical!.name, physical!.totalVfs, physical!.numVfs]),
  ).toEqual([
    [VFS[0], 0, 0, PF, 4, 2],
    [VFS[1], 1, 0, PF, 4, 2],
  ]);
  expect(errnoFrom(() => vfs[0]!.region(0).map())).toBe('EINVAL');
  for (const vf of vfs) vf.close();
  expect([...limits.subarray(GRANTED >> 2, (GRANTED >> 2) + 2)]).toEqual([0, 0]);
  // After the last close the PF is out of reach.
  seen[0]!.physical!.write(0, 0, 4, 99);
  expect([seen[0]!.physical!.read(0, 0, 4), limits[0]]).toEqual([0xffff_ffff, 0]);
  machine[Symbol.dispose]();
});

it('S0-05 a PF under vfio-pci says how many VFs it can have; other functions are neither', () => {
  const mediators = new Mediators();
  const seen: unknown[] = [];
  mediators.register({
    name: 'looks',
    open: ({ physical, vfIndex, totalVfs, numRegions }) => {
      seen.push([physical, vfIndex, totalVfs, numRegions]);
      return null;
    },
    release: () => {},
  });
  for (const model of [{ ...card(1), sriov: { totalVfs: 4, vf: card(2) } }, card(3)]) {
    using machine = new Machine(
      { devices: [alone('01.0', { at: '00.0', model, driver: 'vfio-pci' })] },
      { allocate: HeapMemory.allocate, mediators },
    );
    openAll(machine, PF);
  }
  expect(seen).toEqual([
    [null, null, 4, 9],
    [null, null, 0, 9],
  ]);
});

/** The probe with a mediator that says `info` of BAR 0. */
function narrowed(info: object, irq?: object) {
  const mediators = new Mediators();
  mediators.register({
    name: 'narrow',
    open: () => ({
      handle: 0,
      regions: { 0: { info: (_: unknown, was: object) => ({ ...was, ...info }) as never } },
      ...(irq === undefined ? {} : { irqs: { 1: { info: (_: unknown, was: object) => ({ ...was, ...irq }) as never } } }),
    }),
    release: () => {},
  });
  const { machine, lines } = testMachine({ devices: [alone('01.0', { at: '00.0', model: 'probe', driver: 'vfio-pci' })] }, { mediators });
  const { device } = openAll(machine, PF);
  device.region(7).write16(4, 2);
  return { device, lines };
}

it.each<[string, number, readonly string[]]>([
  ['all', RegionFlags.READ | RegionFlags.WRITE | RegionFlags.MMAP, ['none', 'none', 'none', 'none']],
  ['no MMAP', RegionFlags.READ | RegionFlags.WRITE, ['none', 'none', 'EINVAL', 'none']],
  // A mapping reads and writes.
  ['no WRITE', RegionFlags.READ | RegionFlags.MMAP, ['none', 'EINVAL', 'EINVAL', 'EINVAL']],
  ['no READ', RegionFlags.WRITE | RegionFlags.MMAP, ['EINVAL', 'none', 'EINVAL', 'none']],
])('S0-05 flags with %s hold for reads, writes, mappings and ioeventfds', (_, flags, wanted) => {
  const { device } = narrowed({ flags });
  const bar = device.region(0);
  expect([
    errnoFrom(() => bar.read32(4)),
    errnoFrom(() => bar.write32(4, 1)),
    errnoFrom(() => bar.map()),
    errnoFrom(() => device.ioeventfd({ region: 0, offset: 4, size: 4, data: 1n, source: new FakeEventFd() })),
  ]).toEqual(wanted);
});

it.each([[[{ offset: 0, size: 8192 }]], [[{ offset: -4096, size: 4096 }]], ['all'], [[null]], [[{ offset: 0, size: 0 }]]])(
  'S0-05 areas that are none, %j, are the mediator’s bug: EIO, logged',
  (sparseAreas) => {
    const { device, lines } = narrowed({ sparseAreas });
    expect(errnoFrom(() => device.region(0))).toBe('EIO');
    expect(lines.some((line) => line.includes("mediator 'narrow': region info failed"))).toBe(true);
  },
);

it('S0-05 no area at all: nothing can be mapped, and a DMA buffer neither', () => {
  const { device } = narrowed({ sparseAreas: [] });
  expect([errnoFrom(() => device.region(0).map()), errnoFrom(() => device.region(0).read32(4))]).toEqual(['EINVAL', 'none']);
});

it('S0-05 a DMA buffer keeps to the areas that can be mapped', () => {
  const mediators = new Mediators();
  mediators.register({
    name: 'narrow',
    open: () => ({ handle: 0, regions: { 2: { info: (_, info) => ({ ...info, sparseAreas: [{ offset: 4096, size: 4096 }] }) } } }),
    release: () => {},
  });
  const model: DeviceModel = {
    ...card(4),
    declaration: { ...card(4).declaration, bars: [{ index: 2, size: 16384, type: 'mem32', backing: 'memory' }] },
  };
  using machine = new Machine(
    { devices: [alone('01.0', { at: '00.0', model, driver: 'vfio-pci' })] },
    { allocate: HeapMemory.allocate, mediators },
  );
  const { device } = openAll(machine, PF);
  device.region(7).write16(4, 2);
  const buffer = (offset: number, size: number) => {
    const data = new Uint8Array(32);
    const view = new DataView(data.buffer);
    view.setUint32(0, 2, true);
    view.setUint32(12, 1, true);
    view.setBigUint64(16, BigInt(offset), true);
    view.setBigUint64(24, BigInt(size), true);
    return errnoFrom(() => featureBytes(device, { feature: Feature.DMA_BUF, get: true, data, onDmaBuf: (made) => made[Symbol.dispose]() }));
  };
  expect([buffer(4096, 4096), buffer(0, 4096), buffer(4096, 8192)]).toEqual(['none', 'EINVAL', 'EINVAL']);
});

it.each<[string, object, readonly string[]]>([
  ['nothing less', {}, ['none', 'none', 'ENOTTY']],
  ['no interrupt', { count: 0 }, ['EINVAL', 'EINVAL', 'EINVAL']],
  ['no eventfd', { flags: IrqInfoFlags.NORESIZE }, ['EINVAL', 'EINVAL', 'ENOTTY']],
])('S0-11 an interrupt index with %s holds for SET_IRQS', (_, irq, wanted) => {
  const { device } = narrowed({}, irq);
  const one = { index: IrqIndex.MSI, start: 0, count: 1 } as const;
  expect([
    errnoFrom(() => device.setIrqs({ ...one, action: 'trigger', data: 'sinks', sinks: [new FakeEventFd()] })),
    errnoFrom(() => device.setIrqs({ ...one, action: 'trigger', data: 'none' })),
    errnoFrom(() => device.setIrqs({ ...one, action: 'mask', data: 'none' })),
  ]).toEqual(wanted);
});
