/**
 * `vfio serve nvme` as a user runs it: an image behind a socket, a driver in this process, and the
 * image after the server is killed.
 */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { NvmeReg } from '../src/abi/nvme.ts';
import { main } from '../src/cli/main.ts';
import { openNvme } from '../src/cli/nvme/open-nvme.ts';
import { FileStorage } from '../src/sys/file-storage.ts';
import { VfioUserDevice } from '../src/vfio-user/client.ts';
import { recordingTerminal } from './kit/recording-terminal.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-serve-'));
afterAll(() => rmSync(directory, { recursive: true }));
let names = 0;
const newPath = (what: string) => join(directory, `${what}-${names++}`);

async function vfio(...argv: string[]) {
  const terminal = recordingTerminal();
  const status = await main(argv, terminal);
  return { status, out: terminal.stdout.join('\n'), err: terminal.stderr.join('\n') };
}

describe('vfio serve nvme', () => {
  it('has a disk in an image: made with --size, the same for each client, and with all flushed data after the server was killed', async () => {
    const [image, path] = [newPath('disk.img'), newPath('socket')];
    await using served = await VfioProcess.serve('nvme', path, '--image', image, '--size', '64M', '--block-size', '4096');
    expect(statSync(image).size).toBe(64 * 2 ** 20);
    const first = await openNvme(`unix:${path}`);
    const { serial } = first.controller;
    expect(first.namespace(1).blockSize).toBe(4096);
    await first.namespace(1).write(1, new Uint8Array(8192).fill(5));
    await first.close();
    const second = await openNvme(`unix:${path}`);
    expect(second.controller.serial).toBe(serial);
    expect((await second.namespace(1).read(2, 1)).every((byte) => byte === 5)).toBe(true);
    await second.namespace(1).write(10, new Uint8Array(4096).fill(6));
    await second.namespace(1).flush();
    served.child.kill('SIGKILL');
    await served.ended;
    const left = readFileSync(image);
    expect([left[4096], left[12_287], left[40_960]]).toEqual([5, 5, 6]);
    FileStorage.open(image)[Symbol.dispose]();
    await second.close().catch(() => {});
  });

  it('does not share an image with a second server, and names its user and the remedy', async () => {
    const [image, path] = [newPath('disk.img'), newPath('socket')];
    await using served = await VfioProcess.serve('nvme', path, '--image', image, '--size', '1M');
    const { status, err } = await vfio('serve', 'nvme', '--image', image, '--socket-path', newPath('socket'));
    expect(status).not.toBe(0);
    expect(err).toContain(`${image} is in use by node (pid ${served.child.pid})`);
    expect(err).toMatch(/fix: End pid \d+.*--readonly or --overlay/);
    expect(await served.end('SIGTERM')).toBe(0);
    FileStorage.open(image)[Symbol.dispose]();
  });

  it('has read-only disks and overlays beside each other over one image, and a namespace for each image', async () => {
    const [image, other] = [newPath('disk.img'), newPath('disk.img')];
    for (const each of [image, other]) FileStorage.open(each, { size: 1 << 20, create: true })[Symbol.dispose]();
    const [one, two] = [newPath('socket'), newPath('socket')];
    await using _readonly = await VfioProcess.serve('nvme', one, '--image', image, '--image', other, '--readonly');
    await using _overlay = await VfioProcess.serve('nvme', two, '--image', image, '--overlay');
    const reader = await openNvme(`unix:${one}`);
    const writer = await openNvme(`unix:${two}`);
    expect(reader.namespaces).toHaveLength(2);
    await expect(reader.namespace(1).write(0, new Uint8Array(512).fill(1))).rejects.toThrow(/Read Only|read.only/i);
    await writer.namespace(1).write(0, new Uint8Array(512).fill(1));
    expect((await writer.namespace(1).read(0, 1))[0]).toBe(1);
    expect((await reader.namespace(1).read(0, 1))[0]).toBe(0);
    await reader.close();
    await writer.close();
  });

  it('has doorbells that a client maps, with --doorbells mapped', async () => {
    const path = newPath('socket');
    await using _served = await VfioProcess.serve('nvme', path, '--size', '16M', '--doorbells', 'mapped');
    const device = VfioUserDevice.connect(path);
    expect(device.region(0).info.sparseAreas).toEqual([{ offset: NvmeReg.DOORBELLS, size: 4096 }]);
    const mapping = device.region(0).map(NvmeReg.DOORBELLS, 4096);
    expect(mapping.memory).not.toBeNull();
    mapping[Symbol.dispose]();
    device.close();
    const nvme = await openNvme(`unix:${path}`);
    await nvme.namespace(1).write(3, new Uint8Array(512).fill(7));
    expect((await nvme.namespace(1).read(3, 1)).every((byte) => byte === 7)).toBe(true);
    await nvme.close();
  });

  it('reports errors of the command line', async () => {
    const socket = ['--socket-path', newPath('socket')];
    expect((await vfio('serve', 'nvme', '--image', newPath('none'), ...socket)).err).toMatch(/is not there\n.*--size 10G/);
    expect((await vfio('serve', 'nvme', '--readonly', ...socket)).err).toMatch(/Give an image/);
    expect((await vfio('serve', 'nvme', '--readonly', '--overlay', ...socket)).status).toBe(2);
    expect((await vfio('serve', 'nvme', '--block-size', '1024', ...socket)).status).toBe(2);
    expect((await vfio('serve', 'nvme', '--doorbells', 'silent', ...socket)).status).toBe(2);
    expect((await vfio('serve', 'edu', '--image', 'disk.img', ...socket)).err).toMatch(/edu has no option 'image'/);
    expect((await vfio('serve', './device.ts', '--size', '1G', ...socket)).err).toMatch(/--size is for devices that come with the package/);
    expect((await vfio('serve', './machine.yaml', '--image', 'a', ...socket)).err).toMatch(
      /--image is for devices that come with the package/,
    );
  });
});
