import { describe, expect, it } from 'vitest';
import { Access } from '../abi/memory.ts';
import { EventStream } from '../events/stream.ts';
import { HeapMemory } from '../sys/fake.ts';
import { HostDma } from './host-dma.ts';
import { IommuDomain } from './iommu-domain.ts';
import { ViewCache } from './view-cache.ts';

const PAGE = 4096;

/** Pages 16 to 31 are mapped. */
function make() {
  const domain = new IommuDomain({ unit: {}, coherent: true, enforcesCoherency: true, pageSizes: 4096n });
  const memory = HeapMemory.allocate(16 * PAGE);
  domain.map(16, 31, memory, 0, Access.READ_WRITE);
  const gate = { busMaster: true, powered: true, domain };
  return { domain, gate, memory, dma: new HostDma(gate, new EventStream().source('0000:00:04.0')) };
}

const at = BigInt(16 * PAGE);

describe('a view that was taken before', () => {
  it('is the same object while its memory is reached the same way', () => {
    const { dma } = make();
    const view = dma.view(at, PAGE, Access.READ);
    expect(dma.view(at, PAGE, Access.READ)).toBe(view);
    expect(dma.view(Number(at), PAGE, Access.READ)).toBe(view);
    expect(dma.view(at, PAGE - 1, Access.READ)).not.toBe(view);
    expect(dma.view(at, PAGE, Access.READ_WRITE)).not.toBe(view);
  });

  it('is taken anew when other memory is mapped there', () => {
    const { domain, dma } = make();
    dma.view(at, PAGE, Access.READ);
    domain.unmap(16, 31);
    expect(dma.view(at, PAGE, Access.READ)).toBe(null);
    const other = HeapMemory.allocate(16 * PAGE);
    other.windows[0]![0] = 7;
    domain.map(16, 31, other, 0, Access.READ);
    expect(dma.view(at, PAGE, Access.READ)![0]).toBe(7);
    expect(dma.view(at, PAGE, Access.WRITE)).toBe(null);
    const into = new Uint8Array(PAGE);
    dma.tryRead(at, into);
    expect(into[0]).toBe(7);
  });

  it('is not given while a gate is closed, nor in another domain', () => {
    const { gate, dma } = make();
    const view = dma.view(at, PAGE, Access.READ);
    gate.busMaster = false;
    expect(dma.view(at, PAGE, Access.READ)).toBe(null);
    gate.busMaster = true;
    expect(dma.view(at, PAGE, Access.READ)).toEqual(view);
    gate.domain = make().domain;
    expect(dma.view(at, PAGE, Access.READ)!.buffer).not.toBe(view!.buffer);
  });

  it('for writing marks its pages again once the log was read', () => {
    const { domain, dma } = make();
    const marked: number[] = [];
    dma.view(at, PAGE, Access.WRITE);
    domain.dirty = { mark: (first: number) => void marked.push(first) } as never;
    domain.expireWriteViews();
    for (let i = 0; i < 3; i++) dma.view(at, PAGE, Access.WRITE);
    expect(marked).toEqual([16]);
    domain.expireWriteViews();
    dma.view(at, PAGE, Access.WRITE);
    expect(marked).toEqual([16, 16]);
  });
});

it('keeps one view for each hash of a page', () => {
  const cache = new ViewCache();
  const [one, other] = [new Uint8Array(1), new Uint8Array(1)];
  cache.keep(PAGE, 1, Access.READ, one);
  cache.keep(257 * PAGE, 1, Access.READ, other);
  expect([cache.find(PAGE, 1, Access.READ), cache.find(257 * PAGE, 1, Access.READ)]).toEqual([null, other]);
  cache.expire();
  expect(cache.find(257 * PAGE, 1, Access.READ)).toBe(null);
});
