import { describe, expect, it } from 'vitest';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { conventional, eventfds, everything, InterruptRig, type Part } from '../../../tests/kit/interrupt-rig.ts';
import { CapId, Msi, Msix } from '../../abi/pci.ts';
import { IrqIndex } from '../../abi/vfio.ts';
import { msix } from '../../pci/capabilities.ts';
import { FakeEventFd } from '../../sys/fake.ts';

const { INTX, MSI, MSIX, ERR, REQ } = IrqIndex;
const trigger = (count: number, start = 0): Part => ({ action: 'trigger', data: 'none', start, count });

describe('B.9 IRQ info', () => {
  it('B.9 IRQ info counts and flags of a device that has everything', () => {
    const { interrupts } = new InterruptRig();
    expect([0, 1, 2, 3, 4].map((index) => interrupts.info(index))).toEqual([
      { index: INTX, flags: 7, count: 1 },
      { index: MSI, flags: 9, count: 4 },
      { index: MSIX, flags: 1, count: 8 },
      { index: ERR, flags: 9, count: 1 },
      { index: REQ, flags: 9, count: 1 },
    ]);
  });

  it('B.9 IRQ info of edu is what Linux 7.3 answered', () => {
    const { interrupts } = new InterruptRig(conventional);
    expect([0, 1, 2, 3, 4].map((index) => [interrupts.info(index).flags, interrupts.info(index).count])).toEqual([
      [7, 1],
      [9, 1],
      [9, 0],
      [9, 1],
      [9, 1],
    ]);
  });

  it('B.9 IRQ info of ERR before Linux 7.3: PCI Express devices only', () => {
    const express = new InterruptRig(everything, { linux: '7.2' }).interrupts;
    const edu = new InterruptRig(conventional, { linux: '7.2' }).interrupts;
    expect([express.count(ERR), edu.count(ERR)]).toEqual([1, 0]);
    expect(errnoFrom(() => edu.info(ERR))).toBe('EINVAL');
  });

  it('B.9 IRQ info MSI-X cannot be resized where vectors cannot be added later', () => {
    expect(new InterruptRig(everything, { dynamicMsix: false }).interrupts.info(MSIX).flags).toBe(9);
  });

  it('B.9 IRQ info a hidden or missing pin counts 0', () => {
    expect(new InterruptRig(everything, { virtualPin: () => 0 }).interrupts.info(INTX).count).toBe(0);
    expect(new InterruptRig({ ...everything, interruptPin: 0 }).interrupts.info(INTX).count).toBe(0);
  });

  it('B.9 IRQ info of an index that does not exist is EINVAL', () => {
    const { interrupts } = new InterruptRig();
    for (const index of [5, -1, 1.5, Number.NaN, 2 ** 53]) expect(errnoFrom(() => interrupts.info(index))).toBe('EINVAL');
  });
});

