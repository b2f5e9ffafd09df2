/**
 * The table of kinds: fields in the order in which printers write them, words for people, and how
 * the log treats them. A new kind is an interface in abi/event.ts and a row here.
 */
import type { EventDetails, EventHead, EventKind, EventOf } from '../abi/event.ts';
import { hex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import type { LogLevel } from '../base/log.ts';
import { nearest } from '../base/nearest.ts';

/** The version of the records. */
export const EVENTS_VERSION = 1;

/**
 * How a value is written as text and read back. `hex` is a number or a bigint; `record` is an
 * object of plain values.
 */
export type ValueType = 'text' | 'number' | 'hex' | 'bigint' | 'flag' | 'bytes' | 'record';
/** The value of a field. With `?` the field may be absent. */
export type FieldType = ValueType | `${ValueType}?` | 'text or null';

/** The types of a field that the interface of its kind allows: the table says what is optional. */
type FieldTypeOf<Details, F extends keyof Details> =
  // biome-ignore lint/complexity/noBannedTypes: `{}` is assignable where the field is optional
  {} extends Pick<Details, F> ? `${ValueType}?` : null extends Details[F] ? 'text or null' : ValueType;

export interface KindRow<K extends EventKind = EventKind> {
  readonly fields: { readonly [F in keyof EventDetails<K>]-?: FieldTypeOf<EventDetails<K>, F> };
  /** One line for people, without time and device. */
  readonly words: (event: EventDetails<K>) => string;
  /** The level of its log line; null: it has none. A function where the event decides. */
  readonly level: LogLevel | null | ((event: EventDetails<K>) => LogLevel | null);
  /**
   * Fields by which two events of one device are alike, where the log is limited in rate: a like
   * event is counted instead of written.
   */
  readonly alike: readonly (keyof EventDetails<K>)[];
}

const refusal = ({ errno, reason }: { readonly errno?: string; readonly reason?: string }): string =>
  `${errno === undefined ? '' : `: ${errno}`}${reason === undefined ? '' : `: ${reason}`}`;

export function regionWords(region: number): string {
  if (region < 6) return `BAR ${region}`;
  return region === 6 ? 'ROM' : region === 7 ? 'config' : region === 8 ? 'VGA' : `region ${region}`;
}

const irqNames = { intx: 'INTx', msi: 'MSI', msix: 'MSI-X', err: 'ERR', req: 'REQ' } as const;
type IrqName = keyof typeof irqNames;
/** Events that are read from a file may have a word of a later version. */
export const irqWords = (irq: IrqName): string => (Object.hasOwn(irqNames, irq) ? irqNames[irq] : irq);
export const vectorWords = ({ irq, vector }: { readonly irq: IrqName; readonly vector: number }): string =>
  irq === 'msi' || irq === 'msix' ? `${irqNames[irq]} ${vector}` : irqWords(irq);

/** Interrupt remapping stopped a message: its device, or its user, has written one of its own. */
const REMAPPED = 'remapped';

const micro = (ns: number): string => `${(ns / 1000).toFixed(1)} µs`;
const quiet = { level: null, alike: [] } as const;

/** By kind. The order is that of the numbers that the stream's memory holds. */
export const kinds: { readonly [K in EventKind]: KindRow<K> } = {
  access: {
    ...quiet,
    fields: {
      op: 'text',
      region: 'number',
      offset: 'hex',
      size: 'number',
      value: 'hex?',
      verdict: 'text',
      rule: 'text?',
      errno: 'text?',
      data: 'bytes?',
    },
    words: ({ op, region, offset, size, value, verdict, rule, errno }) => {
      const what = `${op}${size <= 8 ? size * 8 : ''} ${regionWords(region)}+${hex(offset)}${size <= 8 ? '' : `, ${size} bytes`}`;
      const moved = value === undefined ? '' : ` ${op === 'read' ? '→' : '←'} ${hex(value)}`;
      const decided = [verdict === 'device' ? '' : `${verdict}${errno === undefined ? '' : ` ${errno}`}`, rule ?? ''].filter(
        (each) => each !== '',
      );
      return `${what}${moved}${decided.length === 0 ? '' : `  ${decided.join(': ')}`}`;
    },
  },
  mapping: {
    ...quiet,
    fields: { op: 'text', region: 'number', offset: 'hex', size: 'hex' },
    words: ({ op, region, offset, size }) => `${op} ${regionWords(region)}+${hex(offset)}, ${hex(size)} bytes`,
  },
  'dma-map': {
    ...quiet,
    fields: { iova: 'bigint', size: 'bigint', access: 'text?', memory: 'text', vaddrOnly: 'flag?', errno: 'text?', reason: 'text?' },
    words: (e) =>
      `${e.vaddrOnly === true ? 'new vaddr of' : 'map'} ${hex(e.size)} bytes at IOVA ${hex(e.iova)}` +
      `${e.access === undefined ? '' : `, ${e.access}`}, ${e.memory}${refusal(e)}`,
  },
  'dma-unmap': {
    ...quiet,
    fields: { iova: 'bigint', size: 'bigint', vaddrOnly: 'flag?', errno: 'text?', reason: 'text?' },
    words: (e) => `unmap ${e.vaddrOnly === true ? 'vaddr of ' : ''}${hex(e.size)} bytes at IOVA ${hex(e.iova)}${refusal(e)}`,
  },
  dma: {
    ...quiet,
    fields: { op: 'text', iova: 'bigint', size: 'number', way: 'text', data: 'bytes?' },
    words: ({ op, iova, size, way }) => `DMA ${op} of ${size} bytes at ${hex(iova)}${way === 'direct' ? '' : `, ${way}`}`,
  },
  'dma-refused': {
    fields: { op: 'text', iova: 'bigint', reason: 'text', count: 'number' },
    words: ({ op, iova, reason, count }) => `DMA ${op} at ${hex(iova)} did not land: ${reason} (${count} so far)`,
    level: 'warn',
    alike: ['op', 'reason'],
  },
  interrupt: {
    fields: { step: 'text', irq: 'text', vector: 'number', reason: 'text?' },
    words: (e) =>
      e.reason === REMAPPED
        ? `${irqNames[e.irq]} vector ${e.vector} sent a message that was not programmed; dropped`
        : `${vectorWords(e)} ${e.step}${e.reason === undefined ? '' : `: ${e.reason}`}`,
    level: ({ reason }) => (reason === REMAPPED ? 'warn' : null),
    alike: ['reason'],
  },
  'set-irqs': {
    ...quiet,
    fields: { irq: 'text', action: 'text', with: 'text', start: 'number', count: 'number', errno: 'text?', reason: 'text?' },
    words: (e) => `SET_IRQS ${irqWords(e.irq)} ${e.action}, ${e.with}, ${e.count} from ${e.start}${refusal(e)}`,
  },
  reset: {
    ...quiet,
    fields: { by: 'text', method: 'text?', errno: 'text?', reason: 'text?' },
    words: (e) => `reset by ${e.by}${e.method === undefined ? '' : ` (${e.method})`}${refusal(e)}`,
  },
  power: { ...quiet, fields: { state: 'text' }, words: ({ state }) => `power: ${state}` },
  enable: {
    ...quiet,
    fields: { busMaster: 'flag', memory: 'flag', io: 'flag' },
    words: (e) => `bus master ${onOff(e.busMaster)}, memory ${onOff(e.memory)}, I/O ${onOff(e.io)}`,
  },
  bind: {
    ...quiet,
    fields: { driver: 'text or null', was: 'text or null', errno: 'text?', reason: 'text?' },
    words: (e) => `driver ${e.driver ?? 'none'}, was ${e.was ?? 'none'}${refusal(e)}`,
  },
  group: {
    ...quiet,
    fields: { group: 'number', step: 'text', container: 'text?', errno: 'text?', reason: 'text?' },
    words: (e) =>
      `group ${e.group} ${e.step}${e.container === undefined ? '' : ` ${e.step === 'detached' ? 'from' : 'to'} ${e.container}`}${refusal(e)}`,
  },
  plug: {
    ...quiet,
    fields: { step: 'text', name: 'text?', errno: 'text?', reason: 'text?' },
    words: (e) => `${e.step}${e.name === undefined ? '' : `: ${e.name}`}${refusal(e)}`,
  },
  open: {
    ...quiet,
    fields: { step: 'text', pid: 'number', via: 'text?', why: 'text?', errno: 'text?', reason: 'text?' },
    words: (e) => {
      const way = e.via === undefined ? '' : ` by ${e.via}: ${e.why}`;
      return `${e.step}${e.pid === 0 ? '' : ` by process ${e.pid}`}${way}${refusal(e)}`;
    },
  },
  token: {
    fields: { step: 'text', reason: 'text?' },
    words: ({ step, reason }) => reason ?? `VF token ${step}`,
    level: ({ step }) => (step === 'refused' ? 'info' : null),
    alike: ['step', 'reason'],
  },
  migration: {
    ...quiet,
    fields: { from: 'text', to: 'text', errno: 'text?', reason: 'text?' },
    words: (e) => `migration: ${e.from} → ${e.to}${refusal(e)}`,
  },
  feature: {
    ...quiet,
    fields: { name: 'text', op: 'text', value: 'text?', errno: 'text?', reason: 'text?' },
    words: (e) => `${e.op} ${e.name}${e.value === undefined ? '' : `: ${e.value}`}${refusal(e)}`,
  },
  vm: { ...quiet, fields: { step: 'text', name: 'text' }, words: ({ step, name }) => `reference on ${name} ${step}` },
  fault: {
    ...quiet,
    fields: { step: 'text', errno: 'text' },
    words: ({ step, errno }) => `injected fault at ${step}: ${errno}`,
  },
  error: {
    fields: { severity: 'text', sent: 'flag' },
    words: ({ severity }) => `reports a ${severity} PCI Express error`,
    level: ({ severity, sent }) => (!sent ? null : severity === 'correctable' ? 'info' : 'warn'),
    alike: ['severity'],
  },
  command: {
    ...quiet,
    fields: { name: 'text', queue: 'text?', fields: 'record', status: 'text', latencyNs: 'number' },
    words: ({ name, queue, fields, status, latencyNs }) =>
      `${queue === undefined ? '' : `${queue}: `}${name}${Object.entries(fields)
        .map(([key, value]) => ` ${key}=${String(value)}`)
        .join('')}: ${status}, ${micro(latencyNs)}`,
  },
  wait: {
    ...quiet,
    fields: { what: 'text', outcome: 'text', latencyNs: 'number' },
    words: ({ what, outcome, latencyNs }) => `waited for ${what}: ${outcome}, ${micro(latencyNs)}`,
  },
  message: {
    ...quiet,
    fields: {
      direction: 'text',
      id: 'number',
      command: 'text',
      type: 'text',
      size: 'number',
      fds: 'number',
      descriptors: 'text?',
      twin: 'flag',
      errno: 'text?',
      bytes: 'bytes',
      data: 'bytes?',
    },
    words: ({ direction, twin, id, command, type, size, fds, errno }) =>
      `${direction === 'to server' ? '->' : '<-'}${twin ? ' twin' : ''} #${id} ${command}${type === 'command' ? '' : ` ${type}`}, ${size} bytes` +
      `${errno === undefined ? '' : `, ${errno}`}${fds === 0 ? '' : `, with ${fds} descriptors`}`,
  },
  note: {
    fields: { level: 'text', about: 'text', text: 'text' },
    words: ({ text }) => text,
    level: ({ level }) => level,
    alike: ['about'],
  },
  call: {
    ...quiet,
    fields: { pid: 'number', call: 'text', args: 'text', result: 'number?', errno: 'text?', reason: 'text?' },
    words: ({ pid, call, args, result, errno, reason }) => {
      const end = errno === undefined ? (result ?? '?') : `-1 ${errno}${reason === undefined ? '' : ` (${reason})`}`;
      return `[pid ${pid}] ${call}(${args}) = ${end}`;
    },
  },
  dropped: { ...quiet, fields: { count: 'number' }, words: ({ count }) => `${count} events are missing here` },
};

function onOff(on: boolean): string {
  return on ? 'on' : 'off';
}

/** The kinds by number, as the stream's memory has them. */
export const kindNames = Object.keys(kinds) as EventKind[];
export const kindNumbers = Object.fromEntries(kindNames.map((kind, number) => [kind, number])) as Readonly<Record<EventKind, number>>;

/** The number of a kind. @throws VfioError EINVAL with the nearest name, for one that is no kind */
export function kindNumber(kind: string): number {
  if (Object.hasOwn(kindNumbers, kind)) return kindNumbers[kind as EventKind];
  const close = nearest(String(kind), kindNames);
  throw new VfioError('EINVAL', `there are no events of kind '${String(kind)}'`, {
    fix: close === null ? `Kinds: ${kindNames.join(', ')}.` : `Did you mean '${close}'?`,
  });
}

/** The fields of the head, which all kinds share. */
export const headFields = {
  seq: 'number',
  timeNs: 'number',
  hostNs: 'number',
  device: 'text',
  cause: 'number',
} as const satisfies { readonly [F in keyof EventHead]: FieldType };

/** The row of a kind, for code that handles all kinds alike. */
export function rowOf(kind: EventKind): KindRow {
  return kinds[kind] as unknown as KindRow;
}

/** One line for people, without time and device. */
export function wordsOf(event: EventOf<EventKind>): string {
  return rowOf(event.kind).words(event as never);
}

/** The fields of a kind without the head, in the order in which printers write them. */
export function fieldsOf(kind: EventKind): readonly (readonly [name: string, type: FieldType])[] {
  return Object.entries<FieldType>(kinds[kind].fields);
}
