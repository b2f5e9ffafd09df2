/**
 * Streams of nonsense, and of sense with mistakes in it: no crash, no descriptor left, no memory
 * kept, and the next client is served.
 */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openDescriptors } from '../../tests/kit/open-descriptors.ts';
import { clientMemory, RawClient, ServerRig, type ServerRigOptions, settle } from '../../tests/kit/vfio-user-rig.ts';
import { HEADER_BYTES } from '../abi/vfio-user.ts';
import { EventFd } from '../sys/eventfd.ts';
import type { OwnedFd } from '../sys/owned-fd.ts';
import { UnixSocket } from '../sys/unix-socket.ts';
import * as m from './messages.ts';
import { Command, encodeVersion } from './messages.ts';

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc') as () => void;

/** Bytes in use, on the heap and in buffers. */
function inUse(): number {
  gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** How long the project's soak runs make these; 1 in a normal run. */
const FACTOR = Number(process.env.VFIO_FUZZ_FACTOR ?? '1');

const small = fc.constantFrom(
  0n,
  1n,
  8n,
  16n,
  0x1000n,
  0x2000n,
  0x10000n,
  2n ** 32n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 0x1000n,
  2n ** 64n - 1n,
);
const word = fc.oneof(fc.constantFrom(0, 1, 2, 3, 4, 7, 8, 16, 20, 24, 32, 40, 0xffff, 0xffff_ffff), fc.integer({ min: 0, max: 64 }));
const data = fc.uint8Array({ maxLength: 64 });

/** A rig whose events have a reader that never reads. */
function watched(options: ServerRigOptions = {}): ServerRig {
  const rig = new ServerRig({ ...options, oneStream: true });
  rig.events.read({ data: true });
  return rig;
}

/** A payload that is likely to be looked at closely. */
const likely = fc.oneof(
  fc.record({ flags: fc.integer({ min: 0, max: 15 }), offset: small, address: small, size: small }).map(m.encodeDmaMap),
  fc.record({ flags: fc.integer({ min: 0, max: 3 }), address: small, size: small }).map(m.encodeDmaUnmap),
  fc
    .record({ flags: fc.constant(1), address: small, size: small, bitmap: fc.record({ pgsize: small, size: fc.bigInt(0n, 64n) }) })
    .map(m.encodeDmaUnmap),
  fc.tuple(small, word, data).map(([offset, region, bytes]) => m.encodeRegionAccess(offset, region, bytes.length, bytes)),
  fc.tuple(small, fc.integer({ min: 0, max: 8 }), word).map(([offset, region, count]) => m.encodeRegionAccess(offset, region, count)),
  fc
    .record({
      index: fc.integer({ min: 0, max: 5 }),
      start: word,
      count: word,
      action: fc.constantFrom('mask' as const, 'unmask' as const, 'trigger' as const),
      data: fc.constantFrom('none' as const, 'eventfd' as const),
    })
    .map(m.encodeSetIrqs),
  fc
    .record({ feature: fc.integer({ min: 0, max: 13 }), get: fc.boolean(), set: fc.boolean(), probe: fc.boolean(), data, argsz: word })
    .map(m.encodeFeature),
  fc.tuple(word, word).map(([index, argsz]) => m.encodeRegionInfoRequest(index, argsz)),
  data,
);

interface Sent {
  readonly command: number;
  readonly flags: number;
  readonly payload: Uint8Array;
  readonly fds: number;
  /** The change to the bytes. */
  readonly flip: number;
  readonly size: number | null;
  readonly cut: number | null;
}

const sent: fc.Arbitrary<Sent> = fc.record({
  command: fc.oneof(fc.integer({ min: 1, max: 18 }), fc.constantFrom(0, 19, 0xffff)),
  flags: fc.constantFrom(0, 0, 0, 0x10, 1, 0x21, 0xff),
  payload: likely,
  fds: fc.constantFrom(0, 0, 0, 1, 2, 17),
  flip: fc.oneof(fc.constant(-1), fc.constant(-1), fc.nat(400)),
  size: fc.oneof(fc.constant(null), fc.constant(null), fc.constant(null), fc.constantFrom(0, 15, 17, 100, 2000, 2 ** 20, 2 ** 20 + 5000)),
  cut: fc.oneof(fc.constant(null), fc.constant(null), fc.constant(null), fc.nat(40)),
});

/** The bytes of a message, with its mistakes. */
function spoil({ command, flags, payload, flip, size, cut }: Sent): Uint8Array {
  const bytes = m.encodeMessage(1, command as Command, payload, flags);
  if (size !== null) m.viewOf(bytes).setUint32(4, size, true);
  if (flip >= 0) bytes[(flip >> 3) % bytes.length]! ^= 1 << (flip & 7);
  return cut === null ? bytes : bytes.subarray(0, Math.max(1, bytes.length - cut));
}

describe('streams that no client would send', () => {
  it('of random bytes, before VERSION and after', async () => {
    using rig = watched({ server: { limits: { maxDataBytes: 2 ** 16 } } });
    const before = openDescriptors();
    await fc.assert(
      fc.asyncProperty(fc.boolean(), fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 10 }), async (greet, chunks) => {
        const { client, session } = rig.connect();
        if (greet) await client.hello();
        for (const chunk of chunks) if (chunk.length > 0 && !session.closed) client.raw(chunk);
        await settle(10);
        client[Symbol.dispose]();
        await session.ended;
      }),
      { numRuns: 200 * FACTOR },
    );
    expect(openDescriptors()).toBe(before);
    expect(rig.logged.filter((line) => line.startsWith('error'))).toEqual([]);
  });

  it('of messages with mistakes in their bytes, sizes, ends and descriptors', async () => {
    using rig = watched();
    using event = EventFd.create();
    using memory = clientMemory(0x10000);
    const warm = await rig.attach();
    warm.client[Symbol.dispose]();
    await warm.session.ended;
    const before = openDescriptors();
    await fc.assert(
      fc.asyncProperty(fc.array(sent, { minLength: 1, maxLength: 25 }), async (list) => {
        const { client, session } = await rig.attach();
        for (const each of list) {
          if (session.closed) break;
          const fds: OwnedFd[] = Array.from({ length: each.fds }, (_, i) => (i % 2 === 0 ? memory.duplicateFd() : event.duplicateFd()));
          client.raw(spoil(each), fds);
          for (const fd of fds) fd[Symbol.dispose]();
        }
        await settle(20);
        client.receive();
        // Nothing is said but replies and DMA.
        for (const { command, flags } of client.inbox) if (command !== 11 && command !== 12) expect(flags & 0xf).toBe(1);
        client[Symbol.dispose]();
        await session.ended;
        expect([rig.rig.container.size, openDescriptors()]).toEqual([0, before]);
      }),
      { numRuns: 300 * FACTOR },
    );
    expect(rig.logged.filter((line) => line.startsWith('error'))).toEqual([]);
  });

  it('of sound messages, all of which are answered, in their order', async () => {
    using rig = watched();
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.integer({ min: 1, max: 19 }), likely), { minLength: 1, maxLength: 40 }), async (list) => {
        const { client, session } = await rig.attach();
        for (const [id, [command, payload]] of list.entries()) client.send(command, payload, { id });
        for (const [id, [command]] of list.entries()) expect(await client.next()).toMatchObject({ id, command });
        await client.silence();
        client[Symbol.dispose]();
        await session.ended;
      }),
      { numRuns: 100 * FACTOR },
    );
    expect(rig.logged.filter((line) => line.startsWith('error'))).toEqual([]);
  });
});

