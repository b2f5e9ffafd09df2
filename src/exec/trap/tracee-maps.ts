/**
 * Which file a process has mapped where: /proc/PID/maps.
 *
 * @see linux/fs/proc/task_mmu.c, show_map_vma(); the manual page proc_pid_maps(5)
 */
import { readFileSync } from 'node:fs';

/** A file as /proc/PID/maps names it. */
export function fileKey(dev: bigint, ino: bigint): string {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn);
  return `${major.toString(16).padStart(2, '0')}:${minor.toString(16).padStart(2, '0')} ${ino}`;
}

/** A range of addresses, and where it begins in its file: bytes. */
export interface FileRange {
  readonly start: number;
  readonly end: number;
  readonly position: number;
  /** `fileKey` of its file. */
  readonly file: string;
}

/** Start, end, rights, offset, device, inode. */
const LINE = /^([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+)/;

/** The shared file mappings of a process for which `wanted` is true; none of a process that is gone. */
export function fileRanges(pid: number, wanted: (file: string) => boolean): FileRange[] {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/maps`, 'latin1');
  } catch {
    return [];
  }
  const found: FileRange[] = [];
  for (const line of text.split('\n')) {
    const fields = LINE.exec(line);
    if (fields === null || fields[6] === '0' || fields[3]![3] !== 's') continue;
    const file = `${fields[5]} ${fields[6]}`;
    if (!wanted(file)) continue;
    found.push({
      start: Number.parseInt(fields[1]!, 16),
      end: Number.parseInt(fields[2]!, 16),
      position: Number.parseInt(fields[4]!, 16),
      file,
    });
  }
  return found;
}
