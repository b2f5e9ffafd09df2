import { expect, it } from 'vitest';
import { Patience } from './patience.ts';

function patience() {
  let now = 5;
  const sleep = (ms: number) => {
    now += ms;
  };
  return { patience: new Patience(1000, 0.1, () => now), sleep };
}

it('a wait takes from it, and may not take more than there is', () => {
  const { patience: left, sleep } = patience();
  left.during((ms) => {
    expect(ms).toBe(1000);
    sleep(300);
  });
  left.during((ms) => {
    expect(ms).toBe(700);
    sleep(900);
  });
  expect(left.leftMs).toBe(0);
});

it('it comes back with a share of the time that passes, up to what there was at first', () => {
  const { patience: left, sleep } = patience();
  left.during(sleep);
  sleep(2000);
  expect(left.leftMs).toBe(200);
  sleep(100_000);
  expect(left.leftMs).toBe(1000);
});