describe('B.7 SET_IRQS generic validation', () => {
  it('B.7 SET_IRQS of an index that does not exist is EINVAL', () => {
    const rig = new InterruptRig();
    for (const index of [5, 9, -1, 0.5, Number.NaN, 2 ** 32, 2 ** 53]) expect(errnoFrom(() => rig.set(index, trigger(1)))).toBe('EINVAL');
  });

  it('S2-24 start and count are unsigned and stay within the index', () => {
    const rig = new InterruptRig();
    const [sink] = eventfds(1);
    const bad: [start: number, count: number][] = [
      [0, 9],
      [8, 0],
      [8, 1],
      [7, 2],
      [0, -1],
      [-1, 1],
      [0, 0x7fff_ffff],
      [0, 0xffff_ffff],
      [1, 0xffff_fffe],
      [0xffff_ffff, 1],
      [0, 2 ** 53],
      [0, 1.5],
      [0, Number.NaN],
      [Number.POSITIVE_INFINITY, 1],
    ];
    for (const [start, count] of bad) {
      expect(errnoFrom(() => rig.set(MSIX, { action: 'trigger', data: 'sinks', start, count, sinks: [sink] }))).toBe('EINVAL');
    }
    expect([rig.interrupts.type, sink!.references, rig.faults.seen.size]).toEqual(['none', 1, 0]);
  });

  it('S2-24 there is data for each interrupt named, of exactly one type', () => {
    const rig = new InterruptRig();
    const [sink] = eventfds(1);
    const bad: Part[] = [
      { action: 'trigger', data: 'sinks', count: 2, sinks: [sink] },
      { action: 'trigger', data: 'sinks', sinks: undefined },
      { action: 'trigger', data: 'sinks', sinks: 'three' },
      { action: 'trigger', data: 'bool', count: 2, values: [true] },
      { action: 'trigger', data: 'bool', count: 3, values: new Uint8Array(2) },
      { action: 'trigger', data: 'bool' },
      { action: 'trigger', data: 'both', sinks: [sink], values: [true] },
      { action: 'trigger', data: '' },
      { action: 'trigger', data: 'sinks', sinks: [{}] },
      { action: 'trigger', data: 'sinks', sinks: [7] },
    ];
    for (const request of bad) expect(errnoFrom(() => rig.set(MSI, request))).toBe('EINVAL');
    expect(errnoFrom(() => rig.interrupts.setIrqs(null as never))).toBe('EINVAL');
    expect([rig.interrupts.type, sink!.references]).toEqual(['none', 1]);
  });

  it('B.7 SET_IRQS no action, or two, is ENOTTY; a bad range comes first', () => {
    const rig = new InterruptRig();
    expect(errnoFrom(() => rig.set(MSI, { action: '', data: 'none' }))).toBe('ENOTTY');
    expect(errnoFrom(() => rig.set(MSI, { action: 'trigger|mask', data: 'none' }))).toBe('ENOTTY');
    expect(errnoFrom(() => rig.set(MSI, { action: '', data: 'none', count: 5 }))).toBe('EINVAL');
  });

  it('B.7 SET_IRQS of an index with 0 interrupts is EINVAL, even to disable', () => {
    const rig = new InterruptRig(conventional);
    for (const index of [MSIX, ERR]) expect(errnoFrom(() => rig.disable(index))).toBe('EINVAL');
    const without = new InterruptRig({ ...everything, interruptPin: 0 });
    expect(errnoFrom(() => without.disable(INTX))).toBe('EINVAL');
  });

  it('B.7 SET_IRQS messages say which device, what is wrong and what helps', () => {
    const rig = new InterruptRig();
    try {
      rig.set(MSIX, trigger(9));
      expect.unreachable();
    } catch (error) {
      expect(String((error as { explain(): string }).explain())).toBe(
        'EINVAL: 0000:00:04.0: MSI-X interrupts [0, 9) were named, but it has 8\n  fix: Stay below 8, the count that GET_IRQ_INFO gives.',
      );
    }
  });
});

describe('S2-09 one interrupt type at a time', () => {
  it('S2-09 while one is enabled the others are EINVAL, also to fire or disable', () => {
    for (const on of [INTX, MSI, MSIX]) {
      const rig = new InterruptRig();
      const [mine, other] = eventfds(2);
      rig.arm(on, [mine!]);
      expect(rig.interrupts.type).toBe(['intx', 'msi', 'msix'][on]);
      for (const index of [INTX, MSI, MSIX].filter((i) => i !== on)) {
        expect(errnoFrom(() => rig.arm(index, [other!]))).toBe('EINVAL');
        expect(errnoFrom(() => rig.disable(index))).toBe('EINVAL');
        expect(errnoFrom(() => rig.set(index, trigger(1)))).toBe('EINVAL');
      }
      expect([mine!.references, other!.references, mine!.count]).toEqual([2, 1, 0]);
      rig.disable(on);
      expect([rig.interrupts.type, mine!.references]).toEqual(['none', 1]);
    }
  });

  it('S2-09 after disabling, another type can be enabled', () => {
    const rig = new InterruptRig();
    const [sink] = eventfds(1);
    for (const index of [MSI, MSIX, INTX, MSI]) {
      rig.arm(index, [sink!]);
      rig.disable(index);
    }
    expect([sink!.references, rig.interrupts.type]).toEqual([1, 'none']);
  });
});

