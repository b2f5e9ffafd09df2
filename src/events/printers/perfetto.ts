/**
 * Timelines for ui.perfetto.dev: TrackEvent packets. Under a track for the machine each device has
 * one, and under it stand its registers, DMA, vectors, queues of commands, states, messages, and
 * its driver's waits. Commands, waits and messages are slices, whose width is their time; other
 * events are instants. A flow connects each event with those that it has caused: arrows go from the
 * write of a doorbell to its command and DMA, from there to the interrupt, and to the wait that it
 * ends. Where one event has caused several, the arrow goes on from each to the next: it is written
 * before they are known, and so has one number for all.
 *
 * An event comes at its end, so the beginning of a slice may stand behind younger packets. Readers
 * sort by time.
 */
import type { EventKind, EventOf, MessageEvent, VfioEvent } from '../../abi/event.ts';
import { hex } from '../../base/check.ts';
import { printable } from '../../base/printable.ts';
import { type FieldType, fieldsOf, irqWords, kindNames, regionWords, vectorWords, wordsOf } from '../kinds.ts';
import { boundedBytes, boundedFields, boundedText } from './bounds.ts';
import { formatFiles } from './format-files.ts';
import { type AnnotationEntry, type AnnotationValue, type Drawn, PerfettoPackets, Pointer } from './perfetto-packets.ts';
import { type Lane, PerfettoTracks, type Place } from './perfetto-tracks.ts';
import type { EventFormat, EventPrinter, StreamAbout } from './printer.ts';
import { RecentTimes } from './recent-times.ts';

const NAME_CHARS = 200;
const TEXT_CHARS = 1024;
/** Bytes of a message or a DMA in its annotation. */
const SHOWN_BYTES = 256;
/** Requests that wait for their replies. */
const REQUESTS_MAX = 4096;

/**
 * How an event is drawn. `slice`: it has a latency. `state`: it lasts until the next one of its
 * track, or until `over`.
 */
type Shape = 'instant' | 'slice' | 'state' | 'over' | 'message';

interface Row<K extends EventKind> {
  readonly place: (event: EventOf<K>) => Place;
  /** Few different ones, so that the viewer can add up what is alike. */
  readonly name: (event: EventOf<K>) => string;
  readonly shape: Shape | ((event: EventOf<K>) => Shape);
}

/** Tracks of a device, in their order. Vectors and queues come in the order of their numbers. */
const places = {
  waits: { name: 'driver waits', rank: 1 },
  toServer: { name: 'messages to the server', rank: 2 },
  toClient: { name: 'messages to the client', rank: 3 },
  config: { name: 'config space', rank: 4 },
  registers: { name: 'registers', rank: 5 },
  commands: { name: 'commands', rank: 10 },
  dma: { name: 'DMA', rank: 11 },
  mappings: { name: 'DMA mappings', rank: 12 },
  enable: { name: 'COMMAND', rank: 10_000 },
  power: { name: 'power', rank: 10_001 },
  migration: { name: 'migration', rank: 10_002 },
  events: { name: 'events', rank: 10_003 },
  log: { name: 'log', rank: 10_004 },
} as const satisfies Record<string, Place>;
const FIRST_QUEUE_RANK = 20;
const FIRST_VECTOR_RANK = 100;
const VECTORS = 4096;

/** Queues in the order of the numbers in their names: `admin`, `I/O 1`, `I/O 2`. */
const queueRank = (queue: string): number => Math.min(FIRST_QUEUE_RANK + Number(/\d{1,2}/.exec(queue)?.[0] ?? 0), FIRST_VECTOR_RANK - 1);

/** A pin has a level, and messages do not. */
const lines: Partial<Record<EventOf<'interrupt'>['step'], Shape>> = { raised: 'state', lowered: 'over' };

const refused = ({ errno }: { readonly errno?: string }): string => (errno === undefined ? '' : ` (${errno})`);
const instant = (place: Place) => ({ place: () => place, shape: 'instant' }) as const;
const ofState = ({ errno }: { readonly errno?: string }): Shape => (errno === undefined ? 'state' : 'instant');

