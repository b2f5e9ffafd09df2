/**
 * Opens the storage that a disk's options name: memory, an image, a read-only image, or an image
 * under an overlay in memory.
 */
import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import type { Storage } from '../abi/storage.ts';
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import { type DiskOptions, inMemory, type OpenedDisks } from '../models/registry.ts';
import { OverlayStorage } from '../models/storage/overlay-storage.ts';
import { FileStorage } from '../sys/file-storage.ts';

/**
 * Opens all images of a disk, or none of them. An image that is missing is made when `size` is
 * given. An image that exists must have that size.
 *
 * @throws VfioError EINVAL for options that exclude each other, or a size that is not a whole
 *   number of blocks; the errors of `FileStorage.open`
 */
export function openDisks(options: DiskOptions): OpenedDisks {
  const { images, size, blockSize, readonly = false, overlay = false } = options;
  if (readonly && overlay) {
    throw new VfioError('EINVAL', 'a disk is either read-only or has an overlay', { fix: 'An overlay does not change the image either.' });
  }
  // The check comes before any image is made.
  if (size !== undefined) checkBlocks(size, blockSize, 'the disk');
  if (images === undefined) return inMemory(options);
  using undo = new Cleanup();
  const storages = images.map((image) => {
    const storage = undo.use(openImage(image, options));
    checkBlocks(storage.size, blockSize, storage.name);
    return storage;
  });
  const serial = images[0] === undefined ? {} : { serial: serialOf(images[0]) };
  return { storages, ...serial, owns: undo.move() };
}

function openImage(image: string, { size, format, readonly = false, overlay = false }: DiskOptions): Storage {
  const given = { ...(size === undefined ? {} : { size }), ...(format === undefined ? {} : { format }) };
  const file = FileStorage.open(image, readonly || overlay ? { ...given, readOnly: true } : { ...given, create: true });
  return overlay ? new OverlayStorage(file) : file;
}

function checkBlocks(size: number, blockSize: number, what: string): void {
  if (size > 0 && size % blockSize === 0) return;
  const fix = size % 512 === 0 ? 'Give blocks of 512 bytes, or another size.' : `Its size must be a multiple of ${blockSize} bytes.`;
  throw new VfioError('EINVAL', `${what} has ${size} bytes, which is no whole number of blocks of ${blockSize} bytes`, { fix });
}

/**
 * The serial number of an image, the same each time. A guest names its disk after the serial number
 * and so finds the disk again.
 */
function serialOf(image: string): string {
  return `VT${createHash('sha256').update(realpathSync(image)).digest('hex').slice(0, 14).toUpperCase()}`;
}
