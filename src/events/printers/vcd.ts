/**
 * Value change dumps for GTKWave and other viewers of waves (IEEE 1364, 18.2): for each device its
 * interrupts, last access, last DMA, commands, states, and requests under way.
 *
 * A dump names its signals before the first change, and a stream does not know its devices then. So
 * the header comes with the first event of a device that is used, and has signals for that device
 * and for a few more: `device_1`, whose signal `name` says which device it is. Each device has the
 * same signals. A signal for what happens at one moment is high for 1 ns.
 */
import type { EventKind, EventOf, VfioEvent } from '../../abi/event.ts';
import { formatFiles } from './format-files.ts';
import type { EventFormat, EventPrinter, PrinterOptions } from './printer.ts';

/** Devices that may come after the first. */
const SPARE = 24;
/** Devices without signals whose states are remembered. */
const UNUSED_MAX = 1024;
const WORD_CHARS = 64;
const MSI_VECTORS = 32;
const MSIX_VECTORS = 64;

/** Signals of a device: bits, or `text`. */
const widths = {
  name: 'text',
  /** Level of the pin. */
  intx: 1,
  /** A bit a vector: high for 1 ns when its message is sent, and while that waits, masked. */
  msi: MSI_VECTORS,
  msix: MSIX_VECTORS,
  /** The vector of the last message, also one that has no bit. */
  vector: 16,
  err: 1,
  req: 1,
  access: 1,
  access_write: 1,
  access_region: 16,
  access_offset: 64,
  access_size: 64,
  access_value: 64,
  access_refused: 1,
  dma: 1,
  dma_write: 1,
  dma_iova: 64,
  dma_size: 64,
  dma_refused: 1,
  /** At the end of a command. */
  command: 1,
  command_name: 'text',
  command_failed: 1,
  command_latency_ns: 64,
  wait: 1,
  wait_latency_ns: 64,
  /** Messages of vfio-user that wait for their reply. */
  requests: 16,
  bus_master: 1,
  memory: 1,
  power: 'text',
  migration: 'text',
  reset: 1,
} as const satisfies Record<string, number | 'text'>;

type Signal = keyof typeof widths;
const signals = Object.keys(widths) as Signal[];
type Value = number | bigint | boolean | string;

/** The name of a device as a scope: letters, digits and `_`, and none of the spare ones. */
function scopeName(device: string): string {
  const name = device.slice(0, WORD_CHARS).replace(/[^A-Za-z0-9]/g, '_');
  return /^(?!device_)[A-Za-z]/.test(name) ? name : `_${name}`;
}

