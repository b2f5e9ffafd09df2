import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { turn, until } from '../../../tests/kit/event-loop.ts';
import { openDescriptorsAndFiles } from '../../../tests/kit/open-descriptors.ts';
import { typescript } from '../../../tests/kit/typescript.ts';
import { frameOf, TestPort } from '../../../tests/kit/wire-port.ts';
import { Loss } from '../../abi/wire.ts';
import { totalOf } from '../../abi/wire-tally.ts';
import { ManualClock } from '../../base/clock.ts';
import { addon } from '../addon.ts';
import { parseNetAddress } from './net-address.ts';
import { datagramWire, descriptorWire, streamWire, tapWire } from './open-wire.ts';

const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
afterAll(() => rmSync(directory, { recursive: true }));
const path = join(directory, 'socket');
const other = join(directory, 'other');

let before = 0;
beforeEach(() => {
  addon();
  before = openDescriptorsAndFiles();
});
afterEach(async () => {
  // Node closes sockets of its own a little later.
  await until(() => openDescriptorsAndFiles() <= before);
  expect(readdirSync(directory), 'files left behind').toEqual([]);
});

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const addresses = { unix: async () => path, TCP: async () => `127.0.0.1:${await freePort()}` };

/** A peer of a stream that this test plays byte by byte. */
async function rawPeer(): Promise<Socket> {
  const socket = connect(path);
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('connect', resolve));
  return socket;
}

const framed = (frame: Uint8Array): Buffer => {
  const header = Buffer.alloc(4);
  header.writeUInt32BE(frame.length);
  return Buffer.concat([header, frame]);
};

