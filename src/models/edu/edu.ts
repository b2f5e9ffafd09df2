/**
 * QEMU's educational device: it computes factorials, copies between memory and a buffer of its own, and interrupts, by INTx or MSI.
 * A driver written for QEMU's runs on this one.
 *
 * Where QEMU's own would misbehave we do what hardware can: a transfer that does not lie in the buffer moves nothing (QEMU logs it and copies past
 * its buffer), and an acknowledged interrupt lowers the INTx pin also when MSI was enabled meanwhile.
 *
 * @see QEMU docs/specs/edu.rst
 */
import { Dma, DmaFault } from '../../abi/device-host.ts';
import { bit } from '../../base/bit-fields.ts';
import { hex } from '../../base/check.ts';
import type { DeviceModel } from '../../pci/declaration.ts';
import { bar } from '../kit/bar.ts';
import { type Dev, device } from '../kit/device.ts';
import { reg } from '../kit/register.ts';

export interface EduOptions {
  /** Address bits that its DMA drives; others are dropped. QEMU's `dma_mask`; 28 bits unless told. */
  readonly dmaMask?: bigint;
  /** How long a factorial takes. */
  readonly factorialMs?: number;
  /** How long a transfer takes: 100 in QEMU. */
  readonly dmaMs?: number;
  /** Virtual functions that it can have, 0 unless told. With some it is a PCI Express device with function-level reset; each VF is a small edu. */
  readonly vfs?: number;
  /** False: it cannot be moved while it runs, as a device that Linux's own vfio-pci drives. It can unless told. */
  readonly migration?: boolean;
}

/** Interrupt causes in `irqStatus`; a driver may raise any other. */
const Cause = { FACTORIAL: 0x1, DMA: 0x100 } as const;

/** Bits of `dmaCommand`. */
const Command = { RUN: 1n, TO_RAM: 2n, INTERRUPT: 4n } as const;

/** The device's buffer, as the DMA registers name it. It cannot be reached by loads and stores. */
const BUFFER_START = 0x4_0000n;
const BUFFER_SIZE = 4096;

const word = (offset: number) => reg(offset).widths(4);
const quad = (offset: number) => reg(offset).u64().widths(4, 8).zeroExtend();

const registers = {
  identification: word(0x00).ro(0x0100_00ed),
  liveness: word(0x04).onWrite((written) => ~written),
  factorial: word(0x08),
  status: reg(0x20, { computing: bit(0, 'ro'), interrupt: bit(7) }).widths(4),
  irqStatus: word(0x24).ro(),
  irqRaise: word(0x60).wo(),
  irqAcknowledge: word(0x64).wo(),
  dmaSource: quad(0x80),
  dmaDestination: quad(0x88),
  dmaCount: quad(0x90),
  dmaCommand: quad(0x98),
};
const bar0 = bar('1M', registers, { holes: 'ones' });
const vfBar0 = bar('4K', registers, { holes: 'ones' });

type Edu = Dev<{ bar0: typeof bar0 }, { readonly buffer: Uint8Array }>;

/** The educational device. */
export function edu(options: EduOptions = {}): DeviceModel {
  const { vfs = 0 } = options;
  if (vfs === 0) return make(options, 'conventional');
  return { ...make(options, 'physical'), sriov: { totalVfs: vfs, vf: make(options, 'virtual') } };
}

/** All compute, copy and interrupt alike. A virtual function has registers of 4 KiB, and MSI alone. */
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
    bar0: kind === 'virtual' ? vfBar0 : bar0,
    state: () => ({ buffer: new Uint8Array(BUFFER_SIZE) }),
    on: {
      'bar0.factorial'(dev, _, before) {
        const { bar0 } = dev;
        if (bar0.status.computing) {
          bar0.factorial = before;
          return;
        }
        bar0.status.computing = 1;
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
        dev.schedule('dma', dmaMs);
      },
    },
    timers: {
      factorial(dev) {
        const { bar0 } = dev;
        bar0.factorial = factorial(bar0.factorial);
        bar0.status.computing = 0;
        if (bar0.status.interrupt) raise(dev, Cause.FACTORIAL);
      },
      dma(dev) {
        const remote = transfer(dev, dmaMask);
        return remote === null ? transferred(dev) : remote.catch(ignoreFault).then(() => transferred(dev));
      },
    },
    ...(migration ? { migration: true as const } : {}),
  });
}

function isRunning(command: bigint): boolean {
  return (command & Command.RUN) !== 0n;
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
 * Moves the bytes now, or gives a promise when the memory is remote. A transfer that faults moves nothing and completes all the same, interrupt
 * included: the device has no bit to tell it by. The host counts the fault.
 */
function transfer({ bar0, dma, state, log }: Edu, dmaMask: bigint): Promise<unknown> | null {
  const toRam = (bar0.dmaCommand & Command.TO_RAM) !== 0n;
  const [inside, outside] = toRam ? [bar0.dmaSource, bar0.dmaDestination] : [bar0.dmaDestination, bar0.dmaSource];
  const count = bar0.dmaCount;
  const offset = inside - BUFFER_START;
  if (offset < 0n || offset + count > BigInt(BUFFER_SIZE)) {
    log.log('warn', `a DMA of ${hex(count)} bytes at ${hex(inside)} does not lie in the buffer at ${hex(BUFFER_START)}; nothing was moved`);
    return null;
  }
  const iova = outside & dmaMask;
  if (iova !== outside) log.log('warn', `DMA address ${hex(outside)} was cut to ${hex(iova)}, which is what the device can drive`);
  const part = state.buffer.subarray(Number(offset), Number(offset + count));
  if (toRam) return dma.tryWrite(iova, part) === Dma.REMOTE ? dma.write(iova, part) : null;
  return dma.tryRead(iova, part) === Dma.REMOTE ? dma.read(iova, part) : null;
}

function transferred(dev: Edu): void {
  dev.bar0.dmaCommand &= ~Command.RUN;
  if ((dev.bar0.dmaCommand & Command.INTERRUPT) !== 0n) raise(dev, Cause.DMA);
}

function ignoreFault(error: unknown): void {
  if (!(error instanceof DmaFault)) throw error;
}

/** n! modulo 2^32: 0 from 34 on, which has 32 factors of two. */
function factorial(n: number): number {
  if (n >= 34) return 0;
  let product = 1;
  for (let i = 2; i <= n; i++) product = Math.imul(product, i);
  return product >>> 0;
}
