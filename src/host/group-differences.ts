/**
 * Where the recorded groups are not those that follow from the fabric by the rule of Linux 7.3, and
 * what may be the reason.
 */
import type { Machine } from '../engine/machine/machine.ts';
import { partition } from '../engine/machine/topology.ts';
import { bdfParts, compareBdf } from '../pci/bdf.ts';
import type { HostFunction, HostPicture } from './host-picture.ts';

/** Functions whose recorded groups do not follow from the fabric. */
export interface GroupDifference {
  /** Every function whose group is in question, in order. */
  readonly functions: readonly string[];
  /** The recorded groups of these. */
  readonly recorded: readonly (readonly string[])[];
  /** The groups that follow from the fabric. */
  readonly computed: readonly (readonly string[])[];
  readonly reason: string;
  /** All of it, for people. */
  readonly text: string;
}

/** Empty where the picture has no groups. */
export function differencesOf(picture: HostPicture, machine: Machine): GroupDifference[] {
  const { groups } = picture;
  if (groups === null || groups.length === 0) return [];
  const known = new Set([...machine.functions.values()].filter((fn) => fn.group !== null).map((fn) => fn.bdf));
  const nodes = [...machine.functions.values()].filter((fn) => known.has(fn.bdf));
  const computed = partition(nodes, 'linux').map((one) => one.members.map((fn) => fn.bdf).sort(compareBdf));
  const recorded = groups.map((g) => g.functions.filter((bdf) => known.has(bdf))).filter((members) => members.length > 0);
  return unequal(recorded, computed).map((one) => {
    const functions = [...new Set(one.recorded.flat())].sort(compareBdf);
    const reason = reasonOf(picture, functions);
    return { ...one, functions, reason, text: textOf(picture, one, reason) };
  });
}

interface Unequal {
  readonly recorded: readonly (readonly string[])[];
  readonly computed: readonly (readonly string[])[];
}

/** The smallest sets of functions that both divide, each in another way. */
function unequal(recorded: readonly (readonly string[])[], computed: readonly (readonly string[])[]): Unequal[] {
  const leader = new Map<string, string>();
  const find = (bdf: string): string => {
    let at = bdf;
    for (let up = leader.get(at) ?? at; up !== at; up = leader.get(at) ?? at) at = up;
    return at;
  };
  for (const members of [...recorded, ...computed]) for (const bdf of members) leader.set(find(bdf), find(members[0]!));
  const sets = new Map<string, { recorded: (readonly string[])[]; computed: (readonly string[])[] }>();
  const setOf = (bdf: string) => {
    const made = sets.get(find(bdf)) ?? { recorded: [], computed: [] };
    sets.set(find(bdf), made);
    return made;
  };
  for (const members of recorded) setOf(members[0]!).recorded.push(members);
  for (const members of computed) setOf(members[0]!).computed.push(members);
  return [...sets.values()].filter((set) => set.recorded.length !== 1 || set.computed.length !== 1);
}

function reasonOf(picture: HostPicture, functions: readonly string[]): string {
  const { commandLine, kernel } = picture;
  const acsParameter = /\b(pcie_acs_override\S*|pci=\S*(?:disable_acs_redir|config_acs)\S*)/.exec(commandLine ?? '')?.[1];
  if (acsParameter !== undefined) return `the kernel was started with ${acsParameter}`;
  const byBdf = new Map(picture.functions.map((fn) => [fn.bdf, fn]));
  const onPaths = functions.flatMap((bdf) => {
    const path: string[] = [];
    for (let at = byBdf.get(bdf); at !== undefined; at = at.parent === null ? undefined : byBdf.get(at.parent)) path.push(at.bdf);
    return path;
  });
  const lost = onPaths.filter((bdf) => byBdf.get(bdf)!.parent === null && isBehindUnknown(byBdf.get(bdf)!));
  if (lost.length > 0) return `the source does not say which bridges are above ${listed([...new Set(lost)])}`;
  const unread = [...new Set(onPaths)].filter((bdf) => byBdf.get(bdf)!.acs === undefined || !byBdf.get(bdf)!.kindIsKnown);
  if (unread.length > 0) return `the source does not have all capabilities of ${listed(unread)}, as root reads them`;
  const which = kernel === null ? 'the kernel of the recording' : `Linux ${kernel}`;
  return `${which} may know quirks of these devices, or group by an older rule`;
}

/** It is on a bus that some bridge must forward, and none is known that does. */
export function isBehindUnknown({ bdf, kind, parent }: Pick<HostFunction, 'bdf' | 'kind' | 'parent'>): boolean {
  return parent === null && bdfParts(bdf).bus !== 0 && (kind === 'endpoint' || kind === 'upstream-port' || kind === 'downstream-port');
}

function listed(all: readonly string[]): string {
  const shown = all.slice(0, 6).join(', ');
  return all.length > 6 ? `${shown} and ${all.length - 6} more` : shown;
}

function textOf(picture: HostPicture, { recorded, computed }: Unequal, reason: string): string {
  const idOf = (members: readonly string[]) => picture.groups!.find((g) => g.functions.includes(members[0]!))!.id;
  const linux =
    recorded.length === 1
      ? `Linux has ${listed(recorded[0]!)} in one group, ${idOf(recorded[0]!)}`
      : `Linux has ${recorded.map((members) => `${listed(members)} in group ${idOf(members)}`).join('; ')}`;
  const here =
    computed.length === 1
      ? 'by their registers they would be one group'
      : `by their registers they would be ${computed.length} groups: ${computed.map((members) => listed(members)).join('; ')}`;
  return `${linux}; ${here} (${reason})`;
}
