import { expect, it } from 'vitest';
import { DeviceRig, plain, resettable, setCommand } from '../../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { Command } from '../../abi/pci.ts';
import { msix, pcie } from '../../pci/capabilities.ts';
import { FakeEventFd } from '../../sys/fake.ts';
import type { IoeventfdRequest } from './ioeventfd.ts';

const withMsix = {
  ...resettable,
  bars: [{ index: 0, size: 0x1000, type: 'mem32' as const }],
  capabilities: [pcie({ flr: true }), msix({ vectors: 4, tableBar: 0, tableOffset: 0x100, pbaBar: 0, pbaOffset: 0x800 })],
};

const at = (request: Partial<IoeventfdRequest>): IoeventfdRequest => ({
  region: 0,
  offset: 0x10,
  size: 4,
  data: 5n,
  source: null,
  ...request,
});

it('B.8 IOEVENTFD: a signal writes the value, in its width', () => {
  const rig = new DeviceRig(plain);
  const file = rig.open();
  const source = new FakeEventFd();
  file.ioeventfd(at({ source, data: 0xffff_ffff_1234_5678n }));
  file.ioeventfd(at({ source, size: 1, offset: 0x20, data: 0x1ffn }));
  file.ioeventfd(at({ source, size: 2, offset: 0x31, data: 0xabcdn }));
  source.signal();
  expect(rig.model.accesses).toEqual(['w4 0+0x10=0x12345678', 'w1 0+0x20=0xff', 'w1 0+0x31=0xcd', 'w1 0+0x32=0xab']);
});

it('B.8 IOEVENTFD: what is refused, in the order in which Linux looks', () => {
  const rig = new DeviceRig(withMsix);
  const file = rig.open();
  const source = new FakeEventFd();
  const set = (request: Partial<IoeventfdRequest>) => errnoFrom(() => file.ioeventfd(at({ source, ...request })));
  expect(set({ size: 3 })).toBe('EINVAL');
  expect(set({ region: 6 })).toBe('EINVAL');
  expect(set({ region: 1 })).toBe('EINVAL');
  expect(set({ offset: 0xffe })).toBe('EINVAL');
  expect(set({ offset: 0x1000 })).toBe('EINVAL');
  expect(set({ offset: 0x13f })).toBe('EINVAL');
  expect(set({ offset: 0xfd })).toBe('EINVAL');
  expect(set({ offset: 0xfc })).toBe('none');
  expect(set({ offset: 0x140 })).toBe('none');
  expect(set({ size: 8 })).toBe('EINVAL');
  expect(set({})).toBe('none');
  expect(set({})).toBe('EEXIST');
  expect(set({ data: 6n })).toBe('none');
  expect(set({ source: null, data: 7n })).toBe('ENODEV');
  expect(set({ source: null })).toBe('none');
  expect(set({ source: null })).toBe('ENODEV');
  expect(rig.device.openState.ioeventfds.count).toBe(3);
});

it('B.8 IOEVENTFD: numbers that are none are EINVAL and leave nothing behind', () => {
  const rig = new DeviceRig(plain);
  const file = rig.open();
  const source = new FakeEventFd();
  for (const bad of [Number.NaN, -1, 0.5, 2 ** 53, Number.POSITIVE_INFINITY]) {
    for (const request of [{ region: bad }, { offset: bad }, { size: bad }]) {
      expect(errnoFrom(() => file.ioeventfd(at({ source, ...request })))).toBe('EINVAL');
    }
  }
  for (const data of [-1n, 2n ** 64n]) expect(errnoFrom(() => file.ioeventfd(at({ source, data })))).toBe('EINVAL');
  expect([rig.device.openState.ioeventfds.count, source.references]).toEqual([0, 1]);
});

it('B.8 IOEVENTFD: at most a thousand', () => {
  const file = new DeviceRig(plain).open();
  const source = new FakeEventFd();
  for (let i = 0; i < 1000; i++) file.ioeventfd(at({ source, data: BigInt(i) }));
  expect(errnoFrom(() => file.ioeventfd(at({ source, data: 1000n })))).toBe('ENOSPC');
  expect(errnoFrom(() => file.ioeventfd(at({ source, data: 999n })))).toBe('EEXIST');
});

it('B.8 IOEVENTFD: a signal while memory decoding is off is lost in silence', () => {
  const rig = new DeviceRig(plain);
  const file = rig.open();
  const source = new FakeEventFd();
  file.ioeventfd(at({ source }));
  setCommand(file, 0);
  source.signal();
  setCommand(file, Command.MEMORY);
  expect(rig.model.accesses).toEqual([]);
  source.signal();
  expect(rig.model.accesses).toHaveLength(1);
});

it('B.8 IOEVENTFD: the last close ends them all', () => {
  const rig = new DeviceRig(plain);
  const file = rig.open();
  const source = new FakeEventFd();
  file.ioeventfd(at({ source }));
  expect(source.references).toBe(2);
  file.close();
  expect(source.references).toBe(1);
  source.signal();
  expect(rig.model.accesses).toEqual([]);
});
