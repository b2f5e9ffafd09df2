/**
 * From declared capabilities to places in config space. Fixed offsets are kept. The other
 * capabilities go to the first gap that holds no register of the device's own. The chain follows
 * the order of declaration.
 */

import { CapHeader, CapId, CFG_SPACE_EXP_SIZE, CFG_SPACE_SIZE, ExtCapHeader, HEADER_SIZE } from '../../abi/pci.ts';
import { checkU32, hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { Capability, ConfigRegister, PciDeclaration } from '../declaration.ts';

export interface PlacedCapability {
  readonly capability: Capability;
  readonly offset: number;
  /** Offset of the next one in the chain; 0 at the end. */
  readonly next: number;
}

export interface CapabilityLayout {
  readonly standard: readonly PlacedCapability[];
  readonly extended: readonly PlacedCapability[];
}

/** @param registers of the device's own, which capabilities without a fixed place leave free */
function place(
  name: string,
  capabilities: readonly Capability[],
  registers: readonly ConfigRegister[],
  from: number,
  end: number,
): readonly PlacedCapability[] {
  const taken = new Array<string | undefined>(end / 4);
  const claim = (capability: Capability, offset: number) => {
    for (let slot = offset / 4; slot < (offset + capability.bytes.length) / 4; slot++) {
      if (taken[slot] !== undefined) {
        throw new VfioError('EINVAL', `${name}: capability ${capability.name} at ${hex(offset)} overlaps ${taken[slot]}`);
      }
      taken[slot] = capability.name;
    }
    return offset;
  };
  for (const c of capabilities) {
    const least = c.extended ? ExtCapHeader.SIZE : 2;
    if (c.bytes.length < least || c.bytes.length > end - from) {
      throw new VfioError(
        'EINVAL',
        `${name}: capability ${c.name} has ${c.bytes.length} bytes; there is room for ${least} to ${end - from}`,
      );
    }
    if (c.writable.length !== c.bytes.length || c.writeOneClears.length !== c.bytes.length) {
      throw new VfioError('EINVAL', `${name}: the masks of capability ${c.name} must be as long as its ${c.bytes.length} bytes`);
    }
  }
  const fixed = capabilities.map((c) => {
    if (c.at === undefined) return -1;
    checkU32(c.at, `${name}: offset of capability ${c.name}`);
    if (c.at % 4 !== 0 || c.at < from || c.at + c.bytes.length > end) {
      throw new VfioError(
        'EINVAL',
        `${name}: capability ${c.name} cannot be at ${hex(c.at)}: multiples of 4 from ${hex(from)}, ending by ${hex(end)}`,
      );
    }
    return claim(c, c.at);
  });
  for (const { name: register, offset } of registers) if (offset < end) taken[Math.floor(offset / 4)] ??= `register ${register}`;
  const offsets = capabilities.map((c, i) => {
    if (fixed[i] !== -1) return fixed[i]!;
    const slots = Math.ceil(c.bytes.length / 4);
    for (let at = from; at + 4 * slots <= end; at += 4) {
      let free = 0;
      while (free < slots && taken[at / 4 + free] === undefined) free++;
      if (free === slots) return claim(c, at);
    }
    throw new VfioError('EINVAL', `${name}: no room left for capability ${c.name} (${c.bytes.length} bytes) below ${hex(end)}`);
  });
  return capabilities.map((capability, i) => ({ capability, offset: offsets[i]!, next: offsets[i + 1] ?? 0 }));
}

/**
 * Where every capability goes.
 *
 * @throws VfioError EINVAL for capabilities that overlap, do not fit, are in the wrong list, or
 *   whose chain cannot start where it must (0x100)
 */
export function layOutCapabilities(declaration: PciDeclaration): CapabilityLayout {
  const { name } = declaration;
  const standard = declaration.capabilities ?? [];
  const extended = declaration.extendedCapabilities ?? [];
  const registers = declaration.registers ?? [];
  for (const c of standard) {
    checkId(name, c, 0xff);
    if (c.extended)
      throw new VfioError('EINVAL', `${name}: ${c.name} is an extended capability`, { fix: 'List it under extendedCapabilities.' });
  }
  for (const c of extended) {
    checkId(name, c, 0xffff);
    if (!c.extended)
      throw new VfioError('EINVAL', `${name}: ${c.name} is not an extended capability`, { fix: 'List it under capabilities.' });
  }
  if (extended.length > 0 && !standard.some((c) => c.id === CapId.EXP || c.id === CapId.PCIX)) {
    throw new VfioError('EINVAL', `${name}: extended capabilities need a PCI Express capability`, { fix: 'Add pcie() to capabilities.' });
  }
  const layout = {
    standard: place(name, standard, registers, HEADER_SIZE, CFG_SPACE_SIZE),
    extended: place(name, extended, registers, CFG_SPACE_SIZE, CFG_SPACE_EXP_SIZE),
  };
  if (layout.extended.length > 0 && layout.extended[0]!.offset !== CFG_SPACE_SIZE) {
    throw new VfioError('EINVAL', `${name}: the first extended capability must be at ${hex(CFG_SPACE_SIZE)}, where every walk starts`);
  }
  return layout;
}

function checkId(name: string, c: Capability, most: number): void {
  if (!Number.isInteger(c.id) || c.id < 0 || c.id > most) {
    throw new VfioError('EINVAL', `${name}: capability ${c.name} has id ${String(c.id)}; it must be from 0 to ${hex(most)}`);
  }
}

/** Fill in a capability's header: id and next, or id, version and next. */
export function writeCapabilityHeader(bytes: Uint8Array, placed: PlacedCapability): void {
  const { capability, offset, next } = placed;
  if (!capability.extended) {
    bytes[offset + CapHeader.ID] = capability.id;
    bytes[offset + CapHeader.NEXT] = next;
    return;
  }
  const version = (capability.version ?? 1) & ExtCapHeader.VERSION_MASK;
  const header = (capability.id | (version << ExtCapHeader.VERSION_SHIFT) | (next << ExtCapHeader.NEXT_SHIFT)) >>> 0;
  for (let i = 0; i < 4; i++) bytes[offset + i] = (header >>> (8 * i)) & 0xff;
}
