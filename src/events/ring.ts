/**
 * The memory of a stream: a ring of records. A record has ten numbers and at most one object. The
 * frequent kinds (access, dma, interrupt) are numbers alone, so that emitting them makes nothing;
 * frequent commands and waits share an object that holds their words. The fields of the other kinds
 * are the object.
 *
 * Readers keep positions of their own, and the writer never waits for them: who is slower than a
 * whole ring loses the oldest records.
 */
import type { EventDetails, EventKind, EventShape, VfioEvent } from '../abi/event.ts';
import { charsOf, ownDetails } from './details.ts';
import { kindNames, kindNumbers } from './kinds.ts';

/** Records of a ring; a power of two. */
export const RING_RECORDS = 65_536;
/** Bytes of `data` that the records of a ring hold together: what follows is left out. */
export const RING_DATA_BYTES = 32 * 2 ** 20;
/** Bytes of messages that they hold together: of those that follow only the header is kept. */
export const RING_MESSAGE_BYTES = 16 * 2 ** 20;
/** Characters of long texts that they hold together: texts that follow are cut short. */
export const RING_TEXT_CHARS = 16 * 2 ** 20;
/** Characters of a record whose texts are long. */
const LONG_CHARS = 1024;
const MESSAGE_HEADER_BYTES = 16;

/** Numbers of a record. */
const STRIDE = 10;
/** Where they are. The meaning of A to F depends on the kind. */
const At = { TIME: 0, HOST: 1, CAUSE: 2, KIND: 3, A: 4, B: 5, C: 6, D: 7, E: 8, F: 9 } as const;
/** F of a record whose object is the bytes of its DMA, or its shape. */
const BESIDE = { bytes: 1, shape: 2 } as const;
const KIND_SHIFT = 65_536;
const WORD = 2 ** 32;

export const operations = ['read', 'write'] as const;
export const verdicts = ['device', 'virtual', 'mixed', 'dropped', 'mediator', 'refused'] as const;
export const ways = ['direct', 'remote', 'view'] as const;
export const steps = ['raised', 'lowered', 'pending', 'delivered', 'masked', 'unmasked', 'dropped'] as const;
/** Why an interrupt takes a step, where it is known. The first is none. */
export const reasons = [
  '',
  'automask',
  'driver',
  'COMMAND.InterruptDisable',
  'sleep',
  'mask',
  'function mask',
  'standstill',
  'messages',
] as const;
export const irqs = ['intx', 'msi', 'msix', 'err', 'req'] as const;

/** An event without its head. */
type EventBody = { readonly [K in 'command' | 'wait' | 'message']: EventDetails<K> & { readonly kind: K } }['command' | 'wait' | 'message'];

/** The fields of a message that packs into numbers: those that many share, and the others. */
export interface MessageShape {
  readonly kind: 'message';
  readonly shared: Omit<EventDetails<'message'>, 'id' | 'size' | 'bytes' | 'data'>;
  readonly unpack: (a: number, b: number, c: number, d: number, e: number) => Pick<EventDetails<'message'>, 'id' | 'size' | 'bytes'>;
}

/** Of a record of `open`. */
const nothing = {};

/** Details of no bounded size. Only a reader of data sees `data`. */
interface WithData {
  readonly data?: Uint8Array;
  readonly bytes?: Uint8Array;
}

export class EventRing {
  /** The number of the newest record; 0: there is none. */
  seq = 0;
  readonly #numbers = new Float64Array(RING_RECORDS * STRIDE);
  readonly #details: (object | null)[] = new Array(RING_RECORDS).fill(null);
  /** Names of devices, which records hold as a number. */
  readonly #names: readonly string[];
  #dataBytes = 0;
  /** No older record is there. */
  #first = 1;
  #messageBytes = 0;
  /** By slot, characters of the records whose texts are long. */
  readonly #longTexts = new Map<number, number>();
  #textChars = 0;
  /** The read under way whose value is not known yet; 0: there is none. */
  #open = 0;

