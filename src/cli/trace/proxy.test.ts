import { describe, expect, it } from 'vitest';
import { openDescriptors } from '../../../tests/kit/open-descriptors.ts';
import { dma, samples } from '../../../tests/kit/vfio-user-samples.ts';
import type { EventOf } from '../../abi/event.ts';
import { HeaderFlags } from '../../abi/vfio-user.ts';
import { EventStream } from '../../events/stream.ts';
import { EventFd } from '../../sys/eventfd.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import { UnixSocket } from '../../sys/unix-socket.ts';
import { Command, encodeMessage, encodeSetIrqs, encodeVersion } from '../../vfio-user/messages.ts';
import { MessageProxy } from './proxy.ts';

const { REPLY } = HeaderFlags;

describe('the proxy', () => {
  function between() {
    const [client, nearClient] = UnixSocket.pair();
    const [nearServer, server] = UnixSocket.pair();
    const stream = new EventStream();
    const reader = stream.read({ data: true });
    const seen: EventOf<'message'>[] = [];
    let ended: string | null = null;
    const proxy = new MessageProxy(nearClient, nearServer, {
      events: stream.source('unix:/x'),
      onMessage: () => void seen.push(...reader.take().filter((event) => event.kind === 'message')),
      onEnd: (reason) => {
        ended = reason;
      },
    });
    return { client, server, proxy, seen, ended: () => ended };
  }

  /**
   * Receive until `count` bytes are there; the event loop goes round in between, so that the proxy
   * can work.
   */
  async function receive(socket: UnixSocket, count: number): Promise<{ bytes: Uint8Array; fds: OwnedFd[] }> {
    const bytes = new Uint8Array(count);
    const fds: OwnedFd[] = [];
    for (let at = 0; at < count; ) {
      const got = socket.receive(bytes, at, count, fds);
      if (got === 0) throw new Error('the end came first');
      if (got > 0) at += got;
      else await new Promise((resolve) => setImmediate(resolve));
    }
    return { bytes, fds };
  }

  async function until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise((resolve) => setImmediate(resolve));
  }

  const send = (socket: UnixSocket, bytes: Uint8Array, fds: readonly OwnedFd[] = []) =>
    expect(socket.send(bytes, 0, bytes.length, fds)).toBe(bytes.length);

  it('passes every byte on, both ways, and shows whole messages however they were cut', async () => {
    const { client, server, proxy, seen } = between();
    const all = Buffer.concat(samples.map(({ bytes }) => bytes));
    for (let at = 0; at < all.length; at += 37) send(client, all.subarray(at, at + 37));
    expect((await receive(server, all.length)).bytes).toEqual(Uint8Array.from(all));
    send(server, all);
    expect((await receive(client, all.length)).bytes).toEqual(Uint8Array.from(all));
    const whole = (m: EventOf<'message'>) => Uint8Array.from([...m.bytes, ...(m.data ?? [])]);
    expect(seen.filter((m) => m.direction === 'to server').map(whole)).toEqual(samples.map(({ bytes }) => bytes));
    expect(seen.filter((m) => m.direction === 'to client')).toHaveLength(samples.length);
    proxy[Symbol.dispose]();
    for (const socket of [client, server]) socket[Symbol.dispose]();
  });

  it('passes descriptors with the message they came with, and names them', async () => {
    const { client, server, proxy, seen } = between();
    const plain = encodeMessage(1, Command.DEVICE_RESET);
    const irqs = encodeMessage(
      2,
      Command.DEVICE_SET_IRQS,
      encodeSetIrqs({ index: 1, start: 0, count: 1, action: 'trigger', data: 'eventfd' }),
    );
    using sent = EventFd.create();
    using fd = sent.duplicateFd();
    send(client, plain);
    send(client, irqs, [fd]);
    const { fds } = await receive(server, plain.length + irqs.length);
    expect(seen.map((m) => [m.fds, m.descriptors])).toEqual([
      [0, undefined],
      [1, 'anon_inode:[eventfd]'],
    ]);
    using arrived = EventFd.fromFd(fds[0]!);
    arrived.signal();
    expect(sent.read()).toBe(1n);
    proxy[Symbol.dispose]();
    for (const socket of [client, server]) socket[Symbol.dispose]();
  });

  it('ends the connection when what follows a message fails, and keeps none of its descriptors', async () => {
    using sent = EventFd.create();
    const before = openDescriptors();
    const [client, nearClient] = UnixSocket.pair();
    const [nearServer, server] = UnixSocket.pair();
    let reason: string | null = null;
    const proxy = new MessageProxy(nearClient, nearServer, {
      events: new EventStream().source('unix:/x'),
      onMessage: () => {
        throw new Error('the disk is full');
      },
      onEnd: (why) => {
        reason = why;
      },
    });
    {
      using fd = sent.duplicateFd();
      send(client, encodeMessage(1, Command.DEVICE_RESET), [fd]);
    }
    await until(() => reason !== null);
    expect(reason).toBe('the disk is full');
    for (const each of [client, server, proxy]) each[Symbol.dispose]();
    expect(openDescriptors()).toBe(before);
  });

  it('gives a reply the command that it answers as its cause', async () => {
    const { client, server, proxy, seen } = between();
    const all: readonly (readonly [UnixSocket, UnixSocket, Uint8Array])[] = [
      [client, server, encodeMessage(1, Command.DEVICE_RESET)],
      [client, server, encodeMessage(2, Command.DEVICE_RESET)],
      [server, client, encodeMessage(1, Command.DMA_READ, dma(0n, 4n))],
      [server, client, encodeMessage(2, Command.DEVICE_RESET, undefined, REPLY)],
      [client, server, encodeMessage(1, Command.DMA_READ, dma(0n, 4n), REPLY)],
      [server, client, encodeMessage(1, Command.DEVICE_RESET, undefined, REPLY)],
      [server, client, encodeMessage(9, Command.DEVICE_RESET, undefined, REPLY)],
    ];
    for (const [from, to, bytes] of all) {
      send(from, bytes);
      await receive(to, bytes.length);
    }
    const [first, second, read] = seen.map(({ seq }) => seq);
    expect(seen.map(({ cause }) => cause)).toEqual([0, 0, 0, second, read, first, 0]);
    for (const each of [proxy, client, server]) each[Symbol.dispose]();
  });

  it('stands in the middle of the twin socket too', async () => {
    const { client, server, proxy, seen } = between();
    const [serverTwin, clientTwin] = UnixSocket.pair();
    const version = encodeMessage(0, Command.VERSION, encodeVersion(0, 2, { twinSocket: { supported: true, fdIndex: 0 } }), REPLY);
    using fd = clientTwin.release();
    send(server, version, [fd]);
    const { fds } = await receive(client, version.length);
    using twin = UnixSocket.fromFd(fds[0]!);
    const read = encodeMessage(1, Command.DMA_READ, dma(0n, 4n));
    send(serverTwin, read);
    expect((await receive(twin, read.length)).bytes).toEqual(read);
    send(twin, version);
    await receive(serverTwin, version.length);
    expect(seen.map((m) => [m.direction, m.twin])).toEqual([
      ['to client', false],
      ['to client', true],
      ['to server', true],
    ]);
    proxy[Symbol.dispose]();
    for (const socket of [client, server, serverTwin]) socket[Symbol.dispose]();
  });

  it('a side that does not read holds the other up instead of filling memory, and gets everything in the end', async () => {
    const { client, server, proxy } = between();
    const message = encodeMessage(1, Command.REGION_WRITE, new Uint8Array(2 ** 20 - 16));
    let sent = 0;
    // 64 MiB are more than sockets and proxy will take.
    for (let idle = 0; idle < 50 && sent < 64; ) {
      let at = 0;
      while (at < message.length && idle < 50) {
        const took = client.send(message, at, message.length);
        if (took > 0) {
          at += took;
          idle = 0;
        } else {
          idle++;
          await new Promise((resolve) => setImmediate(resolve));
        }
      }
      if (at === message.length) sent++;
    }
    expect(sent).toBeLessThan(20);
    expect((await receive(server, sent * message.length)).bytes.length).toBe(sent * message.length);
    proxy[Symbol.dispose]();
    for (const socket of [client, server]) socket[Symbol.dispose]();
  });

  it('ends both sides when one leaves, after passing on what was said before', async () => {
    const { client, server, ended } = between();
    const reset = encodeMessage(1, Command.DEVICE_RESET);
    send(client, reset);
    client[Symbol.dispose]();
    await receive(server, reset.length);
    await until(() => server.receive(new Uint8Array(1), 0, 1, []) === 0);
    expect(ended()).toBe('the client left');
    server[Symbol.dispose]();
  });
});
