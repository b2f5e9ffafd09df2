/**
 * A model of SET_IRQS's matrix (B.9) as a few sets and flags, and random sequences for it: good and
 * bad requests, with interrupts between them. It is written from the matrix, not from the engine.
 */
import fc from 'fast-check';
import { Command, Config } from '../../src/abi/pci.ts';
import type { ErrnoName } from '../../src/base/errno.ts';
import type { FakeEventFd } from '../../src/sys/fake.ts';
import type { InterruptRig, Part } from './interrupt-rig.ts';

export const SINKS = 4;
export const SOURCES = 2;
const COUNTS = [1, 4, 8, 1, 1];
const TYPES = ['intx', 'msi', 'msix'] as const;

/** An element of `sinks`: the number of an eventfd, null, or a value that is neither. */
type Element = number | null | 'junk';

export interface Call {
  readonly index: number;
  readonly action: string;
  readonly data: string;
  readonly start: number;
  readonly count: number;
  readonly elements: readonly Element[];
  readonly bools: readonly boolean[];
}

class Failed extends Error {
  readonly errno: ErrnoName;
  constructor(errno: ErrnoName) {
    super(errno);
    this.errno = errno;
  }
}

const fail = (errno: ErrnoName): never => {
  throw new Failed(errno);
};

export class Model {
  type: 'none' | 'intx' | 'msi' | 'msix' = 'none';
  level = false;
  masked = false;
  virtuallyDisabled = false;
  busMaster = true;
  /** Sinks by vector, of the enabled type. */
  sinks = new Map<number, number>();
  allocated = new Set<number>();
  initial = 0;
  pending = new Set<number>();
  source: number | null = null;
  notify: (number | null)[] = [null, null];
  readonly signals = Array<number>(SINKS).fill(0);
  readonly sourceCounts = Array<number>(SOURCES).fill(0);
  readonly limit: number;

  constructor(limit: number) {
    this.limit = limit;
  }

  references(sink: number): number {
    return 1 + [...this.sinks.values(), ...this.notify].filter((used) => used === sink).length;
  }

  /** Type, mask, signals and references of each sink, references of each source. */
  state(): unknown[] {
    const sinks = this.signals.flatMap((count, sink) => [count, this.references(sink)]);
    const sources = this.sourceCounts.map((_, source) => (this.source === source ? 2 : 1));
    return [this.type, this.type === 'intx' && this.masked, ...sinks, ...sources];
  }

  /** The result of SET_IRQS, or the errno's name. */
  answer(call: Call): string | number {
    try {
      return this.set(call);
    } catch (error) {
      if (error instanceof Failed) return error.errno;
      throw error;
    }
  }

  signal(vector: number): void {
    const sink = this.sinks.get(vector);
    if (sink !== undefined) this.signals[sink]!++;
  }

  signalIntx(): void {
    if (!this.virtuallyDisabled) this.signal(0);
  }

  wire(): void {
    if (this.type !== 'intx' || !this.level || this.masked) return;
    this.masked = true;
    this.signalIntx();
  }

  unmask(): void {
    if (this.type !== 'intx' || !this.masked || this.virtuallyDisabled) return;
    if (this.level) this.signalIntx();
    else this.masked = false;
  }

  disIntx(on: boolean): void {
    if (on === this.virtuallyDisabled) return;
    this.virtuallyDisabled = on;
    if (on && this.type === 'intx') this.masked = true;
    if (!on) this.unmask();
  }

  message(vector: number): void {
    if (this.type !== 'msi' && this.type !== 'msix') return;
    const have = this.type === 'msix' ? 8 : 2 ** Math.ceil(Math.log2(this.initial));
    if (!Number.isInteger(vector) || vector < 0 || vector >= have) return;
    if (!this.sinks.has(vector)) this.pending.add(vector);
    else if (this.busMaster) this.signal(vector);
  }

  flush(): void {
    if (!this.busMaster) return;
    for (const vector of [...this.pending].filter((v) => this.sinks.has(v))) {
      this.pending.delete(vector);
      this.signal(vector);
    }
  }

  signalSource(source: number): void {
    if (this.source === source) this.unmask();
    else this.sourceCounts[source]!++;
  }

  off(): void {
    this.type = 'none';
    this.sinks.clear();
    this.allocated.clear();
    this.pending.clear();
    this.masked = false;
    this.source = null;
  }

  close(): void {
    this.off();
    this.notify = [null, null];
    this.virtuallyDisabled = false;
  }

