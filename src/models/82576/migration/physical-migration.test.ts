import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CardRig } from '../../../../tests/kit/82576/card-rig.ts';
import { errnoFrom } from '../../../../tests/kit/errno.ts';
import { Ctrl, Eitr, Gpie, Icr, Ivar, Reg, Status } from '../../../abi/82576.ts';
import { Phy } from '../../../abi/82576-phy.ts';
import { Stat } from '../../../abi/82576-statistics.ts';
import { decodePlain, encodePlain } from '../../kit/plain-data.ts';
import { TestHost, type TestHostOptions } from '../../kit/test-host.ts';
import { NEGOTIATION_MS } from '../phy/link.ts';
import { STATE_VERSION } from './physical-migration.ts';

function save(card: CardRig): Uint8Array {
  card.model.migration.stop();
  return card.model.migration.save();
}

function load(state: Uint8Array, options: TestHostOptions = {}): CardRig {
  const card = new CardRig(options);
  card.wire.carrier(true);
  card.model.migration.stop();
  card.model.reset();
  card.model.migration.load(state, STATE_VERSION);
  return card;
}

const moved = (card: CardRig, options: TestHostOptions = {}) => {
  const there = load(save(card), options);
  there.model.migration.start();
  return there;
};

function linked(options: TestHostOptions = {}): CardRig {
  const card = new CardRig(options);
  card.write(Reg.CTRL, card.read(Reg.CTRL) | Ctrl.SLU);
  card.wire.carrier(true);
  card.host.clock.advance(NEGOTIATION_MS);
  return card;
}

describe('B.11 what goes along with an 82576', () => {
  it('B.11 registers, counters, the PHY, the EEPROM, and the link, which stays up', () => {
    const card = linked({ mode: 'intx' });
    card.write(Reg.VFTA + 4, 0x1234);
    card.write(Reg.RDBAL, 0x8000);
    card.model.card.statistics.count(Stat.MPC, 7);
    card.phy(Phy.PCONF, 0x77);
    card.model.card.eeprom.contents[0x50] = 0xabcd;
    const there = moved(card);
    expect([there.read(Reg.VFTA + 4), there.read(Reg.RDBAL), there.read(Stat.MPC), there.phy(Phy.PCONF), there.word(0x50)]).toEqual([
      0x1234, 0x8000, 7, 0x77, 0xabcd,
    ]);
    expect(there.read(Reg.STATUS) & Status.LU).toBe(Status.LU);
  });

  it('B.11 the register that the window in I/O space reaches', () => {
    const card = linked();
    card.model.write(2, 0, 4, Reg.VFTA + 4);
    const there = moved(card);
    there.model.write(2, 4, 4, 0x1234);
    expect([there.model.read(2, 0, 4), there.read(Reg.VFTA + 4)]).toEqual([Reg.VFTA + 4, 0x1234]);
  });

  it('B.11 a link that the target does not have goes down, and a cause says so', () => {
    const card = linked({ mode: 'intx' });
    card.read(Reg.ICR);
    const state = save(card);
    const there = new CardRig({ mode: 'intx' });
    there.model.migration.stop();
    there.model.reset();
    there.model.migration.load(state, STATE_VERSION);
    there.model.migration.start();
    expect([there.read(Reg.STATUS) & Status.LU, there.read(Reg.ICS) & Icr.LSC]).toEqual([0, Icr.LSC]);
  });

  it('B.11 the time of the port goes on where it was', () => {
    const card = linked();
    card.write(Reg.TIMINCA, (1 << 24) | (16 << 19));
    card.write(Reg.SYSTIMH, 0x1000);
    card.host.clock.advance(500);
    const there = moved(card);
    there.host.clock.advance(500);
    there.read(Reg.SYSTIML);
    // A second in units of 2^-19 ns, on top of 0x1000 << 32.
    expect(there.read(Reg.SYSTIMH) - 0x1000).toBe(Math.floor((1e9 * 2 ** 19) / 2 ** 32));
  });

  it('B.11 a message that waits for its interval is sent by the target, after what is left of it', () => {
    const card = linked({ mode: 'msix', vectors: 10 });
    card.write(Reg.GPIE, Gpie.MULTIPLE_MSIX);
    card.write(Reg.IVAR0, Ivar.VALID | 1);
    card.write(Reg.EIAC, 2);
    card.write(Reg.EIMS, 2);
    card.write(Reg.EITR + 4, 1000 << Eitr.INTERVAL_SHIFT);
    card.model.card.interrupts.received(0);
    card.model.card.interrupts.received(0);
    card.host.clock.advance(0.4);
    const there = moved(card, { mode: 'msix', vectors: 10 });
    there.host.clock.advance(0.59);
    expect(there.irqs()).toEqual([]);
    there.host.clock.advance(0.02);
    expect([there.irqs(), card.irqs()]).toEqual([['trigger 1'], ['trigger 1']]);
  });

  it('B.11 the pin stays asserted, and falls when its cause is cleared', () => {
    const card = linked({ mode: 'intx' });
    card.write(Reg.IMS, Icr.LSC);
    const there = moved(card, { mode: 'intx' });
    expect(there.irqs()).toEqual(['raise']);
    there.read(Reg.ICR);
    expect(there.irqs()).toEqual(['lower']);
  });

  it('B.11 the TCP timer goes on with what is left', () => {
    const card = linked({ mode: 'intx' });
    card.write(Reg.TCPTIMER, 0x300 | 100);
    card.host.clock.advance(60);
    const there = moved(card, { mode: 'intx' });
    card.host.clock.advance(100);
    there.host.clock.advance(39);
    expect(there.read(Reg.TCPTIMER) & 0x400).toBe(0);
    there.host.clock.advance(1);
    expect([there.read(Reg.TCPTIMER) & 0x400, card.read(Reg.TCPTIMER) & 0x400]).toEqual([0x400, 0]);
  });
});

