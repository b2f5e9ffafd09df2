/**
 * SET_IRQS from the client's side. Interrupts reach this process by eventfd: the server gets the
 * caller's own eventfd where a sink is one, else a private one that the client listens to. The
 * client checks what the kernel checks before it looks at a device, with the same errno; the server
 * checks the rest.
 *
 * ERR and REQ also make events of the device. For these the server always has a private eventfd,
 * and the client decides who may set them.
 */
import type { InterruptSink, InterruptSource, IrqInfo, SetIrqs } from '../../abi/device.ts';
import { IrqIndex, IrqInfoFlags, IrqSetFlags } from '../../abi/vfio.ts';
import { IrqSet } from '../../abi/vfio-structs.ts';
import { HEADER_BYTES } from '../../abi/vfio-user.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { type Failed, textOf } from '../../base/foreign.ts';
import { NotifyLine } from '../../device/notify-line.ts';
import { checkAction, checkIrqIndex, irqName, validateSetIrqs } from '../../device/set-irqs.ts';
import { fewer, setIrqsEvent } from '../../device/set-irqs-event.ts';
import { Step } from '../../events/source.ts';
import { type EventFdLine, LineSet, listeningLine, sinkLine, sourceLine } from '../../sys/event-fd-line.ts';
import { closeAll } from '../frames.ts';
import { Command, irqInfo } from '../messages.ts';
import type { ClientConnection } from './connection.ts';

const actions = { mask: IrqSetFlags.ACTION_MASK, unmask: IrqSetFlags.ACTION_UNMASK, trigger: IrqSetFlags.ACTION_TRIGGER } as const;

/** The eventfds of one IRQ index by vector, as long as the server has them. */
interface Lines {
  readonly sinks: Map<number, EventFdLine>;
  readonly sources: Map<number, EventFdLine>;
  /** Vectors that it was enabled with. */
  readonly vectors: number;
}

export class ClientInterrupts implements Disposable {
  readonly #connection: ClientConnection;
  readonly #failed: Failed = (what, error) =>
    this.#connection.messages.source.note('error', what, `${this.#connection.name}: ${what}: ${textOf(error)}`);
  readonly #numIrqs: number;
  /** Descriptors that the server takes in one message. */
  readonly #maxFds: number;
  readonly #infos = new Map<number, IrqInfo>();
  readonly #lines = new Map<number, Lines>();
  readonly #notify: ReadonlyMap<number, NotifyLine<EventFdLine>>;
  /**
   * Called when the server has eventfds for vectors up to `vectors`, and with 0 when the server has
   * released all of an index.
   */
  onEnabled: (index: number, vectors: number) => void = () => {};
  /** Messages of the last SET_IRQS with eventfds that the server has carried out. */
  #partsDone = 0;
  readonly #available = (index: number): number => this.#count(index);

  /** @param onNotify  called when the server signals ERR or REQ */
  constructor(connection: ClientConnection, numIrqs: number, maxFds: number, onNotify: (index: number) => void) {
    this.#connection = connection;
    this.#numIrqs = numIrqs;
    this.#maxFds = connection.carriesFds ? maxFds : 0;
    const notify = (index: number): [number, NotifyLine<EventFdLine>] => [
      index,
      new NotifyLine({
        name: connection.name,
        makeLine: listeningLine,
        arm: (line) => this.#setNotify(index, line),
        failed: this.#failed,
        onEvent: () => onNotify(index),
        onSignal: (pass) => this.#delivered(index, 0, pass),
      }),
    ];
    this.#notify = new Map([notify(IrqIndex.ERR), notify(IrqIndex.REQ)]);
  }

  /** @throws VfioError EINVAL for an index that the device does not have */
  info(index: number): IrqInfo {
    checkIrqIndex(this.#connection.name, index, this.#numIrqs);
    let info = this.#infos.get(index);
    if (info === undefined) {
      info = this.#ask(index);
      this.#infos.set(index, info);
    }
    return info;
  }

  #ask(index: number): IrqInfo {
    const connection = this.#connection;
    const { flags, count, index: got } = connection.ask(irqInfo, { index }, `GET_IRQ_INFO of ${irqName(index)}`);
    if (got !== index) throw connection.badReply(Command.DEVICE_GET_IRQ_INFO, `index ${got} instead of ${index}`);
    // Clients take an error for the end of the list, so servers describe an index without
    // interrupts where the kernel answers an error.
    if (count === 0 && (flags === 0 || index === IrqIndex.ERR)) {
      throw new VfioError('EINVAL', `${connection.name} has no ${irqName(index)} interrupt`);
    }
    return { index, flags, count };
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
      else if (index < this.#numIrqs && this.#maxFds > 0 && this.#count(index) > 0) notify.setEvents(true);
    }
  }

