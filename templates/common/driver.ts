// A driver of the timer. It runs on the model, behind a socket and in a test.
import { type DriverDevice, open } from 'vfio-ts';
import { Timer } from './device.ts';

/** Wait for `delayMs` on the card. Resolves to the number of times that the timer has fired. */
export async function waitOnCard(dev: DriverDevice, delayMs: number): Promise<number> {
  const timer = dev.bar(0, Timer);
  using irq = dev.msi.enable(1); // disabled at the end of the block
  timer.delayMs = delayMs;
  timer.start = 1;
  await irq.next(0, { timeoutMs: delayMs + 5000 });
  return timer.fired;
}

/** `vfio run driver.ts ADDRESS` calls it. */
export async function main(address: string): Promise<void> {
  using dev = await open(address, { match: '1234:c10c' });
  dev.busMaster = true; // interrupts are writes of the card, too
  console.log(`the timer has fired: ${await waitOnCard(dev, 100)}`);
}
