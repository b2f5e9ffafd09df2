/**
 * How a client moves a device of another maker's server (B.11): where libvfio-user differs, and
 * replies that cannot be right.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ClientRig, dmaAccess, seen } from '../../tests/kit/client-rig.ts';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { until } from '../../tests/kit/event-loop.ts';
import type { PeerAction } from '../../tests/kit/scripted-peer.ts';
import { bitmapBytes, FeatureFlags, MigrationState } from '../abi/vfio.ts';
import { HeaderFlags } from '../abi/vfio-user.ts';
import { Errno } from '../base/errno.ts';
import { Migration } from '../drivers/kit/migration.ts';
import { HeapMemory } from '../sys/fake.ts';
import { Command, encodeFeature, encodeMessage, encodeMigData } from './messages.ts';

let rig: ClientRig;
beforeAll(async () => {
  rig = await ClientRig.start();
});
afterAll(() => rig[Symbol.asyncDispose]());

const { DEVICE_FEATURE, MIG_DATA_READ, MIG_GET_PRECOPY_INFO } = Command;

/** The reply to the message of that number: VERSION is the first, DEVICE_GET_INFO the second. */
const reply = (id: number, command: Command, payload: Uint8Array): PeerAction => ({
  do: 'send',
  bytes: [...encodeMessage(id, command, payload, HeaderFlags.REPLY)],
});
const feature = (id: number, data: readonly number[]): PeerAction =>
  reply(id, DEVICE_FEATURE, encodeFeature({ feature: 2, get: true, set: false, probe: false, data: Uint8Array.from(data) }));
const state = (id: number, of: number): PeerAction => feature(id, [of, 0, 0, 0, 0, 0, 0, 0]);
/** As many bytes as were asked for, however many of them are data: libvfio-user's way. */
const padded = (id: number, asked: number, data: readonly number[]): PeerAction => {
  const payload = new Uint8Array(8 + asked);
  payload.set(encodeMigData(data.length, Uint8Array.from(data)));
  return reply(id, MIG_DATA_READ, payload);
};

it('B.11 data in replies that are longer than it; none at the end, and none for now while it runs', async () => {
  const connected = rig.connect({
    on: {
      [DEVICE_FEATURE]: [
        state(3, MigrationState.RUNNING),
        state(4, MigrationState.PRE_COPY),
        state(8, MigrationState.PRE_COPY),
        state(9, MigrationState.STOP_COPY),
      ],
      [MIG_DATA_READ]: [padded(5, 10, [1, 2, 3]), padded(6, 10, []), padded(10, 10, [4]), padded(11, 10, [])],
      [MIG_GET_PRECOPY_INFO]: [{ do: 'error', errno: Errno.EINVAL }],
    },
  });
  const migration = new Migration(connected.device);
  const stream = migration.go('PRE_COPY')!;
  const piece = new Uint8Array(10);
  expect([stream.read(piece), [...piece]]).toEqual([3, [1, 2, 3, 0, 0, 0, 0, 0, 0, 0]]);
  expect(errnoFrom(() => stream.read(piece))).toBe('ENOMSG');
  expect(errnoFrom(() => stream.precopyInfo())).toBe('EOPNOTSUPP');
  expect(migration.go('STOP_COPY')).toBeNull();
  expect([stream.read(piece), stream.read(piece)]).toEqual([1, 0]);
  expect(errnoFrom(() => stream.precopyInfo())).toBe('EINVAL');
  const messages = await seen(connected, MIG_DATA_READ);
  expect(messages.map(({ payload }) => [...payload])).toEqual(Array(4).fill([18, 0, 0, 0, 10, 0, 0, 0]));
});

it.each([
  ['more data than was asked for', padded(5, 11, Array(11).fill(1))],
  ['less than it says', reply(5, MIG_DATA_READ, encodeMigData(5, new Uint8Array(4)))],
  ['nothing', reply(5, MIG_DATA_READ, new Uint8Array(0))],
])('B.11 a reply with %s ends the connection', async (_, action) => {
  const { device } = rig.connect({
    on: { [DEVICE_FEATURE]: [state(3, MigrationState.RUNNING), state(4, MigrationState.STOP_COPY)], [MIG_DATA_READ]: [action] },
  });
  const stream = new Migration(device).go('STOP_COPY')!;
  expect(errnoFrom(() => stream.read(new Uint8Array(10)))).toBe('EPROTO');
  expect(errnoFrom(() => stream.read(new Uint8Array(10)))).toBe('ENODEV');
  device.close();
});

