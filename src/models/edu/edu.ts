/**
 * QEMU's educational device: it computes factorials, copies between memory and a buffer of its own,
 * and interrupts, by INTx or MSI. A driver written for QEMU's device drives this one.
 *
 * Where QEMU's device misbehaves, this one does what hardware can: a transfer that does not lie in
 * the buffer moves nothing (QEMU logs it and copies past its buffer), and an acknowledged interrupt
 * lowers the INTx pin also when a driver has enabled MSI meanwhile.
 *
 * @see QEMU docs/specs/edu.rst
 */
import { Dma, DmaFault } from '../../abi/device-host.ts';
import { EDU_BUFFER, EduCause, EduCommand, EduRegisters } from '../../abi/edu.ts';
import { hex } from '../../base/check.ts';
import type { DeviceModel } from '../../pci/declaration.ts';
import { bar } from '../kit/bar.ts';
import { device } from '../kit/device.ts';
import type { Dev } from '../kit/device-spec.ts';

/** Options of the edu model. Times are in milliseconds of the host's clock. */
export interface EduOptions {
  /** Address bits that its DMA drives; others are dropped. QEMU's `dma_mask`. Default: 28 bits. */
  readonly dmaMask?: bigint;
  /** How long a factorial takes. */
  readonly factorialMs?: number;
  /** How long a transfer takes: 100 in QEMU. */
  readonly dmaMs?: number;
  /**
   * The most virtual functions. Above 0 edu is a PCI Express device with function-level reset; each
   * VF is a small edu. Default: 0.
   */
  readonly vfs?: number;
  /**
   * Whether the device can be moved while it runs. False: as a device under Linux's own vfio-pci.
   * Default: true.
   */
  readonly migration?: boolean;
}

const BUFFER_START = BigInt(EDU_BUFFER.start);

const word = { widths: [4] } as const;
const quad = { widths: [4, 8], zeroExtend: true } as const;

const behaviours = {
  identification: { ...word, reset: 0x0100_00ed },
  liveness: { ...word, store: (written: number) => ~written },
  factorial: word,
  status: word,
  irqStatus: word,
  irqRaise: word,
  irqAcknowledge: word,
  dmaSource: quad,
  dmaDestination: quad,
  dmaCount: quad,
  dmaCommand: quad,
};
const bar0 = bar('1M', EduRegisters, behaviours, { holes: 'ones' });
const vfBar0 = bar('4K', EduRegisters, behaviours, { holes: 'ones' });

/** The commands that readers of events see. `offset` is a place in the device's buffer. */
const commands = {
  factorial: { n: 'number', result: 'number' },
  copy: { to: 'text', iova: 'bigint', offset: 'bigint', count: 'bigint' },
} as const;

type Edu = Dev<{ bar0: typeof bar0 }, { readonly buffer: Uint8Array }, undefined, object, typeof commands>;

/** The educational device. */
export function edu(options: EduOptions = {}): DeviceModel {
  const { vfs = 0 } = options;
  if (vfs === 0) return make(options, 'conventional');
  return { ...make(options, 'physical'), sriov: { totalVfs: vfs, vf: make(options, 'virtual') } };
}

/**
 * Physical and virtual functions compute, copy and interrupt alike. A virtual function has a BAR of
 * 4 KiB, and MSI alone.
 */
