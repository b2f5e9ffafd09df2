/**
 * The files of a computer: those of this one, or of a copy of /sys and /proc in a folder. Paths are
 * those of the computer that the files describe, such as `/sys/bus/pci/devices`.
 */
import { closeSync, existsSync, lstatSync, openSync, readdirSync, readlinkSync, readSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { VfioError } from '../base/errno.ts';
import { fromNode } from './system-error.ts';

/**
 * A computer's files, read only. A file that is missing or cannot be read is null, never an error.
 */
export interface HostFiles {
  /** The place that the files come from, for messages: `/`, a folder, an archive. */
  readonly origin: string;
  /** These are the files of the computer that this process runs on. */
  readonly live: boolean;
  /** A text file, at most 1 MiB of it. */
  text(path: string): string | null;
  /** The bytes of a file, at most 1 MiB of it. */
  bytes(path: string): Uint8Array | null;
  /** The target of a symbolic link, as the link has it. */
  link(path: string): string | null;
  /** Names in a directory, sorted; empty for one that is not there. */
  list(path: string): readonly string[];
  exists(path: string): boolean;
}

/** Bytes of a file that are read at most. */
export const MAX_FILE_BYTES = 2 ** 20;
/** Symbolic links that one path may lead through, as in Linux (MAXSYMLINKS). */
const MAX_LINKS = 40;

/** Tables of the kernel have no size before they are read, so reading goes on to the end. */
function readAll(path: string): Uint8Array | null {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return null;
  }
  try {
    const pieces: Buffer[] = [];
    let left = MAX_FILE_BYTES;
    while (left > 0) {
      const piece = Buffer.allocUnsafe(Math.min(left, 8192));
      const count = readSync(fd, piece, 0, piece.length, null);
      if (count === 0) break;
      pieces.push(piece.subarray(0, count));
      left -= count;
    }
    return new Uint8Array(Buffer.concat(pieces));
  } catch {
    return null;
  } finally {
    closeSync(fd);
  }
}

const decoder = new TextDecoder('utf-8');

/** The files below a folder. Symbolic links stay inside of it, as after chroot. */
class FolderFiles implements HostFiles {
  readonly origin: string;
  readonly live: boolean;
  /** Folders that stand for the first part of a path: `/sys` for a copy that has only that. */
  readonly #mounts: readonly (readonly [path: string, folder: string])[];
  /** Real paths of directories that were resolved before. */
  readonly #resolved = new Map<string, string | null>();

  constructor(origin: string, mounts: readonly (readonly [path: string, folder: string])[]) {
    this.origin = origin;
    this.live = origin === '/';
    this.#mounts = mounts;
  }

  text(path: string): string | null {
    const bytes = this.bytes(path);
    return bytes === null ? null : decoder.decode(bytes);
  }

  bytes(path: string): Uint8Array | null {
    const real = this.#resolve(path);
    if (real === null) return null;
    // A FIFO or a device in a copy would block, or do something.
    if (!this.live && statSync(real, { throwIfNoEntry: false })?.isFile() !== true) return null;
    return readAll(real);
  }

  link(path: string): string | null {
    const real = this.#resolve(path, false);
    try {
      return real === null ? null : readlinkSync(real);
    } catch {
      return null;
    }
  }

  list(path: string): readonly string[] {
    const real = this.#resolve(path);
    try {
      return real === null ? [] : readdirSync(real).sort();
    } catch {
      return [];
    }
  }

  exists(path: string): boolean {
    const real = this.#resolve(path);
    return real !== null && existsSync(real);
  }

  #onDisk(path: string): string | null {
    for (const [at, folder] of this.#mounts) {
      if (path === at || at === '/') return join(folder, path.slice(at === '/' ? 0 : at.length));
      if (path.startsWith(`${at}/`)) return join(folder, path.slice(at.length));
    }
    return null;
  }

  /** The path on disk without symbolic links on the way; null for one that leads nowhere. */
  #resolve(path: string, last = true): string | null {
    if (this.live) return path;
    const real = followLinks(path, last, (at) => this.#kind(at));
    return real === null ? null : this.#onDisk(real);
  }

  #kind(path: string): string | null {
    const known = this.#resolved.get(path);
    if (known !== undefined) return known;
    const real = this.#onDisk(path);
    let target: string | null = null;
    try {
      if (real !== null && lstatSync(real, { throwIfNoEntry: false })?.isSymbolicLink() === true) target = readlinkSync(real);
    } catch {
      // A part of the path is no directory.
    }
    this.#resolved.set(path, target);
    return target;
  }
}

/**
 * The path without symbolic links in it; null where there are too many. A link never leads above
 * `/`.
 *
 * @param last whether a link at the end is followed, too
 * @param targetOf the target of the link at a path; null for a path that is no link
 */
export function followLinks(path: string, last: boolean, targetOf: (path: string) => string | null): string | null {
  const rest = path.split('/').filter((part) => part !== '' && part !== '.');
  const at: string[] = [];
  let links = 0;
  while (rest.length > 0) {
    const part = rest.shift()!;
    if (part === '..') {
      at.pop();
      continue;
    }
    at.push(part);
    const target = rest.length === 0 && !last ? null : targetOf(`/${at.join('/')}`);
    if (target === null) continue;
    links++;
    if (links > MAX_LINKS) return null;
    at.pop();
    if (target.startsWith('/')) at.length = 0;
    rest.unshift(...target.split('/').filter((piece) => piece !== '' && piece !== '.'));
  }
  return `/${at.join('/')}`;
}

/**
 * The files of this computer; with `root`, those of a copy in a folder. The folder has `sys` in it
 * (and `proc`), or is itself a copy of /sys.
 *
 * @throws VfioError ENOENT, ENOTDIR for a root that is no folder; EINVAL for one without sysfs
 */
export function hostFiles(root?: string): HostFiles {
  if (root === undefined || resolve(root) === '/') return new FolderFiles('/', [['/', '/']]);
  let isFolder: boolean;
  try {
    isFolder = statSync(root).isDirectory();
  } catch (error) {
    throw fromNode(error, `the copy of sysfs ${root} cannot be read`);
  }
  if (!isFolder) throw new VfioError('ENOTDIR', `${root} is no folder with a copy of sysfs`);
  if (existsSync(join(root, 'bus/pci')) && !existsSync(join(root, 'sys'))) return new FolderFiles(root, [['/sys', root]]);
  if (existsSync(join(root, 'sys'))) return new FolderFiles(root, [['/', root]]);
  throw new VfioError('EINVAL', `${root} has no copy of sysfs: neither sys/ nor bus/pci/ is in it`, {
    fix: 'Give the folder that has sys/ in it: cp -a of /sys/bus/pci, /sys/devices and /sys/kernel/iommu_groups is enough.',
  });
}

/** @throws VfioError ENOENT and other errors of looking at it */
export function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch (error) {
    throw fromNode(error, `${path} cannot be read`);
  }
}

/** The files below any folder, such as an unpacked sosreport. */
export function folderFiles(folder: string): HostFiles {
  return new FolderFiles(folder, [['/', folder]]);
}