/** A kind without a row is an instant with its words. */
const rows: { readonly [K in EventKind]?: Row<K> } = {
  access: {
    place: ({ region }) => (region === 7 ? places.config : places.registers),
    name: (e) =>
      `${e.op}${e.size <= 8 ? e.size * 8 : ''} ${regionWords(e.region)}+${hex(e.offset)}${e.errno === undefined ? '' : ` (${e.errno})`}`,
    shape: 'instant',
  },
  mapping: { ...instant(places.events), name: ({ op, region }) => `${op} ${regionWords(region)}` },
  'dma-map': { ...instant(places.mappings), name: (e) => `map${refused(e)}` },
  'dma-unmap': { ...instant(places.mappings), name: (e) => `unmap${refused(e)}` },
  dma: { ...instant(places.dma), name: ({ op }) => op },
  'dma-refused': { ...instant(places.dma), name: ({ op, reason }) => `${op} refused: ${reason}` },
  interrupt: {
    place: (e) => ({
      name: vectorWords(e),
      rank: FIRST_VECTOR_RANK + (e.irq === 'msi' || e.irq === 'msix' ? 1 + Math.min(e.vector, VECTORS) : 0),
    }),
    name: ({ irq, step }) => (irq === 'intx' && step === 'raised' ? 'asserted' : step),
    shape: ({ irq, step }) => (irq === 'intx' ? (lines[step] ?? 'instant') : 'instant'),
  },
  'set-irqs': { ...instant(places.events), name: (e) => `SET_IRQS ${irqWords(e.irq)} ${e.action}${refused(e)}` },
  reset: { ...instant(places.events), name: (e) => `reset by ${e.by}${refused(e)}` },
  power: { place: () => places.power, name: ({ state }) => state, shape: 'state' },
  enable: {
    place: () => places.enable,
    name: (e) => [...(e.busMaster ? ['bus master'] : []), ...(e.memory ? ['memory'] : []), ...(e.io ? ['I/O'] : [])].join(', ') || 'off',
    shape: 'state',
  },
  bind: { ...instant(places.events), name: (e) => `driver ${e.driver ?? 'none'}${refused(e)}` },
  group: { ...instant(places.events), name: ({ step }) => `group ${step}` },
  plug: { ...instant(places.events), name: ({ step }) => step },
  open: { ...instant(places.events), name: (e) => `${e.step}${refused(e)}` },
  token: { ...instant(places.events), name: ({ step }) => `VF token ${step}` },
  migration: { place: () => places.migration, name: (e) => `${e.to}${refused(e)}`, shape: ofState },
  feature: { ...instant(places.events), name: (e) => `feature ${e.name}, ${e.op}${refused(e)}` },
  fault: { ...instant(places.events), name: ({ step, errno }) => `injected fault at ${step}: ${errno}` },
  error: { ...instant(places.events), name: ({ severity }) => `PCI Express error: ${severity}` },
  command: {
    place: ({ queue }) => (queue === undefined ? places.commands : { name: queue, rank: queueRank(queue) }),
    name: ({ name, status }) => (status === 'ok' ? name : `${name}: ${status}`),
    shape: 'slice',
  },
  wait: { place: () => places.waits, name: ({ what }) => what, shape: 'slice' },
  message: {
    place: ({ direction }) => (direction === 'to server' ? places.toServer : places.toClient),
    name: ({ command }) => command,
    shape: 'message',
  },
  note: { ...instant(places.log), name: ({ text }) => text },
  dropped: { ...instant(places.log), name: wordsOf },
};

const plain: Row<EventKind> = { ...instant(places.events), name: wordsOf };

const fieldsByKind = Object.fromEntries(kindNames.map((kind) => [kind, fieldsOf(kind)])) as Record<EventKind, ReturnType<typeof fieldsOf>>;
const other: { readonly [D in MessageEvent['direction']]: MessageEvent['direction'] } = {
  'to server': 'to client',
  'to client': 'to server',
};
/** Fields of a reply that its request has, too. */
const SHARED_BY_REPLY: ReadonlySet<string> = new Set(['direction', 'command', 'id', 'twin']);

