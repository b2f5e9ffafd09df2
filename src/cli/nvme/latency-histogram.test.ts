import fc from 'fast-check';
import { expect, it } from 'vitest';
import { LatencyHistogram } from './latency-histogram.ts';

function of(values: readonly number[]): LatencyHistogram {
  const histogram = new LatencyHistogram();
  for (const value of values) histogram.record(value);
  return histogram;
}

it('gives percentiles that no true one exceeds, and that exceed it by a step of 1/64 at most', () => {
  const latency = fc.oneof(
    fc.integer({ min: 0, max: 200 }),
    fc.integer({ min: 0, max: 2 ** 31 }),
    fc.maxSafeNat().map((n) => n % 2 ** 42),
  );
  fc.assert(
    fc.property(fc.array(latency, { minLength: 1, maxLength: 200 }), fc.constantFrom(0.1, 50, 95, 99, 99.9, 100), (values, percent) => {
      const sorted = [...values].sort((a, b) => a - b);
      const truth = sorted[Math.max(Math.ceil((percent / 100) * values.length), 1) - 1]!;
      const told = of(values).percentile(percent);
      expect(told).toBeGreaterThanOrEqual(truth);
      expect(told).toBeLessThanOrEqual(truth + truth / 64);
    }),
  );
});

it('reports count, mean, least and most', () => {
  const histogram = of([10, 20, 60]);
  expect([histogram.count, histogram.mean, histogram.min, histogram.max]).toEqual([3, 30, 10, 60]);
});

it('has whole nanoseconds', () => {
  const histogram = new LatencyHistogram();
  histogram.record(22_502_042.000_000_12);
  expect([histogram.max, histogram.min, histogram.mean, histogram.percentile(99)]).toEqual(new Array(4).fill(22_502_042));
});

it('takes over another one, as if everything had been recorded in it', () => {
  const both = of([5, 1000, 123_456]);
  both.add(of([7, 99_999_999]));
  const whole = of([5, 1000, 123_456, 7, 99_999_999]);
  for (const percent of [1, 50, 80, 99, 100]) expect(both.percentile(percent)).toBe(whole.percentile(percent));
  expect([both.count, both.min, both.max, both.mean]).toEqual([whole.count, whole.min, whole.max, whole.mean]);
});

it('is empty before, and after clear', () => {
  const histogram = of([1, 2, 3]);
  histogram.clear();
  expect([histogram.count, histogram.min, histogram.max, histogram.mean, histogram.percentile(99)]).toEqual([0, 0, 0, 0, 0]);
});

it('counts what no clock should give at its ends', () => {
  const histogram = of([-5, Number.NaN, 2 ** 50]);
  expect([histogram.count, histogram.min, histogram.max]).toEqual([3, 0, 2 ** 42 - 1]);
});
