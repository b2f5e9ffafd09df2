// The driver on a model of its device, in virtual time: no test waits.

import { ManualClock, open } from 'vfio-ts';
import { expect, it } from 'vitest';
import device from './device.ts';
import { waitOnCard } from './driver.ts';

it('waits until the card has fired', async () => {
  const clock = new ManualClock();
  using dev = await open(device, { clock });
  dev.busMaster = true;
  const fired = waitOnCard(dev, 60_000);
  await clock.pass(60_000); // a minute, at once
  expect(await fired).toBe(1);
});

it('gives up when the card stays silent', async () => {
  const clock = new ManualClock();
  using dev = await open(device, { clock });
  // Without bus mastering the card cannot send its interrupt.
  const silent = expect(waitOnCard(dev, 1000)).rejects.toThrow(expect.objectContaining({ code: 'ETIMEDOUT' }));
  await clock.pass(6000);
  await silent;
});
