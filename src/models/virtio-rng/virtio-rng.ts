/**
 * An entropy device of virtio 1: registers behind capabilities in config space, one split virtqueue
 * in the driver's memory, MSI-X. Linux's virtio_rng drives it.
 *
 * It offers VERSION_1 and ACCESS_PLATFORM: its addresses are those of its IOMMU. A driver of before
 * version 1 is refused. A queue that cannot be, or whose memory cannot be reached, stops the device
 * until the driver resets it (DEVICE_NEEDS_RESET).
 *
 * @see Virtual I/O Device (VIRTIO) Version 1.2: 2.7 split virtqueues, 4.1 virtio over PCI, 5.4
 *   entropy device
 */
import { randomFillSync } from 'node:crypto';
import { DmaFault } from '../../abi/device-host.ts';
import {
  VirtioCapType as CapType,
  VirtioFeatureHigh as FeatureHigh,
  VirtioIsr as Isr,
  VIRTIO_NO_VECTOR as NO_VECTOR,
  VirtioStatus as Status,
  VIRTIO_COMMON_BYTES,
  virtioCommon,
  virtioWindow,
} from '../../abi/virtio.ts';
import { registers, u8, u16 } from '../../base/registers.ts';
import { vendorSpecific } from '../../pci/capabilities.ts';
import type { DeviceModel } from '../../pci/declaration.ts';
import { bar } from '../kit/bar.ts';
import { configRegisters } from '../kit/config-registers.ts';
import { device } from '../kit/device.ts';
import type { Dev } from '../kit/device-spec.ts';
import {
  buffersOf,
  chainsAvailable,
  giveBack,
  nextHead,
  QueueError,
  type QueuePlace,
  type QueueProgress,
  wantsInterrupt,
} from './split-queue.ts';

/** Parts of BAR 4, a page each; the common configuration is the first. */
const ISR = 0x1000;
const DEVICE = 0x2000;
const NOTIFY = 0x3000;
const STRUCTURES_BAR = 4;
const STRUCTURES_BYTES = 0x4000;

/** BAR 4. */
export const VirtioRngRegisters = registers({ ...virtioCommon, isr: u8(ISR, 'ro'), notify: u16(NOTIFY, 'wo') });

/** Where the capability of the window begins in config space, and its registers. */
export const WINDOW = 0x84;
export const VirtioRngWindow = virtioWindow(WINDOW);

/** One vector for the queue, one for changes of the configuration. */
const VECTORS = 2;
const QUEUE_SIZE = 64;
/** Bytes that one chain gets at most: a driver asks again for more (5.4.6.1). */
const BYTES_MAX = 4096;
const OFFERED = FeatureHigh.VERSION_1 | FeatureHigh.ACCESS_PLATFORM;

/** One of virtio's capabilities, after its length byte (4.1.4). */
function locate(type: number, offset: number, length: number, at: number, extra: readonly number[] = []) {
  const body = new DataView(new ArrayBuffer(13 + extra.length));
  body.setUint8(0, type);
  body.setUint8(1, type === CapType.WINDOW ? 0 : STRUCTURES_BAR);
  body.setUint32(5, offset, true);
  body.setUint32(9, length, true);
  const bytes = new Uint8Array(body.buffer);
  bytes.set(extra, 13);
  return vendorSpecific(bytes, { at });
}

const queue0 = { when: (r: { readonly queueSelect: number }) => r.queueSelect === 0 };

const bar4 = bar(STRUCTURES_BYTES, VirtioRngRegisters, {
  configVector: { reset: NO_VECTOR },
  numQueues: { reset: 1 },
  queueSize: { ...queue0, reset: QUEUE_SIZE },
  queueVector: { ...queue0, reset: NO_VECTOR },
  queueEnable: queue0,
  queueDescriptors: queue0,
  queueDriver: queue0,
  queueDevice: queue0,
});
const config = configRegisters(VirtioRngWindow);

interface State extends QueueProgress {
  /** Accepted by the driver, by `driverFeatureSelect`. */
  features: number[];
}

/** Readers of events see one command for each chain of buffers. */
const commands = { fill: { descriptor: 'number', written: 'number' } } as const;

type Rng = Dev<{ bar4: typeof bar4 }, State, typeof config, object, typeof commands>;

/** The place of its random bytes. */
export interface VirtioRngOptions {
  /** Fills a buffer with random bytes. Default: those of `node:crypto`. */
  readonly source?: (into: Uint8Array) => void;
}

