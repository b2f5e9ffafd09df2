/** The models that come with the package, on files and wires of this computer. */
import { ethernetOver, type ModelFactory, type ModelOptions, models, nvmeOver } from '../models/registry.ts';
import { openDisks } from './disk-image.ts';
import { Wires } from './wires.ts';

/** @param wires those that the models of one machine, or of one server, share */
export function modelsOn(wires: Wires) {
  return {
    ...models,
    nvme: (options: ModelOptions = {}) => nvmeOver(openDisks, options),
    '82576': (options: ModelOptions = {}) => ethernetOver((wire) => wires.open(wire), options),
  } as const satisfies Record<string, ModelFactory>;
}

/** Models of which each has wires of its own. */
export const modelsWithImages = modelsOn(new Wires());
