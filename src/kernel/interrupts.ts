/**
 * Interrupts of a device of Linux's VFIO. The kernel gets the caller's own eventfd where a sink is
 * one, else a private one that this process listens to. The kernel answers for the rest: masks,
 * dynamic vectors, and the number of vectors that it can give.
 *
 * ERR and REQ also make events of the device. For these the kernel always has a private eventfd,
 * and the client decides who may set them.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_intrs.c, vfio_pci_set_irqs_ioctl()
 */
import type { InterruptSink, InterruptSource, IrqInfo, SetIrqs } from '../abi/device.ts';
import { IrqIndex, IrqSetFlags, NUM_IRQS } from '../abi/vfio.ts';
import { IrqInfo as IrqInfoBytes, IrqSet } from '../abi/vfio-structs.ts';
import { viewOf } from '../base/data-view.ts';
import { VfioError } from '../base/errno.ts';
import { type Failed, textOf } from '../base/foreign.ts';
import { NotifyLine } from '../device/notify-line.ts';
import { checkAction, checkIndexAction, checkIrqIndex, validateSetIrqs } from '../device/set-irqs.ts';
import { fewer, setIrqsEvent } from '../device/set-irqs-event.ts';
import { Step } from '../events/source.ts';
import { type EventFdLine, LineSet, listeningLine, sinkLine, sourceLine } from '../sys/event-fd-line.ts';
import { descriptorBytes } from '../sys/kernel-file.ts';
import { DeviceCall } from './calls.ts';
import type { KernelPort } from './device-port.ts';

const actions = { mask: IrqSetFlags.ACTION_MASK, unmask: IrqSetFlags.ACTION_UNMASK, trigger: IrqSetFlags.ACTION_TRIGGER } as const;
const { DATA_NONE, DATA_BOOL, DATA_EVENTFD, ACTION_TRIGGER } = IrqSetFlags;

/** The eventfds of one IRQ index by vector, as long as the kernel has them. */
interface Lines {
  readonly sinks: Map<number, EventFdLine>;
  readonly sources: Map<number, EventFdLine>;
}

export class KernelInterrupts implements Disposable {
  readonly #port: KernelPort;
  readonly #numIrqs: number;
  readonly #infos = new Map<number, IrqInfo>();
  readonly #lines = new Map<number, Lines>();
  readonly #notify: ReadonlyMap<number, NotifyLine<EventFdLine>>;
  readonly #failed: Failed = (what, error) => this.#port.source.note('error', what, `${this.#port.name}: ${what}: ${textOf(error)}`);
  readonly #available = (index: number): number => this.#count(index);

  /** @param onNotify called when the kernel signals ERR or REQ */
  constructor(port: KernelPort, numIrqs: number, onNotify: (index: number) => void) {
    this.#port = port;
    this.#numIrqs = numIrqs;
    const notify = (index: number): [number, NotifyLine<EventFdLine>] => [
      index,
      new NotifyLine({
        name: port.name,
        makeLine: listeningLine,
        arm: (line) => this.#setNotify(index, line),
        failed: this.#failed,
        onEvent: () => onNotify(index),
        onSignal: (pass) => this.#delivered(index, 0, pass),
      }),
    ];
    this.#notify = new Map([notify(IrqIndex.ERR), notify(IrqIndex.REQ)]);
  }

  /**
   * GET_IRQ_INFO, which is asked once for each index.
   *
   * @throws VfioError EINVAL for an index that the device does not have
   */
  info(index: number): IrqInfo {
    checkIrqIndex(this.#port.name, index, this.#numIrqs);
    let info = this.#infos.get(index);
    if (info === undefined) {
      const bytes = new Uint8Array(IrqInfoBytes.structSize);
      const view = viewOf(bytes);
      IrqInfoBytes.encode(view, 0, { argsz: bytes.length, index });
      this.#port.call(DeviceCall.GET_IRQ_INFO, bytes);
      const { flags, count } = IrqInfoBytes.decode(view);
      info = { index, flags, count };
      this.#infos.set(index, info);
    }
    return info;
  }

  /** Interrupts of an index, 0 when the device lacks it. */
  #count(index: number): number {
    try {
      return this.info(index).count;
    } catch (error) {
      if (error instanceof VfioError && error.code === 'EINVAL') return 0;
      throw error;
    }
  }

