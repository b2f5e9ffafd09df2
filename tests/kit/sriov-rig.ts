/**
 * Machines with SR-IOV for tests: a PF with four VFs behind a root port, everything on plain
 * buffers.
 */
import type { DeviceHost, Model, Width } from '../../src/abi/device-host.ts';
import { Extension } from '../../src/abi/vfio.ts';
import type { ErrnoName } from '../../src/base/errno.ts';
import { VfioError } from '../../src/base/errno.ts';
import type { DeviceFile } from '../../src/engine/device/device-file.ts';
import type { Container } from '../../src/engine/dma/container.ts';
import type { Process } from '../../src/engine/dma/process.ts';
import type { GroupFile } from '../../src/engine/machine/group-file.ts';
import type { Machine, MachineOptions } from '../../src/engine/machine/machine.ts';
import type { FunctionSpec, MachineSpec } from '../../src/engine/machine/machine-spec.ts';
import { msi, pcie, pm } from '../../src/pci/capabilities.ts';
import type { DeviceModel, PciDeclaration } from '../../src/pci/declaration.ts';
import { type TestMachine, testMachine } from './machines.ts';

export const PF = '0000:01:00.0';
export const VF0 = '0000:01:00.1';
export const VF1 = '0000:01:00.2';
export const TOKEN = '83d8f4f2-509f-382f-3c1e-e6bfe0fa1001';
export const OTHER_TOKEN = '83d8f4f2-509f-382f-3c1e-e6bfe0fa1002';

/** One register of four bytes at BAR 0, which keeps its value until a reset. */
export class CardModel implements Model {
  readonly host: DeviceHost;
  /** Of a VF: its number, and its PF's model. */
  readonly index: number | null;
  readonly physical: Model | null;
  stored = 0;
  resets = 0;
  disposed = 0;

  constructor(host: DeviceHost, index: number | null, physical: Model | null) {
    this.host = host;
    this.index = index;
    this.physical = physical;
  }

  read(_bar: number, _offset: number, _width: Width): number {
    return this.stored;
  }

  write(_bar: number, _offset: number, _width: Width, value: number): void {
    this.stored = value;
  }

  reset(): void {
    this.stored = 0;
    this.resets++;
  }

  dispose(): void {
    this.disposed++;
  }
}

const declaration: PciDeclaration = {
  name: 'card',
  vendor: 0x8086,
  device: 0x10c9,
  classCode: 0x020000,
  interruptPin: 1,
  bars: [{ index: 0, size: 0x1000, type: 'mem32' }],
  capabilities: [pm(), msi({ vectors: 1 }), pcie({ portType: 'endpoint', flr: true })],
};

const vfDeclaration: PciDeclaration = {
  ...declaration,
  name: 'card part',
  device: 0x10ca,
  bars: [
    { index: 0, size: 0x4000, type: 'mem32' },
    { index: 2, size: 0x2000, type: 'mem64', prefetchable: true },
  ],
};

export interface SriovRig extends TestMachine {
  /** Models of the machine, in the order in which they were made. */
  readonly models: CardModel[];
}

/** The PF is bound to `driver` with enable_sriov; no VF is enabled. Default: vfio-pci. */
export function sriovRig(
  options: {
    driver?: string | null;
    device?: Partial<FunctionSpec>;
    spec?: Partial<MachineSpec>;
    machine?: Partial<MachineOptions>;
    totalVfs?: number;
    firstOffset?: number;
    stride?: number;
    behind?: FunctionSpec[];
  } = {},
): SriovRig {
  const models: CardModel[] = [];
  const make = (host: DeviceHost, index: number | null, physical: Model | null) => {
    const model = new CardModel(host, index, physical);
    models.push(model);
    return model;
  };
  const { totalVfs = 4, firstOffset = 1, stride = 1 } = options;
  const card: DeviceModel = {
    declaration,
    create: (host) => make(host, null, null),
    sriov: { totalVfs, firstOffset, stride, vf: { declaration: vfDeclaration, create: make } },
  };
  const pf: FunctionSpec = {
    at: '00.0',
    model: card,
    driver: options.driver === undefined ? 'vfio-pci' : options.driver,
    ...options.device,
  };
  const test = testMachine(
    {
      hostDrivers: [{ name: 'igb', ids: ['8086:10c9'], sriov: true }, { name: 'igbvf', ids: ['8086:10ca'] }, { name: 'e1000' }],
      devices: [{ at: '01.0', kind: 'root-port', devices: [pf, ...(options.behind ?? [])] }],
      ...options.spec,
    },
    { params: { enableSriov: true }, ...options.machine },
  );
  return { ...test, models };
}

/** A group with a container that has an IOMMU: everything but the device. */
export function openGroup(machine: Machine, bdf: string, process: Process = machine.process): { group: GroupFile; container: Container } {
  const group = machine.openGroup(machine.function(bdf).group!.id, process);
  const container = machine.openContainer(process);
  group.setContainer(container);
  container.setIommu(Extension.TYPE1v2_IOMMU);
  return { group, container };
}

/** A user of one function: opens it again and again in its own group. */
export class Tenant implements Disposable {
  readonly group: GroupFile;
  readonly container: Container;
  readonly bdf: string;

  constructor(machine: Machine, bdf: string) {
    this.bdf = bdf;
    ({ group: this.group, container: this.container } = openGroup(machine, bdf));
  }

  open(token?: string): DeviceFile {
    return this.group.openDevice(token === undefined ? this.bdf : `${this.bdf} vf_token=${token}`);
  }

  /** Opens and closes the function. Returns the errno, or 'ok'. */
  try(token?: string): ErrnoName | 'ok' {
    return outcome(() => this.open(token).close());
  }

  [Symbol.dispose](): void {
    for (const file of this.group.deviceFiles) file.close();
    this.group.close();
    this.container.close();
  }
}

export function outcome(act: () => unknown): ErrnoName | 'ok' {
  try {
    act();
    return 'ok';
  } catch (error) {
    if (error instanceof VfioError) return error.code;
    throw error;
  }
}
