import { spawnSync } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { withCode } from '../../tests/kit/errno.ts';
import { openDescriptorsAndFiles } from '../../tests/kit/open-descriptors.ts';
import { Access } from '../abi/memory.ts';
import { addon, Sys } from './addon.ts';
import { addonFile } from './addon-file.ts';
import { foreignMappingsMax, MemfdMemory } from './memfd.ts';
import { OwnedFd } from './owned-fd.ts';
import { UnixSocket } from './unix-socket.ts';

const PAGE = 4096;
const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** A peer's memory: a memfd without seals. */
function unsealed(pages: number): OwnedFd {
  const fd = OwnedFd.own(addon().memfdCreate('peer', Sys.MFD_CLOEXEC | Sys.MFD_ALLOW_SEALING), 'memfd');
  expect(addon().ftruncate(fd.number, pages * PAGE)).toBe(0);
  return fd;
}

/** The same file, opened for reading only. */
const readOnly = (fd: OwnedFd): OwnedFd => OwnedFd.own(openSync(`/proc/self/fd/${fd.number}`, 'r'), 'opening');

/**
 * Runs `script` in a process of its own: `sys`, `map(fd, length, how)` and `truncate(fd, length)`
 * are there.
 */
const inProcess = (script: string) =>
  spawnSync(
    process.execPath,
    [
      '-e',
      `const m = { exports: {} }; process.dlopen(m, ${JSON.stringify(addonFile())}); const sys = m.exports;
       const made = (length) => { const fd = sys.memfdCreate('peer', 1); sys.ftruncate(fd, length); return fd; };
       const map = (fd, length, how) => { const b = sys.mmap(fd, 0, length, 4096, how, 9e4); return typeof b === 'number' ? b : new Uint8Array(b); };
       ${script}`,
    ],
    { encoding: 'utf8', timeout: 180_000 },
  );

