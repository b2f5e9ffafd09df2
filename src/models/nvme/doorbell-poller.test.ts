import { expect, it } from 'vitest';
import { ManualClock } from '../../base/clock.ts';
import { DoorbellPoller } from './doorbell-poller.ts';

/** A clock that notes delays. */
class NotingClock extends ManualClock {
  readonly delays: number[] = [];

  override after(delayMs: number, callback: () => void): Disposable {
    this.delays.push(delayMs);
    return super.after(delayMs, callback);
  }
}

function poller(look: (everywhere: boolean) => boolean) {
  const clock = new NotingClock();
  return { clock, poller: new DoorbellPoller(clock, look, (turn) => turn()) };
}

it('sleeps longer and longer while there is nothing, up to 10 ms, with one look a sleep', () => {
  let looks = 0;
  const { clock, poller: p } = poller(() => {
    looks++;
    return false;
  });
  p.start();
  clock.advance(10_000);
  const { delays } = clock;
  expect([...new Set(delays)]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  expect(delays.every((delay, i) => i === 0 || delay >= delays[i - 1]!)).toBe(true);
  [looks, delays.length] = [0, 0];
  clock.advance(1000);
  expect([looks, delays.length]).toEqual([100, 100]);
});

it('is eager again after it has found something', () => {
  let news = false;
  const { clock, poller: p } = poller(() => {
    const found = news;
    news = false;
    return found;
  });
  p.start();
  clock.advance(10_000);
  news = true;
  clock.delays.length = 0;
  clock.advance(10);
  expect(clock.delays[0]).toBe(0);
});

/**
 * A poller that finds something in `left` looks in a row. `find` makes it find, and gives the turns
 * without a sleep that follow.
 */
function eagerness() {
  let left = 0;
  const { clock, poller: p } = poller(() => left-- > 0);
  p.start();
  clock.advance(1000);
  const find = (looks = 1) => {
    left = looks;
    clock.delays.length = 0;
    clock.advance(1000);
    return clock.delays.filter((delay) => delay === 0).length;
  };
  return { find };
}

it('eagerness that finds nothing is half as long the next time, down to none, and is tried one time in eight', () => {
  const { find } = eagerness();
  expect(Array.from({ length: 7 }, () => find())).toEqual([64, 32, 16, 8, 4, 2, 1]);
  expect(Array.from({ length: 17 }, () => find())).toEqual([128, ...Array(7).fill(0), 128, ...Array(7).fill(0), 128]);
});

it('eagerness that finds something is whole the next time', () => {
  const { find } = eagerness();
  for (let i = 0; i < 9; i++) find();
  expect([find(), find(2)]).toEqual([0, 128]);
});

it.each([
  ['no other program', 1000, 128],
  // One turn more: the late reading ends a turn before there is something.
  ['other programs', 1e6, 1 + 64],
])('eagerness that finds something while %s had the processor', (_, gapNs, turns) => {
  // Found; three readings of the clock in vain, the last one late; found at once after that.
  const finds = new Set([0, 193]);
  let looks = 0;
  let readings = 0;
  let now = 0;
  const { clock, poller: p } = poller(() => finds.has(looks++));
  clock.nowNs = () => {
    readings++;
    now += readings === 3 ? gapNs : 1000;
    return now;
  };
  p.start();
  clock.delays.length = 0;
  clock.advance(0);
  expect(clock.delays.filter((delay) => delay === 0)).toHaveLength(turns);
});

it('a turn ends although there is always something, also when the clock stands still', () => {
  let looks = 0;
  const { clock, poller: p } = poller(() => {
    looks++;
    return true;
  });
  // The clock calls nothing by itself: each turn is one of ours.
  const turns: (() => void)[] = [];
  clock.after = (_, callback) => {
    turns.push(callback);
    return { [Symbol.dispose]: () => {} };
  };
  p.start();
  turns.shift()!();
  expect(looks).toBeLessThan(10_000);
  expect(turns).toHaveLength(1);
});

it('looks everywhere once a turn', () => {
  const wide: boolean[] = [];
  const { clock, poller: p } = poller((everywhere) => {
    wide.push(everywhere);
    return false;
  });
  p.start();
  clock.advance(0);
  const first = wide.indexOf(true, 1);
  expect(wide[0]).toBe(true);
  expect(first).toBeGreaterThan(1);
  expect(wide.slice(1, first)).not.toContain(true);
});

it.each([
  ['stopped within a look, it does not go on', (p: DoorbellPoller) => p.stop(), 0],
  ['stopped and started within a look, it has one timer', (p: DoorbellPoller) => [p.stop(), p.start()], 1],
])('%s', (_, act, timers) => {
  const rig = poller(() => {
    act(rig.poller);
    return true;
  });
  const turns: (() => void)[] = [];
  let waiting = 0;
  rig.clock.after = (_delay, callback) => {
    turns.push(callback);
    waiting++;
    return { [Symbol.dispose]: () => void waiting-- };
  };
  rig.poller.start();
  waiting--;
  turns.shift()!();
  expect(waiting).toBe(timers);
});
