import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { alone, openAll, testMachine } from '../../../tests/kit/machines.ts';
import { VFIO_PCI } from '../../engine/machine/binding.ts';
import { RegisterTraffic } from './register-traffic.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function open(traffic: RegisterTraffic) {
  const { machine } = testMachine(
    { devices: [alone('01.0', { at: '00.0', model: 'probe', driver: VFIO_PCI })] },
    { mediators: traffic.mediators },
  );
  return openAll(machine, '0000:01:00.0').device;
}

it('writes a line of JSON per access, for its owner to read', () => {
  const path = join(folder, 'traffic.jsonl');
  const traffic = new RegisterTraffic(path, () => {});
  const device = open(traffic);
  device.region(0).read32(0);
  device.region(7).write16(4, 0x0106);
  device.region(0).write(4, new Uint8Array([1, 2, 3]));
  traffic[Symbol.dispose]();
  traffic[Symbol.dispose]();
  const lines = readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines).toEqual([
    { timeNs: 0, device: '0000:01:00.0', region: 'BAR 0', access: 'read', offset: '0x0', size: 4, value: '0x600df00d' },
    { timeNs: 0, device: '0000:01:00.0', region: 'config', access: 'write', offset: '0x4', size: 2, value: '0x0106' },
    { timeNs: 0, device: '0000:01:00.0', region: 'BAR 0', access: 'write', offset: '0x4', size: 3, bytes: '010203' },
  ]);
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

it('a device goes on when the file cannot be written, and the command reports that once', () => {
  const told: string[] = [];
  const traffic = new RegisterTraffic('/dev/full', (message) => told.push(message));
  const bar = open(traffic).region(0);
  for (let i = 0; i < 5000; i++) bar.read32(0);
  traffic[Symbol.dispose]();
  expect(told).toEqual([expect.stringContaining('ENOSPC')]);
});

it('a file that cannot be made is an error that names it', () => {
  expect(() => new RegisterTraffic(join(folder, 'no', 'x'), () => {})).toThrow(
    expect.objectContaining({ code: 'ENOENT', message: expect.stringContaining('no/x') }),
  );
  expect(() => new RegisterTraffic(folder, () => {})).toThrow(expect.objectContaining({ code: 'EISDIR' }));
});