describe('transport: memory of a peer that truncates it', () => {
  it('transport: reads zeros and keeps stores where the file has gone, what is left stays shared, and the fault is counted', () => {
    using fd = unsealed(4);
    using peer = MemfdMemory.fromFd(fd.duplicate(), 0, 4 * PAGE);
    using memory = MemfdMemory.fromFd(fd.duplicate(), 0, 4 * PAGE);
    const window = memory.windows[0]!;
    window.fill(7);
    expect([memory.faults, peer.windows[0]![3 * PAGE]]).toEqual([0, 7]);
    expect(addon().ftruncate(fd.number, 2 * PAGE)).toBe(0);
    expect(window[2 * PAGE - 1]).toBe(7);
    expect(memory.faults).toBe(0);
    expect(window[2 * PAGE + 5]).toBe(0);
    expect(memory.faults).toBe(1);
    window[3 * PAGE] = 9;
    expect([window[3 * PAGE], window[2 * PAGE], window[PAGE], memory.faults]).toEqual([9, 0, 7, 1]);
    window[0] = 1;
    expect(peer.windows[0]![0]).toBe(1);
    // Further down afterwards, and the file grown again: what has been replaced stays so.
    expect(addon().ftruncate(fd.number, 0)).toBe(0);
    expect([window[PAGE], window[0], memory.faults]).toEqual([0, 0, 3]);
    expect(addon().ftruncate(fd.number, 4 * PAGE)).toBe(0);
    window[0] = 5;
    expect([peer.windows[0]![0], peer.faults]).toEqual([0, 0]);
  });

  it.each<[string, (window: Uint8Array<ArrayBuffer>) => unknown]>([
    ['a typed array fills', (w) => w.fill(3)],
    ['it is copied', (w) => w.slice()],
    ['it is copied into', (w) => w.set(new Uint8Array(w.length).fill(1))],
    ['bytes move within it', (w) => w.copyWithin(0, PAGE)],
    ['a DataView reads', (w) => new DataView(w.buffer).getBigUint64(2 * PAGE - 4)],
    ['a DataView writes', (w) => new DataView(w.buffer).setFloat64(2 * PAGE - 4, 1.5)],
    ['Atomics adds', (w) => Atomics.add(new Uint32Array(w.buffer), PAGE / 4, 1)],
    ['a Buffer is searched', (w) => Buffer.from(w.buffer).indexOf('nothing like it')],
    ['it is text', (w) => new TextDecoder().decode(w)],
  ])('transport: whole, while %s', (_name, use) => {
    for (const access of [Access.READ, Access.READ_WRITE]) {
      using fd = unsealed(4);
      using memory = MemfdMemory.fromFd(fd.duplicate(), 0, 4 * PAGE, access);
      memory.windows[0]![0] = 1;
      expect(addon().ftruncate(fd.number, 0)).toBe(0);
      use(memory.windows[0]!);
      expect(memory.faults).toBeGreaterThan(0);
      expect(memory.faults).toBeLessThanOrEqual(4);
    }
  });

  it('transport: page by page from its end, each of many mappings, none of the others is touched', () => {
    using fd = unsealed(64);
    using other = unsealed(64);
    using untouched = MemfdMemory.fromFd(other.duplicate(), 0, 64 * PAGE);
    untouched.windows[0]!.fill(6);
    const memories = Array.from({ length: 50 }, () => MemfdMemory.fromFd(fd.duplicate(), 0, 64 * PAGE));
    expect(addon().ftruncate(fd.number, 0)).toBe(0);
    const maps = (): number => readFileSync('/proc/self/maps', 'utf8').split('\n').length;
    const before = maps();
    for (const memory of memories) for (let page = 63; page >= 0; page -= 2) memory.windows[0]![page * PAGE] = 1;
    // The replaced parts of a mapping become one, about 50 together rather than 1600: a peer cannot
    // exhaust this process's mappings.
    expect(maps() - before).toBeLessThan(400);
    expect(memories.map((memory) => memory.faults)).toEqual(memories.map(() => 32));
    expect(untouched.windows[0]!.every((byte) => byte === 6)).toBe(true);
    for (const memory of memories) memory[Symbol.dispose]();
    expect(readFileSync('/proc/self/maps', 'utf8').split('memfd:peer').length - 1).toBe(1);
  });

  it('transport: a file on a disk too; and a kernel that is handed such memory answers EFAULT', () => {
    const path = join(directory, 'file');
    writeFileSync(path, new Uint8Array(2 * PAGE).fill(4));
    using memory = MemfdMemory.fromFd(OwnedFd.own(openSync(path, 'r+'), 'opening'), 0, 2 * PAGE);
    truncateSync(path, 0);
    const [a, b] = UnixSocket.pair();
    using _a = a;
    using _b = b;
    expect(() => a.send(memory.windows[0]!, 0, PAGE)).toThrow(expect.objectContaining({ message: expect.stringMatching(/EFAULT/) }));
    expect(memory.faults).toBe(0);
    expect(memory.windows[0]![PAGE]).toBe(0);
    expect(memory.faults).toBe(1);
  });

  it('transport: in worker threads, and after one of them has ended', () => {
    const result = inProcess(`
      const { Worker } = require('node:worker_threads');
      const body = \`const m = { exports: {} }; process.dlopen(m, ${JSON.stringify(addonFile())}); const sys = m.exports;
        const fd = sys.memfdCreate('peer', 1); sys.ftruncate(fd, 8192); const buffer = sys.mmap(fd, 0, 8192, 4096, 2, 9e4); const w = new Uint8Array(buffer);
        sys.ftruncate(fd, 0); for (let i = 0; i < 1000; i++) w[4096] += 1;
        require('node:worker_threads').parentPort.postMessage([w[4096], sys.mappingFaults(buffer)]);\`;
      const run = () => new Promise((resolve) => { let got; const w = new Worker(body, { eval: true }); w.on('message', (x) => { got = x; }); w.on('exit', () => resolve(got)); });
      (async () => {
        console.log(JSON.stringify(await Promise.all([run(), run(), run()])), JSON.stringify(await run()));
        const fd = made(4096); const w = map(fd, 4096, 2); sys.ftruncate(fd, 0); w[0] = 8; console.log(w[0]);
      })();`);
    expect(result).toMatchObject({ status: 0, signal: null, stdout: '[[232,1],[232,1],[232,1]] [232,1]\n8\n' });
  });

  it('transport: also with as many mappings as one process may have, all of them truncated; one more is ENOMEM', () => {
    const limit = foreignMappingsMax();
    const result = inProcess(`
      const fd = made(8192), all = [], map1 = () => sys.mmap(fd, 0, 8192, 4096, 2, ${limit});
      for (let b = map1(); ; b = map1()) { if (typeof b === 'number') { console.log(b); break; } all.push(new Uint8Array(b)); }
      console.log(all.length);
      sys.ftruncate(fd, 4096);
      let sum = 0;
      for (let i = 0; i < all.length; i += 16) { sum += all[i][4096]; all[i][4097] = 1; }
      sys.munmap(all.pop().buffer);
      console.log(sum, all[0][4097], typeof map1());
      process.reallyExit(0);`);
    expect(result).toMatchObject({ status: 0, signal: null, stdout: `-12\n${limit}\n0 1 object\n` });
  });

  it('transport: SIGBUS anywhere else ends the process as it always did', () => {
    const guardInstalled = 'const g = made(4096); map(g, 4096, 2);';
    expect(
      inProcess(`${guardInstalled} const fd = made(4096); const w = map(fd, 4096, 0); sys.ftruncate(fd, 0); console.log(w[0]);`),
    ).toMatchObject({
      signal: 'SIGBUS',
      stdout: '',
    });
    expect(inProcess(`${guardInstalled} process.kill(process.pid, 'SIGBUS'); setTimeout(() => {}, 5000);`)).toMatchObject({
      signal: 'SIGBUS',
    });
    // A second copy of the addon chains to the first: each mends its own.
    const copy = join(directory, 'copy.node');
    writeFileSync(copy, readFileSync(addonFile()));
    expect(
      inProcess(`${guardInstalled} const m2 = { exports: {} }; process.dlopen(m2, ${JSON.stringify(copy)}); m2.exports.mmap(made(4096), 0, 4096, 4096, 2, 9e4);
        const fd = made(4096); const w = map(fd, 4096, 2); sys.ftruncate(fd, 0); console.log(w[0]);`),
    ).toMatchObject({ status: 0, stdout: '0\n' });
  });
});