  set(call: Call): number {
    const { index, start, count, data, action } = call;
    if (![0, 1, 2, 3, 4].includes(index)) fail('EINVAL');
    for (const value of [start, count]) if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) fail('EINVAL');
    if (start >= COUNTS[index]! || start + count > COUNTS[index]!) fail('EINVAL');
    if (data === 'bool' && call.bools.length < count) fail('EINVAL');
    if (data === 'sinks' && call.elements.length < count) fail('EINVAL');
    if (!['none', 'bool', 'sinks'].includes(data)) fail('EINVAL');
    if (!['mask', 'unmask', 'trigger'].includes(action)) fail('ENOTTY');
    if (index === 0) return this.setIntx(call);
    if (action !== 'trigger') fail('ENOTTY');
    return index < 3 ? this.setMessages(call, TYPES[index]! as 'msi' | 'msix') : this.setNotify(call);
  }

  asks(call: Call, i: number): boolean {
    return call.data === 'none' || (call.data === 'bool' && call.bools[i]!);
  }

  setIntx(call: Call): number {
    const { action, data, start, count } = call;
    const active = this.type === 'intx';
    if (action !== 'trigger') {
      if (!active || start !== 0 || count !== 1) fail('EINVAL');
      if (action === 'mask') {
        if (data === 'sinks') fail('ENOTTY');
        if (this.asks(call, 0)) this.masked = true;
      } else if (data === 'sinks') {
        const element = call.elements[0]!;
        if (element === 'junk') fail('EINVAL');
        if (element === null) this.source = null;
        else if (this.source !== null) fail('EBUSY');
        else {
          this.source = (element as number) % SOURCES;
          if (this.sourceCounts[this.source]! > 0) this.unmask();
          this.sourceCounts[this.source] = 0;
        }
      } else if (this.asks(call, 0)) this.unmask();
      return 0;
    }
    if (active && count === 0 && data === 'none') {
      this.off();
      return 0;
    }
    if ((!active && this.type !== 'none') || start !== 0 || count !== 1) fail('EINVAL');
    if (data === 'sinks') {
      const element = call.elements[0]!;
      if (element === 'junk') fail('EINVAL');
      this.sinks.clear();
      if (element !== null) this.sinks.set(0, element as number);
      if (!active) {
        this.type = 'intx';
        this.masked = this.virtuallyDisabled;
        this.wire();
      }
      return 0;
    }
    if (!active) fail('EINVAL');
    if (this.asks(call, 0)) this.signalIntx();
    return 0;
  }

  setMessages(call: Call, type: 'msi' | 'msix'): number {
    const { data, start, count, elements } = call;
    const active = this.type === type;
    if (active && count === 0 && data === 'none') {
      this.off();
      return 0;
    }
    if (!active && this.type !== 'none') fail('EINVAL');
    const block = elements.slice(0, count);
    if (data === 'sinks') {
      if (!active) {
        if (start + count === 0) fail('ERANGE');
        if (this.limit === 0) fail('ENOSPC');
        if (start + count > this.limit) return Math.min(this.limit, COUNTS[TYPES.indexOf(type)]!);
      } else {
        const added = block.filter((e, i) => e !== null && !this.allocated.has(start + i)).length;
        if (added > 0 && type === 'msi') fail('EINVAL');
        if (added > 0 && this.allocated.size + added > this.limit) fail('ENOSPC');
      }
      if (block.includes('junk')) fail('EINVAL');
      if (!active) {
        this.type = type;
        this.initial = start + count;
        for (let v = 0; v < this.initial; v++) this.allocated.add(v);
      }
      for (let i = 0; i < count; i++) {
        const element = block[i]!;
        if (element === null) this.sinks.delete(start + i);
        else {
          this.allocated.add(start + i);
          this.sinks.set(start + i, element as number);
        }
        this.flush();
      }
      return 0;
    }
    if (!active) fail('EINVAL');
    for (let i = 0; i < count; i++) if (this.asks(call, i)) this.signal(start + i);
    return 0;
  }

  setNotify(call: Call): number {
    const { index, data, count } = call;
    const at = index - 3;
    const sink = this.notify[at]!;
    if (data === 'none') {
      if (sink === null) fail('EINVAL');
      if (count === 0) this.notify[at] = null;
      else this.signals[sink]!++;
      return 0;
    }
    if (count === 0) fail('EINVAL');
    if (data === 'bool') {
      if (call.bools[0] && sink !== null) this.signals[sink]!++;
      return 0;
    }
    const element = call.elements[0]!;
    if (element === 'junk') fail('EINVAL');
    this.notify[at] = element as number | null;
    return 0;
  }
}

export type Step =
  | { readonly kind: 'set'; readonly call: Call }
  | { readonly kind: 'raise' | 'lower' | 'close' | 'error' | 'request' }
  | { readonly kind: 'message' | 'source'; readonly number: number }
  | { readonly kind: 'disIntx' | 'busMaster'; readonly on: boolean };

