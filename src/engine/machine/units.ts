/**
 * The units of a machine: sets of functions that share nothing with the functions of other sets. A
 * unit can run in a thread of its own, as a machine that has only its functions. All that functions
 * share is a row of `ties`.
 */
import { ExtCapId } from '../../abi/pci.ts';
import { addressOn } from './fabric.ts';
import type { Machine } from './machine.ts';
import type { FunctionSpec, MachineSpec } from './machine-spec.ts';
import type { PciBus, PciFunction } from './pci-function.ts';

/** One reason for which functions need each other. Functions with the same key do. */
export interface Tie {
  readonly why: string;
  /** Null: the function shares nothing of that kind. */
  readonly key: (fn: PciFunction, machine: Machine) => string | number | null;
}

export const ties: readonly Tie[] = [
  {
    why: 'functions of one device: a reset of the device takes all of them',
    key: (fn) => (fn.physical === null ? `${fn.bus.name}:${fn.address.device}` : null),
  },
  {
    why: 'a physical function and its virtual functions: tokens, resets and the number of VFs',
    key: (fn) => (fn.physical ?? fn).bdf,
  },
  { why: 'an isolation group: one user has all of it (S1-01)', key: (fn) => fn.group?.id ?? null },
  { why: 'what is below one bridge: a hot reset or a fatal error of one function takes all of it', key: (fn) => resetTogether(fn) },
  {
    why: 'an interrupt wire that one of its devices cannot share (S2-12)',
    key: (fn, machine) => (fn.interruptLine !== null && unshared(fn, machine) ? `${fn.bus.root.name} ${fn.interruptLine.name}` : null),
  },
  {
    why: 'the requester id that DMA of several functions carries',
    key: (fn) => (fn.requester ?? fn).bdf,
  },
  {
    why: 'a thing outside of the fabric by which models call each other: a wire of network cards',
    key: (fn) => fn.deviceModel?.sharesWith ?? null,
  },
  {
    why: "the interrupt vectors of a machine that has a limit for them (the parameter 'maxVectors')",
    key: (_, machine) => (machine.context.params.maxVectors === null ? null : 'all'),
  },
];

/**
 * The highest bridge below which a reset for the sake of one function takes `fn` along: a bus with
 * a function of its own is reset with all that is behind its bridges. Null on a root bus.
 */
function resetTogether(fn: PciFunction): string | null {
  let found: string | null = null;
  for (let { bus } = fn; bus.bridge !== null; bus = bus.bridge.bus) {
    if (bus.functions.some((other) => !other.isBridge)) found = bus.bridge.bdf;
  }
  return found;
}

/** Whether a device on the wire of `fn` is older than PCI 2.3. */
function unshared(fn: PciFunction, machine: Machine): boolean {
  for (const other of machine.functions.values()) {
    if (other.interruptLine === fn.interruptLine && other.declaration.interruptDisable === false) return true;
  }
  return false;
}

/**
 * The functions of `machine` in units, by address; bridges are in none. Units come in the order of
 * their first functions.
 */
export function unitsOf(machine: Machine): readonly (readonly string[])[] {
  const nodes = [...machine.functions.values()].filter((fn) => !fn.isBridge);
  const first = new Map<string, number>();
  /** The lowest function of the same unit, as far as it is known: a forest. */
  const above = nodes.map((_, i) => i);
  const root = (i: number): number => {
    while (above[i] !== i) {
      above[i] = above[above[i]!]!;
      i = above[i]!;
    }
    return i;
  };
  for (const [number, { key }] of ties.entries()) {
    for (const [i, fn] of nodes.entries()) {
      const of = key(fn, machine);
      if (of === null) continue;
      const name = `${number} ${of}`;
      const other = first.get(name);
      if (other === undefined) {
        first.set(name, i);
        continue;
      }
      const [low, high] = [root(other), root(i)].sort((a, b) => a - b) as [number, number];
      above[high] = low;
    }
  }
  const units = new Map<number, string[]>();
  for (const [i, fn] of nodes.entries()) {
    const unit = units.get(root(i));
    if (unit === undefined) units.set(root(i), [fn.bdf]);
    else unit.push(fn.bdf);
  }
  return [...units.values()];
}

/** The bus of an address that names none, on the top level of a declaration. */
const firstRoot = { domain: 0, number: 0, name: '0000:00' };

/** A part of a machine, as a machine of its own. */
export interface Slice {
  readonly spec: MachineSpec;
  /**
   * Functions that only stand where the machine has others: bridges need them. They have no driver
   * and no model.
   */
  readonly standIns: readonly string[];
}

/**
 * The declaration of a machine that has only the functions `kept` of `machine`, and every bridge
 * and root bus. Addresses, groups and bus numbers are those of `machine`.
 *
 * @param spec the declaration that `machine` was made from
 * @param machine as it was at power-on
 */
export function sliceOf(spec: MachineSpec, machine: Machine, kept: ReadonlySet<string>): Slice {
  const standIns: string[] = [];
  const slice = (list: readonly FunctionSpec[], bus: PciBus | null): readonly FunctionSpec[] =>
    list.flatMap((one): FunctionSpec[] => {
      const fn = machine.function(one.at.includes(':') ? one.at : addressOn(one.at, bus ?? firstRoot));
      const { devices, ...rest } = one;
      // Requesters and bus numbers can depend on functions which are not there.
      const requester = bus === null && fn.requester !== null ? { requester: fn.requester.bdf } : {};
      if (fn.secondary !== null) {
        return [{ ...rest, ...requester, bus: fn.secondary.number, devices: slice(devices ?? [], fn.secondary) }];
      }
      if (kept.has(fn.bdf)) return [{ ...rest, ...requester }];
      if (!bridgesNeed(fn, machine)) return [];
      standIns.push(fn.bdf);
      return [{ ...standInFor(fn, one), ...requester }];
    });
  const rootBuses = [...new Set([...machine.functions.values()].map((fn) => fn.bus.root.name))];
  return { spec: { ...spec, rootBuses, devices: slice(spec.devices, null) }, standIns };
}

/** Whether a bridge is on its device, which is found by function 0, or does DMA with its id. */
function bridgesNeed(fn: PciFunction, machine: Machine): boolean {
  if (fn.address.fn === 0 && fn.functionsOfDevice.some((other) => other.isBridge)) return true;
  return [...machine.functions.values()].some((other) => other.isBridge && other.requester === fn);
}

function standInFor({ declaration, kind, name }: PciFunction, { at, iommu }: FunctionSpec): FunctionSpec {
  const hex = (id: number) => id.toString(16).padStart(4, '0');
  return {
    at,
    kind,
    name,
    id: `${hex(declaration.vendor)}:${hex(declaration.device)}`,
    classCode: declaration.classCode,
    acs: declaration.extendedCapabilities?.some(({ id }) => id === ExtCapId.ACS) ?? false,
    driver: null,
    ...(iommu === undefined ? {} : { iommu }),
  };
}
