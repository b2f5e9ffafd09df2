/**
 * The fabric of a picture: which bridge each function is behind, and its part there. Capabilities
 * say it where the source has them; otherwise class codes and places do.
 */
import { HeaderType } from '../abi/pci.ts';
import type { FunctionKind } from '../engine/machine/machine-spec.ts';
import { bdfParts } from '../pci/bdf.ts';
import { PciExpType } from '../pci/capabilities/pci-express-registers.ts';

/** The facts about a function that decide its place and its kind. */
export interface FabricFacts {
  readonly bdf: string;
  readonly classCode: number;
  /** Header type; undefined where the source does not say. */
  readonly header: number | undefined;
  /** The bus behind a bridge. */
  readonly secondary: number | null | undefined;
  /** Port type of PCI Express; null: no such capability; undefined: not known. */
  readonly express: number | null | undefined;
  /** It is on PCI Express at all, although the port type is not known. */
  readonly isExpress: boolean | undefined;
  /** The bridge above, where the source names it; undefined where only bus numbers are known. */
  readonly parent: string | null | undefined;
  /** On a virtual function: its physical one. */
  readonly physicalFunction: string | null;
}

export interface FabricPlace {
  readonly parent: string | null;
  readonly kind: FunctionKind;
  readonly kindIsKnown: boolean;
}

const PCI_TO_PCI = 0x0604;
const HOST_BRIDGE = 0x0600;

export function isBridge({ header, classCode }: Pick<FabricFacts, 'header' | 'classCode'>): boolean {
  return header === undefined ? classCode >>> 8 === PCI_TO_PCI : header === HeaderType.BRIDGE;
}

/** The place of each function, by address. */
export function placesOf(functions: readonly FabricFacts[]): ReadonlyMap<string, FabricPlace> {
  const bridges = new Map<string, FabricFacts>();
  for (const fn of functions) {
    const { domain } = bdfParts(fn.bdf);
    // Bridges that firmware has not set up forward bus 0, which is nothing behind them.
    if (fn.secondary != null && fn.secondary !== 0 && fn.header !== HeaderType.CARDBUS) bridges.set(`${domain}:${fn.secondary}`, fn);
  }
  const byBdf = new Map(functions.map((fn) => [fn.bdf, fn]));
  const parentOf = (fn: FabricFacts): FabricFacts | null => {
    if (fn.parent !== undefined) return fn.parent === null ? null : (byBdf.get(fn.parent) ?? null);
    // VFs can be on bus numbers that no bridge names.
    const of = fn.physicalFunction === null ? fn : (byBdf.get(fn.physicalFunction) ?? fn);
    const { domain, bus } = bdfParts(of.bdf);
    const found = bridges.get(`${domain}:${bus}`) ?? null;
    return found === of ? null : found;
  };
  const parents = new Map(functions.map((fn) => [fn, parentOf(fn)]));
  const behind = new Map<FabricFacts, FabricFacts[]>();
  for (const [fn, parent] of parents) {
    if (parent === null) continue;
    const there = behind.get(parent);
    if (there === undefined) behind.set(parent, [fn]);
    else there.push(fn);
  }
  // A bus with a host bridge on it is a root bus; another one that no bridge forwards is not.
  const roots = new Set(functions.filter((fn) => fn.classCode >>> 8 === HOST_BRIDGE).map((fn) => fn.bdf.slice(0, -5)));
  const isLost = (fn: FabricFacts) =>
    parents.get(fn) === null &&
    fn.parent !== null &&
    (fn.parent !== undefined || (bdfParts(fn.bdf).bus !== 0 && !roots.has(fn.bdf.slice(0, -5))));
  const kinds = new Map<FabricFacts, { kind: FunctionKind; known: boolean }>();
  const kindOf = (fn: FabricFacts, hops = 0): { kind: FunctionKind; known: boolean } => {
    const found = kinds.get(fn);
    if (found !== undefined) return found;
    const parent = parents.get(fn)!;
    const above = parent === null || hops > 255 ? null : kindOf(parent, hops + 1).kind;
    const made = kindFrom(fn, above, behind.get(fn) ?? [], isLost(fn));
    kinds.set(fn, made);
    return made;
  };
  return new Map(
    functions.map((fn) => {
      const { kind, known } = kindOf(fn);
      return [fn.bdf, { parent: parents.get(fn)?.bdf ?? null, kind, kindIsKnown: known }];
    }),
  );
}

/**
 * Kinds by the port type of the PCI Express capability. Linux takes event collectors and bridges
 * from PCI to PCI Express for functions without access control, as conventional ones are.
 *
 * @see linux/drivers/pci/pci.c, pci_acs_enabled()
 */
const kindOfPort: Readonly<Record<number, FunctionKind>> = {
  [PciExpType.ENDPOINT]: 'endpoint',
  [PciExpType.LEG_END]: 'endpoint',
  [PciExpType.ROOT_PORT]: 'root-port',
  [PciExpType.UPSTREAM]: 'upstream-port',
  [PciExpType.DOWNSTREAM]: 'downstream-port',
  [PciExpType.PCI_BRIDGE]: 'pcie-to-pci-bridge',
  [PciExpType.PCIE_BRIDGE]: 'pci-bridge',
  [PciExpType.RC_END]: 'integrated-endpoint',
  [PciExpType.RC_EC]: 'conventional',
};

function kindFrom(
  fn: FabricFacts,
  above: FunctionKind | null,
  behind: readonly FabricFacts[],
  lost: boolean,
): { kind: FunctionKind; known: boolean } {
  const bridge = isBridge(fn) || behind.length > 0;
  if (fn.express != null) {
    const kind = kindOfPort[fn.express];
    const isPort = kind !== undefined && kind !== 'endpoint' && kind !== 'integrated-endpoint' && kind !== 'conventional';
    if (kind !== undefined && isPort === bridge) return { kind, known: true };
    // The header decides what a function is; some devices have a port type that contradicts it.
    return { kind: bridge ? 'pci-bridge' : 'conventional', known: false };
  }
  if (fn.express === null) return { kind: bridge ? 'pci-bridge' : 'conventional', known: true };
  if (lost) return { kind: bridge ? 'downstream-port' : 'endpoint', known: false };
  return { kind: bridge ? guessBridge(fn, above, behind) : guessEndpoint(fn, above), known: false };
}

function guessBridge(fn: FabricFacts, above: FunctionKind | null, behind: readonly FabricFacts[]): FunctionKind {
  // A bridge that decodes what no other takes is a conventional one: programming interface 1.
  const conventional = fn.isExpress === false || (fn.isExpress === undefined && (fn.classCode & 0xff) === 1);
  switch (above) {
    case null:
      return conventional ? 'pci-bridge' : 'root-port';
    case 'root-port':
    case 'downstream-port':
      // Behind the upstream port of a switch there are bridges only.
      return !conventional && behind.every((one) => isBridge(one)) && behind.length > 0 ? 'upstream-port' : 'pcie-to-pci-bridge';
    case 'upstream-port':
      return 'downstream-port';
    default:
      return 'pci-bridge';
  }
}

function guessEndpoint(fn: FabricFacts, above: FunctionKind | null): FunctionKind {
  switch (above) {
    case null:
      return fn.isExpress === true ? 'integrated-endpoint' : 'conventional';
    case 'pci-bridge':
    case 'pcie-to-pci-bridge':
      return 'conventional';
    default:
      return fn.isExpress === false ? 'conventional' : 'endpoint';
  }
}
