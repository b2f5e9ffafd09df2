/**
 * The device that an administrator names: a model of the package with its options, or a model's
 * file.
 */
import type { DeviceModel } from '../../pci/declaration.ts';
import { parseAddress } from '../address.ts';
import { loadModel } from '../simulation.ts';
import { Wires } from '../wires.ts';

/**
 * @param device the text after `sim:`
 * @param wires those of the machine. Default: wires of its own
 * @throws VfioError (rejects) ENOENT, EINVAL
 */
export async function modelOf(device: string, wires: Wires = new Wires()): Promise<DeviceModel> {
  return await loadModel(parseAddress(`sim:${device}`) as Parameters<typeof loadModel>[0], undefined, wires);
}