describe('transport: what a peer allows', () => {
  it('transport: memory to be read needs no writable descriptor, shows what the peer stores, and keeps our stores from it', () => {
    using fd = unsealed(2);
    using peer = MemfdMemory.fromFd(fd.duplicate(), 0, 2 * PAGE);
    using memory = MemfdMemory.fromFd(readOnly(fd), PAGE, PAGE, Access.READ);
    expect([memory.size, memory.fileOffset]).toEqual([PAGE, PAGE]);
    peer.windows[0]![PAGE] = 5;
    expect(memory.windows[0]![0]).toBe(5);
    peer.windows[0]![PAGE] = 6;
    expect(memory.windows[0]![0]).toBe(6);
    memory.windows[0]![0] = 99;
    expect(peer.windows[0]![PAGE]).toBe(6);
  });

  it('transport: memory to be written needs a descriptor and seals that allow it; refused ones are closed', () => {
    using fd = unsealed(1);
    const before = openDescriptorsAndFiles();
    expect(() => MemfdMemory.fromFd(readOnly(fd), 0, PAGE)).toThrow(withCode('EACCES'));
    expect(() => MemfdMemory.fromFd(readOnly(fd), 0, PAGE, Access.WRITE)).toThrow(withCode('EACCES'));
    expect(addon().fcntl(fd.number, Sys.F_ADD_SEALS, 8)).toBe(0);
    expect(() => MemfdMemory.fromFd(fd.duplicate(), 0, PAGE, Access.READ_WRITE)).toThrow(withCode('EPERM'));
    MemfdMemory.fromFd(fd.duplicate(), 0, PAGE, Access.READ)[Symbol.dispose]();
    expect(openDescriptorsAndFiles()).toBe(before);
  });

  it('transport: what is no file is refused and closed: a directory, a pipe, a device, a socket', () => {
    const before = openDescriptorsAndFiles();
    for (const path of [directory, '/dev/zero', '/dev/null']) {
      expect(() => MemfdMemory.fromFd(OwnedFd.own(openSync(path, 'r'), 'opening'), 0, PAGE), path).toThrow(withCode('EINVAL'));
    }
    const [a, b] = UnixSocket.pair();
    expect(() => MemfdMemory.fromFd(a.release(), 0, PAGE)).toThrow(withCode('EINVAL'));
    b[Symbol.dispose]();
    expect(openDescriptorsAndFiles()).toBe(before);
  });

  const hugePages = Number(readFileSync('/proc/sys/vm/nr_hugepages', 'utf8'));
  it.skipIf(hugePages < 2)('transport: ranges of memory in huge pages start and end anywhere (skipped where the system has none)', () => {
    const MFD_HUGETLB = 4;
    using fd = OwnedFd.own(addon().memfdCreate('peer', Sys.MFD_CLOEXEC | MFD_HUGETLB), 'memfd');
    const huge = 2 * 2 ** 20;
    expect(addon().ftruncate(fd.number, 2 * huge)).toBe(0);
    using whole = MemfdMemory.fromFd(fd.duplicate(), 0, 2 * huge);
    for (const access of [Access.READ, Access.READ_WRITE]) {
      using part = MemfdMemory.fromFd(fd.duplicate(), huge - PAGE, 2 * PAGE, access);
      whole.windows[0]![huge] = 3;
      expect([part.windows[0]!.length, part.windows[0]![PAGE]]).toEqual([2 * PAGE, 3]);
    }
    using part = MemfdMemory.fromFd(fd.duplicate(), huge + PAGE, PAGE);
    expect(addon().ftruncate(fd.number, huge)).toBe(0);
    expect([part.windows[0]![0], part.faults]).toEqual([0, 1]);
  });
});
