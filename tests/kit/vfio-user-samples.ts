/**
 * Messages of vfio-user, at least one command and one reply of each, and the words that `vfio
 * trace` and the dissector for Wireshark print for them.
 */
import { DirtyFlags, DmaUnmapFlags, Feature, MigrationFlags, MigrationState } from '../../src/abi/vfio.ts';
import {
  FeatureBusMaster,
  FeatureDmaLoggingRange,
  FeatureMigDataSize,
  FeatureMigration,
  FeatureMigState,
} from '../../src/abi/vfio-structs.ts';
import { HeaderFlags } from '../../src/abi/vfio-user.ts';
import { VfioError } from '../../src/base/errno.ts';
import type { Struct } from '../../src/base/struct.ts';
import * as m from '../../src/vfio-user/messages.ts';

const { Command } = m;
const { REPLY, NO_REPLY, ERROR } = HeaderFlags;
const NOTHING = new Uint8Array(0);

export const word = Uint8Array.of(0xd4, 0xc3, 0xb2, 0xa1);

/** DMA_READ or DMA_WRITE's payload. */
export function dma(address: bigint, count: bigint, data: Uint8Array = NOTHING): Uint8Array {
  return bytesOf(m.DmaAccess, { address, count }, data);
}

function bytesOf<S extends Struct<Record<string, never>>>(layout: unknown, values: object, data: Uint8Array = NOTHING): Uint8Array {
  const { structSize, encode } = layout as S;
  const payload = new Uint8Array(structSize + data.length);
  encode(new DataView(payload.buffer), 0, values);
  payload.set(data, structSize);
  return payload;
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function feature(op: 'get' | 'set' | 'probe', number: number, data: Uint8Array = NOTHING): Uint8Array {
  return m.encodeFeature({ feature: number, get: op === 'get', set: op === 'set', probe: op === 'probe', data });
}

/** Pages 1, 2 and 5 of 64. */
const bitmap = Uint8Array.of(0b100110, 0, 0, 0, 0, 0, 0, 0);
const unmapWithBitmap = {
  flags: DmaUnmapFlags.GET_DIRTY_BITMAP,
  address: 0x1000n,
  size: 0x40000n,
  bitmap: { pgsize: 4096n, size: 8n },
};
const dirtyRange = { flags: DirtyFlags.GET_BITMAP, range: { iova: 0x10000n, size: 0x40000n, pgsize: 4096n, bitmapSize: 8n } };
const report = bytesOf(m.UserDmaLoggingReport, { iova: 0x20000n, length: 0x40000n, page_size: 4096n });
const sparse = {
  index: 2,
  flags: 15,
  size: 0x4000,
  sparseAreas: [
    { offset: 0, size: 0x1000 },
    { offset: 0x3000, size: 0x1000 },
  ],
  type: { type: 0x80008086, subtype: 1 },
};
const bell = { offset: 0x1000n, size: 4n, fdIndex: 0, type: 0, flags: 0, datamatch: 0n };

type Row = readonly [words: string, command: m.Command, payload: Uint8Array, flags?: number, error?: number];

const rows: readonly Row[] = [
  ['0.2 {"capabilities":{"max_msg_fds":8}}', Command.VERSION, m.encodeVersion(0, 2, { maxMsgFds: 8 })],
  ['0.1', Command.VERSION, m.encodeVersion(0, 1), REPLY],
  [
    '0x1000-0x2fff read|write, offset 0x4000 of its memory',
    Command.DMA_MAP,
    m.encodeDmaMap({ flags: 3, offset: 0x4000n, address: 0x1000n, size: 0x2000n }),
  ],
  [
    '0xfffffffffffff000-0xffffffffffffffff read|0x10, offset 0x0 of its memory',
    Command.DMA_MAP,
    m.encodeDmaMap({ flags: 0x11, offset: 0n, address: 2n ** 64n - 4096n, size: 4096n }),
  ],
  ['ok', Command.DMA_MAP, NOTHING, REPLY],
  ['0x1000-0x2fff', Command.DMA_UNMAP, m.encodeDmaUnmap({ flags: 0, address: 0x1000n, size: 0x2000n })],
  ['all', Command.DMA_UNMAP, m.encodeDmaUnmap({ flags: DmaUnmapFlags.ALL, address: 0n, size: 0n })],
  ['0x1000-0x40fff, with its dirty bitmap of 8 bytes in pages of 4096', Command.DMA_UNMAP, m.encodeDmaUnmap(unmapWithBitmap)],
  [
    '0x1000-0x40fff, 3 pages are dirty: 0x2000-0x3fff, 0x6000-0x6fff',
    Command.DMA_UNMAP,
    m.encodeDmaUnmapReply(unmapWithBitmap, bitmap),
    REPLY,
  ],
  ['', Command.DEVICE_GET_INFO, m.encodeDeviceInfo()],
  [
    '9 regions, 5 interrupt indexes, reset|pci',
    Command.DEVICE_GET_INFO,
    m.encodeDeviceInfo({ flags: 3, numRegions: 9, numIrqs: 5 }),
    REPLY,
  ],
  ['BAR2, room for 32 bytes', Command.DEVICE_GET_REGION_INFO, m.encodeRegionInfoRequest(2)],
  ['BAR0: 0x1000 bytes read|write', Command.DEVICE_GET_REGION_INFO, m.encodeRegionInfo({ index: 0, flags: 3, size: 4096 }, 32, 0n), REPLY],
  ['VGA: none', Command.DEVICE_GET_REGION_INFO, m.encodeRegionInfo({ index: 8, flags: 0, size: 0 }, 32, 0n), REPLY],
  [
    'BAR2: 0x4000 bytes read|write|mmap|caps, offset 0x8000, areas 0x0-0xfff 0x3000-0x3fff, type 0x80008086:0x1',
    Command.DEVICE_GET_REGION_INFO,
    m.encodeRegionInfo(sparse, 4096, 0x8000n),
    REPLY,
  ],
  ['BAR0, room for 96 bytes', Command.DEVICE_GET_REGION_IO_FDS, m.encodeIoFdsRequest(0, 96)],
  [
    'BAR0: 2 0x1000-0x1003 IOEVENTFD 0, 0x1004-0x1005 = 0x7 IOEVENTFD 1',
    Command.DEVICE_GET_REGION_IO_FDS,
    m.encodeIoFds(0, [bell, { offset: 0x1004n, size: 2n, fdIndex: 1, type: 0, flags: 1, datamatch: 7n }], 4096),
    REPLY,
  ],
  [
    'BAR0: 1 0x1000-0x1003 SHADOW_IOEVENTFD 0',
    Command.DEVICE_GET_REGION_IO_FDS,
    joined(bytesOf(m.RegionIoFds, { argsz: 64, index: 0, count: 1 }), bytesOf(m.ShadowIoFd, { offset: 0x1000n, size: 4n, type: 2 })),
    REPLY,
  ],
  ['MSIX', Command.DEVICE_GET_IRQ_INFO, m.encodeIrqInfo({ index: 2 })],
  ['INTX: 1 eventfd|maskable|automasked', Command.DEVICE_GET_IRQ_INFO, m.encodeIrqInfo({ index: 0, flags: 7, count: 1 }), REPLY],
  [
    'MSI trigger vectors 0 to 3, eventfd',
    Command.DEVICE_SET_IRQS,
    m.encodeSetIrqs({ index: 1, start: 0, count: 4, action: 'trigger', data: 'eventfd' }),
  ],
  [
    'INTX unmask vector 0, bool [01]',
    Command.DEVICE_SET_IRQS,
    m.encodeSetIrqs({ index: 0, start: 0, count: 1, action: 'unmask', data: 'bool', values: Uint8Array.of(1) }),
  ],
  [
    'interrupt index 9 trigger all, none',
    Command.DEVICE_SET_IRQS,
    m.encodeSetIrqs({ index: 9, start: 0, count: 0, action: 'trigger', data: 'none' }),
  ],
  ['ok', Command.DEVICE_SET_IRQS, NOTHING, REPLY],
  ['CONFIG+0x4, 2 bytes', Command.REGION_READ, m.encodeRegionAccess(4n, 7, 2)],
  ['CONFIG+0x4 = 0x0103', Command.REGION_READ, m.encodeRegionAccess(4n, 7, 2, Uint8Array.of(3, 1)), REPLY],
  ['BAR0+0x80 = 0xa1b2c3d4', Command.REGION_WRITE, m.encodeRegionAccess(0x80n, 0, 4, word), NO_REPLY],
  [
    'BAR1+0x0 = [00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 … 20 bytes]',
    Command.REGION_WRITE,
    m.encodeRegionAccess(0n, 1, 20, new Uint8Array(20)),
  ],
  ['BAR0+0x80, 4 bytes', Command.REGION_WRITE, m.encodeRegionAccess(0x80n, 0, 4), REPLY],
  [
    '2: BAR0+0x8 0xa1b2c3d4, BAR0+0xc 0x01',
    Command.REGION_WRITE_MULTI,
    m.encodeWriteMulti([
      { offset: 8n, region: 0, data: word },
      { offset: 12n, region: 0, data: Uint8Array.of(1) },
    ]),
    NO_REPLY,
  ],
  ['2 written', Command.REGION_WRITE_MULTI, bytesOf(m.WriteMulti, { count: 2n }), REPLY],
  ['0x4000, 4096 bytes', Command.DMA_READ, dma(0x4000n, 4096n)],
  ['0x4000 = 0xa1b2c3d4', Command.DMA_READ, dma(0x4000n, 4n, word), REPLY],
  ['0x4000 = 0xa1b2c3d4', Command.DMA_WRITE, dma(0x4000n, 4n, word)],
  ['ok', Command.DMA_WRITE, NOTHING, REPLY],
  ['0x4000, 4 bytes', Command.DMA_WRITE, dma(0x4000n, 4n), REPLY],
  ['', Command.DEVICE_RESET, NOTHING],
  ['ok', Command.DEVICE_RESET, NOTHING, REPLY],
  ['start', Command.DIRTY_PAGES, m.encodeDirtyPages({ flags: DirtyFlags.START })],
  ['get_bitmap 0x10000-0x4ffff in pages of 4096, a bitmap of 8 bytes', Command.DIRTY_PAGES, m.encodeDirtyPages(dirtyRange)],
  [
    'get_bitmap 0x10000-0x4ffff, 3 pages are dirty: 0x11000-0x12fff, 0x15000-0x15fff',
    Command.DIRTY_PAGES,
    m.encodeDirtyPages(dirtyRange, bitmap),
    REPLY,
  ],
  ['get_bitmap 0x10000-0x4ffff, no page is dirty', Command.DIRTY_PAGES, m.encodeDirtyPages(dirtyRange, new Uint8Array(8)), REPLY],
  [
    'get_bitmap 0x10000-0x4ffff, 64 pages are dirty: 0x10000-0x4ffff',
    Command.DIRTY_PAGES,
    m.encodeDirtyPages(dirtyRange, new Uint8Array(8).fill(0xff)),
    REPLY,
  ],
  [
    'get_bitmap 0x10000-0x4ffff, 16 pages are dirty: 0x10000-0x10fff, 0x12000-0x12fff, 0x14000-0x14fff, 0x16000-0x16fff, ' +
      '0x18000-0x18fff, 0x1a000-0x1afff, 0x1c000-0x1cfff, 0x1e000-0x1efff, …',
    Command.DIRTY_PAGES,
    m.encodeDirtyPages(dirtyRange, Uint8Array.of(0x55, 0x55, 0x55, 0x55, 0, 0, 0, 0)),
    REPLY,
  ],
  ['MIGRATION probe', Command.DEVICE_FEATURE, feature('probe', Feature.MIGRATION)],
  ['MIGRATION get', Command.DEVICE_FEATURE, feature('get', Feature.MIGRATION)],
  [
    'MIGRATION get: stop_copy|pre_copy',
    Command.DEVICE_FEATURE,
    feature('get', Feature.MIGRATION, bytesOf(FeatureMigration, { flags: BigInt(MigrationFlags.STOP_COPY | MigrationFlags.PRE_COPY) })),
    REPLY,
  ],
  [
    'MIG_DEVICE_STATE set: PRE_COPY_P2P',
    Command.DEVICE_FEATURE,
    feature('set', Feature.MIG_DEVICE_STATE, bytesOf(FeatureMigState, { device_state: MigrationState.PRE_COPY_P2P, data_fd: -1 })),
  ],
  [
    'MIG_DEVICE_STATE get: RUNNING',
    Command.DEVICE_FEATURE,
    feature('get', Feature.MIG_DEVICE_STATE, bytesOf(FeatureMigState, { device_state: MigrationState.RUNNING, data_fd: -1 })),
    REPLY,
  ],
  [
    'MIG_DATA_SIZE get: 4096 bytes',
    Command.DEVICE_FEATURE,
    feature('get', Feature.MIG_DATA_SIZE, bytesOf(FeatureMigDataSize, { stop_copy_length: 4096n })),
    REPLY,
  ],
  [
    'DMA_LOGGING_START set: pages of 4096, 0x0-0xffff, 0x100000-0x1fffff',
    Command.DEVICE_FEATURE,
    feature(
      'set',
      Feature.DMA_LOGGING_START,
      joined(
        bytesOf(m.UserDmaLoggingControl, { page_size: 4096n, num_ranges: 2 }),
        bytesOf(FeatureDmaLoggingRange, { iova: 0n, length: 0x10000n }),
        bytesOf(FeatureDmaLoggingRange, { iova: 0x100000n, length: 0x100000n }),
      ),
    ),
  ],
  [
    'DMA_LOGGING_START set: pages of 4096, all memory',
    Command.DEVICE_FEATURE,
    feature('set', Feature.DMA_LOGGING_START, bytesOf(m.UserDmaLoggingControl, { page_size: 4096n, num_ranges: 0 })),
  ],
  ['DMA_LOGGING_STOP set', Command.DEVICE_FEATURE, feature('set', Feature.DMA_LOGGING_STOP)],
  ['DMA_LOGGING_REPORT get: 0x20000-0x5ffff in pages of 4096', Command.DEVICE_FEATURE, feature('get', Feature.DMA_LOGGING_REPORT, report)],
  [
    'DMA_LOGGING_REPORT get: 0x20000-0x5ffff in pages of 4096, 3 pages are dirty: 0x21000-0x22fff, 0x25000-0x25fff',
    Command.DEVICE_FEATURE,
    feature('get', Feature.DMA_LOGGING_REPORT, joined(report, bitmap)),
    REPLY,
  ],
  ['BUS_MASTER set: on', Command.DEVICE_FEATURE, feature('set', Feature.BUS_MASTER, bytesOf(FeatureBusMaster, { op: 1 }))],
  ['SYSTEM_SLEEP set: by eventfds', Command.DEVICE_FEATURE, feature('set', Feature.SYSTEM_SLEEP, new Uint8Array(8))],
  ['SYSTEM_SLEEP set: no longer', Command.DEVICE_FEATURE, feature('set', Feature.SYSTEM_SLEEP, new Uint8Array(8).fill(255))],
  [
    'SYSTEM_SLEEP_ACK set: suspend 3',
    Command.DEVICE_FEATURE,
    feature('set', Feature.SYSTEM_SLEEP_ACK, Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0)),
  ],
  ['feature 4660 get [d4 c3 b2 a1]', Command.DEVICE_FEATURE, feature('get', 0x1234, word)],
  ['at most 4096 bytes', Command.MIG_DATA_READ, m.encodeMigData(4096)],
  ['4 bytes [d4 c3 b2 a1]', Command.MIG_DATA_READ, m.encodeMigData(4, word), REPLY],
  ['4 bytes [d4 c3 b2 a1]', Command.MIG_DATA_WRITE, m.encodeMigData(4, word)],
  ['ok', Command.MIG_DATA_WRITE, NOTHING, REPLY],
  ['', Command.MIG_GET_PRECOPY_INFO, m.encodePrecopyInfo()],
  [
    '512 bytes of the first state, 64 bytes changed since',
    Command.MIG_GET_PRECOPY_INFO,
    m.encodePrecopyInfo({ initialBytes: 512, dirtyBytes: 64 }),
    REPLY,
  ],
  ['ENOTTY', Command.DEVICE_FEATURE, NOTHING, REPLY | ERROR, 25],
  ['errno 200', Command.DEVICE_RESET, NOTHING, REPLY | ERROR, 200],
  [
    'EBUSY: edu is in use by "process 7" (Disconnect that one first.)',
    Command.DEVICE_GET_INFO,
    m.encodeReason(new VfioError('EBUSY', 'edu is in use by "process 7"', { fix: 'Disconnect that one first.' })),
    REPLY | ERROR,
    16,
  ],
  ['[d4 c3 b2 a1]', 99 as m.Command, word],
];

export interface Sample {
  readonly words: string;
  readonly name: string;
  readonly bytes: Uint8Array;
}

const kinds: Readonly<Record<number, string>> = { [REPLY]: ' reply', [NO_REPLY]: ' posted', [REPLY | ERROR]: ' error' };

export const samples: readonly Sample[] = rows.map(([words, command, payload, flags = 0, error = 0], id) => ({
  words,
  name: `#${id} ${m.commandName(command)}${kinds[flags] ?? ''}`,
  bytes: m.encodeMessage(id, command, payload, flags, error),
}));
