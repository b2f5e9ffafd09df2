import { expect, it } from 'vitest';
import { alone, openAll, testMachine } from '../../tests/kit/machines.ts';
import type { MigrationStream } from '../abi/device.ts';
import { Feature, MigrationState, RegionIndex } from '../abi/vfio.ts';
import { FeatureDmaLoggingControl, FeatureDmaLoggingRange, FeatureDmaLoggingReport, FeatureMigState } from '../abi/vfio-structs.ts';
import { featureBytes } from '../device/feature-bytes.ts';
import { VFIO_PCI } from '../engine/machine/binding.ts';
import { Mediators } from '../engine/mediation/mediators.ts';
import { edu } from '../models/edu/edu.ts';
import { HeapMemory } from '../sys/fake.ts';
import { eduMover } from './edu-mover.ts';

const BDF = '0000:01:00.0';
const Reg = { LIVE: 0x04, FACT: 0x08, STATUS: 0x20, IRQ: 0x24, RAISE: 0x60, SRC: 0x80, DST: 0x88, CNT: 0x90, CMD: 0x98 };
const BUFFER = 0x4_0000n;
const IOVA = 0x10_0000;

function setup(mediated = true) {
  const mediators = new Mediators();
  if (mediated) mediators.register(eduMover());
  const model = edu({ factorialMs: 5, dmaMs: 100, migration: false });
  const rig = testMachine({ devices: [alone('01.0', { at: '00.0', model, driver: VFIO_PCI })] }, { mediators });
  const { device } = openAll(rig.machine, BDF);
  device.region(RegionIndex.CONFIG).write16(4, 6);
  const memory = HeapMemory.allocate(0x1_0000);
  device.dma.map({ iova: BigInt(IOVA), memory });
  const bar = device.region(0);
  const transfer = (source: bigint, destination: bigint, count: bigint, command: bigint) => {
    bar.write64(Reg.SRC, source);
    bar.write64(Reg.DST, destination);
    bar.write64(Reg.CNT, count);
    bar.write64(Reg.CMD, command);
  };
  const feature = (number: number, data: Uint8Array, more: object = {}) => featureBytes(device, { feature: number, data, ...more });
  const setState = (state: number) => {
    const data = new Uint8Array(8);
    FeatureMigState.encode(new DataView(data.buffer), 0, { device_state: state, data_fd: -1 });
    const streams: MigrationStream[] = [];
    feature(Feature.MIG_DEVICE_STATE, data, { set: true, onDataStream: (stream: MigrationStream) => void streams.push(stream) });
    return streams[0] ?? null;
  };
  return { ...rig, device, bar, memory, bytes: memory.windows[0]!, transfer, feature, setState };
}

type Edu = ReturnType<typeof setup>;

function move(from: Edu, to: Edu): void {
  const out = from.setState(MigrationState.STOP_COPY)!;
  const into = to.setState(MigrationState.RESUMING)!;
  const piece = new Uint8Array(777);
  for (let n = out.read(piece); n > 0; n = out.read(piece)) into.write(piece.subarray(0, n));
  to.bytes.set(from.bytes);
  to.setState(MigrationState.RUNNING);
  out.close();
  into.close();
}

function startLog({ feature }: Edu): void {
  const data = new Uint8Array(24);
  FeatureDmaLoggingControl.encode(new DataView(data.buffer), 0, { page_size: 4096n, num_ranges: 1 });
  const ranges = new Uint8Array(16);
  FeatureDmaLoggingRange.encode(new DataView(ranges.buffer), 0, { iova: BigInt(IOVA), length: 0x1_0000n });
  feature(Feature.DMA_LOGGING_START, data, { set: true, ranges });
}

function dirtyPages({ feature }: Edu): number {
  const data = new Uint8Array(32);
  FeatureDmaLoggingReport.encode(new DataView(data.buffer), 0, { iova: BigInt(IOVA), length: 0x1_0000n, page_size: 4096n });
  const bitmap = new Uint8Array(8);
  feature(Feature.DMA_LOGGING_REPORT, data, { get: true, bitmap });
  return new DataView(bitmap.buffer).getUint16(0, true);
}

