/** The machine that `vfio exec` makes of devices: a card each in a slot of its own. */
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import { ownedBy } from '../base/foreign.ts';
import { VFIO_PCI } from '../engine/machine/binding.ts';
import { Machine, type MachineOptions } from '../engine/machine/machine.ts';
import type { MachineSpec } from '../engine/machine/machine-spec.ts';
import type { EventStream } from '../events/stream.ts';
import type { DeviceModel } from '../pci/declaration.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import { failedTo } from './simulation.ts';

/**
 * Root ports are functions of the devices from 10 on, where few computers have devices of their
 * own: a program sees the computer's other devices beside them.
 */
const FIRST_PORT = 0x10;
const FUNCTIONS = 8;
const DEVICES_MAX = (0x20 - FIRST_PORT) * FUNCTIONS;

/**
 * Each device behind a root port, so that it has a group of its own: 0000:01:00.0, 0000:02:00.0 and
 * so on, bound to vfio-pci by `driver_override`, as libvirt and driverctl do it. vfio-pci enables
 * virtual functions.
 *
 * @throws VfioError E2BIG for more devices than there are ports
 */
function specOf(models: readonly DeviceModel[]): MachineSpec {
  if (models.length > DEVICES_MAX) {
    throw new VfioError('E2BIG', `${models.length} devices are more than the ${DEVICES_MAX} that have a port`, {
      fix: 'Declare them in a machine file, behind switches.',
    });
  }
  const port = (i: number) => `${(FIRST_PORT + Math.floor(i / FUNCTIONS)).toString(16)}.${i % FUNCTIONS}`;
  const devices = models.map((model, i) => {
    return { at: port(i), kind: 'root-port' as const, devices: [{ at: '00.0', model, driver: VFIO_PCI, driverOverride: VFIO_PCI }] };
  });
  // The user is the machine's administrator, and asks for virtual functions by `sriov_numvfs`.
  return { name: 'machine', enableSriov: true, devices };
}

/**
 * Dispose `owns` to switch the machine off, with the resources of the models.
 *
 * @throws VfioError EINVAL for a model that is no device; E2BIG
 */
export function machineOfModels(
  models: readonly DeviceModel[],
  options: Omit<MachineOptions, 'allocate' | 'events'> & { readonly events: EventStream },
): { readonly machine: Machine; readonly owns: Disposable } {
  using undo = new Cleanup();
  for (const model of models) {
    const { name } = model.declaration;
    undo.use(ownedBy(name, model.owns, failedTo(undo.use(options.events.source(name)))));
  }
  const machine = undo.use(new Machine(specOf(models), { allocate: MemfdMemory.allocate, ...options }));
  for (const { probeError } of machine.functions.values()) if (probeError !== null) throw probeError;
  return { machine, owns: undo.move() };
}