  /**
   * @see linux/drivers/vfio/vfio_main.c, vfio_set_irqs_validate_and_prepare()
   */
  set(request: SetIrqs): number {
    const { source } = this.#connection.messages;
    const details = source.on ? setIrqsEvent(request) : null;
    return details === null ? this.#set(request) : source.attempt('set-irqs', details, () => this.#set(request), fewer);
  }

  #set(request: SetIrqs): number {
    const { name: device } = this.#connection;
    validateSetIrqs(device, request, this.#available, this.#numIrqs);
    checkAction(device, request);
    const { index, action, data } = request;
    const notify = this.#notify.get(index);
    if (notify !== undefined) {
      notify.set(request);
      return 0;
    }
    if (data === 'none') this.#setNone(request);
    else if (data === 'bool') this.#setBool(request);
    else if (action === 'unmask') this.#setSources(index, request.start, request.count, request.sources);
    else if (action === 'mask') this.#sendEventFds(index, action, request.start, request.count, []);
    else this.#setSinks(index, request.start, request.count, request.sinks);
    return 0;
  }

  /**
   * Vectors 0 to `vectors` - 1, of a server whose device has them masked; one that knows no masks
   * refuses, and has none.
   */
  unmask(index: number, vectors: number): void {
    try {
      this.#send(index, IrqSetFlags.ACTION_UNMASK | IrqSetFlags.DATA_NONE, 0, vectors);
    } catch (error) {
      if (!(error instanceof VfioError) || this.#connection.lost !== null) throw error;
    }
  }

  #setNone(request: SetIrqs): void {
    const { index, action, start, count } = request;
    this.#send(index, actions[action] | IrqSetFlags.DATA_NONE, start, count);
    if (action !== 'trigger' || count > 0) return;
    this.#release(index);
    this.onEnabled(index, 0);
  }

