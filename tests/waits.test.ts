/** A program that waits for an object of ours is not done: no wait ends it silently. */
import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { typescript } from './kit/typescript.ts';

const root = new URL('..', import.meta.url).href;
const machine = `
import { Machine } from '${root}src/engine/machine/machine.ts';
import { models } from '${root}src/models/registry.ts';
import { HeapMemory } from '${root}src/sys/fake.ts';
import { DriverDevice } from '${root}src/drivers/kit/driver-device.ts';
const params = { suspendTimeoutMs: 300, forceRevokeAfterMs: 300 };
const machine = new Machine({ devices: [{ at: '04.0', model: 'edu', driver: 'vfio-pci' }] }, { allocate: HeapMemory.allocate, models, params });
const group = machine.openGroup(machine.function('00:04.0').group.id), container = machine.openContainer();
group.setContainer(container);
container.setIommu(3);
const device = group.openDevice('0000:00:04.0');
`;

function run(program: string) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [...typescript, '--input-type=module', '-e', `${machine}${program}\nconsole.log('done');`],
    {
      encoding: 'utf8',
      timeout: 120_000,
    },
  );
  return { status, stdout: stdout.trim(), stderr };
}

describe('a program with nothing else to do', () => {
  it.each([
    ['S2-42 suspend, with a user who does not acknowledge', 'device.on(() => {}); await machine.suspend();'],
    ['S2-41 unbind, until the device is revoked', "await machine.unbind('00:04.0');"],
    ['S2-41 unplug, until the device is revoked', "await machine.remove('00:04.0');"],
    [
      'an interrupt of a device, with a timeout',
      'const dev = DriverDevice.attach(device); await dev.intx.enable(1).next(0, { timeoutMs: 300 }).catch(() => {});',
    ],
    [
      'a condition of a driver',
      'const dev = DriverDevice.attach(device); await dev.until(() => false, { timeoutMs: 300 }).catch(() => {});',
    ],
    [
      'S2-42 the end of a sleep',
      'const dev = DriverDevice.attach(device); await machine.suspend(); setTimeout(() => machine.resume(), 300).unref(); await dev.awake();',
    ],
  ])('waits for %s', (_what, program) => {
    expect(run(program)).toEqual({ status: 0, stdout: 'done', stderr: '' });
  });
});
