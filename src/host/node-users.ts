/**
 * Processes that have a function open: through its nodes in /dev, such as those of a disk, a
 * display or a sound card, or through VFIO.
 */
import type { HostFiles } from '../sys/host-files.ts';
import { type FunctionState, functionStates, groupNode, groupsOf } from './function-state.ts';
import { functionsBelow } from './host-mounts.ts';
import { behindLink, functionsOfPath } from './host-path.ts';

export interface NodeUser {
  readonly pid: number;
  /** The name of the program: `Xorg`. */
  readonly program: string;
  /** The node that it has open: `/dev/dri/card0`. */
  readonly node: string;
}

/** Of each node in /dev, the functions that it leads to. */
function functionNodes(
  files: HostFiles,
  functions: readonly FunctionState[] = functionStates(files),
): ReadonlyMap<string, readonly string[]> {
  const nodes = new Map<string, readonly string[]>();
  for (const kind of ['char', 'block']) {
    for (const number of files.list(`/sys/dev/${kind}`)) {
      const at = behindLink(files, `/sys/dev/${kind}/${number}`);
      // A disk of LVM or RAID is open: the disks below it are.
      const functions = at === null ? [] : kind === 'block' ? functionsBelow(files, at) : functionsOfPath(at);
      if (functions.length === 0) continue;
      const name = /^DEVNAME=(.+)$/m.exec(files.text(`${at}/uevent`) ?? '')?.[1];
      if (name !== undefined) nodes.set(`/dev/${name}`, functions);
    }
  }
  for (const [group, members] of groupsOf(functions)) {
    nodes.set(
      groupNode(files, group),
      members.filter(({ isBridge }) => !isBridge).map(({ bdf }) => bdf),
    );
  }
  for (const { bdf, vfioDevices } of functions) for (const name of vfioDevices) nodes.set(`/dev/vfio/devices/${name}`, [bdf]);
  return nodes;
}

/**
 * Users by function. An ordinary user sees the files of the own processes only.
 */
export function nodeUsers(
  files: HostFiles,
  functions: readonly FunctionState[] = functionStates(files),
): ReadonlyMap<string, readonly NodeUser[]> {
  const nodes = functionNodes(files, functions);
  const users = new Map<string, NodeUser[]>();
  for (const pid of files.list('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const seen = new Set<string>();
    for (const fd of files.list(`/proc/${pid}/fd`)) {
      const node = files.link(`/proc/${pid}/fd/${fd}`);
      if (node === null || seen.has(node)) continue;
      seen.add(node);
      for (const bdf of nodes.get(node) ?? []) {
        const user = { pid: Number(pid), program: files.text(`/proc/${pid}/comm`)?.trim() ?? '?', node };
        users.set(bdf, [...(users.get(bdf) ?? []), user]);
      }
    }
  }
  return users;
}

export const isVfioNode = (node: string): boolean => node.startsWith('/dev/vfio/');

/** `process 42 (qemu-system-x86), /dev/vfio/12`. */
export function userText({ pid, program, node }: NodeUser): string {
  return `process ${pid} (${program}), ${node}`;
}