function make(options: EduOptions, kind: 'conventional' | 'physical' | 'virtual'): DeviceModel {
  const { dmaMask = 0xfff_ffffn, factorialMs = 0, dmaMs = 0, migration = true } = options;
  return device({
    id: '1234:11e8',
    subsystem: '1af4:1100',
    name: 'edu',
    revision: 0x10,
    class: 'unclassified',
    pcie: kind !== 'conventional',
    msi: 1,
    ...(kind === 'virtual' ? {} : { intx: 'A' as const }),
    bars: { bar0: kind === 'virtual' ? vfBar0 : bar0 },
    commands,
    state: () => ({ buffer: new Uint8Array(EDU_BUFFER.size) }),
    on: {
      'bar0.factorial'(dev, _, before) {
        const { bar0 } = dev;
        if (bar0.status.computing) {
          bar0.factorial = before;
          return;
        }
        bar0.status.computing = 1;
        dev.begin('factorial', { n: bar0.factorial });
        dev.schedule('factorial', factorialMs);
      },
      'bar0.irqRaise': (dev, causes) => raise(dev, causes),
      'bar0.irqAcknowledge': (dev, causes) => acknowledge(dev, causes),
      'bar0.dmaSource'({ bar0 }, _, before) {
        if (isRunning(bar0.dmaCommand)) bar0.dmaSource = before;
      },
      'bar0.dmaDestination'({ bar0 }, _, before) {
        if (isRunning(bar0.dmaCommand)) bar0.dmaDestination = before;
      },
      'bar0.dmaCount'({ bar0 }, _, before) {
        if (isRunning(bar0.dmaCommand)) bar0.dmaCount = before;
      },
      'bar0.dmaCommand'(dev, command, before) {
        const { bar0 } = dev;
        if (isRunning(before) || !isRunning(command)) {
          bar0.dmaCommand = before;
          return;
        }
        dev.begin('copy');
        dev.schedule('dma', dmaMs);
      },
    },
    timers: {
      factorial(dev) {
        const { bar0 } = dev;
        bar0.factorial = factorial(bar0.factorial);
        bar0.status.computing = 0;
        dev.end('factorial', 'ok', { result: bar0.factorial });
        if (bar0.status.interrupt) raise(dev, EduCause.FACTORIAL);
      },
      dma(dev) {
        const done = transfer(dev, dmaMask);
        return typeof done === 'string' ? transferred(dev, done) : done.then((status) => transferred(dev, status));
      },
    },
    ...(migration ? { migration: true as const } : {}),
  });
}

function isRunning(command: bigint): boolean {
  return (command & EduCommand.RUN) !== 0n;
}

function raise({ bar0, irq }: Edu, causes: number): void {
  bar0.irqStatus |= causes;
  if (bar0.irqStatus === 0) return;
  if (irq.mode === 'intx') irq.raise();
  else irq.trigger(0);
}

function acknowledge({ bar0, irq }: Edu, causes: number): void {
  bar0.irqStatus &= ~causes;
  if (bar0.irqStatus === 0) irq.lower();
}

/**
 * Copies the bytes at once, or returns a promise when the memory is remote. The result is the
 * command's status. A transfer that faults moves nothing and completes all the same, interrupt
 * included: the device has no bit that reports the fault. The host counts it.
 */
function transfer(dev: Edu, dmaMask: bigint): string | Promise<string> {
  const { bar0, dma, state, log } = dev;
  const toRam = (bar0.dmaCommand & EduCommand.TO_RAM) !== 0n;
  const [inside, outside] = toRam ? [bar0.dmaSource, bar0.dmaDestination] : [bar0.dmaDestination, bar0.dmaSource];
  const count = bar0.dmaCount;
  const offset = inside - BUFFER_START;
  if (offset < 0n || offset + count > BigInt(EDU_BUFFER.size)) {
    log.log('warn', `a DMA of ${hex(count)} bytes at ${hex(inside)} does not lie in the buffer at ${hex(BUFFER_START)}; nothing was moved`);
    return 'not in the buffer';
  }
  const iova = outside & dmaMask;
  if (iova !== outside) log.log('warn', `DMA address ${hex(outside)} was cut to ${hex(iova)}, which is what the device can drive`);
  const part = state.buffer.subarray(Number(offset), Number(offset + count));
  const done = toRam ? dma.tryWrite(iova, part) : dma.tryRead(iova, part);
  if (done !== Dma.REMOTE) return done === Dma.DONE ? 'ok' : 'DMA fault';
  return (toRam ? dma.write(iova, part) : dma.read(iova, part)).then(() => 'ok', faultOf);
}

function transferred(dev: Edu, status: string): void {
  const { bar0 } = dev;
  bar0.dmaCommand &= ~EduCommand.RUN;
  const toRam = (bar0.dmaCommand & EduCommand.TO_RAM) !== 0n;
  const [inside, iova] = toRam ? [bar0.dmaSource, bar0.dmaDestination] : [bar0.dmaDestination, bar0.dmaSource];
  dev.end('copy', status, { to: toRam ? 'memory' : 'device', iova, offset: inside - BUFFER_START, count: bar0.dmaCount });
  if ((bar0.dmaCommand & EduCommand.INTERRUPT) !== 0n) raise(dev, EduCause.DMA);
}

function faultOf(error: unknown): string {
  if (error instanceof DmaFault) return 'DMA fault';
  throw error;
}

/** n! modulo 2^32: 0 from 34 on, which has 32 factors of two. */
function factorial(n: number): number {
  if (n >= 34) return 0;
  let product = 1;
  for (let i = 2; i <= n; i++) product = Math.imul(product, i);
  return product >>> 0;
}
