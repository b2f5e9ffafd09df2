/**
 * The effect that a write to config space would have, bit by bit, with reasons (S2-44). The write
 * is not carried out.
 */
import { Command, Config } from '../abi/pci.ts';
import { checkIndex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import type { ConfigSpace } from './config-space.ts';
import type { PermissionMap, RegionKind } from './permission-map.ts';
import { type Trigger, triggerMeanings } from './permissions/rows.ts';

/** The place where bits of a write end up. */
export type Landing =
  /** In the user's copy: reads give them, and hardware never sees them. */
  | 'virtual'
  /** In hardware. */
  | 'hardware'
  /** VFIO passes them on; in hardware they are read-only. */
  | 'hardware read-only'
  /** VFIO does not pass them on. */
  | 'dropped';

/** Neighbouring bits of one register with the same fate. */
export interface BitOutcome {
  /** Register name, as the specification's. */
  readonly register: string;
  /** Offset in config space of the register. */
  readonly offset: number;
  /** Bits of the register, both inclusive. */
  readonly msb: number;
  readonly lsb: number;
  readonly landing: Landing;
  /**
   * The bits as they read now, as they are written, and as they read after the write, without side
   * effects.
   */
  readonly before: number;
  readonly written: number;
  readonly after: number;
  readonly why: string;
}

export interface WriteExplanation {
  readonly offset: number;
  readonly width: 1 | 2 | 4;
  readonly value: number;
  /** Capability or region that the first byte belongs to. */
  readonly where: string;
  readonly kind: RegionKind;
  /** From the most significant bits down. */
  readonly bits: readonly BitOutcome[];
  /** Side effects that registers touched by the write have. */
  readonly triggers: readonly { readonly trigger: Trigger; readonly meaning: string }[];
}

export interface WriteTarget {
  /**
   * The user's copy: a VirtualConfig's `bytes`, or a map's `initial` when no user has opened the
   * device.
   */
  readonly virtual: Uint8Array;
  /** Bytes of the hardware, and the bits of them that software can write. */
  readonly hardware: Pick<ConfigSpace, 'bytes' | 'writableBits' | 'writeOneClearsBits'>;
  /** The hardware has no COMMAND.Memory; the user's COMMAND.Memory is in the copy. */
  readonly isVirtualFunction?: boolean;
}

const VF_MEMORY_WHY =
  'a virtual function has no such bit in hardware: its memory follows the PF’s VF MSE, and the user has a bit of their own';

/** Answered from the user's copy. */
function isVirtual(map: PermissionMap, target: WriteTarget, at: number, mask: number): boolean {
  return (map.virt[at]! & mask) !== 0 || isVfMemory(target, at, mask);
}

function isVfMemory(target: WriteTarget, at: number, mask: number): boolean {
  return target.isVirtualFunction === true && at === Config.COMMAND && mask === Command.MEMORY;
}

/**
 * @param offset in config space; it need not be aligned, the write is then made in several accesses
 * @throws VfioError EFAULT outside of config space; EINVAL for a width or a value that is none
 */
export function explainConfigWrite(
  map: PermissionMap,
  target: WriteTarget,
  offset: number,
  width: 1 | 2 | 4,
  value: number,
): WriteExplanation {
  if (width !== 1 && width !== 2 && width !== 4) throw new VfioError('EINVAL', `a write of ${String(width)} bytes; 1, 2 or 4`);
  checkIndex(value, 2 ** (8 * width) - 1, `value of a ${width}-byte write`);
  if (!Number.isInteger(offset) || offset < 0 || offset + width > map.size) {
    throw new VfioError('EFAULT', `config space has ${map.size} bytes; ${width} bytes at ${String(offset)} are outside of it`);
  }
  const bits: BitOutcome[] = [];
  const triggers = new Map<Trigger, string>();
  for (let bit = 8 * width - 1; bit >= 0; ) {
    const first = fateOf(map, target, offset, bit);
    let low = bit;
    while (low > 0) {
      const nextBit = fateOf(map, target, offset, low - 1);
      if (nextBit.landing !== first.landing || nextBit.fieldOffset !== first.fieldOffset || nextBit.why !== first.why) break;
      low--;
    }
    bits.push(outcome(target, map, offset, value, bit, low, first));
    bit = low - 1;
  }
  for (let i = 0; i < width; i++) {
    for (const trigger of map.fieldAt(offset + i).triggers) triggers.set(trigger, triggerMeanings[trigger]);
  }
  const region = map.regionAt(offset);
  return {
    offset,
    width,
    value,
    where: region.name,
    kind: region.kind,
    bits,
    triggers: [...triggers].map(([trigger, meaning]) => ({ trigger, meaning })),
  };
}

interface Fate {
  readonly landing: Landing;
  readonly fieldOffset: number;
  readonly register: string;
  readonly why: string;
}

function fateOf(map: PermissionMap, target: WriteTarget, offset: number, bit: number): Fate {
  const at = offset + (bit >> 3);
  const mask = 1 << (bit & 7);
  const field = map.fieldAt(at);
  const why = map.whyAt(at, bit & 7);
  const common = { fieldOffset: field.offset, register: field.name };
  if ((map.write[at]! & mask) === 0) return { ...common, landing: 'dropped', why };
  if (isVfMemory(target, at, mask)) return { ...common, landing: 'virtual', why: VF_MEMORY_WHY };
  if (isVirtual(map, target, at, mask)) return { ...common, landing: 'virtual', why };
  const { hardware } = target;
  if (((hardware.writableBits(at) | hardware.writeOneClearsBits(at)) & mask) !== 0) return { ...common, landing: 'hardware', why };
  return { ...common, landing: 'hardware read-only', why: 'VFIO lets it through, but this device has it read-only' };
}

function outcome(target: WriteTarget, map: PermissionMap, offset: number, value: number, msb: number, lsb: number, fate: Fate): BitOutcome {
  let before = 0;
  let written = 0;
  let after = 0;
  for (let bit = msb; bit >= lsb; bit--) {
    const at = offset + (bit >> 3);
    const mask = 1 << (bit & 7);
    const now = (isVirtual(map, target, at, mask) ? target.virtual[at]! : target.hardware.bytes[at]!) & mask;
    const to = Math.floor(value / 2 ** bit) % 2;
    const lands = fate.landing === 'virtual' || fate.landing === 'hardware';
    const clears = fate.landing === 'hardware' && (target.hardware.writeOneClearsBits(at) & mask) !== 0;
    before = before * 2 + (now !== 0 ? 1 : 0);
    written = written * 2 + to;
    after = after * 2 + (clears ? (now !== 0 && to === 0 ? 1 : 0) : lands ? to : now !== 0 ? 1 : 0);
  }
  const shift = 8 * (fate.fieldOffset - offset);
  return {
    register: fate.register,
    offset: fate.fieldOffset,
    msb: msb - shift,
    lsb: lsb - shift,
    landing: fate.landing,
    before,
    written,
    after,
    why: fate.why,
  };
}
