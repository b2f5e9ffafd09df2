import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { type Addon, addon, checked, Sys, sysError } from './addon.ts';
import { OwnedFd } from './owned-fd.ts';

const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
afterAll(() => rmSync(directory, { recursive: true }));
const buildScript = fileURLToPath(new URL('../../native/build.js', import.meta.url));
const build = (args: readonly string[], env: Readonly<Record<string, string | undefined>> = {}) =>
  spawnSync(process.execPath, [buildScript, ...args], { encoding: 'utf8', env: { ...process.env, ...env } });

describe('house: the addon builds', () => {
  it('house: with the node-api-headers package alone, without a warning, into a binary that loads', () => {
    const output = join(directory, 'headers.node');
    const headers = (createRequire(import.meta.url)('node-api-headers') as { include_dir: string }).include_dir;
    expect(build(['--output', output, '--headers', headers])).toMatchObject({ status: 0, stderr: '' });
    const module = { exports: {} as Addon };
    process.dlopen(module, output);
    const fd = module.exports.eventfd(3, 0);
    expect(module.exports.eventfdRead(fd)).toBe(3n);
    expect(module.exports.close(fd)).toBe(0);
  });

  it('house: without a compiler it says so and how to go on; nothing is left half made', () => {
    const output = join(directory, 'none.node');
    const result = build(['--output', output], { CC: '/no/such/compiler' });
    expect(result.status).toBe(1);
    expect(result.stderr).toMatch(/C compiler "\/no\/such\/compiler" cannot be run.*apt-get install gcc.*--ignore-scripts/s);
    expect(build(['--output', output], { CC: 'false' })).toMatchObject({ status: 1 });
    expect(build(['--output', output, '--headers', directory]).stderr).toMatch(/node_api.h is in none of/);
    expect(existsSync(output)).toBe(false);
    expect(readdirSync(directory).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });
});

describe('house: every function of the addon', () => {
  it('house: answers EINVAL for arguments of the wrong kind, and too few of them', () => {
    const functions = addon() as unknown as Record<string, (...args: unknown[]) => unknown>;
    for (const [name, call] of Object.entries(functions)) {
      for (const args of [[], [{}], ['x', 'y', 'z'], [null, undefined, Symbol('s')], [{}, {}, {}]]) {
        expect(call(...args), `${name}(${args.length})`).toBe(-22);
      }
    }
  });

  it('house: answers -errno of the call', () => {
    const sys = addon();
    expect(sys.close(999_999)).toBe(-9);
    expect(sys.eventfdRead(999_999)).toBe(-9);
    for (const shared of [0, 1]) expect(sys.eventfdSignal(999_999, shared)).toBe(-9);
    using memfd = OwnedFd.own(sys.memfdCreate('x', Sys.MFD_CLOEXEC), 'memfd');
    expect(sys.eventfdSignal(memfd.number, 1)).toBe(-22);
    expect(sys.ftruncate(999_999, 0)).toBe(-9);
    expect(sys.mmap(999_999, 0, 4096, 4096, 0, 9e4)).toBe(-9);
    expect(sys.mmap(0, 0, 0, 4096, 0, 9e4)).toBe(-22);
    for (const page of [0, 1, 4095, 6000, 2 ** 62]) expect(sys.mmap(0, 0, 4096, page, 0, 9e4), `${page}`).toBe(-22);
    expect(sys.mmap(0, -4096, 4096, 4096, 0, 9e4)).toBe(-22);
    expect(sys.mappingFaults(new ArrayBuffer(4096))).toBe(-22);
    expect(sys.munmap(new ArrayBuffer(4096))).toBe(-22);
    expect(sys.watchStart(0, Sys.READABLE, 'no function' as never)).toBe(-22);
    expect(sys.watchStart(-1, Sys.READABLE, () => {})).toBe(-9);
    expect(sys.watchStart(999_999, Sys.READABLE, () => {})).toBe(-9);
    expect(sys.watchStart(0x7fff_ffff, Sys.READABLE, () => {})).toBe(-9);
    expect(sys.watchStop(999_999, Sys.READABLE)).toBe(-2);
    expect(sys.watchRef(3, true)).toBe(-2);
    expect(sys.poll(999_999, 1, 0)).toBe(0x20);
  });

  it('house: watching the same descriptor twice is EEXIST', () => {
    const sys = addon();
    using fd = OwnedFd.own(sys.eventfd(0, 0o2004000), 'eventfd');
    expect(sys.watchStart(fd.number, Sys.READABLE, () => {})).toBe(0);
    expect(sys.watchStart(fd.number, Sys.READABLE, () => {})).toBe(-17);
    expect(sys.watchStop(fd.number, Sys.READABLE)).toBe(0);
  });

  it('house: an errno becomes a VfioError that says what was tried, also one without a name here', () => {
    expect(checked(7, 'x')).toBe(7);
    expect(() => checked(-12, 'mapping')).toThrow(expect.objectContaining({ code: 'ENOMEM', message: 'mapping: ENOMEM' }));
    expect(sysError(-130, 'trying')).toMatchObject({ code: 'EIO', message: 'trying: errno 130' });
  });
});

describe('house: OwnedFd', () => {
  it('house: closes once, and its number is EBADF afterwards', () => {
    const fd = OwnedFd.own(addon().eventfd(0, 0), 'eventfd');
    const { number } = fd;
    fd[Symbol.dispose]();
    expect(addon().fcntl(number, 1, 0)).toBe(-9);
    using reused = OwnedFd.own(addon().eventfd(0, 0), 'eventfd');
    fd[Symbol.dispose]();
    expect(addon().fcntl(reused.number, 1, 0)).toBeGreaterThanOrEqual(0);
    expect(() => fd.number).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => fd.duplicate()).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });

  it('house: a duplicate is close-on-exec and independent', () => {
    using fd = OwnedFd.own(addon().memfdCreate('mine', 0), 'memfd');
    using copy = fd.duplicate();
    fd[Symbol.dispose]();
    expect(copy.describe()).toBe('/memfd:mine (deleted)');
    expect(addon().fcntl(copy.number, 1, 0)).toBe(1);
  });
});
