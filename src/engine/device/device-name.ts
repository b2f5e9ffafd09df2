/**
 * The string of GET_DEVICE_FD: a device's name, then options, `0000:00:04.0 vf_token=…` (S3-01,
 * S3-02).
 *
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_match()
 */
import { parseVfToken, VF_TOKEN_LENGTH } from '../../abi/vf-token.ts';
import { VfioError } from '../../base/errno.ts';

const TOKEN = 'vf_token=';

export interface DeviceName {
  /** The token that was given; null for none. */
  readonly token: Uint8Array | null;
}

/**
 * The options that `nameAndOptions` has for the device `bdf`; null when it names another device. No
 * message repeats an option's value: it may be a token.
 *
 * @throws VfioError EINVAL for an unknown, repeated or malformed option
 */
export function parseDeviceName(bdf: string, nameAndOptions: string): DeviceName | null {
  if (!nameAndOptions.startsWith(bdf)) return null;
  const rest = nameAndOptions.slice(bdf.length);
  if (rest !== '' && rest[0] !== ' ') return null;
  let token: Uint8Array | null = null;
  for (let at = 0; at < rest.length; ) {
    if (rest[at] === ' ') {
      at++;
      continue;
    }
    if (token !== null || !rest.startsWith(TOKEN, at)) {
      throw new VfioError('EINVAL', `an option after ${bdf} is unknown, given twice, or not separated by a space`);
    }
    at += TOKEN.length;
    token = parseVfToken(rest.slice(at, at + VF_TOKEN_LENGTH));
    if (token === null) throw new VfioError('EINVAL', `the vf_token given for ${bdf} is not a UUID`);
    at += VF_TOKEN_LENGTH;
  }
  return { token };
}
