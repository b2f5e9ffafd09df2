import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { dependencies, kernelModules } from './kernel-modules.ts';

/** The part of a module that matters: strings that end in NUL, somewhere in a file. */
const moduleBytes = (depends: string) => Buffer.from(`\x7fELF...\0license=GPL\0depends=${depends}\0name=x\0...`);

it('reads what a module needs', () => {
  expect(dependencies(moduleBytes('vfio,irqbypass'))).toEqual(['vfio', 'irqbypass']);
  expect(dependencies(moduleBytes(''))).toEqual([]);
  expect(dependencies(Buffer.from('no module'))).toEqual([]);
});

it('lists each module once, after those that it needs; a missing one is built in', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  try {
    const files = {
      'kernel/vfio/vfio.ko': '',
      'kernel/vfio/vfio-pci-core.ko': 'vfio,irqbypass',
      'kernel/vfio/pci/vfio-pci.ko': 'vfio-pci-core,vfio',
    };
    for (const [path, depends] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), moduleBytes(depends));
    }
    expect(kernelModules(folder, ['vfio_pci', 'serial', 'vfio'], 'busybox').map((m) => m.name)).toEqual([
      'vfio',
      'vfio_pci_core',
      'vfio_pci',
    ]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