class PerfettoPrinter implements EventPrinter {
  readonly #about: StreamAbout;
  readonly #packets = new PerfettoPackets();
  readonly #tracks = new PerfettoTracks(this.#packets);
  readonly #times = new RecentTimes();
  /** Lanes of states and lines that last. */
  readonly #states = new Map<Lane, string>();
  /** Requests on their lanes, by who asks and their id. */
  readonly #requests = new Map<string, Lane>();
  #begun = false;

  constructor(about: StreamAbout) {
    this.#about = about;
  }

  begin(): Uint8Array {
    this.#packets.start();
    this.#tracks.start();
    return this.#packets.take();
  }

  event(event: VfioEvent): Uint8Array {
    const row = (rows[event.kind] ?? plain) as Row<EventKind>;
    const ns = nanoseconds(event.timeNs);
    const place = row.place(event);
    const shape = typeof row.shape === 'function' ? row.shape(event) : row.shape;
    // Before anything is written: fields of models may throw.
    const drawn: Drawn = {
      category: event.kind,
      name: shortText(row.name(event), NAME_CHARS),
      annotations: annotationsOf(event),
      flows: flowsOf(event),
    };
    const track = { device: shortText(event.device, NAME_CHARS), place: { ...place, name: shortText(place.name, NAME_CHARS) } };
    if (!this.#begun) this.#packets.clock(ns, BigInt.asUintN(63, this.#about.epochNs + BigInt(nanoseconds(event.hostNs))));
    this.#begun = true;
    this.#times.add(event.seq, ns);
    this.#draw(shape, event, track, ns, drawn);
    return this.#packets.take();
  }

  #draw(shape: Shape, event: VfioEvent, { device, place }: { device: string; place: Place }, ns: number, drawn: Drawn): void {
    if (shape === 'message') this.#message(event as MessageEvent, device, place, ns, drawn);
    else if (shape === 'slice') this.#slice(event as EventOf<'command' | 'wait'>, device, place, ns, drawn);
    else this.#mark(shape, this.#tracks.lane(device, place), ns, drawn);
  }

  #mark(shape: Shape, lane: Lane, ns: number, drawn: Drawn): void {
    // The end of a slice has no arrow, and a state that comes again no slice of its own.
    const goesOn = shape === 'state' && this.#states.get(lane) === drawn.name;
    if (shape !== 'state' || goesOn || lane.shared) this.#packets.instant(lane.track, ns, drawn);
    if (lane.shared) return;
    if (shape === 'over') this.#stateOver(lane, ns);
    else if (shape === 'state' && !goesOn) this.#state(lane, ns, drawn);
  }

  #state(lane: Lane, ns: number, drawn: Drawn): void {
    this.#stateOver(lane, ns);
    this.#states.set(lane, drawn.name);
    this.#packets.begin(lane.track, ns, drawn);
  }

  #stateOver(lane: Lane, ns: number): void {
    if (this.#states.delete(lane)) this.#packets.end(lane.track, ns);
  }

  /** An event with a latency, which is at its end. */
  #slice(event: EventOf<'command' | 'wait'>, device: string, place: Place, endNs: number, drawn: Drawn): void {
    const isCommand = event.kind === 'command';
    // A command is not before the doorbell that it comes from: latencies are rounded.
    const causeNs = isCommand ? this.#times.of(event.cause) : 0;
    const beginNs = Math.min(endNs, Math.max(causeNs, nanoseconds(event.timeNs - event.latencyNs)));
    const lane = this.#tracks.lane(device, place, beginNs, endNs);
    if (lane.shared) {
      this.#packets.instant(lane.track, endNs, drawn);
      return;
    }
    if (isCommand) {
      this.#packets.begin(lane.track, beginNs, drawn);
    } else {
      // Its cause ends it, and stands before the end.
      this.#packets.begin(lane.track, beginNs, { ...drawn, flows: [] });
      this.#packets.instant(lane.track, endNs, { ...drawn, name: 'over', annotations: [] });
    }
    this.#packets.end(lane.track, endNs);
  }

  #message(message: MessageEvent, device: string, place: Place, ns: number, drawn: Drawn): void {
    const { direction, twin, id, type } = message;
    const isReply = type === 'reply' || type === 'error';
    const key = `${device}\0${isReply ? other[direction] : direction}\0${twin}\0${id}`;
    const request = this.#requests.get(key);
    // A request whose id comes again had no reply.
    if (request !== undefined && type !== 'posted') this.#answered(key, request, ns, isReply ? drawn.annotations : []);
    if (isReply && request !== undefined) return;
    const lane =
      type === 'command' && this.#requests.size < REQUESTS_MAX ? this.#tracks.lane(device, place, ns, Number.POSITIVE_INFINITY) : null;
    if (lane === null || lane.shared) {
      const name = type === 'command' ? drawn.name : `${drawn.name} ${type}`;
      this.#packets.instant(this.#tracks.lane(device, place).track, ns, { ...drawn, name });
    } else {
      this.#requests.set(key, lane);
      this.#packets.begin(lane.track, ns, drawn);
    }
  }

  #answered(key: string, lane: Lane, ns: number, annotations: readonly AnnotationEntry[]): void {
    this.#requests.delete(key);
    lane.busyUntilNs = ns;
    const own = annotations.filter(([name]) => !SHARED_BY_REPLY.has(name));
    this.#packets.end(
      lane.track,
      ns,
      own.map(([name, value]) => [`reply ${name}`, value]),
    );
  }

  end(): Uint8Array {
    return this.#packets.take();
  }
}

