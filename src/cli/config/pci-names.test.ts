import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { loadPciNames } from './pci-names.ts';

it('app: names come from the first database that there is, else the specification names the classes', () => {
  const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-ids-'));
  try {
    writeFileSync(join(directory, 'pci.ids'), '1af4  Red Hat, Inc.\n');
    expect(loadPciNames([join(directory, 'none'), join(directory, 'pci.ids')]).vendor(0x1af4)).toBe('Red Hat, Inc.');
    const builtIn = loadPciNames([join(directory, 'none')]);
    expect([builtIn.vendor(0x1af4), builtIn.subClass(1, 8)]).toEqual([undefined, 'Non-Volatile memory controller']);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
