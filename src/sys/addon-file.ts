/**
 * The file that holds the C addon for this computer: the one that the package brings, or one that
 * `cc` builds on first use into a cache folder, since the package's own folder may be read-only.
 *
 * The addon and this JavaScript belong together when both were made of the same C sources. The
 * digest of the sources is in both, so a package that is updated by half never loads.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, realpathSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { VfioError } from '../base/errno.ts';
import { moduleUrl, nativeSources, packageFile } from './package-files.ts';
import { fromNode } from './system-error.ts';

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
  const built = join(cacheFolder(), `${process.arch}-${libc}-${digest}.node`);
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

/**
 * The folder for addons that were built here: `vfio-ts` below `XDG_CACHE_HOME`, or below
 * `~/.cache`. Code from it runs in this process, so no other user may be able to put a file there.
 */
function cacheFolder(): string {
  const { XDG_CACHE_HOME } = process.env;
  const folder = join(XDG_CACHE_HOME?.startsWith('/') === true ? XDG_CACHE_HOME : join(homedir(), '.cache'), 'vfio-ts');
  let real: string;
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    real = realpathSync(folder);
  } catch (cause) {
    throw fromNode(cause, `making ${folder}, the folder for the addon that is built for this computer`, {
      fix: 'Set XDG_CACHE_HOME to a folder that this user can write.',
    });
  }
  for (let at = real; ; at = dirname(at)) {
    const why = openTo(at, at === real);
    if (why !== null) {
      throw new VfioError('EACCES', `code would be loaded from ${folder}, but ${at} ${why}`, {
        fix: 'Set XDG_CACHE_HOME to a folder of this user that no other user can write, nor any folder above it.',
      });
    }
    if (at === dirname(at)) return real;
  }
}

/**
 * How a user other than this one and root could change entries of a directory; null when no such
 * user can.
 */
function openTo(directory: string, isFolder: boolean): string | null {
  const { uid, mode } = statSync(directory);
  const mine = process.getuid!();
  if (uid !== mine && (isFolder || uid !== 0)) return `belongs to user ${uid}`;
  // In a sticky directory such as /tmp, other users cannot replace an entry of this user's.
  const others = (mode & 0o022) !== 0 && (isFolder || (mode & 0o1000) === 0);
  return others ? 'can be written by other users' : null;
}
