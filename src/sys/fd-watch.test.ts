import { spawnSync } from 'node:child_process';
import { performance } from 'node:perf_hooks';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { withCode } from '../../tests/kit/errno.ts';
import { turn, until } from '../../tests/kit/event-loop.ts';
import { openDescriptorsAndFiles } from '../../tests/kit/open-descriptors.ts';
import { addon } from './addon.ts';
import { addonFile } from './addon-file.ts';
import { EventFd } from './eventfd.ts';
import { UnixSocket } from './unix-socket.ts';

const into = new Uint8Array(4096);

const loadAddon = `const m = { exports: {} }; process.dlopen(m, ${JSON.stringify(addonFile())}); const sys = m.exports;`;

/**
 * Runs `script` in a process of its own with the addon as `sys`, `pair()` for two connected sockets
 * and `wait()` for one that sleeps in C.
 */
const inProcess = (script: string) =>
  spawnSync(
    process.execPath,
    [
      '-e',
      `${loadAddon} const pair = () => { const two = new Int32Array(2); sys.socketpair(two); return two; }; const one = new Uint8Array(1), none = new Int32Array(254); ${script}`,
    ],
    { encoding: 'utf8', timeout: 180_000 },
  );

/**
 * A thread that sends `total` messages of 4 bytes over the socket it is given, each after the
 * answer to the previous one, and ends. The thread blocks: only this thread's event loop can answer
 * meanwhile.
 */
function client(total: number): { socket: UnixSocket; done: Promise<unknown> } {
  const two = new Int32Array(2);
  addon().socketpair(two);
  const worker = new Worker(
    `${loadAddon} const { workerData: [fd, total] } = require('node:worker_threads'); const b = new Uint8Array(4), none = new Int32Array(254);
     for (let i = 0; i < total; i++) { sys.sendmsg(fd, b, 0, 4, none, 0); sys.poll(fd, 1, 150000); if (sys.recvmsg(fd, b, 0, 4, none) !== 4) break; }
     sys.close(fd);`,
    { eval: true, workerData: [two[1], total] },
  );
  return { socket: UnixSocket.fromNumber(two[0]!), done: new Promise((resolve) => worker.on('exit', resolve)) };
}

let before = 0;
beforeEach(() => {
  addon();
  before = openDescriptorsAndFiles();
});
const nothingLeft = (): void => expect(openDescriptorsAndFiles(), 'descriptors open afterwards').toBe(before);

describe('transport: listening', () => {
  afterEach(nothingLeft);

  it('transport: is called while there is something to receive, also for what came before, whatever it answers', async () => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    using _b = b;
    a.send(into, 0, 10);
    let got = 0;
    let calls = 0;
    const listening = b.listen(() => {
      calls++;
      got += b.receive(into, 0, 1, []);
      return calls % 3 === 0;
    });
    expect(got).toBe(0);
    await until(() => got === 10);
    expect(calls).toBe(10);
    a.send(into, 0, 5);
    await until(() => got === 15);
    listening[Symbol.dispose]();
    listening[Symbol.dispose]();
    a.send(into, 0, 5);
    for (let i = 0; i < 5; i++) await turn();
    expect([got, calls]).toEqual([15, 15]);
  });

  it('transport: one listener at a time; another may follow, and answers of any kind but true are no', async () => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    using _b = b;
    const first = b.listen(() => false);
    expect(() => b.listen(() => false)).toThrow(withCode('EBUSY'));
    first[Symbol.dispose]();
    const answers = [undefined, 1, 'true', {}, null, 0n, Symbol('true')];
    const second = b.listen(() => {
      b.receive(into, 0, 1, []);
      return answers.pop() as never;
    });
    first[Symbol.dispose]();
    a.send(into, 0, answers.length);
    await until(() => answers.length === 0);
    second[Symbol.dispose]();
  });

  it('transport: after the end of the stream was received, no listener is called again', async () => {
    const [a, b] = UnixSocket.pair();
    using _b = b;
    const received: number[] = [];
    const listening = b.listen(() => {
      received.push(b.receive(into, 0, 100, []));
      return true;
    });
    a.send(into, 0, 3);
    a[Symbol.dispose]();
    await until(() => received.length === 2);
    for (let i = 0; i < 10; i++) await turn();
    expect(received).toEqual([3, 0]);
    listening[Symbol.dispose]();
  });

  it('transport: a reset connection is reported until the listener reads to its end', async () => {
    const [a, b] = UnixSocket.pair();
    using _b = b;
    const seen: unknown[] = [];
    using _listening = b.listen(() => {
      // The listener does nothing about the reset at first.
      if (seen.push('called') < 4) return true;
      try {
        seen.push(b.receive(into, 0, 100, []));
      } catch (error) {
        seen.push((error as { code: string }).code);
      }
      return true;
    });
    b.send(into, 0, 3);
    a[Symbol.dispose]();
    await until(() => seen.includes(0));
    expect(seen.slice(3)).toEqual(['called', 'ECONNRESET', 'called', 0]);
  });

  it.each([
    ['the listener', false],
    ['the socket', true],
  ])('transport: %s may be disposed from within the callback, which answers true all the same', async (_what, whole) => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    let calls = 0;
    const listening = b.listen(() => {
      calls++;
      if (whole) b[Symbol.dispose]();
      else listening[Symbol.dispose]();
      return true;
    });
    a.send(into, 0, 3);
    await until(() => calls === 1);
    for (let i = 0; i < 10; i++) await turn();
    expect(calls).toBe(1);
    b[Symbol.dispose]();
    // The number is free at once: a new socket with it gets its own events.
    const [c, d] = UnixSocket.pair();
    using _c = c;
    using _d = d;
    let own = 0;
    c.listen(() => {
      own += c.receive(into, 0, 10, []);
      return true;
    });
    d.send(into, 0, 2);
    await until(() => own === 2);
  });

  it('transport: a listener replaced from within the callback, and one that waits for room at the same time', async () => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    using _b = b;
    const seen: string[] = [];
    let listening = b.listen(() => {
      b.receive(into, 0, 100, []);
      seen.push('first');
      listening[Symbol.dispose]();
      listening = b.listen(() => {
        b.receive(into, 0, 100, []);
        seen.push('second');
        return true;
      });
      b.onWritable(() => seen.push('room'));
      return true;
    });
    a.send(into, 0, 1);
    await until(() => seen.length === 2);
    a.send(into, 0, 1);
    await until(() => seen.length === 3);
    expect(seen).toEqual(['first', 'room', 'second']);
    listening[Symbol.dispose]();
    b.onWritable(() => b[Symbol.dispose]());
    b.onWritable(() => seen.push('room as well'));
    await until(() => seen.length === 4);
  });
});

