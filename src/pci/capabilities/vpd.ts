/** Vital product data: a memory behind a window of two registers. */
import { CapId } from '../../abi/pci.ts';
import { VfioError } from '../../base/errno.ts';
import type { Capability } from '../declaration.ts';
import { ALL, fixed, row } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import type { CapabilityKind } from './kind.ts';

/** Vital product data. */
export const Vpd = { ADDR: 2, ADDR_MASK: 0x7fff, ADDR_F: 0x8000, DATA: 4, SIZE: 8 } as const;

/**
 * Vital product data with the image that software reads through it. config-space.ts answers its two
 * registers.
 */
export interface VpdCapability extends Capability {
  readonly image: Uint8Array;
}

/** Vital product data. `image` has at most 32 KiB, a multiple of 4. @throws VfioError EINVAL */
export function vpd(image: Uint8Array, options: Placed = {}): VpdCapability {
  if (image.length > Vpd.ADDR_MASK + 1 || image.length % 4 !== 0) {
    throw new VfioError('EINVAL', `a VPD image cannot have ${image.length} bytes; a multiple of 4 up to 32768`);
  }
  const builder = new CapabilityBuilder(Vpd.SIZE).set(Vpd.ADDR, 2, 0, 0xffff).set(Vpd.DATA, 4, 0, 0xffff_ffff);
  return { ...builder.build(vitalProductData, options), image: image.slice() };
}

export const vitalProductData: CapabilityKind = {
  id: CapId.VPD,
  name: 'Vital Product Data',
  access: {
    length: fixed(Vpd.SIZE),
    why: 'read-only',
    rows: [
      row(
        Vpd.ADDR,
        2,
        'VPD address',
        ALL,
        ALL,
        'the host does the access, in turn with its own, and bounds the wait for a device that never answers',
        'vpd-access',
      ),
      row(Vpd.DATA, 4, 'VPD data', ALL, ALL, 'the host does the access, in turn with its own'),
    ],
  },
  // A dump of config space has the window, and not the data behind it.
  decode: (r, d) => {
    if (r.has(Vpd.ADDR, 2)) d.text('address', r.u16(Vpd.ADDR), '{address=14:0 hex4} F{15}');
    d.lines.push('\t\tNot readable');
    return { title: 'Vital Product Data' };
  },
};
