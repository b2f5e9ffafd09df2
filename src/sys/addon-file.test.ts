import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { elfNeeds } from '../../tests/kit/elf.ts';
import { addonFile } from './addon-file.ts';
import { packageFile } from './package-files.ts';

const { prebuilt, libc } = createRequire(import.meta.url)(packageFile('native/addon-file.cjs')) as {
  prebuilt(arch: string, libc: string): string;
  libc(): string;
};
const isRoot = process.getuid!() === 0;

let folder: string;
let root: string;
let cache: string;

/** A package of its own, as npm installs it, that a test may change. */
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  root = join(folder, 'node_modules/vfio-ts');
  cache = join(folder, 'cache');
  for (const name of ['package.json', 'dist', 'native', 'prebuilds']) cpSync(packageFile(name), join(root, name), { recursive: true });
  symlinkSync(packageFile('node_modules'), join(root, 'node_modules'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Run a program that needs the addon, in a process of its own. */
function useAddon(env: Readonly<Record<string, string | undefined>> = {}) {
  const file = join(folder, 'program.mjs');
  writeFileSync(
    file,
    `import { EventFd } from 'vfio-ts/machine';
     try { console.log('read', EventFd.create(3).read()); } catch (error) { console.log(error.explain()); }`,
  );
  const { stdout, stderr } = spawnSync(process.execPath, [file], {
    encoding: 'utf8',
    env: { ...process.env, XDG_CACHE_HOME: cache, ...env },
  });
  return stdout + stderr;
}

const works = 'read 3n\n';

describe('house: the addon that the package brings', () => {
  it('house: loads without a compiler, and nothing goes to the cache', () => {
    expect(useAddon({ CC: '/no/such/compiler' })).toBe(works);
    expect(existsSync(cache)).toBe(false);
  });

  it.each(['x64', 'arm64'])('house: for %s needs nothing newer than glibc 2.28', (arch) => {
    const file = packageFile(prebuilt(arch, 'glibc'));
    if (!existsSync(file) && arch !== process.arch) return; // no cross compiler has made it
    const needs = elfNeeds(readFileSync(file));
    expect(needs.arch).toBe(arch);
    expect(needs.versions.length).toBeGreaterThan(3);
    const newer = ({ version }: { version: string }) => {
      const [, major, minor] = /^GLIBC_(\d+)\.(\d+)/.exec(version) ?? [];
      return major === undefined || Number(major) !== 2 || Number(minor) > 28;
    };
    expect(needs.versions.filter(newer)).toEqual([]);
  });
});

describe('house: an addon that is built on first use', () => {
  const remove = () => rmSync(join(root, 'prebuilds'), { recursive: true });

  it('house: is in the cache folder, of this user alone, and the second program builds nothing', () => {
    remove();
    expect(useAddon()).toBe(works);
    expect(readdirSync(join(cache, 'vfio-ts'))).toEqual([expect.stringMatching(`^${process.arch}-${libc()}-[0-9a-f]{64}\\.node$`)]);
    expect(useAddon({ CC: '/no/such/compiler' })).toBe(works);
  });

  it('house: without a compiler the error says so, and how to get one', () => {
    remove();
    const text = useAddon({ CC: '/no/such/compiler' });
    expect(text).toMatch(
      /^ENOSYS: .*the package has no prebuilds\/linux-\w+\/node\.napi\.\w+\.node of its version.*"\/no\/such\/compiler" cannot be run/,
    );
    expect(text).toContain('fix: Install a C compiler ("apt-get install gcc libc6-dev"');
    expect(readdirSync(join(cache, 'vfio-ts'))).toEqual([]);
  });

  it('house: a cache folder that others can write is refused, with the folder', () => {
    remove();
    mkdirSync(join(cache, 'vfio-ts'), { recursive: true });
    chmodSync(cache, 0o777);
    expect(useAddon()).toContain(`EACCES: code would be loaded from ${cache}/vfio-ts, but ${cache} can be written by other users`);
    chmodSync(cache, 0o755);
    chmodSync(join(cache, 'vfio-ts'), 0o1777);
    expect(useAddon()).toContain(`but ${cache}/vfio-ts can be written by other users`);
  });

  it.skipIf(!isRoot)('house: a cache folder of a different user is refused', () => {
    remove();
    mkdirSync(join(cache, 'vfio-ts'), { recursive: true });
    chownSync(join(cache, 'vfio-ts'), 1234, 1234);
    expect(useAddon()).toContain(`but ${cache}/vfio-ts belongs to user 1234`);
  });
});

describe('house: addon and JavaScript belong together', () => {
  it('house: an addon of other sources is not loaded; one is built of the right sources', () => {
    const file = join(root, prebuilt(process.arch, libc()));
    const bytes = readFileSync(file);
    bytes.write('0000', bytes.indexOf('vfio-ts addon of sources ') + 'vfio-ts addon of sources '.length);
    writeFileSync(file, bytes);
    expect(useAddon()).toBe(works);
    expect(readdirSync(join(cache, 'vfio-ts')).length).toBe(1);
  });

  it('house: C sources of another version than dist/ are refused, with the fix', () => {
    rmSync(join(root, 'prebuilds'), { recursive: true });
    appendFileSync(join(root, 'native/crc.c'), '\n/* newer */\n');
    const text = useAddon();
    expect(text).toContain('the JavaScript of this package and its C sources (native/) are of different versions');
    expect(text).toContain('fix: Install the package anew');
  });

  it('house: the sources of a checkout have an addon of their own', () => {
    expect(existsSync(addonFile())).toBe(true);
  });
});
