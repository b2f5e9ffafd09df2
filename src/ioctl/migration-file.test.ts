/**
 * Migration through the ioctl door: descriptors for a device's data, pointers to ranges and
 * bitmaps, and the errno of wrong ones (B.11).
 */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { bytesOf, said, viewOf } from '../../tests/kit/ioctl-bytes.ts';
import { type MovableModel, movable } from '../../tests/kit/movable-model.ts';
import {
  ContainerIoctl,
  DeviceIoctl,
  Extension,
  Feature,
  FeatureFlags,
  GroupIoctl,
  MigrationIoctl,
  MigrationState,
  REGION_OFFSET_STEP,
} from '../abi/vfio.ts';
import {
  DeviceFeature,
  FeatureDmaLoggingControl,
  FeatureDmaLoggingRange,
  FeatureDmaLoggingReport,
  FeatureMigDataSize,
  FeatureMigration,
  FeatureMigState,
  IommuType1DmaMap,
  PrecopyInfo,
} from '../abi/vfio-structs.ts';
import { ManualClock } from '../base/clock.ts';
import { Process } from '../engine/dma/process.ts';
import { type LinuxVersion, NEWEST_LINUX } from '../engine/linux-version.ts';
import { Machine } from '../engine/machine/machine.ts';
import { HeapMemory } from '../sys/fake.ts';
import { KernelDoor } from './kernel-door.ts';
import { MapFlags, PollEvents, Prot } from './posix.ts';
import { cString } from './user-buffer.ts';
import type { UserProcess } from './user-process.ts';

const BDF = '0000:00:04.0';
const GET = FeatureFlags.GET;
const SET = FeatureFlags.SET;
const PAGE = 4096;

interface Program extends Disposable {
  readonly user: UserProcess;
  readonly machine: Machine;
  readonly model: MovableModel;
  readonly container: number;
  readonly device: number;
  readonly errors: string[];
}

function program(descriptors?: number, { linux = NEWEST_LINUX, bulk = true }: { linux?: LinuxVersion; bulk?: boolean } = {}): Program {
  const errors: string[] = [];
  const log = { log: (level: string, message: string) => void (level === 'error' && errors.push(message)) };
  const machine = new Machine(
    { devices: [{ at: '04.0', model: movable({ bulk, p2p: true }), driver: 'vfio-pci' }] },
    { allocate: HeapMemory.allocate, clock: new ManualClock(), log, linux },
  );
  const user = new KernelDoor(machine).process(Process.root({ allocate: HeapMemory.allocate }), descriptors);
  const container = user.open('/dev/vfio/vfio');
  const group = user.open(`/dev/vfio/${machine.function(BDF).group!.id}`);
  user.ioctl(group, GroupIoctl.SET_CONTAINER, new Uint8Array(new Int32Array([container]).buffer));
  user.ioctl(container, ContainerIoctl.SET_IOMMU, Extension.TYPE1v2_IOMMU);
  const device = user.ioctl(group, GroupIoctl.GET_DEVICE_FD, cString(BDF));
  const model = machine.function(BDF).model as MovableModel;
  return { user, machine, model, container, device, errors, [Symbol.dispose]: () => machine[Symbol.dispose]() };
}

let p: Program;
beforeEach(() => {
  p = program();
});
afterEach(() => {
  p.user.exit();
  expect([p.errors, p.machine.function(BDF).group!.file]).toEqual([[], null]);
  p[Symbol.dispose]();
});

/** FEATURE with that data: the result, and the data afterwards. */
function feature(id: number, op: number, data: Uint8Array, argsz = 8 + data.length): { result: string | number; data: Uint8Array } {
  const bytes = bytesOf(DeviceFeature, { argsz, flags: id | op }, data);
  const result = said(p.user.ioctl(p.device, DeviceIoctl.FEATURE, bytes));
  return { result, data: bytes.subarray(8) };
}

function go(state: number): { result: string | number; fd: number } {
  const { result, data } = feature(Feature.MIG_DEVICE_STATE, SET, bytesOf(FeatureMigState, { device_state: state, data_fd: 77 }));
  return { result, fd: FeatureMigState.data_fd.get(viewOf(data), 0) };
}

