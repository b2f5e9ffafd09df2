/**
 * Device-specific regions, and regions that a mediator narrows, through all doors: in process, by
 * ioctls, over a socket.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import type { Device } from '../src/abi/device.ts';
import { DeviceIoctl, REGION_OFFSET_STEP, RegionCap, RegionFlags } from '../src/abi/vfio.ts';
import { RegionInfo, RegionInfoCapType } from '../src/abi/vfio-structs.ts';
import type { DeviceFile } from '../src/engine/device/device-file.ts';
import { Machine } from '../src/engine/machine/machine.ts';
import { Mediators } from '../src/engine/mediation/mediators.ts';
import { KernelDoor } from '../src/ioctl/kernel-door.ts';
import type { DeviceModel } from '../src/pci/declaration.ts';
import { HeapMemory } from '../src/sys/fake.ts';
import { VfioUserDevice } from '../src/vfio-user/client.ts';
import { errnoFrom } from './kit/errno.ts';
import { bytesOf, said, viewOf } from './kit/ioctl-bytes.ts';
import { openAll } from './kit/machines.ts';
import mappedModel from './kit/mapped-model.ts';
import narrowing from './kit/narrowing-mediator.ts';
import regionsModel from './kit/regions-model.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const kit = join(import.meta.dirname, 'kit');
const BDF = '0000:01:00.0';
const PATIENCE_MS = 120_000;
const { READ, WRITE, MMAP, CAPS } = RegionFlags;
const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function machineOf(model: DeviceModel, mediators = new Mediators()): Machine {
  const devices = [{ at: '01.0', kind: 'root-port' as const, devices: [{ at: '00.0', model, driver: 'vfio-pci' }] }];
  return new Machine({ devices }, { allocate: HeapMemory.allocate, mediators });
}

/** The device in process, and behind the socket of a server in another process. */
const doors: readonly [string, (model: DeviceModel, file: string, mediated: boolean) => Promise<{ device: Device } & AsyncDisposable>][] = [
  [
    'in process',
    async (model, _, mediated) => {
      const mediators = new Mediators();
      if (mediated) mediators.register(narrowing);
      const machine = machineOf(model, mediators);
      const { device } = openAll(machine, BDF);
      return { device, [Symbol.asyncDispose]: async () => machine[Symbol.dispose]() };
    },
  ],
  [
    'over a socket',
    async (_, file, mediated) => {
      const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
      folders.push(folder);
      const path = join(folder, 'a.sock');
      const served = await VfioProcess.serve(
        join(kit, file),
        path,
        ...(mediated ? ['--mediator', join(kit, 'narrowing-mediator.ts')] : []),
      );
      const device = VfioUserDevice.connect(path, { timeoutMs: PATIENCE_MS });
      return {
        device,
        [Symbol.asyncDispose]: async () => {
          device.close();
          await served[Symbol.asyncDispose]();
        },
      };
    },
  ],
];

