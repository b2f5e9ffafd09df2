import type { Device, InterruptSink, InterruptSource, RegisterAccess, SetIrqs } from '../../src/abi/device.ts';
import type { DirectMemory } from '../../src/abi/memory.ts';
import { RegionIndex } from '../../src/abi/vfio.ts';

export type ConformanceEventFd = InterruptSink &
  InterruptSource &
  Disposable & {
    /** The counter, which is zero afterwards; null when it was zero. */
    read(): bigint | null;
    readonly references: number;
  };

/** One edu device, freshly opened by the only user, in an IOMMU domain without mappings. */
export interface ConformanceSubject extends AsyncDisposable {
  readonly device: Device;
  /**
   * The subject is a virtual function of an edu that is a PCI Express device: behind a port, with a
   * reset, 4 KiB of registers and no INTx. All VFs are alike.
   */
  readonly virtual?: boolean;
  /**
   * The subject is reached by vfio-user, which knows no reset of a bus. A VF's BARs have no
   * address, as on Linux, so the client does the same as for a bare device (platform.ts): it
   * enables MSI where its user can see it.
   */
  readonly remote?: boolean;
  /** Its DMA reaches memory of this process, and none that answers by messages. */
  readonly ownMemoryOnly?: boolean;
  /**
   * The device cannot be moved and keeps no log of its writes, and its IOMMU keeps none either: as
   * the edu of QEMU behind its IOMMU, in a guest.
   */
  readonly fixed?: boolean;
  /** A sink and source that this device takes. */
  eventfd(): ConformanceEventFd;
  /**
   * Let time pass, for the device and for messages under way, until `done` returns true; `done` is
   * not called again then. False for a manual clock when nothing more can be expected.
   */
  until(done: () => boolean): Promise<boolean>;
  /** Let some time pass, in which an unwanted event would most likely come. */
  pass(): Promise<void>;
  /** Open the device again after `device` was closed. Absent where the subject cannot. */
  reopen?(): Device;
}

/** Registers of edu in BAR 0. @see QEMU docs/specs/edu.rst */
export const Edu = {
  IDENTIFICATION: 0x00,
  LIVENESS: 0x04,
  FACTORIAL: 0x08,
  STATUS: 0x20,
  IRQ_STATUS: 0x24,
  IRQ_RAISE: 0x60,
  IRQ_ACKNOWLEDGE: 0x64,
  DMA_SOURCE: 0x80,
  DMA_DESTINATION: 0x88,
  DMA_COUNT: 0x90,
  DMA_COMMAND: 0x98,
  BUFFER: 0x40000,
} as const;
export const EDU_ID = 0x0100_00ed;
/** The shapes of a whole edu on the root bus, and of a virtual function. */
const shapes = {
  whole: { barSize: 0x10_0000, configSize: 256, pin: 1, resets: false },
  virtual: { barSize: 0x1000, configSize: 4096, pin: 0, resets: true },
} as const;
export const shapeOf = ({ virtual }: ConformanceSubject) => (virtual === true ? shapes.virtual : shapes.whole);
/** For cases of INTx. */
export function needsIntx({ virtual }: ConformanceSubject, skip: (why: string) => never): void {
  if (virtual === true) skip('a virtual function has no INTx');
}

/** For cases of a device that can be moved. */
export function needsMovable({ fixed }: ConformanceSubject, skip: (why: string) => never): void {
  if (fixed === true) skip('the device cannot be moved and keeps no log of its writes');
}

export const StatusInterrupt = 0x80;
export const DmaCommand = { RUN: 1, TO_RAM: 2, INTERRUPT: 4 } as const;
export const IrqCause = { FACTORIAL: 1, DMA: 0x100 } as const;

/** COMMAND and its bits. */
export const COMMAND = 0x04;
export const MEMORY = 0x2;
export const MASTER = 0x4;
export const INTX_DISABLE = 0x400;

export function bar0(device: Device): RegisterAccess {
  return device.region(RegionIndex.BAR0);
}

export function config(device: Device): RegisterAccess {
  return device.region(RegionIndex.CONFIG);
}

/** Memory decoding and bus mastering on. */
export function enable(device: Device): void {
  config(device).write16(COMMAND, MEMORY | MASTER);
}

/** SET_IRQS with any fields, even wrong ones. Defaults: start 0, count 1. */
export function setIrqs(device: Device, index: number, request: object): number {
  return device.setIrqs({ index, start: 0, count: 1, ...request } as SetIrqs);
}

export function arm(device: Device, index: number, sinks: readonly (InterruptSink | null)[], start = 0): number {
  return setIrqs(device, index, { action: 'trigger', data: 'sinks', start, count: sinks.length, sinks });
}

export function disable(device: Device, index: number): number {
  return setIrqs(device, index, { action: 'trigger', data: 'none', count: 0 });
}

/** Check that no interrupt comes: null, or how often it was signalled. */
export async function quiet(subject: ConformanceSubject, fd: ConformanceEventFd): Promise<bigint | null> {
  await subject.pass();
  return fd.read();
}

/** Wait for an interrupt and take it. Returns how often it was signalled. */
export async function taken(subject: ConformanceSubject, fd: ConformanceEventFd): Promise<bigint | null> {
  let count: bigint | null = null;
  await subject.until(() => {
    count = fd.read();
    return count !== null;
  });
  return count;
}

export interface EduTransfer {
  readonly from: bigint;
  readonly to: bigint;
  readonly count: number;
  readonly toRam: boolean;
}

/** Begin one DMA of edu. */
export function startDma({ device }: ConformanceSubject, transfer: EduTransfer, interrupt = false): void {
  const registers = bar0(device);
  registers.write64(Edu.DMA_SOURCE, transfer.from);
  registers.write64(Edu.DMA_DESTINATION, transfer.to);
  registers.write64(Edu.DMA_COUNT, BigInt(transfer.count));
  const direction = transfer.toRam ? DmaCommand.TO_RAM : 0;
  registers.write64(Edu.DMA_COMMAND, BigInt(DmaCommand.RUN | direction | (interrupt ? DmaCommand.INTERRUPT : 0)));
}

/** Run one DMA of edu and wait until it is done, by its interrupt when `fd` is given. */
export async function dma(subject: ConformanceSubject, transfer: EduTransfer, fd?: ConformanceEventFd): Promise<boolean> {
  startDma(subject, transfer, fd !== undefined);
  if (fd !== undefined) return (await taken(subject, fd)) === 1n;
  return subject.until(() => (bar0(subject.device).read32(Edu.DMA_COMMAND) & DmaCommand.RUN) === 0);
}

/** Zeroed DMA memory of `size` bytes, mapped at `iova`; its bytes are good until it is disposed. */
export function mapped(device: Device, iova: bigint, size: number): { readonly memory: DirectMemory; readonly bytes: Uint8Array } {
  const memory = device.dma.allocate(size);
  device.dma.map({ iova, memory });
  return { memory, bytes: memory.windows[0]! };
}
