import { expect, it } from 'vitest';
import { DeviceRig, plain, ScriptedModel, setCommand } from '../../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import type { Device } from '../../abi/device.ts';
import { Command } from '../../abi/pci.ts';
import { DeviceFlags } from '../../abi/vfio.ts';
import { pm } from '../../pci/capabilities.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';
import type { FunctionSpec } from '../machine/machine-spec.ts';

const { MEMORY, MASTER } = Command;

function sibling(at: string, declaration: PciDeclaration = plain, driver: string | null = 'vfio-pci'): FunctionSpec {
  return { at, model: { declaration, create: (host) => new ScriptedModel(host) }, driver };
}

/** Two functions behind a port; without ACS between them they are one group. */
function twins(driver: string | null = 'vfio-pci'): DeviceRig {
  return new DeviceRig(plain, { behindPort: true, others: [sibling('00.1', plain, driver)] });
}

it('B.8 HOT_RESET_INFO: ENODEV on a root bus', () => {
  expect(errnoFrom(() => new DeviceRig(plain).open().hotResetInfo())).toBe('ENODEV');
});

it('B.8 HOT_RESET_INFO: every function of the bus with its group', () => {
  const rig = twins();
  const groupId = rig.fn.group!.id;
  expect(rig.open().hotResetInfo()).toEqual([
    { bdf: '0000:01:00.0', groupId },
    { bdf: '0000:01:00.1', groupId },
  ]);
});

it('B.8 HOT_RESET: no group files EINVAL, root bus ENODEV, more than devices EINVAL', () => {
  const onRoot = new DeviceRig(plain);
  const file = onRoot.open();
  expect(errnoFrom(() => file.hotReset([]))).toBe('EINVAL');
  expect(errnoFrom(() => file.hotReset([onRoot.group]))).toBe('ENODEV');
  const rig = twins();
  const behind = rig.open();
  expect(errnoFrom(() => behind.hotReset([rig.group, rig.group, rig.group]))).toBe('EINVAL');
  for (const count of [0, -1, 0.5, Number.NaN, 3, 2 ** 53]) expect(errnoFrom(() => behind.checkHotReset(count))).toBe('EINVAL');
  expect(errnoFrom(() => behind.checkHotReset(2))).toBe('none');
});

it('B.8 HOT_RESET: resets every device of the bus once and gives back their configuration', () => {
  const rig = twins();
  const a = rig.open();
  const b = rig.group.openDevice('0000:01:00.1');
  const models = [rig.model, rig.machine.function('01:00.1').model as ScriptedModel];
  setCommand(a, MEMORY | MASTER);
  setCommand(b, MEMORY);
  const before = [rig.fn, rig.machine.function('01:00.1')].map((fn) => [...fn.config.bytes]);
  const mapping = b.region(0).map();
  let during: unknown;
  models[0]!.onReset = () => {
    during = errnoFrom(() => mapping.read32(0));
  };
  a.hotReset([rig.group]);
  expect(models.map((m) => m.resets)).toEqual([1, 1]);
  expect(during).toBe('BusError');
  expect([rig.fn, rig.machine.function('01:00.1')].map((fn) => [...fn.config.bytes])).toEqual(before);
  expect(mapping.read32(0)).toBe(0);
});

it('B.8 HOT_RESET by open devices: they stand for their groups', () => {
  const rig = twins();
  const file = rig.open();
  const stranger = new DeviceRig(plain).open();
  expect([errnoFrom(() => stranger.resetBus()), errnoFrom(() => file.resetBus([{} as Device]))]).toEqual(['ENODEV', 'EINVAL']);
  const other = rig.group.openDevice('0000:01:00.1');
  file.resetBus([other]);
  expect([rig.model, rig.machine.function('01:00.1').model as ScriptedModel].map((m) => m.resets)).toEqual([1, 1]);
  other.close();
  expect(errnoFrom(() => file.resetBus([other]))).toBe('ENODEV');
});

it('B.8 HOT_RESET: a device of a group that was not given is EINVAL, naming it, and no device is reset', () => {
  const rig = twins();
  const file = rig.open();
  const stranger = { group: { id: 99 } };
  expect(errnoFrom(() => file.hotReset([stranger]))).toBe('EINVAL');
  expect(errnoFrom(() => file.hotReset([{ group: null }]))).toBe('EINVAL');
  expect(rig.model.resets).toBe(0);
  expect(() => file.hotReset([stranger])).toThrow(/0000:01:00\.0 of group/);
});

it('B.8 HOT_RESET: a function of the bus that is not under vfio-pci is EINVAL', () => {
  const rig = twins(null);
  expect(() => rig.open().hotReset([rig.group])).toThrow(/0000:01:00\.1, which is not under vfio-pci/);
  expect(errnoFrom(() => rig.open().hotReset([rig.group]))).toBe('EINVAL');
});

