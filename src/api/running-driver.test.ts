import { afterEach, expect, it, vi } from 'vitest';
import { EventStream } from '../events/stream.ts';
import { duringRun, runEvents, runSignal } from './running-driver.ts';

const EVENTS = Symbol.for('vfio-ts.running-driver-events');
const shared = globalThis as { [EVENTS]?: { version: string; stream: EventStream } | null };
afterEach(() => {
  shared[EVENTS] = null;
  vi.restoreAllMocks();
});

it('a driver has signal and stream while it runs', async () => {
  const stream = new EventStream();
  const { signal } = new AbortController();
  expect([runSignal(), runEvents()]).toEqual([null, null]);
  await duringRun(signal, stream, async () => {
    expect([runSignal() === signal, runEvents() === stream]).toEqual([true, true]);
    await duringRun(signal, null, async () => expect(runEvents()).toBe(null));
    expect(runEvents() === stream).toBe(true);
  });
  expect([runSignal(), runEvents()]).toEqual([null, null]);
});

it('a copy of another version leaves the stream alone, and warns', () => {
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  shared[EVENTS] = { version: '99.0.0', stream: new EventStream() };
  expect(runEvents()).toBe(null);
  expect(warned).toHaveBeenCalledWith(expect.stringContaining('99.0.0'), expect.anything());
});
