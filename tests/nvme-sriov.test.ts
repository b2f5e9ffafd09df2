/**
 * NVMe with virtual functions, as PF driver and tenants see it: examples/machines/nvme-tenants.yaml
 * behind sockets.
 */
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { modelsWithImages } from '../src/api/models-of-computer.ts';
import { open } from '../src/api/open.ts';
import { openThrough } from '../src/api/simulation.ts';
import { main } from '../src/cli/main.ts';
import { loadMachine } from '../src/doors/machine.ts';
import { DriverDevice } from '../src/drivers/kit/driver-device.ts';
import { NvmeDriver } from '../src/drivers/nvme/nvme-driver.ts';
import { recordingTerminal } from './kit/recording-terminal.ts';
import { PF, TOKEN, VF0, VF1 } from './kit/sriov-rig.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const yaml = join(import.meta.dirname, '../examples/machines/nvme-tenants.yaml');
const folders: string[] = [];

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  folders.push(path);
  return path;
}

afterEach(() => {
  for (const path of folders.splice(0)) rmSync(path, { recursive: true });
});

/** The machine in this process, and a driver for a function of it. */
function tenantsHere() {
  const machine = loadMachine(yaml);
  const driver = async (bdf: string, token: string) => {
    const { device, owns } = openThrough(machine, bdf, undefined, token);
    return await NvmeDriver.start(DriverDevice.attach(device, { owns }));
  };
  return { machine, driver, [Symbol.dispose]: () => machine[Symbol.dispose]() };
}

describe('S3 an NVMe controller with virtual functions', () => {
  it('S3-14 a tenant gets a disk of its own with the token, and none without; no other tenant reads its data', async () => {
    const directory = folder();
    await using served = new VfioProcess(['serve', yaml, '--socket-path', directory]);
    await served.says('listening at');
    const driver = async (bdf: string, token?: string) =>
      await NvmeDriver.start(await open(`unix:${join(directory, `${bdf}.sock`)}`, token === undefined ? {} : { token }));
    await expect(driver(VF0)).rejects.toMatchObject({ code: 'EACCES' });
    const token = join(directory, 'token');
    writeFileSync(token, TOKEN, { mode: 0o600 });
    for (const [bdf, bytes] of [
      [PF, 2 ** 30],
      [VF0, 2 ** 28],
    ] as const) {
      const terminal = recordingTerminal();
      expect(await main(['nvme', 'list', `unix:${join(directory, `${bdf}.sock`)}`, '--vf-token-file', token, '--json'], terminal)).toBe(0);
      expect(JSON.parse(terminal.stdout.join('\n'))).toMatchObject({ namespaces: [{ size: bytes }] });
    }
    await using pf = await driver(PF, TOKEN);
    await using one = await driver(VF0, TOKEN);
    await using two = await driver(VF1, TOKEN);
    expect([pf, one, two].map(({ namespaces }) => namespaces[0]!.bytes)).toEqual([2 ** 30, 2 ** 28, 2 ** 28]);
    expect(new Set([pf, one, two].map(({ controller }) => controller.serial)).size).toBe(3);
    const page = (fill: number) => new Uint8Array(4096).fill(fill);
    await Promise.all([pf, one, two].map((driver, i) => driver.namespace(1).write(7, page(i + 1))));
    for (const [i, driver] of [pf, one, two].entries()) expect(await driver.namespace(1).read(7, 1)).toEqual(page(i + 1));
  });

  it('S3-21 a VF that went and came back is the same disk with the same name', async () => {
    using tenants = tenantsHere();
    await using pf = await tenants.driver(PF, TOKEN);
    let serial: string;
    {
      await using one = await tenants.driver(VF0, TOKEN);
      await one.namespace(1).write(0, new Uint8Array(4096).fill(9));
      ({ serial } = one.controller);
    }
    await tenants.machine.setNumVfs(PF, 0);
    await tenants.machine.setNumVfs(PF, 1);
    await using again = await tenants.driver(VF0, TOKEN);
    expect(again.controller.serial).toBe(serial);
    expect((await again.namespace(1).read(0, 1))[0]).toBe(9);
    expect(pf.controller.serial).not.toBe(serial);
  });

  it('S3-15 vfio show draws them', async () => {
    const terminal = recordingTerminal();
    expect(await main(['show', yaml], terminal)).toBe(0);
    expect(terminal.stdout.join('\n')).toMatch(/0000:01:00\.2 .* NVMe card VF 1 .* VF 1 of 0000:01:00\.0/);
  });

  it('its VFs take images from a list, one each, no more and no fewer', () => {
    const images = ['a', 'b'].map((name) => join(folder(), name));
    const model = modelsWithImages.nvme({ size: '1M', vfs: 2, vfSize: '64K', vfImage: images });
    expect(images.map((image) => statSync(image).size)).toEqual([65536, 65536]);
    // An open image belongs to one process.
    expect(() => modelsWithImages.nvme({ image: images[0] })).toThrow(expect.objectContaining({ code: 'EBUSY' }));
    model.owns![Symbol.dispose]();
    modelsWithImages.nvme({ image: images[0] }).owns![Symbol.dispose]();
    const other = join(folder(), 'c');
    expect(() => modelsWithImages.nvme({ vfs: 2, vfImage: other })).toThrow(/2 vfs and 1 images/);
    expect(existsSync(other)).toBe(false);
    expect(() => modelsWithImages.nvme({ vfSize: '1M' })).toThrow(/no vfs/);
    expect(() => modelsWithImages.nvme({ vfs: 256 })).toThrow(/0 to 255/);
  });
});
