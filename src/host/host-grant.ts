/**
 * The nodes of a group for one user. A group is one user's: the node belongs to the user, and its
 * mode is 0600.
 */
import { VfioError } from '../base/errno.ts';
import type { HostChanges, Owner, UserEntry } from '../sys/host-changes.ts';
import type { HostFiles } from '../sys/host-files.ts';
import { type FunctionState, groupNode } from './function-state.ts';
import type { PersistentFile } from './host-persist.ts';

/** A node with its owner before and after. */
export interface GrantedNode {
  readonly path: string;
  readonly before: Owner;
  readonly after: Owner;
}

export interface GrantPlan {
  readonly user: UserEntry;
  readonly nodes: readonly GrantedNode[];
  /** Sentences for the administrator. */
  readonly remarks: readonly string[];
}

const ROOT: Owner = { uid: 0, gid: 0, mode: 0o600 };

/** Permission bits of /dev/iommu for all users, as those of /dev/vfio/vfio: it has no device. */
const CONTROL_MODE = 0o666;

export interface GrantOptions {
  /** Give the nodes back to root. */
  readonly revoke?: boolean;
  /** Also let all users open /dev/iommu. */
  readonly iommufd?: boolean;
}

/** @throws VfioError EINVAL for a user that is not there; ENOENT where no node is there */
export function userOf(host: HostChanges, name: string): UserEntry {
  const user = host.user(name);
  if (user !== null) return user;
  throw new VfioError('EINVAL', `this computer has no user ${name}`, { fix: 'Give a name of /etc/passwd (getent passwd), or a number.' });
}

export function planGrant(
  files: HostFiles,
  host: HostChanges,
  members: readonly FunctionState[],
  user: UserEntry,
  options: GrantOptions = {},
): GrantPlan {
  const { revoke = false, iommufd = false } = options;
  const { group, bdf } = members[0]!;
  const own = members.flatMap(({ vfioDevices }) => vfioDevices.map((name) => `/dev/vfio/devices/${name}`));
  const paths = [...(group === null ? [] : [groupNode(files, group)]), ...own].filter((path) => host.ownerOf(path) !== null);
  if (paths.length === 0) {
    throw new VfioError('ENOENT', `${group === null ? bdf : `group ${group}`} has no node in /dev/vfio: vfio-pci has no device of it`, {
      fix: `vfio bind ${members.find(({ isBridge }) => !isBridge)?.bdf ?? bdf}`,
    });
  }
  const after = revoke ? ROOT : { uid: user.uid, gid: user.gid, mode: 0o600 };
  const nodes = paths.map((path): GrantedNode => ({ path, before: host.ownerOf(path)!, after }));
  const control = host.ownerOf('/dev/iommu');
  const remarks: string[] = [];
  if (iommufd && control !== null && !revoke)
    nodes.push({ path: '/dev/iommu', before: control, after: { ...control, mode: CONTROL_MODE } });
  else if (own.length > 0 && control !== null && (control.mode & 0o006) !== 0o006 && !revoke) {
    remarks.push(
      `/dev/iommu stays as it is (mode ${control.mode.toString(8)}): ${user.name} opens the group. --iommufd lets all users open it; it gives access to no device.`,
    );
  }
  return { user, nodes, remarks };
}

/** Change the owners. A failure gives the earlier nodes back. */
export function carryOutGrant(host: HostChanges, { nodes }: GrantPlan): void {
  const done: GrantedNode[] = [];
  try {
    for (const node of nodes) {
      host.own(node.path, node.after);
      done.push(node);
    }
  } catch (error) {
    for (const { path, before } of done.reverse()) host.own(path, before);
    throw error;
  }
}

export const grantRuleFile = (bdf: string): string => `/etc/udev/rules.d/72-vfio-ts-grant-${bdf.replaceAll(':', '-')}.rules`;

/**
 * A rule of udev that gives the nodes of the group to the user whenever they appear. Numbers of
 * groups change between boots: the rule finds the group by a member.
 */
export function grantRule(bdf: string, user: UserEntry, iommufd: boolean): PersistentFile {
  const owner = `OWNER="${user.uid}", GROUP="${user.gid}", MODE="0600"`;
  const lines = [
    '# vfio grant --persist; vfio grant --revoke --persist removes it.',
    `SUBSYSTEM=="vfio", TEST=="/sys/kernel/iommu_groups/%k/devices/${bdf}", ${owner}`,
    `SUBSYSTEM=="vfio-dev", KERNELS=="${bdf}", ${owner}`,
    ...(iommufd ? ['SUBSYSTEM=="misc", KERNEL=="iommu", MODE="0666"'] : []),
  ];
  return { path: grantRuleFile(bdf), text: `${lines.join('\n')}\n` };
}
