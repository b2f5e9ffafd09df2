/** A computer's files in a folder, and in memory. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { hostFiles } from './host-files.ts';
import { MemoryFiles } from './memory-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-files-'));
afterAll(() => rmSync(folder, { recursive: true }));

const root = join(folder, 'root');
mkdirSync(join(root, 'sys/devices/pci0000:00/0000:00:01.0'), { recursive: true });
mkdirSync(join(root, 'sys/bus/pci/devices'), { recursive: true });
writeFileSync(join(root, 'sys/devices/pci0000:00/0000:00:01.0/vendor'), '0x8086\n');
symlinkSync('../../../devices/pci0000:00/0000:00:01.0', join(root, 'sys/bus/pci/devices/0000:00:01.0'));
symlinkSync('/sys/devices', join(root, 'absolute'));
symlinkSync('../../../../../../../../etc', join(root, 'outside'));
symlinkSync('loop', join(root, 'loop'));
mkdirSync(join(root, 'etc'));
writeFileSync(join(root, 'etc/hostname'), 'copied\n');

const encoder = new TextEncoder();
const memory = new MemoryFiles('memory', [
  ['sys/devices/pci0000:00/0000:00:01.0/vendor', { bytes: encoder.encode('0x8086\n') }],
  ['/sys/bus/pci/devices/0000:00:01.0', { link: '../../../devices/pci0000:00/0000:00:01.0' }],
  ['absolute', { link: '/sys/devices' }],
  ['outside', { link: '../../../etc' }],
  ['loop', { link: 'loop' }],
  ['../../etc/hostname', { bytes: encoder.encode('copied\n') }],
]);

describe.each([
  ['a folder', hostFiles(root)],
  ['memory', memory],
])('sys: files of a copy in %s', (_, files) => {
  it('are read through symbolic links', () => {
    expect(files.text('/sys/bus/pci/devices/0000:00:01.0/vendor')).toBe('0x8086\n');
    expect(files.list('/sys/bus/pci/devices/0000:00:01.0')).toEqual(['vendor']);
    expect(files.exists('/sys/bus/pci/devices/0000:00:01.0/vendor')).toBe(true);
  });

  it('absolute links begin at the root of the copy', () => {
    expect(files.list('/absolute')).toEqual(['pci0000:00']);
  });

  it('no link leads out of the copy', () => {
    expect(files.text('/outside/hostname')).toBe('copied\n');
    expect(files.exists('/outside/passwd')).toBe(false);
  });

  it('a link that leads to itself leads nowhere', () => {
    expect(files.text('/loop')).toBeNull();
    expect(files.link('/loop')).toBe('loop');
  });

  it('a link is not followed when it is asked for', () => {
    expect(files.link('/sys/bus/pci/devices/0000:00:01.0')).toBe('../../../devices/pci0000:00/0000:00:01.0');
    expect(files.link('/sys/bus/pci')).toBeNull();
  });

  it('files that are not there are null, and directories empty', () => {
    expect(files.bytes('/sys/none')).toBeNull();
    expect(files.list('/sys/none')).toEqual([]);
    expect(files.bytes('/sys/bus')).toBeNull();
  });
});

describe('sys: the root of a copy', () => {
  it('may be a copy of /sys itself', () => {
    expect(hostFiles(join(root, 'sys')).text('/sys/bus/pci/devices/0000:00:01.0/vendor')).toBe('0x8086\n');
  });

  it('without sysfs: EINVAL; not there: ENOENT; a file: ENOTDIR', () => {
    const file = join(root, 'etc/hostname');
    expect(() => hostFiles(join(root, 'etc'))).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => hostFiles(join(root, 'none'))).toThrow(expect.objectContaining({ code: 'ENOENT' }));
    expect(() => hostFiles(file)).toThrow(expect.objectContaining({ code: 'ENOTDIR' }));
  });

  it('none: this computer', () => {
    const files = hostFiles();
    expect(files.live).toBe(true);
    expect(files.text('/proc/sys/kernel/ostype')).toBe('Linux\n');
  });
});
