/**
 * The VF token of a physical function under vfio-pci: random until its driver sets it, kept until
 * the function is unbound, and never read back (S3-05, S3-06). `authorize` decides who may open a
 * function with the token or without, by the matrix T1 to T12.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_validate_vf_token(), vfio_pci_vf_init(),
 * vfio_pci_vf_uninit()
 */
import { VF_TOKEN_BYTES } from '../../abi/vf-token.ts';
import { VfioError } from '../../base/errno.ts';
import type { EventSource } from '../../events/source.ts';

/** Private fields only: code that prints or serializes objects does not see the bytes. */
export class VfToken {
  readonly #bytes = crypto.getRandomValues(new Uint8Array(VF_TOKEN_BYTES));
  #users = 0;

  /** VFs that are open, however many files of each (S3-07). */
  get users(): number {
    return this.#users;
  }

  /**
   * Takes the same time for any two tokens, so that a caller does not learn how much of a guess was
   * right.
   */
  equals(candidate: Uint8Array): boolean {
    let different = candidate.length ^ VF_TOKEN_BYTES;
    for (let i = 0; i < VF_TOKEN_BYTES; i++) different |= this.#bytes[i]! ^ (candidate[i] ?? 0);
    return different === 0;
  }

  set(token: Uint8Array): void {
    this.#bytes.set(token.subarray(0, VF_TOKEN_BYTES));
  }

  /** A VF is opened for the first time. */
  use(): void {
    this.#users++;
  }

  /** A VF is closed for the last time. */
  unuse(): void {
    this.#users--;
  }

  /**
   * The function is unbound: the token leaves memory. Its VFs are gone, so no open needs the token
   * (S3-24).
   */
  destroy(): void {
    this.#bytes.fill(0);
  }
}

/** A device as far as tokens are concerned; `VfioPciDevice` is one. */
export interface TokenSubject {
  readonly bdf: string;
  readonly isVirtualFunction: boolean;
  /** A PF's own. */
  readonly token: VfToken | null;
  /** A VF's PF, when vfio-pci made the VF. */
  readonly physical: { readonly bdf: string; readonly token: VfToken | null } | null;
}

/**
 * Whether `device` may be opened with the token `given`, or without one. As in Linux this is part
 * of finding the device by its name, so that a PF's token is set even if the open then fails for
 * another reason (S3-12).
 *
 * @param events of the device: tokens are in no event
 * @param spare stands for `given` where none is given and the device takes one
 * @throws VfioError EACCES for a token that is missing or wrong; EINVAL for one that would not be
 * used (S3-03)
 */
export function authorize(device: TokenSubject, given: Uint8Array | null, events: EventSource, spare: Uint8Array | null = null): void {
  const token = given ?? (takesToken(device) ? spare : null);
  const refused = refusal(device, token);
  if (refused !== null) {
    // S3-25: the administrator's log has the refusal, too, at a limited rate and without the token.
    events.emit('token', { step: 'refused', reason: refused.message });
    throw refused;
  }
  if (token === null) return;
  if (!sets(device)) {
    if (events.on) events.emit('token', { step: 'matched' });
    return;
  }
  device.token!.set(token);
  if (events.on) events.emit('token', { step: 'set' });
}

/** A VF of a PF that vfio-pci drives, or that PF. */
function takesToken({ isVirtualFunction, token, physical }: TokenSubject): boolean {
  return isVirtualFunction ? physical?.token != null : token !== null;
}

/** A PF whose VFs have no user takes the token that it is opened with as its new one (T7). */
function sets({ isVirtualFunction, token }: TokenSubject): boolean {
  return !isVirtualFunction && token?.users === 0;
}

/** Changes nothing. */
function refusal(device: TokenSubject, given: Uint8Array | null): VfioError | null {
  const { bdf, token, physical } = device;
  if (device.isVirtualFunction) {
    if (physical?.token == null) return given === null ? null : unused(bdf, 'its physical function is not driven by vfio-pci');
    if (given === null) return missing(bdf, `it is a virtual function of ${physical.bdf}, which vfio-pci drives`);
    return physical.token.equals(given) ? null : wrong(bdf, physical.bdf);
  }
  if (token === null) return given === null ? null : unused(bdf, 'it has nothing to do with SR-IOV');
  if (token.users > 0) {
    if (given === null) return missing(bdf, `${token.users} of its virtual functions ${token.users === 1 ? 'is' : 'are'} in use`);
    return token.equals(given) ? null : wrong(bdf, bdf);
  }
  return null;
}

function unused(bdf: string, why: string): VfioError {
  return new VfioError('EINVAL', `error: a VF token was given for ${bdf}, which does not take one: ${why}`, {
    fix: 'Open it without a token.',
  });
}

function missing(bdf: string, why: string): VfioError {
  return new VfioError('EACCES', `error: ${bdf} needs a VF token: ${why}`, {
    fix: `Open it as "${bdf} vf_token=UUID" (open(address, { token }) in a driver), with the token that the driver of the physical function set.`,
  });
}

function wrong(bdf: string, physical: string): VfioError {
  return new VfioError('EACCES', `error: the VF token given for ${bdf} is not the current one`, {
    fix: `Ask the driver of ${physical} for it.`,
  });
}
