import { describe, expect, it } from 'vitest';
import { openDescriptors } from '../../tests/kit/open-descriptors.ts';
import { clientMemory, ServerRig, settle } from '../../tests/kit/vfio-user-rig.ts';
import { HeaderFlags } from '../abi/vfio-user.ts';
import { ManualClock } from '../base/clock.ts';
import { VfioError } from '../base/errno.ts';
import { UnixSocket } from '../sys/unix-socket.ts';
import { closeAll, FrameReader } from './frames.ts';
import * as m from './messages.ts';
import { Command, decodeVersion, encodeVersion } from './messages.ts';
import { VfioUserServer } from './server.ts';

const read = m.encodeRegionAccess(0n, 7, 4);

describe('the first message', () => {
  it.each([
    ['a register access', Command.REGION_READ, read],
    ['an unknown command', 99, read],
    ['nothing in it', Command.VERSION, new Uint8Array(0)],
    ['another major version', Command.VERSION, encodeVersion(1, 0, {})],
    ['no NUL', Command.VERSION, Uint8Array.of(0, 0, 0, 0, 0x7b, 0x7d)],
  ])('%s: EINVAL, and the connection is closed; the device was not touched', async (_, command, payload) => {
    using rig = new ServerRig();
    const { client, session } = rig.connect();
    expect(await client.errnoOf(command, payload)).toBe('EINVAL');
    await expect(client.next()).rejects.toThrow('closed the connection');
    expect([session.closed, rig.opened.length]).toEqual([true, 0]);
  });

  it('of a type that is none, or of a size that cannot be: EINVAL, and the connection is closed', async () => {
    for (const [size, flags] of [
      [16, 1],
      [3, 0],
      [2 ** 31, 0],
    ] as const) {
      using rig = new ServerRig();
      const { client } = rig.connect();
      const bytes = new Uint8Array(16);
      m.putHeader(m.viewOf(bytes), 0, 1, Command.VERSION, size, flags);
      client.raw(bytes);
      expect((await client.next()).error).toBe('EINVAL');
      await expect(client.next()).rejects.toThrow('closed the connection');
    }
  });

  it('a device that cannot be opened: its errno, and the connection is closed', async () => {
    for (const [error, errno] of [
      [new VfioError('EBUSY', 'the group is not viable'), 'EBUSY'],
      [new VfioError('EACCES', 'not you'), 'EACCES'],
      [new TypeError('a bug'), 'EIO'],
    ] as const) {
      const open = () => {
        throw error;
      };
      using rig = new ServerRig({ server: { open } });
      const { client } = rig.connect();
      expect(await client.errnoOf(Command.VERSION, encodeVersion(0, 0))).toBe(errno);
      await expect(client.next()).rejects.toThrow('closed the connection');
    }
  });

  it('page sizes that the device lacks: EINVAL, and the device is closed again', async () => {
    using rig = new ServerRig();
    const { client } = rig.connect();
    expect(await client.errnoOf(Command.VERSION, encodeVersion(0, 0, { pgsizes: 2048n }))).toBe('EINVAL');
    expect(rig.opened[0]!.closed).toBe(true);
  });

  it('is answered with what was agreed', async () => {
    using rig = new ServerRig();
    const { client, session } = rig.connect();
    const { payload } = await client.hello({ maxMsgFds: 16, writeMultiple: true }, 0);
    const { minor, capabilities } = decodeVersion(payload);
    expect([minor, capabilities.maxMsgFds, capabilities.writeMultiple, capabilities.migration]).toEqual([0, 16, true, null]);
    expect(session.version?.capabilities).toEqual({ ...capabilities, twinSocket: null });
  });
});

