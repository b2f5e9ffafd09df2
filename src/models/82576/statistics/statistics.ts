/**
 * Statistics (8.18). A counter stays at its highest value, and a read clears it; of a pair of 64
 * bits, the read of the high half clears both. Lengths count the frame check sequence, which no
 * wire carries.
 */
import { Reg } from '../../../abi/82576.ts';
import { Stat } from '../../../abi/82576-statistics.ts';
import { POOLS, type StatisticsPort } from '../parts.ts';
import type { RegisterRow, RegisterSpace } from '../register-space.ts';

const FCS = 4;
const FULL = 0xffff_ffff;
/** Registers of a function in the PF's space are this far apart. */
const VF_STRIDE = 0x100;
const pairs: readonly (readonly [low: keyof typeof Stat, high: keyof typeof Stat])[] = [
  ['GORCL', 'GORCH'],
  ['GOTCL', 'GOTCH'],
  ['TORL', 'TORH'],
  ['TOTL', 'TOTH'],
  ['HGORCL', 'HGORCH'],
  ['HGOTCL', 'HGOTCH'],
];
/** Counters of a pool stay through reads (8.26): drivers take differences. */
const poolCounters = ['PVFGPRC', 'PVFGPTC', 'PVFGORC', 'PVFGOTC', 'PVFMPRC', 'PVFGPRLBC', 'PVFGPTLBC', 'PVFGORLBC', 'PVFGOTLBC'] as const;

/** The longest frame of each counter of sizes, with its check sequence. */
const SIZES = [64, 127, 255, 511, 1023] as const;

export class Statistics implements StatisticsPort {
  readonly #words: Uint32Array;

  constructor(registers: RegisterSpace) {
    this.#words = registers.words;
    registers.declare(rows(registers));
  }

  count(register: number, by = 1): void {
    const at = register >>> 2;
    const sum = this.#words[at]! + by;
    this.#words[at] = sum > FULL ? FULL : sum;
  }

  #count64(low: number, by: number): void {
    const at = low >>> 2;
    const sum = this.#words[at]! + by;
    if (sum <= FULL) {
      this.#words[at] = sum;
    } else if (this.#words[at + 1] === FULL) {
      this.#words[at] = FULL;
    } else {
      this.#words[at] = sum - FULL - 1;
      this.#words[at + 1]!++;
    }
  }

  /** A frame has come from the wire, whether a filter takes it or not. @param bytes with FCS */
  arrived(bytes: number): void {
    this.count(Stat.TPR);
    this.#count64(Stat.TORL, bytes);
  }

  received(frame: Uint8Array, offset: number, length: number): void {
    const bytes = length + FCS;
    this.count(Stat.GPRC);
    this.#count64(Stat.GORCL, bytes);
    this.#size(Stat.PRC64, bytes);
    if ((frame[offset]! & 1) !== 0) this.count(isBroadcast(frame, offset) ? Stat.BPRC : Stat.MPRC);
  }

  transmitted(frame: Uint8Array, offset: number, length: number): void {
    const bytes = length + FCS;
    this.count(Stat.GPTC);
    this.count(Stat.TPT);
    this.#count64(Stat.GOTCL, bytes);
    this.#count64(Stat.TOTL, bytes);
    this.#size(Stat.PTC64, bytes);
    if ((frame[offset]! & 1) !== 0) this.count(isBroadcast(frame, offset) ? Stat.BPTC : Stat.MPTC);
  }

  /** 64, 65 to 127, … , 1024 and more (8.18.23 to 8.18.28): six counters in a row. */
  #size(first: number, bytes: number): void {
    let counter = first;
    for (const longest of SIZES) {
      if (bytes <= longest) break;
      counter += 4;
    }
    this.count(counter);
  }

  /** 8.26: good frames are those of other functions, too, which LBC counts once more. */
  poolReceived(pool: number, length: number, multicast: boolean, looped: boolean): void {
    const base = pool * VF_STRIDE;
    this.#wrap(base + Reg.PVFGPRC, 1);
    this.#wrap(base + Reg.PVFGORC, length + FCS);
    if (multicast) this.#wrap(base + Reg.PVFMPRC, 1);
    if (!looped) return;
    this.#wrap(base + Reg.PVFGPRLBC, 1);
    this.#wrap(base + Reg.PVFGORLBC, length + FCS);
  }

  poolTransmitted(pool: number, length: number, looped: boolean): void {
    const base = pool * VF_STRIDE;
    this.#wrap(base + Reg.PVFGPTC, 1);
    this.#wrap(base + Reg.PVFGOTC, length + FCS);
    if (!looped) return;
    this.#wrap(base + Reg.PVFGPTLBC, 1);
    this.#wrap(base + Reg.PVFGOTLBC, length + FCS);
  }

  /** Counters of a pool go on at 0 (8.26). */
  #wrap(register: number, by: number): void {
    this.#words[register >>> 2]! += by;
  }

  /** After a reset of VF `vf`. */
  resetOf(vf: number): void {
    for (const name of poolCounters) this.#words[(Reg[name] + vf * VF_STRIDE) >>> 2] = 0;
  }
}

function isBroadcast(frame: Uint8Array, offset: number): boolean {
  for (let i = 0; i < 6; i++) if (frame[offset + i] !== 0xff) return false;
  return true;
}

function rows({ words }: RegisterSpace): RegisterRow[] {
  const low = new Map<string, string>(pairs.map(([l, h]) => [h, l]));
  const halves = new Set<string>(pairs.map(([l]) => l));
  // HRMPC is in the middle of UTA, which software needs.
  const names = (Object.keys(Stat) as (keyof typeof Stat)[]).filter((name) => name !== 'HRMPC');
  const counters = names.map((name): RegisterRow => {
    const row = { name, offset: Stat[name], section: '8.18', writable: 0 } as const;
    if (halves.has(name)) return row;
    if (!low.has(name)) return { ...row, readClears: true };
    const lowAt = (Stat[name] - 4) >>> 2;
    return {
      ...row,
      readClears: true,
      read: (_, stored) => {
        words[lowAt] = 0;
        return stored;
      },
    };
  });
  const ofPools = poolCounters.map(
    (name): RegisterRow => ({ name, offset: Reg[name], count: POOLS, stride: VF_STRIDE, section: '8.26', writable: 0 }),
  );
  return [...counters, ...ofPools];
}
