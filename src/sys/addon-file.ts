/**
 * The file that holds the C addon for this computer: the one that the package brings, or one that
 * `cc` builds on first use into a cache folder, since the package's own folder may be read-only.
 *
 * The addon and this JavaScript belong together when both were made of the same C sources. The
 * digest of the sources is in both, so a package that is updated by half never loads.
 */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { VfioError } from '../base/errno.ts';
import { cacheFolder } from './cache-folder.ts';
import { moduleUrl, nativeSources, packageFile } from './package-files.ts';

/** native/addon-file.cjs, which the scripts that build the addon share. */
interface AddonFiles {
  digest(): string;
  libc(): 'glibc' | 'musl';
  prebuilt(arch: string, libc: string): string;
  isOf(file: string, digest: string): boolean;
}

let found: string | undefined;

/**
 * The path of the addon; built first when the package has none for this computer.
 *
 * @throws VfioError ENOSYS when there is none and it cannot be built, or when the package's C
 * sources and its JavaScript are of different versions; EACCES when other users can write into the
 * cache folder
 */
export function addonFile(): string {
  found ??= find();
  return found;
}

function find(): string {
  const files = createRequire(moduleUrl)(packageFile('native/addon-file.cjs')) as AddonFiles;
  const libc = files.libc();
  const digest = nativeSources ?? files.digest();
  const name = files.prebuilt(process.arch, libc);
  const prebuilt = packageFile(name);
  if (files.isOf(prebuilt, digest)) return prebuilt;
  if (files.digest() !== digest) {
    throw unusable(
      `the JavaScript of this package and its C sources (native/) are of different versions`,
      'Install the package anew; in a checkout, run "npm run build".',
    );
  }
  const built = join(cacheFolder('the addon that is built for this computer'), `${process.arch}-${libc}-${digest}.node`);
  if (files.isOf(built, digest)) return built;
  const { status, stderr } = spawnSync(process.execPath, [packageFile('native/build.js'), '--output', built], { encoding: 'utf8' });
  if (status !== 0) {
    throw unusable(
      `the package has no ${name} of its version, and it could not be built: ${stderr.trim().replace(/^vfio-ts: /, '')}`,
      'Install a C compiler ("apt-get install gcc libc6-dev", "apk add gcc musl-dev"), or set CC; the addon is then built on first use.',
    );
  }
  return built;
}

const unusable = (why: string, fix: string) =>
  new VfioError('ENOSYS', `eventfds, sockets and shared memory need the C addon: ${why}`, { fix });
