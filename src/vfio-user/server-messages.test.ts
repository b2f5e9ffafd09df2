/**
 * Each message malformed in each field, with the errno that it must get. The stream goes on behind
 * it.
 */
import { describe, expect, it } from 'vitest';
import { plain, resettable } from '../../tests/kit/device-rig.ts';
import { openDescriptors } from '../../tests/kit/open-descriptors.ts';
import { type RawClient, ServerRig } from '../../tests/kit/vfio-user-rig.ts';
import { HEADER_BYTES, HeaderFlags } from '../abi/vfio-user.ts';
import { EventFd } from '../sys/eventfd.ts';
import { closeAll } from './frames.ts';
import * as m from './messages.ts';
import { Command } from './messages.ts';

/** `payload` with a little-endian value of `size` bytes at `at`. */
function patched(payload: Uint8Array, at: number, size: 4 | 8, value: number | bigint): Uint8Array {
  const copy = payload.slice();
  const view = m.viewOf(copy);
  if (size === 4) view.setUint32(at, Number(value), true);
  else view.setBigUint64(at, BigInt(value), true);
  return copy;
}

const map = m.encodeDmaMap({ flags: 3, offset: 0n, address: 0x10000n, size: 0x1000n });
const unmap = m.encodeDmaUnmap({ flags: 0, address: 0x10000n, size: 0x1000n });
const unmapDirty = m.encodeDmaUnmap({ flags: 1, address: 0x10000n, size: 0x1000n, bitmap: { pgsize: 4096n, size: 8n } });
const dirty = m.encodeDirtyPages({ flags: 4, range: { iova: 0n, size: 0x1000n, pgsize: 4096n, bitmapSize: 8n } });
const read = m.encodeRegionAccess(0x10n, 0, 4);
const write = m.encodeRegionAccess(0x10n, 0, 4, Uint8Array.of(1, 2, 3, 4));
const trigger = m.encodeSetIrqs({ index: 0, start: 0, count: 1, action: 'trigger', data: 'none' });
const bools = m.encodeSetIrqs({ index: 0, start: 0, count: 1, action: 'trigger', data: 'bool', values: Uint8Array.of(1) });
const multi = m.encodeWriteMulti([
  { offset: 0x10n, region: 0, data: Uint8Array.of(1, 2, 3, 4) },
  { offset: 0x20n, region: 0, data: Uint8Array.of(5) },
]);
const feature = m.encodeFeature({ feature: 5, get: false, set: true, probe: false, data: new Uint8Array(0) });

