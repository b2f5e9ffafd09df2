import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import type { LogLevel } from '../base/log.ts';
import { u32 } from '../base/registers.ts';
import { edu } from '../models/edu/edu.ts';
import { bar } from '../models/kit/bar.ts';
import { device } from '../models/kit/device.ts';
import { parseAddress } from './address.ts';
import { open } from './open.ts';
import { runDriver } from './run-driver.ts';
import { machineAround, simulate } from './simulation.ts';

const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

it('reads addresses as people write them', () => {
  expect(parseAddress('sim:edu')).toEqual({ kind: 'model', name: 'edu', options: {} });
  expect(parseAddress('sim:edu,dmaMs=100,dmaMask=0xffffffff')).toEqual({
    kind: 'model',
    name: 'edu',
    options: { dmaMs: '100', dmaMask: '0xffffffff' },
  });
  expect(parseAddress('sim:nvme,image=a.img,readonly,image=b.img')).toEqual({
    kind: 'model',
    name: 'nvme',
    options: { image: ['a.img', 'b.img'], readonly: 'true' },
  });
  expect(parseAddress('sim:./my-device.ts')).toEqual({ kind: 'file', path: './my-device.ts', options: {} });
  expect(parseAddress('sim:/tmp/a,b.ts')).toEqual({ kind: 'file', path: '/tmp/a,b.ts', options: {} });
  expect(parseAddress('unix:/run/a.sock')).toEqual({ kind: 'socket', path: '/run/a.sock' });
  expect(parseAddress('03:00.0')).toEqual({ kind: 'pci', bdf: '0000:03:00.0' });
  expect(parseAddress('mdev:83B8F4F2-509F-382F-3C1E-E6BFE0FA1001')).toEqual({ kind: 'mdev', uuid: '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001' });
  expect(parseAddress('lent:/run/a.sock')).toEqual({ kind: 'lent', path: '/run/a.sock' });
  for (const bad of ['', 'sim:', 'edu', 'tcp:1', '0000:03:00.9', 'sim:edu,=1', 'mdev:7']) {
    expect(() => parseAddress(bad)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  }
});

it('opens a model by name, through group, container and IOMMU', async () => {
  using dev = await open('sim:edu', { match: '1234:11e8' });
  expect(dev.name).toBe('0000:00:04.0');
  expect(dev.bar(0).read32(0)).toBe(0x0100_00ed);
  expect(dev.busMaster).toBe(false);
});

it('names the address that it cannot open, and the forms that it can', async () => {
  await expect(open('ffff:1f:1f.7')).rejects.toMatchObject({ code: 'ENODEV', fix: expect.stringContaining('vfio ls') });
  await expect(open('lent:/run/a.sock')).rejects.toMatchObject({ code: 'ENOENT', fix: expect.stringContaining('vfio lend') });
  await expect(open('unix:/run/a.sock')).rejects.toMatchObject({ code: 'ENOENT', fix: expect.stringContaining('vfio serve') });
  await expect(open('sim:toString')).rejects.toMatchObject({ code: 'ENOENT', fix: expect.stringContaining('Models are 82576, edu') });
  await expect(open('sim:edu,speed=5')).rejects.toMatchObject({ code: 'EINVAL', message: "edu has no option 'speed'" });
  for (const bad of ['dmaMs=-1', 'dmaMs=NaN', 'dmaMs=1e9', 'dmaMask=0x10000000000000000', 'dmaMask=-1', 'dmaMask=']) {
    await expect(open(`sim:edu,${bad}`)).rejects.toMatchObject({ code: 'EINVAL' });
  }
  await expect(open('sim:./nothing-here.ts')).rejects.toMatchObject({ code: 'ENOENT' });
  await expect(open('sim:edu', { match: '8086:0001' })).rejects.toMatchObject({ code: 'ENXIO' });
});

it('opens a disk whose doorbells can be mapped, and refuses other kinds', async () => {
  using dev = await open('sim:nvme,size=1M,doorbells=mapped');
  expect(dev.device.region(0).info.sparseAreas).toEqual([{ offset: 0x1000, size: 0x1000 }]);
  await expect(open('sim:nvme,size=1M,doorbells=loud')).rejects.toMatchObject({
    code: 'EINVAL',
    message: "nvme's doorbells is loud; it is registers or mapped",
  });
});

it('opens a model in a file, and names the fault of a file that is wrong', async () => {
  const src = join(import.meta.dirname, '..');
  const good = file(
    'good.ts',
    `import { bar } from '${src}/models/kit/bar.ts'; import { device } from '${src}/models/kit/device.ts'; import { u32 } from '${src}/base/registers.ts';
     export default device({ id: '1234:0001', bars: { bar0: bar('4K', { a: u32(0, 'ro') }, { a: { reset: 7 } }) } });`,
  );
  using dev = await open(`sim:${good}`);
  expect([dev.name, dev.bar(0).read32(0)]).toEqual(['0000:01:00.0', 7]);
  using again = await open(`sim:${relative(process.cwd(), good)}`);
  expect(again.bar(0).read32(0)).toBe(7);
  await expect(open(`sim:${file('empty.ts', 'export default 5;')}`)).rejects.toMatchObject({
    code: 'EINVAL',
    fix: expect.stringContaining('export default device'),
  });
  await expect(open(`sim:${file('broken.ts', 'throw new Error("as I load");')}`)).rejects.toMatchObject({
    code: 'EINVAL',
    message: expect.stringContaining('as I load'),
  });
});

it('puts PCI Express endpoints behind a root port and others on the root bus', () => {
  const place = (model: Parameters<typeof machineAround>[0]) => machineAround(model).bdf;
  expect(place(edu())).toBe('0000:00:04.0');
  expect(place(device({ id: '1234:0001' }))).toBe('0000:01:00.0');
  expect(place(device({ id: '1234:0001', pcie: false }))).toBe('0000:00:04.0');
});

it('leaves nothing behind, and warns only of faults', async () => {
  const logged: [LogLevel, string][] = [];
  const model = device({ id: '1234:0001', msi: 1, bars: { bar0: bar('4K', { a: u32(0) }) } });
  const { machine, bdf, device: file, owns } = simulate(model, { log: { log: (level, message) => logged.push([level, message]) } });
  const { group } = machine.function(bdf);
  expect(group!.file).not.toBeNull();
  file.close();
  owns[Symbol.dispose]();
  expect(group!.file).toBeNull();
  expect(logged.filter(([level]) => level === 'warn' || level === 'error')).toEqual([]);
  expect(() => machine.openContainer()).toThrow(expect.objectContaining({ code: 'ENODEV' }));
});

it('runs the main of a driver file', async () => {
  const driver = file('driver.ts', 'export async function main(address, { args }) { globalThis.ran = [address, ...args]; return 3; }');
  expect(await runDriver(driver, 'sim:edu', { args: ['a', 'b'] })).toBe(3);
  expect((globalThis as { ran?: unknown }).ran).toEqual(['sim:edu', 'a', 'b']);
  expect(await runDriver(file('quiet.ts', 'export const main = () => {}'), 'sim:edu')).toBe(0);
  await expect(runDriver(file('none.ts', 'export const x = 1;'), 'sim:edu')).rejects.toMatchObject({ code: 'EINVAL' });
  await expect(runDriver('./nothing-here.ts', 'sim:edu')).rejects.toMatchObject({ code: 'ENOENT' });
  await expect(runDriver(driver, 'nonsense')).rejects.toMatchObject({ code: 'EINVAL' });
});
