/** Opening a disk image: a file or a block device of known size, locked against other users. */
import { closeSync, constants, fstatSync, fsyncSync, lstatSync, openSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { checkIndex } from '../base/check.ts';
import { Cleanup } from '../base/cleanup.ts';
import { Errno, type ErrnoName, VfioError } from '../base/errno.ts';
import { addon, checked, Sys, sysError } from './addon.ts';
import { imageFormat } from './image-format.ts';
import { type ImageUse, lockImage } from './image-lock.ts';
import { OwnedFd } from './owned-fd.ts';

export interface ImageOptions {
  /** Bytes. A missing or empty file gets this size; one that has a size must have this one. */
  readonly size?: number;
  /** Make the file when it is missing, with mode 0600; `size` is needed then. */
  readonly create?: boolean;
  readonly readOnly?: boolean;
  /**
   * `raw`: the bytes are those of the disk, whatever they look like. Default: an image that begins
   * as one of another format is refused.
   */
  readonly format?: 'raw';
}

export interface ImageFile {
  readonly fd: OwnedFd;
  readonly size: number;
  readonly isBlockDevice: boolean;
}

/** @throws VfioError what `FileStorage.open` throws */
export function openImage(path: string, { size, create = false, readOnly = false, format }: ImageOptions): ImageFile {
  if (typeof path !== 'string' || path === '' || path.includes('\0')) throw new VfioError('EINVAL', 'the name of an image is missing');
  if (size !== undefined) checkIndex(size, Number.MAX_SAFE_INTEGER, 'the size of the image');
  if (size === 0) throw new VfioError('EINVAL', 'an image of 0 bytes');
  const use: ImageUse = readOnly ? 'read' : 'write';
  using undo = new Cleanup();
  const { fd, made } = openOrMake(path, use, create ? size : undefined);
  undo.use(fd);
  const stat = fstatSync(fd.number);
  if (stat.isDirectory()) throw new VfioError('EISDIR', `${path} is a directory, not an image`);
  const isBlockDevice = stat.isBlockDevice();
  if (!stat.isFile() && !isBlockDevice) throw new VfioError('EINVAL', `${path} is neither a file nor a block device`);
  lockImage(fd, path, use);
  // Only under the lock: another process may just have made it.
  const actual = isBlockDevice
    ? checked(addon().lseek(fd.number, 0, Sys.SEEK_END), `finding the size of ${path}`)
    : fstatSync(fd.number).size;
  if (actual === 0 && size !== undefined && !readOnly && !isBlockDevice) {
    setSize(fd, path, size, made);
  } else if (actual === 0) {
    throw new VfioError('EINVAL', `${path} is empty`, { fix: 'Give its size, such as --size 10G or size=10G.' });
  } else if (size !== undefined && size !== actual) {
    throw new VfioError('EINVAL', `${path} has ${actual} bytes, not ${size}`, {
      fix: 'Leave the size out to use the image as it is, or give another file: the size of an image with data never changes.',
    });
  }
  if (format !== 'raw' && actual > 0) refuseOtherFormats(fd, path, actual);
  undo.move();
  return { fd, size: size ?? actual, isBlockDevice };
}

function refuseOtherFormats(fd: OwnedFd, path: string, size: number): void {
  let found: string | null;
  try {
    found = imageFormat(fd.number, size);
  } catch (error) {
    throw fileError(error, `${path} cannot be read`);
  }
  if (found === null) return;
  throw new VfioError('EINVAL', `${path} is a ${found} image; only raw images are served: a guest would find the header and overwrite it`, {
    fix: `Make a raw image of it: qemu-img convert -O raw ${path} disk.img. If these are the bytes of the disk, say so: --format raw, or format=raw.`,
  });
}

function openOrMake(path: string, use: ImageUse, sizeToMake: number | undefined): { readonly fd: OwnedFd; readonly made: boolean } {
  // O_NONBLOCK: a FIFO of that name must not stop this process. O_EXCL: the open fails for a block
  // device that is mounted or in use.
  const flags = (use === 'write' ? constants.O_RDWR | constants.O_EXCL : constants.O_RDONLY) | constants.O_NONBLOCK | constants.O_NOCTTY;
  for (;;) {
    try {
      return { fd: opened(path, flags), made: false };
    } catch (cause) {
      if (codeOf(cause) !== 'ENOENT' || use === 'read') throw openError(cause, path, use);
      if (sizeToMake === undefined) {
        throw new VfioError('ENOENT', `${path} is not there`, {
          cause,
          fix: 'To create it, give its size, such as --size 10G or size=10G.',
        });
      }
    }
    try {
      return { fd: opened(path, flags | constants.O_CREAT), made: true };
    } catch (cause) {
      if (codeOf(cause) === 'ENOENT') {
        throw new VfioError('ENOENT', `${path} cannot be made: there is no directory ${dirname(path)}`, {
          cause,
          fix: 'Make the directory first.',
        });
      }
      // Another process has just made it, or it is a link to a missing file.
      if (codeOf(cause) !== 'EEXIST' || isLink(path)) throw openError(cause, path, use);
    }
  }
}

function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
}

function opened(path: string, flags: number): OwnedFd {
  return OwnedFd.own(openSync(path, flags, 0o600), path);
}

/**
 * A sparse file that is there after a power cut too. A file that we made is removed when this
 * fails.
 */
function setSize(fd: OwnedFd, path: string, size: number, made: boolean): void {
  try {
    const result = addon().ftruncate(fd.number, size);
    if (result < 0) throw sysError(result, `making ${path} ${size} bytes long`);
    fsyncSync(fd.number);
    if (made) syncDirectory(dirname(path));
  } catch (error) {
    if (made) unlinkSync(path);
    throw error instanceof VfioError ? error : fileError(error, `${path} cannot be made`);
  }
}

function syncDirectory(path: string): void {
  const number = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(number);
  } catch (error) {
    // Some filesystems cannot sync a directory, and need no sync.
    if (codeOf(error) !== 'EINVAL') throw error;
  } finally {
    closeSync(number);
  }
}

function openError(cause: unknown, path: string, use: ImageUse): VfioError {
  const code = codeOf(cause);
  switch (code) {
    case 'ENOENT':
      return new VfioError('ENOENT', `${path} is not there`, { cause });
    case 'EISDIR':
      return new VfioError('EISDIR', `${path} is a directory, not an image`, { cause });
    case 'EROFS':
    case 'EACCES':
    case 'EPERM': {
      const why = code === 'EROFS' ? 'is on a read-only filesystem' : `may not be ${use === 'write' ? 'written to' : 'read'} by this user`;
      const fix = use === 'write' ? { fix: 'Give --readonly, or --overlay to keep what is written in memory.' } : {};
      return new VfioError(code, `${path} ${why}`, { cause, ...fix });
    }
    case 'EBUSY':
      return new VfioError('EBUSY', `${path} is mounted, or in use`, { cause, fix: 'Unmount it, or give --readonly.' });
    default:
      return fileError(cause, `${path} cannot be opened`);
  }
}

function fileError(cause: unknown, what: string): VfioError {
  const code = codeOf(cause);
  return new VfioError(
    code !== undefined && Object.hasOwn(Errno, code) ? (code as ErrnoName) : 'EIO',
    `${what}: ${(cause as Error).message}`,
    { cause },
  );
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}
