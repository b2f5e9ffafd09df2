/** The picture of a computer from what lspci printed on it, with -v, -x, -t, -mm or without. */
import { HeaderType } from '../abi/pci.ts';
import { VfioError } from '../base/errno.ts';
import { bdfParts, compareBdf, formatBdf } from '../pci/bdf.ts';
import { configFacts } from './config-facts.ts';
import { type FabricFacts, placesOf } from './fabric-kinds.ts';
import { isBehindUnknown } from './group-differences.ts';
import type { HostFunction, HostGroup, HostPicture, HostResource, HostSource, HostSriov } from './host-picture.ts';
import { acsOf, type LspciFunction, parseLspci } from './lspci-text.ts';
import { parseLspciTree, type TreePlace } from './lspci-tree.ts';

/** Facts that a recording has beside the output of lspci. */
export interface LspciContext {
  readonly source?: HostSource;
  readonly hostname?: string | null;
  readonly kernel?: string | null;
  readonly commandLine?: string | null;
  readonly modules?: HostPicture['modules'];
  readonly interruptsRemapped?: boolean | null;
  /** Config spaces by address, where the text has none. */
  readonly configs?: ReadonlyMap<string, Uint8Array>;
}

const BRIDGE_CLASS = 0x0604;
const BARS_AND_ROM = 7;

/** @throws VfioError EINVAL for a text without a PCI function */
export function readLspci(text: string, origin: string, context: LspciContext = {}): HostPicture {
  const { functions: found, notes, kernel, commandLine } = parseLspci(text);
  const tree = parseLspciTree(text);
  const known = withTree(found, tree);
  if (known.length === 0) {
    throw new VfioError('EINVAL', `${origin} has no PCI function in it`, {
      fix: 'Give the output of "lspci -vvv -nn", made as root; with -xxxx its registers are known, too.',
    });
  }
  const all = [...known].sort((a, b) => compareBdf(a.bdf, b.bdf));
  const configOf = (fn: LspciFunction) => fn.config ?? context.configs?.get(fn.bdf) ?? new Uint8Array(0);
  const physical = physicalFunctions(all);
  const virtual = new Map<LspciFunction, string[]>();
  for (const { bdf } of all) {
    const pf = physical.get(bdf);
    if (pf !== undefined) virtual.set(pf, [...(virtual.get(pf) ?? []), bdf]);
  }
  const fabric = all.map((fn) => fabricOf(fn, configOf(fn), tree.get(fn.bdf), physical.get(fn.bdf)?.bdf ?? null));
  const places = placesOf(fabric);
  const functions = all.map((fn, i): HostFunction => {
    const place = places.get(fn.bdf)!;
    const facts = configFacts(configOf(fn));
    return {
      bdf: fn.bdf,
      vendor: fn.vendor ?? facts.identity?.vendor ?? null,
      device: fn.device ?? facts.identity?.device ?? null,
      subsystemVendor: fn.subsystemVendor ?? null,
      subsystem: fn.subsystem ?? null,
      classCode: fn.classCode ?? facts.identity?.classCode ?? (place.kind.endsWith('port') ? BRIDGE_CLASS << 8 : 0),
      revision: fn.revision ?? facts.identity?.revision ?? null,
      name: fn.name ?? null,
      config: configOf(fn),
      resources: filled(fn.resources, BARS_AND_ROM),
      driver: fn.driver ?? null,
      driverOverride: null,
      modules: fn.modules ?? [],
      group: fn.group ?? null,
      iommu: null,
      numaNode: fn.numaNode ?? null,
      irq: fn.irq ?? null,
      slot: fn.slot ?? null,
      parent: place.parent,
      secondary: fabric[i]!.secondary ?? null,
      kind: place.kind,
      kindIsKnown: place.kindIsKnown,
      acs: facts.acs === undefined ? acsOf(fn) : facts.acs,
      functionReset: facts.functionReset ?? fn.functionReset ?? null,
      sriov: sriovOf(fn, facts.sriov),
      physicalFunction: physical.get(fn.bdf)?.bdf ?? null,
      virtualFunctions: virtual.get(fn) ?? [],
      vfioDevice: null,
      bootVga: false,
    };
  });
  return {
    source: context.source ?? 'lspci',
    origin,
    hostname: context.hostname ?? null,
    kernel: context.kernel ?? kernel,
    commandLine: context.commandLine ?? commandLine,
    functions,
    groups: groupsOf(functions),
    iommus: null,
    modules: context.modules ?? null,
    interruptsRemapped: context.interruptsRemapped ?? null,
    notes: [...notes, ...doubts(all, functions)],
  };
}

