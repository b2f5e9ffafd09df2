/**
 * Walks over capability chains that a device made, so that nothing in them is believed (S2-45): a walk ends after as many hops as there
 * is room for headers (48 and 960), whatever the pointers say. Loops, overlaps and pointers to nowhere are told as warnings, never thrown.
 */

import {
  CapHeader,
  Cardbus,
  CFG_SPACE_EXP_SIZE,
  CFG_SPACE_SIZE,
  Config,
  ExtCapHeader,
  HEADER_SIZE,
  HeaderType,
  Status,
} from '../../abi/pci.ts';
import { hex } from '../../base/check.ts';

/** (256 - 64) / 4 */
export const MAX_CAPABILITIES = (CFG_SPACE_SIZE - HEADER_SIZE) / CapHeader.SIZE;
/** (4096 - 256) / 4 */
export const MAX_EXTENDED_CAPABILITIES = (CFG_SPACE_EXP_SIZE - CFG_SPACE_SIZE) / ExtCapHeader.SIZE;

export interface WalkStep {
  readonly id: number;
  readonly offset: number;
  /** Offset of the next one as the header says; 0 at the end. */
  readonly next: number;
  /** Of extended capabilities; 0 otherwise. */
  readonly version: number;
}

export interface Walk {
  readonly steps: readonly WalkStep[];
  /** What is wrong with the chain, a sentence each. */
  readonly warnings: readonly string[];
}

function word(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

function dword(bytes: Uint8Array, at: number): number {
  return (word(bytes, at) | (word(bytes, at + 2) << 16)) >>> 0;
}

/** The place of the pointer to the first capability, which is another one in CardBus bridges. */
export function capabilityPointerAt(bytes: Uint8Array): number {
  return (bytes[Config.HEADER_TYPE]! & HeaderType.MASK) === HeaderType.CARDBUS ? Cardbus.CAPABILITY_LIST : Config.CAPABILITY_LIST;
}

/**
 * The standard capabilities of a config space of at least 256 bytes, in the order of their chain, each once. An empty walk when
 * STATUS.CapList is clear. A pointer's two low bits are reserved and ignored.
 */
export function walkCapabilities(bytes: Uint8Array, pointerAt: number = capabilityPointerAt(bytes)): Walk {
  const steps: WalkStep[] = [];
  const warnings: string[] = [];
  if (bytes.length < CFG_SPACE_SIZE || (word(bytes, Config.STATUS) & Status.CAP_LIST) === 0) return { steps, warnings };
  const seen = new Uint8Array(CFG_SPACE_SIZE);
  let offset = bytes[pointerAt]! & ~3;
  for (let hops = 0; offset !== 0; hops++) {
    if (offset < HEADER_SIZE) {
      warnings.push(`capability pointer ${hex(offset)} points into the header; the chain ends there`);
      break;
    }
    if (seen[offset] === 1) {
      warnings.push(`capability chain loops back to ${hex(offset)} after ${hops} capabilities; the walk ends there`);
      break;
    }
    if (hops >= MAX_CAPABILITIES) {
      warnings.push(`capability chain is longer than ${MAX_CAPABILITIES}; the walk ends there`);
      break;
    }
    seen[offset] = 1;
    const id = bytes[offset + CapHeader.ID]!;
    const raw = bytes[offset + CapHeader.NEXT]!;
    if (id === 0xff) {
      warnings.push(`no capability answers at ${hex(offset)} (all ones); the chain ends there`);
      break;
    }
    steps.push({ id, offset, next: raw & ~3, version: 0 });
    offset = raw & ~3;
  }
  return { steps, warnings };
}

/** The extended capabilities of a config space of 4096 bytes, likewise. Empty when the dword at 0x100 is 0 or all ones. */
export function walkExtendedCapabilities(bytes: Uint8Array): Walk {
  const steps: WalkStep[] = [];
  const warnings: string[] = [];
  if (bytes.length < CFG_SPACE_EXP_SIZE) return { steps, warnings };
  const first = dword(bytes, CFG_SPACE_SIZE);
  if (first === 0 || first === 0xffff_ffff) return { steps, warnings };
  const seen = new Uint8Array(CFG_SPACE_EXP_SIZE);
  let offset: number = CFG_SPACE_SIZE;
  for (let hops = 0; offset !== 0; hops++) {
    if (offset < CFG_SPACE_SIZE) {
      warnings.push(`extended capability pointer ${hex(offset)} points below ${hex(CFG_SPACE_SIZE)}; the chain ends there`);
      break;
    }
    if (seen[offset] === 1) {
      warnings.push(`extended capability chain loops back to ${hex(offset)} after ${hops} capabilities; the walk ends there`);
      break;
    }
    if (hops >= MAX_EXTENDED_CAPABILITIES) {
      warnings.push(`extended capability chain is longer than ${MAX_EXTENDED_CAPABILITIES}; the walk ends there`);
      break;
    }
    seen[offset] = 1;
    const header = dword(bytes, offset);
    if (header === 0xffff_ffff) {
      warnings.push(`no extended capability answers at ${hex(offset)} (all ones); the chain ends there`);
      break;
    }
    const next = (header >>> ExtCapHeader.NEXT_SHIFT) & ExtCapHeader.NEXT_MASK;
    steps.push({
      id: header & ExtCapHeader.ID_MASK,
      offset,
      next,
      version: (header >>> ExtCapHeader.VERSION_SHIFT) & ExtCapHeader.VERSION_MASK,
    });
    offset = next;
  }
  return { steps, warnings };
}