  constructor(names: readonly string[]) {
    this.#names = names;
  }

  /** The oldest record that is still there. */
  get oldest(): number {
    return Math.max(this.#first, this.seq - RING_RECORDS + 1);
  }

  /** The newest record that is whole. */
  get settled(): number {
    return this.#open === 0 ? this.seq : this.#open - 1;
  }

  #begin(timeNs: number, hostNs: number, cause: number, kind: number, name: number): number {
    const seq = ++this.seq;
    const slot = seq & (RING_RECORDS - 1);
    const at = slot * STRIDE;
    const numbers = this.#numbers;
    numbers[at] = timeNs;
    numbers[at + At.HOST] = hostNs;
    numbers[at + At.CAUSE] = cause;
    numbers[at + At.KIND] = kind * KIND_SHIFT + name;
    if (this.#details[slot] !== null) this.#forget(slot);
    return at;
  }

  #forget(slot: number): void {
    const { data, bytes } = this.#details[slot] as WithData;
    const chars = this.#longTexts.get(slot);
    if (chars !== undefined) {
      this.#longTexts.delete(slot);
      this.#textChars -= chars;
    }
    if (data !== undefined) this.#dataBytes -= data.length;
    if (bytes !== undefined) this.#messageBytes -= bytes.length;
    this.#details[slot] = null;
  }

  /** A copy of `data` as far as the ring may hold it; undefined: not at all. */
  #kept(data: Uint8Array): Uint8Array | undefined {
    if (this.#dataBytes + data.length > RING_DATA_BYTES) return undefined;
    this.#dataBytes += data.length;
    return data.slice();
  }