const element: fc.Arbitrary<Element> = fc.oneof(
  { weight: 20, arbitrary: fc.nat({ max: SINKS - 1 }) },
  { weight: 5, arbitrary: fc.constant(null) },
  { weight: 1, arbitrary: fc.constant<'junk'>('junk') },
);
const oddNumber = fc.constantFrom(-1, 1.5, Number.NaN, 9, 0x7fff_ffff, 0xffff_ffff, 2 ** 32, 2 ** 53, Number.POSITIVE_INFINITY);
const elements = fc.array(element, { minLength: 8, maxLength: 8 });
const bools = fc.array(fc.boolean(), { minLength: 8, maxLength: 8 });
/** Any fields together: the engine refuses most of them. */
const anyCall: fc.Arbitrary<Call> = fc.record({
  index: fc.oneof({ weight: 30, arbitrary: fc.constantFrom(0, 1, 2, 2, 3, 4) }, { weight: 1, arbitrary: oddNumber }),
  action: fc.constantFrom('trigger', 'trigger', 'trigger', 'mask', 'unmask', 'both'),
  data: fc.constantFrom('none', 'none', 'bool', 'sinks', 'sinks', 'sinks', 'two'),
  start: fc.oneof(
    { weight: 20, arbitrary: fc.constant(0) },
    { weight: 10, arbitrary: fc.nat({ max: 7 }) },
    { weight: 1, arbitrary: oddNumber },
  ),
  count: fc.oneof(
    { weight: 10, arbitrary: fc.constant(1) },
    { weight: 10, arbitrary: fc.nat({ max: 8 }) },
    { weight: 5, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: oddNumber },
  ),
  elements: fc.oneof({ weight: 10, arbitrary: elements }, { weight: 1, arbitrary: fc.array(element, { maxLength: 3 }) }),
  bools: fc.oneof({ weight: 10, arbitrary: bools }, { weight: 1, arbitrary: fc.array(fc.boolean(), { maxLength: 3 }) }),
});
/** Requests of a driver for one index: arm, fire, disable; for INTx masks too. */
const sensibleCall = (index: number, actions: readonly string[], count: fc.Arbitrary<number>): fc.Arbitrary<Call> =>
  fc
    .record({
      index: fc.constant(index),
      action: fc.constantFrom(...actions),
      data: fc.constantFrom('none', 'bool', 'sinks', 'sinks'),
      start: fc.constant(0),
      count,
      elements,
      bools,
    })
    .map((c) => (c.count === 0 ? { ...c, data: 'none' } : c));
const one = fc.constantFrom(1, 1, 1, 1, 1, 0);
export const call: fc.Arbitrary<Call> = fc.oneof(
  { weight: 3, arbitrary: anyCall },
  { weight: 5, arbitrary: sensibleCall(0, ['trigger', 'trigger', 'mask', 'unmask', 'unmask'], one) },
  { weight: 2, arbitrary: sensibleCall(1, ['trigger'], fc.nat({ max: 4 })) },
  { weight: 2, arbitrary: sensibleCall(2, ['trigger'], fc.nat({ max: 8 })) },
  { weight: 1, arbitrary: sensibleCall(3, ['trigger'], one) },
  { weight: 1, arbitrary: sensibleCall(4, ['trigger'], one) },
);
export const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: fc.record({ kind: fc.constant<'set'>('set'), call }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constantFrom<'raise' | 'lower'>('raise', 'lower') }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant<'message'>('message'), number: fc.oneof(fc.nat({ max: 8 }), oddNumber) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant<'source'>('source'), number: fc.nat({ max: SOURCES - 1 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom<'disIntx' | 'busMaster'>('disIntx', 'busMaster'), on: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom<'close' | 'error' | 'request'>('close', 'error', 'request') }) },
);

export function part(c: Call, sinks: readonly FakeEventFd[], sources: readonly FakeEventFd[]): Part {
  const from = (fds: readonly FakeEventFd[]) =>
    c.elements.map((e) => (typeof e === 'number' ? fds[e % fds.length]! : e === null ? null : {}));
  return { action: c.action, data: c.data, start: c.start, count: c.count, values: c.bools, sinks: from(sinks), sources: from(sources) };
}

export function perform(rig: InterruptRig, s: Exclude<Step, { kind: 'set' }>, sources: readonly FakeEventFd[]): void {
  switch (s.kind) {
    case 'raise':
      rig.host.raise();
      break;
    case 'lower':
      rig.host.lower();
      break;
    case 'message':
      rig.host.trigger(s.number);
      break;
    case 'source':
      sources[s.number]!.signal();
      break;
    case 'disIntx':
      rig.interrupts.intxDisable(s.on);
      break;
    case 'busMaster':
      rig.config.writeBits(Config.COMMAND, 2, s.on ? Command.MASTER : 0, Command.MASTER);
      break;
    case 'error':
      rig.interrupts.signalError();
      break;
    case 'request':
      rig.interrupts.signalRequest();
      break;
    case 'close':
      rig.interrupts.disableAll();
      break;
  }
}

export function performOnModel(model: Model, s: Exclude<Step, { kind: 'set' }>): void {
  switch (s.kind) {
    case 'raise':
      model.level = true;
      model.wire();
      break;
    case 'lower':
      model.level = false;
      break;
    case 'message':
      model.message(s.number);
      break;
    case 'source':
      model.signalSource(s.number);
      break;
    case 'disIntx':
      model.disIntx(s.on);
      break;
    case 'busMaster':
      model.busMaster = s.on;
      model.flush();
      break;
    case 'error':
    case 'request': {
      const sink = model.notify[s.kind === 'error' ? 0 : 1]!;
      if (sink !== null) model.signals[sink]!++;
      break;
    }
    case 'close':
      model.close();
      break;
  }
}
