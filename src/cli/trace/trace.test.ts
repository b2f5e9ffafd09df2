import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { openDescriptors } from '../../../tests/kit/open-descriptors.ts';
import { parseVfToken } from '../../abi/vf-token.ts';
import { Feature } from '../../abi/vfio.ts';
import { Command, HeaderFlags } from '../../abi/vfio-user.ts';
import { EventFd } from '../../sys/eventfd.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import { UnixSocket } from '../../sys/unix-socket.ts';
import {
  encodeDeviceInfo,
  encodeDmaMap,
  encodeDmaUnmap,
  encodeError,
  encodeFeature,
  encodeIrqInfo,
  encodeMessage,
  encodeRegionAccess,
  encodeRegionInfo,
  encodeRegionInfoRequest,
  encodeSetIrqs,
  encodeWriteMulti,
} from '../../vfio-user/messages.ts';
import { encodeVersion } from '../../vfio-user/version.ts';
import { describeMessage } from './describe-message.ts';
import { masked } from './masked.ts';
import { capturedPacket, captureHeader, SNAP_BYTES } from './pcapng.ts';
import { MessageProxy, type SeenMessage } from './proxy.ts';

const { REPLY, NO_REPLY } = HeaderFlags;
const word = Uint8Array.of(0xd4, 0xc3, 0xb2, 0xa1);

/** One of each kind that a session with edu has, with what is told of it. */
const samples: readonly (readonly [string, Uint8Array])[] = [
  ['0.2 {"capabilities":{"max_msg_fds":8}}', encodeMessage(0, Command.VERSION, encodeVersion(0, 2, { maxMsgFds: 8 }))],
  [
    '0x1000-0x2fff read|write, offset 0x4000 of its memory',
    encodeMessage(1, Command.DMA_MAP, encodeDmaMap({ flags: 3, offset: 0x4000n, address: 0x1000n, size: 0x2000n })),
  ],
  ['ok', encodeMessage(1, Command.DMA_MAP, new Uint8Array(0), REPLY)],
  ['0x1000-0x2fff', encodeMessage(2, Command.DMA_UNMAP, encodeDmaUnmap({ flags: 0, address: 0x1000n, size: 0x2000n }))],
  ['all', encodeMessage(3, Command.DMA_UNMAP, encodeDmaUnmap({ flags: 2, address: 0n, size: 0n }))],
  [
    '9 regions, 5 interrupt indexes, flags 0x3',
    encodeMessage(4, Command.DEVICE_GET_INFO, encodeDeviceInfo({ flags: 3, numRegions: 9, numIrqs: 5 }), REPLY),
  ],
  ['BAR2, room for 32 bytes', encodeMessage(5, Command.DEVICE_GET_REGION_INFO, encodeRegionInfoRequest(2))],
  [
    'BAR0: 0x1000 bytes read|write',
    encodeMessage(5, Command.DEVICE_GET_REGION_INFO, encodeRegionInfo({ index: 0, flags: 3, size: 4096 }, 32, 0n), REPLY),
  ],
  [
    'INTX: 1 eventfd|maskable|automasked',
    encodeMessage(6, Command.DEVICE_GET_IRQ_INFO, encodeIrqInfo({ index: 0, flags: 7, count: 1 }), REPLY),
  ],
  [
    'MSI trigger vectors 0 to 3, eventfd',
    encodeMessage(7, Command.DEVICE_SET_IRQS, encodeSetIrqs({ index: 1, start: 0, count: 4, action: 'trigger', data: 'eventfd' })),
  ],
  ['CONFIG+0x4, 2 bytes', encodeMessage(8, Command.REGION_READ, encodeRegionAccess(4n, 7, 2))],
  ['CONFIG+0x4 = 0x0103', encodeMessage(8, Command.REGION_READ, encodeRegionAccess(4n, 7, 2, Uint8Array.of(3, 1)), REPLY)],
  ['BAR0+0x80 = 0xa1b2c3d4', encodeMessage(9, Command.REGION_WRITE, encodeRegionAccess(0x80n, 0, 4, word), NO_REPLY)],
  [
    'BAR1+0x0 = [00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 … 20 bytes]',
    encodeMessage(9, Command.REGION_WRITE, encodeRegionAccess(0n, 1, 20, new Uint8Array(20))),
  ],
  [
    '2: BAR0+0x8 0xa1b2c3d4, BAR0+0xc 0x01',
    encodeMessage(
      10,
      Command.REGION_WRITE_MULTI,
      encodeWriteMulti([
        { offset: 8n, region: 0, data: word },
        { offset: 12n, region: 0, data: Uint8Array.of(1) },
      ]),
      NO_REPLY,
    ),
  ],
  ['0x4000, 4096 bytes', encodeMessage(11, Command.DMA_READ, dma(0x4000n, 4096n))],
  ['0x4000 = 0xa1b2c3d4', encodeMessage(11, Command.DMA_READ, dma(0x4000n, 4n, word), REPLY)],
  ['0x4000 = 0xa1b2c3d4', encodeMessage(12, Command.DMA_WRITE, dma(0x4000n, 4n, word))],
  ['ok', encodeMessage(12, Command.DMA_WRITE, new Uint8Array(0), REPLY)],
  ['', encodeMessage(13, Command.DEVICE_RESET)],
  [
    'MIGRATION get',
    encodeMessage(14, Command.DEVICE_FEATURE, encodeFeature({ feature: 1, get: true, set: false, probe: false, data: new Uint8Array(0) })),
  ],
  ['ENOTTY', encodeError(14, Command.DEVICE_FEATURE, 25)],
];

