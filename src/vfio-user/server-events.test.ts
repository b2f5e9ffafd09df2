/** The server's messages as events, and what they lead to. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { plain, type ScriptedModel } from '../../tests/kit/device-rig.ts';
import { type RawClient, ServerRig, type ServerRigOptions, settle } from '../../tests/kit/vfio-user-rig.ts';
import type { EventOf, EventOptions, VfioEvent } from '../abi/event.ts';
import { parseVfToken } from '../abi/vf-token.ts';
import { Feature } from '../abi/vfio.ts';
import { HEADER_BYTES, HeaderFlags } from '../abi/vfio-user.ts';
import { RING_MESSAGE_BYTES } from '../events/ring.ts';
import { EventFd } from '../sys/eventfd.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import { SHOWN_BYTES } from './message-events.ts';
import * as m from './messages.ts';
import { Command } from './messages.ts';

type Message = EventOf<'message'>;
const IOVA = 0x10_0000n;
const MARK = 0xa5c3_96f1;
const mark = (count = 4) => Uint8Array.from({ length: count }, (_, i) => (MARK >>> (8 * (i % 4))) & 0xff);
const memoryBar = { ...plain, bars: [...plain.bars!, { index: 2, size: 0x4000, type: 'mem32', backing: 'memory' }] } as const;

async function attached(options: ServerRigOptions = {}, read: EventOptions = {}) {
  const rig = new ServerRig({ oneStream: true, allocate: MemfdMemory.allocate, ...options });
  const { client } = await rig.attach();
  const reader = rig.events.read(read);
  const model = rig.rig.model as ScriptedModel;
  return {
    rig,
    client,
    model,
    events: () => reader.take(),
    messages: () => reader.take().filter((event) => event.kind === 'message'),
    [Symbol.dispose]: () => rig[Symbol.dispose](),
  };
}

const readOf = (offset: number, count: number, region = 0) => m.encodeRegionAccess(BigInt(offset), region, count);
const writeOf = (offset: number, data: Uint8Array, region = 0) => m.encodeRegionAccess(BigInt(offset), region, data.length, data);
const short = ({ type, command, direction, size, fds, twin, errno }: Message) =>
  `${twin ? 'twin ' : ''}${direction} ${command} ${type} ${size}${fds === 0 ? '' : ` fds ${fds}`}${errno === undefined ? '' : ` ${errno}`}`;
/** `kind of the event ← kind of its cause` */
function chain(events: readonly VfioEvent[], event: VfioEvent | undefined): string {
  const names: string[] = [];
  for (let at = event; at !== undefined; at = events.find(({ seq }) => seq === at!.cause)) {
    names.push(at.kind === 'message' ? `${at.command} ${at.type}` : at.kind);
  }
  return names.join(' ← ');
}
/** Whether bytes of the mark are anywhere in it, as bytes, as text of hex, or as a number. */
function shows(events: readonly VfioEvent[]): boolean {
  const text = (value: unknown): string => {
    if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
    return typeof value === 'object' && value !== null
      ? Object.values(value).map(text).join(' ')
      : `${String(value)} ${Number(value).toString(16)}`;
  };
  const all = events.map(text).join(' ');
  return ['f196c3a5', 'a5c396f1'].some((each) => all.includes(each)) || all.includes(String(MARK));
}

describe('a message', () => {
  it('and its reply are events of the device, the message the cause of the access and of the reply', async () => {
    using at = await attached();
    await at.client.request(Command.REGION_READ, readOf(8, 4));
    const events = at.events();
    expect(events.map((event) => chain(events, event))).toEqual([
      'REGION_READ command',
      'access ← REGION_READ command',
      'REGION_READ reply ← REGION_READ command',
    ]);
    expect(new Set(events.map(({ device }) => device))).toEqual(new Set([at.rig.rig.bdf]));
  });

  it('says id, size, direction and the bytes of the wire with the value of a register', async () => {
    using at = await attached();
    const payload = writeOf(8, mark());
    const id = at.client.send(Command.REGION_WRITE, payload);
    await at.client.next();
    const [command, reply] = at.messages();
    expect(command).toMatchObject({
      direction: 'to server',
      id,
      command: 'REGION_WRITE',
      type: 'command',
      size: HEADER_BYTES + payload.length,
      fds: 0,
      twin: false,
      bytes: m.encodeMessage(id, Command.REGION_WRITE, payload),
    });
    expect(reply).toMatchObject({ direction: 'to client', id, type: 'reply', size: 32 });
  });

  it('that is posted has no reply', async () => {
    using at = await attached();
    at.client.send(Command.REGION_WRITE, writeOf(8, mark()), { flags: HeaderFlags.NO_REPLY });
    await at.client.silence();
    expect(at.messages().map(short)).toEqual(['to server REGION_WRITE posted 36']);
  });

  it('that is refused has an error as its reply', async () => {
    using at = await attached();
    await at.client.request(Command.REGION_READ, readOf(2 ** 40, 4));
    await at.client.request(77);
    expect(at.messages().map(short)).toEqual([
      'to server REGION_READ command 32',
      'to client REGION_READ error 16 EINVAL',
      'to server command 77 command 16',
      'to client command 77 error 16 EINVAL',
    ]);
  });

  it('that brings descriptors says how many', async () => {
    using at = await attached();
    using event = EventFd.create();
    using fd = event.duplicateFd();
    const irqs = { index: 1, start: 0, count: 1, action: 'trigger', data: 'eventfd' } as const;
    await at.client.request(Command.DEVICE_SET_IRQS, m.encodeSetIrqs(irqs), { fds: [fd] });
    expect(at.messages().map(short)[0]).toBe('to server DEVICE_SET_IRQS command 36 fds 1');
  });

  it('that the device holds is answered later, with the message as the cause', async () => {
    using at = await attached();
    const file = at.rig.opened[0]!;
    let go = () => {};
    const held = new Promise<void>((resolve) => {
      go = resolve;
    });
    Object.defineProperty(file, 'heldAnswer', { value: () => held });
    at.client.send(Command.REGION_READ, readOf(8, 4));
    await at.client.silence();
    expect(at.messages().map(short)).toEqual(['to server REGION_READ command 32']);
    using reader = at.rig.events.read();
    go();
    await at.client.next();
    const [reply] = reader.take();
    expect([reply?.kind, reply?.cause]).toEqual(['message', reply!.seq - 2]);
  });
});

