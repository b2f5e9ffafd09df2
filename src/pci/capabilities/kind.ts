/**
 * One capability by its noun: its id and names, what a user of VFIO may do with it, and the lines
 * that lspci prints for it. Each file of this folder holds one kind (or a few that belong together)
 * with its registers and its builder; registry.ts lists them.
 */
import type { CapabilityReader, Choices, Decoding } from '../decode/text.ts';
import type { CapabilityAccess } from '../permissions/rows.ts';

export interface CapabilityKind {
  readonly id: number;
  /** Its header is a dword, and it lies above 0x100. Default: a standard capability. */
  readonly extended?: true;
  /** The name in messages and permission tables. */
  readonly name: string;
  /** Default: VFIO does not know the id and hides the capability. */
  readonly access?: CapabilityAccess;
  /** Default: lspci prints the id. */
  readonly decode?: CapabilityDecoder;
  /** Renderers that the decoder's templates name. */
  readonly choices?: Choices;
}

/** Facts beside a capability's own bytes on which its text depends. */
export interface CapabilityContext {
  readonly bdf: { readonly device: number; readonly fn: number };
  /** PCI Express port type; null without that capability. */
  readonly portType: number | null;
  readonly hasMemoryBar: boolean;
  /**
   * A virtio device: virtio defines its vendor-specific capabilities (Virtual I/O Device 1.2,
   * 4.1.4).
   */
  readonly virtio: boolean;
  /** A device of Intel, whose vendor-specific capabilities have a form of their own. */
  readonly intel: boolean;
  readonly bridge: boolean;
}

/**
 * The text behind the offset on a capability's first line; `full` when `lspci -vv` prints another
 * one.
 */
export interface Titles {
  readonly title: string;
  readonly full?: string;
}

/**
 * Adds the capability's lines and fields to `d`.
 *
 * @param version of extended capabilities; 0 otherwise
 */
export type CapabilityDecoder = (r: CapabilityReader, d: Decoding, context: CapabilityContext, version: number) => Titles;

/** The decoder of a capability of which lspci prints the title alone. */
export const titleOnly =
  (title: string): CapabilityDecoder =>
  () => ({ title });
