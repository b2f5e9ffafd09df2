// The device by itself, in virtual time: no test waits.

import { TestHost } from 'vfio-ts';
import { expect, it } from 'vitest';
import device, { Timer } from './device.ts';

it('interrupts when the time has passed, not before', async () => {
  const host = new TestHost();
  host.plug(device);
  const timer = host.bar(0, Timer);
  timer.delayMs = 1000;
  timer.start = 1;
  await host.advance(999);
  expect([host.irqEvents, timer.fired]).toEqual([[], 0]);
  await host.advance(1);
  expect([host.irqEvents, timer.fired]).toEqual([['trigger 0'], 1]);
});