  #withMessage(details: object, bytes: Uint8Array): object {
    const fits = this.#messageBytes + bytes.length <= RING_MESSAGE_BYTES;
    const kept = fits ? bytes : bytes.slice(0, MESSAGE_HEADER_BYTES);
    this.#messageBytes += kept.length;
    return { ...details, bytes: kept };
  }

  #withTexts(slot: number, own: object): object {
    const chars = charsOf(own);
    if (chars <= LONG_CHARS) return own;
    if (this.#textChars + chars > RING_TEXT_CHARS) return ownDetails(own, true);
    this.#longTexts.set(slot, chars);
    this.#textChars += chars;
    return own;
  }

  /** The record of a kind whose fields are an object. */
  put(timeNs: number, hostNs: number, cause: number, kind: EventKind, name: number, details: object): number {
    // Details of a model may have getters, which throw into the model here and not into a reader.
    const own = ownDetails(details);
    this.#numbers[this.#begin(timeNs, hostNs, cause, kindNumbers[kind], name) + At.F] = 0;
    this.#setDetails(this.seq & (RING_RECORDS - 1), own);
    return this.seq;
  }

  #setDetails(slot: number, own: object): void {
    const details = this.#withTexts(slot, own);
    const { data, bytes } = details as WithData;
    const kept = data === undefined ? details : { ...details, data: data instanceof Uint8Array ? this.#kept(data) : undefined };
    if (bytes === undefined) this.#details[slot] = kept;
    else this.#details[slot] = this.#withMessage(kept, bytes instanceof Uint8Array ? bytes : new Uint8Array(0));
  }

  /**
   * As `put`, of an event whose fields are not known yet: `fill` gives them. No reader sees the
   * record until then.
   */
  open(timeNs: number, hostNs: number, cause: number, kind: EventKind, name: number): number {
    this.#numbers[this.#begin(timeNs, hostNs, cause, kindNumbers[kind], name) + At.F] = 0;
    this.#details[this.seq & (RING_RECORDS - 1)] = nothing;
    if (this.#open === 0) this.#open = this.seq;
    return this.seq;
  }

  /** The fields of a record of `open`. */
  fill(seq: number, details: object): void {
    if (this.#open === seq) this.#open = 0;
    if (seq > this.seq || this.seq - seq >= RING_RECORDS) return;
    const slot = seq & (RING_RECORDS - 1);
    if (this.#details[slot] === nothing) this.#setDetails(slot, ownDetails(details));
  }

  /** Take back a record of `open`. @returns false where others have come since */
  withdraw(seq: number): boolean {
    if (this.seq !== seq) return false;
    if (this.#open === seq) this.#open = 0;
    this.#details[seq & (RING_RECORDS - 1)] = null;
    // It has taken the place of an older one.
    this.#first = Math.max(this.#first, seq - RING_RECORDS + 1);
    this.seq--;
    return true;
  }

  /**
   * An access of a register. `low` and `high` are the halves of its value.
   *
   * @param open the value is not known yet: `close` gives it. No reader sees the record until then.
   * @param memory plain memory, whose values are data
   */
  access(
    timeNs: number,
    hostNs: number,
    cause: number,
    name: number,
    write: boolean,
    region: number,
    offset: number,
    size: number,
    low: number,
    high: number,
    memory: boolean,
    open: boolean,
  ): number {
    const at = this.#begin(timeNs, hostNs, cause, kindNumbers.access, name);
    const numbers = this.#numbers;
    numbers[at + At.A] = (write ? 1 : 0) + (memory ? 2 : 0) + region * 4;
    numbers[at + At.B] = offset;
    numbers[at + At.C] = size;
    numbers[at + At.D] = low;
    numbers[at + At.E] = high;
    if (open && this.#open === 0) this.#open = this.seq;
    return this.seq;
  }

  /** The value of an access that was begun. */
  close(seq: number, low: number, high: number): void {
    if (this.#open === seq) this.#open = 0;
    if (this.seq - seq >= RING_RECORDS) return;
    const at = (seq & (RING_RECORDS - 1)) * STRIDE;
    this.#numbers[at + At.D] = low;
    this.#numbers[at + At.E] = high;
  }

  dma(
    timeNs: number,
    hostNs: number,
    cause: number,
    name: number,
    write: boolean,
    page: number,
    byte: number,
    size: number,
    way: number,
    data: Uint8Array | null,
  ): number {
    const at = this.#begin(timeNs, hostNs, cause, kindNumbers.dma, name);
    const numbers = this.#numbers;
    numbers[at + At.A] = (write ? 1 : 0) + way * 2;
    numbers[at + At.B] = page;
    numbers[at + At.C] = byte;
    numbers[at + At.D] = size;
    numbers[at + At.F] = BESIDE.bytes;
    if (data !== null) this.#details[this.seq & (RING_RECORDS - 1)] = { data: this.#kept(data) };
    return this.seq;
  }

  interrupt(
    timeNs: number,
    hostNs: number,
    cause: number,
    name: number,
    step: number,
    irq: number,
    vector: number,
    reason: number,
  ): number {
    const at = this.#begin(timeNs, hostNs, cause, kindNumbers.interrupt, name);
    const numbers = this.#numbers;
    numbers[at + At.A] = step;
    numbers[at + At.B] = irq;
    numbers[at + At.C] = vector;
    numbers[at + At.D] = reason;
    return this.seq;
  }

  /** A shape, which many records share, and numbers. */
  shaped(
    timeNs: number,
    hostNs: number,
    cause: number,
    name: number,
    shape: EventShape | MessageShape,
    latencyNs: number,
    a: number,
    b: number,
    c: number,
    d: number,
  ): number {
    const at = this.#begin(timeNs, hostNs, cause, kindNumbers[shape.kind], name);
    const numbers = this.#numbers;
    numbers[at + At.A] = latencyNs;
    numbers[at + At.B] = a;
    numbers[at + At.C] = b;
    numbers[at + At.D] = c;
    numbers[at + At.E] = d;
    numbers[at + At.F] = BESIDE.shape;
    this.#details[this.seq & (RING_RECORDS - 1)] = shape;
    return this.seq;
  }

  /** The kind of record `seq`, as a number. */
  kindAt(seq: number): number {
    return Math.floor(this.#numbers[(seq & (RING_RECORDS - 1)) * STRIDE + At.KIND]! / KIND_SHIFT);
  }

  /** The name of the device of record `seq`. */
  deviceAt(seq: number): string {
    return this.#names[this.#nameAt(seq)]!;
  }

  #nameAt(seq: number): number {
    return this.#numbers[(seq & (RING_RECORDS - 1)) * STRIDE + At.KIND]! % KIND_SHIFT;
  }

  /** Record `seq`, which is there, as an event. */
  decode(seq: number, withData: boolean): VfioEvent {
    const slot = seq & (RING_RECORDS - 1);
    const at = slot * STRIDE;
    const numbers = this.#numbers;
    const head = {
      seq,
      timeNs: numbers[at]!,
      hostNs: numbers[at + At.HOST]!,
      device: this.deviceAt(seq),
      cause: numbers[at + At.CAUSE]!,
    };
    const kind = kindNames[this.kindAt(seq)]!;
    const details = this.#details[slot];
    if (details !== null && numbers[at + At.F] === BESIDE.shape)
      return { ...head, ...this.#shapedAt(at, details as EventShape | MessageShape) };
    // Numbers, and beside them at most the bytes of a DMA.
    const packed = details === null || numbers[at + At.F] === BESIDE.bytes;
    const event = packed
      ? { kind, ...head, ...this.#unpacked(kind, at, withData), ...details }
      : // The head is that of the stream, whatever fields a model has given.
        Object.assign({ kind, ...head }, details, head, { kind });
    return withData && (event as WithData).data !== undefined ? (event as VfioEvent) : withoutData(event as VfioEvent);
  }

  #shapedAt(at: number, shape: EventShape | MessageShape): EventBody {
    const numbers = this.#numbers;
    const latencyNs = numbers[at + At.A]!;
    if (shape.kind === 'message') {
      const packed = shape.unpack(latencyNs, numbers[at + At.B]!, numbers[at + At.C]!, numbers[at + At.D]!, numbers[at + At.E]!);
      return { kind: 'message', ...shape.shared, ...packed };
    }
    if (shape.kind === 'wait') return { ...shape, latencyNs };
    const fields = Object.fromEntries(shape.fields.slice(0, 4).map((field, i) => [field, this.#numbers[at + At.B + i]!]));
    return { ...shape, fields, latencyNs };
  }

  #unpacked(kind: EventKind, at: number, withData: boolean): object {
    const numbers = this.#numbers;
    const a = numbers[at + At.A]!;
    switch (kind) {
      case 'access': {
        const size = numbers[at + At.C]!;
        const low = numbers[at + At.D]!;
        const value = size === 8 ? BigInt(numbers[at + At.E]!) * BigInt(WORD) + BigInt(low) : low;
        return {
          op: operations[a & 1],
          region: a >>> 2,
          offset: numbers[at + At.B],
          size,
          ...((a & 2) !== 0 && !withData ? {} : { value }),
          verdict: 'device',
        };
      }
      case 'dma':
        return {
          op: operations[a & 1],
          iova: BigInt(numbers[at + At.B]!) * 4096n + BigInt(numbers[at + At.C]!),
          size: numbers[at + At.D],
          way: ways[a >>> 1],
        };
      default: {
        const reason = numbers[at + At.D]!;
        return {
          step: steps[a],
          irq: irqs[numbers[at + At.B]!],
          vector: numbers[at + At.C],
          ...(reason === 0 ? {} : { reason: reasons[reason] }),
        } satisfies Partial<EventDetails<'interrupt'>>;
      }
    }
  }
}

function withoutData(event: VfioEvent): VfioEvent {
  if (!('data' in event)) return event;
  const { data: _, ...rest } = event;
  return rest as VfioEvent;
}
