/** The machine of a command that runs programs: its --device and --machine. */
import { machineOfModels } from '../../api/exec-machine.ts';
import { importMachine } from '../../api/machine.ts';
import { loadModel } from '../../api/simulation.ts';
import { Wires } from '../../api/wires.ts';
import type { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import type { FaultPlan } from '../../engine/fault-plan.ts';
import type { Machine } from '../../engine/machine/machine.ts';
import type { EventStream } from '../../events/stream.ts';
import { modelAddress } from '../serve/model-address.ts';

export interface MachineWords {
  readonly device?: readonly string[];
  readonly machine?: string;
}

/**
 * The nodes of groups are the user's, as a udev rule would make them.
 *
 * @param undo switches the machine off
 * @throws VfioError EINVAL without a device; the errors of the machine file and of the models
 */
export async function commandMachine(
  { device = [], machine: file }: MachineWords,
  parts: { readonly events: EventStream; readonly faults?: FaultPlan },
  undo: Cleanup,
): Promise<Machine> {
  const nodeOwner = process.getuid!();
  if (file !== undefined) return undo.use(await importMachine(file, { ...parts, nodeOwner }));
  if (device.length === 0) {
    throw new VfioError('EINVAL', 'there is no device for the program', {
      fix: 'Give --device edu, --device ./card.ts, --machine FILE, or the directory where a machine is served.',
    });
  }
  const models = [];
  const wires = new Wires({ clock: parts.events.clock });
  for (const each of device) models.push(await loadModel(modelAddress(each), undefined, wires));
  const { machine, owns } = machineOfModels(models, { ...parts, nodeOwner });
  undo.use(owns);
  return machine;
}
