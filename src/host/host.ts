/**
 * A computer as a machine: a picture, the machine that is like it, and how far the two agree. The
 * groups of the picture are the truth where it has them.
 */
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import type { Explanation, Remedies } from '../engine/machine/explain.ts';
import { Machine } from '../engine/machine/machine.ts';
import type { FunctionSpec, MachineSpec } from '../engine/machine/machine-spec.ts';
import { parseBdf } from '../pci/bdf.ts';
import type { PciNames } from '../pci/pci-ids.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import { differencesOf, type GroupDifference } from './group-differences.ts';
import type { HostPicture } from './host-picture.ts';
import { specOf } from './host-spec.ts';

/** Facts of a computer beside its picture. */
export interface HostOptions {
  /** Names of vendors and devices. Default: the recorded names, or ids. */
  readonly names?: PciNames | null;
  /** Processes that have nodes of VFIO open: `process 42`, by address of a device. */
  readonly users?: ReadonlyMap<string, string>;
}

/** Commands of the computer that a picture shows. */
const remedies: Remedies = {
  iommu:
    'switch the IOMMU on in the firmware (VT-d, AMD-Vi, SMMU), for Intel also with intel_iommu=on for the kernel; vfio doctor looks at both',
  unsafeInterrupts: 'if every user is trusted: modprobe vfio_iommu_type1 allow_unsafe_interrupts=1',
  disableVirtualFunctions: (bdf) => `echo 0 > /sys/bus/pci/devices/${bdf}/sriov_numvfs`,
};

function bindCommand(bdf: string, driver: string): string {
  return driver === 'vfio-pci' ? `vfio bind ${bdf}` : `vfio bind ${bdf} --driver ${driver}`;
}

/** A computer, and a machine that is like it. */
export class Host implements Disposable {
  readonly picture: HostPicture;
  readonly spec: MachineSpec;
  readonly machine: Machine;
  /** Groups that do not follow from the fabric by the rule of Linux 7.3; empty without a record. */
  readonly differences: readonly GroupDifference[];
  /** Doubts about the picture and the machine: a sentence each. */
  readonly notes: readonly string[];
  /** Who has a device open, by address. */
  readonly users: ReadonlyMap<string, string>;

  private constructor(
    picture: HostPicture,
    spec: MachineSpec,
    machine: Machine,
    notes: readonly string[],
    users: ReadonlyMap<string, string>,
  ) {
    this.picture = picture;
    this.spec = spec;
    this.machine = machine;
    this.differences = differencesOf(picture, machine);
    this.notes = notes;
    this.users = users;
  }

  /** @throws VfioError EINVAL for a picture that no machine can be made of */
  static of(picture: HostPicture, options: HostOptions = {}): Host {
    const { spec, notes } = specOf(picture, options.names);
    using undo = new Cleanup();
    const { machine, fitted, more } = machineFor(spec);
    undo.use(machine);
    bindVirtualFunctions(picture, machine);
    const host = new Host(picture, fitted, machine, [...notes, ...more], options.users ?? new Map());
    undo.move();
    return host;
  }

  /** As `Machine.explain`, with facts of the picture. @throws VfioError EINVAL, ENODEV */
  explain(bdf: string): Explanation {
    const { functions, origin } = this.picture;
    const at = parseBdf(bdf);
    if (!functions.some((fn) => fn.bdf === at)) {
      throw new VfioError('ENODEV', `${origin} has no PCI device ${at}`, {
        fix: 'vfio ls, or vfio show of the recording, prints the devices.',
      });
    }
    const explanation = this.machine.explain(bdf);
    const members = explanation.group?.members.map((m) => m.bdf) ?? [explanation.bdf];
    const differences = this.differences.filter((d) => d.functions.some((fn) => members.includes(fn)));
    const notes = [...explanation.notes, ...differences.map((d) => d.text)];
    const user = members.map((member) => this.users.get(member)).find((one) => one !== undefined);
    if (user === undefined || explanation.group === null) return { ...explanation, notes };
    const why = `group ${explanation.group.id} is open by ${user}`;
    const summary = explanation.usable
      ? explanation.summary.replace(/; a user can open it.*$/, `; a user cannot open it: ${why}`)
      : explanation.summary;
    return {
      ...explanation,
      group: { ...explanation.group, holder: user },
      notes,
      blockers: [...explanation.blockers, { at: 'open the group: EBUSY', why, fix: 'close it there' }],
      usable: false,
      summary,
    };
  }

  /**
   * The machine has the recorded groups, with their numbers, without a list of them: they follow
   * from the fabric.
   */
  get followsFromFabric(): boolean {
    const { groups: recorded, ...rest } = this.spec;
    if (recorded === undefined) return true;
    using machine = new Machine(rest, { allocate: MemfdMemory.allocate });
    const found = [...machine.groups.values()];
    return (
      found.length === recorded.length &&
      recorded.every(({ id, functions }) => {
        const members = machine.groups.get(id)?.functions.map((fn) => fn.bdf) ?? [];
        return members.length === functions.length && functions.every((bdf) => members.includes(bdf));
      })
    );
  }

  /** Switches the machine off. */
  [Symbol.dispose](): void {
    this.machine[Symbol.dispose]();
  }
}

interface Fitted {
  readonly machine: Machine;
  readonly fitted: MachineSpec;
  readonly more: readonly string[];
}

/** Parts that a machine may lack for want of room, in the order in which they are left out. */
const dispensable: readonly { readonly without: (fn: FunctionSpec) => FunctionSpec; readonly note: string }[] = [
  {
    note: 'I/O BARs are left out: an emulated machine has less room for them',
    without: ({ bars, ...rest }) => (bars === undefined ? rest : { ...rest, bars: bars.filter((bar) => bar.type !== 'io') }),
  },
  {
    note: 'BARs are left out: an emulated machine has less room for them',
    without: ({ bars: _, sriov, ...rest }) => ({ ...rest, ...(sriov === undefined ? {} : { sriov: { ...sriov, bars: [] } }) }),
  },
];

/** The machine of a declaration, without the parts for which it has no room. */
function machineFor(spec: MachineSpec): Fitted {
  const options = { allocate: MemfdMemory.allocate, bindCommand, remedies };
  const more: string[] = [];
  let fitted = spec;
  for (const { without, note } of dispensable) {
    try {
      return { machine: new Machine(fitted, options), fitted, more };
    } catch (error) {
      if (!(error instanceof VfioError) || error.code !== 'ENOSPC') throw error;
    }
    const all = (fn: FunctionSpec): FunctionSpec => {
      const { devices, ...rest } = without(fn);
      return devices === undefined ? rest : { ...rest, devices: devices.map(all) };
    };
    fitted = { ...fitted, devices: fitted.devices.map(all) };
    more.splice(0, more.length, note);
  }
  return { machine: new Machine(fitted, options), fitted, more };
}

/** A declaration has one driver for all virtual functions of a device; a computer may have more. */
function bindVirtualFunctions({ functions }: HostPicture, machine: Machine): void {
  for (const { bdf, driver, physicalFunction } of functions) {
    const fn = machine.functions.get(bdf);
    if (physicalFunction === null || fn === undefined || fn.physical === null || fn.driver === driver) continue;
    try {
      if (fn.driver !== null) void machine.unbind(bdf);
      if (driver !== null) machine.bind(bdf, driver);
    } catch (error) {
      // The machine says why the driver could not have it, as it does at power-on.
      if (!(error instanceof VfioError)) throw error;
      fn.probeError = error;
    }
  }
}