function dma(address: bigint, count: bigint, data = new Uint8Array(0)): Uint8Array {
  const payload = new Uint8Array(16 + data.length);
  const view = new DataView(payload.buffer);
  view.setBigUint64(0, address, true);
  view.setBigUint64(8, count, true);
  payload.set(data, 16);
  return payload;
}

const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

describe('S3-05 VF tokens in traces', () => {
  const uuid = '83d8f4f2-509f-382f-3c1e-e6bfe0fa1001';
  const token = parseVfToken(uuid)!;
  const version = (json: string) => {
    const text = new TextEncoder().encode(`${json}\0`);
    return encodeMessage(1, Command.VERSION, Uint8Array.of(0, 0, 1, 0, ...text));
  };
  const contains = (bytes: Uint8Array) => {
    const text = Buffer.from(bytes).toString('latin1').toLowerCase();
    return text.includes('509f') || text.includes('0fa1001') || Buffer.from(bytes).includes(Buffer.from(token.subarray(4, 12)));
  };
  const secrets: readonly (readonly [string, Uint8Array])[] = [
    ['VERSION', encodeMessage(1, Command.VERSION, encodeVersion(0, 1, { maxMsgFds: 8 }, token))],
    ['VERSION, a typing error in the token', version(`{"capabilities":{"vfio_ts_vf_token":"${uuid.slice(1)}"}}`)],
    ['VERSION, under another name', version(`{"capabilities":{"token":"${uuid.toUpperCase()}"}}`)],
    ['VERSION, escaped', version(`{"capabilities":{"vfio_ts_vf_tok\\u0065n":"${uuid.replaceAll('-', '\\u002d')}"}}`)],
    [
      'DEVICE_FEATURE',
      encodeMessage(
        2,
        Command.DEVICE_FEATURE,
        encodeFeature({ feature: Feature.PCI_VF_TOKEN, get: false, set: true, probe: false, data: token }),
      ),
    ],
  ];

  it.each(secrets)('S3-05 %s: nothing of it is shown or kept, and all else is', (_, message) => {
    expect(contains(message)).toBe(true);
    const shown = masked(message);
    expect([contains(shown), shown.length]).toEqual([false, message.length]);
    expect(masked(shown)).toEqual(shown);
    const { text, command } = describeMessage(message);
    expect(contains(new TextEncoder().encode(text))).toBe(false);
    expect(text).toContain('2a 2a 2a'.repeat(Number(command === 'DEVICE_FEATURE')));
  });

  it('S3-05 a VERSION longer than anybody reads is not searched', () => {
    const shown = masked(version('x'.repeat(70_000) + uuid));
    expect([shown.length, contains(shown), shown.subarray(20, 24)]).toEqual([
      16 + 4 + 70_000 + 36 + 1,
      false,
      new Uint8Array(4).fill(0x2a),
    ]);
  });

  it('S3-05 messages without a token are kept as they are', () => {
    for (const [, message] of samples) expect(masked(message)).toBe(message);
  });
});

