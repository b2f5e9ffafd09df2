/**
 * VFIO_DEVICE_IOEVENTFD: a signal on an eventfd writes a fixed value to a register, without the
 * user's part (B.8).
 *
 * @see linux/drivers/vfio/pci/vfio_pci_rdwr.c, vfio_pci_ioeventfd()
 */
import type { InterruptSource } from '../../abi/device.ts';
import { RegionIndex } from '../../abi/vfio.ts';
import { checkIndex, checkU64, hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { EventSource } from '../../events/source.ts';
import type { MsixTable } from '../../hardware/msix-table.ts';
import { listenGuarded } from '../interrupts/guarded-sink.ts';

export interface IoeventfdRequest {
  /** Region index; only BARs can have one. */
  readonly region: number;
  /** Byte offset in the region. */
  readonly offset: number;
  /** Bytes to write: 1, 2 or 4. */
  readonly size: number;
  readonly data: bigint;
  /** Null removes the ioeventfd with the same region, offset, size and data. */
  readonly source: InterruptSource | null;
}

/** The most on one device, as in Linux: an unprivileged user makes them. */
const IOEVENTFD_MAX = 1000;

/** The device of ioeventfds. */
export interface IoeventfdTarget {
  readonly bdf: string;
  readonly events: EventSource;
  readonly msix: MsixTable | null;
  /** Bytes of BAR `index`, 0 when there is none. */
  barSize(index: number): number;
  /**
   * Whether a mediator wants to see each write to BAR `bar`, or forbids writes: an ioeventfd would
   * show it none of these writes.
   */
  seesWrites(bar: number): boolean;
  /** Write when the BAR answers now; no effect while memory decoding is off. */
  signalled(bar: number, offset: number, size: number, data: bigint): void;
}

interface Ioeventfd {
  readonly bar: number;
  readonly offset: number;
  readonly size: number;
  readonly data: bigint;
  readonly listening: Disposable;
}

export class Ioeventfds {
  readonly #target: IoeventfdTarget;
  readonly #all: Ioeventfd[] = [];

  constructor(target: IoeventfdTarget) {
    this.#target = target;
  }

  get count(): number {
    return this.#all.length;
  }

  /**
   * @throws VfioError EINVAL not a BAR, past its end, over the MSI-X table, past a mediator, or a
   * size other than 1, 2 and 4; EEXIST the same is there already; ENODEV nothing like it to remove;
   * ENOSPC over `IOEVENTFD_MAX`
   */
  set(request: IoeventfdRequest): void {
    const { bdf, msix } = this.#target;
    if (typeof request !== 'object' || request === null) throw new VfioError('EINVAL', `${bdf}: IOEVENTFD without a request`);
    const { offset, size, data, source } = request;
    checkU64(data, 'data of the ioeventfd');
    if (size !== 1 && size !== 2 && size !== 4 && size !== 8) {
      throw new VfioError('EINVAL', `an ioeventfd writes 1, 2 or 4 bytes, not ${String(size)}`);
    }
    const bar = checkIndex(request.region, RegionIndex.BAR5, `${bdf}: region of the ioeventfd`);
    checkIndex(offset, Number.MAX_SAFE_INTEGER - 8, `${bdf}: offset of the ioeventfd`);
    if (offset + size > this.#target.barSize(bar)) {
      throw new VfioError('EINVAL', `${bdf}: ioeventfd at ${hex(offset)} is past the end of BAR ${bar}`);
    }
    if (msix?.contains(bar, offset, size)) {
      throw new VfioError('EINVAL', `${bdf}: ioeventfd at ${hex(offset)} would write the MSI-X table`, { fix: 'Use SET_IRQS.' });
    }
    if (this.#target.seesWrites(bar)) {
      throw new VfioError('EINVAL', `${bdf}: ioeventfd at ${hex(offset)} of BAR ${bar} would go past the device's mediator`, {
        fix: 'Write the register.',
      });
    }
    if (size === 8) throw new VfioError('EINVAL', 'an ioeventfd cannot write 8 bytes', { fix: 'Use two of 4 bytes.' });
    const at = this.#all.findIndex((e) => e.bar === bar && e.offset === offset && e.size === size && e.data === data);
    if (source !== null && typeof source?.listen !== 'function') {
      throw new VfioError('EINVAL', `${bdf}: the source of the ioeventfd cannot be listened to`);
    }
    if (source === null) {
      if (at < 0) throw new VfioError('ENODEV', `${bdf}: no such ioeventfd at ${hex(offset)} of BAR ${bar}`);
      const [removed] = this.#all.splice(at, 1);
      removed!.listening[Symbol.dispose]();
      return;
    }
    if (at >= 0) throw new VfioError('EEXIST', `${bdf}: the same ioeventfd at ${hex(offset)} of BAR ${bar} exists`);
    if (this.#all.length >= IOEVENTFD_MAX) throw new VfioError('ENOSPC', `${bdf} has ${IOEVENTFD_MAX} ioeventfds, which is the limit`);
    const listening = listenGuarded(source, () => this.#target.signalled(bar, offset, size, data), bdf, this.#target.events);
    this.#all.push({ bar, offset, size, data, listening });
  }

  /** Remove all ioeventfds, at the last close. */
  clear(): void {
    for (const each of this.#all.splice(0)) each.listening[Symbol.dispose]();
  }
}