/** The entropy device of virtio. */
export function virtioRng({ source = (into) => void randomFillSync(into) }: VirtioRngOptions = {}): DeviceModel {
  return device({
    id: '1af4:1044',
    subsystem: '1af4:1100',
    name: 'virtio-rng',
    revision: 1,
    class: 'unclassified',
    intx: 'A',
    msix: VECTORS,
    bars: { bar4 },
    capabilities: [
      locate(CapType.COMMON, 0, VIRTIO_COMMON_BYTES, 0x40),
      // The multiplier is 0: the notification of every queue has the same place.
      locate(CapType.NOTIFY, NOTIFY, 4, 0x50, [0, 0, 0, 0]),
      locate(CapType.ISR, ISR, 1, 0x64),
      // An entropy device has no configuration. DPDK's driver takes no device without this one.
      locate(CapType.DEVICE, DEVICE, 4, 0x74),
      locate(CapType.WINDOW, 0, 0, WINDOW, [0, 0, 0, 0]),
    ],
    config,
    commands,
    state: (): State => ({ features: [0, 0], available: 0, used: 0 }),
    read: {
      'bar4.deviceFeature': ({ bar4 }) => (bar4.deviceFeatureSelect === 1 ? OFFERED : 0),
      'bar4.driverFeature': ({ bar4, state }) => state.features[bar4.driverFeatureSelect] ?? 0,
      'bar4.isr'({ bar4, irq }, pending) {
        bar4.isr = 0;
        irq.lower();
        return pending;
      },
      'config.data'(dev) {
        const { bar, offset, length } = dev.config;
        return isInWindow(bar, offset, length) ? dev.readBar(bar, offset, length as 1 | 2 | 4) : 0;
      },
    },
    on: {
      'bar4.driverFeature'({ bar4, state }, written) {
        const settled = (bar4.deviceStatus & Status.FEATURES_OK) !== 0;
        if (!settled && bar4.driverFeatureSelect < state.features.length) state.features[bar4.driverFeatureSelect] = written;
      },
      'bar4.deviceStatus'(dev, status, before) {
        if (status === 0) return dev.reset();
        const { bar4, state } = dev;
        const needsReset = before & Status.NEEDS_RESET;
        const written = status & ~Status.NEEDS_RESET;
        bar4.deviceStatus = (areTaken(state.features) ? written : written & ~Status.FEATURES_OK) | needsReset;
      },
      'bar4.configVector'({ bar4 }, vector) {
        if (vector >= VECTORS) bar4.configVector = NO_VECTOR;
      },
      'bar4.queueVector'({ bar4 }, vector) {
        if (vector >= VECTORS) bar4.queueVector = NO_VECTOR;
      },
      'bar4.queueSize'({ bar4 }, size, before) {
        if (size === 0 || size > QUEUE_SIZE || !Number.isInteger(Math.log2(size))) bar4.queueSize = before;
      },
      'bar4.notify': { serial: (dev) => notified(dev, source) },
      'config.data'(dev, written) {
        const { bar, offset, length } = dev.config;
        if (isInWindow(bar, offset, length)) dev.writeBar(bar, offset, length as 1 | 2 | 4, written);
      },
    },
    migration: true,
  });
}

/**
 * The driver has made chains available. Serves those that are there now: later ones have a
 * notification of their own.
 */
async function notified(dev: Rng, source: (into: Uint8Array) => void): Promise<void> {
  const { bar4, dma, state } = dev;
  if ((bar4.deviceStatus & (Status.DRIVER_OK | Status.NEEDS_RESET)) !== Status.DRIVER_OK || bar4.queueEnable !== 1) return;
  const { queueSize: size, queueDescriptors: descriptors, queueDriver: driver, queueDevice: device } = bar4;
  const place: QueuePlace = { size, descriptors, driver, device };
  try {
    const count = await chainsAvailable(dma, place, state);
    for (let i = 0; i < count; i++) {
      const head = await nextHead(dma, place, state);
      const command = dev.begin('fill', { descriptor: head });
      const written = await fill(dev, place, head, source);
      await giveBack(dma, place, state, head, written);
      command.end('ok', { written });
    }
    if (count > 0 && (await wantsInterrupt(dma, place))) interrupt(dev, bar4.queueVector, Isr.QUEUE);
  } catch (error) {
    if (!(error instanceof QueueError || error instanceof DmaFault)) throw error;
    dev.log.log('warn', `the queue cannot be used, and the device needs a reset: ${error.message}`);
    bar4.deviceStatus |= Status.NEEDS_RESET;
    interrupt(dev, bar4.configVector, Isr.CONFIG);
  }
}

/** Fills the buffers of a chain. @returns bytes written */
async function fill({ dma }: Rng, place: QueuePlace, head: number, source: (into: Uint8Array) => void): Promise<number> {
  let written = 0;
  for await (const buffer of buffersOf(dma, place, head)) {
    if (!buffer.writable || written === BYTES_MAX) continue;
    const into = new Uint8Array(Math.min(buffer.size, BYTES_MAX - written));
    source(into);
    await dma.write(buffer.iova, into);
    written += into.length;
  }
  return written;
}

function interrupt({ bar4, irq }: Rng, vector: number, cause: number): void {
  if (irq.mode === 'msix') {
    if (vector !== NO_VECTOR) irq.trigger(vector);
    return;
  }
  bar4.isr |= cause;
  irq.raise();
}

/** Version 1, and no feature that was not offered. */
function areTaken([low, high]: readonly number[]): boolean {
  return low === 0 && (high! & FeatureHigh.VERSION_1) !== 0 && (high! & ~OFFERED) === 0;
}

/** An access that the window makes: of 1, 2 or 4 bytes, aligned, to the structures. */
function isInWindow(bar: number, offset: number, length: number): boolean {
  return bar === STRUCTURES_BAR && [1, 2, 4].includes(length) && offset % length === 0 && offset < STRUCTURES_BYTES;
}
