/**
 * Walks over capability chains that a device made. A walk believes nothing in a chain (S2-45): it
 * ends after as many hops as there is room for headers (48 and 960), for any pointers. A walk
 * reports loops, overlaps and pointers to nowhere as warnings, and never throws. A walk reads step
 * by step, so that over a connection it asks for no more bytes than it needs.
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
import { viewOf } from '../../base/data-view.ts';

/** (256 - 64) / 4 */
export const MAX_CAPABILITIES = (CFG_SPACE_SIZE - HEADER_SIZE) / CapHeader.SIZE;
/** (4096 - 256) / 4 */
export const MAX_EXTENDED_CAPABILITIES = (CFG_SPACE_EXP_SIZE - CFG_SPACE_SIZE) / ExtCapHeader.SIZE;

export interface WalkStep {
  readonly id: number;
  readonly offset: number;
  /** Offset of the next capability, from the header; 0 at the end. */
  readonly next: number;
  /** Version of an extended capability; 0 for others. */
  readonly version: number;
}

export interface Walk {
  readonly steps: readonly WalkStep[];
  /** The faults of the chain, a sentence each. */
  readonly warnings: readonly string[];
}

/** Config space as a walk reads it. */
export interface ConfigReader {
  readonly size: number;
  read8(offset: number): number;
  read16(offset: number): number;
  read32(offset: number): number;
}

/** Config space from its bytes. */
export class ConfigBytes implements ConfigReader {
  readonly size: number;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.size = bytes.length;
    this.#view = viewOf(bytes);
  }

  read8(offset: number): number {
    return this.#view.getUint8(offset);
  }
  read16(offset: number): number {
    return this.#view.getUint16(offset, true);
  }
  read32(offset: number): number {
    return this.#view.getUint32(offset, true);
  }
}

/** The place of the pointer to the first capability. CardBus bridges have it elsewhere. */
export function capabilityPointerAt(bytes: Uint8Array): number {
  return (bytes[Config.HEADER_TYPE]! & HeaderType.MASK) === HeaderType.CARDBUS ? Cardbus.CAPABILITY_LIST : Config.CAPABILITY_LIST;
}

/** Whether the walk goes on. When a pointer leads nowhere, gives the reason to `warn`. */
function checkHop(what: string, offset: number, first: number, hops: number, max: number, seen: Set<number>, warn: Warn): boolean {
  let wrong: string | null = null;
  if (offset < first)
    wrong = `${what} pointer ${hex(offset)} points ${first === HEADER_SIZE ? 'into the header' : `below ${hex(first)}`}; the chain ends there`;
  else if (seen.has(offset)) wrong = `${what} chain loops back to ${hex(offset)} after ${hops} capabilities; the walk ends there`;
  else if (hops >= max) wrong = `${what} chain is longer than ${max}; the walk ends there`;
  if (wrong !== null) warn(wrong);
  seen.add(offset);
  return wrong === null;
}

type Warn = (warning: string) => void;

function* standard(config: ConfigReader, pointerAt: number, warn: Warn): Generator<WalkStep> {
  if (config.size < CFG_SPACE_SIZE || (config.read16(Config.STATUS) & Status.CAP_LIST) === 0) return;
  const seen = new Set<number>();
  let offset = config.read8(pointerAt) & ~3;
  for (let hops = 0; offset !== 0; hops++) {
    if (!checkHop('capability', offset, HEADER_SIZE, hops, MAX_CAPABILITIES, seen, warn)) return;
    const header = config.read16(offset);
    const id = header & 0xff;
    const next = (header >>> 8) & ~3;
    if (id === 0xff) {
      warn(`no capability answers at ${hex(offset)} (all ones); the chain ends there`);
      return;
    }
    yield { id, offset, next, version: 0 };
    offset = next;
  }
}

function* extended(config: ConfigReader, warn: Warn): Generator<WalkStep> {
  if (config.size < CFG_SPACE_EXP_SIZE) return;
  const seen = new Set<number>();
  let offset: number = CFG_SPACE_SIZE;
  for (let hops = 0; offset !== 0; hops++) {
    if (!checkHop('extended capability', offset, CFG_SPACE_SIZE, hops, MAX_EXTENDED_CAPABILITIES, seen, warn)) return;
    const header = config.read32(offset);
    if (hops === 0 && header === 0) return;
    if (header === 0xffff_ffff) {
      if (hops > 0) warn(`no extended capability answers at ${hex(offset)} (all ones); the chain ends there`);
      return;
    }
    const next = (header >>> ExtCapHeader.NEXT_SHIFT) & ExtCapHeader.NEXT_MASK;
    const version = (header >>> ExtCapHeader.VERSION_SHIFT) & ExtCapHeader.VERSION_MASK;
    yield { id: header & ExtCapHeader.ID_MASK, offset, next, version };
    offset = next;
  }
}

/**
 * The standard capabilities of a config space of at least 256 bytes, in the order of their chain,
 * each once. An empty walk when STATUS.CapList is clear. A pointer's two low bits are reserved and
 * ignored.
 */
export function walkCapabilities(bytes: Uint8Array, pointerAt: number = capabilityPointerAt(bytes)): Walk {
  const warnings: string[] = [];
  return { steps: [...standard(new ConfigBytes(bytes), pointerAt, (warning) => warnings.push(warning))], warnings };
}

/**
 * The extended capabilities of a config space of 4096 bytes, each once. Empty when the dword at
 * 0x100 is 0 or all ones.
 */
export function walkExtendedCapabilities(bytes: Uint8Array): Walk {
  const warnings: string[] = [];
  return { steps: [...extended(new ConfigBytes(bytes), (warning) => warnings.push(warning))], warnings };
}

const noWarning: Warn = () => {};

function offsetOf(steps: Iterable<WalkStep>, id: number): number {
  for (const step of steps) if (step.id === id) return step.offset;
  return 0;
}

/**
 * Offset of the first capability `id` of a function, 0 when there is none.
 *
 * @param pointerAt the place of the pointer to the first capability
 */
export function findCapability(config: ConfigReader, id: number, pointerAt: number = Config.CAPABILITY_LIST): number {
  return offsetOf(standard(config, pointerAt, noWarning), id);
}

/** Offsets of all capabilities `id` of a function, in the order of their chain. */
export function findCapabilities(config: ConfigReader, id: number): readonly number[] {
  return [...standard(config, Config.CAPABILITY_LIST, noWarning)].filter((step) => step.id === id).map((step) => step.offset);
}

/** Offset of the first extended capability `id`, 0 when there is none. */
export function findExtendedCapability(config: ConfigReader, id: number): number {
  return offsetOf(extended(config, noWarning), id);
}