/** A text as a value: one word without `$`, which begins a keyword. */
function word(text: string): string {
  return text.slice(0, WORD_CHARS).replace(/[^!-#%-~]/g, '_') || '_';
}

/** Short names of signals: digits to the base of 94. */
function identifier(number: number): string {
  const digit = String.fromCharCode(33 + (number % 94));
  return number < 94 ? digit : identifier(Math.floor(number / 94) - 1) + digit;
}

/** A line of a change. */
function change(width: number | 'text', value: Value, id: string): string {
  if (width === 'text') return `s${word(String(value))} ${id}\n`;
  const bits = bitsOf(value, width);
  return width === 1 ? `${bits} ${id}\n`.replace(' ', '') : `b${bits} ${id}\n`;
}

function bitsOf(value: Value, width: number): string {
  if (typeof value === 'bigint') return BigInt.asUintN(width, value).toString(2);
  const number = Number(value);
  return Number.isSafeInteger(number) && number >= 0 ? (number % 2 ** width).toString(2) : 'x';
}

/** A device, as the dump has it. */
class Slot {
  readonly scope: string;
  readonly device: string | null;
  readonly #ids: { readonly [S in Signal]: string };
  /** Lines of the last changes. */
  readonly #last = new Map<Signal, string>();
  /** Vectors that wait, masked. */
  readonly #waiting = { msi: 0n, msix: 0n };
  readonly #high = { msi: 0n, msix: 0n };
  /** Vectors whose message is sent, and has not arrived. */
  readonly #underWay = { msi: 0n, msix: 0n };
  /** Signals that fall 1 ns later. */
  readonly falling = new Set<Signal>();
  readonly requests = new Set<string>();

  constructor(scope: string, device: string | null, firstId: number) {
    this.scope = scope;
    this.device = device;
    this.#ids = Object.fromEntries(signals.map((signal, i) => [signal, identifier(firstId + i)])) as Record<Signal, string>;
  }

  declarations(): string {
    const lines = signals.map((signal) => {
      const width: number | 'text' = widths[signal];
      const kind = width === 'text' ? 'string 1' : `wire ${width}`;
      const range = width === 'text' || width === 1 ? '' : ` [${width - 1}:0]`;
      return `$var ${kind} ${this.#ids[signal]} ${signal}${range} $end\n`;
    });
    return `$scope module ${this.scope} $end\n${lines.join('')}$upscope $end\n`;
  }

  /** All values at the beginning. */
  first(): string {
    return signals
      .map((signal) => this.set(signal, signal === 'name' ? (this.device ?? 'unused') : widths[signal] === 'text' ? 'unknown' : 0))
      .join('');
  }

  /** @returns the line of the change; empty: there is none */
  set(signal: Signal, value: Value): string {
    const line = change(widths[signal], value, this.#ids[signal]);
    if (this.#last.get(signal) === line) return '';
    this.#last.set(signal, line);
    return line;
  }

  /** High for 1 ns. */
  pulse(signal: Signal): string {
    this.falling.add(signal);
    return this.set(signal, 1);
  }

  /** A step of a vector's message. Where both its ends are seen, it is high at the first. */
  message(irq: 'msi' | 'msix', vector: number, step: 'raised' | 'pending' | 'delivered' | 'dropped'): string {
    const known = vector < (irq === 'msi' ? MSI_VECTORS : MSIX_VECTORS) && vector >= 0;
    const bit = known ? 1n << BigInt(Math.floor(vector)) : 0n;
    const changed = (bits: bigint, on: boolean): bigint => (on ? bits | bit : bits & ~bit);
    const arrived = step === 'delivered' && (this.#underWay[irq] & bit) !== 0n;
    this.#underWay[irq] = changed(this.#underWay[irq], step === 'raised');
    if (arrived) return '';
    this.#waiting[irq] = changed(this.#waiting[irq], step === 'pending');
    this.#high[irq] = changed(this.#high[irq], step !== 'dropped');
    this.falling.add(irq);
    return this.set(irq, this.#high[irq]) + this.set('vector', vector);
  }

  fall(): string {
    let lines = '';
    for (const signal of this.falling) {
      const isVectors = signal === 'msi' || signal === 'msix';
      if (isVectors) this.#high[signal] = this.#waiting[signal];
      lines += this.set(signal, isVectors ? this.#waiting[signal] : 0);
    }
    this.falling.clear();
    return lines;
  }
}

/** By kind: the lines of an event. */
const rows: { readonly [K in EventKind]?: (slot: Slot, event: EventOf<K>) => string } = {
  access: (slot, e) =>
    slot.pulse('access') +
    slot.set('access_write', e.op === 'write') +
    slot.set('access_region', e.region) +
    slot.set('access_offset', e.offset) +
    slot.set('access_size', e.size) +
    slot.set('access_value', e.value ?? 'x') +
    (e.errno === undefined ? '' : slot.pulse('access_refused')),
  dma: (slot, e) =>
    slot.pulse('dma') + slot.set('dma_write', e.op === 'write') + slot.set('dma_iova', e.iova) + slot.set('dma_size', e.size),
  'dma-refused': (slot, e) => slot.pulse('dma_refused') + slot.set('dma_write', e.op === 'write') + slot.set('dma_iova', e.iova),
  interrupt: (slot, { irq, step, vector }) => {
    const sent = step === 'raised' || step === 'delivered';
    if (irq === 'intx') return step === 'raised' || step === 'lowered' ? slot.set('intx', step === 'raised') : '';
    if (irq === 'err' || irq === 'req') return sent ? slot.pulse(irq) : '';
    if (irq !== 'msi' && irq !== 'msix') return '';
    return sent || step === 'pending' || step === 'dropped' ? slot.message(irq, vector, step) : '';
  },
  command: (slot, e) =>
    slot.pulse('command') +
    slot.set('command_name', e.name) +
    slot.set('command_failed', e.status !== 'ok') +
    slot.set('command_latency_ns', Math.round(e.latencyNs)),
  wait: (slot, e) => slot.pulse('wait') + slot.set('wait_latency_ns', Math.round(e.latencyNs)),
  message: (slot, { type, direction, twin, id }) => {
    if (type === 'posted') return '';
    const fromClient = (direction === 'to server') === (type === 'command');
    const key = `${fromClient}${twin}${id}`;
    if (type !== 'command') slot.requests.delete(key);
    else if (slot.requests.size < 65_535) slot.requests.add(key);
    return slot.set('requests', slot.requests.size);
  },
  enable: (slot, e) => slot.set('bus_master', e.busMaster) + slot.set('memory', e.memory),
  power: (slot, e) => slot.set('power', e.state),
  migration: (slot, e) => (e.errno === undefined ? slot.set('migration', e.to) : ''),
  reset: (slot, e) => (e.errno === undefined ? slot.pulse('reset') : ''),
};

/** Kinds by which a device gets signals. Bridges are powered and enabled, too. */
const USES: ReadonlySet<EventKind> = new Set<EventKind>([
  'access',
  'dma',
  'dma-refused',
  'interrupt',
  'command',
  'wait',
  'message',
  'migration',
]);

/** The lines of an event on its device. */
function linesOf(slot: Slot, event: VfioEvent): string {
  return rows[event.kind]?.(slot, event as never) ?? '';
}

/** Signals of the dump itself: events that are missing, and those of devices without signals. */
const OWN = [
  { name: 'missing_events', id: identifier(0) },
  { name: 'other_devices_events', id: identifier(1) },
] as const;

class VcdPrinter implements EventPrinter {
  readonly #options: PrinterOptions;
  #beganNs: number | null;
  /** The time of the last event, in nanoseconds since the beginning. */
  #ns = 0;
  /** The last time in the dump. */
  #writtenNs = 0;
  readonly #slots = new Map<string, Slot>();
  readonly #spare: Slot[] = [];
  /** Last states of devices without signals. */
  readonly #unused = new Map<string, Map<EventKind, VfioEvent>>();
  /** The header is written. */
  #named = false;
  #missing = 0;
  #others = 0;

  constructor(options: PrinterOptions) {
    this.#options = options;
    this.#beganNs = options.beganNs ?? null;
  }

  begin(): string {
    return '';
  }

  event(event: VfioEvent): string {
    this.#beganNs ??= event.timeNs;
    const header = this.#headerBefore(event);
    const after = Math.round(event.timeNs - this.#beganNs);
    // Files of others may go back in time, or jump.
    const ns = Number.isSafeInteger(after) ? Math.max(this.#ns, after) : this.#ns;
    const fallen = ns > this.#ns ? this.#fall() : '';
    const changes = event.kind === 'dropped' ? this.#dropped(event.count) : this.#changes(event);
    const time = changes !== '' && ns > this.#writtenNs ? this.#time(ns) : '';
    this.#ns = ns;
    return header + fallen + time + changes;
  }

  end(): string {
    return (this.#named ? '' : this.#header(null)) + this.#fall();
  }

  /** The header comes with the first event of a device that is used. */
  #headerBefore({ kind, device }: VfioEvent): string {
    return this.#named || !USES.has(kind) ? '' : this.#header(device);
  }

  #dropped(count: number): string {
    this.#missing += count;
    return this.#named ? change(64, this.#missing, OWN[0].id) : '';
  }

  #changes(event: VfioEvent): string {
    const known = this.#slots.get(event.device);
    if (known !== undefined) return linesOf(known, event);
    if (!USES.has(event.kind)) {
      this.#remember(event);
      return '';
    }
    const slot = this.#spare.shift();
    if (slot === undefined) return change(64, ++this.#others, OWN[1].id);
    this.#slots.set(event.device, slot);
    return slot.set('name', event.device) + this.#earlier(slot, event.device) + linesOf(slot, event);
  }

  /** The state of a device that is not used yet, such as a bridge. */
  #remember(event: VfioEvent): void {
    if (event.kind !== 'power' && event.kind !== 'enable') return;
    const states = this.#unused.get(event.device) ?? new Map<EventKind, VfioEvent>();
    if (states.size === 0 && this.#unused.size >= UNUSED_MAX) return;
    this.#unused.set(event.device, states.set(event.kind, event));
  }

  #earlier(slot: Slot, device: string): string {
    const states = [...(this.#unused.get(device)?.values() ?? [])];
    this.#unused.delete(device);
    return states.map((event) => linesOf(slot, event)).join('');
  }

  /** Signals that are high for a moment fall. */
  #fall(): string {
    let lines = '';
    for (const slot of this.#slots.values()) if (slot.falling.size > 0) lines += slot.fall();
    return lines === '' ? '' : this.#time(this.#ns + 1) + lines;
  }

  #time(ns: number): string {
    this.#writtenNs = ns;
    return `#${ns}\n`;
  }

  #header(device: string | null): string {
    this.#named = true;
    const { about } = this.#options;
    const all: Slot[] = [];
    const add = (scope: string, of: string | null) => {
      const slot = new Slot(scope, of, OWN.length + all.length * signals.length);
      all.push(slot);
      return slot;
    };
    if (device !== null) this.#slots.set(device, add(scopeName(device), device));
    for (let i = 1; i <= SPARE; i++) this.#spare.push(add(`device_${i}`, null));
    return [
      `$version ${word(about.program)} $end\n`,
      '$timescale 1 ns $end\n',
      '$scope module vfio $end\n',
      ...OWN.map(({ name, id }) => `$var wire 64 ${id} ${name} [63:0] $end\n`),
      ...all.map((slot) => slot.declarations()),
      '$upscope $end\n$enddefinitions $end\n#0\n$dumpvars\n',
      ...OWN.map(({ id }, i) => change(64, i === 0 ? this.#missing : 0, id)),
      ...all.map((slot) => slot.first() + (slot.device === null ? '' : this.#earlier(slot, slot.device))),
      '$end\n',
    ].join('');
  }
}

export const vcd: EventFormat = {
  name: 'vcd',
  extensions: formatFiles.vcd,
  help: 'waves of interrupts, accesses, DMA and states, for GTKWave',
  kinds: [...(Object.keys(rows) as EventKind[]), 'dropped'],
  make: (options) => new VcdPrinter(options),
};
