import { spawn, spawnSync } from 'node:child_process';
import { writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { turn, until } from '../../tests/kit/event-loop.ts';
import { openDescriptorsAndFiles } from '../../tests/kit/open-descriptors.ts';
import { addon, Sys } from './addon.ts';
import { addonFile } from './addon-file.ts';
import { EventFd } from './eventfd.ts';
import { FakeEventFd } from './fake.ts';
import { OwnedFd } from './owned-fd.ts';

/** Fills the counter as far as a write(2) can, from empty. */
function fill(fd: OwnedFd): void {
  writeSync(fd.number, new BigUint64Array([0xffff_ffff_ffff_fffen]));
}

describe.each([
  { name: 'EventFd', create: (): EventFd | FakeEventFd => EventFd.create() },
  { name: 'FakeEventFd', create: (): EventFd | FakeEventFd => new FakeEventFd() },
])('S2-27 $name, the shape both share', ({ create }) => {
  it('S2-27 counts signals until a reader takes them', () => {
    using eventfd = create();
    expect(eventfd.read()).toBe(null);
    eventfd.signal();
    eventfd.signal();
    expect(eventfd.read()).toBe(2n);
    expect(eventfd.read()).toBe(null);
  });

  it('S2-27 stays open until the last reference is put', () => {
    const eventfd = create();
    eventfd.get();
    eventfd[Symbol.dispose]();
    eventfd[Symbol.dispose]();
    expect(eventfd.references).toBe(1);
    eventfd.signal();
    expect(eventfd.read()).toBe(1n);
    eventfd.put();
    expect(eventfd.references).toBe(0);
  });

  it('S2-27 once closed: signal is silent, all else is EBADF, one put too many is a bug', () => {
    const eventfd = create();
    eventfd[Symbol.dispose]();
    eventfd.signal();
    expect(() => eventfd.read()).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => eventfd.get()).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => eventfd.listen(() => {})).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => eventfd.put()).toThrow(/no references/);
  });

  it('B.9 a listener is called for signals before and after it came, empties the counter, and holds a reference', async () => {
    const eventfd = create();
    let calls = 0;
    eventfd.signal();
    const listening = eventfd.listen(() => calls++);
    expect(eventfd.references).toBe(2);
    await until(() => calls === 1);
    eventfd.signal();
    await until(() => calls === 2);
    expect(calls).toBe(2);
    expect(eventfd.read()).toBe(null);
    eventfd[Symbol.dispose]();
    eventfd.signal();
    await until(() => calls === 3);
    expect(calls).toBe(3);
    listening[Symbol.dispose]();
    listening[Symbol.dispose]();
    expect(eventfd.references).toBe(0);
  });

  it('B.9 a listener disposed by an earlier one in the same delivery is not called', async () => {
    using eventfd = create();
    const seen: string[] = [];
    let second: Disposable | null = null;
    using first = eventfd.listen(() => {
      seen.push('first');
      second?.[Symbol.dispose]();
    });
    second = eventfd.listen(() => seen.push('second'));
    eventfd.signal();
    await until(() => seen.length > 0);
    expect(seen).toEqual(['first']);
    expect(eventfd.references).toBe(2);
    expect(first).toBeDefined();
  });

  it('B.9 listening again after the last listener went works', async () => {
    using eventfd = create();
    let calls = 0;
    for (let round = 1; round <= 3; round++) {
      using listening = eventfd.listen(() => calls++);
      eventfd.signal();
      await until(() => calls === round);
      expect(listening).toBeDefined();
    }
    expect(calls).toBe(3);
  });
});

