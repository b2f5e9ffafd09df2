/**
 * Modules of a guest kernel with their dependencies, in load order, without depmod: each module
 * names its dependencies.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Unavailable } from '../../src/api/linux/unavailable.ts';

export interface KernelModule {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/**
 * @param folder lib/modules/VERSION of the kernel
 * @param names modules wanted; one that is not there is taken to be built in
 * @param busybox a static busybox that runs here: it unpacks .xz
 * @param instead a folder of modules that take the place of the kernel's own
 */
export function kernelModules(folder: string, names: readonly string[], busybox: string, instead?: string): KernelModule[] {
  const files = new Map<string, string>();
  for (const place of instead === undefined ? [folder] : [folder, instead]) {
    for (const file of readdirSync(place, { recursive: true, encoding: 'utf8' })) {
      if (/\.ko(\.xz)?$/.test(file)) files.set(moduleName(basename(file).replace(/\.ko(\.xz)?$/, '')), join(place, file));
    }
  }
  const loaded = new Map<string, KernelModule>();
  const load = (wanted: string) => {
    const name = moduleName(wanted);
    const file = files.get(name);
    if (file === undefined || loaded.has(name)) return;
    const bytes = file.endsWith('.xz') ? unpackXz(file, busybox) : readFileSync(file);
    for (const needed of dependencies(bytes)) load(needed);
    loaded.set(name, { name, bytes });
  };
  for (const name of names) load(name);
  return [...loaded.values()];
}

/** The names after `depends=` in the module's .modinfo, whose strings end in NUL. */
export function dependencies(module: Uint8Array): string[] {
  const bytes = Buffer.from(module.buffer, module.byteOffset, module.byteLength);
  const at = bytes.indexOf('\0depends=');
  if (at < 0) return [];
  const start = at + '\0depends='.length;
  return bytes
    .toString('latin1', start, bytes.indexOf(0, start))
    .split(',')
    .filter((name) => name !== '');
}

/** The kernel takes - and _ as one. */
function moduleName(name: string): string {
  return name.replaceAll('-', '_');
}

function unpackXz(file: string, busybox: string): Buffer {
  const { status, stdout, error } = spawnSync(busybox, ['xz', '-dc', file], { maxBuffer: 2 ** 28 });
  if (error || status !== 0) throw new Unavailable(`${file} cannot be unpacked${error ? `: ${error.message}` : ''}`);
  return stdout;
}