it('B.11 a change that fails leaves a stream as the device says that it is', async () => {
  const connected = rig.connect({
    on: {
      [DEVICE_FEATURE]: [
        state(3, MigrationState.RUNNING),
        state(4, MigrationState.PRE_COPY),
        state(5, MigrationState.PRE_COPY),
        { do: 'error', errno: Errno.EINVAL },
        state(7, MigrationState.PRE_COPY),
        state(9, MigrationState.PRE_COPY),
        { do: 'error', errno: Errno.EIO },
        state(11, MigrationState.ERROR),
      ],
      [MIG_DATA_READ]: [padded(8, 10, [1])],
    },
  });
  const migration = new Migration(connected.device);
  const stream = migration.go('PRE_COPY')!;
  expect(errnoFrom(() => migration.go('STOP_COPY'))).toBe('EINVAL');
  expect(stream.read(new Uint8Array(10))).toBe(1);
  expect(errnoFrom(() => migration.go('STOP_COPY'))).toBe('EIO');
  expect(errnoFrom(() => stream.read(new Uint8Array(10)))).toBe('ENODEV');
  connected.device.close();
});

it('B.11 a server that reports whole mappings only is asked for these; the client notes its writes by messages', async () => {
  const [address, data] = [0x10_2000n, new Uint8Array(16).fill(7)];
  const bits = (id: number, first: number): PeerAction => feature(id, [...Array(24).fill(0), first, 0, 0, 0, 0, 0, 0, 0]);
  const connected = rig.connect({
    on: {
      [Command.DMA_MAP]: [
        { do: 'answer' },
        { do: 'ask', when: 'after', command: Command.DMA_WRITE, payload: dmaAccess(address + 4090n, 16, data) },
      ],
      [DEVICE_FEATURE]: [
        feature(3, [0, 0x10, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
        { do: 'error', errno: Errno.EOPNOTSUPP },
        { do: 'error', errno: Errno.EINVAL },
        bits(8, 0b1001_0000),
        { do: 'error', errno: Errno.EOPNOTSUPP },
        { do: 'error', errno: Errno.EINVAL },
        { do: 'error', errno: Errno.EINVAL },
      ],
    },
  });
  const { device } = connected;
  const migration = new Migration(device);
  expect(migration.startLogging([{ iova: 0n, length: 2n ** 30n }])).toBe(4096n);
  const shared = device.dma.allocate(8 * 4096);
  device.dma.map({ iova: 0x20_0000n, memory: shared });
  const local = HeapMemory.allocate(8 * 4096);
  device.dma.map({ iova: 0x10_0000n, memory: local });
  await until(() => local.windows[0]![3 * 4096]! === 7);
  const report = (iova: bigint, pages: bigint) => {
    const bitmap = new Uint8Array(bitmapBytes(pages * 4096n));
    migration.report(iova, pages * 4096n, bitmap);
    return [...Array(bitmap.length * 8).keys()].filter((i) => ((bitmap[i >> 3]! >> (i & 7)) & 1) === 1);
  };
  // The report covers both mappings; one page of the second mapping was not asked for.
  expect(report(0x10_0000n, 0x107n)).toEqual([2, 3, 0x104]);
  expect(report(0x10_0000n, 0x108n)).toEqual([0x107]);
  const features = await seen(connected, DEVICE_FEATURE);
  const asked = features.slice(1).map(({ payload }) => new DataView(payload.buffer, payload.byteOffset).getBigUint64(8, true));
  expect(asked).toEqual([0x10_0000n, 0x10_0000n, 0x20_0000n, 0x10_0000n, 0x10_0000n, 0x20_0000n]);
  expect(
    features.every(({ payload }) => (new DataView(payload.buffer, payload.byteOffset).getUint32(4, true) & FeatureFlags.PROBE) === 0),
  ).toBe(true);
  shared[Symbol.dispose]();
});

it('B.6 dirty pages: undefined with a server that knows no DIRTY_PAGES, which is asked once', async () => {
  const connected = rig.connect({ on: { [Command.DIRTY_PAGES]: [{ do: 'error', errno: Errno.EINVAL }] } });
  expect([connected.device.dma.dirty, connected.device.dma.dirty]).toEqual([undefined, undefined]);
  expect((await seen(connected, Command.DIRTY_PAGES)).length).toBe(1);
});