  #setBool(request: SetIrqs & { readonly data: 'bool' }): void {
    const { index, action, start, count, values } = request;
    // As many as fit into a message, one after the other.
    const most = this.#connection.outBytes.length - HEADER_BYTES - IrqSet.structSize;
    for (let done = 0; done < count || done === 0; done += most) {
      const part = Math.min(most, count - done);
      const at = HEADER_BYTES + IrqSet.structSize;
      for (let i = 0; i < part; i++) this.#connection.outBytes[at + i] = values[done + i] ? 1 : 0;
      this.#send(index, actions[action] | IrqSetFlags.DATA_BOOL, start + done, part, part);
    }
  }

  #setSinks(index: number, start: number, count: number, sinks: readonly (InterruptSink | null)[]): void {
    this.#checkResize(index, start, count, sinks);
    using lines = new LineSet();
    for (let i = 0; i < count; i++) {
      lines.add(
        sinkLine(sinks[i] ?? null, `${this.#connection.name}: SET_IRQS element ${i}`, this.#failed, (pass) =>
          this.#delivered(index, start + i, pass),
        ),
      );
    }
    try {
      this.#sendEventFds(index, 'trigger', start, count, lines.all);
    } catch (error) {
      if (this.#connection.lost === null && this.#partsDone > 0) this.#undo(index, start, count);
      throw error;
    }
    lines.moveTo(this.#linesOf(index, start + count).sinks, start);
    this.onEnabled(index, start + count);
  }

  /** The server has signalled an interrupt of this process: `pass` passes it on. */
  #delivered(index: number, vector: number, pass: () => void): void {
    const { source } = this.#connection.messages;
    if (source.on) source.during(source.interrupt(Step.delivered, index, vector), pass);
    else pass();
  }

  /**
   * A server may add vectors for those who cannot name all of them at once; the kernel does not.
   */
  #checkResize(index: number, start: number, count: number, sinks: readonly (InterruptSink | null)[]): void {
    const lines = this.#lines.get(index);
    if (lines === undefined || (this.info(index).flags & IrqInfoFlags.NORESIZE) === 0) return;
    for (let i = 0; i < count; i++) {
      if ((sinks[i] ?? null) === null || start + i < lines.vectors) continue;
      throw new VfioError(
        'EINVAL',
        `${this.#connection.name}: ${irqName(index)} vector ${start + i} was not allocated; ${lines.vectors} were`,
        {
          fix: 'Disable, then enable with as many vectors as will ever be used.',
        },
      );
    }
  }

  /**
   * Some of it was done: vectors that were named have no eventfd then, and an index that was not
   * enabled is not.
   */
  #undo(index: number, start: number, count: number): void {
    const had = this.#lines.has(index);
    try {
      if (!had) this.#send(index, IrqSetFlags.ACTION_TRIGGER | IrqSetFlags.DATA_NONE, 0, 0);
      else this.#send(index, IrqSetFlags.ACTION_TRIGGER | IrqSetFlags.DATA_EVENTFD, start, count);
    } catch (error) {
      // Nothing was done, then.
      if (!(error instanceof VfioError)) throw error;
      return;
    }
    const { sinks } = this.#linesOf(index, 0);
    for (let vector = start; vector < start + count; vector++) {
      sinks.get(vector)?.[Symbol.dispose]();
      sinks.delete(vector);
    }
    if (!had) this.#release(index);
  }

  #setSources(index: number, start: number, count: number, sources: readonly (InterruptSource | null)[]): void {
    const held = this.#lines.get(index)?.sources;
    for (let i = 0; i < count; i++) {
      if ((sources[i] ?? null) === null || held?.has(start + i) !== true) continue;
      // The kernel forgets an eventfd when its user closes it, and some clients rely on that. A
      // server may therefore replace the old eventfd, so the client checks here.
      throw new VfioError('EBUSY', `${this.#connection.name}: ${irqName(index)} has an unmask eventfd already`, {
        fix: 'Take it away first, with fd -1.',
      });
    }
    using lines = new LineSet();
    for (let i = 0; i < count; i++) lines.add(sourceLine(sources[i] ?? null, `${this.#connection.name}: SET_IRQS element ${i}`));
    this.#sendEventFds(index, 'unmask', start, count, lines.all);
    lines.moveTo(this.#linesOf(index, 0).sources, start);
  }

  /**
   * In one message when the server takes so many descriptors; vectors without are messages of their
   * own, since descriptors are not in the data. The last part goes first: it makes a server that
   * allocates vectors when they are first named allocate all of them.
   */
  #sendEventFds(
    index: number,
    action: 'mask' | 'unmask' | 'trigger',
    start: number,
    count: number,
    lines: readonly (EventFdLine | null)[],
  ): void {
    const flags = actions[action] | IrqSetFlags.DATA_EVENTFD;
    if (this.#maxFds === 0 && lines.some((line) => line !== null)) {
      throw new VfioError('EOPNOTSUPP', `${this.#connection.name} takes no descriptors, so it cannot signal interrupts`, {
        fix: 'Use a UNIX socket.',
      });
    }
    let end = count;
    this.#partsDone = 0;
    do {
      const empty = (lines[end - 1] ?? null) === null;
      let first = Math.max(0, end - 1);
      while (first > 0 && ((lines[first - 1] ?? null) === null) === empty && (empty || end - first < this.#maxFds)) first--;
      using sent = new Cleanup();
      const fds = empty ? [] : lines.slice(first, end).map((line) => sent.use(line!.fd.duplicateFd()));
      this.#send(index, flags, start + first, end - first, 0, fds);
      this.#partsDone++;
      end = first;
    } while (end > 0);
  }

  #setNotify(index: number, line: EventFdLine | null): void {
    if (line === null) this.#send(index, IrqSetFlags.ACTION_TRIGGER | IrqSetFlags.DATA_NONE, 0, 0);
    else this.#sendEventFds(index, 'trigger', 0, 1, [line]);
  }

  #send(
    index: number,
    flags: number,
    start: number,
    count: number,
    dataBytes = 0,
    fds?: ReturnType<EventFdLine['fd']['duplicateFd']>[],
  ): void {
    const connection = this.#connection;
    const size = IrqSet.structSize + dataBytes;
    IrqSet.encode(connection.out, HEADER_BYTES, { argsz: size, flags, index, start, count });
    const errno = connection.request(Command.DEVICE_SET_IRQS, size, fds);
    if (errno !== 0) throw connection.failure(errno, `SET_IRQS of ${irqName(index)} [${start}, ${start + count})`);
  }

  /** @param vectors  how many it has, when it is enabled by this */
  #linesOf(index: number, vectors: number): Lines {
    let lines = this.#lines.get(index);
    if (lines === undefined) {
      lines = { sinks: new Map(), sources: new Map(), vectors };
      this.#lines.set(index, lines);
    }
    return lines;
  }

  /** The index is disabled: the server has released its eventfds. */
  #release(index: number): void {
    const lines = this.#lines.get(index);
    if (lines === undefined) return;
    this.#lines.delete(index);
    closeAll([...lines.sinks.values(), ...lines.sources.values()]);
  }

  /** Releases every eventfd; the connection has ended. Idempotent. */
  [Symbol.dispose](): void {
    for (const index of [...this.#lines.keys()]) this.#release(index);
    for (const notify of this.#notify.values()) notify[Symbol.dispose]();
  }
}