describe('a message as a line', () => {
  it.each(samples.map(([text, message], i) => [`${i} ${describeMessage(message).command}`, text, message] as const))(
    '%s',
    (_, text, message) => {
      const described = describeMessage(message);
      expect(described.text).toBe(text);
    },
  );

  it('knows commands, posted commands, replies and errors apart', () => {
    const kinds = [0, NO_REPLY, REPLY, REPLY | HeaderFlags.ERROR].map(
      (flags) => describeMessage(encodeMessage(1, 13, undefined, flags, 5)).kind,
    );
    expect(kinds).toEqual(['command', 'posted', 'reply', 'error']);
  });

  it('finds the data where QEMU puts it, after a count of 32 bits', () => {
    const reply = dma(0x4000n, 4n, word);
    // Four bytes earlier, and the message is as long as before.
    reply.copyWithin(12, 16);
    expect(describeMessage(encodeMessage(1, Command.DMA_READ, reply.subarray(0, 16), REPLY)).text).toBe('0x4000 = 0xa1b2c3d4');
  });

  it('tells whatever bytes there are in plain characters, and never throws', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 20 }),
        fc.integer({ min: 0, max: 0x3f }),
        fc.uint8Array({ maxLength: 80 }),
        (command, flags, payload) => {
          const { text } = describeMessage(encodeMessage(1, command as Command, payload, flags));
          expect(text).toMatch(/^[\x20-\x7e…]*$/);
          describeMessage(payload);
        },
      ),
    );
  });
});

describe('a capture', () => {
  const capture = () => {
    const packets = samples.map(([, message], i) =>
      capturedPacket(message, i % 2 === 0 ? 'to server' : 'to client', BigInt(i) * 1_000_000n, i === 1 ? '1 descriptor: /memfd:x' : ''),
    );
    return Buffer.concat([captureHeader('unix:/tmp/x.sock'), ...packets]);
  };

  it('is a sequence of pcapng blocks whose lengths agree at both ends', () => {
    const bytes = capture();
    const types: number[] = [];
    for (let at = 0; at < bytes.length; ) {
      const length = bytes.readUInt32LE(at + 4);
      expect(bytes.readUInt32LE(at + length - 4)).toBe(length);
      types.push(bytes.readUInt32LE(at));
      at += length;
    }
    expect(types).toEqual([0x0a0d0d0a, 1, ...samples.map(() => 6)]);
  });

  it('keeps the beginning of what is longer than Wireshark takes, and tells how long it was', () => {
    const packet = Buffer.from(capturedPacket(new Uint8Array(2 ** 20), 'to server', 0n));
    expect([packet.readUInt32LE(20), packet.readUInt32LE(24)]).toEqual([SNAP_BYTES, 2 ** 20]);
    expect(packet.length).toBeLessThan(SNAP_BYTES + 100);
  });

  const hasTshark = spawnSync('tshark', ['--version']).status === 0;
  if (!hasTshark) console.warn('SKIPPED: tshark is not installed, so tools/vfio-user.lua was not tried (apt-get install tshark)');
  it.skipIf(!hasTshark)('tshark reads it, and takes every message apart with tools/vfio-user.lua', () => {
    const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
    folders.push(folder);
    const file = join(folder, 'x.pcapng');
    const cut = encodeMessage(20, Command.DMA_MAP, new Uint8Array(8));
    writeFileSync(file, Buffer.concat([capture(), capturedPacket(cut, 'to server', 0n)]));
    const script = join(import.meta.dirname, '../../../tools/vfio-user.lua');
    const tshark = (...args: string[]) => {
      const { stdout, stderr, status } = spawnSync('tshark', ['-X', `lua_script:${script}`, '-r', file, ...args], { encoding: 'utf8' });
      expect(status, stderr).toBe(0);
      expect(stderr).not.toContain('Lua');
      return stdout.trimEnd().split('\n');
    };
    const columns = tshark('-T', 'fields', '-E', 'separator=|', '-e', '_ws.col.Protocol', '-e', 'vfio-user.command', '-e', '_ws.col.Info');
    const rows = columns.map((line) => line.split('|'));
    expect(rows.map((r) => r[0])).toEqual([...samples, cut].map(() => 'vfio-user'));
    expect(rows.map((r) => Number(r[1]))).toEqual([...samples.map(([, m]) => new DataView(m.buffer).getUint16(2, true)), 2]);
    expect(rows[1]![2]).toContain('DMA_MAP 0x1000, length 0x2000');
    expect(rows.find((r) => r[1] === '16' && r[2]!.includes('errno'))![2]).toContain('errno 25');
    expect(tshark('-Y', '_ws.malformed || vfio-user.malformed', '-T', 'fields', '-e', 'vfio-user.id')).toEqual(['20']);
    expect(tshark('-Y', 'frame.comment', '-T', 'fields', '-e', 'frame.comment')).toEqual(['1 descriptor: /memfd:x']);
    expect(tshark('-Y', 'vfio-user.region == 7 && vfio-user.data', '-T', 'fields', '-e', 'vfio-user.data')).toEqual(['0301']);
    // A capture that somebody else made: what the dissector tells has no token, though the bytes do.
    const token = parseVfToken('83d8f4f2-509f-382f-3c1e-e6bfe0fa1001')!;
    const version = encodeMessage(1, Command.VERSION, encodeVersion(0, 1, { maxMsgFds: 8 }, token));
    const set = encodeFeature({ feature: Feature.PCI_VF_TOKEN, get: false, set: true, probe: false, data: token });
    const packets = [version, encodeMessage(2, Command.DEVICE_FEATURE, set)].map((m) => capturedPacket(m, 'to server', 0n));
    writeFileSync(file, Buffer.concat([captureHeader('x'), ...packets]));
    const told = tshark('-O', 'vfio-user').join('\n');
    expect(told).toContain(`"max_msg_fds":8,"vfio_ts_vf_token":"${'*'.repeat(36)}"`);
    expect(told).toContain('PCI_VF_TOKEN');
    expect(told).not.toMatch(/509f|0fa1001/);
  });
});

