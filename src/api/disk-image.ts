/**
 * From what people say of a disk to where its blocks are: memory, an image, an image that is only
 * read, one with an overlay in memory.
 */
import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import type { Storage } from '../abi/storage.ts';
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import { type DiskOptions, inMemory, type ModelOptions, models, nvmeOver, type OpenedDisks } from '../models/registry.ts';
import { OverlayStorage } from '../models/storage/overlay-storage.ts';
import { FileStorage } from '../sys/file-storage.ts';

/**
 * All images of a disk, or none. An image that is missing is made when `size` is given; one that is
 * there must have it.
 *
 * @throws VfioError EINVAL for what does not go together, or a size that is no whole number of
 *   blocks; what `FileStorage.open` throws
 */
export function openDisks(options: DiskOptions): OpenedDisks {
  const { images, size, blockSize, readonly = false, overlay = false } = options;
  if (readonly && overlay) {
    throw new VfioError('EINVAL', 'a disk is either read-only or has an overlay', { fix: 'An overlay leaves the image as it is, too.' });
  }
  // Before anything is made.
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
 * The same for the same image each time, so that a guest finds its disk again: what it is called by
 * is made of the serial number.
 */
function serialOf(image: string): string {
  return `VT${createHash('sha256').update(realpathSync(image)).digest('hex').slice(0, 14).toUpperCase()}`;
}

/** The models that come with the package, with files and block devices for those that are disks. */
export const modelsWithImages = { ...models, nvme: (options: ModelOptions = {}) => nvmeOver(openDisks, options) } as const;
