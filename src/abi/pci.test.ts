import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import * as pci from './pci.ts';

const src = join(import.meta.dirname, '..');

it('S2-20 rooms use a config register by name, and never by number', () => {
  const bare = /\b(?:config|hardware|vconfig)\.(?:read|write|writeBits)\(\s*(?:0x[\da-f]+|\d+)\b/;
  const wrong = ['engine', 'pci', 'ioctl', 'models'].flatMap((room) =>
    readdirSync(join(src, room), { recursive: true, encoding: 'utf8' })
      .filter((f) => f.endsWith('.ts') && !f.endsWith('.test.ts'))
      .filter((f) => bare.test(readFileSync(join(src, room, f), 'utf8')))
      .map((f) => join(room, f)),
  );
  expect(wrong).toEqual([]);
});

it('S2-20 the rule finds a bare offset', () => {
  expect('config.read(0x04, 2)').toMatch(/config\.read\(\s*0x/);
});

it('S2-20 registers of the header do not overlap and fill it up to the reserved bytes', () => {
  const endpoint = Object.entries(pci.Config)
    .filter(([name]) => !name.startsWith('BRIDGE_'))
    .map(([, offset]) => offset as number)
    .sort((a, b) => a - b);
  expect(new Set(endpoint).size).toBe(endpoint.length);
  expect(endpoint[0]).toBe(0);
  expect(endpoint.at(-1)).toBe(pci.HEADER_SIZE - 1);
});

it('S2-20 capability ids are unique and sizes hold their registers', () => {
  for (const ids of [pci.CapId, pci.ExtCapId]) {
    const values = Object.values(ids);
    expect(new Set<number>(values).size).toBe(values.length);
  }
  expect(pci.Msi.SIZE_32).toBe(pci.Msi.DATA_32 + 2);
  expect(pci.Msi.SIZE_64).toBe(pci.Msi.DATA_64 + 2);
  expect(pci.Msi.SIZE_32_MASKED).toBe(pci.Msi.PENDING_32 + 4);
  expect(pci.Msi.SIZE_64_MASKED).toBe(pci.Msi.PENDING_64 + 4);
});
