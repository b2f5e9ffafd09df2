/**
 * The wires of one machine, or of the devices that one server serves: named ones, which several
 * ports share, and those of this computer.
 */
import type { Wire } from '../abi/wire.ts';
import { totalOf } from '../abi/wire-tally.ts';
import { Cleanup } from '../base/cleanup.ts';
import { type Clock, SystemClock } from '../base/clock.ts';
import { VfioError } from '../base/errno.ts';
import { type Logger, silentLogger } from '../base/log.ts';
import type { EventSource } from '../events/source.ts';
import type { EventStream } from '../events/stream.ts';
import type { OpenedWire, WireOptions } from '../models/registry.ts';
import { cable } from '../models/wires/cable.ts';
import { hub, learningSwitch, type SharedWire } from '../models/wires/hub.ts';
import { impaired } from '../models/wires/impaired.ts';
import { captured } from '../sys/wires/capture.ts';
import { datagramWire, descriptorWire, streamWire, tapWire } from '../sys/wires/open-wire.ts';
import { recordedWire } from '../sys/wires/recorded-frames.ts';

/** Clock and log of wires. */
export interface WiresOptions {
  /** For delays, ageing and tries to reach a peer. Default: the system's. */
  readonly clock?: Clock;
  /** Gets lines about peers, and the counters of each wire when it ends. Default: silent. */
  readonly log?: Logger;
  /**
   * Nothing of the computer is opened: the machine is only looked at. Ports have no link then.
   * Default: false.
   */
  readonly planned?: boolean;
}

/** One kind of wire: `KIND:VALUE`. */
interface Kind {
  /** The form of the value, for people. */
  readonly form: string;
  /** The named wire that several ports share. */
  readonly shared?: true;
  readonly open: (wires: Wires, value: string, options: WireOptions) => Wire;
}

const kinds: Readonly<Record<string, Kind>> = {
  switch: { form: 'NAME', shared: true, open: (wires, name) => wires.join('switch', name) },
  hub: { form: 'NAME', shared: true, open: (wires, name) => wires.join('hub', name) },
  cable: { form: 'NAME', shared: true, open: (wires, name) => wires.join('cable', name) },
  tap: { form: 'INTERFACE', open: (wires, name) => tapWire(name, wires.host) },
  stream: { form: 'PATH or HOST:PORT', open: (wires, at) => streamWire(at, false, wires.host) },
  'stream-listen': { form: 'PATH or HOST:PORT', open: (wires, at) => streamWire(at, true, wires.host) },
  dgram: { form: 'PATH or HOST:PORT', open: openDgram },
  fd: { form: 'NUMBER', open: (wires, text) => descriptorWire(descriptorOf(text), wires.host) },
  pcap: { form: 'FILE', open: (wires, path, { pace = 'recorded' }) => recordedWire(path, { ...wires.host, pace }) },
};

function openDgram(wires: Wires, local: string, { remote }: WireOptions): Wire {
  if (remote !== undefined) return datagramWire(local, remote, wires.host);
  throw new VfioError('EINVAL', `dgram:${local} has no peer`, { fix: "Give the peer's address, too: remote=PATH or remote=HOST:PORT." });
}

function descriptorOf(text: string): number {
  if (/^\d{1,9}$/.test(text) && Number(text) > 2) return Number(text);
  throw new VfioError('EINVAL', `fd:${text.slice(0, 40)} is no descriptor for a wire`, { fix: 'Give a number from 3 on, such as fd:3.' });
}

const NAME = /^[\w.-]{1,64}$/;

/** @throws VfioError EINVAL for a kind that does not exist, or a value that is missing */
function parseWire(text: string): { readonly kind: string; readonly value: string } {
  const at = text.indexOf(':');
  const kind = at < 0 ? text : text.slice(0, at);
  const value = at < 0 ? '' : text.slice(at + 1);
  if (!Object.hasOwn(kinds, kind)) {
    throw new VfioError('EINVAL', `there is no wire ${JSON.stringify(text.slice(0, 80))}`, {
      fix: `Wires are ${Object.entries(kinds)
        .map(([name, { form }]) => `${name}:${form}`)
        .join(', ')}.`,
    });
  }
  const { form, shared } = kinds[kind]!;
  if (value === '' || (shared && !NAME.test(value))) {
    throw new VfioError(
      'EINVAL',
      `the wire ${JSON.stringify(text.slice(0, 80))} has no ${form === 'NAME' ? 'name that can be' : 'place'}`,
      {
        fix: `Write it as ${kind}:${form === 'NAME' ? 'lan' : form}.`,
      },
    );
  }
  return { kind, value };
}

/**
 * The key of devices that need one thread, as `DeviceModel.sharesWith`; null for a wire of the
 * computer.
 *
 * @throws VfioError EINVAL as `parseWire`
 */
export function sharedWireOf(text: string): string | null {
  const { kind, value } = parseWire(text);
  return kinds[kind]!.shared === true ? `${kind} ${value}` : null;
}