/** Functions that only the tree has: it is all there is of them. */
function withTree(functions: readonly LspciFunction[], tree: ReadonlyMap<string, TreePlace>): readonly LspciFunction[] {
  const known = new Set(functions.map((fn) => fn.bdf));
  const more = [...tree.keys()].filter((bdf) => !known.has(bdf)).map((bdf): LspciFunction => ({ bdf, resources: [] }));
  return [...functions, ...more];
}

function fabricOf(fn: LspciFunction, config: Uint8Array, place: TreePlace | undefined, physicalFunction: string | null): FabricFacts {
  const facts = configFacts(config);
  const secondary = facts.secondary ?? fn.secondary ?? place?.secondary ?? undefined;
  const isBridge =
    fn.secondary !== undefined || place?.secondary != null || fn.classCode === undefined ? undefined : fn.classCode >>> 8 === BRIDGE_CLASS;
  const header =
    secondary != null ? HeaderType.BRIDGE : isBridge === undefined ? undefined : isBridge ? HeaderType.BRIDGE : HeaderType.NORMAL;
  const listed = fn.capabilities === true && fn.denied !== true;
  return {
    bdf: fn.bdf,
    classCode: fn.classCode ?? facts.identity?.classCode ?? 0,
    header: facts.header ?? header,
    secondary: secondary ?? null,
    express: facts.express !== undefined ? facts.express : (fn.express ?? (listed ? (physicalFunction === null ? null : 0) : undefined)),
    isExpress: undefined,
    parent: place === undefined ? undefined : place.parent,
    physicalFunction,
  };
}

/** The physical function of each virtual one, by the routing ids that SR-IOV gives. */
function physicalFunctions(all: readonly LspciFunction[]): ReadonlyMap<string, LspciFunction> {
  const byBdf = new Set(all.map((fn) => fn.bdf));
  const found = new Map<string, LspciFunction>();
  for (const pf of all) {
    const { numVfs = 0, firstOffset = 0, stride = 0 } = pf.sriov ?? {};
    const { domain, bus, device, fn } = bdfParts(pf.bdf);
    for (let i = 0; i < numVfs && firstOffset > 0; i++) {
      const id = (bus << 8) + (device << 3) + fn + firstOffset + stride * i;
      // Without a stride all have one address.
      if (id > 0xffff || (stride === 0 && i > 0)) break;
      const bdf = formatBdf({ domain, bus: id >> 8, device: (id >> 3) & 31, fn: id & 7 });
      if (byBdf.has(bdf)) found.set(bdf, pf);
    }
  }
  return found;
}

function sriovOf(fn: LspciFunction, registers: ReturnType<typeof configFacts>['sriov']): HostSriov | null {
  const known = registers ?? fn.sriov;
  if (known == null || (known.totalVfs ?? 0) === 0) return null;
  const { totalVfs = 0, numVfs = 0, firstOffset = null, stride = null, vfDevice = null } = known;
  return { totalVfs, numVfs, firstOffset, stride, vfDevice, bars: filled(fn.sriov?.bars ?? [], 6) };
}

function filled(resources: readonly (HostResource | null)[], length: number): (HostResource | null)[] {
  return Array.from({ length }, (_, i) => resources[i] ?? null);
}

function groupsOf(functions: readonly HostFunction[]): HostGroup[] | null {
  const members = new Map<number, string[]>();
  for (const { bdf, group } of functions) {
    if (group === null) continue;
    const there = members.get(group);
    if (there === undefined) members.set(group, [bdf]);
    else there.push(bdf);
  }
  if (members.size === 0) return null;
  const sorted = [...members].sort(([a], [b]) => a - b);
  return sorted.map(([id, bdfs]) => ({ id, functions: bdfs, type: null, reserved: [] }));
}

function doubts(all: readonly LspciFunction[], functions: readonly HostFunction[]): string[] {
  const notes: string[] = [];
  if (all.some((fn) => fn.denied === true)) {
    notes.push('lspci did not run as root: capabilities are not known, such as access control (ACS)');
  }
  if (functions.some((fn) => fn.device === null)) notes.push('the text has no ids for some functions: lspci prints them with -nn');
  const lost = functions.filter(isBehindUnknown);
  if (lost.length > 0) {
    notes.push(`the bridges above ${lost.length} functions are not known: lspci prints them with -vv, or as a tree with -t`);
  }
  return notes;
}
