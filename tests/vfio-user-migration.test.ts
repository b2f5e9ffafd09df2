/**
 * A device moved from one process to another, over sockets: our client between two servers of ours.
 */
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Device, MigrationStream } from '../src/abi/device.ts';
import { bitmapBytes } from '../src/abi/vfio.ts';
import { VfioError } from '../src/base/errno.ts';
import { Migration } from '../src/drivers/kit/migration.ts';
import { VfioUserDevice } from '../src/vfio-user/client.ts';
import { Movable } from './kit/movable-model.ts';
import { ServerProcess } from './kit/server-process.ts';

const model = fileURLToPath(new URL('./kit/movable-server-model.ts', import.meta.url));
let source: ServerProcess;
let target: ServerProcess;

beforeAll(async () => {
  [source, target] = await Promise.all([ServerProcess.start({ model }), ServerProcess.start({ model })]);
});
afterAll(async () => {
  await source[Symbol.asyncDispose]();
  await target[Symbol.asyncDispose]();
});

async function both(): Promise<{ from: VfioUserDevice; to: VfioUserDevice }> {
  await Promise.all([source.fresh(), target.fresh()]);
  const open = (path: string) => {
    const device = VfioUserDevice.connect(path, { timeoutMs: 120_000 });
    device.region(7).write16(4, 6);
    return device;
  };
  return { from: open(source.path), to: open(target.path) };
}

/** Copies everything that is there now. @returns bytes moved */
function pump(from: MigrationStream, to: MigrationStream, most = Number.POSITIVE_INFINITY): number {
  const piece = new Uint8Array(100_000);
  let moved = 0;
  try {
    for (let got = from.read(piece); got > 0 && moved < most; got = from.read(piece)) {
      to.write(piece.subarray(0, got));
      moved += got;
    }
  } catch (error) {
    if (!(error instanceof VfioError) || error.code !== 'ENOMSG') throw error;
  }
  return moved;
}

const fill = (device: Device, block: number, value: number) => device.region(0).write32(Movable.FILL, (block << 8) | value);
const look = (device: Device, block: number) => {
  device.region(0).write32(Movable.LOOK, block);
  return device.region(0).read32(Movable.LOOK);
};

it('B.11 while it runs: rounds of changes, then the end; every block and register arrives', async () => {
  const { from, to } = await both();
  const [there, here] = [new Migration(from), new Migration(to)];
  expect([there.flags, there.state]).toEqual([7, 'RUNNING']);
  for (let block = 0; block < 200; block++) fill(from, block, (block % 255) + 1);
  from.region(0).write32(0x10, 0xfeed);
  const reading = there.go('PRE_COPY')!;
  const writing = here.go('RESUMING')!;
  expect(reading.precopyInfo().initialBytes).toBeGreaterThan(200 * 4096);
  expect(pump(reading, writing)).toBeGreaterThan(200 * 4096);
  expect(reading.precopyInfo()).toEqual({ initialBytes: 0, dirtyBytes: 0 });
  from.migration!.readPrecopyFlags();
  expect(reading.precopyInfo()).toEqual({ initialBytes: 0, dirtyBytes: 0, flags: 0 });
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 7; i++) fill(from, (round * 31 + i * 17) % 256, round + i + 100);
    fill(from, round, 0);
    expect(reading.precopyInfo().dirtyBytes).toBeGreaterThan(0);
    pump(reading, writing);
  }
  fill(from, 250, 99);
  expect(there.go('PRE_COPY_P2P')).toBeNull();
  expect(there.go('STOP_COPY')).toBeNull();
  pump(reading, writing);
  expect([reading.read(new Uint8Array(10)), here.go('RUNNING'), here.state]).toEqual([0, null, 'RUNNING']);
  for (let block = 0; block < 256; block++) expect([block, look(to, block)]).toEqual([block, look(from, block)]);
  expect(to.region(0).read32(0x10)).toBe(0xfeed);
  from.close();
  to.close();
});

it('B.11 cut off in the middle, by either side, the source runs on', async () => {
  for (const cut of [0, 1000, 300_000]) {
    const { from, to } = await both();
    const [there, here] = [new Migration(from), new Migration(to)];
    for (let block = 0; block < 100; block++) fill(from, block, block + 1);
    const reading = there.go('STOP_COPY')!;
    pump(reading, here.go('RESUMING')!, cut);
    to.close();
    there.go('RUNNING');
    fill(from, 3, 77);
    expect([there.state, look(from, 3), look(from, 99)]).toEqual(['RUNNING', 77, 100]);
    const again = VfioUserDevice.connect(target.path, { timeoutMs: 120_000 });
    expect(new Migration(again).state).toBe('RUNNING');
    again.close();
    from.close();
  }
});

it.each(['shared', 'by messages'])(
  'B.11 DMA_LOGGING reports the server’s writes to memory that is %s, more than one message holds',
  async (how) => {
    const { from, to } = await both();
    to.close();
    const migration = new Migration(from);
    const memory = how === 'shared' ? from.dma.allocate(64 * 4096) : new Local(64 * 4096);
    from.dma.map({ iova: 0x10_0000n, memory });
    const length = 2n ** 36n;
    expect(migration.startLogging([{ iova: 0n, length }])).toBe(4096n);
    const send = async (page: number) => {
      from.region(0).write32(Movable.SEND, 0x10_0000 + page * 4096);
      while (memory.windows[0]![page * 4096] === 0) await new Promise((resolve) => setTimeout(resolve, 2));
      expect(memory.windows[0]![page * 4096]).toBe((0x100 + page) & 0xff);
    };
    await send(3);
    await send(17);
    const bitmap = new Uint8Array(bitmapBytes(length));
    expect(bitmap.length).toBe(2 ** 21);
    migration.report(0n, length, bitmap);
    const set = () => [...bitmap.keys()].filter((i) => bitmap[i] !== 0).map((i) => 8 * i + 31 - Math.clz32(bitmap[i]!));
    expect(set()).toEqual([0x103, 0x111]);
    // A write by message is reported until it has ended: until its reply, which has a socket of its
    // own, has come to the server.
    do {
      bitmap.fill(0);
      migration.report(0n, length, bitmap);
      expect([0x103, 0x111]).toEqual(expect.arrayContaining(set()));
    } while (set().length > 0);
    migration.stopLogging();
    from.close();
  },
);

/** Memory of this process alone, without a descriptor. */
class Local {
  readonly kind = 'direct';
  readonly size: number;
  readonly windows: Uint8Array[];
  references = 1;

  constructor(size: number) {
    this.size = size;
    this.windows = [new Uint8Array(size)];
  }

  get(): this {
    this.references++;
    return this;
  }

  put(): void {
    this.references--;
  }

  [Symbol.dispose](): void {
    this.put();
  }
}