it('B.11 MIGRATION, MIG_DATA_SIZE and the state are got; argsz too small is EINVAL', () => {
  const flags = feature(Feature.MIGRATION, GET, new Uint8Array(8));
  expect([flags.result, FeatureMigration.flags.get(viewOf(flags.data), 0)]).toEqual([0, 7n]);
  const size = feature(Feature.MIG_DATA_SIZE, GET, new Uint8Array(8));
  expect(size.result).toBe(0);
  expect(FeatureMigDataSize.stop_copy_length.get(viewOf(size.data), 0)).toBeGreaterThan(4096n);
  const state = feature(Feature.MIG_DEVICE_STATE, GET, new Uint8Array(8).fill(9));
  expect([state.result, FeatureMigState.decode(viewOf(state.data))]).toEqual([0, { device_state: MigrationState.RUNNING, data_fd: -1 }]);
  for (const id of [Feature.MIGRATION, Feature.MIG_DATA_SIZE, Feature.MIG_DEVICE_STATE]) {
    expect(feature(id, GET, new Uint8Array(8), 15).result).toBe('EINVAL');
  }
  expect(feature(Feature.MIG_DEVICE_STATE, SET, new Uint8Array(7)).result).toBe('EINVAL');
  expect(feature(Feature.MIG_DEVICE_STATE, SET, new Uint8Array(7), 16).result).toBe('EFAULT');
  for (const id of [Feature.MIGRATION, Feature.MIG_DATA_SIZE]) expect(feature(id, SET, new Uint8Array(8)).result).toBe('EINVAL');
});

it('B.11 data_fd: a descriptor where a stream begins, -1 elsewhere, also with an error; it closes on exec', () => {
  const copy = go(MigrationState.PRE_COPY);
  expect([copy.result, copy.fd > p.device]).toEqual([0, true]);
  expect(p.user.getFd(copy.fd)).toBe(1);
  expect(go(MigrationState.PRE_COPY_P2P)).toEqual({ result: 0, fd: -1 });
  expect(go(99)).toEqual({ result: 'EINVAL', fd: -1 });
  expect(go(MigrationState.STOP_COPY)).toEqual({ result: 0, fd: -1 });
  expect(go(MigrationState.PRE_COPY)).toEqual({ result: 'EINVAL', fd: -1 });
  expect(p.user.close(copy.fd)).toBe(0);
  const resuming = go(MigrationState.RESUMING);
  expect(resuming.fd).toBe(copy.fd);
  expect(p.user.poll([{ fd: resuming.fd, events: PollEvents.IN | PollEvents.OUT }]).ready).toBe(1);
});

it('B.11 read and write of the descriptor move a device, and end with the stream', () => {
  p.model.store.write(3, new Uint8Array(512).fill(7));
  p.user.pwrite(p.device, new Uint8Array([1, 2, 3, 4]), 0x10);
  const { fd } = go(MigrationState.PRE_COPY);
  const pieces: Uint8Array[] = [];
  const into = new Uint8Array(500);
  let got: number;
  for (got = p.user.read(fd, into); got > 0; got = p.user.read(fd, into)) pieces.push(into.slice(0, got));
  expect(said(got)).toBe('ENOMSG');
  expect(said(p.user.write(fd, into))).toBe('EINVAL');
  expect([said(p.user.pread(fd, into, 0)), said(p.user.pwrite(fd, into, 0))]).toEqual(['ESPIPE', 'ESPIPE']);
  expect([said(p.user.read(fd, 0x1000, 10)), said(p.user.read(fd, into, -1))]).toEqual(['EFAULT', 'EINVAL']);
  expect(said(p.user.mmap(PAGE, 1, MapFlags.SHARED, fd))).toBe('ENODEV');
  expect(said(p.user.ioctl(fd, DeviceIoctl.RESET))).toBe('ENOTTY');
  go(MigrationState.STOP_COPY);
  for (got = p.user.read(fd, into); got > 0; got = p.user.read(fd, into)) pieces.push(into.slice(0, got));
  expect([got, p.user.close(fd)]).toEqual([0, 0]);

  const there = program();
  const mine = p;
  p = there;
  const target = go(MigrationState.RESUMING).fd;
  for (const piece of pieces) expect(there.user.write(target, piece)).toBe(piece.length);
  expect(said(there.user.read(target, into))).toBe('EINVAL');
  expect(go(MigrationState.RUNNING)).toEqual({ result: 0, fd: -1 });
  expect(said(there.user.write(target, into))).toBe('ENODEV');
  const bytes = new Uint8Array(4);
  there.user.pread(there.device, bytes, 0x10);
  expect([[...bytes], there.model.store.blocks.get(3)![0]]).toEqual([[1, 2, 3, 4], 7]);
  there.user.exit();
  there[Symbol.dispose]();
  p = mine;
});

