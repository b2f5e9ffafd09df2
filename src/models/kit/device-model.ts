/** A value of a program, checked to be a kind of device: what `device()` gives, or the like. */
import { shownValue } from '../../base/declared.ts';
import { VfioError } from '../../base/errno.ts';
import type { DeviceModel } from '../../pci/declaration.ts';

export function isModel(value: unknown): value is DeviceModel {
  const model = value as Partial<DeviceModel> | null | undefined;
  return typeof model === 'object' && typeof model?.create === 'function' && typeof model.declaration === 'object';
}

/**
 * For calls that no compiler has checked.
 *
 * @param what the call, for the message: 'plug()'
 * @throws VfioError EINVAL for a value that is no model
 */
export function checkModel(what: string, value: unknown): asserts value is DeviceModel {
  if (isModel(value)) return;
  throw new VfioError('EINVAL', `${what} is given ${shownValue(value)}; it takes a model that device() made`, {
    ...(typeof value === 'function' ? { fix: `Call the function, and give its result: ${what.replace(')', 'uart())')}.` } : {}),
  });
}
