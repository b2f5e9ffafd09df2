/**
 * VFIO of the guest's kernel with the parts that Debian leaves out: iommufd, a device's own file
 * (cdev), VFIO without an IOMMU, and mtty, a sample device that can be moved.
 *
 * All of them are modules, so they are built of Debian's source for Debian's kernel. Debian's
 * configuration lacks them: make gets their variables, and the compiler their macros.
 */
import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { ModuleBuild } from './module-build.ts';

const SOURCES = ['drivers/vfio', 'drivers/iommu', 'lib/interval_tree.c', 'samples/vfio-mdev/mtty.c'];

/** Options of Linux's configuration: modules, and parts of modules. */
const MODULES = ['IOMMUFD', 'IOMMUFD_DRIVER', 'VFIO_MDEV', 'IOMMU_PT_AMDV1'];
const PARTS = ['IOMMUFD_NOIOMMU', 'VFIO_DEVICE_CDEV', 'VFIO_NOIOMMU'];

/**
 * Parts that Linux builds into the kernel itself, where iommufd is wanted; here iommufd.ko has
 * them. One more, of the option IOMMUFD_DRIVER, is a module, which says its licence then.
 */
const IN_IOMMUFD = ['IOMMUFD_DRIVER_CORE', 'INTERVAL_TREE_SPAN_ITER'];
const LICENCE = '#include <linux/module.h>\nMODULE_LICENSE("GPL");\nMODULE_DESCRIPTION("iova_bitmap of iommufd");\n';

/** Options that Debian has, and whose objects would be built in vain. */
const NOT_AGAIN = ['IOMMU_PT_VTDSS', 'IOMMU_PT_X86_64'];

/**
 * The folder of the modules, from the cache where they were built before: a minute.
 *
 * @throws Unavailable when a package cannot be had or the modules cannot be built
 */
export function vfioModules(build: ModuleBuild): string {
  const built = join(build.cache, `vfio-modules-${build.kernel}`);
  if (existsSync(built)) return built;
  const name = 'vfio';
  const folder = build.source(name, SOURCES);
  addSpanIterator(folder);
  appendFileSync(join(folder, 'drivers/iommu/iommufd/Makefile'), 'iommufd-y += driver.o span_iterator.o\n');
  appendFileSync(join(folder, 'drivers/iommu/iommufd/iova_bitmap.c'), LICENCE);
  writeFileSync(join(folder, 'samples/vfio-mdev/Makefile'), 'obj-m := mtty.o\n');
  const macros = [...MODULES.map((option) => `${option}_MODULE`), ...PARTS, ...IN_IOMMUFD].map((option) => `-DCONFIG_${option}=1`);
  const folders = ['drivers/iommu/iommufd/', 'drivers/iommu/generic_pt/fmt/', 'drivers/vfio/', 'samples/vfio-mdev/'];
  writeFileSync(join(folder, 'Makefile'), `obj-m += ${folders.join(' ')}\nsubdir-ccflags-y += ${macros.join(' ')}\n`);
  build.make(name, [
    ...MODULES.map((option) => `CONFIG_${option}=m`),
    ...PARTS.map((option) => `CONFIG_${option}=y`),
    ...NOT_AGAIN.map((option) => `CONFIG_${option}=`),
  ]);
  const found = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ko'));
  const unfinished = mkdtempSync(join(build.cache, 'vfio-modules-'));
  for (const file of found) writeFileSync(join(unfinished, basename(file)), readFileSync(join(folder, file)));
  renameSync(unfinished, built);
  rmSync(folder, { recursive: true });
  return built;
}

/** The part of an interval tree that only iommufd uses, as a source of iommufd. */
function addSpanIterator(folder: string): void {
  const lines = readFileSync(join(folder, 'lib/interval_tree.c'), 'utf8').split('\n');
  const start = lines.indexOf('#ifdef CONFIG_INTERVAL_TREE_SPAN_ITER');
  const includes = lines.filter((line) => line.startsWith('#include'));
  const part = lines.slice(start, lines.indexOf('#endif', start) + 1).filter((line) => !line.startsWith('EXPORT_SYMBOL'));
  if (start < 0) throw new Error('lib/interval_tree.c has no span iterator any more');
  writeFileSync(join(folder, 'drivers/iommu/iommufd/span_iterator.c'), [...includes, ...part, ''].join('\n'));
}
