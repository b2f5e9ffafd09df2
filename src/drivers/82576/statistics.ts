/**
 * Counters of a physical function (8.18). A read clears a register, so the driver adds up what it
 * has read.
 */
import { Reg } from '../../abi/82576.ts';
import { Stat } from '../../abi/82576-statistics.ts';
import type { RegisterAccess } from '../../abi/device.ts';

/** Counters of a port since its start. Those that a kind of port does not have are absent. */
export interface PortStatistics {
  /** Good frames, and their bytes with check sequences. */
  readonly receivedFrames: number;
  readonly receivedBytes: number;
  readonly sentFrames: number;
  readonly sentBytes: number;
  readonly receivedMulticasts: number;
  /** All counters of the card by the datasheet's names: `GPRC`, `MPC`, `VFGPRLBC`. */
  readonly registers: Readonly<Record<string, number>>;
}

/** The high half of a pair is read after the low one, and clears both. */
const PAIRS: Readonly<Record<string, number>> = {
  GORC: Stat.GORCL,
  GOTC: Stat.GOTCL,
  TOR: Stat.TORL,
  TOT: Stat.TOTL,
  HGORC: Stat.HGORCL,
  HGOTC: Stat.HGOTCL,
};
const halves = new Set(Object.values(PAIRS).flatMap((low) => [low, low + 4]));
const single = Object.entries(Stat).filter(([, offset]) => !halves.has(offset));

export class Statistics {
  readonly #registers: RegisterAccess;
  readonly #totals: Record<string, number> = {};
  readonly #queues: number;
  readonly #dropped: number[];

  /** @param queues receive queues, whose drops RQDPC counts */
  constructor(registers: RegisterAccess, queues: readonly number[]) {
    this.#registers = registers;
    this.#queues = queues.length;
    this.#dropped = queues.map((queue) => Reg.RQDPC + queue * 0x40);
    for (const [name] of single) this.#totals[name] = 0;
    for (const name of Object.keys(PAIRS)) this.#totals[name] = 0;
    this.#totals.RQDPC = 0;
  }

  /** Adds what the card has counted since the last read. */
  read(): void {
    const registers = this.#registers;
    const totals = this.#totals;
    for (const [name, offset] of single) totals[name]! += registers.read32(offset);
    for (const [name, offset] of Object.entries(PAIRS)) {
      const low = registers.read32(offset);
      totals[name]! += low + registers.read32(offset + 4) * 2 ** 32;
    }
    for (let i = 0; i < this.#queues; i++) totals.RQDPC! += registers.read32(this.#dropped[i]!) & 0xfff;
  }

  /** The card's counters begin at 0: what it has counted for others is dropped. */
  drop(): void {
    for (const [, offset] of single) this.#registers.read32(offset);
    for (const offset of halves) this.#registers.read32(offset);
  }

  get all(): PortStatistics {
    const totals = this.#totals;
    return {
      receivedFrames: totals.GPRC!,
      receivedBytes: totals.GORC!,
      sentFrames: totals.GPTC!,
      sentBytes: totals.GOTC!,
      receivedMulticasts: totals.MPRC!,
      registers: { ...totals },
    };
  }
}