describe('transport: sticky listening', () => {
  it('transport: takes fewer turns of the event loop than messages come', async () => {
    const loops = (): number => (performance.nodeTiming as unknown as { uvMetricsInfo: { loopCount: number } }).uvMetricsInfo.loopCount;
    // The socket stays empty for a moment only, and this thread may have to wait longer than that
    // for a processor: 300 messages in a row, while neither end waits for a processor, are enough.
    const inARow = 300;
    let least = Number.POSITIVE_INFINITY;
    while (least > inARow / 2) {
      const { socket, done } = client(10 * inARow);
      let messages = 0;
      let first = 0;
      socket.listen(
        () => {
          if (socket.receive(into, 0, 64, []) !== 4) return true;
          if (messages % inARow === 0) {
            if (messages > 0) least = Math.min(least, loops() - first);
            first = loops();
          }
          messages += socket.send(into, 0, 4) / 4;
          return true;
        },
        { keepAlive: true },
      );
      await done;
      expect(messages).toBe(10 * inARow);
      socket[Symbol.dispose]();
      nothingLeft();
    }
  });

  it('transport: a busy listener delays no others: timers, immediates, other descriptors, and ones that are new', async () => {
    const { socket, done } = client(20_000);
    using event = EventFd.create();
    let messages = 0;
    const at: Record<string, number> = {};
    const seen = (what: string) => () => {
      at[what] ??= messages;
    };
    event.listen(seen('descriptor'));
    let pair: UnixSocket[] = [];
    socket.listen(
      () => {
        if (socket.receive(into, 0, 64, []) !== 4) return true;
        messages++;
        if (messages === 100) {
          setTimeout(seen('timer'), 1);
          setImmediate(seen('immediate'));
          queueMicrotask(seen('microtask'));
          process.nextTick(seen('tick'));
          event.signal();
          pair = UnixSocket.pair();
          pair[0]!.send(into, 0, 1);
          pair[1]!.listen(() => {
            seen('new descriptor')();
            return pair[1]!.receive(into, 0, 1, []) > 0;
          });
        }
        socket.send(into, 0, 4);
        return true;
      },
      { keepAlive: true },
    );
    await done;
    expect(messages).toBe(20_000);
    // One go takes up to 256 messages; a timer of 1 ms is due within some hundreds more.
    expect(at).toMatchObject({ microtask: 100, tick: 100 });
    for (const what of ['immediate', 'descriptor', 'new descriptor']) expect(at[what], what).toBeLessThan(1000);
    expect(at.timer).toBeLessThan(20_000);
    for (const one of [socket, ...pair]) one[Symbol.dispose]();
  });

  it('transport: two listeners that are both busy share', async () => {
    const clients = [client(3000), client(3000)];
    const messages = [0, 0];
    for (const [i, { socket }] of clients.entries()) {
      socket.listen(
        () => {
          if (socket.receive(into, 0, 64, []) === 4) messages[i]! += socket.send(into, 0, 4) / 4;
          return true;
        },
        { keepAlive: true },
      );
    }
    await Promise.all(clients.map(({ done }) => done));
    expect(messages).toEqual([3000, 3000]);
    for (const { socket } of clients) socket[Symbol.dispose]();
    nothingLeft();
  });
});

