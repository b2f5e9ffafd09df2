/** A driver on a scripted controller, and a manual clock. */
import { ManualClock } from '../../../src/base/clock.ts';
import { VfioError } from '../../../src/base/errno.ts';
import { DriverDevice } from '../../../src/drivers/kit/driver-device.ts';
import { NvmeDriver, type NvmeDriverOptions } from '../../../src/drivers/nvme/nvme-driver.ts';
import type { FakeController } from './fake-controller.ts';

export const clock = new ManualClock();
const opened: NvmeDriver[] = [];

/** After each test: closes its drivers, and throws when one of them still waits for something. */
export function closeAll(): void {
  for (const driver of opened.splice(0)) driver[Symbol.dispose]();
  if (clock.pendingTimers > 0) throw new Error(`${clock.pendingTimers} timers of closed drivers are left`);
}

/** Let promises and turns of the event loop pass. */
async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** Let `ms` of the clock pass, in steps. */
export async function pass(ms = 0): Promise<void> {
  await settle();
  for (let at = 0; at < ms; at += 100) {
    clock.advance(100);
    await settle();
  }
}

/** The result of what takes up to `ms` of the clock. */
export async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let ended = false;
  const end = () => {
    ended = true;
  };
  work.then(end, end);
  for (let at = 0; at <= ms && !ended; at += 50) {
    await settle();
    if (!ended) clock.advance(50);
  }
  if (!ended) throw new Error(`nothing happened within ${ms} ms`);
  return work;
}

/** Closed at the end of the test. */
export async function start(fake: FakeController, options: NvmeDriverOptions = {}): Promise<NvmeDriver> {
  const driver = await within(60_000, NvmeDriver.start(DriverDevice.attach(fake, { clock }), { timeoutMs: 1000, ...options }));
  opened.push(driver);
  return driver;
}

export function failsWith(work: Promise<unknown>): Promise<VfioError> {
  return work.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => {
      if (!(error instanceof VfioError)) throw error;
      return error;
    },
  );
}

export const bytes = (size: number, seed = 1) => Uint8Array.from({ length: size }, (_, i) => (i * 7 + seed * 13 + (i >> 8)) & 0xff);