describe('B.9 close: everything off', () => {
  it('S2-27 close releases INTx, MSI, MSI-X, ERR and REQ sinks exactly once', () => {
    for (const index of [INTX, MSI, MSIX]) {
      const rig = new InterruptRig();
      const fds = eventfds(5);
      rig.arm(index, index === INTX ? [fds[0]!] : [fds[0]!, fds[0]!, fds[1]!]);
      if (index === INTX) rig.intx({ action: 'unmask', data: 'sinks', sources: [fds[2]] });
      rig.arm(ERR, [fds[3]!]);
      rig.arm(REQ, [fds[4]!]);
      rig.interrupts.disableAll();
      // A FakeEventFd throws when it is put more often than it was got.
      rig.interrupts.disableAll();
      expect(fds.map((fd) => fd.references)).toEqual([1, 1, 1, 1, 1]);
      expect(rig.interrupts.type).toBe('none');
    }
  });

  it('B.9 close: nothing is delivered after it, and the hardware is off', () => {
    const rig = new InterruptRig();
    const fds = eventfds(4);
    rig.arm(MSIX, fds);
    rig.interrupts.disableAll();
    const at = rig.config.findCapability(CapId.MSIX);
    expect(rig.config.read(at + Msix.FLAGS, 2) & (Msix.FLAGS_ENABLE | Msix.FLAGS_MASKALL)).toBe(0);
    expect([0, 1, 2, 3].every((v) => rig.msix!.isMasked(v) && !rig.msix!.isRouted(v))).toBe(true);
    rig.host.raise();
    for (let vector = 0; vector < 8; vector++) rig.host.trigger(vector);
    expect([rig.interrupts.signalError(), rig.interrupts.signalRequest()]).toEqual([false, false]);
    expect(fds.map((fd) => fd.count)).toEqual([0, 0, 0, 0]);
  });

  it('S2-27 a sink that was closed already by its owner is still released', () => {
    const rig = new InterruptRig();
    const sink = new FakeEventFd();
    rig.arm(MSI, [sink]);
    sink[Symbol.dispose]();
    expect(sink.references).toBe(1);
    expect(rig.host.trigger(0)).toBe(true);
    rig.interrupts.disableAll();
    expect(sink.references).toBe(0);
  });
});

describe('E-07 each step of enabling can fail and leaves nothing behind', () => {
  const steps = {
    INTX: ['irq.intx.allocate', 'irq.intx.request'],
    MSI: ['irq.vectors.allocate', 'irq.vectors.enable', 'irq.vector.request'],
    MSIX: ['irq.vectors.allocate', 'irq.vectors.enable', 'irq.vector.request'],
  } as const;

  it('E-07 a failed enable leaves no sink, no type and no enable bit', () => {
    for (const name of ['INTX', 'MSI', 'MSIX'] as const) {
      for (const step of steps[name]) {
        for (const skip of name === 'INTX' || step !== 'irq.vector.request' ? [0] : [0, 1, 2]) {
          const rig = new InterruptRig();
          const fds = eventfds(name === 'INTX' ? 1 : 3);
          rig.faults.failNext(step, 'ENOMEM', skip);
          expect(errnoFrom(() => rig.arm(IrqIndex[name], fds))).toBe('ENOMEM');
          expect(fds.map((fd) => fd.references)).toEqual(fds.map(() => 1));
          expect([rig.interrupts.type, rig.host.mode, rig.host.listener]).toEqual(['none', 'intx', null]);
          expect(rig.config.read(rig.config.findCapability(CapId.MSI) + Msi.FLAGS, 2) & Msi.FLAGS_ENABLE).toBe(0);
          expect(rig.arm(IrqIndex[name], fds)).toBe(0);
        }
      }
    }
  });

  it('E-07 ERR and REQ keep the old sink when the new one cannot be taken', () => {
    for (const index of [ERR, REQ]) {
      const rig = new InterruptRig();
      const [old, next] = eventfds(2);
      rig.arm(index, [old!]);
      rig.faults.failNext('irq.notify.set', 'ENOMEM');
      expect(errnoFrom(() => rig.arm(index, [next!]))).toBe('ENOMEM');
      expect([old!.references, next!.references]).toEqual([2, 1]);
    }
  });

  it('E-07 a sink that is closed is EBADF and leaves nothing behind', () => {
    for (const index of [INTX, MSI, MSIX, ERR, REQ]) {
      const rig = new InterruptRig();
      const closed = new FakeEventFd();
      closed[Symbol.dispose]();
      expect(errnoFrom(() => rig.arm(index, [closed]))).toBe('EBADF');
      expect([rig.interrupts.type, rig.interrupts.signalError(), rig.interrupts.signalRequest()]).toEqual(['none', false, false]);
    }
  });
});

