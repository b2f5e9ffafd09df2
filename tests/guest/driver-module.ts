/** A driver of Linux that Debian's kernels lack, built as a module of the guest's kernel. */
import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { ModuleBuild } from './module-build.ts';

/**
 * The module, from the cache where it was built before.
 *
 * @param source the driver's only file: `drivers/misc/pci_endpoint_test.c`
 * @throws Unavailable when a package cannot be had or the module cannot be built
 */
export function driverModule(build: ModuleBuild, source: string): Uint8Array {
  const name = basename(source, '.c');
  const built = join(build.cache, `${name}-${build.kernel}.ko`);
  if (!existsSync(built)) {
    const folder = build.source(name, [source]);
    const object = source.replace(/\.c$/, '');
    writeFileSync(join(folder, 'Makefile'), `obj-m := ${object}.o\n`);
    build.make(name);
    copyFileSync(join(folder, `${object}.ko`), built);
  }
  return readFileSync(built);
}
