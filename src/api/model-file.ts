/**
 * A model in a user's file: the export of the file, and the options that the user gives to the
 * model.
 */
import { VfioError } from '../base/errno.ts';
import type { FunctionSpec, MachineSpec } from '../engine/machine/machine-spec.ts';
import { isModel } from '../models/kit/device-model.ts';
import type { ModelFactory, ModelOptions } from '../models/registry.ts';
import type { DeviceModel } from '../pci/declaration.ts';
import { namesFile } from './address.ts';

/**
 * The factory for the models in a module that was loaded from `path`. The module's default export
 * is a device, or a function that takes options and returns a device.
 *
 * @throws VfioError EINVAL for a module that exports neither. The factory throws EINVAL for options
 *   that the function does not take.
 */
export function factoryIn(module: object, path: string): ModelFactory {
  const exported = (module as { default?: unknown }).default;
  if (isModel(exported)) {
    return (options = {}) => {
      const [first] = Object.keys(options);
      if (first === undefined) return exported;
      throw new VfioError('EINVAL', `${path} takes no options, and was given '${first}'`, {
        fix: 'A file that takes options exports a function of them: "export default ({ baud = 9600 } = {}) => device({ … })".',
      });
    };
  }
  if (typeof exported === 'function') return (options = {}) => make(exported as (options: ModelOptions) => unknown, options, path);
  throw new VfioError('EINVAL', `${path} does not declare a device`, {
    fix: 'It must say "export default device({ … })", or export a function that takes options and returns a device.',
  });
}

/**
 * Call the function of a user's file. An option that the function does not read while it runs is an
 * option that the function does not have.
 */
function make(factory: (options: ModelOptions) => unknown, options: ModelOptions, path: string): DeviceModel {
  const seen = new Set<string>();
  let takesAll = false;
  const watched = new Proxy(
    { ...options },
    {
      get: (target, name, receiver) => {
        if (typeof name === 'string') seen.add(name);
        return Reflect.get(target, name, receiver) as unknown;
      },
      has: (target, name) => {
        if (typeof name === 'string') seen.add(name);
        return Reflect.has(target, name);
      },
      ownKeys: (target) => {
        takesAll = true;
        return Reflect.ownKeys(target);
      },
    },
  );
  const made = factory(watched);
  if (!isModel(made)) {
    throw new VfioError('EINVAL', `the function that ${path} exports returned ${made instanceof Promise ? 'a promise' : 'no device'}`, {
      fix: 'It must return the result of device(), not a promise. A file may await at its top level.',
    });
  }
  const unknown = takesAll ? undefined : Object.keys(options).find((name) => !seen.has(name));
  if (unknown === undefined) return made;
  made.owns?.[Symbol.dispose]();
  throw new VfioError('EINVAL', `${path} has no option '${unknown}'`, {
    fix: seen.size === 0 ? 'It takes none.' : `It has ${[...seen].join(', ')}.`,
  });
}

/** The model files that a machine names, as the machine file writes them. */
export function modelFilesOf(spec: MachineSpec): readonly string[] {
  const files = new Set<string>();
  const visit = ({ model, devices = [] }: FunctionSpec): void => {
    if (typeof model === 'string' && namesFile(model)) files.add(model);
    devices.forEach(visit);
  };
  spec.devices.forEach(visit);
  return [...files];
}