describe('B.9 as Linux 7.3 answered for edu, call by call', () => {
  it('B.9 MSI and INTX TRIGGER: the sequence of device-edu.txt', () => {
    const rig = new InterruptRig(conventional);
    const [ev] = eventfds(1);
    const answers: [call: () => number, expected: string | number][] = [
      [() => rig.set(MSI, trigger(9999)), 'EINVAL'],
      [() => rig.set(MSI, trigger(1, 9999)), 'EINVAL'],
      [() => rig.disable(MSI), 'EINVAL'],
      [() => rig.set(MSI, trigger(1)), 'EINVAL'],
      [() => rig.arm(MSI, [ev!]), 0],
      [() => rig.arm(MSIX, [ev!]), 'EINVAL'],
      [() => rig.arm(INTX, [ev!]), 'EINVAL'],
      [() => rig.set(MSI, { action: 'mask', data: 'none' }), 'ENOTTY'],
      [() => rig.set(MSI, trigger(1)), 0],
      [() => Number(ev!.read()), 1],
      [() => rig.set(MSI, { action: 'trigger', data: 'bool', values: Uint8Array.of(1) }), 0],
      [() => Number(ev!.read()), 1],
      [() => rig.arm(MSI, [null]), 0],
      [() => rig.disable(MSI), 0],
      [() => rig.arm(MSIX, [ev!]), 'EINVAL'],
      [() => rig.arm(MSIX, [ev!], 1), 'EINVAL'],
      [() => rig.disable(MSIX), 'EINVAL'],
      [() => rig.arm(INTX, [ev!]), 0],
      [() => rig.set(INTX, { action: 'mask', data: 'none' }), 0],
      [() => rig.set(INTX, { action: 'unmask', data: 'none' }), 0],
      [() => rig.disable(INTX), 0],
      [() => rig.arm(ERR, [ev!]), 0],
      [() => rig.arm(REQ, [ev!]), 0],
      [() => rig.set(REQ, trigger(1)), 0],
    ];
    const got = answers.map(([call]) => {
      let value = 0;
      const errno = errnoFrom(() => (value = call()));
      return errno === 'none' ? value : errno;
    });
    expect(got).toEqual(answers.map(([, expected]) => expected));
    rig.interrupts.disableAll();
    expect(ev!.references).toBe(1);
  });

  it('B.9 INTx automask: the sequence of edu-irq-dma.txt', () => {
    const rig = new InterruptRig(conventional);
    const [ev] = eventfds(1);
    rig.arm(INTX, [ev!]);
    rig.host.raise();
    expect(ev!.read()).toBe(1n);
    rig.host.raise();
    expect(ev!.read()).toBeNull();
    rig.intx({ action: 'unmask', data: 'none' });
    expect(ev!.read()).toBe(1n);
    rig.host.lower();
    rig.intx({ action: 'unmask', data: 'none' });
    expect(ev!.read()).toBeNull();
  });
});

describe('S2-20 hardware gets a real message', () => {
  it('S2-20 a device with 2048 vectors is enabled, fired and closed', () => {
    const rig = new InterruptRig({
      ...everything,
      bars: [{ index: 0, size: 0x20000, type: 'mem32' }],
      capabilities: [msix({ vectors: 2048, tableOffset: 0x8000 })],
    });
    const fds = eventfds(2048);
    expect(rig.arm(MSIX, fds)).toBe(0);
    for (let vector = 0; vector < 2048; vector++) expect(rig.host.trigger(vector)).toBe(true);
    expect(fds.every((fd) => fd.count === 1)).toBe(true);
    rig.interrupts.disableAll();
    expect(fds.every((fd) => fd.references === 1)).toBe(true);
  });
});
