/** DMA by message with clients of both layouts, at the level of messages. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryStream } from '../../../tests/kit/memory-stream.ts';
import { HEADER_BYTES } from '../../abi/vfio-user.ts';
import { ManualClock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import { FrameWriter } from '../frame-writer.ts';
import { FrameReader } from '../frames.ts';
import { Command, defaultCapabilities, encodeError, encodeMessage } from '../messages.ts';
import { DmaCommands } from './dma-commands.ts';
import type { DmaLayout } from './dma-layout.ts';
import { mayBeQemu } from './dma-layout.ts';

const REPLY = 1;

/** A client with 64 KiB of memory at address 0, in one of the layouts. */
class FakeClient {
  readonly memory: Uint8Array;
  readonly clock = new ManualClock();
  readonly commands: DmaCommands;
  readonly asked: { command: number; address: number; count: number }[] = [];
  readonly #ours: FrameReader;
  readonly #theirs: FrameReader;
  readonly #stream: MemoryStream;
  readonly writer: FrameWriter;
  readonly #layout: DmaLayout;
  /** Answer with this errno. */
  errno = 0;
  /** Replies kept, to be sent later in another order. */
  hold: Uint8Array[] | null = null;

  constructor(layout: DmaLayout, options: { maxDataBytes?: number; askLayout?: boolean; readBytes?: number | null; memory?: number } = {}) {
    this.#layout = layout;
    this.memory = new Uint8Array(options.memory ?? 65536);
    const [a, b] = MemoryStream.pair({ capacity: 2 ** 30 });
    this.#stream = b;
    this.writer = new FrameWriter(a);
    this.#ours = new FrameReader(a, { maxMessageBytes: 2 ** 21 });
    this.#theirs = new FrameReader(b, { maxMessageBytes: 2 ** 21 });
    this.commands = new DmaCommands({
      writer: this.writer,
      clock: this.clock,
      maxDataBytes: options.maxDataBytes ?? 4096,
      readBytes: options.readBytes === undefined ? 2 ** 22 : options.readBytes,
      askLayout: options.askLayout ?? false,
      events: { on: false, cause: 0, last: 0 },
      onQueued: () => {},
    });
  }

  read(address: bigint, into: Uint8Array): Promise<void> {
    return this.commands.read(Number(address >> 12n), Number(address & 4095n), into);
  }

  write(address: bigint, from: Uint8Array): Promise<void> {
    return this.commands.write(Number(address >> 12n), Number(address & 4095n), from);
  }

  /** Everything that can happen by itself. */
  async run(): Promise<void> {
    for (let turns = 0; turns < 500; turns++) {
      this.commands.pump();
      this.writer.flush();
      const before = this.asked.length;
      this.serve();
      this.take();
      await Promise.resolve();
      if (this.asked.length === before && turns > 20) return;
    }
  }

