/**
 * The subject of the conformance cases on Linux's VFIO: an edu device of the computer that this
 * program runs on, by way of our client. The kernel may be the virtual one of `vfio exec`, or real.
 */
import { VfioError } from '../../src/base/errno.ts';
import { KernelDevice, type KernelDeviceOptions } from '../../src/kernel/device.ts';
import { EventFd } from '../../src/sys/eventfd.ts';
import { bar0, COMMAND, type ConformanceSubject, config, Edu, MEMORY } from './subject.ts';

/** The device and the way to it. */
export interface KernelPlace {
  /** `0000:00:04.0` */
  readonly bdf: string;
  readonly via: 'group' | 'cdev';
  readonly token?: string;
  /** The device is a virtual function of an edu. */
  readonly virtual?: boolean;
  /** The device and its IOMMU keep no log of writes, and it cannot be moved. */
  readonly fixed?: boolean;
}

/** The place in the environment: EDU_BDF, EDU_VIA, EDU_TOKEN, EDU_VIRTUAL, EDU_FIXED. */
export function placeOf(environment: Readonly<Record<string, string | undefined>>): KernelPlace {
  const { EDU_BDF: bdf, EDU_VIA: via, EDU_TOKEN: token, EDU_VIRTUAL: virtual, EDU_FIXED: fixed } = environment;
  if (bdf === undefined || (via !== 'group' && via !== 'cdev')) {
    throw new VfioError('EINVAL', 'the environment names no device', { fix: 'Set EDU_BDF, and EDU_VIA to group or cdev.' });
  }
  return { bdf, via, ...(token === undefined ? {} : { token }), virtual: virtual !== undefined, fixed: fixed !== undefined };
}

/** No work of edu takes more turns, unless the computer has much other work. */
const TURNS = 10;

const turn = () => new Promise<void>((resolve) => setTimeout(() => setImmediate(resolve), 2));

export async function kernelSubject({ bdf, via, token, virtual = false, fixed = false }: KernelPlace): Promise<ConformanceSubject> {
  const options: KernelDeviceOptions = { via, ...(token === undefined ? {} : { token }) };
  const open = () => KernelDevice.open({ kind: 'pci', bdf }, options);
  forget(open());
  const device = open();
  return {
    device,
    virtual,
    fixed,
    ownMemoryOnly: true,
    eventfd: () => EventFd.create(),
    reopen: open,
    async until(done) {
      while (!done()) await turn();
      return true;
    },
    async pass() {
      for (let i = 0; i < TURNS; i++) await turn();
    },
    async [Symbol.asyncDispose]() {
      device.close();
    },
  };
}

/** A device without a reset keeps its registers from one case to the next. */
function forget(device: KernelDevice): void {
  config(device).write16(COMMAND, MEMORY);
  const registers = bar0(device);
  registers.write32(Edu.STATUS, 0);
  registers.write32(Edu.IRQ_ACKNOWLEDGE, 0xffff_ffff);
  device.close();
}
