import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { CapId, ExtCapId } from '../../abi/pci.ts';
import { PciExp } from './pci-express-registers.ts';
import { extendedKinds, kindOf, standardKinds } from './registry.ts';

it('the registry is in the order of ids, and each id is of the kind that its list says', () => {
  for (const [kinds, extended] of [
    [standardKinds, undefined],
    [extendedKinds, true],
  ] as const) {
    expect(kinds.map((kind) => kind.id)).toEqual(kinds.map((kind) => kind.id).sort((a, b) => a - b));
    expect(kinds.filter((kind) => kind.extended !== extended)).toEqual([]);
  }
});

it('the registry has every kind that a file of this folder declares', () => {
  const declared = readdirSync(import.meta.dirname)
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
    .flatMap((file) => [
      ...readFileSync(join(import.meta.dirname, file), 'utf8').matchAll(
        /^export const \w+: (?:CapabilityKind = \{)[^}]*?\bid: (\w+)\.(\w+)/gm,
      ),
    ])
    .map(([, table, name]) =>
      table === 'CapId' ? kindOf(CapId[name as keyof typeof CapId], false) : kindOf(ExtCapId[name as keyof typeof ExtCapId], true),
    );
  expect(declared.length).toBeGreaterThan(40);
  expect(declared).not.toContain(undefined);
});

it('S2-20 the sizes of PCI Express hold its registers', () => {
  expect(PciExp.SIZE_V1).toBe(PciExp.LNKSTA + 2);
  expect(PciExp.SIZE_V2).toBe(PciExp.LNKSTA2 + 2);
  expect(PciExp.SIZE_V2_FULL).toBe(PciExp.SLTSTA2 + 2);
});
