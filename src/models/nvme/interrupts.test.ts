import { describe, expect, it } from 'vitest';
import { ControllerUnderTest } from '../../../tests/kit/nvme/controller-under-test.ts';
import { AdminOpcode, FeatureId, NvmeReg, NvmOpcode } from '../../abi/nvme.ts';

const FLUSH = { opcode: NvmOpcode.FLUSH, nsid: 1 };
const IDENTIFY = { opcode: AdminOpcode.IDENTIFY, cdw10: 1 };

function enabled(mode: 'intx' | 'msi' | 'msix', vectors = 65): ControllerUnderTest {
  const c = new ControllerUnderTest({ mode });
  c.host.irq.vectors = vectors;
  c.enable();
  return c;
}

describe('NVMe 1.4 7.5.1 pin', () => {
  it('is asserted while any queue holds completions that were not consumed', () => {
    const c = enabled('intx');
    c.createPair(1, 16, { vector: 0 });
    expect(c.host.asserted).toBe(false);
    c.submit(1, FLUSH);
    c.submit(1, FLUSH);
    expect(c.host.asserted).toBe(true);
    const pair = c.pairs.get(1)!;
    pair.head = 1;
    c.ringHead(1);
    expect(c.host.asserted).toBe(true);
    pair.head = 2;
    c.ringHead(1);
    expect(c.host.asserted).toBe(false);
  });

  it('INTMS holds it back, INTMC lets it go', () => {
    const c = enabled('intx');
    c.w(NvmeReg.INTMS, 1);
    c.submit(0, { ...IDENTIFY, prp1: c.page() });
    expect(c.host.asserted).toBe(false);
    c.w(NvmeReg.INTMC, 1);
    expect(c.host.asserted).toBe(true);
    c.w(NvmeReg.INTMS, 1);
    expect(c.host.asserted).toBe(false);
  });

  it('a queue without interrupts does not assert it', () => {
    const c = enabled('intx');
    c.createPair(1, 16, { interrupts: false });
    c.submit(1, FLUSH);
    expect(c.host.asserted).toBe(false);
    expect(c.completions(1)).toHaveLength(1);
  });

  it('falls with a reset, and when messages are enabled', () => {
    const c = enabled('intx');
    c.submit(0, { ...IDENTIFY, prp1: c.page() });
    c.host.irq.mode = 'msix';
    c.model.configWritten!(0x90, 2);
    expect(c.host.asserted).toBe(false);
    c.host.irq.mode = 'intx';
    c.model.configWritten!(0x90, 2);
    expect(c.host.asserted).toBe(true);
    c.w(NvmeReg.CC, 0);
    expect(c.host.asserted).toBe(false);
  });
});

describe('NVMe 1.4 7.5.1 MSI', () => {
  it('a message for each vector; INTMS holds it back until INTMC', () => {
    const c = enabled('msi', 4);
    c.createPair(1);
    c.createPair(2);
    c.host.irqEvents.length = 0;
    c.w(NvmeReg.INTMS, 1 << 2);
    c.submit(1, FLUSH);
    c.submit(2, FLUSH);
    expect(c.host.irqEvents).toEqual(['trigger 1']);
    c.w(NvmeReg.INTMC, 1 << 2);
    expect(c.host.irqEvents).toEqual(['trigger 1', 'trigger 2']);
    c.completions(2);
    c.w(NvmeReg.INTMS, 1 << 2);
    c.w(NvmeReg.INTMC, 1 << 2);
    expect(c.host.irqEvents).toEqual(['trigger 1', 'trigger 2']);
  });
});

describe('NVMe 1.4 7.5.1 MSI-X', () => {
  it('one vector for each queue, as the host chose; INTMS is not looked at', () => {
    const c = enabled('msix');
    c.createPair(1, 16, { vector: 3 });
    c.createPair(2, 16, { vector: 64 });
    c.createPair(3, 16, { interrupts: false });
    c.host.irqEvents.length = 0;
    c.w(NvmeReg.INTMS, 0xffff_ffff);
    for (const id of [1, 2, 3]) c.submit(id, FLUSH);
    expect(c.host.irqEvents).toEqual(['trigger 3', 'trigger 64']);
  });
});

describe('NVMe 1.4 5.21.1.8 Interrupt Coalescing', () => {
  const set = (c: ControllerUnderTest, threshold: number, time: number) =>
    c.admin({ opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.INTERRUPT_COALESCING, cdw11: (time << 8) | threshold });

  it('an interrupt after THR completions, or TIME, whichever comes first', () => {
    const c = enabled('msix');
    c.createPair(1);
    expect(set(c, 3, 20).code).toBe(0);
    c.host.irqEvents.length = 0;
    for (let i = 0; i < 3; i++) c.submit(1, FLUSH);
    expect(c.host.irqEvents).toEqual([]);
    c.submit(1, FLUSH);
    expect(c.host.irqEvents).toEqual(['trigger 1']);
    c.submit(1, FLUSH);
    c.host.clock.advance(1.9);
    expect(c.host.irqEvents).toEqual(['trigger 1']);
    c.host.clock.advance(0.1);
    expect(c.host.irqEvents).toEqual(['trigger 1', 'trigger 1']);
    c.host.clock.advance(100);
    expect(c.host.irqEvents).toHaveLength(2);
  });

  it('no TIME is no delay, the admin queue is never coalesced, and switching it off sends held interrupts', () => {
    const c = enabled('msix');
    c.createPair(1);
    set(c, 9, 0);
    c.host.irqEvents.length = 0;
    c.submit(1, FLUSH);
    expect(c.host.irqEvents).toEqual(['trigger 1']);
    set(c, 9, 100);
    c.host.irqEvents.length = 0;
    c.submit(1, FLUSH);
    set(c, 0, 0);
    expect(c.host.irqEvents).toEqual(['trigger 1', 'trigger 0']);
    expect(c.host.clock.pendingTimers).toBe(0);
  });

  it('NVMe 1.4 5.21.1.9 Interrupt Vector Configuration: CD excepts a vector', () => {
    const c = enabled('msix');
    c.createPair(1);
    c.createPair(2);
    set(c, 9, 100);
    const fid = FeatureId.INTERRUPT_VECTOR_CONFIGURATION;
    expect(c.admin({ opcode: AdminOpcode.SET_FEATURES, cdw10: fid, cdw11: (1 << 16) | 2 }).code).toBe(0);
    expect(c.admin({ opcode: AdminOpcode.GET_FEATURES, cdw10: fid, cdw11: 2 }).result).toBe(0x1_0002);
    expect(c.admin({ opcode: AdminOpcode.GET_FEATURES, cdw10: fid, cdw11: 1 }).result).toBe(1);
    c.host.irqEvents.length = 0;
    c.submit(1, FLUSH);
    c.submit(2, FLUSH);
    expect(c.host.irqEvents).toEqual(['trigger 2']);
    c.w(NvmeReg.CC, 0);
    expect(c.host.clock.pendingTimers).toBe(0);
  });
});