describe('DMA by message', () => {
  async function remote(options: EventOptions = {}, capabilities: Parameters<RawClient['hello']>[0] = {}) {
    const rig = new ServerRig({ oneStream: true });
    const { client } = await rig.attach(capabilities);
    await client.request(Command.DMA_MAP, m.encodeDmaMap({ address: IOVA, size: 0x1000n, offset: 0n, flags: 3 }));
    const reader = rig.events.read(options);
    const model = rig.rig.model as ScriptedModel;
    const bytes = mark(64);
    model.onWrite = (_, offset) => {
      const { dma } = model.host;
      void (offset === 0 ? dma.read(IOVA, bytes) : dma.write(IOVA, bytes)).catch(() => {});
    };
    const doorbell = async (offset: number): Promise<Message[]> => {
      await client.request(Command.REGION_WRITE, writeOf(offset, Uint8Array.of(1, 0, 0, 0)));
      const command = await client.next();
      const access = command.payload.subarray(0, 16);
      client.reply(command, offset === 0 ? Buffer.concat([access, mark(64)]) : access);
      await settle();
      all = reader.take();
      return all.filter((event) => event.kind === 'message');
    };
    let all: VfioEvent[] = [];
    return { rig, doorbell, all: () => all, [Symbol.dispose]: () => rig[Symbol.dispose]() };
  }

  it.each([
    [0, 'DMA_READ'],
    [4, 'DMA_WRITE'],
  ])('has the access as its cause, and its reply the command (%i: %s)', async (offset, name) => {
    using at = await remote();
    await at.doorbell(offset);
    const all = at.all();
    const reply = all.find((event) => event.kind === 'message' && event.command === name && event.type === 'reply');
    expect(chain(all, reply)).toBe(`${name} reply ← ${name} command ← access ← REGION_WRITE command`);
  });

  it('without data no byte of it is in any event; with data all are', async () => {
    for (const offset of [0, 4]) {
      using at = await remote();
      await at.doorbell(offset);
      expect(shows(at.all())).toBe(false);
      using curious = await remote({ data: true });
      const carrier = (await curious.doorbell(offset)).find(({ data }) => data !== undefined);
      expect(carrier).toMatchObject({ data: mark(64), size: 96 });
    }
  });

  it('in the layout of early QEMUs has its data four bytes earlier, which no event shows', async () => {
    using at = await attached();
    const reply = m.encodeMessage(
      1,
      Command.DMA_READ,
      Buffer.concat([readOf(0, 4).subarray(0, 12), mark(), new Uint8Array(4)]),
      HeaderFlags.REPLY,
    );
    at.client.raw(reply);
    await at.client.next();
    const [seen] = at.messages();
    expect([seen?.command, seen?.bytes.length, shows([seen!])]).toEqual(['DMA_READ', HEADER_BYTES + 12, false]);
  });
});