it('B.11 MIG_GET_PRECOPY_INFO: in the two PRE_COPY states only, EINVAL elsewhere and for an argsz too small', () => {
  p.model.store.write(3, new Uint8Array(512).fill(7));
  const { fd } = go(MigrationState.PRE_COPY);
  const ask = (argsz = 24) => {
    const bytes = bytesOf(PrecopyInfo, { argsz, flags: 1, initial_bytes: 0n, dirty_bytes: 9n });
    return { result: said(p.user.ioctl(fd, MigrationIoctl.GET_PRECOPY_INFO, bytes)), ...PrecopyInfo.decode(viewOf(bytes)) };
  };
  expect(ask()).toMatchObject({ result: 0, argsz: 24, flags: 1, dirty_bytes: 0n });
  expect(ask().initial_bytes).toBeGreaterThan(512n);
  expect([ask(23).result, said(p.user.ioctl(fd, MigrationIoctl.GET_PRECOPY_INFO, new Uint8Array(23)))]).toEqual(['EINVAL', 'EFAULT']);
  go(MigrationState.STOP_COPY);
  expect(ask().result).toBe('EINVAL');
  const resuming = go(MigrationState.RESUMING).fd;
  expect(
    said(
      p.user.ioctl(
        resuming,
        MigrationIoctl.GET_PRECOPY_INFO,
        bytesOf(PrecopyInfo, { argsz: 24, flags: 0, initial_bytes: 0n, dirty_bytes: 0n }),
      ),
    ),
  ).toBe('EINVAL');
});

it('B.11 MIG_PRECOPY_INFOv2: SET without data makes the flags an answer, until the last close', () => {
  const { fd } = go(MigrationState.PRE_COPY);
  const flags = (stream = fd) => {
    const bytes = bytesOf(PrecopyInfo, { argsz: 24, flags: 0xff, initial_bytes: 0n, dirty_bytes: 0n });
    p.user.ioctl(stream, MigrationIoctl.GET_PRECOPY_INFO, bytes);
    return PrecopyInfo.flags.get(viewOf(bytes), 0);
  };
  const v2 = (op: number, more: readonly number[] = []) =>
    said(p.user.ioctl(p.device, DeviceIoctl.FEATURE, bytesOf(DeviceFeature, { argsz: 8 + more.length, flags: op | 12 }, more)));
  const { PROBE } = FeatureFlags;
  expect([v2(PROBE), v2(PROBE | SET), v2(PROBE | GET), v2(GET), flags()]).toEqual([0, 0, 'EINVAL', 'EINVAL', 0xff]);
  expect([v2(SET), flags(), v2(SET, [1, 2, 3]), flags()]).toEqual([0, 0, 0, 0]);
  go(MigrationState.RUNNING);
  expect(flags(go(MigrationState.PRE_COPY).fd)).toBe(0);
});

it('B.11 MIG_PRECOPY_INFOv2: EINVAL without PRE_COPY, for a probe too; ENOTTY before Linux 7.2', () => {
  const answers = (linux: LinuxVersion, bulk: boolean) => {
    using one = program(undefined, { linux, bulk });
    const ask = (op: number) => said(one.user.ioctl(one.device, DeviceIoctl.FEATURE, bytesOf(DeviceFeature, { argsz: 8, flags: op | 12 })));
    return [ask(FeatureFlags.PROBE), ask(SET)];
  };
  expect([answers('7.3', false), answers('7.3', true), answers('6.12', true)]).toEqual([
    ['EINVAL', 'EINVAL'],
    [0, 0],
    ['ENOTTY', 'ENOTTY'],
  ]);
});

it('B.11 without a descriptor left it is EMFILE, and no process can read the stream', () => {
  using full = program(6);
  const mine = p;
  p = full;
  expect(go(MigrationState.STOP_COPY)).toEqual({ result: 'EMFILE', fd: -1 });
  full.user.exit();
  p = mine;
});

