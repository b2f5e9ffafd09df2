/**
 * Arbitrary events of every kind, made by the table of kinds. Texts are words that events have, or
 * hostile.
 */
import fc from 'fast-check';
import type { EventKind, VfioEvent } from '../../src/abi/event.ts';
import { type FieldType, fieldsOf, headFields, kindNames, type ValueType } from '../../src/events/kinds.ts';
import { formatNamed } from '../../src/events/printers/formats.ts';
import type { StreamAbout } from '../../src/events/printers/printer.ts';

export const about: StreamAbout = { program: 'vfio-ts 0.1.0', epochNs: 1_790_000_000_000_000_000n };

const WORDS = [
  ...['read', 'write', 'map', 'unmap', 'raised', 'lowered', 'delivered', 'masked', 'intx', 'msi', 'msix', 'err', 'device', 'refused'],
  ...['direct', 'remote', 'view', 'D0', 'D3hot', 'suspended', 'opened', 'closed', 'RUNNING', 'STOP', 'to server', 'to client', 'command'],
  ...['reply', 'error', 'posted', 'REGION_READ', 'DMA_WRITE', 'warn', 'EBUSY', 'ok', 'I/O 1', 'machine', '0000:00:04.0', '0000:00:05.0'],
  ...[
    '__proto__',
    'constructor',
    '$end',
    '#1 0\n#2',
    '\x1b[2J',
    '\u202e',
    '"\\',
    "'0x10",
    '0x10',
    '0x0000000000000010',
    '\ud800',
    'a b',
    '',
  ],
];
const text = fc.oneof(fc.constantFrom(...WORDS), fc.string({ unit: 'binary', maxLength: 40 }));
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const whole = fc.oneof(fc.nat(64), fc.maxSafeNat());
const bytes = fc.uint8Array({ maxLength: 80 });
const values: { readonly [T in ValueType]: fc.Arbitrary<unknown> } = {
  text,
  number: whole,
  hex: fc.oneof(whole, u64),
  bigint: u64,
  flag: fc.boolean(),
  bytes,
  record: fc.dictionary(
    text,
    fc.oneof(
      text,
      whole,
      fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => n + 0),
      u64,
      fc.boolean(),
    ),
  ),
};

function arbitraryOf(type: FieldType): fc.Arbitrary<unknown> {
  if (type === 'text or null') return fc.oneof(fc.constant(null), text);
  return values[type.replace('?', '') as ValueType];
}

const fields = (types: readonly (readonly [string, FieldType])[]) => ({
  model: Object.fromEntries(types.map(([name, type]) => [name, arbitraryOf(type)])),
  required: types.filter(([, type]) => !type.endsWith('?')).map(([name]) => name),
});

/** An event of `kind`. */
export function eventOf(kind: EventKind): fc.Arbitrary<VfioEvent> {
  const { model, required } = fields([...Object.entries(headFields), ...fieldsOf(kind)]);
  return fc
    .record(model, { requiredKeys: required, noNullPrototype: true })
    .map((details) => ({ kind, ...details }) as unknown as VfioEvent);
}

/** An event of any kind. */
export const anyEvent: fc.Arbitrary<VfioEvent> = fc.oneof(...kindNames.map(eventOf));

/** Everything that a printer of `format` makes of `events`. */
export function printed(format: string, events: readonly VfioEvent[]): Buffer {
  const printer = formatNamed(format).make({ about });
  return Buffer.concat(
    [printer.begin(), ...events.map((event) => printer.event(event)), printer.end()].map((piece) => Buffer.from(piece as string)),
  );
}
