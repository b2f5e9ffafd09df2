import { expect, it } from 'vitest';
import { Facts } from './facts.ts';

it('keeps facts by subject and key, lines of one key together, other words apart', () => {
  const facts = new Facts();
  expect(facts.add('@ served id 0x10000ed')).toEqual({ subject: 'served', key: 'id', value: '0x10000ed' });
  facts.add('@ served lspci 00:09.0 one');
  facts.add('@ served lspci \ttwo');
  facts.add('@ qemu id');
  expect(facts.add('insmod: no such file')).toBe(null);
  facts.add('');
  expect([facts.get('served', 'id'), facts.get('served', 'lspci'), facts.get('qemu', 'id')]).toEqual([
    '0x10000ed',
    '00:09.0 one\n\ttwo',
    '',
  ]);
  expect(facts.keys('served', 'l')).toEqual(['lspci']);
  expect([...facts][0]).toEqual(['served', 'id', '0x10000ed']);
  expect(facts.words).toBe('insmod: no such file');
  expect(() => facts.get('qemu', 'lspci')).toThrow('the guest printed no lspci of qemu');
});
