/** A computer in plain values: the document of a machine, and facts of the picture beside it. */
import type { Host } from '../host/host.ts';
import { type FunctionDocument, type GroupDocument, type MachineDocument, machineDocument } from './machine-document.ts';

/** Facts that a computer has and a machine of a file has not. */
export interface HostFacts {
  /** `this computer`, `sysfs`, `lspci`, `sosreport` or `hwloc`. */
  readonly source: string;
  /** The place that the picture was read from. */
  readonly origin: string;
  readonly hostname: string | null;
  readonly kernel: string | null;
  readonly commandLine: string | null;
  /** Names of IOMMU units; null where the source does not say. */
  readonly iommus: readonly string[] | null;
  readonly interruptsRemapped: boolean | null;
  /** False: the source has no groups, and those of the document follow from the fabric. */
  readonly groupsAreRecorded: boolean;
  /** Recorded groups that do not follow from the fabric. */
  readonly differences: readonly {
    readonly functions: readonly string[];
    readonly recorded: readonly (readonly string[])[];
    readonly computed: readonly (readonly string[])[];
    readonly reason: string;
  }[];
  /** Doubts about the source: a sentence each. */
  readonly notes: readonly string[];
}

export interface HostDocument extends MachineDocument {
  readonly host: HostFacts;
}

export function hostDocument(host: Host): HostDocument {
  const { picture, machine } = host;
  const { name, functions, groups } = machineDocument(machine);
  return {
    name,
    functions: functions.map((fn) => withUser(fn, host)),
    groups: groups.map((group) => withOwner(group, host)),
    host: {
      source: picture.source,
      origin: picture.origin,
      hostname: picture.hostname,
      kernel: picture.kernel,
      commandLine: picture.commandLine,
      iommus: picture.iommus,
      interruptsRemapped: picture.interruptsRemapped,
      groupsAreRecorded: picture.groups !== null,
      differences: host.differences.map(({ functions: of, recorded, computed, reason }) => ({ functions: of, recorded, computed, reason })),
      notes: host.notes,
    },
  };
}

function withUser(fn: FunctionDocument, { users }: Host): FunctionDocument {
  const user = users.get(fn.bdf);
  return user === undefined ? fn : { ...fn, open: true, openBy: user };
}

function withOwner(group: GroupDocument, { users }: Host): GroupDocument {
  const user = group.functions.map((bdf) => users.get(bdf)).find((one) => one !== undefined);
  return user === undefined ? group : { ...group, owned: true, ownedBy: user };
}
