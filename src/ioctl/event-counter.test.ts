import { describe, expect, it } from 'vitest';
import { EventCounter } from './event-counter.ts';

describe('EventCounter', () => {
  it('S2-08 signals and writes add up; taking gives all of it once', () => {
    const counter = new EventCounter(2);
    counter.signal();
    counter.write(5n);
    expect([counter.readable, counter.take(), counter.readable]).toEqual([true, 8n, false]);
    expect(() => counter.take()).toThrow(expect.objectContaining({ code: 'EAGAIN' }));
  });

  it('S2-08 the counter ends at 2^64-2: a write that would pass it is EAGAIN, 2^64-1 is EINVAL, a signal is dropped', () => {
    const counter = new EventCounter(0);
    counter.write(2n ** 64n - 2n);
    expect(() => counter.write(1n)).toThrow(expect.objectContaining({ code: 'EAGAIN' }));
    expect(() => counter.write(2n ** 64n - 1n)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    counter.signal();
    expect(counter.take()).toBe(2n ** 64n - 2n);
  });

  it('B.9 INTX UNMASK eventfd: the listener takes the count at each signal, until disposed', () => {
    const counter = new EventCounter(0);
    let told = 0;
    const listening = counter.listen(() => told++);
    counter.signal();
    counter.write(3n);
    expect([told, counter.readable]).toEqual([2, false]);
    listening[Symbol.dispose]();
    counter.signal();
    expect([told, counter.take()]).toEqual([2, 1n]);
  });

  it('B.9 INTX UNMASK eventfd: one that is signalled already calls its listener at once', () => {
    const counter = new EventCounter(1);
    let told = 0;
    using _listening = counter.listen(() => told++);
    expect(told).toBe(1);
  });

  it('B.9 one eventfd as sink and source of a stuck line does not run away', () => {
    const counter = new EventCounter(0);
    let told = 0;
    using _listening = counter.listen(() => {
      told++;
      counter.signal();
    });
    counter.signal();
    expect([told, counter.value]).toEqual([1, 1n]);
  });

  it('B.9 after the last descriptor is closed no listener is called any more', () => {
    const counter = new EventCounter(0);
    let told = 0;
    using _listening = counter.listen(() => told++);
    counter.hangUp();
    counter.signal();
    expect([told, counter.listeners]).toEqual([0, 0]);
  });
});
