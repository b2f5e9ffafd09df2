import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { refusal } from '../../tests/kit/errno.ts';
import { VfioError } from '../base/errno.ts';
import { openNvme } from '../cli/nvme/open-nvme.ts';
import { FileStorage } from '../sys/file-storage.ts';
import { openDisks } from './disk-image.ts';
import { loadMachine } from './machine.ts';
import { parseMachine } from './machine-file.ts';

const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-disks-'));
afterAll(() => rmSync(directory, { recursive: true }));
let files = 0;
const newPath = () => join(directory, `disk-${files++}.img`);
function image(bytes = 1 << 20): string {
  const path = newPath();
  writeFileSync(path, new Uint8Array(bytes).fill(7));
  return path;
}
const isFree = (path: string) => FileStorage.open(path)[Symbol.dispose]();

describe('the disks that are asked for', () => {
  it('are in memory without an image', () => {
    const { storages, owns } = openDisks({ blockSize: 512, size: 1 << 20 });
    expect(storages.map((storage) => storage.name)).toEqual(['1 MiB of memory']);
    owns[Symbol.dispose]();
    expect(refusal(() => openDisks({ blockSize: 512, overlay: true })).fix).toMatch(/image/);
    expect(refusal(() => openDisks({ blockSize: 512, readonly: true })).code).toBe('EINVAL');
  });

  it('are made when there is a size, and taken as they are without', () => {
    const path = newPath();
    expect(refusal(() => openDisks({ images: [path], blockSize: 512 })).code).toBe('ENOENT');
    openDisks({ images: [path], blockSize: 4096, size: 1 << 20 }).owns[Symbol.dispose]();
    expect(statSync(path).size).toBe(1 << 20);
    const again = openDisks({ images: [path], blockSize: 4096 });
    expect(again.storages[0]!.size).toBe(1 << 20);
    again.owns[Symbol.dispose]();
  });

  const text = (value: string) => Uint8Array.from(value, (c) => c.charCodeAt(0));
  it.each([
    ['qcow2', 0, text('QFI\xfb\0\0\0\x03')],
    ['QED', 0, text('QED\0')],
    ['VMDK', 0, text('KDMV')],
    ['VMDK', 0, text('# Disk DescriptorFile\nversion=1')],
    ['VHDX', 0, text('vhdxfile')],
    ['VHD', 0, text('conectix')],
    ['VHD', (1 << 20) - 512, text('conectix')],
    ['VDI', 0x40, Uint8Array.of(0x7f, 0x10, 0xda, 0xbe)],
    ['Parallels', 0, text('WithoutFreeSpace')],
  ])('refuse %s images, also read-only and under an overlay, unless the user says format=raw', (format, offset, bytes) => {
    const path = newPath();
    const content = new Uint8Array(1 << 20);
    content.set(bytes, offset);
    writeFileSync(path, content);
    for (const more of [{}, { readonly: true }, { overlay: true }]) {
      const wrong = refusal(() => openDisks({ images: [path], blockSize: 512, ...more }));
      expect(wrong.explain()).toMatch(new RegExp(`EINVAL: .* is a ${format} image.*\\n.*qemu-img convert -O raw .*--format raw`));
    }
    expect(Buffer.compare(readFileSync(path), content)).toBe(0);
    const raw = openDisks({ images: [path], blockSize: 512, format: 'raw' });
    expect(raw.storages[0]!.size).toBe(1 << 20);
    raw.owns[Symbol.dispose]();
  });

  it('accept raw images that begin with anything else: a boot sector, LUKS, text, less than a header', () => {
    for (const bytes of [Uint8Array.of(0xeb, 0x63, 0x90), text('LUKS\xba\xbe'), text('QFI'), text('vhdx'), new Uint8Array(512)]) {
      const path = newPath();
      const content = new Uint8Array(512);
      content.set(bytes);
      writeFileSync(path, content);
      isFree(path);
    }
    expect(refusal(() => openDisks({ blockSize: 512, format: 'raw' })).code).toBe('EINVAL');
  });

  it('take format=raw in an address and in a machine file', async () => {
    const path = newPath();
    writeFileSync(path, Buffer.concat([text('QFI\xfb'), new Uint8Array(8188)]));
    await expect(openNvme(`sim:nvme,image=${path}`)).rejects.toMatchObject({ code: 'EINVAL', message: expect.stringContaining('qcow2') });
    await expect(openNvme(`sim:nvme,image=${path},format=qcow2`)).rejects.toMatchObject({
      code: 'EINVAL',
      fix: expect.stringContaining('convert'),
    });
    const driver = await openNvme(`sim:nvme,image=${path},format=raw`);
    expect((await driver.namespace(1).read(0, 1)).subarray(0, 4)).toEqual(text('QFI\xfb'));
    await driver.close();
    const file = (options: string) => {
      const machine = newPath();
      writeFileSync(machine, `devices: [{ at: 04.0, model: nvme, options: { ${options} } }]`);
      return machine;
    };
    expect(() => loadMachine(file(`image: ${path}`))).toThrow('is a qcow2 image');
    using _ = loadMachine(file(`image: ${path}, format: raw`));
  });

  it('have whole blocks; otherwise no image is made', () => {
    const path = newPath();
    const wrong = refusal(() => openDisks({ images: [path], blockSize: 4096, size: 4096 + 512 }));
    expect(wrong.explain()).toMatch(/4608 bytes.*\n.*blocks of 512 bytes/);
    expect(() => statSync(path)).toThrow();
    const odd = image(1000);
    expect(refusal(() => openDisks({ images: [odd], blockSize: 512 })).message).toContain(`${odd} has 1000 bytes`);
    isFree(odd);
  });

  it('need a directory that exists', () => {
    const error = refusal(() => openDisks({ blockSize: 512, size: 1 << 20, images: [join(directory, 'none', 'disk.img')] }));
    expect([error.code, error.message]).toEqual(['ENOENT', expect.stringContaining(`there is no directory ${join(directory, 'none')}`)]);
  });

  it('are opened all, or none', () => {
    const [one, two] = [image(), image()];
    expect(refusal(() => openDisks({ images: [one, two, one], blockSize: 512 })).code).toBe('EBUSY');
    isFree(one);
    isFree(two);
  });

  it('can be read by several disks, and written over in memory', () => {
    const path = image();
    const readers = [
      openDisks({ images: [path], blockSize: 512, readonly: true }),
      openDisks({ images: [path], blockSize: 512, overlay: true }),
    ];
    expect(readers.map(({ storages }) => storages[0]!.readOnly)).toEqual([true, false]);
    expect(refusal(() => openDisks({ images: [path], blockSize: 512 })).code).toBe('EBUSY');
    for (const { owns } of readers) owns[Symbol.dispose]();
    expect(refusal(() => openDisks({ images: [path], blockSize: 512, readonly: true, overlay: true })).code).toBe('EINVAL');
    isFree(path);
  });

  it('have the serial number of their image, for any name of the image', () => {
    const path = image();
    const link = newPath();
    symlinkSync(path, link);
    const serialOf = (of: string) => {
      const { serial, owns } = openDisks({ images: [of], blockSize: 512 });
      owns[Symbol.dispose]();
      return serial;
    };
    expect(serialOf(link)).toBe(serialOf(path));
    expect(serialOf(image())).not.toBe(serialOf(path));
  });
});