/** command, what is wrong, payload, errno; null = it is fine. */
const rows: readonly (readonly [keyof typeof Command, string, Uint8Array, string | null])[] = [
  ['VERSION', 'a second time', Uint8Array.of(0, 0, 1, 0), 'EINVAL'],

  ['DMA_MAP', 'nothing', map, null],
  ['DMA_MAP', 'no payload', map.subarray(0, 0), 'EINVAL'],
  ['DMA_MAP', 'cut short', map.subarray(0, 31), 'EINVAL'],
  ['DMA_MAP', 'argsz 0', patched(map, 0, 4, 0), 'EINVAL'],
  ['DMA_MAP', 'argsz 31', patched(map, 0, 4, 31), 'EINVAL'],
  ['DMA_MAP', 'argsz larger', patched(map, 0, 4, 48), null],
  ['DMA_MAP', 'no access', patched(map, 4, 4, 0), 'EINVAL'],
  ['DMA_MAP', 'an unknown flag', patched(map, 4, 4, 0x13), 'EINVAL'],
  ['DMA_MAP', 'the highest flag', patched(map, 4, 4, 0x8000_0003), 'EINVAL'],
  ['DMA_MAP', 'MMAP without a descriptor', patched(map, 4, 4, 7), 'EINVAL'],
  ['DMA_MAP', 'FILE_IO without a descriptor', patched(map, 4, 4, 11), 'EINVAL'],
  ['DMA_MAP', 'an offset, without a descriptor', patched(map, 8, 8, 0x123n), null],
  ['DMA_MAP', 'a misaligned address', patched(map, 16, 8, 0x10001n), 'EINVAL'],
  ['DMA_MAP', 'an address inside a page', patched(map, 16, 8, 0x10800n), 'EINVAL'],
  ['DMA_MAP', 'size 0', patched(map, 24, 8, 0n), 'EINVAL'],
  ['DMA_MAP', 'a misaligned size', patched(map, 24, 8, 0x1001n), 'EINVAL'],
  ['DMA_MAP', 'past the last address', patched(patched(map, 16, 8, 2n ** 64n - 0x1000n), 24, 8, 0x2000n), 'EOVERFLOW'],
  ['DMA_MAP', 'all there is', patched(patched(map, 16, 8, 0n), 24, 8, 2n ** 64n - 0x1000n), 'EINVAL'],

  ['DMA_UNMAP', 'nothing there', unmap, 'ENOENT'],
  ['DMA_UNMAP', 'cut short', unmap.subarray(0, 23), 'EINVAL'],
  ['DMA_UNMAP', 'argsz 23', patched(unmap, 0, 4, 23), 'EINVAL'],
  ['DMA_UNMAP', 'an unknown flag', patched(unmap, 4, 4, 4), 'EINVAL'],
  ['DMA_UNMAP', 'size 0', patched(unmap, 16, 8, 0n), 'EINVAL'],
  ['DMA_UNMAP', 'past the last address', patched(unmap, 16, 8, 2n ** 64n - 1n), 'EOVERFLOW'],
  ['DMA_UNMAP', 'ALL, with nothing mapped', m.encodeDmaUnmap({ flags: 2, address: 0n, size: 0n }), null],
  ['DMA_UNMAP', 'ALL with an address', m.encodeDmaUnmap({ flags: 2, address: 0x1000n, size: 0n }), 'EINVAL'],
  ['DMA_UNMAP', 'ALL with a size', m.encodeDmaUnmap({ flags: 2, address: 0n, size: 0x1000n }), 'EINVAL'],
  ['DMA_UNMAP', 'ALL with a bitmap', m.encodeDmaUnmap({ flags: 3, address: 0n, size: 0n, bitmap: { pgsize: 4096n, size: 8n } }), 'EINVAL'],
  ['DMA_UNMAP', 'a bitmap, of nothing', unmapDirty, 'ENOENT'],
  ['DMA_UNMAP', 'a bitmap that is not there', unmapDirty.subarray(0, 24), 'EINVAL'],
  ['DMA_UNMAP', 'half a bitmap', unmapDirty.subarray(0, 39), 'EINVAL'],
  ['DMA_UNMAP', 'argsz without room for the bitmap', patched(unmapDirty, 0, 4, 47), 'EINVAL'],
  ['DMA_UNMAP', 'a bitmap of 2^63 bytes', patched(patched(unmapDirty, 32, 8, 2n ** 63n), 0, 4, 0xffff_ffff), 'EINVAL'],
  ['DMA_UNMAP', 'a bitmap of 2 MiB', patched(patched(unmapDirty, 32, 8, 2n ** 21n), 0, 4, 0xffff_ffff), 'EINVAL'],

  ['DIRTY_PAGES', 'while nothing is tracked', dirty, 'EINVAL'],
  ['DIRTY_PAGES', 'cut short', dirty.subarray(0, 7), 'EINVAL'],
  ['DIRTY_PAGES', 'no range', dirty.subarray(0, 39), 'EINVAL'],
  ['DIRTY_PAGES', 'argsz 7', patched(dirty, 0, 4, 7), 'EINVAL'],
  ['DIRTY_PAGES', 'no flag', patched(dirty, 4, 4, 0), 'EINVAL'],
  ['DIRTY_PAGES', 'two flags', patched(dirty, 4, 4, 3), 'EINVAL'],
  ['DIRTY_PAGES', 'argsz without room for the bitmap', patched(dirty, 0, 4, 40), 'EINVAL'],

  ['DEVICE_GET_INFO', 'nothing', m.encodeDeviceInfo(), null],
  ['DEVICE_GET_INFO', 'no payload', new Uint8Array(0), 'EINVAL'],
  ['DEVICE_GET_INFO', 'cut short', m.encodeDeviceInfo().subarray(0, 15), 'EINVAL'],
  ['DEVICE_GET_INFO', 'argsz 15', patched(m.encodeDeviceInfo(), 0, 4, 15), 'EINVAL'],
  ['DEVICE_GET_INFO', 'argsz of a whole message', patched(m.encodeDeviceInfo(), 0, 4, 32), null],

  ['DEVICE_GET_REGION_INFO', 'nothing', m.encodeRegionInfoRequest(0), null],
  ['DEVICE_GET_REGION_INFO', 'the last index', m.encodeRegionInfoRequest(8), null],
  ['DEVICE_GET_REGION_INFO', 'an index past it', m.encodeRegionInfoRequest(9), 'EINVAL'],
  ['DEVICE_GET_REGION_INFO', 'the last number', m.encodeRegionInfoRequest(0xffff_ffff), 'EINVAL'],
  ['DEVICE_GET_REGION_INFO', 'cut short', m.encodeRegionInfoRequest(0).subarray(0, 31), 'EINVAL'],
  ['DEVICE_GET_REGION_INFO', 'argsz 31', m.encodeRegionInfoRequest(0, 31), 'EINVAL'],

  ['DEVICE_GET_REGION_IO_FDS', 'nothing', m.encodeIoFdsRequest(0), null],
  ['DEVICE_GET_REGION_IO_FDS', 'cut short', m.encodeIoFdsRequest(0).subarray(0, 15), 'EINVAL'],
  ['DEVICE_GET_REGION_IO_FDS', 'argsz 15', m.encodeIoFdsRequest(0, 15), 'EINVAL'],
  ['DEVICE_GET_REGION_IO_FDS', 'flags', patched(m.encodeIoFdsRequest(0), 4, 4, 1), 'EINVAL'],
  ['DEVICE_GET_REGION_IO_FDS', 'a count', patched(m.encodeIoFdsRequest(0), 12, 4, 1), 'EINVAL'],
  ['DEVICE_GET_REGION_IO_FDS', 'a region that is not there', m.encodeIoFdsRequest(1), 'EINVAL'],
  ['DEVICE_GET_REGION_IO_FDS', 'an index past the last', m.encodeIoFdsRequest(9), 'EINVAL'],

  ['DEVICE_GET_IRQ_INFO', 'nothing', m.encodeIrqInfo({ index: 0 }), null],
  ['DEVICE_GET_IRQ_INFO', 'an index past the last', m.encodeIrqInfo({ index: 5 }), 'EINVAL'],
  ['DEVICE_GET_IRQ_INFO', 'cut short', m.encodeIrqInfo({ index: 0 }).subarray(0, 15), 'EINVAL'],
  ['DEVICE_GET_IRQ_INFO', 'argsz 15', patched(m.encodeIrqInfo({ index: 0 }), 0, 4, 15), 'EINVAL'],

  ['DEVICE_SET_IRQS', 'cut short', trigger.subarray(0, 19), 'EINVAL'],
  ['DEVICE_SET_IRQS', 'argsz 19', patched(trigger, 0, 4, 19), 'EINVAL'],
  ['DEVICE_SET_IRQS', 'no flags', patched(trigger, 4, 4, 0), 'EINVAL'],
  ['DEVICE_SET_IRQS', 'no action', patched(trigger, 4, 4, 1), 'EINVAL'],
  ['DEVICE_SET_IRQS', 'no data', patched(trigger, 4, 4, 0x20), 'EINVAL'],
  ['DEVICE_SET_IRQS', 'two kinds of data', patched(trigger, 4, 4, 0x23), 'EINVAL'],
  ['DEVICE_SET_IRQS', 'two actions', patched(trigger, 4, 4, 0x29), 'EINVAL'],
  ['DEVICE_SET_IRQS', 'an unknown flag', patched(trigger, 4, 4, 0x61), 'EINVAL'],
  ['DEVICE_SET_IRQS', 'an index past the last', patched(trigger, 8, 4, 5), 'EINVAL'],
  ['DEVICE_SET_IRQS', 'a start past the last', patched(trigger, 12, 4, 1), 'EINVAL'],
  ['DEVICE_SET_IRQS', 'the last start', patched(trigger, 12, 4, 0xffff_ffff), 'EINVAL'],
  ['DEVICE_SET_IRQS', 'too many', patched(trigger, 16, 4, 2), 'EINVAL'],
  ['DEVICE_SET_IRQS', 'as many as can be said', patched(trigger, 16, 4, 0xffff_ffff), 'EINVAL'],
  ['DEVICE_SET_IRQS', 'an index without vectors', patched(trigger, 8, 4, 2), 'EINVAL'],
  ['DEVICE_SET_IRQS', 'too few bools', bools.subarray(0, 20), 'EINVAL'],
  ['DEVICE_SET_IRQS', 'argsz without the bools', patched(bools, 0, 4, 20), 'EINVAL'],
  ['DEVICE_SET_IRQS', 'too many bools', Uint8Array.of(...bools, 1), 'EINVAL'],
  ['DEVICE_SET_IRQS', 'MSI that is not enabled', patched(trigger, 8, 4, 1), 'EINVAL'],

  ['REGION_READ', 'nothing', read, null],
  ['REGION_READ', 'cut short', read.subarray(0, 15), 'EINVAL'],
  ['REGION_READ', 'past the end', patched(read, 0, 8, 0x10_0000n), 'EINVAL'],
  ['REGION_READ', 'across the end', patched(read, 0, 8, 0xf_fffdn), 'EINVAL'],
  ['REGION_READ', 'the last four bytes', patched(read, 0, 8, 0xf_fffcn), null],
  ['REGION_READ', 'the last offset', patched(read, 0, 8, 2n ** 64n - 1n), 'EINVAL'],
  ['REGION_READ', 'an offset that wraps', patched(read, 0, 8, 2n ** 64n - 4n), 'EINVAL'],
  ['REGION_READ', 'a region that is not there', patched(read, 8, 4, 1), 'EINVAL'],
  ['REGION_READ', 'a region past the last', patched(read, 8, 4, 9), 'EINVAL'],
  ['REGION_READ', 'the last number', patched(read, 8, 4, 0xffff_ffff), 'EINVAL'],
  ['REGION_READ', 'more than a message carries', patched(patched(read, 0, 8, 0n), 12, 4, 2 ** 20 + 1), 'EINVAL'],
  ['REGION_READ', 'as many as can be said', patched(read, 12, 4, 0xffff_ffff), 'EINVAL'],
  ['REGION_READ', 'config space, past its end', m.encodeRegionAccess(0x1000n, 7, 4), 'EINVAL'],

  ['REGION_WRITE', 'nothing', write, null],
  ['REGION_WRITE', 'cut short', write.subarray(0, 15), 'EINVAL'],
  ['REGION_WRITE', 'no data', write.subarray(0, 16), 'EINVAL'],
  ['REGION_WRITE', 'too little data', write.subarray(0, 19), 'EINVAL'],
  ['REGION_WRITE', 'too much data', Uint8Array.of(...write, 5), 'EINVAL'],
  ['REGION_WRITE', 'a count of 0 with data', patched(write, 12, 4, 0), 'EINVAL'],
  ['REGION_WRITE', 'across the end', patched(write, 0, 8, 0xf_fffdn), 'EINVAL'],
  ['REGION_WRITE', 'an offset that wraps', patched(write, 0, 8, 2n ** 64n - 4n), 'EINVAL'],
  ['REGION_WRITE', 'a region that is not there', patched(write, 8, 4, 8), 'EINVAL'],
  ['REGION_WRITE', 'as many as can be said', patched(write, 12, 4, 0xffff_ffff), 'EINVAL'],

  ['REGION_WRITE_MULTI', 'nothing', multi, null],
  ['REGION_WRITE_MULTI', 'none', m.encodeWriteMulti([]), null],
  ['REGION_WRITE_MULTI', 'cut short', multi.subarray(0, 7), 'EINVAL'],
  ['REGION_WRITE_MULTI', 'fewer than said', multi.subarray(0, 32), 'EINVAL'],
  ['REGION_WRITE_MULTI', 'more than said', patched(multi, 0, 8, 1), 'EINVAL'],
  ['REGION_WRITE_MULTI', 'as many as can be said', patched(multi, 0, 8, 2n ** 64n - 1n), 'EINVAL'],
  ['REGION_WRITE_MULTI', 'a count that multiplies to little', patched(multi, 0, 8, 2n ** 61n + 2n), 'EINVAL'],
  ['REGION_WRITE_MULTI', 'a write of nine bytes', patched(multi, 8 + 24 + 12, 4, 9), 'EINVAL'],
  ['REGION_WRITE_MULTI', 'a second write past the end', patched(multi, 8 + 24, 8, 0x10_0000n), 'EINVAL'],
  ['REGION_WRITE_MULTI', 'a second write to no region', patched(multi, 8 + 24 + 8, 4, 4), 'EINVAL'],

  ['DMA_READ', 'from a client', new Uint8Array(16), 'EINVAL'],
  ['DMA_WRITE', 'from a client', new Uint8Array(20), 'EINVAL'],

  ['DEVICE_RESET', 'nothing', new Uint8Array(0), null],

  ['DEVICE_FEATURE', 'nothing', feature, null],
  ['DEVICE_FEATURE', 'cut short', feature.subarray(0, 7), 'EINVAL'],
  ['DEVICE_FEATURE', 'argsz 7', patched(feature, 0, 4, 7), 'EINVAL'],
  ['DEVICE_FEATURE', 'less data than argsz says', patched(feature, 0, 4, 12), 'EINVAL'],
  ['DEVICE_FEATURE', 'a get that wants 4 GiB', patched(patched(feature, 4, 4, 0x1_0005), 0, 4, 0xffff_ffff), 'EINVAL'],
  ['DEVICE_FEATURE', 'an unknown flag', patched(feature, 4, 4, 0x8_0005), 'EINVAL'],
  ['DEVICE_FEATURE', 'get and set', patched(feature, 4, 4, 0x3_0005), 'EINVAL'],
  ['DEVICE_FEATURE', 'no operation', patched(feature, 4, 4, 5), 'EINVAL'],
  ['DEVICE_FEATURE', 'an operation it does not have', patched(feature, 4, 4, 0x1_0005), 'EINVAL'],
  ['DEVICE_FEATURE', 'one that no device has', patched(feature, 4, 4, 0x2_ffff), 'ENOTTY'],
  ['DEVICE_FEATURE', 'migration, which this device lacks', patched(feature, 4, 4, 0x1_0001), 'ENOTTY'],

  [
    'DEVICE_FEATURE',
    'a set whose argsz ends before its data',
    patched(m.encodeFeature({ feature: 4, get: false, set: true, probe: false, data: new Uint8Array(8) }), 0, 4, 15),
    'EINVAL',
  ],
  ['MIG_GET_PRECOPY_INFO', 'argsz 23', patched(m.encodePrecopyInfo(), 0, 4, 23), 'EINVAL'],
  ['MIG_DATA_WRITE', 'argsz that ends before the data', patched(m.encodeMigData(4, new Uint8Array(4)), 0, 4, 11), 'EINVAL'],
  ['MIG_DATA_READ', 'that this device lacks', m.encodeMigData(4096), 'ENOTTY'],
  ['MIG_DATA_READ', 'cut short', m.encodeMigData(4096).subarray(0, 7), 'EINVAL'],
  ['MIG_DATA_READ', 'argsz without room', patched(m.encodeMigData(4096), 0, 4, 4103), 'EINVAL'],
  ['MIG_DATA_READ', 'more than a message carries', m.encodeMigData(2 ** 20 + 1), 'EINVAL'],
  ['MIG_DATA_WRITE', 'that this device lacks', m.encodeMigData(4, new Uint8Array(4)), 'ENOTTY'],
  ['MIG_DATA_WRITE', 'cut short', m.encodeMigData(4, new Uint8Array(4)).subarray(0, 7), 'EINVAL'],
  ['MIG_DATA_WRITE', 'too little data', m.encodeMigData(5, new Uint8Array(4)), 'EINVAL'],
  ['MIG_DATA_WRITE', 'too much data', m.encodeMigData(3, new Uint8Array(4)), 'EINVAL'],
];

