/** The error for a name that a device does not declare. */
import { VfioError } from '../../base/errno.ts';
import { nearest } from '../../base/nearest.ts';

export function noSuch(what: 'timer' | 'output' | 'command', name: string, names: readonly string[]): VfioError {
  const near = nearest(name, names);
  return new VfioError('EINVAL', `the device has no ${what} '${name}'`, {
    fix: near === null ? `Its ${what}s are ${names.join(', ') || 'none'}.` : `Did you mean '${near}'?`,
  });
}