describe('an NVMe disk in an image', () => {
  it('is the disk that its address names, and closes the image when the driver closes the disk', async () => {
    const path = newPath();
    const driver = await openNvme(`sim:nvme,image=${path},size=1M,blockSize=4096`);
    const namespace = driver.namespace(1);
    expect([namespace.blockSize, namespace.blocks]).toEqual([4096, 256]);
    await namespace.write(3, new Uint8Array(4096).fill(9), { fua: true });
    expect(readFileSync(path)[3 * 4096]).toBe(9);
    await driver.close();
    isFree(path);
  });

  it('has a namespace for each image', async () => {
    const [one, two] = [image(), image(1 << 21)];
    const driver = await openNvme(`sim:nvme,image=${one},image=${two},readonly`);
    expect(driver.namespaces.map(({ bytes }) => bytes)).toEqual([1 << 20, 1 << 21]);
    await expect(driver.namespace(2).write(0, new Uint8Array(512))).rejects.toThrow(VfioError);
    expect((await driver.namespace(2).read(5, 1))[0]).toBe(7);
    await driver.close();
  });

  it('does not change its image under an overlay', async () => {
    const path = image();
    const driver = await openNvme(`sim:nvme,image=${path},overlay`);
    await driver.namespace(1).write(1, new Uint8Array(512).fill(1));
    await driver.namespace(1).flush();
    expect((await driver.namespace(1).read(0, 3)).subarray(510, 514)).toEqual(new Uint8Array([7, 7, 1, 1]));
    await driver.close();
    expect(readFileSync(path).every((byte) => byte === 7)).toBe(true);
  });

  it('names the fault in its options, and keeps nothing open', async () => {
    const path = image();
    for (const [options, what] of [
      ['readonly=maybe', /readonly is maybe/],
      ['size=lots', /size is lots/],
      ['size=2M', /has 1048576 bytes, not 2097152/],
      ['blockSize=1024', /blockSize is 1024/],
      ['serial=', /serial is ""/],
      ['colour=red', /no option 'colour'/],
    ] as const) {
      await expect(openNvme(`sim:nvme,image=${path},${options}`), options).rejects.toThrow(what);
      isFree(path);
    }
  });

  it('closes with the machine whose file names it', () => {
    const [path, other] = [image(), image()];
    const file = join(directory, 'machine.yaml');
    writeFileSync(
      file,
      `devices:
  - { at: '04.0', kind: root-port, devices: [{ at: '00.0', model: nvme, options: { image: ${path} } }] }
  - { at: '05.0', kind: root-port, devices: [{ at: '00.0', model: nvme, options: { image: [${other}], overlay: true } }] }
`,
    );
    expect(parseMachine(readFileSync(file, 'utf8')).devices).toHaveLength(2);
    const machine = loadMachine(file);
    expect(refusal(() => FileStorage.open(path)).code).toBe('EBUSY');
    FileStorage.open(other, { readOnly: true })[Symbol.dispose]();
    machine[Symbol.dispose]();
    isFree(path);
    isFree(other);
  });
});
