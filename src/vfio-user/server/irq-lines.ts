/** The interrupts of a client's device: which eventfds of the client they signal. */
import type { Device, InterruptSink } from '../../abi/device.ts';
import { IrqIndex, IrqInfoFlags } from '../../abi/vfio.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { checkIrqRange } from '../../device/set-irqs.ts';
import { EventFd } from '../../sys/eventfd.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import type { IrqInfoReply, SetIrqsRequest } from '../messages.ts';

type Sinks = readonly (EventFd | null)[];

export class IrqLines implements Disposable {
  readonly #device: Device;
  readonly #numIrqs: number;
  /**
   * The sinks of an index whose number of vectors is fixed when it is enabled, with a reference
   * each: see `#grow`.
   */
  readonly #fixed = new Map<number, (EventFd | null)[]>();

  constructor(device: Device) {
    this.#device = device;
    this.#numIrqs = device.info.numIrqs;
  }

  /**
   * The device's description of an index. An index that the device lacks, as ERR on conventional
   * PCI before Linux 7.3, has count 0: clients ask for each index and take an error for the end.
   *
   * @throws VfioError EINVAL an index past the last
   */
  info(index: number): IrqInfoReply {
    if (index >= this.#numIrqs) throw new VfioError('EINVAL', `DEVICE_GET_IRQ_INFO: there is no IRQ index ${index}`);
    try {
      return this.#device.irq(index);
    } catch (error) {
      if (error instanceof VfioError && error.code === 'EINVAL') return { index, flags: 0, count: 0 };
      throw error;
    }
  }

  /**
   * @param fds those that came along; the caller closes those that are still open afterwards
   * @throws VfioError EINVAL interrupts that the index does not have, descriptors without EVENTFD,
   *   descriptors and interrupts that differ in number, or one that is no eventfd; ENOSPC when
   *   fewer vectors can be had; what the device throws
   */
  set(request: SetIrqsRequest, fds: readonly OwnedFd[]): void {
    const { index, start, count } = request;
    checkIrqRange('DEVICE_SET_IRQS', index, start, count, () => this.#device.irq(index).count);
    if (fds.length > 0 && request.data !== 'eventfd') throw new VfioError('EINVAL', 'DEVICE_SET_IRQS: descriptors without DATA_EVENTFD');
    if (fds.length > 0 && fds.length !== count) {
      throw new VfioError('EINVAL', `DEVICE_SET_IRQS: ${fds.length} descriptors for ${count} interrupts`);
    }
    if (request.data === 'eventfd') this.#setEventFds(request, fds);
    else this.#setPlain(request);
  }

  #setPlain(request: SetIrqsRequest): void {
    const { index, start, count, action, data, values } = request;
    const range = { index, start, count, action };
    done(this.#device.setIrqs(data === 'bool' ? { ...range, data, values: values! } : { ...range, data: 'none' }));
    if (action === 'trigger' && data === 'none' && count === 0) this.#forget(index);
  }

  /** Without descriptors, removes the eventfds of the vectors. */
  #setEventFds({ index, start, count, action }: SetIrqsRequest, fds: readonly OwnedFd[]): void {
    using events = new Cleanup();
    const each: Sinks = fds.length === 0 ? new Array<null>(count).fill(null) : fds.map((fd) => events.use(EventFd.fromFd(fd)));
    const range = { index, start, count, data: 'sinks' } as const;
    if (action === 'unmask') this.#unmaskBy({ index, start, count }, each);
    else if (action === 'mask') done(this.#device.setIrqs({ ...range, action, sinks: each }));
    else this.#assign(index, start, each);
  }

  /**
   * The kernel forgets an unmask eventfd when the last of its descriptors is closed, and QEMU
   * relies on that. Here the server's descriptor keeps it open, so a new eventfd takes the place of
   * the old one.
   */
  #unmaskBy(range: { readonly index: number; readonly start: number; readonly count: number }, sources: readonly (EventFd | null)[]): void {
    const request = { ...range, action: 'unmask', data: 'sinks' } as const;
    try {
      done(this.#device.setIrqs({ ...request, sources }));
    } catch (error) {
      if (!(error instanceof VfioError) || error.code !== 'EBUSY') throw error;
      done(this.#device.setIrqs({ ...request, sources: sources.map(() => null) }));
      done(this.#device.setIrqs({ ...request, sources }));
    }
  }

  #assign(index: number, start: number, sinks: Sinks): void {
    const request = { index, start, count: sinks.length, action: 'trigger', data: 'sinks', sinks } as const;
    try {
      done(this.#device.setIrqs(request));
    } catch (error) {
      if (!(error instanceof VfioError) || error.code !== 'EINVAL' || !this.#grow(index, start, sinks)) throw error;
      return;
    }
    this.#remember(index, start, sinks);
  }

  /**
   * MSI cannot get more vectors than it was enabled with, and a client that may send 16 descriptors
   * at a time cannot name 32 at once. When such a client goes on where it stopped, the server
   * switches MSI off, and on with all vectors.
   */
  #grow(index: number, start: number, sinks: Sinks): boolean {
    const now = this.#fixed.get(index);
    if (now === undefined || start !== now.length) return false;
    const all: (InterruptSink | null)[] = [...now, ...sinks];
    this.#device.setIrqs({ index, start: 0, count: 0, action: 'trigger', data: 'none' });
    try {
      done(this.#device.setIrqs({ index, start: 0, count: all.length, action: 'trigger', data: 'sinks', sinks: all }));
    } catch (error) {
      this.#forget(index);
      throw error;
    }
    this.#remember(index, start, sinks);
    return true;
  }

  #remember(index: number, start: number, sinks: Sinks): void {
    if (index !== IrqIndex.MSI || (this.#device.irq(index).flags & IrqInfoFlags.NORESIZE) === 0) return;
    const now = this.#fixed.get(index) ?? [];
    sinks.forEach((sink, i) => {
      while (now.length <= start + i) now.push(null);
      sink?.get();
      now[start + i]?.put();
      now[start + i] = sink;
    });
    this.#fixed.set(index, now);
  }

  #forget(index: number): void {
    for (const sink of this.#fixed.get(index) ?? []) sink?.put();
    this.#fixed.delete(index);
  }

  [Symbol.dispose](): void {
    for (const index of [...this.#fixed.keys()]) this.#forget(index);
  }
}

function done(available: number): void {
  if (available > 0) throw new VfioError('ENOSPC', `DEVICE_SET_IRQS: only ${available} vectors can be had`);
}
