/** The isolation groups of a machine, and the nodes through which users open them. */
import { U64_MAX } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { Numbers } from '../../base/numbers.ts';
import type { IommuProperties } from '../dma/iommu-properties.ts';
import { PhysicalMemory } from '../dma/physical-memory.ts';
import type { Process } from '../dma/process.ts';
import type { LinuxRules } from '../linux-version.ts';
import type { Fabric } from './fabric.ts';
import { IsolationGroup } from './isolation-group.ts';
import type { Grouping } from './machine-spec.ts';
import type { FunctionGroup, PciFunction } from './pci-function.ts';
import type { RecordedGroups } from './recorded-groups.ts';
import { type IsolationClass, partition } from './topology.ts';

/** A node that Linux would have in /dev, with its mode and owner (S2-01, S2-22). */
export interface VfioNode {
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
  readonly kind: 'container' | 'group' | 'iommu' | 'device';
  /** Of a group, and of a device. */
  readonly groupId: number | null;
  /** The group's devices under vfio-pci, and `vfio-dev/vfioN` of each. */
  readonly devices: readonly { readonly bdf: string; readonly vfioDev: string }[];
}

const IOMMU = '/dev/iommu';

/** The node of a group, `/dev/vfio/7` or `/dev/vfio/noiommu-7`. */
export function pathOf(group: FunctionGroup): string {
  return `/dev/vfio/${group.noIommu ? 'noiommu-' : ''}${group.id}`;
}

/** The name of the node of a device under vfio-pci, `vfio3` or `noiommu-vfio3`. */
export function nodeOf(fn: PciFunction): string {
  return `${fn.group?.noIommu === true ? 'noiommu-' : ''}vfio${fn.vfioIndex}`;
}

/** @see linux/drivers/iommu/iommufd/hw_pagetable.c: every address, and pages of 4 KiB */
function noIommuProperties(): IommuProperties {
  return {
    unit: {},
    kind: 'none',
    isolatedMsi: true,
    coherent: true,
    enforcesCoherency: true,
    pageSizes: 0x1000n,
    apertureFirst: 0n,
    apertureLast: U64_MAX,
    reserved: [],
    physical: new PhysicalMemory(),
  };
}

export interface GroupTableOptions {
  readonly fabric: Fabric;
  /** The uid that nodes belong to as they appear. */
  readonly nodeOwner: number;
  readonly grouping: Grouping;
  /** The groups that a computer was found with; null: groups follow from the fabric. */
  readonly recorded: RecordedGroups | null;
  readonly numbers: Numbers;
  readonly linux: LinuxRules;
}

export class GroupTable {
  readonly groups = new Map<number, FunctionGroup>();
  readonly #fabric: Fabric;
  readonly #grouping: Grouping;
  readonly #nodeOwner: number;
  readonly #numbers: Numbers;
  readonly #noIommu = noIommuProperties();
  /** Nodes that were given to a user, by path. */
  readonly #uids = new Map<string, number>();

  readonly #linux: LinuxRules;
  readonly #recorded: RecordedGroups | null;

  constructor({ fabric, nodeOwner, grouping, recorded, numbers, linux }: GroupTableOptions) {
    this.#linux = linux;
    this.#fabric = fabric;
    this.#numbers = numbers;
    this.#grouping = grouping;
    this.#recorded = recorded;
    this.#nodeOwner = nodeOwner;
  }

  /** @throws VfioError ENOENT */
  get(id: number): FunctionGroup {
    const group = this.groups.get(id);
    if (group !== undefined) return group;
    const ids = [...this.groups.keys()].sort((a, b) => a - b);
    throw new VfioError('ENOENT', `there is no group ${String(id)}`, {
      fix: ids.length === 0 ? 'This machine has no isolating IOMMU, hence no groups.' : `Groups are ${ids.join(', ')}.`,
    });
  }

