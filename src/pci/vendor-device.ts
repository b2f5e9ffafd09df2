/** `vendor:device`, as lspci -n prints the ids of a function. */
import { shownValue } from '../base/declared.ts';
import { VfioError } from '../base/errno.ts';

/**
 * Both ids as numbers.
 *
 * @param what what the text is, for the message
 * @throws VfioError EINVAL for a text of a different form
 */
export function parseIds(text: string, what: string): { readonly vendor: number; readonly device: number } {
  const match = typeof text === 'string' ? /^([0-9a-f]{4}):([0-9a-f]{4})$/i.exec(text) : null;
  if (match === null) {
    throw new VfioError('EINVAL', `${what} is ${shownValue(text)}; write it as 'vendor:device' in hexadecimal, for example '1234:11e8'`);
  }
  return { vendor: Number.parseInt(match[1]!, 16), device: Number.parseInt(match[2]!, 16) };
}
