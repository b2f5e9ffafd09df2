/**
 * An entropy device of virtio 1: registers behind capabilities in config space, a split virtqueue
 * in the driver's memory, MSI-X. Linux's virtio_rng drives it.
 *
 * @see Virtual I/O Device (VIRTIO) Version 1.2: 2.7 split virtqueues, 4.1 virtio over PCI, 5.4
 *   entropy device
 */
import { randomFillSync } from 'node:crypto';
import { bar, capabilities, configRegisters, type Dev, device, registers, u8, u16, u32, u64 } from 'vfio-ts';

/** Parts of BAR 4. */
const COMMON = 0x0000;
const ISR = 0x1000;
const DEVICE = 0x2000;
const NOTIFY = 0x3000;

/** Of BAR 4: the common configuration, and the registers of the one queue. */
export const Virtio = registers({
  deviceFeatureSelect: u32(0x00),
  deviceFeature: u32(0x04, 'ro'),
  driverFeatureSelect: u32(0x08),
  driverFeature: u32(0x0c),
  configVector: u16(0x10),
  numQueues: u16(0x12, 'ro'),
  deviceStatus: u8(0x14),
  configGeneration: u8(0x15, 'ro'),
  queueSelect: u16(0x16),
  queueSize: u16(0x18),
  queueVector: u16(0x1a),
  queueEnable: u16(0x1c),
  queueNotifyOffset: u16(0x1e, 'ro'),
  queueDescriptors: u64(0x20),
  queueDriver: u64(0x28),
  queueDevice: u64(0x30),
  isr: u8(ISR, 'ro'),
  notify: u16(NOTIFY, 'wo'),
});

/**
 * Where the capability of the window onto the BARs begins in config space (VIRTIO_PCI_CAP_PCI_CFG).
 */
export const WINDOW = 0x84;

/**
 * The registers of that capability: an access to `data` is one to `length` bytes of BAR `bar` at
 * `offset`.
 */
export const Window = registers({
  bar: u8(WINDOW + 4),
  offset: u32(WINDOW + 8),
  length: u32(WINDOW + 12),
  data: u32(WINDOW + 16),
});

export const Status = { ACKNOWLEDGE: 1, DRIVER: 2, DRIVER_OK: 4, FEATURES_OK: 8, NEEDS_RESET: 64, FAILED: 128 } as const;
const CapType = { COMMON: 1, NOTIFY: 2, ISR: 3, DEVICE: 4, WINDOW: 5 } as const;
/** VIRTIO_F_VERSION_1, bit 32. */
const VERSION_1 = 1;
const VECTORS = 2;
const NO_VECTOR = 0xffff;
const QUEUE_SIZE = 64;
const Descriptor = { BYTES: 16, NEXT: 1, WRITE: 2 } as const;
const NO_INTERRUPT = 1;
/** Bytes that one buffer gets at most: a driver asks again for more. */
const BYTES_MAX = 0x1_0000;

/** One of virtio's capabilities, after its length byte (4.1.4). */
function locate(type: number, offset: number, length: number, at: number, extra: readonly number[] = []) {
  const body = new DataView(new ArrayBuffer(13 + extra.length));
  body.setUint8(0, type);
  body.setUint8(1, type === CapType.WINDOW ? 0 : 4);
  body.setUint32(5, offset, true);
  body.setUint32(9, length, true);
  const bytes = new Uint8Array(body.buffer);
  bytes.set(extra, 13);
  return capabilities.vendorSpecific(bytes, { at });
}

const queue0 = { when: (r: { readonly queueSelect: number }) => r.queueSelect === 0 };

const bar4 = bar('16K', Virtio, {
  configVector: { reset: NO_VECTOR },
  numQueues: { reset: 1 },
  queueSize: { ...queue0, reset: QUEUE_SIZE },
  queueVector: { ...queue0, reset: NO_VECTOR },
  queueEnable: queue0,
  queueDescriptors: queue0,
  queueDriver: queue0,
  queueDevice: queue0,
});
const config = configRegisters(Window);

interface State {
  /** By `driverFeatureSelect`. */
  features: number[];
  /** Entries of the rings that are done, modulo 2^16. */
  available: number;
  used: number;
}

/** Readers of events see one command for each buffer that the driver has made available. */
const commands = { fill: { descriptor: 'number', written: 'number' } } as const;

type Rng = Dev<{ bar4: typeof bar4 }, State, typeof config, object, typeof commands>;

export interface RngOptions {
  /** Fills a buffer with random bytes. Default: the computer's own. */
  readonly source?: (into: Uint8Array) => void;
}

