/**
 * Fingerprints of events: two runs of one scenario did the same when their digests are equal. There
 * are two normal forms.
 *
 * **stream**: every event in the order of the stream, with every field but `hostNs`. Two runs of
 * one process with a `ManualClock` are equal so.
 *
 * **device**: for each device the events that it takes part in, in their order. Runs that reach the
 * device by different ways (in the process, over a socket) are equal so. The form leaves out:
 *
 * - kinds that depend on the way: all but those of `deviceKinds`, and reads of config space, which
 *   a client keeps in memory or makes for itself;
 * - times, latencies, `data`, and the way of a DMA;
 * - the numbers of the stream. An event has the number that it has among its device's events in
 *   this form. Its cause is the nearest event of this form on the way back to the first cause: a
 *   wire message between the two does not show.
 */
import { createHash, type Hash } from 'node:crypto';
import type { EventKind, VfioEvent } from '../abi/event.ts';
import { RegionIndex } from '../abi/vfio.ts';
import { rowOf } from './kinds.ts';

/** Kinds of the device form. */
const deviceKinds: ReadonlySet<EventKind> = new Set([
  'access',
  'dma',
  'dma-refused',
  'interrupt',
  'set-irqs',
  'reset',
  'power',
  'enable',
  'migration',
  'error',
  'command',
  'fault',
] satisfies EventKind[]);
const left: ReadonlySet<string> = new Set(['latencyNs', 'data', 'way']);
/** Events back that a cause is looked for: the memory of a digest does not grow. A power of two. */
const REACH = 2 ** 18;

export interface EventDigests {
  /** Events, and the sha256 of the stream form. */
  readonly events: number;
  readonly sha256: string;
  /** The device form, by name of the device. Devices without an event of that form are left out. */
  readonly devices: ReadonlyMap<string, { readonly events: number; readonly sha256: string }>;
}

interface DeviceState {
  readonly name: string;
  readonly hash: Hash;
  events: number;
}

/** Digests of events that come one by one. Its memory does not grow with their number. */
export class EventDigest {
  readonly #hash = createHash('sha256');
  readonly #devices = new Map<string, DeviceState>();
  /** Of the last events, by `seq`: the event of the device form that it is, or that led to it. */
  readonly #seqs = new Float64Array(REACH);
  readonly #owners: (DeviceState | null)[] = new Array(REACH).fill(null);
  readonly #labels = new Float64Array(REACH);
  #events = 0;

  /** @param event events come in the order of the stream */
  add(event: VfioEvent): void {
    this.#events++;
    const { kind, device, seq, cause, timeNs } = event;
    this.#hash.update(`${JSON.stringify([kind, seq, timeNs, device, cause])}${fieldsOf(event, false)}\n`);
    const from = cause & (REACH - 1);
    const known = cause > 0 && this.#seqs[from] === cause;
    let owner = known ? this.#owners[from]! : null;
    let label = known ? this.#labels[from]! : 0;
    if (isOfDeviceForm(event)) {
      const state = this.#stateOf(device);
      const led = owner === null ? '0' : owner === state ? `${label}` : `${label} of ${JSON.stringify(owner.name)}`;
      owner = state;
      label = ++state.events;
      state.hash.update(`${kind} ${label} ${led}${fieldsOf(event, true)}\n`);
    }
    const at = seq & (REACH - 1);
    this.#seqs[at] = seq;
    this.#owners[at] = owner;
    this.#labels[at] = label;
  }

  #stateOf(name: string): DeviceState {
    let state = this.#devices.get(name);
    if (state === undefined) {
      state = { name, hash: createHash('sha256'), events: 0 };
      this.#devices.set(name, state);
    }
    return state;
  }

  /** The digests of all events so far. More may come. */
  digests(): EventDigests {
    const devices = [...this.#devices.values()].map(
      ({ name, hash, events }) => [name, { events, sha256: hash.copy().digest('hex') }] as const,
    );
    return { events: this.#events, sha256: this.#hash.copy().digest('hex'), devices: new Map(devices) };
  }
}

/** Whether an event is part of the device form. */
export function isOfDeviceForm(event: VfioEvent): boolean {
  if (event.kind === 'access' && event.region === RegionIndex.CONFIG && event.op === 'read') return false;
  return deviceKinds.has(event.kind);
}

/**
 * The fields of a kind in the order of its row, so that events that were read from a file agree.
 */
function fieldsOf(event: VfioEvent, deviceForm: boolean): string {
  const values = event as unknown as Readonly<Record<string, unknown>>;
  let text = '';
  for (const name of Object.keys(rowOf(event.kind).fields)) {
    const value = values[name];
    if (value === undefined || (deviceForm && left.has(name))) continue;
    text += ` ${name}=${valueText(value)}`;
  }
  return text;
}

/** A number and the bigint of its size are the same. */
function valueText(value: unknown): string {
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.length).toString('hex');
  if (typeof value === 'object' && value !== null) {
    return `{${Object.entries(value)
      .map(([name, each]) => `${JSON.stringify(name)}:${valueText(each)}`)
      .join(',')}}`;
  }
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}
