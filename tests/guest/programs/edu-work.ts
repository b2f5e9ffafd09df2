/**
 * A driver for `vfio run` in a guest, with QEMU's edu: `once` uses the device in all ways and ends,
 * `on` works until the driver is ended. It prints facts.
 */
import { type DriverContext, EduDriver, open } from 'vfio-ts/driver';

/** A guest without acceleration that has other work too. */
const TIMEOUT_MS = 120_000;
const SIZE = 4096;

export async function main(address: string, { args }: DriverContext): Promise<void> {
  const [subject = 'edu', how = 'once'] = args;
  const fact = (key: string, value: unknown) => console.log(`@ ${subject} ${key} ${value}`);
  if (how === 'on') return await workOn(address, fact);
  for (const interrupts of ['msi', 'intx', 'poll'] as const) {
    using dev = await open(address, { match: EduDriver.ids });
    using edu = new EduDriver(dev, { interrupts, timeoutMs: TIMEOUT_MS });
    fact(`${interrupts}.factorial`, await edu.factorial(10));
    fact(`${interrupts}.copy`, await copies(edu, 7));
  }
}

async function workOn(address: string, fact: (key: string, value: unknown) => void): Promise<void> {
  using dev = await open(address, { match: EduDriver.ids });
  using edu = new EduDriver(dev, { timeoutMs: TIMEOUT_MS });
  for (let round = 0; ; round++) {
    const copy = await copies(edu, round & 0xff);
    if (copy !== 'equal') fact('work.copy', copy);
    await edu.factorial(10);
    if (round === 3) fact('working', 'yes');
  }
}

/** Memory to the device's buffer, and back to other memory. */
async function copies(edu: EduDriver, seed: number): Promise<string> {
  using from = edu.alloc(SIZE);
  using to = edu.alloc(SIZE);
  for (let i = 0; i < SIZE; i++) from.bytes[i] = (i * 31 + seed) & 0xff;
  await edu.copyToDevice(from.iova, SIZE);
  await edu.copyFromDevice(to.iova, SIZE);
  return Buffer.compare(from.bytes, to.bytes) === 0 ? 'equal' : 'different';
}
