/** The User Mode Linux that `vfio linux` boots: a given one, or the one in the cache. */
import { accessSync, constants, existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { cacheFolder, cachePath } from '../../sys/cache-folder.ts';
import { fromNode } from '../../sys/system-error.ts';
import { Unavailable } from './unavailable.ts';

/** The folder of the cache for kernels. @throws VfioError EACCES */
export function kernelFolder(): string {
  return join(cacheFolder('kernels that are built here'), 'uml');
}

/** Whether `buildKernel` has built one here. */
export function hasKernel(): boolean {
  return existsSync(join(cachePath(), 'uml/linux'));
}

/**
 * The kernel to boot.
 *
 * @param given a path; else the one that `buildKernel` has built
 * @throws VfioError ENOENT where there is none; EACCES for a file that cannot be run, or a cache
 *   that other users can write
 */
export function findKernel(given?: string): string {
  const path = given === undefined ? cached() : resolve(given);
  try {
    accessSync(path, constants.X_OK);
  } catch (cause) {
    throw fromNode(cause, `running the kernel ${path}`);
  }
  return path;
}

function cached(): string {
  if (!hasKernel()) {
    throw new Unavailable(
      `there is no User Mode Linux in ${join(cachePath(), 'uml')}`,
      "Build one: 'vfio linux --build' (about four minutes); or name one: --kernel PATH.",
    );
  }
  return join(kernelFolder(), 'linux');
}