/** Named wires are kept while a port is on them. */
export class Wires {
  readonly clock: Clock;
  readonly #log: Logger;
  readonly #planned: boolean;
  readonly #named = new Map<string, { readonly wire: SharedWire; ports: number }>();

  constructor({ clock = new SystemClock(), log = silentLogger, planned = false }: WiresOptions = {}) {
    this.#planned = planned;
    this.clock = clock;
    this.#log = log;
  }

  /** Options of wires of the computer. */
  get host() {
    return { clock: this.clock, report: (line: string) => this.#log.log('info', line) };
  }

  /**
   * The wire of one port; null: it has none.
   *
   * @throws VfioError EINVAL for options that cannot be, or exclude each other; EBUSY for a cable
   *   with two ports; the errors of taps, sockets and files
   */
  open(options: WireOptions): OpenedWire | null {
    const { wire: text, remote, pace, capture, ...chances } = options;
    if (text === undefined) {
      const [first] = Object.keys(options);
      if (first === undefined) return null;
      throw new VfioError('EINVAL', `the option '${first}' is for a wire, and there is none`, {
        fix: 'Give a wire, such as wire=switch:lan.',
      });
    }
    const { kind, value } = parseWire(text);
    if (remote !== undefined && kind !== 'dgram') throw new VfioError('EINVAL', `${text} has no remote`, { fix: 'Only dgram has one.' });
    if (pace !== undefined && kind !== 'pcap') throw new VfioError('EINVAL', `${text} has no pace`, { fix: 'Only pcap has one.' });
    const shares = sharedWireOf(text);
    const tie = shares === null ? {} : { sharesWith: shares };
    if (this.#planned) return { wire: cable()[0], ...tie };
    using undo = new Cleanup();
    let wire: Wire = kinds[kind]!.open(this, value, options);
    undo.use(wire);
    const { seed: _, ...harm } = chances;
    if (Object.keys(harm).length > 0) wire = impaired(wire, chances, this.clock);
    if (capture !== undefined) wire = captured(wire, capture, this.host);
    undo.move();
    return { wire: this.#logged(wire), ...tie };
  }

  /** A place on the named wire, for `kinds`. */
  join(kind: string, name: string): Wire {
    const key = `${kind} ${name}`;
    let found = this.#named.get(key);
    if (found === undefined) {
      found = { wire: this.#make(kind, key), ports: 0 };
      this.#named.set(key, found);
    }
    const { wire } = found;
    const place = wire.port();
    found.ports++;
    return around(place, () => {
      found.ports--;
      if (found.ports === 0 && this.#named.get(key) === found) this.#named.delete(key);
    });
  }

  #make(kind: string, name: string): SharedWire {
    const options = { name, clock: this.clock };
    if (kind === 'switch') return learningSwitch(options);
    return kind === 'hub' ? hub(options) : sharedCable(options);
  }

  /** Logs the counters when the wire ends, if it has carried anything. */
  #logged(wire: Wire): Wire {
    return around(wire, ({ sent, received, lost, missed }) => {
      if (sent + received + totalOf(missed) === 0) return;
      const reasons = [lost, missed].map((losses) => Object.entries(losses).map(([reason, frames]) => `, ${reason} ${frames}`));
      const [out, back] = reasons.map((each) => each.join(''));
      this.#log.log('info', `${wire.name}: sent ${sent}${out}; received ${received}${back}`);
    });
  }
}

/** The wires of one server, on the clock of its events. Their lines are events of `source`. */
export function wiresFor(source: EventSource, { clock }: EventStream): Wires {
  return new Wires({ clock, log: { log: (level, line) => source.note(level, 'a wire', line) } });
}

/** `inner`, and a call with its last counters when it is disposed. */
function around(inner: Wire, ended: (counters: Wire['counters']) => void): Wire {
  let disposed = false;
  return {
    name: inner.name,
    get counters() {
      return inner.counters;
    },
    plug: (port) => inner.plug(port),
    [Symbol.dispose]: () => {
      if (disposed) return;
      disposed = true;
      inner[Symbol.dispose]();
      ended(inner.counters);
    },
  };
}

/** A cable as a wire that two ports can join; an end that is free again can have a new port. */
function sharedCable(options: { readonly name: string; readonly clock: Clock }): SharedWire {
  const ends = cable(options);
  const taken = [false, false];
  return {
    name: options.name,
    port: () => {
      const end = taken.indexOf(false);
      if (end < 0) {
        throw new VfioError('EBUSY', `${options.name} has two ports already`, {
          fix: 'More than two join a switch or a hub: wire=switch:lan.',
        });
      }
      taken[end] = true;
      const { name } = ends[end]!;
      let plugged: Disposable | null = null;
      return {
        name,
        get counters() {
          return ends[end]!.counters;
        },
        plug: (port) => {
          const place = ends[end]!.plug(port);
          plugged = place;
          return place;
        },
        [Symbol.dispose]: () => {
          plugged?.[Symbol.dispose]();
          plugged = null;
          taken[end] = false;
        },
      };
    },
  };
}