it('S0-19 migration of an edu without its own support is ENOTTY alone, and works with the mediator', () => {
  const without = setup(false);
  expect(() => without.setState(MigrationState.STOP_COPY)).toThrow(expect.objectContaining({ code: 'ENOTTY' }));
  expect(() => startLog(without)).toThrow(expect.objectContaining({ code: 'ENOTTY' }));
  const edu = setup();
  startLog(edu);
  expect(edu.setState(MigrationState.STOP)).toBe(null);
  edu.setState(MigrationState.RUNNING);
});

it('S0-19 a report has every page that the device has written so far, and no page that it only read', () => {
  const edu = setup();
  startLog(edu);
  edu.transfer(BUFFER, BigInt(IOVA + 0x1ff0), 0x20n, 3n);
  const during = dirtyPages(edu);
  edu.clock.advance(50);
  const stillDuring = dirtyPages(edu);
  edu.clock.advance(50);
  const after = dirtyPages(edu);
  expect([during, stillDuring, after, dirtyPages(edu)]).toEqual([6, 6, 6, 0]);
  edu.transfer(BigInt(IOVA), BUFFER, 0x1000n, 1n);
  edu.clock.advance(100);
  expect(dirtyPages(edu)).toBe(0);
  edu.transfer(BUFFER, BigInt(IOVA), 0x1000n, 3n);
  edu.clock.advance(100);
  edu.transfer(BUFFER, BigInt(IOVA + 0x5000), 1n, 3n);
  edu.clock.advance(100);
  expect(dirtyPages(edu)).toBe(0x21);
});

it('S0-19 registers, results, causes and the hidden buffer move along', () => {
  const [from, to] = [setup(), setup()];
  const text = new TextEncoder().encode('what no CPU can read');
  from.bytes.set(text, 0x100);
  from.transfer(BigInt(IOVA + 0x100), BUFFER + 16n, BigInt(text.length), 1n);
  from.clock.advance(100);
  from.bar.write32(Reg.LIVE, 0x1234);
  from.bar.write32(Reg.FACT, 5);
  from.clock.advance(5);
  from.bar.write32(Reg.STATUS, 0x80);
  from.bar.write32(Reg.RAISE, 0x30);
  const seen = ({ bar }: Edu) => [
    ...[Reg.LIVE, Reg.FACT, Reg.STATUS, Reg.IRQ].map((offset) => bar.read32(offset)),
    ...[Reg.SRC, Reg.DST, Reg.CNT, Reg.CMD].map((offset) => bar.read64(offset)),
  ];
  const before = seen(from);
  expect(before.slice(0, 4)).toEqual([0xffff_edcb, 120, 0x80, 0x30]);
  move(from, to);
  expect(seen(to)).toEqual(before);
  to.transfer(BUFFER + 16n, BigInt(IOVA + 0x2000), BigInt(text.length), 3n);
  expect(to.bar.read64(Reg.CNT)).toBe(BigInt(text.length));
  to.clock.advance(100);
  expect(to.bytes.subarray(0x2000, 0x2000 + text.length)).toEqual(text);
  to.bar.write32(Reg.FACT, 4);
  to.clock.advance(5);
  expect(to.bar.read32(Reg.FACT)).toBe(24);
});

it('S0-19 a transfer and a factorial that are under way end at the destination', () => {
  const [from, to] = [setup(), setup()];
  const text = new TextEncoder().encode('under way');
  from.bytes.set(text);
  from.transfer(BigInt(IOVA), BUFFER, 9n, 1n);
  from.clock.advance(100);
  from.bar.write32(Reg.FACT, 6);
  from.transfer(BUFFER, BigInt(IOVA + 0x3000), 9n, 7n);
  from.clock.advance(1);
  move(from, to);
  expect([to.bar.read64(Reg.CMD) & 1n, to.bar.read32(Reg.STATUS) & 1]).toEqual([1n, 1]);
  to.clock.advance(100);
  expect(to.bytes.subarray(0x3000, 0x3009)).toEqual(text);
  expect([to.bar.read64(Reg.CMD), to.bar.read32(Reg.FACT), to.bar.read32(Reg.IRQ)]).toEqual([6n, 720, 0x100]);
  from.clock.advance(1000);
  expect(from.bytes.subarray(0x3000, 0x3009)).toEqual(new Uint8Array(9));
});