describe('S2-27 EventFd, the real one', () => {
  it('S2-27 leaves no descriptor behind: made, listened to, duplicated, dropped in any order', async () => {
    EventFd.create()[Symbol.dispose]();
    const before = openDescriptorsAndFiles();
    for (let i = 0; i < 100; i++) {
      const eventfd = EventFd.create();
      const listening = eventfd.listen(() => {});
      const other = EventFd.fromFd(eventfd.duplicateFd());
      if (i % 2 === 0) listening[Symbol.dispose]();
      eventfd[Symbol.dispose]();
      other[Symbol.dispose]();
      if (i % 2 === 1) listening[Symbol.dispose]();
    }
    await turn();
    expect(openDescriptorsAndFiles()).toBe(before);
  });

  it('B.9 a duplicate shares the counter', () => {
    using eventfd = EventFd.create(5);
    using other = EventFd.fromFd(eventfd.duplicateFd());
    other.signal();
    expect(eventfd.read()).toBe(6n);
    expect(other.read()).toBe(null);
  });

  it('B.9 waitSync answers whether it is readable, and leaves the counter', () => {
    using eventfd = EventFd.create();
    expect(eventfd.waitSync(0)).toBe(false);
    eventfd.signal();
    expect(eventfd.waitSync(0)).toBe(true);
    expect(eventfd.waitSync(-1)).toBe(true);
    expect(eventfd.read()).toBe(1n);
  });

  it('B.9 a number that is not open is EBADF, one that is no eventfd EINVAL, and neither leaks', () => {
    using eventfd = EventFd.create();
    const before = openDescriptorsAndFiles();
    for (const bad of [999_999, -1, 1.5, Number.NaN, 2 ** 31, 2 ** 53]) {
      expect(() => EventFd.fromNumber(bad)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    }
    using memfd = OwnedFd.own(addon().memfdCreate('x', Sys.MFD_CLOEXEC), 'memfd');
    expect(() => EventFd.fromNumber(memfd.number)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => EventFd.fromFd(memfd.duplicate())).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(openDescriptorsAndFiles()).toBe(before + 1);
    using same = EventFd.fromNumber(eventfd.duplicateFd().number);
    same.signal();
    expect(eventfd.read()).toBe(1n);
  });

  it('B.9 bad initial counts are EINVAL', () => {
    for (const bad of [-1, Number.NaN, 0.5, 2 ** 32, 2 ** 53]) {
      expect(() => EventFd.create(bad)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    }
  });

  it('B.9 another process’s blocking eventfd stays as it is: neither signalling a full one nor reading an empty one blocks', () => {
    using owner = OwnedFd.own(addon().eventfd(0, Sys.EFD_CLOEXEC), 'eventfd');
    const isBlocking = (): boolean => (addon().fcntl(owner.number, Sys.F_GETFL, 0) & Sys.O_NONBLOCK) === 0;
    using eventfd = EventFd.fromNumber(owner.number);
    eventfd.signal();
    expect(addon().eventfdRead(owner.number)).toBe(1n);
    fill(owner);
    for (let i = 0; i < 300; i++) eventfd.signal();
    // No write(2) gets there: the kernel signals, so there is no moment between a look and a write.
    expect(eventfd.read()).toBe(0xffff_ffff_ffff_ffffn);
    expect(eventfd.read()).toBe(null);
    expect(isBlocking()).toBe(true);
  });

  it('B.9 signalling never waits for an eventfd that another process shares, fills and makes blocking', () => {
    using eventfd = EventFd.create();
    using theirs = eventfd.duplicateFd();
    eventfd.signal();
    expect(addon().eventfdRead(theirs.number)).toBe(1n);
    addon().fcntl(theirs.number, Sys.F_SETFL, addon().fcntl(theirs.number, Sys.F_GETFL, 0) & ~Sys.O_NONBLOCK);
    fill(theirs);
    eventfd.signal();
    expect(eventfd.read()).toBe(0xffff_ffff_ffff_ffffn);
  });

  it('B.9 waitSync goes on waiting when a signal comes', () => {
    using eventfd = EventFd.create();
    using fd = eventfd.duplicateFd();
    const onSignal = () => {};
    process.on('SIGWINCH', onSignal);
    const child = spawn(
      '/bin/sh',
      ['-c', `kill -WINCH ${process.pid}; sleep 0.1; kill -WINCH ${process.pid}; printf '\\1\\0\\0\\0\\0\\0\\0\\0' >&3`],
      {
        stdio: ['ignore', 'ignore', 'ignore', fd.number],
      },
    );
    try {
      expect(eventfd.waitSync(150_000)).toBe(true);
    } finally {
      process.off('SIGWINCH', onSignal);
      child.unref();
    }
    expect(() => eventfd.waitSync(Number.NaN)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('B.9 signals from a worker thread reach a listener here', async () => {
    using eventfd = EventFd.create();
    using fd = eventfd.duplicateFd();
    let calls = 0;
    using listening = eventfd.listen(() => calls++, { keepAlive: true });
    const worker = new Worker(
      'const { workerData: w } = require("node:worker_threads"); const m = { exports: {} };' +
        'process.dlopen(m, w.path); m.exports.eventfdSignal(w.fd, 0);',
      { eval: true, workerData: { path: addonFile(), fd: fd.number } },
    );
    const code = await new Promise((resolve) => worker.once('exit', resolve));
    await until(() => calls > 0);
    expect(code).toBe(0);
    expect(calls).toBe(1);
    expect(listening).toBeDefined();
  });
});

describe('S2-27 the end of a process or thread that still listens', () => {
  const inProcess = (body: string) =>
    spawnSync(
      process.execPath,
      ['-e', `const m = { exports: {} }; process.dlopen(m, ${JSON.stringify(addonFile())}); const sys = m.exports; ${body}`],
      {
        encoding: 'utf8',
        timeout: 180_000,
      },
    );
  addon();

  it('S2-27 a listener does not keep the process alive unless asked to', () => {
    const quiet = inProcess(
      'const fd = sys.eventfd(0, 0o2004000); sys.watchStart(fd, 1, () => {}); sys.watchRef(fd, false); console.log("end");',
    );
    expect(quiet).toMatchObject({ status: 0, signal: null, stdout: 'end\n' });
    const kept = inProcess(
      'const fd = sys.eventfd(0, 0o2004000); sys.watchStart(fd, 1, () => { console.log("called"); sys.watchStop(fd, 1); }); setTimeout(() => sys.eventfdSignal(fd, 0), 1).unref();' +
        'process.on("exit", () => console.log("end"));',
    );
    expect(kept).toMatchObject({ status: 0, stdout: 'called\nend\n' });
  });

  it('S2-27 a worker that ends, or is terminated, with live watchers and mappings does not abort the process, and its mappings go', () => {
    const result = inProcess(`
      const { Worker } = require('node:worker_threads'); const { readFileSync } = require('node:fs');
      const body = (end) => \`const m = { exports: {} }; process.dlopen(m, ${JSON.stringify(addonFile())}); const sys = m.exports;
        for (let i = 0; i < 3; i++) { const fd = sys.eventfd(i, 0o2004000); sys.watchStart(fd, 1, () => {}); if (i === 2) sys.watchStop(fd, 1); }
        const fd = sys.memfdCreate('left-behind', 1); sys.ftruncate(fd, 4096); globalThis.kept = sys.mmap(fd, 0, 4096, 4096, 2, 9e4); require('node:worker_threads').parentPort.postMessage(0); \${end}\`;
      const run = (end, stop) => new Promise((resolve) => { const w = new Worker(body(end), { eval: true }); w.on('message', () => stop(w)); w.on('exit', resolve); });
      (async () => {
        for (let i = 0; i < 5; i++) { await run('process.exit(0)', () => {}); await run('setInterval(() => {}, 1000)', (w) => w.terminate()); }
        console.log('maps', readFileSync('/proc/self/maps', 'utf8').includes('left-behind'));
      })();`);
    expect(result).toMatchObject({ status: 0, signal: null, stdout: 'maps false\n' });
  });

  it('S2-27 a listener that throws is an uncaught exception, not a crash', () => {
    const result = inProcess(
      'const fd = sys.eventfd(1, 0o2004000); process.on("uncaughtException", (e) => { console.log(e.message); sys.watchStop(fd, 1); });' +
        'sys.watchStart(fd, 1, () => { throw new Error("ours"); });',
    );
    expect(result).toMatchObject({ status: 0, stdout: 'ours\n' });
  });
});
