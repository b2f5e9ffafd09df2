/**
 * Packets of a Perfetto trace: tracks, and events on them. Names and words that come again are
 * written once and named by a number after that (interned).
 *
 * The numbers of fields are those of Perfetto's public `.proto` files, in protos/perfetto/trace.
 *
 * @see https://perfetto.dev/docs/reference/synthetic-track-event
 */
import { ProtobufWriter } from './protobuf.ts';

/** trace.proto, trace_packet.proto, trace_packet_defaults.proto */
const Trace = { PACKET: 1 } as const;
const Packet = {
  ...{ CLOCK_SNAPSHOT: 6, TIMESTAMP: 8, SEQUENCE_ID: 10, TRACK_EVENT: 11, INTERNED_DATA: 12, SEQUENCE_FLAGS: 13 },
  ...{ DEFAULTS: 59, TRACK_DESCRIPTOR: 60, FIRST_ON_SEQUENCE: 87 },
} as const;
const Defaults = { CLOCK_ID: 58 } as const;
const Flag = { STATE_CLEARED: 1, NEEDS_STATE: 2 } as const;
/** clock_snapshot.proto, builtin_clock.proto */
const Snapshot = { CLOCK: 1, PRIMARY: 2 } as const;
const Clock = { ID: 1, TIMESTAMP: 2 } as const;
const ClockId = { REALTIME: 1, MONOTONIC: 3 } as const;
/** track_event/track_descriptor.proto */
const Descriptor = { UUID: 1, NAME: 2, PARENT: 5, CHILD_ORDERING: 11, RANK: 12 } as const;
const ORDER_EXPLICIT = 3;
/** track_event/track_event.proto */
const TrackEvent = { CATEGORY_ID: 3, ANNOTATION: 4, TYPE: 9, NAME_ID: 10, TRACK: 11, CATEGORY: 22, NAME: 23, FLOW: 47 } as const;
const Type = { BEGIN: 1, END: 2, INSTANT: 3 } as const;
/** track_event/debug_annotation.proto */
const Annotation = { NAME_ID: 1, BOOL: 2, INT: 4, DOUBLE: 5, STRING: 6, POINTER: 7, NAME: 10, ENTRY: 11, STRING_ID: 17 } as const;
/** interned_data/interned_data.proto */
const Interned = { CATEGORY: 1, NAME: 2, ANNOTATION_NAME: 3, ANNOTATION_STRING: 29 } as const;
const Entry = { ID: 1, TEXT: 2 } as const;

const SEQUENCE = 1;
/** Texts of a table of words, and their characters. Later ones are written out each time. */
const INTERNED_MAX = 4096;
const INTERNED_CHARS = 64;

/** A value beside an event. `Pointer` is shown in hexadecimal. */
export type AnnotationValue = string | number | boolean | Pointer | readonly AnnotationEntry[];
export type AnnotationEntry = readonly [name: string, value: AnnotationValue];

/** An address or a value of a register. @param value  at least 0, of 64 bits */
export class Pointer {
  readonly value: number | bigint;

  constructor(value: number | bigint) {
    this.value = value;
  }
}

/** An event as it is drawn. */
export interface Drawn {
  readonly category: string;
  readonly name: string;
  readonly annotations: readonly AnnotationEntry[];
  /** Events that have one of these numbers are connected by arrows, in the order of their times. */
  readonly flows: readonly number[];
}

/** Words that are written once. */
class Words {
  readonly field: number;
  readonly #ids = new Map<string, number>();
  /** Words that no packet has defined yet. */
  fresh: [id: number, text: string][] = [];

  constructor(field: number) {
    this.field = field;
  }

  /** The number of a word; 0: it is to be written out. */
  idOf(text: string): number {
    const known = this.#ids.get(text);
    if (known !== undefined) return known;
    if (this.#ids.size >= INTERNED_MAX || text.length > INTERNED_CHARS) return 0;
    const id = this.#ids.size + 1;
    this.#ids.set(text, id);
    this.fresh.push([id, text]);
    return id;
  }
}

export class PerfettoPackets {
  readonly #writer = new ProtobufWriter();
  readonly #categories = new Words(Interned.CATEGORY);
  readonly #names = new Words(Interned.NAME);
  readonly #annotationNames = new Words(Interned.ANNOTATION_NAME);
  readonly #annotationTexts = new Words(Interned.ANNOTATION_STRING);
  readonly #words = [this.#categories, this.#names, this.#annotationNames, this.#annotationTexts];

  /** The packets since the last call: whole ones. */
  take(): Uint8Array {
    return this.#writer.take();
  }