  serve(): void {
    while (this.#theirs.fill() > 0) while (this.#theirs.next()) this.#answer();
  }

  take(): void {
    while (this.#ours.fill() > 0) while (this.#ours.next()) expect(this.commands.reply(this.#ours)).toBe(true);
  }

  #answer(): void {
    const { view, start, size, bytes } = this.#theirs;
    const id = view.getUint16(start, true);
    const command = view.getUint16(start + 2, true) as 11 | 12;
    const address = Number(view.getBigUint64(start + HEADER_BYTES, true));
    const count = view.getUint32(start + HEADER_BYTES + 8, true);
    this.asked.push({ command, address, count });
    expect(size).toBe(32 + (command === Command.DMA_WRITE ? count : 0));
    if (this.errno !== 0) {
      this.send(encodeError(id, command, this.errno));
      return;
    }
    const qemu = this.#layout === 'qemu';
    const data = start + (qemu ? 28 : 32);
    if (command === Command.DMA_WRITE) this.memory.set(bytes.subarray(data, data + count), address);
    const payload = new Uint8Array(16 + (command === Command.DMA_READ ? count : 0));
    payload.set(bytes.subarray(start + HEADER_BYTES, start + HEADER_BYTES + 16));
    if (command === Command.DMA_READ) payload.set(this.memory.subarray(address, address + count), qemu ? 12 : 16);
    const headerOnly = qemu && command === Command.DMA_WRITE;
    this.send(encodeMessage(id, command, headerOnly ? new Uint8Array(0) : payload, REPLY));
  }

  send(message: Uint8Array): void {
    if (this.hold !== null) this.hold.push(message);
    else for (let at = 0; at < message.length; ) at += this.#stream.send(message, at, message.length);
  }
}

const layouts: readonly DmaLayout[] = ['spec', 'qemu'];

describe.each(layouts)('a client of layout %s', (layout) => {
  it.each([true, false])('reads and writes of any kind give what memory gives (asked first: %s)', async (askLayout) => {
    const transfer = fc.record({
      write: fc.boolean(),
      address: fc.integer({ min: 0, max: 300 }),
      // Bytes that are mostly 0 look alike in both layouts.
      data: fc.array(fc.constantFrom(0, 0, 0, 1, 255), { minLength: 1, maxLength: 50 }),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(transfer, { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 1, max: 30 }),
        async (transfers, maxDataBytes) => {
          const client = new FakeClient(layout, { maxDataBytes, askLayout });
          const expected = new Uint8Array(1024);
          for (let i = 0; i < 1024; i++) expected[i] = i % 3 === 0 ? 0 : i;
          client.memory.set(expected);
          let certain = layout === 'spec' || askLayout;
          for (const { write, address, data } of transfers) {
            const buffer = write ? Uint8Array.from(data) : new Uint8Array(data.length);
            const done = write ? client.write(BigInt(address), buffer) : client.read(BigInt(address), buffer);
            await client.run();
            await done;
            if (write) expected.set(data, address);
            // A first read whose first four bytes are 0 does not show QEMU's layout, and is known
            // to be wrong: hence the asking.
            if (client.commands.layout === layout) certain = true;
            if (!write && certain) expect(buffer).toEqual(expected.slice(address, address + data.length));
          }
          expect(client.memory.slice(0, 1024)).toEqual(expected);
          expect(client.commands.underWay).toBe(0);
        },
      ),
      { numRuns: 100 },
    );
  });

  it('is found out by the first reply that shows it', async () => {
    const client = new FakeClient(layout);
    client.memory.set([1, 2, 3, 4, 5, 6, 7, 8]);
    const into = new Uint8Array(8);
    const done = client.read(0n, into);
    await client.run();
    await done;
    expect([...into]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(client.commands.layout).toBe(layout);
  });

  it('a write that comes first is right in the end', async () => {
    const client = new FakeClient(layout, { maxDataBytes: 16 });
    const data = Uint8Array.from({ length: 100 }, (_, i) => i + 1);
    const done = client.write(64n, data);
    await client.run();
    await done;
    expect(client.memory.slice(64, 164)).toEqual(data);
    expect(client.memory.slice(0, 64)).toEqual(new Uint8Array(64));
    expect(client.memory.slice(164, 264)).toEqual(new Uint8Array(100));
  });
});

describe('transfers', () => {
  it('are cut into what the client takes, in order', async () => {
    const client = new FakeClient('spec', { maxDataBytes: 1000 });
    const done = client.read(8n, new Uint8Array(2500));
    await client.run();
    await done;
    expect(client.asked.map(({ address, count }) => [address, count])).toEqual([
      [8, 1000],
      [1008, 1000],
      [2008, 500],
    ]);
  });

  it.each([1000, 100])('of a read store all bytes or none, as the caller says when they are there (%i at a time)', async (maxDataBytes) => {
    const client = new FakeClient('spec', { maxDataBytes });
    client.memory.fill(7);
    for (const answer of [false, true]) {
      const into = new Uint8Array(1000);
      const asked: number[] = [];
      const done = client.commands.read(0, 0, into, () => {
        asked.push(into[0]!, into[999]!);
        return answer;
      });
      await client.run();
      await done;
      expect([asked, into.every((byte) => byte === (answer ? 7 : 0))]).toEqual([[0, 0], true]);
    }
  });

  it.each(layouts)('of a write leave the buffer to the caller at once (a client of layout %s)', async (layout) => {
    const client = new FakeClient(layout, { maxDataBytes: 100 });
    // The first write finds out the layout; the last is of many messages, and waits for its turn.
    for (const [address, size] of [
      [0, 50],
      [100, 50],
      [200, 10_000],
    ] as const) {
      const from = new Uint8Array(size).fill(9);
      const done = client.write(BigInt(address), from);
      from.fill(1);
      await client.run();
      await done;
      expect(client.memory.subarray(address, address + size)).toEqual(new Uint8Array(size).fill(9));
    }
  });

  it('of one message are in the writer at once, unless a message is being answered there', async () => {
    const client = new FakeClient('spec');
    const writer = client.writer;
    const done = [client.read(0n, new Uint8Array(8))];
    expect(writer.queued).toBe(32);
    writer.answering = true;
    done.push(client.read(0n, new Uint8Array(8)));
    expect(writer.queued).toBe(32);
    writer.answering = false;
    await client.run();
    await Promise.all(done);
    expect(client.asked.length).toBe(2);
  });

  it('of no bytes are done at once, without a message', async () => {
    const client = new FakeClient('spec');
    await client.read(0n, new Uint8Array(0));
    await client.run();
    expect(client.asked).toEqual([]);
  });

  it('past the last address are refused', async () => {
    const client = new FakeClient('spec');
    await expect(client.write(2n ** 64n - 1n, new Uint8Array(2))).rejects.toMatchObject({ code: 'EOVERFLOW' });
  });

  it('a window of them is in flight, the rest waits', async () => {
    const client = new FakeClient('spec', { maxDataBytes: 1 });
    client.hold = [];
    const done = client.read(0n, new Uint8Array(1000));
    await client.run();
    expect([client.commands.underWay, client.asked.length]).toEqual([64, 64]);
    for (let turns = 0; turns < 40; turns++) {
      const held: Uint8Array[] = client.hold ?? [];
      client.hold = null;
      for (const message of held.reverse()) client.send(message);
      client.hold = [];
      await client.run();
    }
    await done;
    expect(client.asked.length).toBe(1000);
  });

  it('an errno of the client fails the transfer it belongs to, and no other', async () => {
    const client = new FakeClient('spec', { maxDataBytes: 4 });
    client.errno = 14;
    const bad = expect(client.read(0n, new Uint8Array(100))).rejects.toMatchObject({ code: 'EFAULT' });
    await client.run();
    await bad;
    client.errno = 0;
    const good = client.read(0n, new Uint8Array(100));
    await client.run();
    await good;
  });

  it('fail when the client is gone, those that come later too', async () => {
    const client = new FakeClient('spec');
    client.hold = [];
    const first = expect(client.read(0n, new Uint8Array(4))).rejects.toMatchObject({ code: 'ENODEV' });
    await client.run();
    client.commands.fail(new VfioError('ENODEV', 'gone'));
    await first;
    await expect(client.write(0n, new Uint8Array(4))).rejects.toMatchObject({ code: 'ENODEV' });
  });

  it('time out one by one; ids of late replies are not used again, and too many of them are reported', async () => {
    const client = new FakeClient('spec', { maxDataBytes: 1 });
    client.hold = [];
    for (let round = 0; round < 5; round++) {
      const done = expect(client.read(0n, new Uint8Array(64))).rejects.toMatchObject({ code: 'ETIMEDOUT' });
      await client.run();
      client.clock.advance(1000);
      expect(client.commands.expire(client.clock.nowNs() - 1)).toBe(round < 4);
      await done;
    }
    expect(client.commands.underWay).toBe(0);
  });

  it('a client that does not even say which layout it has', async () => {
    const client = new FakeClient('qemu', { askLayout: true });
    client.hold = [];
    const done = expect(client.read(0n, new Uint8Array(4))).rejects.toMatchObject({ code: 'ETIMEDOUT' });
    await client.run();
    expect(client.commands.underWay).toBe(1);
    client.clock.advance(1000);
    client.commands.expire(client.clock.nowNs());
    await done;
  });
});

describe('a client that does not say how much it can have in flight', () => {
  /** As QEMU's socket counts: each reply's data, and what the kernel adds. */
  const SOCKET_BYTES = 212_992;
  const careful = (options: { readBytes?: number | null } = { readBytes: null }) =>
    new FakeClient('spec', { ...options, maxDataBytes: 2 ** 20, memory: 2 ** 22 });
  /** Replies are kept, so that all that is asked for at once shows; then they go, and so on. */
  async function rounds(client: FakeClient, each: (asked: readonly { count: number; address: number; command: number }[]) => void) {
    for (let before = -1; client.asked.length !== before; ) {
      before = client.asked.length;
      client.hold = [];
      await client.run();
      each(client.asked.slice(before));
      const held = client.hold;
      client.hold = null;
      for (const reply of held) client.send(reply);
      client.take();
    }
  }

  it.each([1, 512, 1016, 4096, 65536, 65537, 524_288, 2 ** 20, 2 ** 22])(
    'a read of %i bytes, many at once: replies in flight fit its socket',
    async (size) => {
      const client = careful();
      for (let i = 0; i < client.memory.length; i++) client.memory[i] = (i * 7) >>> 3;
      const buffers = Array.from({ length: size > 65536 ? 3 : 150 }, () => new Uint8Array(size));
      const done = Promise.all(buffers.map((buffer) => client.read(0n, buffer)));
      let most = 0;
      await rounds(client, (asked) => {
        most = Math.max(
          most,
          asked.reduce((sum, { count }) => sum + count + 4096, 0),
        );
      });
      await done;
      expect(most).toBeLessThanOrEqual(SOCKET_BYTES * 0.7);
      for (const buffer of buffers) expect(Buffer.compare(buffer, client.memory.subarray(0, size))).toBe(0);
    },
  );

  it('one that says so is asked for as much as it says', async () => {
    const client = careful({ readBytes: 2 ** 20 });
    const done = Promise.all([1, 2, 3].map(() => client.read(0n, new Uint8Array(2 ** 20))));
    const sums: number[] = [];
    await rounds(client, (asked) => sums.push(asked.reduce((sum, { count }) => sum + count, 0)));
    await done;
    expect(sums.slice(0, 3)).toEqual([2 ** 20, 2 ** 20, 2 ** 20]);
  });

  it('a short read does not wait for the end of a long one', async () => {
    const client = careful();
    const ended: string[] = [];
    const long = client.read(0n, new Uint8Array(2 ** 22)).then(() => ended.push('long'));
    const short = client.read(0x1000n, new Uint8Array(64)).then(() => ended.push('short'));
    await rounds(client, () => {});
    await Promise.all([long, short]);
    expect([ended, client.asked.findIndex(({ count }) => count === 64)]).toEqual([['short', 'long'], 1]);
  });

  it('a write stays behind the reads before it, and before those after it', async () => {
    const client = careful();
    const old = new Uint8Array(300_000);
    const fresh = new Uint8Array(300_000);
    const done = [client.read(0n, old), client.write(0n, new Uint8Array(300_000).fill(9)), client.read(0n, fresh)];
    await rounds(client, () => {});
    await Promise.all(done);
    expect([old.every((byte) => byte === 0), fresh.every((byte) => byte === 9)]).toEqual([true, true]);
  });
});

it('only what looks like QEMU is asked', () => {
  const capabilities = { ...defaultCapabilities, maxMsgFds: 16, writeMultiple: true, migration: { pgsize: 4096 } };
  expect(mayBeQemu({ major: 0, minor: 0, capabilities })).toBe(true);
  expect(mayBeQemu({ major: 0, minor: 1, capabilities })).toBe(false);
  expect(mayBeQemu({ major: 0, minor: 0, capabilities: defaultCapabilities })).toBe(false);
});

it.each([
  ['one message', 4096, 1],
  ['several', 16_384, 4],
])('a read into a buffer that was transferred meanwhile fails alone, by %s: EFAULT', async (_, size, messages) => {
  const client = new FakeClient('spec', { maxDataBytes: 4096, readBytes: null });
  const gone = new Uint8Array(size);
  const failed = client.read(0n, gone).catch((error: VfioError) => error.code);
  structuredClone(gone.buffer, { transfer: [gone.buffer] });
  await client.run();
  expect(await failed).toBe('EFAULT');
  expect(client.asked).toHaveLength(messages);
  client.memory.fill(7);
  const next = new Uint8Array(4096);
  const read = client.read(0n, next);
  await client.run();
  await read;
  expect(next.every((byte) => byte === 7)).toBe(true);
});
