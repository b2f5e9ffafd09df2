/**
 * A machine as it is now, in plain values: the output of `vfio show --json`, and the status that a
 * served machine sends to its administrator. A document never holds a token.
 */
import type { Culprit } from '../base/errno.ts';
import type { Machine } from '../engine/machine/machine.ts';
import type { FunctionGroup, PciFunction } from '../engine/machine/pci-function.ts';
import { dropReasons } from '../hardware/interrupt-drops.ts';

export interface FunctionDocument {
  readonly bdf: string;
  readonly name: string;
  /** Four hexadecimal digits each; `class` has six. */
  readonly vendor: string;
  readonly device: string;
  readonly class: string;
  readonly kind: string;
  /** The bridge above the bus; null on the root bus. */
  readonly parent: string | null;
  readonly driver: string | null;
  readonly driverOverride: string | null;
  /** The reason why the driver of the machine file was not bound. */
  readonly refused: string | null;
  readonly group: number | null;
  readonly groupedBecause: string | null;
  /** For a virtual function. */
  readonly physicalFunction: string | null;
  readonly vfIndex: number | null;
  /**
   * True when the function opens only with the token that the driver of its PF has set; for a PF,
   * while VFs are in use.
   */
  readonly tokenNeeded: boolean;
  /**
   * For a physical function. `inUse`: the VFs that are open; null while a driver other than
   * vfio-pci has the PF.
   */
  readonly sriov: {
    readonly totalVfs: number;
    readonly numVfs: number;
    readonly inUse: number | null;
    readonly vfs: readonly string[];
  } | null;
  readonly open: boolean;
  /** The user who has the function open: `process 42`. */
  readonly openBy: string | null;
  readonly mediator: string | null;
  readonly virtualMachine: string | null;
  /**
   * DMA of the function that did not land since power-on, and interrupts that were lost: how many,
   * by the reasons that events have. A reason that never came is left out.
   */
  readonly dmaFaults: Readonly<Record<string, number>>;
  readonly interruptsDropped: Readonly<Record<string, number>>;
}

export interface GroupDocument {
  readonly id: number;
  readonly functions: readonly string[];
  readonly isolation: { readonly dma: boolean; readonly msi: boolean; readonly coherent: boolean };
  readonly owned: boolean;
  readonly ownedBy: string | null;
  readonly viable: boolean;
  readonly culprits: readonly Culprit[];
}

export interface MachineDocument {
  readonly name: string;
  readonly functions: readonly FunctionDocument[];
  readonly groups: readonly GroupDocument[];
}

export function machineDocument(machine: Machine): MachineDocument {
  return {
    name: machine.name,
    functions: [...machine.functions.values()].map(functionDocument),
    groups: [...machine.groups.values()].map(groupDocument),
  };
}

const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');

export function functionDocument(fn: PciFunction): FunctionDocument {
  const { declaration, vfio, sriov, physical, probeError, group } = fn;
  const open = (vfio?.openCount ?? 0) > 0;
  const users = vfio?.token?.users ?? null;
  return {
    bdf: fn.bdf,
    name: fn.name,
    vendor: hex(declaration.vendor, 4),
    device: hex(declaration.device, 4),
    class: hex(declaration.classCode, 6),
    kind: fn.kind,
    parent: fn.parent?.bdf ?? null,
    driver: fn.driver,
    driverOverride: fn.driverOverride,
    refused: probeError === null ? null : `${probeError.code}: ${probeError.message}`,
    group: group?.id ?? null,
    groupedBecause: fn.groupedBecause,
    physicalFunction: physical?.bdf ?? null,
    vfIndex: physical === null ? null : fn.vfIndex,
    tokenNeeded: physical === null ? (users ?? 0) > 0 : vfio?.physical?.token != null,
    sriov: sriov === null ? null : { totalVfs: sriov.totalVfs, numVfs: sriov.numVfs, inUse: users, vfs: fn.vfs.map((vf) => vf.bdf) },
    open,
    openBy: open ? (group?.file?.holder ?? 'a user') : null,
    mediator: vfio?.mediation?.name ?? null,
    virtualMachine: vfio?.vm?.name ?? null,
    dmaFaults: counted(fn.host.dma.faults),
    interruptsDropped: counted(fn.host.irq.dropped, dropReasons),
  };
}

/** Counters that have counted something, by the reasons of events: `bus-master-off`. */
function counted(counters: object, reasons: Readonly<Record<string, string>> = {}): Record<string, number> {
  const counts = Object.entries(counters).filter(([, count]) => count > 0);
  return Object.fromEntries(counts.map(([name, count]) => [reasons[name] ?? name, count]));
}

export function groupDocument(group: FunctionGroup): GroupDocument {
  const { viable, culprits } = group.viability();
  const owned = group.owner !== null;
  return {
    id: group.id,
    functions: group.functions.map((fn) => fn.bdf),
    isolation: group.isolation,
    owned,
    ownedBy: owned ? (group.file?.holder ?? 'a user') : null,
    viable,
    culprits,
  };
}
