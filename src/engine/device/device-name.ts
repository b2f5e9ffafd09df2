/**
 * The string of GET_DEVICE_FD: a device's name, then options, `0000:00:04.0 vf_token=…`. An option that is not used is an error, so that success
 * proves that each was (S3-01, S3-02, S3-03).
 *
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_match()
 */
import { VfioError } from '../../base/errno.ts';

const TOKEN = 'vf_token=';
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/i;
const UUID_LENGTH = 36;

/**
 * Whether `nameAndOptions` names the device `bdf`. No message repeats an option's value: it may be a token.
 *
 * @throws VfioError EINVAL for an unknown, repeated or malformed option, and for a token on a device that has no use for one
 */
export function matchesName(bdf: string, nameAndOptions: string): boolean {
  if (!nameAndOptions.startsWith(bdf)) return false;
  const rest = nameAndOptions.slice(bdf.length);
  if (rest !== '' && rest[0] !== ' ') return false;
  let token = false;
  for (let at = 0; at < rest.length; ) {
    if (rest[at] === ' ') {
      at++;
      continue;
    }
    if (token || !rest.startsWith(TOKEN, at)) {
      throw new VfioError('EINVAL', `an option after ${bdf} is unknown, given twice, or not separated by a space`);
    }
    at += TOKEN.length;
    if (!UUID.test(rest.slice(at, at + UUID_LENGTH))) throw new VfioError('EINVAL', `the vf_token given for ${bdf} is not a UUID`);
    at += UUID_LENGTH;
    token = true;
  }
  // Neither a physical function with SR-IOV nor a virtual one (T12).
  if (token) {
    throw new VfioError('EINVAL', `${bdf} takes no vf_token: it has nothing to do with SR-IOV`, { fix: 'Open it by its name alone.' });
  }
  return true;
}