/** The stream is in step when an ordinary read behind what happened is answered. */
async function inStep(client: RawClient): Promise<void> {
  const { error, payload } = await client.request(Command.REGION_READ, m.encodeRegionAccess(0n, 7, 4));
  expect([error, m.viewOf(payload).getUint32(16, true)]).toEqual([null, 0x11e8_1234]);
}

describe('each message, malformed in each field', () => {
  it.each(rows)('%s: %s', async (command, _what, payload, errno) => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    expect(await client.errnoOf(Command[command], payload)).toBe(errno);
    await inStep(client);
    client.send(Command[command], payload, { flags: HeaderFlags.NO_REPLY });
    await inStep(client);
  });

  it('no payload at all is an error everywhere but in RESET', async () => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    for (const [name, command] of Object.entries(Command)) {
      expect([name, await client.errnoOf(command)]).toEqual([name, name === 'DEVICE_RESET' ? null : 'EINVAL']);
    }
    await inStep(client);
  });

  it.each([0, 19, 20, 255, 0xffff])('command %i does not exist: EINVAL', async (command) => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    expect(await client.errnoOf(command, new Uint8Array(100))).toBe('EINVAL');
    await inStep(client);
  });

  it.each(m.messages.map(({ name, number, fds = 0 }) => [name, fds + 1, number] as const))(
    '%s with %i descriptors, more than it takes: EINVAL, and the server closes them',
    async (name, count, number) => {
      using rig = new ServerRig();
      const { client } = await rig.attach();
      using event = EventFd.create();
      using fd = event.duplicateFd();
      const [, , valid = new Uint8Array(8)] = rows.find(([row, , , errno]) => row === name && errno === null) ?? [];
      const before = openDescriptors();
      expect(await client.errnoOf(number, valid, { fds: Array.from({ length: count }, () => fd) })).toBe('EINVAL');
      await inStep(client);
      expect(openDescriptors()).toBe(before);
    },
  );
});

