/**
 * One capability decoded by its kind: the text behind its offset, the lines below, and its fields.
 */

import type { CapabilityContext } from '../capabilities/kind.ts';
import { kindOf } from '../capabilities/registry.ts';
import type { WalkStep } from '../capabilities/walk.ts';
import type { DecodedId } from '../pci-ids.ts';
import { CapabilityReader, Decoding, type FieldGroups, hexDigits } from './text.ts';

export interface DecodedCapability {
  readonly id: number;
  readonly offset: number;
  /** Of extended capabilities; 0 otherwise. */
  readonly version: number;
  /** The text on its first line, brief (lspci -v) and full. */
  readonly title: string;
  readonly fullTitle: string;
  /** The lines below it, each with its indentation. */
  readonly lines: readonly string[];
  /** The names of a Subsystem capability's ids. */
  readonly subsystem?: { readonly vendor: DecodedId; readonly device: DecodedId };
  /** Its registers, field by field. */
  readonly fields: FieldGroups;
}

/** The text for a capability that no kind decodes. */
function unknownTitle(id: number, extended: boolean, r: CapabilityReader): string {
  return extended ? `Extended Capability ID 0x${id.toString(16)}` : `Capability ID 0x${hexDigits(id, 2)} [${hexDigits(r.u16(2), 4)}]`;
}

/** The capability at a step of a walk over `bytes`. Never throws, whatever the bytes. */
export function decodeCapability(bytes: Uint8Array, step: WalkStep, extended: boolean, context: CapabilityContext): DecodedCapability {
  const { id, offset, version } = step;
  const kind = kindOf(id, extended);
  const r = new CapabilityReader(bytes, offset);
  const d = new Decoding(kind?.choices ?? {});
  const { title, full = title } = kind?.decode?.(r, d, context, version) ?? { title: unknownTitle(id, extended, r) };
  return { id, offset, version, title, fullTitle: full, lines: d.lines, fields: d.fields };
}
