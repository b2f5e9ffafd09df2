import { describe, expect, it } from 'vitest';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { conventional, eventfds, InterruptRig, type Part } from '../../../tests/kit/interrupt-rig.ts';
import { IrqIndex } from '../../abi/vfio.ts';

const cases = [
  { row: 'B.9 ERR', index: IrqIndex.ERR, fire: (rig: InterruptRig) => rig.interrupts.signalError() },
  { row: 'B.9 REQ', index: IrqIndex.REQ, fire: (rig: InterruptRig) => rig.interrupts.signalRequest() },
];
const none = (count: number): Part => ({ action: 'trigger', data: 'none', count });
const bool = (value: boolean, count = 1): Part => ({ action: 'trigger', data: 'bool', count, values: [value] });

/** A check of the rows finds these titles in the source. */
describe('B.9 ERR and REQ', () => {
  it('B.9 ERR and B.9 REQ reach the eventfd; without one the host hears that there is no listener', () => {
    for (const { index, fire } of cases) {
      const rig = new InterruptRig();
      const [fd] = eventfds(1);
      expect(fire(rig)).toBe(false);
      rig.arm(index, [fd!]);
      expect([fire(rig), fire(rig), fd!.count]).toEqual([true, true, 2]);
    }
  });

  it('B.9 ERR TRIGGER DATA_NONE fires with count 1, releases with count 0, EINVAL without an eventfd', () => {
    for (const { index, fire } of cases) {
      const rig = new InterruptRig();
      const [fd] = eventfds(1);
      expect(errnoFrom(() => rig.set(index, none(0)))).toBe('EINVAL');
      expect(errnoFrom(() => rig.set(index, none(1)))).toBe('EINVAL');
      rig.arm(index, [fd!]);
      expect([rig.set(index, none(1)), fd!.count]).toEqual([0, 1]);
      expect([rig.set(index, none(0)), fd!.references, fire(rig)]).toEqual([0, 1, false]);
      expect(errnoFrom(() => rig.set(index, none(0)))).toBe('EINVAL');
    }
  });

  it('B.9 ERR TRIGGER DATA_BOOL fires when true, is 0 without an eventfd, EINVAL with count 0', () => {
    for (const { index } of cases) {
      const rig = new InterruptRig();
      const [fd] = eventfds(1);
      expect([rig.set(index, bool(true)), rig.set(index, bool(false))]).toEqual([0, 0]);
      rig.arm(index, [fd!]);
      rig.set(index, bool(false));
      rig.set(index, bool(true));
      expect(fd!.count).toBe(1);
      expect(errnoFrom(() => rig.set(index, bool(true, 0)))).toBe('EINVAL');
    }
  });

  it('B.9 ERR TRIGGER DATA_EVENTFD sets, replaces and releases; EINVAL with count 0', () => {
    for (const { index, fire } of cases) {
      const rig = new InterruptRig();
      const [fd, next] = eventfds(2);
      rig.arm(index, [fd!]);
      rig.arm(index, [next!]);
      fire(rig);
      expect([fd!.count, fd!.references, next!.count, next!.references]).toEqual([0, 1, 1, 2]);
      expect(errnoFrom(() => rig.set(index, { action: 'trigger', data: 'sinks', count: 0, sinks: [] }))).toBe('EINVAL');
      rig.arm(index, [next!]);
      expect(next!.references).toBe(2);
      rig.arm(index, [null]);
      rig.arm(index, [null]);
      expect(next!.references).toBe(1);
      expect(errnoFrom(() => rig.arm(index, [{} as never]))).toBe('EINVAL');
    }
  });

  it('B.9 ERR MASK and UNMASK are ENOTTY', () => {
    for (const { index } of cases) {
      const rig = new InterruptRig();
      for (const action of ['mask', 'unmask']) {
        for (const request of [{ data: 'none' }, { data: 'bool', values: [true] }, { data: 'sinks', sinks: [null], sources: [null] }]) {
          expect(errnoFrom(() => rig.set(index, { action, ...request }))).toBe('ENOTTY');
        }
      }
    }
  });

  it('B.9 REQ start and count are 0 and at most 1', () => {
    for (const { index } of cases) {
      const rig = new InterruptRig();
      expect(errnoFrom(() => rig.set(index, { ...none(1), start: 1 }))).toBe('EINVAL');
      expect(errnoFrom(() => rig.set(index, none(2)))).toBe('EINVAL');
    }
  });

  it('B.9 ERR of a conventional device is EINVAL before Linux 7.3; B.9 REQ exists on every device', () => {
    const rig = new InterruptRig(conventional, { linux: '7.2' });
    const [fd] = eventfds(1);
    expect(errnoFrom(() => rig.arm(IrqIndex.ERR, [fd!]))).toBe('EINVAL');
    expect(rig.arm(IrqIndex.REQ, [fd!])).toBe(0);
  });

  it('B.9 REQ and ERR do not care which type the device uses', () => {
    const rig = new InterruptRig();
    const [err, req, fd] = eventfds(3);
    rig.arm(IrqIndex.ERR, [err!]);
    rig.arm(IrqIndex.REQ, [req!]);
    rig.arm(IrqIndex.MSIX, [fd!]);
    rig.disable(IrqIndex.MSIX);
    rig.arm(IrqIndex.INTX, [fd!]);
    expect([rig.interrupts.signalError(), rig.interrupts.signalRequest(), err!.count, req!.count]).toEqual([true, true, 1, 1]);
  });
});

describe('E-15 what other servers get wrong', () => {
  it('E-15 ERR and REQ have eventfds, and a count of 0 disables an index', () => {
    const rig = new InterruptRig();
    const fds = eventfds(5);
    rig.arm(IrqIndex.ERR, [fds[0]!]);
    rig.arm(IrqIndex.REQ, [fds[1]!]);
    rig.arm(IrqIndex.MSIX, fds.slice(2));
    for (const index of [IrqIndex.ERR, IrqIndex.REQ, IrqIndex.MSIX]) expect(rig.disable(index)).toBe(0);
    expect(fds.map((fd) => fd.references)).toEqual([1, 1, 1, 1, 1]);
  });

  it('E-15 taking away part of the vectors leaves the others as they are', () => {
    const rig = new InterruptRig();
    const fds = eventfds(6);
    rig.arm(IrqIndex.MSIX, fds);
    rig.arm(IrqIndex.MSIX, [null, null], 3);
    for (let vector = 0; vector < 6; vector++) rig.host.trigger(vector);
    expect(fds.map((fd) => fd.count)).toEqual([1, 1, 1, 0, 0, 1]);
    expect(fds.map((fd) => fd.references)).toEqual([2, 2, 2, 1, 1, 2]);
  });
});
