/**
 * Opening nodes of /dev/vfio and /dev/iommu. The errors say whose node it is, and which process has
 * it open.
 */
import { VfioError } from '../base/errno.ts';
import { KernelFile } from '../sys/kernel-file.ts';
import { ownerOfNode, processesWith, thisUser } from '../sys/node-users.ts';
import { generalRemedy } from './calls.ts';

/** The words for errors. */
export interface NodeWords {
  /** The file in words: `the file of group 12`. */
  readonly what: string;
  /** The remedy for a node that is missing. */
  readonly missing: string;
  /** The device that the node is opened for. */
  readonly device: string;
  /** A file that blocks this one while a process has it open. Default: none. */
  readonly blockedBy?: string | undefined;
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

function explain(cause: VfioError, path: string, { what, missing, device, blockedBy }: NodeWords): VfioError {
  const { code } = cause;
  switch (code) {
    case 'ENOENT':
    case 'ENXIO':
    case 'ENODEV':
      return new VfioError(code, `${device}: ${path}, ${what}, is not there`, { cause, fix: missing });
    case 'EACCES': {
      const owner = ownerOfNode(path);
      return new VfioError(code, `${device}: this user may not open ${path}, ${what}${owner === null ? '' : `; it belongs to ${owner}`}`, {
        cause,
        fix: `As root: vfio grant ${device} --user ${thisUser()}. Or run as root.`,
      });
    }
    case 'EPERM':
      return new VfioError(code, `${device}: ${path}, ${what}, needs a privilege (CAP_SYS_RAWIO for a device without an IOMMU)`, {
        cause,
        fix: 'Run as root.',
      });
    case 'EBUSY': {
      const users = [processesWith(path), blockedBy === undefined ? '' : processesWith(blockedBy)].filter((each) => each !== '').join(', ');
      return new VfioError(code, `${device}: ${path}, ${what}, is in use${users === '' ? '' : ` by ${users}`}`, {
        cause,
        fix: 'End that program. Where this process has a device of the same group open, give that device in `with` of open().',
      });
    }
    default:
      return new VfioError(code, `${device}: ${path}, ${what}, cannot be opened`, { cause, fix: generalRemedy(code) });
  }
}
