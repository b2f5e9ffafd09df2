/** The capabilities behind an info structure of VFIO (VFIO_*_INFO with the flag CAPS). */
import { InfoCapHeader } from '../abi/vfio-structs.ts';
import { VfioError } from '../base/errno.ts';

/** One capability: `at` is its offset in the structure. */
export interface InfoCapability {
  readonly id: number;
  readonly version: number;
  readonly at: number;
}

/**
 * The chain that begins at `first`; 0 is none.
 *
 * @param what the request, for the error
 * @throws VfioError EPROTO for a chain that leads outside of the structure, or back
 */
export function* infoCapabilities(what: string, view: DataView, first: number): Generator<InfoCapability> {
  let before = 0;
  for (let at = first; at !== 0; at = InfoCapHeader.next.get(view, at)) {
    if (at <= before || at + InfoCapHeader.structSize > view.byteLength) {
      throw new VfioError('EPROTO', `${what}: the kernel's chain of capabilities leads to offset ${at}`);
    }
    yield { id: InfoCapHeader.id.get(view, at), version: InfoCapHeader.version.get(view, at), at };
    before = at;
  }
}

/**
 * @param bytes of the capability, its header included
 * @throws VfioError EPROTO for a capability that ends behind the structure
 */
export function checkCapability(what: string, view: DataView, at: number, bytes: number): void {
  if (at + bytes <= view.byteLength) return;
  throw new VfioError('EPROTO', `${what}: the kernel's capability at ${at} is cut short`);
}
