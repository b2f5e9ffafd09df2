/**
 * Opening nodes of /dev/vfio and /dev/iommu. The errors say whose node it is, and which process has
 * it open.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { VfioError } from '../base/errno.ts';
import { KernelFile } from '../sys/kernel-file.ts';
import { commandOf } from '../sys/task-status.ts';

/** The words for errors. */
export interface NodeWords {
  /** The file in words: `the file of group 12`. */
  readonly what: string;
  /** The remedy for a node that is missing. */
  readonly missing?: string;
  /** The remedy for a node that this user may not open. */
  readonly denied?: string;
}

/**
 * Open a node.
 *
 * @throws VfioError ENOENT, ENODEV, ENXIO for a node that is missing; EACCES, EPERM with the node's
 *   owner and mode; EBUSY with the processes that have it open
 */
export function openNode(path: string, words: NodeWords): KernelFile {
  try {
    return KernelFile.open(path);
  } catch (cause) {
    if (!(cause instanceof VfioError)) throw cause;
    throw explain(cause, path, words);
  }
}

function explain(cause: VfioError, path: string, { what, missing, denied }: NodeWords): VfioError {
  const { code } = cause;
  switch (code) {
    case 'ENOENT':
    case 'ENXIO':
    case 'ENODEV':
      return new VfioError(code, `${path}, ${what}, is not there`, { cause, fix: missing ?? 'Load the module: modprobe vfio-pci.' });
    case 'EACCES':
      return new VfioError(code, `this user may not open ${path}, ${what}${ownerOf(path)}`, {
        cause,
        fix: denied ?? 'Run as root, or have the node given to this user.',
      });
    case 'EPERM':
      return new VfioError(code, `${path}, ${what}, needs a privilege (CAP_SYS_RAWIO for a device without an IOMMU)`, {
        cause,
        fix: 'Run as root.',
      });
    case 'EBUSY':
      return new VfioError(code, `${path}, ${what}, is in use${usersOf(path)}`, {
        cause,
        fix: 'End that program. A device of the same group that this process has open is given in `with` of open().',
      });
    default:
      return new VfioError(code, `${path}, ${what}, cannot be opened: ${cause.message}`, { cause });
  }
}

/** `, which belongs to user 0 with mode 600`; empty when that is not known. */
function ownerOf(path: string): string {
  try {
    const { uid, gid, mode } = statSync(path);
    return `; it belongs to user ${userName(uid)} and group ${gid}, with mode ${(mode & 0o777).toString(8).padStart(3, '0')}`;
  } catch {
    return '';
  }
}

function userName(uid: number): string {
  try {
    const line = readFileSync('/etc/passwd', 'latin1')
      .split('\n')
      .find((each) => each.split(':')[2] === String(uid));
    return line?.split(':')[0] ?? String(uid);
  } catch {
    return String(uid);
  }
}

/** ` by process 12 (qemu)`; processes of other users are visible to root only. */
export function usersOf(path: string): string {
  const users: string[] = [];
  for (const pid of directory('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    if (directory(`/proc/${pid}/fd`).some((fd) => linkOf(`/proc/${pid}/fd/${fd}`) === path)) users.push(pid);
  }
  if (users.length === 0) return '';
  return ` by ${users.map((pid) => (Number(pid) === process.pid ? 'this process' : `process ${pid} (${commandOf(Number(pid))})`)).join(', ')}`;
}

function directory(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function linkOf(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}
