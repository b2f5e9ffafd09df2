/** A machine of several devices, without a machine file. */
import { CapId } from '../abi/pci.ts';
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import { ownedBy } from '../base/foreign.ts';
import { VFIO_PCI } from '../engine/machine/binding.ts';
import { Machine, type MachineOptions } from '../engine/machine/machine.ts';
import type { FunctionSpec, MachineSpec } from '../engine/machine/machine-spec.ts';
import type { EventStream } from '../events/stream.ts';
import { PciExp, PciExpType } from '../pci/capabilities/pci-express-registers.ts';
import type { DeviceModel } from '../pci/declaration.ts';
import { allocator, failedTo, stderrLogger } from './simulation.ts';

/** Slots 1 to 31 of the root bus. */
const DEVICES_MAX = 31;

/**
 * The machine of `models`: a PCI Express endpoint sits behind a root port of its own, device N at
 * slot N, so that each has an isolation group of its own; any other function sits on the root bus.
 * All are bound to vfio-pci.
 *
 * @returns the specification, and the address of each device in the order of `models`
 * @throws VfioError EINVAL for no device or for more than 31
 */
export function machineOfDevices(models: readonly DeviceModel[]): { readonly spec: MachineSpec; readonly bdfs: readonly string[] } {
  if (models.length === 0 || models.length > DEVICES_MAX) {
    throw new VfioError('EINVAL', `a machine of ${models.length} devices cannot be made: it has 1 to ${DEVICES_MAX}`);
  }
  const devices: FunctionSpec[] = [];
  const bdfs: string[] = [];
  let bus = 0;
  for (const [i, model] of models.entries()) {
    const slot = (i + 1).toString(16).padStart(2, '0');
    if (isEndpoint(model)) {
      bus++;
      devices.push({ at: `${slot}.0`, kind: 'root-port', devices: [{ at: '00.0', model, driver: VFIO_PCI }] });
      bdfs.push(`0000:${bus.toString(16).padStart(2, '0')}:00.0`);
    } else {
      devices.push({ at: `${slot}.0`, model, driver: VFIO_PCI });
      bdfs.push(`0000:00:${slot}.0`);
    }
  }
  return { spec: { name: 'devices', devices }, bdfs };
}

/**
 * Start the machine of `models`, and take over what they own. Dispose `owns` to switch it off.
 *
 * @throws VfioError as `machineOfDevices`; EINVAL for a declaration that is not a device
 */
export function startDevices(
  models: readonly DeviceModel[],
  events: EventStream,
  options: Pick<MachineOptions, 'nodeOwner'> = {},
): { readonly machine: Machine; readonly bdfs: readonly string[]; readonly owns: Disposable } {
  using undo = new Cleanup();
  for (const { declaration, owns } of models)
    undo.use(ownedBy(declaration.name, owns, failedTo(undo.use(events.source(declaration.name)))));
  const { spec, bdfs } = machineOfDevices(models);
  const machine = undo.use(new Machine(spec, { ...options, events, allocate: allocator(stderrLogger) }));
  for (const bdf of bdfs) {
    const fn = machine.function(bdf);
    // Unbound before the machine is switched off, a device without a user goes without a warning.
    undo.defer(() => void (fn.driver !== null && machine.unbind(bdf)));
    if (fn.probeError !== null) throw fn.probeError;
  }
  return { machine, bdfs, owns: undo.move() };
}

function isEndpoint(model: DeviceModel): boolean {
  const express = model.declaration.capabilities?.find((c) => c.id === CapId.EXP);
  if (express === undefined) return false;
  const type = (express.bytes[PciExp.FLAGS]! & PciExp.FLAGS_TYPE) >> PciExp.FLAGS_TYPE_SHIFT;
  return type === PciExpType.ENDPOINT || type === PciExpType.LEG_END;
}
