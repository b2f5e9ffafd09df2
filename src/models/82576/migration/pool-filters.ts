/**
 * Addresses and VLANs that lead frames to one pool (8.10.13, 8.14.18). They go along with a virtual
 * function; at the target they take the places that they had, or free ones.
 */
import { RAR_ENTRIES, Rah, Reg, ralOf, VLVF_ENTRIES, Vlvf } from '../../../abi/82576.ts';
import { VfioError } from '../../../base/errno.ts';

/** Three numbers for an entry: its place, and its words without the pools. */
const ADDRESS_WORDS = 3;
const VLAN_WORDS = 2;

export function addressesOf(words: Uint32Array, pool: number): Uint32Array {
  const bit = 1 << (pool + Rah.POOLSEL_SHIFT);
  const out: number[] = [];
  for (let i = 0; i < RAR_ENTRIES; i++) {
    const at = ralOf(i) >>> 2;
    const rah = words[at + 1]!;
    if ((rah & Rah.AV) !== 0 && (rah & bit) !== 0) out.push(i, words[at]!, rah & ~Rah.POOLSEL);
  }
  return Uint32Array.from(out);
}

export function vlansOf(words: Uint32Array, pool: number): Uint32Array {
  const bit = 1 << (pool + Vlvf.POOLSEL_SHIFT);
  const out: number[] = [];
  for (let i = 0; i < VLVF_ENTRIES; i++) {
    const vlvf = words[(Reg.VLVF >>> 2) + i]!;
    if ((vlvf & Vlvf.VI_EN) !== 0 && (vlvf & bit) !== 0) out.push(i, vlvf & ~Vlvf.POOLSEL);
  }
  return Uint32Array.from(out);
}

/** The pool has no address and no VLAN any more. */
export function removePool(words: Uint32Array, pool: number): void {
  for (let i = 0; i < RAR_ENTRIES; i++) words[(ralOf(i) >>> 2) + 1]! &= ~(1 << (pool + Rah.POOLSEL_SHIFT));
  for (let i = 0; i < VLVF_ENTRIES; i++) words[(Reg.VLVF >>> 2) + i]! &= ~(1 << (pool + Vlvf.POOLSEL_SHIFT));
}

/** @throws VfioError ENOSPC when all entries have other addresses */
export function addAddresses(words: Uint32Array, pool: number, entries: Uint32Array): void {
  const bit = 1 << (pool + Rah.POOLSEL_SHIFT);
  for (let i = 0; i + ADDRESS_WORDS <= entries.length; i += ADDRESS_WORDS) {
    const low = entries[i + 1]!;
    const high = (entries[i + 2]! & ~Rah.POOLSEL) | Rah.AV;
    const at = (place: number) => ralOf(place) >>> 2;
    const same = (place: number) => words[at(place)] === low && ((words[at(place) + 1]! ^ high) & ~Rah.POOLSEL) === 0;
    const free = (place: number) => (words[at(place) + 1]! & (Rah.AV | Rah.POOLSEL)) === 0;
    const place = placeOf(RAR_ENTRIES, entries[i]!, same, free);
    if (place < 0) throw full('addresses', pool);
    words[at(place)] = low;
    words[at(place) + 1] = (high | bit | (words[at(place) + 1]! & Rah.POOLSEL)) >>> 0;
  }
}

/** @throws VfioError ENOSPC when all entries have other VLANs */
export function addVlans(words: Uint32Array, pool: number, entries: Uint32Array): void {
  const bit = 1 << (pool + Vlvf.POOLSEL_SHIFT);
  for (let i = 0; i + VLAN_WORDS <= entries.length; i += VLAN_WORDS) {
    const vlan = (entries[i + 1]! & ~Vlvf.POOLSEL) | Vlvf.VI_EN;
    const at = (place: number) => (Reg.VLVF >>> 2) + place;
    const same = (place: number) => ((words[at(place)]! ^ vlan) & ~Vlvf.POOLSEL) === 0;
    const free = (place: number) => (words[at(place)]! & (Vlvf.VI_EN | Vlvf.POOLSEL)) === 0;
    const place = placeOf(VLVF_ENTRIES, entries[i]!, same, free);
    if (place < 0) throw full('VLANs', pool);
    words[at(place)] = (vlan | bit | (words[at(place)]! & Vlvf.POOLSEL)) >>> 0;
  }
}

/** An entry of the same content, the wished one, or the last free one; -1: there is none. */
function placeOf(entries: number, wished: number, same: (i: number) => boolean, free: (i: number) => boolean): number {
  for (let i = 0; i < entries; i++) if (same(i)) return i;
  if (wished < entries && free(wished)) return wished;
  for (let i = entries - 1; i >= 0; i--) if (free(i)) return i;
  return -1;
}

function full(what: string, pool: number): VfioError {
  return new VfioError('ENOSPC', `the 82576 has no room for the ${what} of VF ${pool}, which arrives`, {
    fix: `Remove ${what} from its PF.`,
  });
}
