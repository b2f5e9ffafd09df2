import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fewDescriptors } from '../../tests/kit/descriptor-limit.ts';
import { withCode } from '../../tests/kit/errno.ts';
import { turn } from '../../tests/kit/event-loop.ts';
import { heapGrowth } from '../../tests/kit/heap-growth.ts';
import { openDescriptorsAndFiles } from '../../tests/kit/open-descriptors.ts';
import { typescript } from '../../tests/kit/typescript.ts';
import { addon, Sys } from './addon.ts';
import { WOULD_BLOCK } from './byte-stream.ts';
import { EventFd } from './eventfd.ts';
import { MemfdMemory } from './memfd.ts';
import { OwnedFd } from './owned-fd.ts';
import { UnixSocket } from './unix-socket.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Everything that is there right now, as text. */
function drain(socket: UnixSocket, fds: OwnedFd[] = []): string {
  const into = new Uint8Array(4096);
  let text = '';
  for (let n = socket.receive(into, 0, 4096, fds); n > 0; n = socket.receive(into, 0, 4096, fds)) {
    text += new TextDecoder().decode(into.subarray(0, n));
  }
  return text;
}

/** Runs `body` while this process can open `spare` descriptors more. */
function withDescriptorsLeft(spare: number, body: () => void): void {
  const held: OwnedFd[] = [];
  try {
    using one = OwnedFd.own(addon().eventfd(0, Sys.EFD_CLOEXEC), 'eventfd');
    try {
      for (;;) held.push(one.duplicate());
    } catch {
      for (let i = 0; i < spare; i++) held.pop()![Symbol.dispose]();
    }
    body();
  } finally {
    for (const fd of held) fd[Symbol.dispose]();
  }
}

fewDescriptors();
let before = 0;
beforeEach(() => {
  addon();
  before = openDescriptorsAndFiles();
});
afterEach(() => expect(openDescriptorsAndFiles(), 'descriptors open afterwards').toBe(before));

