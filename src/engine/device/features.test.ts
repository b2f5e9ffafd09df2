import { expect, it } from 'vitest';
import { DeviceRig, plain, resettable, setCommand } from '../../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import type { DmaBuf, FeatureRequest } from '../../abi/device.ts';
import { Command } from '../../abi/pci.ts';
import { Feature } from '../../abi/vfio.ts';
import { featureBytes } from '../../device/feature-bytes.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';

const data = new Uint8Array(64);
const ask = (rig: DeviceRig, request: Partial<FeatureRequest> & { feature: number }) => {
  using file = rig.open();
  return errnoFrom(() => featureBytes(file, { data, ...request }));
};

it('B.7 feature ids: what a device without SR-IOV and migration has, as Linux 7.3 answers for edu', () => {
  const rig = new DeviceRig(plain);
  const answers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11].map((feature) => [
    ask(rig, { feature, probe: true }),
    ask(rig, { feature, probe: true, get: true }),
    ask(rig, { feature, probe: true, set: true }),
  ]);
  const none = ['ENOTTY', 'ENOTTY', 'ENOTTY'];
  const settable = ['none', 'EINVAL', 'none'];
  const gettable = ['none', 'none', 'EINVAL'];
  expect(answers).toEqual([none, none, none, settable, settable, settable, none, none, none, none, none, gettable]);
  expect(ask(rig, { feature: 0 })).toBe('ENOTTY');
});

it('B.7 FEATURE: the order of its errnos', () => {
  const rig = new DeviceRig(plain);
  const none = new Uint8Array(0);
  const { LOW_POWER_ENTRY, LOW_POWER_ENTRY_WITH_WAKEUP, DMA_BUF } = Feature;
  // The check for both operations at once comes before the feature, and allows a probe.
  expect(ask(rig, { feature: 999, get: true, set: true })).toBe('EINVAL');
  expect(ask(rig, { feature: 999, get: true, set: true, probe: true })).toBe('ENOTTY');
  // The operation comes before probe, probe before "none", "none" before the size of the data.
  expect(ask(rig, { feature: LOW_POWER_ENTRY, get: true, set: true, probe: true })).toBe('EINVAL');
  expect(ask(rig, { feature: LOW_POWER_ENTRY, get: true, data: none })).toBe('EINVAL');
  expect(ask(rig, { feature: DMA_BUF, probe: true, get: true, data: none })).toBe('none');
  expect(ask(rig, { feature: LOW_POWER_ENTRY })).toBe('EINVAL');
  expect(ask(rig, { feature: LOW_POWER_ENTRY_WITH_WAKEUP, set: true, data: none })).toBe('EINVAL');
  expect(ask(rig, { feature: DMA_BUF, get: true, data: new Uint8Array(15) })).toBe('EINVAL');
});

it('B.7 FEATURE: numbers and data that are none', () => {
  const rig = new DeviceRig(plain);
  for (const feature of [-1, 0.5, Number.NaN, 65536, 2 ** 32, 2 ** 53]) expect(ask(rig, { feature, probe: true })).toBe('EINVAL');
  expect(ask(rig, { feature: 3, set: true, data: 'text' as unknown as Uint8Array })).toBe('EFAULT');
  expect(rig.device.power.engaged).toBe(false);
});

const withMemory: PciDeclaration = {
  ...resettable,
  bars: [
    { index: 0, size: 0x1000, type: 'mem32' },
    { index: 2, size: 0x10000, type: 'mem64', backing: 'memory' },
  ],
};

function dmaBufRequest(region: number, ranges: readonly (readonly [offset: bigint, length: bigint])[], count = ranges.length): Uint8Array {
  const bytes = new Uint8Array(16 + 16 * ranges.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, region, true);
  view.setUint32(12, count, true);
  for (const [i, [offset, length]] of ranges.entries()) {
    view.setBigUint64(16 + 16 * i, offset, true);
    view.setBigUint64(24 + 16 * i, length, true);
  }
  return bytes;
}

it('B.7 feature ids: DMA_BUF gives the memory of a memory BAR, until it is revoked', () => {
  const rig = new DeviceRig(withMemory);
  const file = rig.open();
  const made: DmaBuf[] = [];
  const onDmaBuf = (buffer: DmaBuf) => void made.push(buffer);
  const request = dmaBufRequest(2, [
    [0n, 0x1000n],
    [0x4000n, 0x2000n],
  ]);
  expect(featureBytes(file, { feature: Feature.DMA_BUF, get: true, data: request, onDmaBuf })).toBe(0);
  const [buffer] = made;
  const memory = rig.model.host.barMemory(2);
  expect(buffer!.segments).toEqual([
    { memory, offset: 0, size: 0x1000 },
    { memory, offset: 0x4000, size: 0x2000 },
  ]);
  expect([buffer!.size, memory.references, buffer!.revoked]).toEqual([0x3000, 3, false]);
  setCommand(file, 0);
  expect(buffer!.revoked).toBe(true);
  setCommand(file, Command.MEMORY);
  expect(buffer!.revoked).toBe(false);
  file.close();
  rig.open();
  expect(buffer!.revoked).toBe(true);
  buffer![Symbol.dispose]();
  buffer![Symbol.dispose]();
  expect(memory.references).toBe(1);
});

it('B.7 feature ids: DMA_BUF refuses what is no memory, no BAR and no range', () => {
  const rig = new DeviceRig(withMemory);
  const get = (bytes: Uint8Array, onDmaBuf: ((buffer: DmaBuf) => void) | null = () => {}) =>
    ask(rig, { feature: Feature.DMA_BUF, get: true, data: bytes, ...(onDmaBuf === null ? {} : { onDmaBuf }) });
  expect(get(dmaBufRequest(0, [[0n, 0x1000n]]))).toBe('EOPNOTSUPP');
  expect(get(dmaBufRequest(6, [[0n, 0x1000n]]))).toBe('ENODEV');
  expect(get(dmaBufRequest(2, []))).toBe('EINVAL');
  expect(get(dmaBufRequest(2, [[0n, 0n]]))).toBe('EINVAL');
  expect(get(dmaBufRequest(2, [[0n, 0x800n]]))).toBe('EINVAL');
  expect(get(dmaBufRequest(2, [[0x10000n, 0x1000n]]))).toBe('EINVAL');
  expect(get(dmaBufRequest(1, [[0n, 0x1000n]]))).toBe('ENODEV');
  expect(get(dmaBufRequest(2, [[0xffff_ffff_ffff_f000n, 0x2000n]]))).toBe('EOVERFLOW');
  expect(get(dmaBufRequest(2, [[0n, 0x1000n]], 0xffff_ffff))).toBe('ENOMEM');
  expect(get(dmaBufRequest(2, [[0n, 0x1000n]]), null)).toBe('EINVAL');
  const flagged = dmaBufRequest(2, [[0n, 0x1000n]]);
  flagged[8] = 1;
  expect(get(flagged)).toBe('EINVAL');
});
