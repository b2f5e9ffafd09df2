/**
 * A machine around one model. The model's device is opened through every step that VFIO requires.
 */
import type { Device } from '../abi/device.ts';
import type { MemoryAllocator } from '../abi/memory.ts';
import { CapId } from '../abi/pci.ts';
import { Extension } from '../abi/vfio.ts';
import { Cleanup } from '../base/cleanup.ts';
import type { Clock } from '../base/clock.ts';
import { VfioError } from '../base/errno.ts';
import { type Failed, ownedBy, textOf } from '../base/foreign.ts';
import type { Logger } from '../base/log.ts';
import type { DeviceFile } from '../engine/device/device-file.ts';
import type { Process } from '../engine/dma/process.ts';
import { VFIO_PCI } from '../engine/machine/binding.ts';
import { Machine, type MachineOptions } from '../engine/machine/machine.ts';
import type { FunctionSpec, IommuSpec, MachineSpec } from '../engine/machine/machine-spec.ts';
import type { Mediators } from '../engine/mediation/mediators.ts';
import type { EventSource } from '../events/source.ts';
import { type EventStream, streamOf } from '../events/stream.ts';
import { PciExp, PciExpType } from '../pci/capabilities/pci-express-registers.ts';
import type { DeviceModel } from '../pci/declaration.ts';
import { addon } from '../sys/addon.ts';
import { HeapMemory } from '../sys/fake.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import type { Address, AddressOptions } from './address.ts';
import { importFile } from './import-file.ts';
import { factoryIn } from './model-file.ts';
import { modelsOn } from './models-of-computer.ts';
import { stderrLogger } from './stderr-logger.ts';
import { Wires } from './wires.ts';

export interface SimulationOptions {
  readonly clock?: Clock;
  readonly log?: Logger;
  /** The stream to which the machine emits. Default: one of its own. */
  readonly events?: EventStream;
  readonly allocate?: MemoryAllocator;
  /** The mediators that the machine asks when the device is opened (docs/mediation.md). */
  readonly mediators?: Mediators;
  /** VF token, a UUID, for a model that is an SR-IOV device. */
  readonly token?: string | undefined;
}

export interface Simulation {
  readonly machine: Machine;
  readonly bdf: string;
  readonly device: Device;
  /** Closes group and container and switches the machine off; dispose the device first. */
  readonly owns: Disposable;
}

/**
 * @param wires those that it shares with other models. Default: wires of its own
 * @throws VfioError ENOENT for a model or file that does not exist; EINVAL for a file that does not
 *   declare a model
 */
export async function loadModel(
  address: Extract<Address, { kind: 'model' | 'file' }>,
  load: (path: string) => Promise<object> = importFile,
  wires: Wires = new Wires(),
): Promise<DeviceModel> {
  if (address.kind === 'model') {
    const models = modelsOn(wires);
    const factory = Object.hasOwn(models, address.name) ? models[address.name as keyof typeof models] : undefined;
    if (factory !== undefined) return factory(address.options);
    throw new VfioError('ENOENT', `there is no model '${address.name}'`, {
      fix: `Models are ${Object.keys(models).join(', ')}; for a model of your own give its file, 'sim:./${address.name}.ts'.`,
    });
  }
  return factoryIn(await load(address.path), address.path)(typed(address.options));
}

/**
 * The options of a model in a file, with the types that YAML gives them: `baud=9600` is the same
 * number in an address and in a machine file.
 */
function typed(options: AddressOptions): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(options).map(([name, value]) => [name, typeof value === 'string' ? parseScalar(value) : value.map(parseScalar)]),
  );
}

function parseScalar(text: string): unknown {
  if (text === 'true' || text === 'false') return text === 'true';
  if (/^(0x[0-9a-f]+|-?\d+)$/i.test(text)) return Number.isSafeInteger(Number(text)) ? Number(text) : BigInt(text);
  return /^-?\d+\.\d+$/.test(text) ? Number(text) : text;
}

/**
 * The machine around `model`: a PCI Express endpoint sits behind a root port at 0000:01:00.0, any
 * other function on the root bus at 0000:00:04.0.
 */
