/**
 * Which pools have which VLAN: VLVF, 32 entries for the whole card (7.8.3.4, 8.14). Virtual
 * functions and the physical one share an entry of a VLAN that both have.
 */
import { Reg, VLVF_ENTRIES, Vlvf } from '../../abi/82576.ts';
import type { RegisterAccess } from '../../abi/device.ts';

export class VlanPools {
  readonly #registers: RegisterAccess;
  /** VLAN and pools of each entry; null: it is free. */
  readonly #entries: ({ readonly vlan: number; pools: number } | null)[] = Array.from({ length: VLVF_ENTRIES }, () => null);

  constructor(registers: RegisterAccess) {
    this.#registers = registers;
  }

  /** Puts everything into the card, after a reset. */
  restore(): void {
    this.#entries.forEach((_, i) => {
      this.#write(i);
    });
  }

  /** VLANs that a pool has. */
  of(pool: number): number[] {
    return this.#entries.flatMap((entry) => (entry !== null && (entry.pools & (1 << pool)) !== 0 ? [entry.vlan] : []));
  }

  /** VLANs that any pool has. */
  get all(): number[] {
    return this.#entries.flatMap((entry) => (entry === null ? [] : [entry.vlan]));
  }

  /** @returns false when all entries are taken */
  add(vlan: number, pool: number): boolean {
    const same = this.#entries.findIndex((entry) => entry?.vlan === vlan);
    const at = same >= 0 ? same : this.#entries.indexOf(null);
    if (at < 0) return false;
    this.#entries[at] ??= { vlan, pools: 0 };
    this.#entries[at].pools |= 1 << pool;
    this.#write(at);
    return true;
  }

  remove(vlan: number, pool: number): void {
    const at = this.#entries.findIndex((entry) => entry?.vlan === vlan);
    const entry = this.#entries[at];
    if (entry === undefined || entry === null) return;
    entry.pools &= ~(1 << pool);
    if (entry.pools === 0) this.#entries[at] = null;
    this.#write(at);
  }

  /** A pool has these VLANs from now on. @returns false when not all have room */
  set(pool: number, vlans: readonly number[]): boolean {
    for (const vlan of this.of(pool)) if (!vlans.includes(vlan)) this.remove(vlan, pool);
    return vlans.every((vlan) => this.add(vlan, pool));
  }

  #write(at: number): void {
    const entry = this.#entries[at] ?? null;
    const value = entry === null ? 0 : (entry.vlan | (entry.pools << Vlvf.POOLSEL_SHIFT) | Vlvf.VI_EN) >>> 0;
    this.#registers.write32(Reg.VLVF + 4 * at, value);
  }
}
