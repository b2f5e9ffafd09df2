/** The areas of a process's address space (proc(5), /proc/PID/maps). */
import { openSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { VfioError } from '../base/errno.ts';
import { OwnedFd } from './owned-fd.ts';

export interface MappedArea {
  /** Addresses: the first, and the first behind it. */
  readonly first: number;
  readonly end: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** MAP_SHARED. */
  readonly shared: boolean;
  /** Where it begins in its file, bytes. */
  readonly offset: number;
  /** The file; 0: anonymous memory. */
  readonly inode: bigint;
}

const LINE = /^([0-9a-f]+)-([0-9a-f]+) (.)(.).(.) ([0-9a-f]+) \S+ (\d+)/gm;

/**
 * The areas that hold [first, end), in order.
 * @throws VfioError ESRCH when the process has ended
 */
export function mappedAreas(pid: number, first: number, end: number): MappedArea[] {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/maps`, 'latin1');
  } catch (cause) {
    throw new VfioError('ESRCH', `process ${pid} has ended`, { cause });
  }
  const areas: MappedArea[] = [];
  for (const [, from, to, read, write, kind, offset, inode] of text.matchAll(LINE)) {
    const areaEnd = Number.parseInt(to!, 16);
    if (areaEnd <= first) continue;
    const areaFirst = Number.parseInt(from!, 16);
    if (areaFirst >= end) break;
    areas.push({
      first: areaFirst,
      end: areaEnd,
      readable: read === 'r',
      writable: write === 'w',
      shared: kind === 's',
      offset: Number.parseInt(offset!, 16),
      inode: BigInt(inode!),
    });
  }
  return areas;
}

/**
 * The file of memory behind a shared area, opened anew: by the area itself where this user may
 * (root), else by a descriptor that the process has of the file. Null when it is no file of memory
 * (memfd, tmpfs, hugetlbfs), or no descriptor is left.
 */
export function openMapped(pid: number, area: MappedArea): OwnedFd | null {
  const mode = area.writable ? 'r+' : 'r';
  const own = opened(`/proc/${pid}/map_files/${area.first.toString(16)}-${area.end.toString(16)}`, mode);
  if (own !== null) return own;
  let numbers: string[];
  try {
    numbers = readdirSync(`/proc/${pid}/fd`);
  } catch {
    return null;
  }
  for (const fd of numbers) {
    const path = `/proc/${pid}/fd/${fd}`;
    try {
      if (statSync(path, { bigint: true }).ino !== area.inode) continue;
    } catch {
      continue;
    }
    const file = opened(path, mode);
    if (file !== null) return file;
  }
  return null;
}

function opened(path: string, mode: string): OwnedFd | null {
  let file: OwnedFd;
  try {
    file = OwnedFd.own(openSync(path, mode), path);
  } catch {
    return null;
  }
  if (file.isMemory) return file;
  file[Symbol.dispose]();
  return null;
}
