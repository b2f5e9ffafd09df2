/** Small machines for tests, and a model whose state tests can read. */
import type { DeviceHost, Model, Width } from '../../src/abi/device-host.ts';
import { Dma } from '../../src/abi/device-host.ts';
import type { DirectMemory } from '../../src/abi/memory.ts';
import { Extension } from '../../src/abi/vfio.ts';
import { ManualClock } from '../../src/base/clock.ts';
import type { EngineParams } from '../../src/engine/context.ts';
import type { DeviceFile } from '../../src/engine/device/device-file.ts';
import type { Container } from '../../src/engine/dma/container.ts';
import type { Process } from '../../src/engine/dma/process.ts';
import { FaultPlan } from '../../src/engine/fault-plan.ts';
import type { GroupFile } from '../../src/engine/machine/group-file.ts';
import { Machine, type MachineOptions } from '../../src/engine/machine/machine.ts';
import type { FunctionSpec, MachineSpec } from '../../src/engine/machine/machine-spec.ts';
import { msi, pcie, pm } from '../../src/pci/capabilities.ts';
import type { DeviceModel, PciDeclaration } from '../../src/pci/declaration.ts';
import { HeapMemory } from '../../src/sys/fake.ts';

/**
 * A device with registers at BAR 0: 0x00 reads 0x600df00d, 0x04 is storage, 0x08 is an I/O address,
 * and a write to 0x0c sends its value there by DMA.
 */
export class ProbeModel implements Model {
  static readonly declaration: PciDeclaration = {
    name: 'probe',
    vendor: 0xcafe,
    device: 0x0001,
    classCode: 0xff0000,
    interruptPin: 1,
    bars: [{ index: 0, size: 0x1000, type: 'mem32' }],
    capabilities: [pm(), msi({ vectors: 1 }), pcie({ portType: 'endpoint', flr: true })],
  };

  readonly host: DeviceHost;
  readonly #log: ProbeLog;
  #stored = 0;
  #iova = 0;

  constructor(host: DeviceHost, log: ProbeLog) {
    this.host = host;
    this.#log = log;
    log.models.push(this);
  }

  /** Sends `value` to `iova`, as a device may try at any time. */
  send(iova: number, value: number): Dma {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    const outcome = this.host.dma.tryWrite(iova, bytes);
    this.#log.dma.push(outcome);
    return outcome;
  }

  read(_bar: number, offset: number, _width: Width): number {
    return offset === 0 ? 0x600df00d : offset === 4 ? this.#stored : offset === 8 ? this.#iova : 0;
  }

  write(_bar: number, offset: number, _width: Width, value: number): void {
    if (offset === 4) this.#stored = value;
    if (offset === 8) this.#iova = value;
    if (offset === 12) this.send(this.#iova, value);
  }

  reset(): void {
    this.#stored = 0;
    this.#iova = 0;
    this.#log.resets++;
  }

  power(state: 'D0' | 'D3hot'): void {
    this.#log.power.push(state);
  }

  dispose(): void {
    this.#log.disposed++;
  }
}

/** Events that the models of one machine have seen. */
export class ProbeLog {
  readonly models: ProbeModel[] = [];
  readonly dma: Dma[] = [];
  readonly power: ('D0' | 'D3hot')[] = [];
  resets = 0;
  disposed = 0;

  get model(): DeviceModel {
    return { declaration: ProbeModel.declaration, create: (host) => new ProbeModel(host, this) };
  }
}

export interface TestMachine {
  readonly machine: Machine;
  readonly clock: ManualClock;
  readonly faults: FaultPlan;
  readonly probe: ProbeLog;
  readonly lines: string[];
}

/** A machine on plain buffers and a clock that stands still, with the model `probe`. */
export function testMachine(
  spec: Omit<MachineSpec, 'devices'> & { devices: readonly FunctionSpec[] },
  options: Partial<MachineOptions> & { params?: Partial<EngineParams> } = {},
): TestMachine {
  const clock = new ManualClock();
  const faults = new FaultPlan();
  const probe = new ProbeLog();
  const lines: string[] = [];
  const machine = new Machine(spec, {
    allocate: HeapMemory.allocate,
    clock,
    faults,
    models: { probe: probe.model },
    log: { log: (_level, message) => lines.push(message) },
    ...options,
  });
  return { machine, clock, faults, probe, lines };
}

/** Behind a root port with access control: alone in its group. */
export const alone = (device: string, behind: FunctionSpec = { at: '00.0', model: 'probe' }): FunctionSpec => ({
  at: device,
  kind: 'root-port',
  devices: [behind],
});

/** Native drivers for the stubs below. */
export const hostDrivers = [
  { name: 'e1000', ids: ['8086:100e'] },
  { name: 'snd', ids: ['class:0403'] },
] as const;

/**
 * One device of three functions without access control: `probe`, a network card and a sound card,
 * one group.
 */
export const trio: FunctionSpec = {
  at: '01.0',
  kind: 'root-port',
  devices: [
    { at: '00.0', model: 'probe' },
    { at: '00.1', id: '8086:100e', classCode: 0x020000 },
    { at: '00.2', id: '1102:0012', classCode: 0x040300 },
  ],
};

export interface OpenSet {
  readonly group: GroupFile;
  readonly container: Container;
  readonly device: DeviceFile;
}

/** Everything that a driver opens, in order: group, container, IOMMU, device. */
export function openAll(machine: Machine, bdf: string, process: Process = machine.process): OpenSet {
  const group = machine.openGroup(machine.function(bdf).group!.id, process);
  const container = machine.openContainer(process);
  group.setContainer(container);
  container.setIommu(Extension.TYPE1v2_IOMMU);
  return { group, container, device: group.openDevice(bdf) };
}

export type { DirectMemory };
export { Dma };
