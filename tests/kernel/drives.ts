/**
 * Drives edu devices by `open`: two that share memory, one without an IOMMU. The first argument
 * says which, the others are addresses.
 */
import { readdirSync } from 'node:fs';
import { type OpenOptions, open } from '../../src/api/open.ts';
import { VfioError } from '../../src/base/errno.ts';
import { EduDriver } from '../../src/drivers/edu/edu-driver.ts';

const TEXT = new TextEncoder().encode('from one device to another');
const lines: string[] = [];
const log = { log: (level: string, message: string) => void (level === 'debug' || lines.push(`${level}: ${message}`)) };
const files = () => readdirSync('/proc/self/fd').length;

async function errorOf(act: () => unknown): Promise<string> {
  try {
    await act();
    return 'no error';
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    return error.explain();
  }
}

/** Bytes go through one buffer from one device to the other. */
async function shared(addresses: readonly string[]): Promise<object> {
  const [first, second] = addresses as [string, string];
  const a = await open(first, { log });
  using b = await open(second, { log, with: a });
  const one = new EduDriver(a);
  using two = new EduDriver(b);
  using buffer = a.dma.alloc(4096, { addressBits: 28 });
  buffer.bytes.set(TEXT);
  await one.copyToDevice(buffer.iova, TEXT.length);
  buffer.bytes.fill(0);
  one[Symbol.dispose]();
  a.close();
  const owned = b.dma.owns(buffer);
  buffer.bytes.set(TEXT);
  await two.copyToDevice(buffer.iova, TEXT.length);
  buffer.bytes.fill(0);
  await two.copyFromDevice(buffer.iova, TEXT.length);
  return { same: a.dma === b.dma, owned, text: new TextDecoder().decode(buffer.bytes.subarray(0, TEXT.length)) };
}

async function noIommu([address]: readonly string[]): Promise<object> {
  const ways: OpenOptions[] = [{}, { unsafeNoIommu: true, via: 'group' }];
  const refused = await errorOf(() => open(address!, { log, ...ways[0] }));
  let group: string;
  {
    using byGroup = await open(address!, { log, ...ways[1] });
    group = await errorOf(() => byGroup.dma.alloc(4096));
  }
  using dev = await open(address!, { log, unsafeNoIommu: true });
  using edu = new EduDriver(dev, { addressBits: 64 });
  using buffer = dev.dma.alloc(4096);
  buffer.bytes.set(TEXT);
  await edu.copyToDevice(buffer.iova, TEXT.length);
  buffer.bytes.fill(0);
  await edu.copyFromDevice(buffer.iova, TEXT.length);
  using large = dev.dma.alloc(16384);
  large.bytes.set(TEXT, 12000);
  await edu.copyToDevice(large.iova + 12000n, TEXT.length);
  buffer.bytes.fill(0);
  await edu.copyFromDevice(buffer.iova, TEXT.length);
  const chosen = await errorOf(() => dev.dma.alloc(4096, { iova: 0x10_0000n }));
  const text = new TextDecoder().decode(buffer.bytes.subarray(0, TEXT.length));
  buffer[Symbol.dispose]();
  return { refused, group, chosen, text, references: buffer.memory.references };
}

const [story, ...addresses] = process.argv.slice(2);
const before = files();
const told = story === 'shared' ? await shared(addresses) : await noIommu(addresses);
console.log(JSON.stringify({ ...told, leaked: files() - before, lines }));