describe('a client that keeps others waiting', () => {
  const limits = { handshakeTimeoutMs: 1000, messageTimeoutMs: 2000, stallTimeoutMs: 3000, waitMs: 500, maxWaiting: 1 };

  it('by never saying VERSION', async () => {
    using rig = new ServerRig({ server: { limits } });
    const { session } = rig.connect();
    rig.rig.clock.advance(1500);
    expect(await session.ended).toMatch('version in time');
  });

  it('by stopping in the middle of a message; not by being idle', async () => {
    using rig = new ServerRig({ server: { limits } });
    const { client, session } = await rig.attach();
    rig.rig.clock.advance(1e6);
    expect(await client.errnoOf(Command.REGION_READ, read)).toBeNull();
    const whole = m.encodeMessage(1, Command.REGION_READ, read);
    client.raw(whole.subarray(0, 20));
    await settle();
    rig.rig.clock.advance(1500);
    client.raw(whole.subarray(20));
    expect((await client.next()).error).toBeNull();
    rig.rig.clock.advance(1e6);
    expect(session.closed).toBe(false);
    client.raw(whole.subarray(0, 20));
    await settle();
    rig.rig.clock.advance(2500);
    expect(await session.ended).toMatch('middle of a message');
  });

  it('not by never pausing, so that a part of some message is always on its way', async () => {
    using rig = new ServerRig({ server: { limits } });
    const { client, session } = await rig.attach();
    const whole = m.encodeMessage(1, Command.REGION_READ, read);
    client.raw(whole.subarray(0, 20));
    for (let i = 0; i < 10; i++) {
      await settle();
      rig.rig.clock.advance(1500);
      client.raw(whole.subarray(20));
      client.raw(whole.subarray(0, 20));
      expect((await client.next()).error).toBeNull();
    }
    rig.rig.clock.advance(2500);
    expect(await session.ended).toMatch('middle of a message');
  });

  it('by not taking its replies: they are not made without bound, and it goes on when it takes them', async () => {
    const stream = { capacity: 100_000 };
    using rig = new ServerRig({ server: { limits: { ...limits, maxQueuedBytes: 200_000 } }, stream });
    const { client, session } = await rig.attach();
    const big = m.encodeRegionAccess(0n, 0, 100_000);
    for (let i = 0; i < 50; i++) client.send(Command.REGION_READ, big);
    await settle();
    const done = session.commands;
    expect(done).toBeLessThan(8);
    rig.rig.clock.advance(2000);
    for (let i = 0; i < 50; i++) expect((await client.next()).payload.length).toBe(100_016);
    expect(session.commands).toBe(51);
    rig.rig.clock.advance(1e6);
    expect(session.closed).toBe(false);
    for (let i = 0; i < 50; i++) client.send(Command.REGION_READ, big);
    await settle();
    rig.rig.clock.advance(4000);
    expect(await session.ended).toMatch('does not take its replies');
    expect(rig.opened[0]!.closed).toBe(true);
  });
});

describe('several clients', () => {
  it('are served one after the other', async () => {
    using rig = new ServerRig();
    const first = await rig.attach();
    const second = rig.connect();
    const hello = second.client.hello();
    await settle();
    expect([rig.server.waiting, rig.opened.length]).toEqual([1, 1]);
    first.client[Symbol.dispose]();
    await hello;
    expect([rig.server.waiting, rig.opened.length, rig.opened[0]!.closed]).toEqual([0, 2, true]);
    expect(await second.client.errnoOf(Command.REGION_READ, read)).toBeNull();
  });

  it('who connects and says nothing does not keep others out: not by having the place, not by waiting for it', async () => {
    using rig = new ServerRig({ server: { limits: { waitMs: 1000, maxWaiting: 4 } } });
    const silent = [rig.connect()];
    silent[0]!.client.raw(new Uint8Array(3));
    for (let i = 0; i < 4; i++) silent.push(rig.connect());
    const one = rig.connect();
    one.client.send(Command.VERSION, encodeVersion(0, 1, { maxMsgFds: 8 }));
    await settle();
    expect([silent[0]!.session.closed, silent[1]!.session.closed, one.session.closed]).toEqual([false, true, false]);
    rig.rig.clock.advance(1000);
    const reply = await one.client.next();
    expect([reply.error, silent[0]!.session.closed, one.session.version?.major]).toEqual([null, true, 0]);
    // It has the place now, and its messages meanwhile wait as ever.
    const other = rig.connect();
    other.client.send(Command.VERSION, encodeVersion(0, 1));
    rig.rig.clock.advance(1000);
    expect((await other.client.next()).error).toBe('EBUSY');
  });

  it('do not wait for ever: EBUSY; too many are turned away at once', async () => {
    using rig = new ServerRig({ server: { limits: { waitMs: 500, maxWaiting: 1 } } });
    const first = await rig.attach();
    const second = rig.connect();
    second.client.send(Command.VERSION, encodeVersion(0, 1));
    const third = rig.connect();
    expect(third.session.closed).toBe(true);
    rig.rig.clock.advance(500);
    expect((await second.client.next()).error).toBe('EBUSY');
    await expect(second.client.next()).rejects.toThrow('closed the connection');
    expect(await first.client.errnoOf(Command.REGION_READ, read)).toBeNull();
    expect(rig.server.sessions).toEqual([first.session]);
  });

  it('who are refused because the device is taken do not outlive the server', async () => {
    const rig = new ServerRig({ server: { limits: { waitMs: 500 } } });
    await rig.attach();
    const { session } = rig.connect();
    rig.rig.clock.advance(500);
    expect([rig.server.waiting, session.closed]).toEqual([0, false]);
    rig[Symbol.dispose]();
    expect([session.closed, rig.rig.clock.pendingTimers]).toEqual([true, 0]);
  });

  it('who gave up while waiting is not in the way of the next', async () => {
    using rig = new ServerRig();
    const first = await rig.attach();
    const second = rig.connect();
    const third = rig.connect();
    second.client[Symbol.dispose]();
    const hello = third.client.hello();
    first.client[Symbol.dispose]();
    await hello;
    expect(rig.opened.length).toBe(2);
  });

  it('of several devices in one process do not know of each other', async () => {
    using one = new ServerRig();
    using other = new ServerRig();
    const a = await one.attach();
    const b = await other.attach();
    const write = m.encodeRegionAccess(0n, 0, 4, Uint8Array.of(1, 2, 3, 4));
    await a.client.request(Command.REGION_WRITE, write);
    const back = await b.client.request(Command.REGION_READ, m.encodeRegionAccess(0n, 0, 4));
    expect([...back.payload.subarray(16)]).toEqual([0, 0, 0, 0]);
    a.client[Symbol.dispose]();
    await a.session.ended;
    expect(await b.client.errnoOf(Command.REGION_READ, read)).toBeNull();
  });
});