describe('the proxy', () => {
  function between() {
    const [client, nearClient] = UnixSocket.pair();
    const [nearServer, server] = UnixSocket.pair();
    const seen: (Omit<SeenMessage, 'bytes'> & { bytes: Uint8Array })[] = [];
    let ended: string | null = null;
    const proxy = new MessageProxy(nearClient, nearServer, {
      onMessage: (m) => void seen.push({ ...m, bytes: m.bytes.slice() }),
      onEnd: (reason) => {
        ended = reason;
      },
    });
    return { client, server, proxy, seen, ended: () => ended };
  }

  /** Receive until `count` bytes are there; the event loop goes round in between, so that the proxy can work. */
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
    const all = Buffer.concat(samples.map(([, m]) => m));
    for (let at = 0; at < all.length; at += 7) send(client, all.subarray(at, at + 7));
    expect((await receive(server, all.length)).bytes).toEqual(Uint8Array.from(all));
    send(server, all);
    expect((await receive(client, all.length)).bytes).toEqual(Uint8Array.from(all));
    expect(seen.filter((m) => m.direction === 'to server').map((m) => m.bytes)).toEqual(samples.map(([, m]) => m));
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
    expect(seen.map((m) => m.fds)).toEqual([[], ['anon_inode:[eventfd]']]);
    using arrived = EventFd.fromFd(fds[0]!);
    arrived.signal();
    expect(sent.read()).toBe(1n);
    proxy[Symbol.dispose]();
    for (const socket of [client, server]) socket[Symbol.dispose]();
  });

  it('ends the connection when a message cannot be told, and keeps none of its descriptors', async () => {
    using sent = EventFd.create();
    const before = openDescriptors();
    const [client, nearClient] = UnixSocket.pair();
    const [nearServer, server] = UnixSocket.pair();
    let reason: string | null = null;
    const proxy = new MessageProxy(nearClient, nearServer, {
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