it('B.11 DMA_LOGGING: ranges and bitmap are where the pointers point, and errors about them come last', () => {
  const { user } = p;
  const memory = user.mmap(16 * PAGE, 3, MapFlags.SHARED | MapFlags.ANONYMOUS);
  const poke = (at: number, bytes: Uint8Array) => bytes.forEach((byte, i) => void user.store(memory + at + i, 1, byte));
  const peek = (at: number, size: number) => Array.from({ length: size }, (_, i) => Number(user.load(memory + at + i, 1)));
  const start = (values: object) => {
    const control = { page_size: 4096n, num_ranges: 1, reserved: 0, ranges: BigInt(memory), ...values };
    return feature(Feature.DMA_LOGGING_START, SET, bytesOf(FeatureDmaLoggingControl, control));
  };
  const report = (values: object) => {
    const asked = { iova: 0x10_0000n, length: BigInt(8 * PAGE), page_size: 4096n, bitmap: BigInt(memory + PAGE), ...values };
    return feature(Feature.DMA_LOGGING_REPORT, GET, bytesOf(FeatureDmaLoggingReport, asked)).result;
  };
  poke(0, bytesOf(FeatureDmaLoggingRange, { iova: 0x10_0000n, length: BigInt(8 * PAGE) }));
  expect([start({ num_ranges: 0, ranges: 8n }).result, start({ num_ranges: 257, ranges: 8n }).result]).toEqual(['EINVAL', 'E2BIG']);
  expect([start({ ranges: 8n }).result, start({ num_ranges: 2, ranges: BigInt(memory + 16 * PAGE - 16) }).result]).toEqual([
    'EFAULT',
    'EINVAL',
  ]);
  // The first range is there and good, the second is not there.
  poke(16 * PAGE - 16, bytesOf(FeatureDmaLoggingRange, { iova: 0n, length: 4096n }));
  expect(start({ num_ranges: 2, ranges: BigInt(memory + 16 * PAGE - 16) }).result).toBe('EFAULT');
  // Memory that can only be read is enough: it holds zeroes, so the range is empty.
  const zeroes = user.mmap(PAGE, Prot.READ, MapFlags.SHARED | MapFlags.ANONYMOUS);
  expect(start({ ranges: BigInt(zeroes) }).result).toBe('EINVAL');
  expect(report({ bitmap: 8n })).toBe('EINVAL');
  const started = start({ page_size: 8192n });
  expect([started.result, FeatureDmaLoggingControl.page_size.get(viewOf(started.data), 0)]).toEqual([0, 4096n]);

  user.ioctl(
    p.container,
    ContainerIoctl.IOMMU_MAP_DMA,
    bytesOf(IommuType1DmaMap, { argsz: 32, flags: 3, vaddr: BigInt(memory + 8 * PAGE), iova: 0x10_0000n, size: BigInt(8 * PAGE) }),
  );
  user.pwrite(p.device, new Uint8Array([6, 0]), 7 * REGION_OFFSET_STEP + 4);
  p.model.host.dma.tryWrite(0x10_0000n + BigInt(5 * PAGE), new Uint8Array(10));
  poke(PAGE, new Uint8Array(8).fill(0x80));
  expect([report({ page_size: 100n, bitmap: 8n }), report({ iova: 2n ** 64n - 4096n, length: 4096n, bitmap: 8n })]).toEqual([
    'EINVAL',
    'EOVERFLOW',
  ]);
  expect([report({ bitmap: 8n }), report({ bitmap: BigInt(memory + 16 * PAGE - 4) })]).toEqual(['EFAULT', 'EFAULT']);
  expect([report({}), peek(PAGE, 8)]).toEqual([0, [0xa0, ...Array(7).fill(0x80)]]);
  poke(PAGE, new Uint8Array(8));
  expect([report({}), peek(PAGE, 8)]).toEqual([0, Array(8).fill(0)]);
  expect(feature(Feature.DMA_LOGGING_STOP, SET, new Uint8Array(0)).result).toBe(0);
  expect(report({})).toBe('EINVAL');
  expect(feature(Feature.DMA_LOGGING_REPORT, GET, new Uint8Array(31)).result).toBe('EINVAL');
  expect(feature(Feature.DMA_LOGGING_START, SET, new Uint8Array(23)).result).toBe('EINVAL');
});