describe('transport: bytes', () => {
  it('transport: arrive in both directions, in any portions, into the range that was asked for', () => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    using _b = b;
    const into = new Uint8Array(8).fill(0xee);
    expect(a.receive(into, 0, 8, [])).toBe(WOULD_BLOCK);
    expect(a.send(bytes('xxhelloxx'), 2, 7)).toBe(5);
    expect(b.receive(into, 1, 4, [])).toBe(3);
    expect([...into]).toEqual([0xee, ...bytes('hel'), 0xee, 0xee, 0xee, 0xee]);
    expect(drain(b)).toBe('lo');
    expect(b.send(bytes('back'), 0, 4)).toBe(4);
    expect(drain(a)).toBe('back');
    expect(a.send(bytes('x'), 1, 1)).toBe(0);
  });

  it('transport: any split of a stream into sends and receives leaves it the same', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 2000 }),
        fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1 }),
        (data, sizes) => {
          const [a, b] = UnixSocket.pair();
          using _a = a;
          using _b = b;
          const got = new Uint8Array(data.length);
          let sent = 0;
          let received = 0;
          for (let i = 0; received < data.length; i++) {
            const size = sizes[i % sizes.length]!;
            if (sent < data.length) sent += a.send(data, sent, Math.min(data.length, sent + size));
            const n = b.receive(got, received, Math.min(data.length, received + sizes[(i + 1) % sizes.length]!), []);
            if (n > 0) received += n;
          }
          expect(got).toEqual(data);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('transport: a full buffer takes a part, then nothing; reading makes room again', async () => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    using _b = b;
    const data = new Uint8Array(1 << 20).map((_, i) => i * 7);
    let sent = 0;
    let writable = 0;
    const calls: number[] = [];
    for (;;) {
      const n = a.send(data, sent % data.length, data.length);
      calls.push(n);
      if (n === WOULD_BLOCK) break;
      sent += n;
    }
    expect(calls.some((n) => n > 0 && n < data.length)).toBe(true);
    expect(a.wait('writable', 0)).toBe(false);
    a.onWritable(() => writable++);
    a.onWritable(() => writable++);
    a.onWritable(() => writable++)[Symbol.dispose]();
    await turn();
    expect(writable).toBe(0);

    const got = new Uint8Array(sent);
    for (let at = 0; at < sent; ) {
      expect(b.wait('readable', 1000)).toBe(true);
      at += b.receive(got, at, sent, []);
    }
    expect(got.every((byte, i) => byte === data[i % data.length])).toBe(true);
    expect(b.receive(new Uint8Array(1), 0, 1, [])).toBe(WOULD_BLOCK);
    while (writable < 2) await turn();
    await turn();
    expect(writable).toBe(2);
  });

  it('transport: the end of the stream comes after everything that was sent; the other direction stays', () => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    using _b = b;
    a.send(bytes('last'), 0, 4);
    a.end();
    const into = new Uint8Array(10);
    expect(b.receive(into, 0, 10, [])).toBe(4);
    expect(b.receive(into, 0, 10, [])).toBe(0);
    expect(b.receive(into, 0, 10, [])).toBe(0);
    expect(b.send(bytes('still'), 0, 5)).toBe(5);
    expect(drain(a)).toBe('still');
    expect(() => a.send(bytes('x'), 0, 1)).toThrow(withCode('EPIPE'));
  });

  it('transport: a peer that is gone is EPIPE for a sender, without a signal; ECONNRESET when it left bytes unread', () => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    b[Symbol.dispose]();
    expect(() => a.send(bytes('x'), 0, 1)).toThrow(withCode('EPIPE'));
    expect(a.receive(new Uint8Array(1), 0, 1, [])).toBe(0);

    const [c, d] = UnixSocket.pair();
    using _c = c;
    c.send(bytes('unread'), 0, 6);
    d[Symbol.dispose]();
    expect(() => c.receive(new Uint8Array(1), 0, 1, [])).toThrow(withCode('ECONNRESET'));
    expect(c.receive(new Uint8Array(1), 0, 1, [])).toBe(0);
  });

  it('transport: ranges that are none are EINVAL; a disposed socket is EBADF, and disposing is idempotent', () => {
    const [a, b] = UnixSocket.pair();
    using _b = b;
    const one = new Uint8Array(4);
    for (const [start, end] of [
      [2, 1],
      [0, 5],
      [-1, 2],
      [0, Number.NaN],
      [0.5, 2],
      [0, 2 ** 32 + 1],
    ] as const) {
      expect(() => a.send(one, start, end), `${start} ${end}`).toThrow(withCode('EINVAL'));
      expect(() => a.receive(one, start, end, []), `${start} ${end}`).toThrow(withCode('EINVAL'));
    }
    expect(() => a.receive(one, 1, 1, [])).toThrow(withCode('EINVAL'));
    expect(() => a.send('text' as never, 0, 1)).toThrow(withCode('EINVAL'));
    a[Symbol.dispose]();
    a[Symbol.dispose]();
    for (const call of [
      () => a.send(one, 0, 1),
      () => a.receive(one, 0, 1, []),
      () => a.wait('readable', 0),
      () => a.listen(() => false),
      () => a.onWritable(() => {}),
      () => a.peer,
      () => a.end(),
    ]) {
      expect(call).toThrow(withCode('EBADF'));
    }
  });

  it('transport: wait reports readiness without taking anything, times out, and refuses a timeout that is none', () => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    using _b = b;
    expect(a.wait('readable', 0)).toBe(false);
    expect(a.wait('readable', 3)).toBe(false);
    expect(a.wait('readable', 0.5)).toBe(false);
    expect(a.wait('writable', -1)).toBe(true);
    b.send(bytes('x'), 0, 1);
    expect(a.wait('readable', -1)).toBe(true);
    expect(a.wait('readable', 0)).toBe(true);
    expect(drain(a)).toBe('x');
    b[Symbol.dispose]();
    expect(a.wait('readable', -1)).toBe(true);
    expect(() => a.wait('readable', Number.NaN)).toThrow(withCode('EINVAL'));
  });

  it('transport: a worker that waits for ever can be terminated', async () => {
    const pair = new Int32Array(2);
    addon().socketpair(pair);
    const worker = new Worker(
      `import(${JSON.stringify(typescript[1])}).then(() => import(${JSON.stringify(new URL('./unix-socket.ts', import.meta.url).href)}))
        .then(({ UnixSocket }) => {
          const { parentPort, workerData } = require('node:worker_threads');
          const socket = UnixSocket.fromNumber(workerData);
          parentPort.postMessage('waits');
          socket.wait('readable', -1);
          parentPort.postMessage('has waited');
        });`,
      { eval: true, workerData: pair[1] },
    );
    const heard: unknown[] = [];
    worker.on('message', (message) => {
      heard.push(message);
      worker.terminate();
    });
    await once(worker, 'exit');
    expect(heard).toEqual(['waits']);
    for (const fd of pair) addon().close(fd);
  });

  it('transport: what one message costs does not grow the heap', () => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    using _b = b;
    const into = new Uint8Array(64);
    const fds: OwnedFd[] = [];
    const exchange = (times: number): void => {
      for (let i = 0; i < times; i++) {
        a.send(into, 0, 16);
        b.wait('readable', 1000);
        b.receive(into, 0, 64, fds);
        b.receive(into, 0, 64, fds);
      }
    };
    // 8 bytes a message would be 160 kB in each look.
    expect(heapGrowth(() => exchange(20_000), 100_000)).toBeLessThan(100_000);
  });
});

