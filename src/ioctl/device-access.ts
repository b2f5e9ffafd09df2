/**
 * read, write and mmap of a device file: offsets to regions, lengths that are cut and rounded as
 * the kernel does, bad pointers.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_rw() and vfio_pci_core_mmap()
 */
import type { Region, RegionMapping } from '../abi/device.ts';
import { REGION_OFFSET_STEP, RegionFlags, RegionIndex } from '../abi/vfio.ts';
import { VfioError } from '../base/errno.ts';
import type { DeviceFile } from '../engine/device/device-file.ts';

function regionAt(device: DeviceFile, position: number): Region {
  return device.region(Math.floor(position / REGION_OFFSET_STEP));
}

/**
 * @param into the caller's memory: shorter than `count` when the rest is not mapped, a number when
 *   nothing is
 * @throws VfioError as `Region.read`; EFAULT when the caller's memory did not take bytes that were
 *   read (they are lost, as in the kernel)
 */
export function deviceRead(device: DeviceFile, position: number, into: Uint8Array | number, count: number): number {
  if (count === 0) return 0;
  const region = regionAt(device, position);
  const offset = position % REGION_OFFSET_STEP;
  if (typeof into === 'number') {
    // The device sees the first access before the copy fails.
    region.read(offset, new Uint8Array(Math.min(count, firstAccess(offset))));
    throw new VfioError('EFAULT', 'the memory to read into is not mapped');
  }
  if (count <= into.length) return region.read(offset, into.subarray(0, count));
  checkConfigEnd(region, offset, count);
  const read = into.length === 0 ? 0 : region.read(offset, into);
  if (read < into.length) return read;
  if (offset + read >= region.info.size) return read;
  throw new VfioError('EFAULT', `only ${into.length} of ${count} bytes of the memory to read into are mapped`);
}

/** @throws VfioError as `Region.write`; EFAULT */
export function deviceWrite(device: DeviceFile, position: number, from: Uint8Array | number, count: number): number {
  if (count === 0) return 0;
  const region = regionAt(device, position);
  const offset = position % REGION_OFFSET_STEP;
  if (typeof from !== 'number' && count <= from.length) return region.write(offset, from.subarray(0, count));
  if (offset >= region.info.size || (region.info.flags & RegionFlags.WRITE) === 0) {
    // An error about the offset comes before an error about the memory.
    return region.write(offset, new Uint8Array(1));
  }
  checkConfigEnd(region, offset, count);
  const mapped = typeof from === 'number' ? new Uint8Array(0) : from;
  const written = mapped.length === 0 ? 0 : region.write(offset, mapped);
  if (written > 0 && offset + written >= region.info.size) return written;
  throw new VfioError('EFAULT', `only ${mapped.length} of ${count} bytes of the memory to write from are mapped`);
}

/** @param size  whole pages @throws VfioError EINVAL private, not mappable, past the end */
export function deviceMap(device: DeviceFile, position: number, size: number, shared: boolean): RegionMapping {
  const region = regionAt(device, position);
  if (!shared) throw new VfioError('EINVAL', 'mmap: a device is mapped MAP_SHARED only');
  return region.map(position % REGION_OFFSET_STEP, size);
}

/** Natural alignment decides how wide the first access is; no access is wider than 8 bytes. */
function firstAccess(offset: number): number {
  return offset % 8 === 0 ? 8 : offset % 4 === 0 ? 4 : offset % 2 === 0 ? 2 : 1;
}

/** An access past the end of config space is refused as a whole, not cut (B.8). */
function checkConfigEnd(region: Region, offset: number, count: number): void {
  if (region.info.index === RegionIndex.CONFIG && offset + count > region.info.size) {
    throw new VfioError('EFAULT', `config space has ${region.info.size} bytes; ${count} from ${offset} pass its end`);
  }
}