it('B.8 HOT_RESET: EAGAIN while the lock of one device is held, EBUSY while one is being reset', () => {
  const rig = twins();
  const file = rig.open();
  const other = rig.machine.function('01:00.1');
  {
    using _held = other.vfio!.lock('another driver');
    expect(errnoFrom(() => file.hotReset([rig.group]))).toBe('EAGAIN');
    expect(rig.fn.host.lockedBy).toBe(null);
  }
  let nested: unknown;
  rig.model.onReset = () => {
    nested = errnoFrom(() => file.hotReset([rig.group]));
  };
  file.hotReset([rig.group]);
  expect(nested).toBe('EBUSY');
  expect([rig.model.resets, (other.model as ScriptedModel).resets]).toEqual([1, 1]);
});

it('B.8 HOT_RESET: an unopened device of the set is reset too and sleeps again', () => {
  const sleepy = { ...plain, capabilities: [pm()] };
  const rig = new DeviceRig(sleepy, { behindPort: true, others: [sibling('00.1', sleepy)] });
  const other = rig.machine.function('01:00.1');
  expect(other.vfio!.power.state).toBe('D3hot');
  rig.open().hotReset([rig.group]);
  expect((other.model as ScriptedModel).resets).toBe(1);
  expect(other.vfio!.power.state).toBe('D3hot');
});

it('B.8 HOT_RESET: a device in low power is woken for the reset and sleeps again', () => {
  const sleepy = { ...plain, capabilities: [pm()] };
  const rig = new DeviceRig(sleepy, { behindPort: true, others: [sibling('00.1', sleepy)] });
  const other = rig.group.openDevice('0000:01:00.1');
  other.lowPower.enter();
  let during: unknown;
  (rig.machine.function('01:00.1').model as ScriptedModel).onReset = () => {
    during = other.device.power.asleep;
  };
  rig.open().hotReset([rig.group]);
  expect([during, other.device.power.asleep, other.device.power.state]).toEqual([false, true, 'D3hot']);
});

it('B.8 dev_set: on a root bus a device is alone, so a closed one is not reset with its neighbours', () => {
  const rig = new DeviceRig(plain, { others: [sibling('05.0')] });
  rig.open().close();
  expect(rig.device.needsReset).toBe(true);
  expect([rig.model.resets, (rig.machine.function('00:05.0').model as ScriptedModel).resets]).toEqual([0, 0]);
});

it('B.8 dev_set: the bus is not reset while a function on it is outside of vfio, or locked', () => {
  const outside = twins(null);
  outside.open().close();
  expect(outside.device.needsReset).toBe(true);
  const locked = twins();
  const file = locked.open();
  using _held = locked.machine.function('01:00.1').vfio!.lock('another driver');
  file.close();
  expect(locked.device.needsReset).toBe(true);
  expect(locked.model.resets).toBe(0);
});

const ourGroup = (rig: DeviceRig) => [rig.group];

it.each([
  ['a port of 2.5 GT/s: Linux waits for the device, not for the link', { generation: 1, active: false }, 'none'],
  ['a fast port that does not report its link', undefined, 'none'],
  ['a fast port whose link is back', { generation: 4, active: true }, 'none'],
  ["QEMU's port under ACPI hot plug, which says that its link is down", { generation: 4, width: 32, active: false }, 'ENOTTY'],
] as const)('B.8 HOT_RESET: %s', (_what, link, errno) => {
  const rig = new DeviceRig(plain, { behindPort: true, port: link === undefined ? {} : { link } });
  const file = rig.open();
  const before = [...rig.fn.config.bytes];
  const resets = rig.model.resets;
  expect(errnoFrom(() => file.hotReset(ourGroup(rig)))).toBe(errno);
  // The reset has happened, whatever the port reports.
  expect(rig.model.resets).toBe(resets + 1);
  expect([...rig.fn.config.bytes]).toEqual(before);
  expect(rig.device.resetting).toBe(false);
});

it('B.8 RESET: a device that only its bus resets has no reset that works, below a port that says its link is down', () => {
  const rig = (active: boolean) => new DeviceRig(plain, { behindPort: true, port: { link: { generation: 4, active } } });
  const [up, down] = [rig(true).open(), rig(false).open()];
  expect(errnoFrom(() => up.reset())).toBe('none');
  expect(errnoFrom(() => down.reset())).toBe('EINVAL');
  expect([up.info.flags & DeviceFlags.RESET, down.info.flags & DeviceFlags.RESET]).toEqual([DeviceFlags.RESET, 0]);
});