describe('transport: descriptors', () => {
  it('transport: travel in both directions and are the same files there; the sender keeps its own', () => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    using _b = b;
    using memory = MemfdMemory.allocate(8192) as MemfdMemory;
    using signal = EventFd.create();
    using memoryFd = memory.duplicateFd();
    using signalFd = signal.duplicateFd();
    memory.windows[0]!.set(bytes('shared'), 4096);
    const fds: OwnedFd[] = [];
    expect(a.send(bytes('map'), 0, 3, [memoryFd])).toBe(3);
    expect(drain(b, fds)).toBe('map');
    expect(b.send(bytes('irq'), 0, 3, [signalFd, memoryFd])).toBe(3);
    expect(drain(a, fds)).toBe('irq');
    expect(fds.map((fd) => fd.describe())).toEqual(['/memfd:vfio-ts (deleted)', 'anon_inode:[eventfd]', '/memfd:vfio-ts (deleted)']);
    expect(fds.map((fd) => addon().fcntl(fd.number, 1, 0))).toEqual([1, 1, 1]);
    expect([memoryFd.closed, signalFd.closed]).toEqual([false, false]);
    using there = MemfdMemory.fromFd(fds[0]!, 4096, 4096);
    expect(new TextDecoder().decode(there.windows[0]!.subarray(0, 6))).toBe('shared');
    using sameSignal = EventFd.fromFd(fds[1]!);
    sameSignal.signal();
    expect(signal.read()).toBe(1n);
    fds[2]![Symbol.dispose]();
  });

  it('transport: come with the first byte of their message, also when only that is read, and after bytes of messages without', () => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    using _b = b;
    using one = OwnedFd.own(addon().eventfd(0, Sys.EFD_CLOEXEC), 'eventfd');
    const into = new Uint8Array(100);
    const fds: OwnedFd[] = [];
    a.send(bytes('none'), 0, 4);
    a.send(bytes('WITH'), 0, 4, [one]);
    a.send(bytes('none'), 0, 4);
    const first = b.receive(into, 0, 100, fds);
    // Linux merges the previous message into the chunk that carries descriptors, and stops after
    // it.
    expect([first, fds.length]).toEqual([8, 1]);
    expect([b.receive(into, 0, 100, fds), fds.length]).toEqual([4, 1]);
    a.send(bytes('WITH'), 0, 4, [one, one]);
    expect([b.receive(into, 0, 1, fds), fds.length]).toEqual([1, 3]);
    expect([b.receive(into, 0, 100, fds), fds.length]).toEqual([3, 3]);
    for (const fd of fds) fd[Symbol.dispose]();
  });

  it('transport: 253 go in one message; more, or any without a byte, or a closed one, are refused and nothing is sent', () => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    using _b = b;
    using one = OwnedFd.own(addon().eventfd(0, Sys.EFD_CLOEXEC), 'eventfd');
    const closed = one.duplicate();
    closed[Symbol.dispose]();
    const many = (count: number): OwnedFd[] => Array.from({ length: count }, () => one);
    expect(() => a.send(bytes('x'), 0, 1, many(254))).toThrow(withCode('EINVAL'));
    expect(() => a.send(bytes('x'), 0, 1, many(100_000))).toThrow(withCode('EINVAL'));
    expect(() => a.send(bytes('x'), 0, 0, many(1))).toThrow(withCode('EINVAL'));
    expect(() => a.send(bytes('x'), 0, 1, [one, closed])).toThrow(withCode('EBADF'));
    expect(b.receive(new Uint8Array(1), 0, 1, [])).toBe(WOULD_BLOCK);
    const fds: OwnedFd[] = [];
    expect(a.send(bytes('x'), 0, 1, many(253))).toBe(1);
    expect(a.send(bytes('y'), 0, 1, [])).toBe(1);
    expect([drain(b, fds), fds.length]).toEqual(['xy', 253]);
    for (const fd of fds) fd[Symbol.dispose]();
  });

  it('transport: with no room for the message no descriptor has gone either; with room for a part all have, once', () => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    using _b = b;
    using one = OwnedFd.own(addon().eventfd(0, Sys.EFD_CLOEXEC), 'eventfd');
    const data = new Uint8Array(1 << 20);
    const into = new Uint8Array(1 << 20);
    const fds: OwnedFd[] = [];
    const first = a.send(data, 0, data.length, [one]);
    expect(first).toBeGreaterThan(0);
    expect(first).toBeLessThan(data.length);
    while (a.send(data, 0, 1000) !== WOULD_BLOCK);
    expect(a.send(data, 0, 1000, [one, one])).toBe(WOULD_BLOCK);
    while (b.receive(into, 0, into.length, fds) > 0);
    expect(fds.length).toBe(1);
    fds[0]![Symbol.dispose]();
  });

  it('transport: those of a peer that is gone, and those not received, leave none open', () => {
    using one = OwnedFd.own(addon().eventfd(0, Sys.EFD_CLOEXEC), 'eventfd');
    for (let i = 0; i < 100; i++) {
      const [a, b] = UnixSocket.pair();
      a.send(bytes('unread'), 0, 6, [one, one, one]);
      if (i % 2 === 0) a[Symbol.dispose]();
      b[Symbol.dispose]();
      expect(() => a.send(bytes('x'), 0, 1, [one])).toThrow();
      a[Symbol.dispose]();
    }
  });

  it.each([0, 1, 2])(
    'transport: when %i of three fit into this process, all are closed and the stream is to be closed: EPROTO',
    (spare) => {
      const [a, b] = UnixSocket.pair();
      using _a = a;
      using _b = b;
      using one = OwnedFd.own(addon().eventfd(0, Sys.EFD_CLOEXEC), 'eventfd');
      const fds: OwnedFd[] = [];
      a.send(bytes('fds'), 0, 3, [one, one, one]);
      withDescriptorsLeft(spare, () => {
        expect(() => b.receive(new Uint8Array(10), 0, 10, fds)).toThrow(
          expect.objectContaining({ code: 'EPROTO', fix: expect.stringMatching(/ulimit/) }),
        );
      });
      expect(fds).toEqual([]);
      // Without descriptors it goes on.
      a.send(bytes('more'), 0, 4);
      expect(drain(b)).toBe('more');
    },
  );

  it('transport: the addon closes what came when it cannot hand it over', () => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    using _b = b;
    using one = OwnedFd.own(addon().eventfd(0, Sys.EFD_CLOEXEC), 'eventfd');
    // The number of the other end, found through its inode: this test goes around the class.
    const sys = addon();
    const pair = new Int32Array(2);
    expect(sys.socketpair(pair)).toBe(0);
    expect(sys.sendmsg(pair[0]!, bytes('x'), 0, 1, new Int32Array([one.number, one.number]), 2)).toBe(1);
    const start = openDescriptorsAndFiles();
    expect(sys.recvmsg(pair[1]!, new Uint8Array(1), 0, 1, new Int32Array(1))).toBe(-22);
    expect(sys.sendmsg(pair[0]!, bytes('x'), 0, 1, new Int32Array([999_999]), 1)).toBe(-9);
    expect(sys.sendmsg(pair[0]!, bytes('x'), 0, 1, new Int32Array(1), 2)).toBe(-22);
    expect(openDescriptorsAndFiles()).toBe(start);
    for (const fd of pair) sys.close(fd);
  });
});

