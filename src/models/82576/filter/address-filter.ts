/**
 * Which frames are addressed to the card (7.1.2.1): exact addresses with their pools, and hash
 * tables for multicast and unicast addresses.
 */
import { RAR_ENTRIES, Rah, Rctl, Reg, ralOf } from '../../../abi/82576.ts';
import type { RegisterSpace } from '../register-space.ts';

/** In the result of `match`, beside the pools: an entry has this address. */
export const EXACT = 0x100;

/** By RCTL.MO: which 12 of the last 16 bits of an address are its hash (8.10.1). */
const HASH_SHIFT = [4, 3, 2, 0] as const;

export class AddressFilter {
  readonly #registers: RegisterSpace;
  /** Valid entries alone, as RAL and the lower half of RAH. */
  readonly #low = new Int32Array(RAR_ENTRIES);
  readonly #high = new Uint16Array(RAR_ENTRIES);
  readonly #pools = new Uint16Array(RAR_ENTRIES);
  #entries = 0;

  /** @param station the six bytes that the EEPROM has for this port */
  constructor(registers: RegisterSpace, station: () => Uint8Array) {
    this.#registers = registers;
    const changed = (): void => this.refresh();
    const low = (index: number): number => (index > 0 ? 0 : stationLow(station()));
    const high = (index: number): number => (index > 0 ? 0 : stationHigh(station()));
    const pair = { stride: 8, section: '8.10.12', write: changed };
    registers.declare([
      { name: 'MTA', offset: Reg.MTA, count: 128, section: '8.10.11' },
      { name: 'MTA (alias)', offset: Reg.MTA_ALIAS, count: 128, section: '8.10.11', alias: 'MTA' },
      { ...pair, name: 'RAL', offset: Reg.RAL, count: 16, reset: low },
      { ...pair, name: 'RAH', offset: Reg.RAH, count: 16, reset: high, writable: RAH_WRITABLE, section: '8.10.13' },
      { ...pair, name: 'RAL (16 to 23)', offset: Reg.RAL2, count: 8 },
      { ...pair, name: 'RAH (16 to 23)', offset: Reg.RAH2, count: 8, writable: RAH_WRITABLE, section: '8.10.13' },
      { ...pair, name: 'RAL (alias)', offset: Reg.RA_ALIAS, count: 16, alias: 'RAL' },
      { ...pair, name: 'RAH (alias)', offset: Reg.RA_ALIAS + 4, count: 16, alias: 'RAH', section: '8.10.13' },
      { name: 'UTA', offset: Reg.UTA, count: 128, section: '8.10.15' },
    ]);
    this.refresh();
  }

  /** After registers have changed without a write: a reset, a migration. */
  refresh(): void {
    const { words } = this.#registers;
    this.#entries = 0;
    for (let i = 0; i < RAR_ENTRIES; i++) {
      const at = ralOf(i) >>> 2;
      const high = words[at + 1]!;
      if ((high & Rah.AV) === 0 || (high & Rah.ASEL) !== 0) continue;
      this.#low[this.#entries] = words[at]!;
      this.#high[this.#entries] = high & Rah.ADDRESS;
      this.#pools[this.#entries++] = EXACT | ((high & Rah.POOLSEL) >>> Rah.POOLSEL_SHIFT);
    }
  }

  /** @returns pools of all entries with this address, and `EXACT`; 0: no entry has it */
  match(low: number, high: number): number {
    let pools = 0;
    for (let i = 0; i < this.#entries; i++) {
      if (this.#low[i] === low && this.#high[i] === high) pools |= this.#pools[i]!;
    }
    return pools;
  }

  /** Whether the hash of an address is in a table. @param table MTA, or UTA */
  hashed(table: number, high: number): boolean {
    const { words } = this.#registers;
    const hash = (high >>> HASH_SHIFT[((words[Reg.RCTL >>> 2]! & Rctl.MO) >>> Rctl.MO_SHIFT) as 0 | 1 | 2 | 3]) & 0xfff;
    return ((words[(table >>> 2) + (hash >>> 5)]! >>> (hash & 31)) & 1) !== 0;
  }
}

const RAH_WRITABLE = Rah.ADDRESS | Rah.ASEL | Rah.POOLSEL | Rah.QSEL_ENABLE | Rah.AV;

function stationLow(station: Uint8Array): number {
  return (station[0]! | (station[1]! << 8) | (station[2]! << 16) | (station[3]! << 24)) >>> 0;
}

/** Valid after a reset, and of pool 0 (8.10.13). */
function stationHigh(station: Uint8Array): number {
  return (station[4]! | (station[5]! << 8) | (1 << Rah.POOLSEL_SHIFT) | Rah.AV) >>> 0;
}
