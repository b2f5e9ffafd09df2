import { describe, expect, it } from 'vitest';
import { heapGrowth } from '../../tests/kit/heap-growth.ts';
import { Dma, DmaPlace } from '../abi/device-host.ts';
import { Access } from '../abi/memory.ts';
import { EventStream } from '../events/stream.ts';
import { HeapMemory } from '../sys/fake.ts';
import { DmaLog } from './dma-log.ts';
import { HostDma } from './host-dma.ts';
import { IommuDomain } from './iommu-domain.ts';

const PAGE = 4096;
const { READ, WRITE, READ_WRITE } = Access;

/** Pages 16 to 23 for all accesses, 24 to 31 for reads, one memory; page 64 is other memory. */
function make() {
  const domain = new IommuDomain({ unit: {}, coherent: true, enforcesCoherency: true, pageSizes: 4096n });
  const memory = HeapMemory.allocate(16 * PAGE);
  const other = HeapMemory.allocate(PAGE);
  domain.map(16, 23, memory, 0, READ_WRITE);
  domain.map(24, 31, memory, 8 * PAGE, READ);
  domain.map(64, 64, other, 0, READ_WRITE);
  const gate = { busMaster: true, powered: true, domain };
  const stream = new EventStream();
  return { domain, gate, memory, other, stream, dma: new HostDma(gate, stream.source('0000:00:04.0')), place: new DmaPlace() };
}

describe('DmaPort.locate', () => {
  it('says where bytes are, by numbers and bigints, in the mapping of the look-up before and in another', () => {
    const { dma, memory, other, place } = make();
    for (const [iova, bytes, offset] of [
      [16 * PAGE + 5, memory.windows[0], 5],
      [17 * PAGE, memory.windows[0], PAGE],
      [64 * PAGE + 1, other.windows[0], 1],
      [BigInt(16 * PAGE + 6), memory.windows[0], 6],
      [BigInt(16 * PAGE + 7), memory.windows[0], 7],
    ] as const) {
      expect(dma.locate(iova, 100, READ, place)).toBe(true);
      expect(place.bytes).toBe(bytes);
      expect(place.offset).toBe(offset);
    }
  });

  it('takes neighbours in the same memory for one piece, with the rights that all of it has', () => {
    const { dma, place } = make();
    expect(dma.locate(23 * PAGE, 2 * PAGE, READ, place)).toBe(true);
    expect(place.offset).toBe(7 * PAGE);
    expect(dma.locate(23 * PAGE, 2 * PAGE, WRITE, place)).toBe(false);
    expect(dma.locate(16 * PAGE, PAGE, WRITE, place)).toBe(true);
    expect(dma.locate(31 * PAGE, 2 * PAGE, READ, place)).toBe(false);
  });

  it('is false for what `view` would not give, and leaves the place as it was', () => {
    const { dma, place, memory } = make();
    expect(dma.locate(16 * PAGE, 8, READ_WRITE, place)).toBe(true);
    const before = { ...place };
    for (const [iova, size, access] of [
      [15 * PAGE, 8, READ],
      [24 * PAGE, 8, WRITE],
      [16 * PAGE + 0.5, 8, READ],
      [16 * PAGE, 0, READ],
      [16 * PAGE, 8.5, READ],
      [16 * PAGE, 8, 0],
      [16 * PAGE, Number.NaN, READ],
      [-1, 8, READ],
      [Number.NaN, 8, READ],
      ['65536', 8, READ],
      [2n ** 64n, 8, READ],
      [-1n, 8, READ],
    ] as [number, number, Access][]) {
      expect(dma.locate(iova, size, access, place)).toBe(false);
      expect(dma.view(iova, size, access)).toBe(null);
    }
    expect({ ...place }).toEqual(before);
    expect(place.bytes).toBe(memory.windows[0]);
  });

  it('is false behind a closed gate, and after an unmap', () => {
    const { dma, gate, domain, place } = make();
    const found = () => dma.locate(16 * PAGE, 8, READ, place);
    expect(found()).toBe(true);
    const { epoch } = dma;
    gate.busMaster = false;
    expect(found()).toBe(false);
    gate.busMaster = true;
    gate.powered = false;
    expect(found()).toBe(false);
    gate.powered = true;
    dma.stopped = true;
    expect(found()).toBe(false);
    dma.stopped = false;
    dma.asleep = true;
    expect(found()).toBe(false);
    dma.asleep = false;
    expect([found(), dma.epoch]).toEqual([true, epoch]);
    domain.unmap(16, 23);
    expect([found(), dma.epoch]).toEqual([false, epoch + 1]);
    expect(dma.tryRead(16 * PAGE, new Uint8Array(8))).toBe(Dma.FAULT);
    domain.map(16, 16, HeapMemory.allocate(PAGE), 0, READ);
    expect(dma.locate(16 * PAGE, 8, WRITE, place)).toBe(false);
    expect(found()).toBe(true);
  });

  it('for writing marks its pages, in the dirty log and in the log of the device', () => {
    const { dma, domain, place } = make();
    const marked: [number, number][] = [];
    expect(dma.locate(17 * PAGE, 8, WRITE, place)).toBe(true);
    const { epoch } = dma;
    domain.dirty = { mark: (first: number, last: number) => void marked.push([first, last]) } as never;
    domain.expireWriteViews();
    expect(dma.epoch).toBe(epoch + 1);
    dma.locate(17 * PAGE + 8, 2 * PAGE, WRITE, place);
    dma.locate(17 * PAGE + 8, 2 * PAGE, READ, place);
    dma.tryWrite(20 * PAGE, new Uint8Array(8));
    dma.tryWrite(21 * PAGE - 8, new Uint8Array(600));
    expect(marked).toEqual([
      [17, 19],
      [20, 20],
      [20, 21],
    ]);
    domain.dirty = null;
    const log = new DmaLog([{ first: 16, last: 31 }]);
    dma.writes = log;
    dma.locate(18 * PAGE, 8, WRITE, place);
    dma.tryWrite(22 * PAGE, new Uint8Array(8));
    const bitmap = new Uint8Array(8);
    log.take(16, 31, 1, bitmap);
    expect([...bitmap.subarray(0, 2)]).toEqual([0b0100_0100, 0]);
  });

  it('is an event each time', () => {
    const { dma, stream, place } = make();
    using events = stream.read({ kinds: ['dma'] });
    dma.locate(16 * PAGE, 8, READ, place);
    dma.locate(17 * PAGE + 4, 64, WRITE, place);
    const seen = events.take().map((event) => (event.kind === 'dma' ? [event.op, event.iova, event.size, event.way] : []));
    expect(seen).toEqual([
      ['read', BigInt(16 * PAGE), 8, 'view'],
      ['write', BigInt(17 * PAGE + 4), 64, 'view'],
    ]);
  });

  it('and small transfers allocate nothing', () => {
    const { dma, place } = make();
    const eight = new Uint8Array(8);
    const run = (times: number) => {
      let found = 0;
      for (let i = 0; i < times; i++) {
        const iova = (16 + (i & 7)) * PAGE + (i & 0xff0);
        if (dma.locate(iova, 16, WRITE, place)) found++;
        if (dma.tryRead(iova, eight) === Dma.DONE) found++;
        if (dma.tryWrite(iova, eight) === Dma.DONE) found++;
      }
      return found;
    };
    let found = 0;
    const grown = heapGrowth(() => {
      found = run(300_000);
    }, 200_000);
    expect(found).toBe(900_000);
    // One number that is boxed would take 3.6 MB.
    expect(grown).toBeLessThan(200_000);
  });
});
