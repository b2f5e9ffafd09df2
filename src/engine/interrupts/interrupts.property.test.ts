/**
 * Random sequences of SET_IRQS, good and bad, with interrupts flowing between them, against a model
 * of the matrix (B.9). After every step: same answer, same errno, every eventfd signalled as often
 * and referenced as often as the model says.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { call, Model, part, perform, performOnModel, SINKS, SOURCES, type Step, step } from '../../../tests/kit/interrupt-model.ts';
import { eventfds, everything, InterruptRig } from '../../../tests/kit/interrupt-rig.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';

function answerOf(act: () => number): string | number {
  let value = 0;
  const errno = errnoFrom(() => {
    value = act();
  });
  return errno === 'none' ? value : errno;
}

function follows(declaration: PciDeclaration, steps: readonly Step[], limit: number): void {
  const rig = new InterruptRig(declaration, { maxVectors: () => limit });
  const model = new Model(limit);
  const sinks = eventfds(SINKS);
  const sources = eventfds(SOURCES);
  // One comparison a step: many `expect`s would take most of the time.
  const actual = () => [
    rig.interrupts.type,
    rig.interrupts.intxMasked,
    ...sinks.flatMap((fd) => [fd.count, fd.references]),
    ...sources.map((fd) => fd.references),
  ];
  for (const s of steps) {
    if (s.kind === 'set') {
      const answer = answerOf(() => rig.set(s.call.index, part(s.call, sinks, sources)));
      const expected = model.answer(s.call);
      if (answer !== expected) expect.fail(`answered ${answer}, the matrix says ${expected}: ${JSON.stringify(s.call)}`);
    } else {
      perform(rig, s, sources);
      performOnModel(model, s);
    }
    const got = JSON.stringify(actual());
    if (got !== JSON.stringify(model.state())) expect(actual()).toEqual(model.state());
  }
  rig.interrupts.disableAll();
  const counts = sinks.map((fd) => fd.count);
  rig.host.raise();
  for (let vector = 0; vector < 8; vector++) rig.host.trigger(vector);
  for (const source of sources) source.signal();
  expect(sinks.map((fd) => fd.count)).toEqual(counts);
  expect([...sinks, ...sources].every((fd) => fd.references === 1)).toBe(true);
}

const limits = fc.constantFrom(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 0, 1, 3);

describe('B.9 properties', () => {
  it('B.9 INTX TRIGGER, MSI, MSIX, ERR and REQ: any sequence answers and delivers as the matrix says', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40, size: 'max' }), limits, (steps, limit) => follows(everything, steps, limit)),
      { numRuns: 2000 },
    );
  });

  it('S2-12 any sequence on a device without COMMAND.InterruptDisable gives the user the same', () => {
    const old = { ...everything, interruptDisable: false };
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40, size: 'max' }), limits, (steps, limit) => follows(old, steps, limit)),
      { numRuns: 1000 },
    );
  });

  it('S2-27 whichever step is made to fail, every reference comes back', () => {
    const names = ['irq.intx.allocate', 'irq.intx.request', 'irq.unmask.arm', 'irq.vectors.allocate', 'irq.vectors.enable'];
    const failing = fc.record({
      name: fc.constantFrom(...names, 'irq.vector.allocate', 'irq.vector.request', 'irq.notify.set'),
      skip: fc.nat({ max: 3 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40, size: 'max' }), fc.array(failing, { minLength: 1, maxLength: 4 }), (steps, plan) => {
        const rig = new InterruptRig();
        const sinks = eventfds(SINKS);
        const sources = eventfds(SOURCES);
        for (const { name, skip } of plan) rig.faults.failNext(name, 'ENOMEM', skip);
        for (const s of steps) {
          if (s.kind === 'set') errnoFrom(() => rig.set(s.call.index, part(s.call, sinks, sources)));
          else perform(rig, s, sources);
          // The hardware is enabled exactly while VFIO has a type enabled.
          expect(rig.host.mode).toBe(rig.interrupts.type === 'none' ? 'intx' : rig.interrupts.type);
          expect(rig.host.listener === null).toBe(rig.interrupts.type === 'none');
        }
        rig.interrupts.disableAll();
        expect([...sinks, ...sources].map((fd) => fd.references)).toEqual([...sinks, ...sources].map(() => 1));
      }),
      { numRuns: 1000 },
    );
  });

  it('S2-24 a refused request leaves the device as it was', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20, size: 'max' }), call, (steps, last) => {
        const rig = new InterruptRig();
        const sinks = eventfds(SINKS);
        const sources = eventfds(SOURCES);
        for (const s of steps) {
          if (s.kind === 'set') errnoFrom(() => rig.set(s.call.index, part(s.call, sinks, sources)));
          else perform(rig, s, sources);
        }
        const state = () => {
          const table = Array.from({ length: 32 }, (_, i) => rig.msix!.read(0, 0x2000 + 4 * i, 4));
          const fds = [...sinks, ...sources].map((fd) => [fd.count, fd.references]);
          return JSON.stringify([rig.interrupts.type, table, fds, Buffer.from(rig.config.bytes).toString('latin1')]);
        };
        const before = state();
        if (errnoFrom(() => rig.set(last.index, part(last, sinks, sources))) !== 'none') expect(state()).toBe(before);
        rig.interrupts.disableAll();
      }),
      { numRuns: 1000 },
    );
  });
});
