import type { DeviceHost, Model, Width } from '../../src/abi/device-host.ts';
import type { MemoryAllocator } from '../../src/abi/memory.ts';
import { Extension } from '../../src/abi/vfio.ts';
import { ManualClock } from '../../src/base/clock.ts';
import type { EngineParams } from '../../src/engine/context.ts';
import type { DeviceFile } from '../../src/engine/device/device-file.ts';
import type { VfioPciDevice } from '../../src/engine/device/pci-device.ts';
import type { Container } from '../../src/engine/dma/container.ts';
import type { Process } from '../../src/engine/dma/process.ts';
import { FaultPlan } from '../../src/engine/fault-plan.ts';
import type { GroupFile } from '../../src/engine/machine/group-file.ts';
import { Machine } from '../../src/engine/machine/machine.ts';
import type { FunctionSpec, MachineSpec } from '../../src/engine/machine/machine-spec.ts';
import type { PciFunction } from '../../src/engine/machine/pci-function.ts';
import { msi, pcie } from '../../src/pci/capabilities.ts';
import type { DeviceModel, PciDeclaration } from '../../src/pci/declaration.ts';
import { HeapMemory } from '../../src/sys/fake.ts';

/** Registers that keep what is written, and a record of every access. */
export class ScriptedModel implements Model {
  readonly host: DeviceHost;
  readonly accesses: string[] = [];
  readonly powers: string[] = [];
  resets = 0;
  disposed = 0;
  /** When set: called in the middle of an access. */
  onRead: ((bar: number, offset: number, width: Width) => number | undefined) | null = null;
  onWrite: ((bar: number, offset: number, width: Width, value: number) => void) | null = null;
  onReset: (() => void) | null = null;
  readonly #bytes = new Map<number, number>();

  constructor(host: DeviceHost) {
    this.host = host;
  }

  read(bar: number, offset: number, width: Width): number {
    this.accesses.push(`r${width} ${bar}+0x${offset.toString(16)}`);
    const scripted = this.onRead?.(bar, offset, width);
    if (scripted !== undefined) return scripted;
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + (this.#bytes.get(bar * 2 ** 40 + offset + i) ?? 0);
    return value;
  }

  write(bar: number, offset: number, width: Width, value: number): void {
    this.accesses.push(`w${width} ${bar}+0x${offset.toString(16)}=0x${value.toString(16)}`);
    this.onWrite?.(bar, offset, width, value);
    for (let i = 0; i < width; i++) this.#bytes.set(bar * 2 ** 40 + offset + i, (value >>> (8 * i)) & 0xff);
  }

  reset(): void {
    this.resets++;
    this.#bytes.clear();
    this.onReset?.();
  }

  power(state: 'D0' | 'D3hot'): void {
    this.powers.push(state);
  }

  dispose(): void {
    this.disposed++;
  }
}

/** Like QEMU's edu: conventional PCI, INTA, one MSI, 1 MiB of registers, no reset of its own. */
export const plain: PciDeclaration = {
  name: 'plain',
  vendor: 0x1234,
  device: 0x11e8,
  classCode: 0xff0000,
  bars: [{ index: 0, size: 0x100000, type: 'mem32' }],
  interruptPin: 1,
  capabilities: [msi()],
};

/** PCI Express with function-level reset. */
export const resettable: PciDeclaration = { ...plain, name: 'resettable', capabilities: [pcie({ flr: true }), msi()] };

export interface DeviceRigOptions {
  readonly params?: Partial<EngineParams>;
  readonly pageSize?: number;
  /** Behind a root port at 00:02.0 instead of on the root bus at 00:04.0. */
  readonly behindPort?: boolean;
  /** More devices on the root bus, or beside it behind the port. */
  readonly others?: readonly FunctionSpec[];
  readonly machine?: Partial<MachineSpec>;
  /** More of the port of `behindPort`. */
  readonly port?: Partial<FunctionSpec>;
  readonly models?: (host: DeviceHost) => ScriptedModel;
  /** Where BARs of plain memory get their memory. Default: buffers of this process. */
  readonly allocate?: MemoryAllocator;
}

export class DeviceRig {
  readonly clock = new ManualClock();
  readonly faults = new FaultPlan();
  readonly logged: string[] = [];
  readonly machine: Machine;
  readonly bdf: string;
  readonly group: GroupFile;
  readonly container: Container;

  constructor(declaration: PciDeclaration = resettable, options: DeviceRigOptions = {}) {
    const create = options.models ?? ((host: DeviceHost) => new ScriptedModel(host));
    const model: DeviceModel = { declaration, create };
    const others = options.others ?? [];
    const devices: FunctionSpec[] = options.behindPort
      ? [
          {
            at: '02.0',
            kind: 'root-port',
            driver: 'pcieport',
            ...options.port,
            devices: [{ at: '00.0', model, driver: 'vfio-pci' }, ...others],
          },
        ]
      : [{ at: '04.0', model, driver: 'vfio-pci' }, ...others];
    this.machine = new Machine(
      { ...options.machine, devices },
      {
        allocate: options.allocate ?? HeapMemory.allocate,
        clock: this.clock,
        faults: this.faults,
        log: { log: (level, message) => void this.logged.push(`${level}: ${message}`) },
        ...(options.params === undefined ? {} : { params: options.params }),
        ...(options.pageSize === undefined ? {} : { pageSize: options.pageSize }),
      },
    );
    this.bdf = options.behindPort ? '0000:01:00.0' : '0000:00:04.0';
    if (this.fn.probeError !== null) throw this.fn.probeError;
    this.container = this.machine.openContainer();
    this.group = this.machine.openGroup(this.fn.group!.id);
    this.group.setContainer(this.container);
    this.container.setIommu(Extension.TYPE1v2_IOMMU);
  }

  get fn(): PciFunction {
    return this.machine.function(this.bdf);
  }

  get device(): VfioPciDevice {
    return this.fn.vfio!;
  }

  get model(): ScriptedModel {
    return this.fn.model as ScriptedModel;
  }

  open(process?: Process): DeviceFile {
    return this.group.openDevice(this.bdf, process);
  }
}

/** 16-bit access to config space through the file. */
export function command(file: DeviceFile): number {
  return file.region(7).read16(4);
}

export function setCommand(file: DeviceFile, value: number): void {
  file.region(7).write16(4, value);
}
