/**
 * The arguments of a system call in words, as strace(1) writes them: structures with their fields,
 * flags by name, and after the call the fields that it has changed. A VF token is not written.
 */
import type { OpenFile } from '../../ioctl/file-table.ts';
import type { RealMemory } from '../real-memory.ts';
import { type Argument, type Layout, requestOf, type Words } from './requests.ts';

/** Descriptors of SET_IRQS that are written, and characters of a text. */
const DESCRIPTORS_MAX = 8;
const TEXT_MAX = 64;

type Values = Readonly<Record<string, number | bigint>>;

/** A call that is being carried out. */
export interface CallText {
  readonly args: string;
  /** The arguments again, once it has succeeded. */
  after(): string;
}

export const plainText = (args: string): CallText => ({ args, after: () => args });

/** `900</dev/vfio/vfio>` */
export function fileText(fd: number, { body }: OpenFile): string {
  switch (body.kind) {
    case 'container':
      return `${fd}</dev/vfio/vfio>`;
    case 'iommufd':
      return `${fd}</dev/iommu>`;
    case 'group':
      return `${fd}</dev/vfio/${body.group.group.id}>`;
    case 'device':
      return `${fd}<${body.device.device.bdf}>`;
    case 'attribute':
      return `${fd}<${body.attribute.path}>`;
    default:
      return `${fd}<${body.kind}>`;
  }
}

const pointer = (address: number): string => (address === 0 ? 'NULL' : `0x${address.toString(16)}`);

/** The arguments of ioctl(2). */
export function ioctlText(fd: number, file: OpenFile, number: number, memory: RealMemory, argument: number): CallText {
  const { name, argument: row } = requestOf(file.body.kind, number);
  const head = `${fileText(fd, file)}, ${name}`;
  if (row.is !== 'structure') {
    const text = valueText(row, memory, argument);
    return plainText(text === '' ? head : `${head}, ${text}`);
  }
  const before = decoded(row.layout, memory, argument);
  if (before === null) return plainText(`${head}, ${pointer(argument)}`);
  const list = row.descriptors === true ? descriptorsText(before, memory, argument + row.layout.structSize) : '';
  const args = `${head}, {${fieldsText(before, row.words)}${list}}`;
  return {
    args,
    after: () => {
      const after = decoded(row.layout, memory, argument);
      if (after === null) return args;
      const changed = Object.fromEntries(Object.entries(after).filter(([field, value]) => value !== before[field]));
      return Object.keys(changed).length === 0 ? args : `${args} => {${fieldsText(changed, row.words)}}`;
    },
  };
}

function valueText(row: Exclude<Argument, { is: 'structure' }>, memory: RealMemory, argument: number): string {
  switch (row.is) {
    case 'nothing':
      return '';
    case 'number':
      return wordText(argument, row.words);
    case 'descriptor': {
      const bytes = new Uint8Array(4);
      if (memory.readUpTo(argument, bytes) < 4) return pointer(argument);
      return `[${new DataView(bytes.buffer).getInt32(0, true)}]`;
    }
    case 'name': {
      const bytes = new Uint8Array(TEXT_MAX);
      const text = Buffer.from(bytes.subarray(0, memory.readUpTo(argument, bytes))).toString('latin1');
      const [whole] = text.split('\0');
      return whole === '' ? pointer(argument) : JSON.stringify(whole!.replace(/vf_token=.*/, 'vf_token=…'));
    }
  }
}

function decoded(layout: Layout, memory: RealMemory, address: number): Values | null {
  const bytes = new Uint8Array(layout.structSize);
  // A structure may end before the newest version of it does.
  return memory.readUpTo(address, bytes) === 0 ? null : layout.decode(new DataView(bytes.buffer));
}

function fieldsText(values: Values, words: Readonly<Record<string, Words>> = {}): string {
  const fields = Object.entries(values).filter(([name, value]) => !/^(?:reserved|pad)/.test(name) || BigInt(value) !== 0n);
  return fields.map(([name, value]) => `${name}=${wordText(value, words[name])}`).join(', ');
}

function wordText(value: number | bigint, words: Words | undefined): string {
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  if (words?.one !== undefined) return nameOf(words.one, value) ?? String(value);
  if (words?.bits === undefined) return String(value);
  const low = words.low === undefined ? 0 : value & 0xffff;
  const named = Object.entries(words.bits).filter(([, bit]) => bit > 0xffff || words.low === undefined);
  const set = named.filter(([, bit]) => (value & bit) === bit);
  const rest = set.reduce((left, [, bit]) => left & ~bit, value - low) >>> 0;
  const parts = [...set.map(([name]) => name), ...(words.low === undefined ? [] : [nameOf(words.low, low) ?? String(low)])];
  if (rest !== 0 || parts.length === 0) parts.push(rest === 0 ? '0' : `0x${rest.toString(16)}`);
  return parts.join('|');
}

function nameOf(names: Readonly<Record<string, number>>, value: number): string | null {
  return Object.keys(names).find((name) => names[name] === value) ?? null;
}

/** The eventfds behind a struct vfio_irq_set. */
function descriptorsText(set: Values, memory: RealMemory, address: number): string {
  const DATA_EVENTFD = 4;
  const count = Number(set.count);
  if ((Number(set.flags) & DATA_EVENTFD) === 0 || count === 0) return '';
  const bytes = new Uint8Array(4 * Math.min(count, DESCRIPTORS_MAX));
  const got = memory.readUpTo(address, bytes) >> 2;
  const view = new DataView(bytes.buffer);
  const fds = Array.from({ length: got }, (_, i) => view.getInt32(4 * i, true));
  return `, data=[${fds.join(', ')}${count > fds.length ? ', …' : ''}]`;
}