  /**
   * Put new functions into their groups, in the order in which the kernel finds them: an existing
   * group, or a new one with the lowest free number.
   *
   * @param among all functions that new ones can be tied to, in group order. Default: the machine's
   * @throws VfioError EINVAL when they would join existing groups, which users may hold; nothing
   * has changed then
   */
  join(added: readonly PciFunction[], among = this.#fabric.inGroupOrder()): void {
    const fresh = new Set(added);
    const behindIommu = among.filter((fn) => this.#fabric.iommu(fn).kind === 'full');
    const found = partition(behindIommu, this.#grouping);
    const all = this.#recorded === null ? found : this.#recorded.classes(found);
    const classes = all.filter((one) => one.members.some((fn) => fresh.has(fn)));
    for (const one of classes) {
      const ids = [...new Set(one.members.flatMap((fn) => (fn.group === null ? [] : [fn.group.id])))];
      if (ids.length > 1) {
        throw new VfioError('EINVAL', `${added[0]!.bdf} would tie groups ${ids.join(' and ')} together while the machine runs`, {
          fix: 'Declare it with the machine, so that it is there at power-on.',
        });
      }
    }
    for (const one of classes) this.#joinClass(one, fresh);
  }

  #joinClass(one: IsolationClass<PciFunction>, fresh: ReadonlySet<PciFunction>): void {
    const joining = one.members.filter((fn) => fresh.has(fn));
    let group = one.members.find((fn) => fn.group !== null)?.group ?? null;
    if (group === null) {
      const id = this.#numbers.take(joining[0]!.bdf);
      group = new IsolationGroup<PciFunction>(id, this.#fabric.iommu(joining[0]!));
      this.groups.set(id, group);
    }
    for (const fn of joining) {
      group.add(fn);
      fn.groupedBecause = one.reasons.get(fn) ?? null;
    }
  }

  /** A group for one function that no IOMMU is above. */
  joinNoIommu(fn: PciFunction): void {
    const group = new IsolationGroup<PciFunction>(this.#numbers.take(fn.bdf), this.#noIommu);
    this.groups.set(group.id, group);
    group.add(fn);
  }

  /** Take the function out; a group goes with its last function. */
  leave(fn: PciFunction): void {
    const { group } = fn;
    if (group === null) return;
    group.remove(fn);
    if (group.functions.length > 0) return;
    this.groups.delete(group.id);
    this.#numbers.release(group.id);
  }

  // ---- Nodes

  get nodes(): readonly VfioNode[] {
    const nodes: VfioNode[] = [
      { path: '/dev/vfio/vfio', kind: 'container', mode: 0o666, uid: 0, groupId: null, devices: [] },
      { path: IOMMU, kind: 'iommu', mode: 0o660, uid: this.#uid(IOMMU), groupId: null, devices: [] },
    ];
    for (const group of [...this.groups.values()].sort((a, b) => a.id - b.id)) {
      const devices = group.vfioFunctions.map((fn) => ({ bdf: fn.bdf, vfioDev: nodeOf(fn) }));
      if (devices.length === 0) continue;
      const path = pathOf(group);
      nodes.push({ path, kind: 'group', mode: 0o600, uid: this.#uid(path), groupId: group.id, devices });
      if (!this.hasOwnNodes(group)) continue;
      for (const one of devices) {
        const own = `/dev/vfio/devices/${one.vfioDev}`;
        nodes.push({ path: own, kind: 'device', mode: 0o600, uid: this.#uid(own), groupId: group.id, devices: [one] });
      }
    }
    return nodes;
  }

  /** Whether the devices of the group have nodes of their own. */
  hasOwnNodes(group: FunctionGroup): boolean {
    return this.#linux.noIommuCdev || !group.noIommu;
  }

  /** @throws VfioError ENOENT */
  node(path: string): VfioNode {
    const node = this.nodes.find((n) => n.path === path);
    if (node === undefined) throw new VfioError('ENOENT', `there is no ${String(path).slice(0, 64)}`);
    return node;
  }

  /** @throws VfioError ENOENT while there is no such node; EINVAL for a value that is no uid */
  chown(path: string, uid: number): void {
    this.node(path);
    if (!Number.isInteger(uid) || uid < 0 || uid > 0xffff_fffe) throw new VfioError('EINVAL', `${String(uid)} is no uid`);
    this.#uids.set(path, uid);
  }

  #uid(path: string): number {
    return this.#uids.get(path) ?? this.#nodeOwner;
  }

  /** @throws VfioError EACCES for a process that does not own the node */
  checkAccess(path: string, process: Process): void {
    const owner = this.#uid(path);
    if (process.uid === 0 || process.uid === owner) return;
    throw new VfioError('EACCES', `${path} belongs to uid ${owner}; process ${process.pid} is uid ${process.uid}`, {
      fix: `chown ${process.uid} ${path}`,
    });
  }

  /** The node of a device goes, and its owner with it. */
  deviceNodeGone(vfioIndex: number): void {
    for (const name of ['vfio', 'noiommu-vfio']) this.#uids.delete(`/dev/vfio/devices/${name}${vfioIndex}`);
  }

  /** `group` has lost its last vfio device: its node goes, and its open file is of no more use. */
  lastVfioGone(group: FunctionGroup): void {
    group.file?.markGone();
    this.#uids.delete(pathOf(group));
  }
}