describe('the end', () => {
  it('of a client: the device is closed and reset, and its resources are released', async () => {
    using rig = new ServerRig();
    const before = openDescriptors();
    for (let i = 0; i < 20; i++) {
      const { client, session } = await rig.attach();
      using memory = clientMemory(0x1000);
      using fd = memory.duplicateFd();
      const map = m.encodeDmaMap({ flags: 3, offset: 0n, address: 0x1000n, size: 0x1000n });
      expect(await client.errnoOf(Command.DMA_MAP, map, { fds: [fd] })).toBeNull();
      await client.request(Command.REGION_WRITE, m.encodeRegionAccess(0n, 0, 4, Uint8Array.of(9, 9, 9, 9)));
      const resets = rig.rig.model.resets;
      client[Symbol.dispose]();
      await session.ended;
      expect([session.device, rig.rig.container.size]).toEqual([null, 0]);
      expect(rig.rig.model.resets).toBeGreaterThan(resets);
    }
    expect(openDescriptors()).toBe(before);
    // The count of what the log has not said comes after its interval.
    rig.rig.clock.advance(5000);
    expect(rig.rig.clock.pendingTimers).toBe(0);
  });

  it('of the server: every connection is closed, and later ones at once', async () => {
    const rig = new ServerRig();
    const { client } = await rig.attach();
    const waiting = rig.connect();
    rig[Symbol.dispose]();
    await expect(client.next()).rejects.toThrow('closed the connection');
    expect([waiting.session.closed, rig.connect().session.closed]).toEqual([true, true]);
    expect(rig.rig.clock.pendingTimers).toBe(0);
  });

  it('of the device: the client learns of it by the end of the connection', async () => {
    using rig = new ServerRig();
    const { client, session } = await rig.attach();
    rig.rig.device.revoke('it burned');
    expect(await session.ended).toMatch('burned');
    await expect(client.next()).rejects.toThrow('closed the connection');
  });

  it('in the middle of an access of the device: the access ends as it will, the connection with it', async () => {
    using rig = new ServerRig();
    const { client, session } = await rig.attach();
    rig.rig.model.onWrite = () => rig.rig.device.revoke('it burned');
    client.send(Command.REGION_WRITE, m.encodeRegionAccess(0n, 0, 4, new Uint8Array(4)));
    client.send(Command.REGION_READ, read);
    expect(await session.ended).toMatch('burned');
  });

  it('of one direction: what was asked before it is answered', async () => {
    using rig = new ServerRig();
    const { client, session } = await rig.attach();
    const id = client.send(Command.REGION_READ, read);
    (client.stream as unknown as { end(): void }).end();
    expect(await client.next()).toMatchObject({ id, error: null });
    await session.ended;
  });
});