it('a hundred thousand messages do not make it grow', async () => {
  using rig = new ServerRig();
  const { client, session } = await rig.attach();
  const commands: [number, Uint8Array][] = [
    [Command.REGION_READ, m.encodeRegionAccess(0n, 0, 4)],
    [Command.REGION_WRITE, m.encodeRegionAccess(0n, 0, 4, new Uint8Array(4))],
    [Command.DMA_MAP, m.encodeDmaMap({ flags: 3, offset: 0n, address: 0x1000n, size: 0x1000n })],
    [Command.DMA_UNMAP, m.encodeDmaUnmap({ flags: 0, address: 0x1000n, size: 0x1000n })],
    [Command.DEVICE_GET_REGION_INFO, m.encodeRegionInfoRequest(0)],
    [99, new Uint8Array(40)],
    [Command.DMA_MAP, new Uint8Array(10)],
  ];
  let answers = 0;
  const round = async (count: number) => {
    for (let i = 0; i < count; i++) {
      const [command, payload] = commands[i % commands.length]!;
      client.send(command, payload);
      if (i % 500 !== 499) continue;
      while (client.inbox.length < 500) {
        await settle(2);
        client.receive();
      }
      answers += client.inbox.splice(0).length;
    }
  };
  await round(20_000);
  const before = inUse();
  await round(80_000 * FACTOR);
  expect(answers).toBe(20_000 + 80_000 * FACTOR);
  expect(session.commands).toBe(answers + 1);
  expect(inUse() - before).toBeLessThan(2 * 2 ** 20);
});

it('descriptors sent one by one with the bytes of a message, on a real socket', async () => {
  using rig = new ServerRig();
  using event = EventFd.create();
  using fd = event.duplicateFd();
  const before = openDescriptors();
  for (let round = 0; round < 20; round++) {
    const [ours, theirs] = UnixSocket.pair();
    const session = rig.server.serve(ours);
    const client = new RawClient(theirs);
    client.raw(m.encodeMessage(1, Command.VERSION, encodeVersion(0, 1, {})));
    const bytes = m.encodeMessage(2, Command.DEVICE_GET_INFO, m.encodeDeviceInfo());
    for (let at = 0; at < bytes.length; at++) client.stream.send(bytes, at, at + 1, [fd, fd]);
    const refused = client.next().then(() => client.next());
    expect((await refused).error).toBe('EINVAL');
    client.raw(bytes.subarray(0, HEADER_BYTES), [fd]);
    client[Symbol.dispose]();
    await session.ended;
  }
  expect(openDescriptors()).toBe(before);
});
