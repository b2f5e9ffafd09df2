/**
 * The edu at 01:00.0 does DMA into BAR 2 of the device at 02:00.0, which is memory, by the way of
 * the first argument, and prints the bytes there.
 */
import { readdirSync } from 'node:fs';
import { RegionIndex } from '../../src/abi/vfio.ts';
import { EduDriver } from '../../src/drivers/edu/edu-driver.ts';
import { DriverDevice } from '../../src/drivers/kit/driver-device.ts';
import { KernelDevice } from '../../src/kernel/device.ts';
import { parseBdf } from '../../src/pci/bdf.ts';

const via = process.argv[2] as 'group' | 'cdev';
const files = () => readdirSync('/proc/self/fd').length;
const IOVA = 0x20_0000n;

async function story(): Promise<object> {
  const first = KernelDevice.open({ kind: 'pci', bdf: parseBdf('01:00.0') }, { via });
  using dev = DriverDevice.attach(first);
  using edu = new EduDriver(dev);
  const second = KernelDevice.open({ kind: 'pci', bdf: parseBdf('02:00.0') }, { with: first });
  using other = DriverDevice.attach(second);
  const bar = other.device.region(RegionIndex.BAR2).map(0x1000, 0x2000);
  bar.write32(0x1000, 0x8765_4321);
  const { space } = dev.dma;
  const peer = bar.peer!;
  space.map({ iova: IOVA, memory: peer });
  const references = peer.references;
  await edu.copyToDevice(IOVA + 0x1000n, 4);
  await edu.copyFromDevice(IOVA + 0x1ff0n, 4);
  const value = bar.read32(0x1ff0);
  bar[Symbol.dispose]();
  const kept = peer.references;
  space.unmap(IOVA, BigInt(peer.size));
  return { references, value, kept, left: peer.references };
}

const before = files();
const seen = await story();
console.log(JSON.stringify({ ...seen, leaked: files() - before }));