it('S0-19 a source that resumes after a stop has lost no transfer', () => {
  const edu = setup();
  edu.bytes.set([1, 2, 3]);
  edu.transfer(BigInt(IOVA), BUFFER, 3n, 1n);
  edu.clock.advance(100);
  edu.transfer(BUFFER, BigInt(IOVA + 0x4000), 3n, 3n);
  edu.setState(MigrationState.STOP);
  edu.clock.advance(200);
  expect([...edu.bytes.subarray(0x4000, 0x4003)]).toEqual([0, 0, 0]);
  edu.setState(MigrationState.RUNNING);
  edu.clock.advance(100);
  expect([...edu.bytes.subarray(0x4000, 0x4003)]).toEqual([1, 2, 3]);
});

it('S0-19 a moved device can move again, and a state of another length is refused', () => {
  const machines = [setup(), setup(), setup()] as const;
  machines[0].bytes.set([7, 8, 9], 0x800);
  machines[0].transfer(BigInt(IOVA + 0x800), BUFFER, 3n, 1n);
  machines[0].clock.advance(100);
  machines[0].bar.write32(Reg.FACT, 5);
  machines[0].clock.advance(5);
  move(machines[0], machines[1]);
  move(machines[1], machines[2]);
  machines[2].transfer(BUFFER, BigInt(IOVA), 3n, 3n);
  machines[2].clock.advance(100);
  expect([machines[2].bar.read32(Reg.FACT), ...machines[2].bytes.subarray(0, 3)]).toEqual([120, 7, 8, 9]);
  const accepted = eduMover().open({ vendor: 0x1234, device: 0x11e8 } as never)!;
  expect(() => accepted.migration!.load(new Uint8Array(5), 1)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
});

it('S0-19 a transfer that one long write or its upper half starts is logged, and no page is missed', () => {
  const bytes = (...values: bigint[]) => new Uint8Array(BigUint64Array.from(values).buffer);
  const wide = setup();
  startLog(wide);
  wide.bar.write(Reg.SRC, bytes(BUFFER, BigInt(IOVA + 0x2000), 16n, 3n));
  wide.clock.advance(100);
  expect(dirtyPages(wide)).toBe(4);
  const shifted = setup();
  startLog(shifted);
  shifted.transfer(BUFFER, BigInt(IOVA + 0x3000), 16n, 0n);
  shifted.bar.write(Reg.CNT + 4, Uint8Array.of(0, 0, 0, 0, 3, 0, 0, 0));
  shifted.clock.advance(100);
  expect(dirtyPages(shifted)).toBe(8);
  const past = setup();
  const { size } = past.bar.info;
  expect(past.bar.write(size - 4, new Uint8Array(16))).toBe(4);
  expect(() => past.bar.write(size, new Uint8Array(16))).toThrow(expect.objectContaining({ code: 'EINVAL' }));
});

it('S0-19 long reads too see the moved values', () => {
  const [from, to] = [setup(), setup()];
  from.bar.write32(Reg.FACT, 5);
  from.clock.advance(5);
  from.transfer(BUFFER, BigInt(IOVA), 8n, 3n);
  from.clock.advance(100);
  move(from, to);
  const all = (edu: Edu, at: number, size: number) => {
    const into = new Uint8Array(size);
    expect(edu.bar.read(at, into)).toBe(size);
    return [...into];
  };
  expect(all(to, Reg.SRC, 32)).toEqual(all(from, Reg.SRC, 32));
  expect(all(to, Reg.LIVE, 8)).toEqual(all(from, Reg.LIVE, 8));
  const { size } = to.bar.info;
  expect(to.bar.read(size - 8, new Uint8Array(32))).toBe(8);
});