export default function virtioRng({ source = (into) => void randomFillSync(into) }: RngOptions = {}) {
  /** Serves all buffers that are available. @returns whether there was one */
  async function serve(dev: Rng): Promise<boolean> {
    const { bar4, dma, state } = dev;
    const { queueDescriptors, queueDriver, queueDevice, queueSize } = bar4;
    const available = word(await dma.read(queueDriver + 2n, 2));
    if (available === state.available) return false;
    while (state.available !== available) {
      const slot = BigInt(state.available % queueSize);
      const head = word(await dma.read(queueDriver + 4n + 2n * slot, 2));
      const command = dev.begin('fill', { descriptor: head });
      const written = await fill({ dma }, queueDescriptors, head, queueSize);
      const done = new DataView(new ArrayBuffer(8));
      done.setUint32(0, head, true);
      done.setUint32(4, written, true);
      await dma.write(queueDevice + 4n + 8n * BigInt(state.used % queueSize), new Uint8Array(done.buffer));
      state.available = (state.available + 1) & 0xffff;
      state.used = (state.used + 1) & 0xffff;
      await dma.write(queueDevice + 2n, Uint8Array.of(state.used & 0xff, state.used >> 8));
      command.end('ok', { written });
    }
    return true;
  }

  /** Fills the buffers of a chain. @returns bytes written */
  async function fill({ dma }: Pick<Rng, 'dma'>, table: bigint, head: number, most: number): Promise<number> {
    let written = 0;
    for (let index = head, count = 0; count < most; count++) {
      const bytes = await dma.read(table + BigInt(Descriptor.BYTES * index), Descriptor.BYTES);
      const descriptor = new DataView(bytes.buffer, bytes.byteOffset);
      const flags = descriptor.getUint16(12, true);
      if ((flags & Descriptor.WRITE) !== 0 && written < BYTES_MAX) {
        const into = new Uint8Array(Math.min(descriptor.getUint32(8, true), BYTES_MAX - written));
        source(into);
        await dma.write(descriptor.getBigUint64(0, true), into);
        written += into.length;
      }
      if ((flags & Descriptor.NEXT) === 0) break;
      index = descriptor.getUint16(14, true);
    }
    return written;
  }

  function interrupt({ bar4, irq }: Rng): void {
    if (irq.mode === 'msix') {
      if (bar4.queueVector !== NO_VECTOR) irq.trigger(bar4.queueVector);
      return;
    }
    bar4.isr |= 1;
    irq.raise();
  }

  return device({
    id: '1af4:1044',
    subsystem: '1af4:1100',
    name: 'virtio-rng',
    revision: 1,
    class: 0x00ff00,
    intx: 'A',
    msix: VECTORS,
    bars: { bar4 },
    capabilities: [
      locate(CapType.COMMON, COMMON, 0x38, 0x40),
      // The notification of every queue has the same place.
      locate(CapType.NOTIFY, NOTIFY, 4, 0x50, [0, 0, 0, 0]),
      locate(CapType.ISR, ISR, 1, 0x64),
      locate(CapType.DEVICE, DEVICE, 4, 0x74),
      locate(CapType.WINDOW, 0, 0, WINDOW, [0, 0, 0, 0]),
    ],
    config,
    commands,
    state: (): State => ({ features: [0, 0], available: 0, used: 0 }),
    read: {
      'bar4.deviceFeature': ({ bar4 }) => (bar4.deviceFeatureSelect === 1 ? VERSION_1 : 0),
      'bar4.driverFeature': ({ bar4, state }) => state.features[bar4.driverFeatureSelect] ?? 0,
      'bar4.isr'({ bar4, irq }, pending) {
        bar4.isr = 0;
        irq.lower();
        return pending;
      },
      'config.data'(dev) {
        const { bar, offset, length } = dev.config;
        return isAccess(length, offset) ? dev.readBar(bar, offset, length) : 0;
      },
    },
    on: {
      'bar4.driverFeature'({ bar4, state }, written) {
        if (bar4.driverFeatureSelect < state.features.length) state.features[bar4.driverFeatureSelect] = written;
      },
      'bar4.deviceStatus'(dev, status) {
        if (status === 0) return dev.reset();
        const { features } = dev.state;
        // The device refuses features that it has not offered, and drivers of before version 1.
        if (features[0] !== 0 || features[1] !== VERSION_1) dev.bar4.deviceStatus = status & ~Status.FEATURES_OK;
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
      'bar4.notify': {
        async serial(dev) {
          if ((dev.bar4.deviceStatus & Status.DRIVER_OK) === 0 || dev.bar4.queueEnable !== 1) return;
          while (await serve(dev)) {
            const flags = word(await dev.dma.read(dev.bar4.queueDriver, 2));
            if ((flags & NO_INTERRUPT) === 0) interrupt(dev);
          }
        },
      },
      'config.data'(dev, written) {
        const { bar, offset, length } = dev.config;
        if (isAccess(length, offset)) dev.writeBar(bar, offset, length, written);
      },
    },
    migration: true,
  });
}

function word(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint16(0, true);
}

/** An access that a driver can make: of 1, 2 or 4 bytes, aligned. */
function isAccess(length: number, offset: number): length is 1 | 2 | 4 {
  return (length === 1 || length === 2 || length === 4) && offset % length === 0;
}