it.each(doors)('B.8 device-specific regions of a model %s: info with their type, reads, writes, mappings', async (_, open) => {
  await using opened = await open(regionsModel, 'regions-model.ts', false);
  const { device } = opened;
  const [memory, registers, readOnly] = [9, 10, 11].map((index) => device.region(index));
  expect([device.info.numRegions, errnoFrom(() => device.region(12))]).toEqual([12, 'EINVAL']);
  expect([memory, registers, readOnly].map((region) => [region!.info.type, region!.info.size, region!.info.flags & ~CAPS])).toEqual([
    [{ type: 0x8000_1234, subtype: 1 }, 8192, READ | WRITE | MMAP],
    [{ type: 0x8000_1234, subtype: 2 }, 16, READ | WRITE],
    [{ type: 0x8000_1234, subtype: 3 }, 6, READ],
  ]);
  registers!.write32(4, 0x1234_5678);
  expect([registers!.read32(4), registers!.read64(0), errnoFrom(() => registers!.read32(16)), errnoFrom(() => registers!.map())]).toEqual([
    0x1234_5678,
    0x1234_5678_0000_0000n,
    'EINVAL',
    'EINVAL',
  ]);
  const bytes = new Uint8Array(8);
  expect([readOnly!.read(0, bytes.subarray(0, 6)), [...bytes.subarray(0, 6)], errnoFrom(() => readOnly!.write8(0, 1))]).toEqual([
    6,
    [0x11, 0x22, 0x33, 0x44, 0x55, 0x66],
    'EINVAL',
  ]);
  // No bit of COMMAND gates them: memory decoding is off for the BAR.
  memory!.write32(4096, 0xdead_beef);
  using mapping = memory!.map(4096, 4096);
  expect([mapping.read32(0), mapping.read16(1), mapping.memory === null]).toEqual([0xdead_beef, 0xadbe, false]);
  mapping.write64(8, 0x0102_0304_0506_0708n);
  expect([memory!.read64(4104), errnoFrom(() => memory!.map(0, 12288)), errnoFrom(() => memory!.map(1))]).toEqual([
    0x0102_0304_0506_0708n,
    'EINVAL',
    'EINVAL',
  ]);
  device.region(7).write16(4, 2);
  device.region(0).write32(0, 0x55);
  expect(mapping.read8(100)).toBe(0x55);
});

it.each(doors)('S0-05 a mediator’s restrictions hold %s, and the regions that it adds are there', async (_, open) => {
  await using opened = await open(mappedModel, 'mapped-model.ts', true);
  const { device } = opened;
  device.region(7).write16(4, 2);
  const bar = device.region(2);
  expect(bar.info.sparseAreas).toEqual([{ offset: 0, size: 4096 }]);
  expect(
    [
      [0, 4096],
      [4096, 4096],
      [0, 8192],
      [0, undefined],
    ].map(([at, size]) => errnoFrom(() => bar.map(at, size)[Symbol.dispose]())),
  ).toEqual(['none', 'EINVAL', 'EINVAL', 'EINVAL']);
  bar.write32(8192, 7);
  expect([bar.read32(8192), errnoFrom(() => device.region(0).write32(0, 1)), device.region(0).read32(0)]).toEqual([7, 'EINVAL', 0]);
  const [memory, hooked] = [device.region(9), device.region(10)];
  expect([device.info.numRegions, memory.info.type, hooked.info.type, hooked.info.flags & ~CAPS]).toEqual([
    11,
    { type: 7, subtype: 1 },
    { type: 7, subtype: 2 },
    READ,
  ]);
  memory.write32(0, 0xcafe);
  using mapping = memory.map();
  expect([mapping.read32(0), hooked.read16(2), errnoFrom(() => hooked.read8(8)), errnoFrom(() => hooked.write8(0, 1))]).toEqual([
    0xcafe,
    0x4242,
    'EINVAL',
    'EINVAL',
  ]);
});

it('S0-05 a descriptor of a narrowed BAR is not handed out: it would give all of its memory', async () => {
  const open = doors[1]![1];
  await using whole = await open(mappedModel, 'mapped-model.ts', false);
  await using narrowed = await open(mappedModel, 'mapped-model.ts', true);
  const shared = [whole, narrowed].map(({ device }) => {
    device.region(7).write16(4, 2);
    using mapping = device.region(2).map(0, 4096);
    return mapping.memory !== null;
  });
  expect(shared).toEqual([true, false]);
});