describe('headers', () => {
  const header = (size: number, flags: number, command: number = Command.DEVICE_GET_INFO) => {
    const bytes = new Uint8Array(HEADER_BYTES);
    m.putHeader(m.viewOf(bytes), 0, 7, command, size, flags);
    return bytes;
  };

  it.each([0, 1, 15])('a size of %i: EINVAL, and the next header is what follows', async (size) => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    client.raw(header(size, 0));
    expect(await client.next()).toMatchObject({ id: 7, error: 'EINVAL' });
    await inStep(client);
  });

  /** command, bytes of its structure, bytes that come of it. */
  const structures: readonly (readonly [keyof typeof Command, Uint8Array])[] = [
    ['DMA_MAP', map],
    ['DMA_UNMAP', unmapDirty],
    ['DEVICE_GET_INFO', m.encodeDeviceInfo()],
    ['DEVICE_GET_REGION_INFO', m.encodeRegionInfoRequest(0)],
    ['DEVICE_GET_REGION_IO_FDS', m.encodeIoFdsRequest(0)],
    ['DEVICE_GET_IRQ_INFO', m.encodeIrqInfo({ index: 0 })],
    ['REGION_READ', read],
    ['REGION_WRITE', write],
    ['REGION_WRITE_MULTI', multi],
    ['DEVICE_RESET', new Uint8Array(0)],
    ['DIRTY_PAGES', dirty],
    ['MIG_DATA_READ', m.encodeMigData(4096)],
    ['MIG_DATA_WRITE', m.encodeMigData(4, new Uint8Array(4))],
    ['MIG_GET_PRECOPY_INFO', m.encodePrecopyInfo()],
  ];
  const roomOf = (payload: Uint8Array) => Math.max(payload.length, m.viewOf(payload).getUint32(0, true));
  const withArgsz = structures.filter(([command]) => !/^REGION|RESET|MIG_DATA_WRITE/.test(command));

  it.each([
    ...[['DMA_UNMAP', unmap] as const, ...withArgsz].flatMap(([command, payload]) =>
      [0, 48, 4096].map((room) => [command, payload, roomOf(payload) + room] as const),
    ),
    ['DEVICE_FEATURE', feature, 64] as const,
  ])('%s with the whole buffer that its reply may take, as SPDK and libvfio-user send it: served', async (command, payload, argsz) => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    const whole = new Uint8Array(argsz);
    whole.set(patched(payload, 0, 4, argsz));
    const usual = await client.errnoOf(Command[command], payload);
    expect(await client.errnoOf(Command[command], whole)).toBe(usual);
    // Others have an errno of their own here: nothing is mapped, and nothing moves.
    if (/INFO|MAP$|IO_FDS/.test(command) && command !== 'MIG_GET_PRECOPY_INFO')
      expect([command, usual]).toEqual([command, command === 'DMA_UNMAP' ? 'ENOENT' : null]);
    await inStep(client);
  });

  it.each(structures.flatMap(([command, payload]) => [1, 33, 4096].map((past) => [command, past, payload] as const)))(
    '%s that says %i bytes more than its structure and argsz: EINVAL at once, the rest is dropped, the next is found',
    async (command, past, payload) => {
      using rig = new ServerRig();
      const { client } = await rig.attach();
      const more = past + (withArgsz.some(([sized]) => sized === command) ? roomOf(payload) - payload.length : 0);
      client.raw(Uint8Array.of(...header(HEADER_BYTES + payload.length + more, 0, Command[command]), ...payload));
      expect(await client.next()).toMatchObject({ id: 7, command: Command[command], error: 'EINVAL' });
      client.raw(new Uint8Array(more).fill(0xa5));
      await inStep(client);
      const whole = new Uint8Array(HEADER_BYTES + payload.length + more);
      whole.set(header(whole.length, 0, Command[command]));
      whole.set(payload, HEADER_BYTES);
      client.raw(whole);
      expect(await client.next()).toMatchObject({ id: 7, error: 'EINVAL' });
      await inStep(client);
    },
  );

  it.each([2 ** 20 + 4097, 2 ** 22])('a size of %i: EINVAL at once, and the body is dropped', async (size) => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    client.raw(header(size, 0, Command.REGION_WRITE));
    expect(await client.next()).toMatchObject({ id: 7, error: 'EINVAL' });
    const body = new Uint8Array(64 * 1024).fill(0xa5);
    for (let left = size - HEADER_BYTES; left > 0; left -= body.length) {
      client.raw(body.subarray(0, Math.min(left, body.length)));
      await client.silence();
    }
    await inStep(client);
  });

  it('a body of 4 GiB that never comes costs nothing', async () => {
    using rig = new ServerRig();
    const { client, session } = await rig.attach();
    client.raw(header(0xffff_ffff, 0));
    expect(await client.next()).toMatchObject({ error: 'EINVAL' });
    client[Symbol.dispose]();
    expect(await session.ended).toMatch('closed the connection');
  });

  it.each([2, 3, 15])('type %i is EINVAL', async (type) => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    client.raw(header(HEADER_BYTES, type));
    expect(await client.next()).toMatchObject({ id: 7, error: 'EINVAL' });
    await inStep(client);
  });

  it('a reply to nothing is EINVAL; an error that answers nothing is not answered', async () => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    client.raw(header(HEADER_BYTES, HeaderFlags.REPLY, Command.DMA_READ));
    expect(await client.next()).toMatchObject({ id: 7, command: Command.DMA_READ, error: 'EINVAL' });
    client.raw(header(HEADER_BYTES, HeaderFlags.REPLY | HeaderFlags.ERROR, Command.DMA_READ));
    await client.silence();
    await inStep(client);
  });

  it('the id is what the client likes, the same twice in a row too', async () => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    for (const id of [0, 0, 0xffff, 1, 0]) {
      client.send(Command.REGION_READ, read, { id });
      expect((await client.next()).id).toBe(id);
    }
  });

  it('many commands at once are answered in their order', async () => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    for (let id = 0; id < 500; id++) client.send(id % 3 === 0 ? 99 : Command.REGION_READ, read, { id });
    for (let id = 0; id < 500; id++) expect(await client.next()).toMatchObject({ id, error: id % 3 === 0 ? 'EINVAL' : null });
  });
});

