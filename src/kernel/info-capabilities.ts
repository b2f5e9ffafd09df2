/** The capabilities behind an info structure of VFIO (VFIO_*_INFO with the flag CAPS). */
import { InfoCapHeader } from '../abi/vfio-structs.ts';

/** One capability: `at` is its offset in the structure. */
export interface InfoCapability {
  readonly id: number;
  readonly version: number;
  readonly at: number;
}

/**
 * The chain that begins at `first`; 0 is none. A chain that leads outside of the structure, or
 * back, ends there.
 */
export function* infoCapabilities(view: DataView, first: number): Generator<InfoCapability> {
  let before = 0;
  for (let at = first; at > before && at + InfoCapHeader.structSize <= view.byteLength; at = InfoCapHeader.next.get(view, at)) {
    yield { id: InfoCapHeader.id.get(view, at), version: InfoCapHeader.version.get(view, at), at };
    before = at;
  }
}