describe('transport: the peer’s identity', () => {
  it('transport: the peer of a pair is this process', () => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    using _b = b;
    expect(a.peer).toMatchObject({ pid: process.pid, uid: process.getuid!(), gid: process.getgid!() });
    expect(a.peer).toBe(a.peer);
  });

  it('transport: an inherited number is taken over; anything but a connected UNIX stream socket is refused and left open', () => {
    const sys = addon();
    const pair = new Int32Array(2);
    expect(sys.socketpair(pair)).toBe(0);
    const a = UnixSocket.fromNumber(pair[0]!);
    {
      using b = UnixSocket.fromNumber(pair[1]!);
      expect(sys.fcntl(pair[1]!, 1, 0)).toBe(1);
      a.send(bytes('x'), 0, 1);
      expect(drain(b)).toBe('x');
    }
    expect(a.receive(new Uint8Array(1), 0, 1, [])).toBe(0);
    a[Symbol.dispose]();
    expect(sys.fcntl(pair[1]!, 1, 0)).toBe(-9);

    using event = OwnedFd.own(sys.eventfd(0, Sys.EFD_CLOEXEC), 'eventfd');
    using datagram = OwnedFd.own(sys.socket(Sys.AF_UNIX, Sys.SOCK_DGRAM), 'socket');
    using internet = OwnedFd.own(sys.socket(2, Sys.SOCK_STREAM), 'socket');
    for (const fd of [event, datagram, internet]) {
      expect(() => UnixSocket.fromNumber(fd.number)).toThrow(withCode('EINVAL'));
      expect(sys.fcntl(fd.number, 1, 0)).toBe(1);
      const copy = fd.duplicate();
      expect(() => UnixSocket.fromFd(copy)).toThrow(withCode('EINVAL'));
      expect(copy.closed).toBe(true);
    }
    for (const bad of [-1, 999_999, 1.5, Number.NaN]) expect(() => UnixSocket.fromNumber(bad)).toThrow(withCode('EBADF'));
  });

  it('transport: a pair for which no descriptors are left is EMFILE', () => {
    withDescriptorsLeft(1, () => expect(() => UnixSocket.pair()).toThrow(withCode('EMFILE')));
  });
});