  /**
   * Selects the interrupts, of ERR and REQ, that call `onNotify`. An interrupt that the device
   * lacks is ignored.
   */
  setEvents(wanted: ReadonlySet<number>): void {
    for (const [index, notify] of this.#notify) {
      if (!wanted.has(index)) notify.setEvents(false);
      else if (index < this.#numIrqs && this.#count(index) > 0) notify.setEvents(true);
    }
  }

  /**
   * @returns as `Device.setIrqs`
   * @see linux/drivers/vfio/vfio_main.c, vfio_set_irqs_validate_and_prepare()
   */
  set(request: SetIrqs): number {
    const { source } = this.#port;
    const details = source.on ? setIrqsEvent(request) : null;
    return details === null ? this.#set(request) : source.attempt('set-irqs', details, () => this.#set(request), fewer);
  }

  #set(request: SetIrqs): number {
    const { name } = this.#port;
    validateSetIrqs(name, request, this.#available, this.#numIrqs);
    checkAction(name, request);
    const { index, action, start, count } = request;
    const notify = this.#notify.get(index);
    if (notify !== undefined) {
      notify.set(request);
      return 0;
    }
    if (request.data === 'none') return this.#setNone(request);
    if (request.data === 'bool') {
      const values = Uint8Array.from({ length: count }, (_, i) => (request.values[i] ? 1 : 0));
      return this.#send(index, actions[action] | DATA_BOOL, start, count, values);
    }
    // The kernel says so before it looks at a descriptor.
    if (index < NUM_IRQS) checkIndexAction(name, request);
    if (request.action === 'unmask') return this.#setSources(index, start, count, request.sources);
    return this.#setSinks(index, request.action, start, count, request.sinks);
  }

  #setNone({ index, action, start, count }: SetIrqs): number {
    const result = this.#send(index, actions[action] | DATA_NONE, start, count);
    if (action === 'trigger' && count === 0) this.#release(index);
    return result;
  }

  /**
   * Lines that the kernel refuses are released. It may have released older ones of these vectors
   * then; they are kept here until they are replaced, or the index is disabled.
   */
  #setSinks(index: number, action: 'trigger' | 'mask', start: number, count: number, sinks: readonly (InterruptSink | null)[]): number {
    using lines = new LineSet();
    for (let i = 0; i < count; i++) {
      lines.add(
        sinkLine(sinks[i] ?? null, `${this.#port.name}: SET_IRQS element ${i}`, this.#failed, (pass) =>
          this.#delivered(index, start + i, pass),
        ),
      );
    }
    const available = this.#send(index, actions[action] | DATA_EVENTFD, start, count, fdsOf(lines));
    if (available === 0 && action === 'trigger') lines.moveTo(this.#linesOf(index).sinks, start);
    return available;
  }

  #setSources(index: number, start: number, count: number, sources: readonly (InterruptSource | null)[]): number {
    using lines = new LineSet();
    for (let i = 0; i < count; i++) lines.add(sourceLine(sources[i] ?? null, `${this.#port.name}: SET_IRQS element ${i}`));
    const result = this.#send(index, actions.unmask | DATA_EVENTFD, start, count, fdsOf(lines));
    lines.moveTo(this.#linesOf(index).sources, start);
    return result;
  }

  /** The kernel has signalled an interrupt of this process: `pass` passes it on. */
  #delivered(index: number, vector: number, pass: () => void): void {
    const { source } = this.#port;
    if (source.on) source.during(source.interrupt(Step.delivered, index, vector), pass);
    else pass();
  }

  #setNotify(index: number, line: EventFdLine | null): void {
    if (line === null) this.#send(index, ACTION_TRIGGER | DATA_NONE, 0, 0);
    else this.#send(index, ACTION_TRIGGER | DATA_EVENTFD, 0, 1, descriptorBytes([line.fd]));
  }

  #send(index: number, flags: number, start: number, count: number, data: Uint8Array | null = null): number {
    const bytes = new Uint8Array(IrqSet.structSize + (data?.length ?? 0));
    IrqSet.encode(viewOf(bytes), 0, { argsz: bytes.length, flags, index, start, count });
    if (data !== null) bytes.set(data, IrqSet.structSize);
    return this.#port.call(DeviceCall.SET_IRQS, bytes);
  }

  #linesOf(index: number): Lines {
    let lines = this.#lines.get(index);
    if (lines === undefined) {
      lines = { sinks: new Map(), sources: new Map() };
      this.#lines.set(index, lines);
    }
    return lines;
  }

  /** The index is disabled: the kernel has released its eventfds. */
  #release(index: number): void {
    const lines = this.#lines.get(index);
    if (lines === undefined) return;
    this.#lines.delete(index);
    for (const line of [...lines.sinks.values(), ...lines.sources.values()]) line[Symbol.dispose]();
  }

  /** Releases every eventfd; the device's file is closed. Idempotent. */
  [Symbol.dispose](): void {
    for (const index of [...this.#lines.keys()]) this.#release(index);
    for (const notify of this.#notify.values()) notify[Symbol.dispose]();
  }
}

function fdsOf(lines: LineSet): Uint8Array {
  return descriptorBytes(lines.all.map((line) => line?.fd ?? null));
}