  /** The first packet: times are of CLOCK_MONOTONIC, in nanoseconds. */
  start(): void {
    const writer = this.#writer;
    this.#packet(Flag.STATE_CLEARED, () => {
      writer.bool(Packet.FIRST_ON_SEQUENCE, true);
      const defaults = writer.begin(Packet.DEFAULTS);
      writer.uint(Defaults.CLOCK_ID, ClockId.MONOTONIC);
      writer.end(defaults);
    });
  }

  /** The time since 1970 at a time of the trace. */
  clock(ns: number, realNs: bigint): void {
    const writer = this.#writer;
    this.#packet(0, () => {
      const snapshot = writer.begin(Packet.CLOCK_SNAPSHOT);
      for (const [id, at] of [
        [ClockId.MONOTONIC, ns],
        [ClockId.REALTIME, realNs],
      ] as const) {
        const clock = writer.begin(Snapshot.CLOCK);
        writer.uint(Clock.ID, id);
        writer.uint(Clock.TIMESTAMP, at);
        writer.end(clock);
      }
      writer.uint(Snapshot.PRIMARY, ClockId.MONOTONIC);
      writer.end(snapshot);
    });
  }

  /** @param parent the track above it; 0: none   @param rank its place among its siblings */
  track(uuid: number, parent: number, name: string, rank: number): void {
    const writer = this.#writer;
    this.#packet(0, () => {
      const descriptor = writer.begin(Packet.TRACK_DESCRIPTOR);
      writer.uint(Descriptor.UUID, uuid);
      if (parent !== 0) writer.uint(Descriptor.PARENT, parent);
      writer.string(Descriptor.NAME, name);
      writer.uint(Descriptor.CHILD_ORDERING, ORDER_EXPLICIT);
      writer.uint(Descriptor.RANK, rank);
      writer.end(descriptor);
    });
  }

  instant(track: number, ns: number, drawn: Drawn): void {
    this.#event(Type.INSTANT, track, ns, drawn);
  }

  /** The beginning of a slice. */
  begin(track: number, ns: number, drawn: Drawn): void {
    this.#event(Type.BEGIN, track, ns, drawn);
  }

  /** The end of the track's last slice that has none. */
  end(track: number, ns: number, annotations: readonly AnnotationEntry[] = []): void {
    this.#event(Type.END, track, ns, { category: '', name: '', annotations, flows: [] });
  }

  #event(type: number, track: number, ns: number, { category, name, annotations, flows }: Drawn): void {
    const writer = this.#writer;
    this.#packet(Flag.NEEDS_STATE, () => {
      writer.uint(Packet.TIMESTAMP, ns);
      const event = writer.begin(Packet.TRACK_EVENT);
      writer.uint(TrackEvent.TYPE, type);
      writer.uint(TrackEvent.TRACK, track);
      if (category !== '') this.#text(this.#categories, TrackEvent.CATEGORY_ID, TrackEvent.CATEGORY, category);
      if (name !== '') this.#text(this.#names, TrackEvent.NAME_ID, TrackEvent.NAME, name);
      for (const flow of flows) writer.fixed64(TrackEvent.FLOW, flow);
      for (const annotation of annotations) this.#annotation(TrackEvent.ANNOTATION, annotation);
      writer.end(event);
    });
  }

  #annotation(field: number, [name, value]: AnnotationEntry): void {
    const writer = this.#writer;
    const annotation = writer.begin(field);
    this.#text(this.#annotationNames, Annotation.NAME_ID, Annotation.NAME, name);
    if (typeof value === 'string') this.#text(this.#annotationTexts, Annotation.STRING_ID, Annotation.STRING, value);
    else if (typeof value === 'boolean') writer.bool(Annotation.BOOL, value);
    else if (value instanceof Pointer) writer.uint(Annotation.POINTER, value.value);
    else if (typeof value !== 'number') for (const entry of value) this.#annotation(Annotation.ENTRY, entry);
    else if (Number.isSafeInteger(value)) writer.int(Annotation.INT, value);
    else writer.double(Annotation.DOUBLE, value);
    writer.end(annotation);
  }

  #text(words: Words, idField: number, textField: number, text: string): void {
    const id = words.idOf(text);
    if (id === 0) this.#writer.string(textField, text);
    else this.#writer.uint(idField, id);
  }

  #packet(flags: number, content: () => void): void {
    const writer = this.#writer;
    const packet = writer.begin(Trace.PACKET);
    writer.uint(Packet.SEQUENCE_ID, SEQUENCE);
    if (flags !== 0) writer.uint(Packet.SEQUENCE_FLAGS, flags);
    content();
    if (this.#words.some(({ fresh }) => fresh.length > 0)) this.#define();
    writer.end(packet);
  }

  /** The words that this packet uses first. */
  #define(): void {
    const writer = this.#writer;
    const interned = writer.begin(Packet.INTERNED_DATA);
    for (const words of this.#words) {
      for (const [id, text] of words.fresh) {
        const entry = writer.begin(words.field);
        writer.uint(Entry.ID, id);
        writer.string(Entry.TEXT, text);
        writer.end(entry);
      }
      words.fresh = [];
    }
    writer.end(interned);
  }
}
