import fc from 'fast-check';
import { expect, it } from 'vitest';
import { about, anyEvent, printed } from '../../../tests/kit/arbitrary-events.ts';
import type { VfioEvent } from '../../abi/event.ts';
import { formatNamed } from './formats.ts';

const head = { seq: 1, timeNs: 5_000_000, hostNs: 0, device: '0000:00:04.0', cause: 0 };

it('one line an event: seconds since the first one, device, words', () => {
  const events: VfioEvent[] = [
    { ...head, kind: 'access', op: 'write', region: 0, offset: 8, size: 4, value: 5, verdict: 'device' },
    { ...head, timeNs: 5_123_456, kind: 'interrupt', step: 'delivered', irq: 'msix', vector: 1 },
    { ...head, timeNs: 1e9 + 5e6, device: 'unix:/tmp/edu.sock', kind: 'power', state: 'D3hot' },
    { ...head, timeNs: 2e9 + 5e6, kind: 'reset', by: 'open', method: 'flr' },
  ];
  expect(printed('text', events).toString()).toBe(
    [
      '    0.000000  0000:00:04.0  write32 BAR 0+0x8 ← 0x5',
      '    0.000123  0000:00:04.0  MSI-X 1 delivered',
      '    1.000000  unix:/tmp/edu.sock  power: D3hot',
      '    2.000000  0000:00:04.0        reset by open (flr)',
      '',
    ].join('\n'),
  );
});

it('a note does not repeat the device', () => {
  const note: VfioEvent = { ...head, kind: 'note', level: 'warn', about: 'model', text: '0000:00:04.0: the model fails' };
  expect(printed('text', [note]).toString()).toBe('    0.000000  0000:00:04.0  the model fails\n');
});

it('messages are in the words of the caller', () => {
  const message: VfioEvent = {
    ...{ ...head, kind: 'message', direction: 'to server', id: 1, command: 'REGION_READ', type: 'command', size: 32 },
    ...{ fds: 0, twin: false, bytes: new Uint8Array(32) },
  };
  const printer = formatNamed('text').make({ about, describe: ({ id }) => `message ${id}` });
  expect(printer.event(message)).toBe('    0.000000  0000:00:04.0  message 1\n');
});

it('no text breaks a line or moves a cursor', () => {
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 5 }), (events) => {
      const lines = printed('text', events).toString();
      expect(lines.split('\n')).toHaveLength(events.length + 1);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: the test looks for them
      expect(lines.replaceAll('\n', '')).not.toMatch(/[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e]/);
    }),
  );
});
