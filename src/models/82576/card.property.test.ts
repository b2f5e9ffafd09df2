import fc from 'fast-check';
import { expect, it } from 'vitest';
import { CardRig } from '../../../tests/kit/82576/card-rig.ts';
import { Ctrl, I82576_BAR_BYTES, Reg, Status } from '../../abi/82576.ts';
import type { Width } from '../../abi/device-host.ts';
import { TestHost } from '../kit/test-host.ts';
import { NEGOTIATION_MS } from './phy/link.ts';
import { VirtualFunction } from './virtual-function.ts';

const width = fc.constantFrom<Width>(1, 2, 4);
/** Half of the accesses hit registers that do something. */
const offset = fc.oneof(
  fc.nat(I82576_BAR_BYTES / 4 - 1).map((at) => at * 4),
  fc.constantFrom(...Object.values(Reg)),
);
const access = fc.record({
  bar: fc.constantFrom(0, 0, 0, 1, 2),
  offset,
  width,
  write: fc.boolean(),
  value: fc.oneof(fc.nat(0xffff_ffff), fc.constantFrom(0, 0xffff_ffff, 0x200_0000)),
});

it('house: no access throws, each answer fits its width, and after a reset the card is as new', () => {
  fc.assert(
    fc.property(fc.array(access, { maxLength: 200 }), fc.boolean(), (accesses, withVf) => {
      const card = new CardRig({ mode: 'msix', vectors: 10 });
      card.wire.carrier(true);
      using place = withVf
        ? {
            [Symbol.dispose]: (
              (vf) => () =>
                vf.dispose()
            )(new VirtualFunction(new TestHost(), card.model.card, 1)),
          }
        : null;
      for (const { bar, offset, width, write, value } of accesses) {
        const at = bar === 2 ? offset & 0x1c : offset;
        if (write) card.model.write(bar, at, width, value);
        else {
          const answer = card.model.read(bar, at, width);
          expect(answer >= 0 && answer < 2 ** (8 * width)).toBe(true);
        }
        card.wire.arrive(new Uint8Array(64));
      }
      card.host.clock.advance(1000);
      place?.[Symbol.dispose]();
      card.model.reset();
      const fresh = new CardRig();
      const { rows, words } = card.model.card.registers;
      const changed = rows.filter(({ offset, count = 1, stride = 4, alias }) => {
        const places = Array.from({ length: alias === undefined ? count : 0 }, (_, i) => (offset + i * stride) >>> 2);
        return places.some((at) => words[at] !== fresh.model.card.registers.words[at]);
      });
      // The link comes and goes with the wire, and VFLRE says that a function has gone.
      expect(changed.map(({ name }) => name).filter((name) => !['ICR', 'VFLRE', 'RAL', 'RAH', 'EICR'].includes(name))).toEqual([]);
    }),
    { numRuns: 60 },
  );
});

it('house: registers that the datasheet does not have read as 0 and take nothing', () => {
  const card = new CardRig();
  for (const at of [0x0500, 0x0d00, 0x7ffc, 0x1_9000, 0x1_fffc]) {
    card.write(at, 0xffff_ffff);
    expect(card.read(at)).toBe(0);
  }
});

it('8.1.2 IOADDR and IODATA reach the registers of BAR 0, and nothing past its end', () => {
  const card = new CardRig();
  const io = (address: number) => {
    card.model.write(2, 0, 4, address);
    return card.model.read(2, 4, 4);
  };
  expect([io(Reg.STATUS), card.model.read(2, 0, 4)]).toEqual([card.read(Reg.STATUS), Reg.STATUS]);
  card.model.write(2, 0, 4, Reg.LEDCTL);
  card.model.write(2, 4, 4, 0x40);
  expect(card.read(Reg.LEDCTL)).toBe(0x40);
  expect([io(I82576_BAR_BYTES), io(Reg.STATUS + 1)]).toEqual([0, 0]);
});

it('8.1 a read of a byte or a word is a part of the register, and a narrow write does nothing', () => {
  const card = new CardRig();
  card.write(Reg.LEDCTL, 0x0403_0201);
  expect([card.model.read(0, Reg.LEDCTL + 1, 1), card.model.read(0, Reg.LEDCTL + 2, 2)]).toEqual([2, 0x0403]);
  card.model.write(0, Reg.LEDCTL, 1, 0x40);
  expect(card.read(Reg.LEDCTL)).toBe(0x0403_0201);
});

it('8.7.1 the semaphore is free for its first reader, until it writes 0', () => {
  const card = new CardRig();
  expect([card.read(Reg.SWSM), card.read(Reg.SWSM)]).toEqual([0, 1]);
  card.write(Reg.SWSM, 0);
  expect(card.read(Reg.SWSM)).toBe(0);
});

it('4.2.1 a function-level reset negotiates the link anew, a software reset keeps it', () => {
  const card = new CardRig();
  card.write(Reg.CTRL, card.read(Reg.CTRL) | Ctrl.SLU);
  card.wire.carrier(true);
  card.host.clock.advance(NEGOTIATION_MS);
  const up = () => {
    card.write(Reg.CTRL, card.read(Reg.CTRL) | Ctrl.SLU);
    return (card.read(Reg.STATUS) & Status.LU) !== 0;
  };
  card.write(Reg.CTRL, card.read(Reg.CTRL) | Ctrl.RST);
  expect(up()).toBe(true);
  card.model.reset();
  expect(up()).toBe(false);
  card.host.clock.advance(NEGOTIATION_MS);
  expect(up()).toBe(true);
});

it('8.15.4 the TCP timer is a cause when it has counted down, once or in a loop', () => {
  const card = new CardRig({ mode: 'intx' });
  card.write(Reg.EIMS, 0x4000_0000);
  card.write(Reg.TCPTIMER, 0x300 | 5);
  card.host.clock.advance(5);
  expect([card.irqs(), card.read(Reg.TCPTIMER) & 0x400]).toEqual([['raise'], 0x400]);
  card.read(Reg.EICR);
  card.host.clock.advance(50);
  expect(card.irqs()).toEqual(['lower']);
  card.write(Reg.TCPTIMER, 0xb00 | 5);
  card.host.clock.advance(5);
  card.read(Reg.EICR);
  card.host.clock.advance(5);
  expect(card.irqs()).toEqual(['raise', 'lower', 'raise']);
});
