/**
 * reaches-bars.ts WAY EDU OTHER: an edu, opened by group or cdev, does DMA into BAR 2 of another
 * device, which is memory. Prints what is there then.
 */
import { readdirSync } from 'node:fs';
import { RegionIndex } from '../../src/abi/vfio.ts';
import { EduDriver } from '../../src/drivers/edu/edu-driver.ts';
import { DriverDevice } from '../../src/drivers/kit/driver-device.ts';
import { KernelDevice } from '../../src/kernel/device.ts';
import { parseBdf } from '../../src/pci/bdf.ts';

const [way, edu = '', other = ''] = process.argv.slice(2);
const via = way as 'group' | 'cdev';
const files = () => readdirSync('/proc/self/fd').length;
const IOVA = 0x20_0000n;

async function story(): Promise<object> {
  const first = KernelDevice.open({ kind: 'pci', bdf: parseBdf(edu) }, { via });
  using dev = DriverDevice.attach(first);
  using driver = new EduDriver(dev);
  const second = KernelDevice.open({ kind: 'pci', bdf: parseBdf(other) }, { with: first });
  using target = DriverDevice.attach(second);
  const bar = target.device.region(RegionIndex.BAR2).map(0x1000, 0x2000);
  bar.write32(0x1000, 0x8765_4321);
  const { space } = dev.dma;
  const peer = bar.peer!;
  space.map({ iova: IOVA, memory: peer });
  const references = peer.references;
  await driver.copyToDevice(IOVA + 0x1000n, 4);
  await driver.copyFromDevice(IOVA + 0x1ff0n, 4);
  const value = bar.read32(0x1ff0);
  bar[Symbol.dispose]();
  const kept = peer.references;
  space.unmap(IOVA, BigInt(peer.size));
  return { references, value, kept, left: peer.references };
}

const before = files();
const seen = await story();
console.log(JSON.stringify({ ...seen, leaked: files() - before }));