describe('transport: the end of a process or thread that still listens', () => {
  it('transport: a listener keeps the process alive when asked to only; waiting for room does', () => {
    const quiet = inProcess('const [a, b] = pair(); sys.watchStart(a, 1, () => true); sys.watchRef(a, false); console.log("end");');
    expect(quiet).toMatchObject({ status: 0, signal: null, stdout: 'end\n' });
    const kept =
      inProcess(`const [a, b] = pair(); sys.watchStart(a, 1, () => { sys.recvmsg(a, one, 0, 1, none); console.log("called"); sys.watchStop(a, 1); return true; });
      setTimeout(() => sys.sendmsg(b, one, 0, 1, none, 0), 1).unref(); process.on("exit", () => console.log("end"));`);
    expect(kept).toMatchObject({ status: 0, stdout: 'called\nend\n' });
    const sticky =
      inProcess(`const [a, b] = pair(); let n = 0; sys.watchStart(a, 1, () => { sys.recvmsg(a, one, 0, 1, none); if (++n === 1) sys.watchRef(a, false); return true; });
      sys.sendmsg(b, one, 0, 1, none, 0); process.on("exit", () => console.log("end", n));`);
    expect(sticky).toMatchObject({ status: 0, stdout: 'end 1\n' });
  });

  it('transport: a callback that throws is an uncaught exception, and is called again', () => {
    const result = inProcess(`const [a, b] = pair(); let n = 0; process.on("uncaughtException", (e) => console.log(e.message));
      sys.watchStart(a, 1, () => { sys.recvmsg(a, one, 0, 1, none); if (++n === 4) { sys.watchStop(a, 1); return true; } if (n % 2) throw new Error("call " + n); return true; });
      for (let i = 0; i < 4; i++) sys.sendmsg(b, one, 0, 1, none, 0);`);
    expect(result).toMatchObject({ status: 0, stdout: 'call 1\ncall 3\n' });
    expect(inProcess('const [a, b] = pair(); sys.watchStart(a, 2, () => { throw new Error("ours"); });').stderr).toMatch(/Error: ours/);
  });

  it('transport: signals reach their handlers while it waits', () => {
    const result =
      inProcess(`const [a, b] = pair(); sys.watchStart(a, 1, () => { sys.recvmsg(a, one, 0, 1, none); return true; }); sys.sendmsg(b, one, 0, 1, none, 0);
      process.on('SIGTERM', () => { console.log('handled'); process.exit(0); });
      require('node:child_process').exec('kill -TERM ' + process.pid);`);
    expect(result).toMatchObject({ status: 0, stdout: 'handled\n' });
  });

  it('transport: a worker that ends, or is terminated, while it listens, waits or sends, does not abort the process', () => {
    const result = inProcess(`
      const { Worker } = require('node:worker_threads');
      const body = (then) => \`${loadAddon.replaceAll('`', '')} const [a, b] = require('node:worker_threads').workerData; const { parentPort } = require('node:worker_threads');
        const one = new Uint8Array(1), none = new Int32Array(254); let n = 0;
        sys.watchStart(a, 1, () => { sys.recvmsg(a, one, 0, 1, none); if (++n === 1) parentPort.postMessage(0); return true; });
        sys.watchStart(a, 2, () => { sys.watchStop(a, 2); sys.watchStart(a, 2, () => {}); });
        sys.sendmsg(b, one, 0, 1, none, 0); \${then}\`;
      const run = (then, stop) => new Promise((resolve) => { const w = new Worker(body(then), { eval: true, workerData: pair() }); w.on('message', () => stop(w)); w.on('exit', resolve); });
      (async () => {
        for (let i = 0; i < 5; i++) {
          await run('', (w) => w.terminate());
          await run('setTimeout(() => process.exit(0), 2)', () => {});
          await run('parentPort.postMessage(0); const wait = () => sys.poll(b, 1, 50); for (;;) wait();', (w) => w.terminate());
        }
        console.log('alive');
      })();`);
    expect(result).toMatchObject({ status: 0, signal: null, stdout: 'alive\n', stderr: '' });
  });
});
