/**
 * A driver's work on Linux's VFIO, in rounds, for each-fault.test.ts: in each round the machine
 * fails another one of its calls. Prints a line of JSON for each round.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { InterruptSink } from '../../src/abi/device.ts';
import { Feature, IrqIndex, RegionIndex } from '../../src/abi/vfio.ts';
import { VfioError } from '../../src/base/errno.ts';
import { KernelDevice } from '../../src/kernel/device.ts';
import { EventFd } from '../../src/sys/eventfd.ts';
import { KernelFile } from '../../src/sys/kernel-file.ts';
import { MARK_REQUEST, type Round } from './fault-rounds.ts';

const via = process.env.VIA as 'group' | 'cdev';
const [DEVICE, OTHER] = ['0000:01:00.0', '0000:02:00.0'];
const open = (bdf: string, more: object = {}) => KernelDevice.open({ kind: 'pci', bdf }, { via, ...more });
/** A sink that is no eventfd. */
const sink: InterruptSink = { signal: () => {}, get: () => sink, put: () => {} };

function story(): void {
  using device = open(DEVICE);
  using other = open(OTHER, { with: device });
  device.region(RegionIndex.CONFIG).write16(4, 6);
  const region = device.region(0);
  region.write32(4, 0);
  region.read(0, new Uint8Array(16));
  {
    using mapping = region.map();
    mapping.read32(0);
  }
  using fd = EventFd.create();
  device.irq(IrqIndex.ERR);
  device.setIrqs({ index: IrqIndex.INTX, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] });
  device.setIrqs({ index: IrqIndex.INTX, start: 0, count: 1, action: 'unmask', data: 'sinks', sources: [fd] });
  device.setIrqs({ index: IrqIndex.INTX, start: 0, count: 1, action: 'mask', data: 'none' });
  device.setIrqs({ index: IrqIndex.INTX, start: 0, count: 0, action: 'trigger', data: 'none' });
  device.setIrqs({ index: IrqIndex.MSI, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [fd] });
  device.on(() => {}, ['gone'])[Symbol.dispose]();
  {
    using memory = device.dma.allocate(8192);
    device.dma.map({ iova: 0x10_0000n, memory });
    other.dma.map({ iova: 0x20_0000n, memory, size: 4096 });
    other.dma.unmap(0x20_0000n, 4096n);
    device.dma.unmapAll();
  }
  device.feature({ feature: Feature.DMA_BUF, probe: true, get: true });
  device.lowPower.enterWithWakeup(sink);
  device.lowPower.exit();
  device.dmaLogging.start([{ iova: 0n, length: 4096n }], 4096n);
  device.dmaLogging.report({ iova: 0n, length: 4096n, pageSize: 4096n, bitmap: new Uint8Array(8) });
  device.dmaLogging.stop();
  device.migration.setState(1);
  using stream = device.migration.setState(3)!;
  const data = new Uint8Array(8192);
  const piece = data.subarray(0, stream.read(data));
  using into = device.migration.setState(4)!;
  into.write(piece);
  device.migration.setState(2);
  device.hotResetInfo();
  device.resetBus([other]);
  device.reset();
}

/** Memory of files that this process maps: DMA memory, registers. */
const mappings = () =>
  readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('/memfd:')).length;

function round(): Round {
  const before = { descriptors: readdirSync('/proc/self/fd').length, mappings: mappings() };
  let error: unknown = null;
  try {
    story();
  } catch (thrown) {
    error = thrown;
  }
  const after = { descriptors: readdirSync('/proc/self/fd').length, mappings: mappings() };
  const left = { descriptors: after.descriptors - before.descriptors, mappings: after.mappings - before.mappings };
  if (error === null) return { left, error: null };
  if (!(error instanceof VfioError)) return { left, error: { code: 'none', text: String((error as Error).stack), fix: '' } };
  return { left, error: { code: error.code, text: error.message, fix: error.fix ?? '' } };
}

using marks = KernelFile.open('/dev/iommu');
while (marks.ioctl(MARK_REQUEST, new Uint8Array(16)) !== -28) process.stdout.write(`${JSON.stringify(round())}\n`);
