/** The page size of this computer: 4 KiB, and 16 or 64 KiB on some arm64. */
import { addon, Sys } from './addon.ts';

let bytes = 0;

/** Bytes of a page: mappings of devices begin and end at multiples of it. */
export function pageSize(): number {
  if (bytes === 0) bytes = addon().sysconf(Sys.SC_PAGESIZE);
  return bytes;
}
