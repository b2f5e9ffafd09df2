/**
 * The subject of the NVMe driver's cases: a controller behind any implementation of `Device`,
 * opened any number of times, one after another.
 */
import { onTestFinished } from 'vitest';
import { VfioError } from '../../../src/base/errno.ts';
import type { DriverDevice } from '../../../src/drivers/kit/driver-device.ts';
import { NvmeDriver, type NvmeDriverOptions } from '../../../src/drivers/nvme/nvme-driver.ts';

export interface NvmeSubject extends AsyncDisposable {
  /** The device of `disk.ts`, as after power-on or as the last user left it. */
  open(): DriverDevice;
  /** The driver can map the doorbells, and so is offered no shadows of them. */
  readonly mappedDoorbells?: boolean;
  /** Take the device away from its user. Absent where the subject cannot. */
  unplug?(): Promise<void>;
}

export type OpenNvme = () => Promise<NvmeSubject>;

/** A subject of its own and a driver on it, both closed when the test has ended. */
export async function begin(open: OpenNvme, options: NvmeDriverOptions = {}): Promise<{ subject: NvmeSubject; driver: NvmeDriver }> {
  const subject = await open();
  onTestFinished(() => subject[Symbol.asyncDispose]());
  return { subject, driver: await drive(subject, options) };
}

export async function drive(subject: NvmeSubject, options: NvmeDriverOptions = {}): Promise<NvmeDriver> {
  // Where a timeout is not the subject, a command may take as long as the machine needs.
  const driver = await NvmeDriver.start(subject.open(), { timeoutMs: 120_000, ...options });
  onTestFinished(() => driver.close());
  return driver;
}

export function failure(work: Promise<unknown>): Promise<VfioError> {
  return work.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => {
      if (error instanceof VfioError) return error;
      throw error;
    },
  );
}

/** Bytes that show their position. */
export function pattern(size: number, seed: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(size / 4));
  let state = (seed * 0x9e37_79b9) >>> 0;
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    words[i] = state;
  }
  return new Uint8Array(words.buffer, 0, size);
}

/** Megabytes are compared as buffers: `toEqual` takes seconds for them. */
export function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