export function machineAround(model: DeviceModel, iommu?: IommuSpec): { readonly spec: MachineSpec; readonly bdf: string } {
  const express = model.declaration.capabilities?.find((c) => c.id === CapId.EXP);
  const portType = express === undefined ? null : (express.bytes[PciExp.FLAGS]! & PciExp.FLAGS_TYPE) >> PciExp.FLAGS_TYPE_SHIFT;
  const common = { name: 'simulation', ...(iommu === undefined ? {} : { iommu }) };
  const endpoint = (at: string): FunctionSpec => ({ at, model, driver: VFIO_PCI });
  if (portType !== PciExpType.ENDPOINT && portType !== PciExpType.LEG_END) {
    return { spec: { ...common, devices: [endpoint('04.0')] }, bdf: '0000:00:04.0' };
  }
  return {
    spec: { ...common, devices: [{ at: '01.0', kind: 'root-port', devices: [endpoint('00.0')] }] },
    bdf: '0000:01:00.0',
  };
}

/**
 * Start a machine around `model`, with the model's device bound to vfio-pci. Dispose `owns` to
 * switch the machine off.
 *
 * @throws VfioError EINVAL for a declaration that is not a device
 */
export function startMachine(
  { spec, bdf }: ReturnType<typeof machineAround>,
  options: SimulationOptions & Pick<MachineOptions, 'params' | 'nodeOwner'>,
): { readonly machine: Machine; readonly owns: Disposable } {
  const log = options.log ?? stderrLogger;
  using undo = new Cleanup();
  const machine = undo.use(
    new Machine(spec, {
      allocate: options.allocate ?? allocator(log),
      log,
      ...(options.clock === undefined ? {} : { clock: options.clock }),
      ...(options.events === undefined ? {} : { events: options.events }),
      ...(options.params === undefined ? {} : { params: options.params }),
      ...(options.nodeOwner === undefined ? {} : { nodeOwner: options.nodeOwner }),
      ...(options.mediators === undefined ? {} : { mediators: options.mediators }),
    }),
  );
  const fn = machine.function(bdf);
  // The device is unbound before the machine is switched off, so that a device without a user goes
  // without a warning.
  undo.defer(() => void (fn.driver !== null && machine.unbind(bdf)));
  if (fn.probeError !== null) throw fn.probeError;
  return { machine, owns: undo.move() };
}

/**
 * Open container, group and device as a program on Linux does. Dispose `owns` after the device.
 *
 * @param token a VF token, as a UUID
 * @throws VfioError errors of opening
 */
export function openThrough(
  machine: Machine,
  bdf: string,
  process?: Process,
  token?: string,
): { readonly device: DeviceFile; readonly owns: Disposable } {
  using undo = new Cleanup();
  const container = machine.openContainer(process);
  undo.defer(() => container.close());
  const group = undo.use(machine.openGroup(machine.function(bdf).group!.id, process));
  group.setContainer(container);
  container.setIommu(Extension.TYPE1v2_IOMMU);
  const device = group.openDevice(token === undefined ? bdf : `${bdf} vf_token=${token}`);
  return { device, owns: undo.move() };
}

/** Notes failures of a user's code. */
export function failedTo(events: EventSource): Failed {
  return (what, error) => events.note('error', what, `${what} failed: ${textOf(error)}`);
}

/**
 * A machine around `model`, with the model's device open. The call takes over the resources of the
 * model.
 *
 * @throws VfioError EINVAL for a declaration that is not a device; errors of binding and opening
 */
export function simulate(model: DeviceModel, options: SimulationOptions = {}): Simulation {
  const { clock, log = stderrLogger } = options;
  using undo = new Cleanup();
  const events = streamOf(options.events, { log, ...(clock === undefined ? {} : { clock }) });
  if (options.events === undefined) undo.use(events);
  const { name } = model.declaration;
  undo.use(ownedBy(name, model.owns, failedTo(undo.use(events.source(name)))));
  const around = machineAround(model);
  const { machine, owns } = startMachine(around, { ...options, events });
  undo.use(owns);
  const opened = openThrough(machine, around.bdf, undefined, options.token);
  undo.use(opened.owns);
  return { machine, bdf: around.bdf, device: opened.device, owns: undo.move() };
}

/** Memory that another process can share; plain memory where the addon cannot be built. */
function allocator(log: Logger): MemoryAllocator {
  try {
    addon();
    return MemfdMemory.allocate;
  } catch (error) {
    log.log('debug', `DMA memory is this process's own: ${error instanceof Error ? error.message : String(error)}`);
    return HeapMemory.allocate;
  }
}