describe('data', () => {
  const cases: readonly (readonly [string, number, Uint8Array])[] = [
    ['a register of memory, written', Command.REGION_WRITE, writeOf(0x10, mark(), 2)],
    ['a register of memory, read', Command.REGION_READ, readOf(0x10, 4, 2)],
    ['a long write', Command.REGION_WRITE, writeOf(0x10, mark(64))],
    ['a long read', Command.REGION_READ, readOf(0x10, 64, 2)],
    ['writes of which one goes to memory', Command.REGION_WRITE_MULTI, m.encodeWriteMulti([{ offset: 0x10n, region: 2, data: mark() }])],
    ['a state that is moved', Command.MIG_DATA_WRITE, m.encodeMigData(64, mark(64))],
    ['an unknown command', 77, mark(64)],
  ];
  it.each(cases)('%s: only with data', async (_, command, payload) => {
    for (const data of [false, true]) {
      using at = await attached({ declaration: memoryBar }, { data, kinds: ['message'] });
      at.rig.opened[0]!.region(2).write(0x10, mark(64));
      await at.client.request(command, payload);
      const seen = at.messages();
      expect(shows(seen)).toBe(data && command !== 77);
      for (const { bytes, data: rest, size } of seen) {
        if (data && command !== 77) expect(bytes.length + (rest?.length ?? 0)).toBe(size);
      }
    }
  });

  it('writes to registers in one message are shown', async () => {
    using at = await attached({ declaration: memoryBar });
    await at.client.request(Command.REGION_WRITE_MULTI, m.encodeWriteMulti([{ offset: 0x10n, region: 0, data: mark() }]));
    expect(shows(at.messages())).toBe(true);
  });
});

it('S3-05 a VF token is in no field of an event, of VERSION and of DEVICE_FEATURE', async () => {
  const uuid = '83d8f4f2-509f-382f-3c1e-e6bfe0fa1001';
  const token = parseVfToken(uuid)!;
  using rig = new ServerRig({ oneStream: true });
  using reader = rig.events.read({ data: true });
  const { client } = rig.connect();
  await client.request(Command.VERSION, m.encodeVersion(0, 1, { maxMsgFds: 8 }, token));
  const set = { feature: Feature.PCI_VF_TOKEN, get: false, set: true, probe: false, data: token };
  await client.request(Command.DEVICE_FEATURE, m.encodeFeature(set));
  const events = reader.take();
  const messages = events.filter((event) => event.kind === 'message');
  expect(messages.map(short).slice(0, 2)).toEqual([expect.stringMatching(/VERSION command/), expect.stringMatching(/VERSION reply/)]);
  const text = JSON.stringify(events, (_, value) =>
    value instanceof Uint8Array ? Buffer.from(value).toString('latin1') : typeof value === 'bigint' ? String(value) : value,
  );
  const hex = messages.map(({ bytes, data }) => Buffer.concat([bytes, data ?? new Uint8Array(0)]).toString('hex')).join(' ');
  expect(text).not.toMatch(/509f|0fa1001/i);
  expect(hex).not.toContain(Buffer.from(token.subarray(4, 12)).toString('hex'));
});

describe('a client that floods', () => {
  it('with long structures costs bounded memory: of the messages that follow only headers are kept', async () => {
    using at = await attached({}, { kinds: ['message'] });
    const data = new Uint8Array(4000);
    const long = m.encodeMessage(1, Command.DEVICE_FEATURE, m.encodeFeature({ feature: 999, get: false, set: true, probe: false, data }));
    for (let i = 0; i < RING_MESSAGE_BYTES / long.length + 100; i++) {
      at.client.raw(long);
      if (i % 50 < 49) continue;
      await settle(20);
      at.client.receive();
      at.client.inbox.length = 0;
    }
    await settle();
    const lengths = at
      .messages()
      .filter(({ type }) => type === 'command')
      .map(({ bytes }) => bytes.length);
    const held = lengths.reduce((sum, each) => sum + each, 0);
    expect([lengths[0], lengths.at(-1)]).toEqual([long.length, HEADER_BYTES]);
    expect(held).toBeLessThan(RING_MESSAGE_BYTES + HEADER_BYTES * lengths.length);
  });

  it('with anything at all does not disturb the server, and no event is longer than allowed', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 0, max: 0x3f }), fc.uint8Array({ maxLength: 60 })), {
          maxLength: 20,
        }),
        async (sent) => {
          using at = await attached({ declaration: memoryBar });
          for (const [command, flags, payload] of sent) at.client.raw(m.encodeMessage(3, command as Command, payload, flags));
          await settle(20);
          for (const { bytes } of at.messages()) expect(bytes.length).toBeLessThanOrEqual(SHOWN_BYTES);
        },
      ),
      { numRuns: 50 },
    );
  });
});

it('memory of which the client has a file is mapped until the client is gone', async () => {
  using at = await attached({ declaration: memoryBar }, { kinds: ['mapping'] });
  for (let i = 0; i < 2; i++) await at.client.request(Command.DEVICE_GET_REGION_INFO, m.encodeRegionInfoRequest(2, 4096));
  const mapping = { kind: 'mapping', region: 2, offset: 0, size: 0x4000 };
  expect(at.events()).toMatchObject([{ ...mapping, op: 'map' }]);
  at.client[Symbol.dispose]();
  await settle(20);
  expect(at.events()).toMatchObject([{ ...mapping, op: 'unmap' }]);
});
