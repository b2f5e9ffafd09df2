/** Loads mediators from a user's files, for `vfio serve --mediator` and machine files. */
import type { Mediator } from '../abi/mediator.ts';
import { VfioError } from '../base/errno.ts';
import { Mediators } from '../engine/mediation/mediators.ts';
import { attributeMediator } from './foreign-context.ts';
import { importFile } from './import-file.ts';

/** @throws VfioError (rejects) ENOENT; EINVAL for a file that does not declare a mediator */
async function importMediator(path: string): Promise<Mediator> {
  const { default: mediator } = (await importFile(path)) as { default?: Partial<Mediator> };
  const { name, open, release } = mediator ?? {};
  if (typeof name === 'string' && typeof open === 'function' && typeof release === 'function') return mediator as Mediator;
  throw new VfioError('EINVAL', `${path} does not declare a mediator`, {
    fix: 'It must say "export default { name, open, release }": see docs/mediation.md.',
  });
}

/**
 * The mediators in `paths`. At each first open of a device the machine calls them in that order.
 *
 * @throws VfioError (rejects) ENOENT, EINVAL as `importMediator`; EEXIST for two mediators of one
 *   name
 */
export async function importMediators(paths: readonly string[], mediators = new Mediators()): Promise<Mediators> {
  for (const path of paths) mediators.register(attributeMediator(await importMediator(path)));
  return mediators;
}