describe('answers', () => {
  it('DEVICE_GET_INFO: PCI, and RESET when it has one', async () => {
    for (const [declaration, flags] of [
      [resettable, 3],
      [plain, 2],
    ] as const) {
      using rig = new ServerRig({ declaration });
      const { client } = await rig.attach();
      const { payload } = await client.request(Command.DEVICE_GET_INFO, m.encodeDeviceInfo());
      expect(payload).toHaveLength(16);
      expect(m.decodeDeviceInfo(payload)).toEqual({ flags, numRegions: 9, numIrqs: 5 });
    }
  });

  it('DEVICE_GET_IRQ_INFO reports the interrupts of the device', async () => {
    using rig = new ServerRig({ declaration: plain });
    const { client } = await rig.attach();
    const told: [number, number][] = [];
    for (let index = 0; index < 5; index++) {
      const { payload } = await client.request(Command.DEVICE_GET_IRQ_INFO, m.encodeIrqInfo({ index }));
      const { flags, count } = m.decodeIrqInfo(payload);
      told.push([flags, count]);
    }
    expect(told).toEqual([
      [7, 1],
      [9, 1],
      [9, 0],
      [9, 1],
      [9, 1],
    ]);
  });

  it('DEVICE_GET_REGION_INFO: sizes and rights; registers cannot be mapped from elsewhere', async () => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    const told: [number, number][] = [];
    for (let index = 0; index < 9; index++) {
      const { payload, fds } = await client.request(Command.DEVICE_GET_REGION_INFO, m.encodeRegionInfoRequest(index, 4096));
      const { info, argsz } = m.decodeRegionInfo(payload);
      expect([fds.length, argsz, payload.length]).toEqual([0, 32, 32]);
      told.push([info.flags, info.size]);
    }
    const none = [0, 0];
    expect(told).toEqual([[3, 0x10_0000], none, none, none, none, none, none, [3, 4096], none]);
  });

  it('a reset that the device does not have is EINVAL, one that it has resets it', async () => {
    using conventional = new ServerRig({ declaration: plain });
    expect(await (await conventional.attach()).client.errnoOf(Command.DEVICE_RESET)).toBe('EINVAL');
    using rig = new ServerRig();
    const { client } = await rig.attach();
    const before = rig.rig.model.resets;
    const { payload } = await client.request(Command.DEVICE_RESET);
    expect([payload.length, rig.rig.model.resets]).toEqual([0, before + 1]);
  });

  it('FEATURE: set and probe come back as they went', async () => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    const probe = m.encodeFeature({ feature: 5, get: false, set: true, probe: true, data: Uint8Array.of(1, 2) });
    const reply = await client.request(Command.DEVICE_FEATURE, probe);
    expect([reply.error, reply.payload]).toEqual([null, probe]);
    expect((await client.request(Command.DEVICE_FEATURE, feature)).payload).toEqual(feature);
    closeAll(reply.fds);
  });
});