describe('B.11 stop and start', () => {
  it('B.11 while it is stopped no interrupt leaves, and causes are kept', () => {
    const card = linked({ mode: 'intx' });
    card.read(Reg.ICR);
    card.model.migration.stop();
    card.write(Reg.IMS, Icr.RXO);
    card.write(Reg.ICS, Icr.RXO);
    card.wire.carrier(false);
    expect(card.irqs()).toEqual([]);
    card.model.migration.start();
    expect([card.irqs(), card.read(Reg.ICS) & Icr.LSC]).toEqual([['raise'], Icr.LSC]);
  });

  it('B.11 a card with virtual functions is not saved, and none arrives over one', () => {
    const state = save(linked());
    const card = linked();
    card.model.card.attach(0, new TestHost());
    card.model.migration.stop();
    expect(errnoFrom(() => card.model.migration.save())).toBe('EBUSY');
    expect(() => card.model.migration.load(state, STATE_VERSION)).toThrow(/has 1 virtual functions/);
  });
});

describe('B.11 wrong state', () => {
  it('B.11 another version is refused', () => {
    expect(errnoFrom(() => linked().model.migration.load(new Uint8Array(), 2))).toBe('EINVAL');
  });

  it('B.11 a state without one of its fields is refused', () => {
    const whole = decodePlain(save(linked())) as Record<string, unknown>;
    for (const name of Object.keys(whole)) {
      const { [name]: _, ...rest } = whole;
      expect(errnoFrom(() => load(encodePlain(rest)))).toBe('EINVAL');
    }
  });

  it('B.11 any words of registers are taken, and the card still answers', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(0x1_0000), fc.nat(0xffff_ffff)), { maxLength: 50 }), (words) => {
        const whole = decodePlain(save(linked())) as Record<string, unknown>;
        const card = load(
          encodePlain({ ...whole, at: Uint32Array.from(words, ([at]) => at), words: Uint32Array.from(words, ([, value]) => value) }),
        );
        card.model.migration.start();
        card.host.clock.advance(1000);
        card.model.reset();
        expect(card.read(Reg.STATUS) & Status.GIO_MASTER_EN).toBe(Status.GIO_MASTER_EN);
      }),
      { numRuns: 30 },
    );
  });
});