it('B.8 the ioctl door: index << 40, the TYPE capability, pread, pwrite and mmap; narrowed regions too', () => {
  const mediators = new Mediators();
  mediators.register(narrowing);
  const open = (model: DeviceModel, registry: Mediators) => {
    const machine = machineOf(model, registry);
    const user = new KernelDoor(machine).process(machine.process);
    const group = machine.function(BDF).group!.id;
    const [container, file] = [user.open('/dev/vfio/vfio'), user.open(`/dev/vfio/${group}`)];
    expect(user.ioctl(file, 0x3b68, new Uint8Array(new Int32Array([container]).buffer))).toBe(0);
    expect(user.ioctl(container, 0x3b66, 3)).toBe(0);
    return { user, device: user.ioctl(file, 0x3b6a, new TextEncoder().encode(`${BDF}\0`)) };
  };
  const at = (index: number) => index * REGION_OFFSET_STEP;
  {
    const { user, device } = open(regionsModel, new Mediators());
    const info = bytesOf(RegionInfo, { argsz: 64, index: 9 }, new Uint8Array(32));
    expect(user.ioctl(device, DeviceIoctl.GET_REGION_INFO, info)).toBe(0);
    const { flags, cap_offset: cap, size, offset } = RegionInfo.decode(viewOf(info));
    expect([flags, size, offset]).toEqual([READ | WRITE | MMAP | CAPS, 8192n, BigInt(at(9))]);
    expect([
      viewOf(info).getUint16(cap, true),
      RegionInfoCapType.type.get(viewOf(info), cap),
      RegionInfoCapType.subtype.get(viewOf(info), cap),
    ]).toEqual([RegionCap.TYPE, 0x8000_1234, 1]);
    const word = new Uint8Array([1, 2, 3, 4]);
    expect([user.pwrite(device, word, at(10)), user.pread(device, word.fill(0), at(10)), [...word]]).toEqual([4, 4, [1, 2, 3, 4]]);
    expect([user.mmap(8192, 3, 1, device, at(9)) > 0, said(user.mmap(4096, 3, 1, device, at(10)))]).toEqual([true, 'EINVAL']);
  }
  {
    const { user, device } = open(mappedModel, mediators);
    expect([user.mmap(4096, 3, 1, device, at(2)) > 0, said(user.mmap(8192, 3, 1, device, at(2)))]).toEqual([true, 'EINVAL']);
    expect([said(user.pwrite(device, new Uint8Array(4), at(0))), user.mmap(4096, 3, 1, device, at(9)) > 0]).toEqual(['EINVAL', true]);
  }
});

it('B.8 impossible regions are EINVAL, and a mediator that adds an impossible one has not accepted', () => {
  const model = (region: object) => ({ ...regionsModel, declaration: { ...regionsModel.declaration, regions: [region] } }) as DeviceModel;
  for (const wrong of [
    { size: 0 },
    { size: 1.5 },
    { size: 2 ** 41 },
    { type: -1 },
    { subtype: 2 ** 32 },
    { backing: 'memory', size: 100 },
  ]) {
    expect(errnoFrom(() => machineOf(model({ type: 1, subtype: 1, size: 16, ...wrong })))).toBe('EINVAL');
  }
  for (const wrong of [{}, { read: 7 }, { memory: HeapMemory.allocate(4096), size: 8192 }, { size: 0, read: () => 0 }]) {
    const mediators = new Mediators();
    let released = 0;
    mediators.register({
      name: 'wrong',
      open: () => ({ handle: 0, addedRegions: [{ type: 1, subtype: 1, size: 16, ...wrong } as never] }),
      release: () => void released++,
    });
    const machine = machineOf(mappedModel, mediators);
    const { device } = openAll(machine, BDF);
    expect([(device as DeviceFile).device.mediation, released, device.info.numRegions]).toEqual([null, 1, 9]);
    machine[Symbol.dispose]();
  }
});

it('S2-37 a mapping of a region holds the device, faults when the device is gone, and keeps its memory', async () => {
  const machine = machineOf(regionsModel);
  const { device } = openAll(machine, BDF);
  const mapping = device.region(9).map();
  device.close();
  mapping.write32(0, 5);
  expect([machine.function(BDF).vfio!.openCount, mapping.read32(0), mapping.read32(8188)]).toEqual([1, 5, 0]);
  machine.function(BDF).vfio!.revoke('a test');
  expect(() => mapping.read32(0)).toThrow('the device is gone');
  mapping[Symbol.dispose]();
  expect(errnoFrom(() => mapping.read32(0))).toBe('EFAULT');
});