describe('a stream', () => {
  it.each(Object.entries(addresses))('house: frames go both ways over %s', async (_kind, address) => {
    const at = await address();
    using server = streamWire(at, true);
    using client = streamWire(at, false);
    const [a, b] = [new TestPort(server, '01'), new TestPort(client, '02')];
    await until(() => a.end.up && b.end.up);
    for (let i = 0; i < 100; i++) a.send('02', `${i} ${'x'.repeat(i * 15)}`);
    b.send('01', 'back');
    await until(() => b.arrived.length === 100 && a.arrived.length === 1);
    expect(b.arrived.map((text) => Number.parseInt(text, 10))).toEqual(Array.from({ length: 100 }, (_, i) => i));
    expect(server.counters).toMatchObject({ sent: 100, received: 1, waiting: 0, lost: {}, missed: {} });
    if (at === path) expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('house: the side that connects waits for a peer, and tries again when it has gone', async () => {
    const clock = new ManualClock();
    const lines: string[] = [];
    using client = streamWire(path, false, { clock, report: (line) => lines.push(line) });
    const b = new TestPort(client, '02');
    b.send('01', 'no peer');
    for (let round = 1; round <= 2; round++) {
      using server = streamWire(path, true);
      const a = new TestPort(server, '01');
      clock.advance(1000);
      await until(() => a.end.up && b.end.up);
      b.send('01', `round ${round}`);
      await until(() => a.arrived.length === 1);
      expect(a.arrived).toEqual([`round ${round}`]);
      server[Symbol.dispose]();
      await until(() => !b.end.up);
    }
    expect(client.counters.lost).toEqual({ [Loss.NO_CARRIER]: 1 });
    expect(b.carrierChanges).toBe(4);
    expect(lines).toEqual([
      `stream ${path}: no peer listens there yet`,
      `stream ${path}: the peer is there`,
      `stream ${path}: the peer has closed the connection`,
      `stream ${path}: the peer is there`,
      `stream ${path}: the peer has closed the connection`,
    ]);
  });

  it('house: frames in any pieces arrive whole, and one that is too long is missed', async () => {
    using server = streamWire(path, true);
    const a = new TestPort(server, '01');
    const peer = await rawPeer();
    const bytes = Buffer.concat([
      framed(frameOf('01', '02', 'first')),
      framed(new Uint8Array(20_000)),
      framed(new Uint8Array(0)),
      framed(frameOf('01', '02', 'second')),
    ]);
    for (let at = 0; at < bytes.length; at += 777) {
      peer.write(bytes.subarray(at, at + 777));
      await turn();
    }
    await until(() => a.arrived.length === 2);
    expect(a.arrived).toEqual(['first', 'second']);
    expect(server.counters.missed).toEqual({ [Loss.TOO_LONG]: 1 });
    peer.destroy();
    await until(() => !a.end.up);
  });

  it('house: a peer that sends junk is disconnected, and the next one is served', async () => {
    const lines: string[] = [];
    using server = streamWire(path, true, { report: (line) => lines.push(line) });
    const a = new TestPort(server, '01');
    const junk = await rawPeer();
    await until(() => a.end.up);
    const refused = await rawPeer();
    await new Promise((resolve) => refused.once('close', resolve));
    junk.write(Buffer.from('GET / HTTP/1.0\r\n\r\n'));
    await new Promise((resolve) => junk.once('close', resolve));
    expect(lines[1]).toContain('which no peer that speaks this protocol does');
    const peer = await rawPeer();
    peer.write(framed(frameOf('01', '02', 'well')));
    await until(() => a.arrived.length === 1);
    peer.destroy();
    await until(() => !a.end.up);
  });

  it('house: a peer that reads nothing holds the port back, and loses no frame that the port may send', async () => {
    using server = streamWire(path, true);
    const a = new TestPort(server, '01');
    const peer = await rawPeer();
    peer.pause();
    await until(() => a.end.up);
    while (a.end.ready) a.send('02', 'x'.repeat(1486));
    const { counters } = server;
    expect(counters.waiting).toBeGreaterThan(500);
    expect(counters.lost).toEqual({});
    for (let i = 0; i < 500; i++) a.send('02', 'x'.repeat(1486));
    expect(counters.lost[Loss.OVERFLOW]).toBeGreaterThan(0);
    let bytes = 0;
    peer.on('data', (data) => {
      bytes += data.length;
    });
    peer.resume();
    await until(() => counters.waiting === 0 && bytes === (counters.sent - totalOf(counters.lost)) * 1504);
    expect([a.end.ready, a.readyAgains]).toEqual([true, 1]);
    while (a.end.ready) a.send('02', 'x'.repeat(1486));
    peer.destroy();
    await until(() => !a.end.up);
    expect(counters.waiting).toBe(0);
  });
});

describe('datagrams', () => {
  const pairs = {
    unix: async () => [path, other] as const,
    UDP: async () => [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`] as const,
  };
  it.each(Object.entries(pairs))('house: frames go both ways over %s', async (_kind, addressesOf) => {
    const [local, remote] = await addressesOf();
    const clock = new ManualClock();
    using one = datagramWire(local, remote, { clock });
    using two = datagramWire(remote, local, { clock });
    const [a, b] = [new TestPort(one, '01'), new TestPort(two, '02')];
    clock.advance(1000);
    await until(() => a.end.up && b.end.up);
    a.send('02', 'there');
    b.send('01', 'back');
    await until(() => a.arrived.length === 1 && b.arrived.length === 1);
    expect([a.arrived, b.arrived]).toEqual([['back'], ['there']]);
    if (local === path) expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('house: a peer that goes is missed and found again', async () => {
    const clock = new ManualClock();
    using one = datagramWire(path, other, { clock });
    const a = new TestPort(one, '01');
    for (let round = 0; round < 2; round++) {
      using two = datagramWire(other, path);
      const b = new TestPort(two, '02');
      clock.advance(1000);
      await until(() => a.end.up);
      a.send('02', 'there');
      await until(() => b.arrived.length === 1);
      two[Symbol.dispose]();
      a.send('02', 'gone');
      clock.advance(0);
      await until(() => !a.end.up);
    }
    expect(one.counters).toMatchObject({ sent: 4, waiting: 0, lost: { [Loss.NO_RECEIVER]: 2 } });
  });

  it('house: addresses of two kinds, and text that is no address, are refused', () => {
    expect(() => datagramWire(path, '127.0.0.1:5000')).toThrow('one is a path and the other is not');
    expect(() => parseNetAddress('example.org:80')).toThrow('is no address of a socket');
    expect(() => parseNetAddress('127.0.0.1:99999')).toThrow('has no port from 1 to 65535');
    expect(parseNetAddress('[::1]:5')).toEqual({ kind: 'inet', host: '::1', port: 5 });
  });
});

describe('a tap', () => {
  it('house: names that Linux would refuse, or take as patterns, are refused first', () => {
    for (const name of ['', 'tap%d', 'a/b', '..', 'x'.repeat(16), 'a b', 'tap0\0']) {
      expect(() => tapWire(name)).toThrow('cannot be the name of a tap');
    }
  });

  /** A namespace of its own, in which a user may make taps. */
  const inNamespace = (...command: readonly string[]) => spawnSync('unshare', ['-rn', ...command], { encoding: 'utf8', timeout: 120_000 });
  const possible = existsSync('/dev/net/tun') && inNamespace('ip', 'tuntap', 'add', 'dev', 'vt0', 'mode', 'tap').status === 0;

  it.skipIf(!possible)("house: this computer's kernel answers a port on a tap (skipped where no tap can be made)", () => {
    const child = join(import.meta.dirname, '../../../tests/kit/tap-child.ts');
    const ran = inNamespace(process.execPath, ...typescript, child);
    expect(ran.stderr).toBe('');
    expect(JSON.parse(ran.stdout)).toEqual({
      carrierBefore: false,
      carrierWithLink: true,
      // ARP's reply: operation 2, of the address that was asked for.
      reply: '0002 0a000001',
      busy: 'EBUSY: another program uses the tap vt0',
      notTap: 'EINVAL: lo is an interface, and not a tap of one queue',
      down: { failed: 1 },
      gone: [false, 'tap vt0: the interface is gone'],
      adopted: 'tap vt1',
    });
  });

  it('house: a descriptor that is neither a tap nor a socket is refused', () => {
    // The wire takes the number over, and closes it.
    const number = addon().eventfd(0, 0);
    expect(() => descriptorWire(number)).toThrow('neither a tap nor a socket');
  });
});
