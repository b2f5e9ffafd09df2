/** Directories of this computer, and what is mounted in them. */
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface HostEntry {
  readonly name: string;
  /** `file`: also sockets and devices. */
  readonly kind: 'folder' | 'link' | 'file';
}

/** This computer's directories, as this process sees them. */
export interface HostPaths {
  exists(path: string): boolean;
  /** Entries of a directory; empty for one that this process cannot read. */
  list(path: string): readonly HostEntry[];
  linkTarget(path: string): string;
  /** Paths at which file systems are mounted. */
  readonly mountPoints: readonly string[];
  /** Processors that are on, as a list: `0-3`. */
  readonly processors: string;
}

export function hostPaths(): HostPaths {
  return {
    exists: (path) => lstatSync(path, { throwIfNoEntry: false }) !== undefined,
    list: (path) => {
      try {
        return readdirSync(path, { withFileTypes: true }).map((entry) => ({
          name: entry.name,
          kind: entry.isDirectory() ? 'folder' : entry.isSymbolicLink() ? 'link' : 'file',
        }));
      } catch {
        return [];
      }
    },
    linkTarget: (path) => readlinkSync(path),
    mountPoints: mountPointsIn(textOf('/proc/self/mountinfo') ?? ''),
    processors: textOf('/sys/devices/system/cpu/online')?.trim() ?? '0',
  };
}

function textOf(path: string): string | null {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return null;
  }
}

/** Field 5 of each line of mountinfo (proc(5)), which has octal escapes for blanks. */
function mountPointsIn(mountinfo: string): readonly string[] {
  const points = mountinfo.split('\n').flatMap((line) => line.split(' ')[4] ?? []);
  return points.map((point) => point.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))));
}