/** A time of the trace: whole, from 0. */
function nanoseconds(ns: number): number {
  return ns > 0 ? Math.min(Math.round(ns), Number.MAX_SAFE_INTEGER) : 0;
}

/** Its own number, for those that it causes, and that of its cause. */
function flowsOf({ kind, seq, cause }: VfioEvent): number[] {
  if (kind === 'note' || kind === 'dropped') return [];
  return cause === 0 ? [seq] : [cause, seq];
}

function shortText(text: string, most: number): string {
  return printable(boundedText(text, most));
}

/** The fields of an event, by the table of kinds, and where it stands in the stream. */
function annotationsOf(event: VfioEvent): AnnotationEntry[] {
  const entries: AnnotationEntry[] = [['seq', event.seq]];
  if (event.cause !== 0) entries.push(['cause', event.cause]);
  for (const [name, type] of fieldsByKind[event.kind]) {
    const value: unknown = event[name as never];
    if (value !== undefined && value !== null) entries.push([name, annotationOf(value, type)]);
  }
  return entries;
}

function annotationOf(value: unknown, type: FieldType): AnnotationValue {
  switch (typeof value) {
    case 'bigint':
      return new Pointer(BigInt.asUintN(64, value));
    case 'number':
      return type.startsWith('hex') && Number.isSafeInteger(value) && value >= 0 ? new Pointer(value) : value;
    case 'boolean':
      return value;
    case 'object': {
      if (value instanceof Uint8Array) return shownBytes(value);
      const fields = boundedFields((value ?? {}) as Record<string, unknown>);
      return fields.map(([name, each]) => [printable(name), annotationOf(typeof each === 'object' ? '?' : each, type)]);
    }
    default:
      return shortText(String(value), TEXT_CHARS);
  }
}

function shownBytes(bytes: Uint8Array): string {
  const { buffer, byteOffset, length } = boundedBytes(bytes, SHOWN_BYTES);
  return `${Buffer.from(buffer, byteOffset, length).toString('hex')}${bytes.length > length ? '…' : ''}`;
}

export const perfetto: EventFormat = {
  name: 'perfetto',
  extensions: formatFiles.perfetto,
  help: 'timelines, for ui.perfetto.dev',
  make: ({ about }) => new PerfettoPrinter(about),
};