describe('on real sockets', () => {
  const connectReal = (rig: ServerRig) => {
    const [ours, theirs] = UnixSocket.pair();
    return { session: rig.server.serve(ours), theirs };
  };

  async function next(stream: UnixSocket, reader: FrameReader): Promise<void> {
    while (!reader.next()) {
      await new Promise((resolve) => setImmediate(resolve));
      if (reader.fill() === 0) throw new Error('the end');
    }
    void stream;
  }

  function send(stream: UnixSocket, command: Command, payload: Uint8Array, flags = 0): void {
    const bytes = m.encodeMessage(1, command, payload, flags);
    expect(stream.send(bytes, 0, bytes.length)).toBe(bytes.length);
  }

  it('the peer is who it is', () => {
    using rig = new ServerRig();
    const { session, theirs } = connectReal(rig);
    expect(session.peer).toMatchObject({ pid: process.pid, uid: process.getuid!(), gid: process.getgid!() });
    theirs[Symbol.dispose]();
  });

  it('with a twin socket: DMA and its replies go there, register accesses here', async () => {
    using rig = new ServerRig();
    const before = openDescriptors();
    const { session, theirs } = connectReal(rig);
    using reader = new FrameReader(theirs, { maxMessageBytes: 2 ** 21 });
    send(theirs, Command.VERSION, encodeVersion(0, 1, { maxMsgFds: 8, twinSocket: { supported: true } }));
    await next(theirs, reader);
    const { capabilities } = decodeVersion(reader.bytes.subarray(reader.start + 16, reader.start + reader.size));
    expect(capabilities.twinSocket).toEqual({ supported: true, fdIndex: 0 });
    const [fd] = reader.takeFds();
    const twin = UnixSocket.fromFd(fd!);
    using twinReader = new FrameReader(twin, { maxMessageBytes: 2 ** 21 });
    rig.opened[0]!.region(7).write16(4, 6);
    send(theirs, Command.DMA_MAP, m.encodeDmaMap({ flags: 3, offset: 0n, address: 0x1000n, size: 0x1000n }));
    await next(theirs, reader);
    const into = new Uint8Array(2);
    const done = rig.rig.model.host.dma.read(0x1000n, into);
    await next(twin, twinReader);
    const { view, start, bytes } = twinReader;
    expect(view.getUint16(start + 2, true)).toBe(Command.DMA_READ);
    send(theirs, Command.REGION_READ, read);
    await next(theirs, reader);
    expect(reader.view.getUint16(reader.start + 2, true)).toBe(Command.REGION_READ);
    const payload = Uint8Array.of(...bytes.subarray(start + 16, start + 32), 5, 6);
    const reply = m.encodeMessage(view.getUint16(start, true), Command.DMA_READ, payload, HeaderFlags.REPLY);
    twin.send(reply, 0, reply.length);
    await done;
    expect([...into]).toEqual([5, 6]);
    send(twin, Command.REGION_READ, read);
    expect(await session.ended).toMatch('no reply');
    for (const each of [twin, theirs]) each[Symbol.dispose]();
    expect(openDescriptors()).toBe(before);
  });

  it('a closed twin ends the session', async () => {
    using rig = new ServerRig();
    const { session, theirs } = connectReal(rig);
    using reader = new FrameReader(theirs, { maxMessageBytes: 2 ** 21 });
    send(theirs, Command.VERSION, encodeVersion(0, 1, { maxMsgFds: 8, twinSocket: { supported: true } }));
    await next(theirs, reader);
    closeAll(reader.takeFds());
    expect(await session.ended).toMatch('twin');
    theirs[Symbol.dispose]();
  });

  it('1000 clients come and go: descriptors are where they were', async () => {
    using rig = new ServerRig();
    const { session, theirs } = connectReal(rig);
    theirs[Symbol.dispose]();
    await session.ended;
    const before = openDescriptors();
    for (let i = 0; i < 1000; i++) {
      const { session, theirs } = connectReal(rig);
      send(theirs, Command.VERSION, encodeVersion(0, 1, { maxMsgFds: 8, twinSocket: { supported: i % 2 === 0 } }));
      if (i % 3 === 0) await settle(1);
      if (i % 7 === 0) theirs.send(Uint8Array.of(1, 2, 3), 0, 3);
      theirs[Symbol.dispose]();
      await session.ended;
    }
    expect(openDescriptors()).toBe(before);
  });
});

it('limits that are none are EINVAL', () => {
  const make = (limits: object) => () => new VfioUserServer({ open: () => null as never, clock: new ManualClock(), limits });
  for (const bad of [{ maxDataBytes: 0 }, { maxDataBytes: 2 ** 27 }, { maxMappings: -1 }, { waitMs: Number.NaN }]) {
    expect(make(bad)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  }
});
