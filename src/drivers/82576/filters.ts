/**
 * Filters of a physical function: addresses, groups, VLANs, promiscuity (7.1.2). The driver keeps
 * the lists, so that they outlast a reset and virtual functions can add theirs.
 */
import { RAR_ENTRIES, Rah, Rctl, Reg, ralOf } from '../../abi/82576.ts';
import type { RegisterAccess } from '../../abi/device.ts';
import { VfioError } from '../../base/errno.ts';
import { macBytes, macHigh, macLow, macText, multicastHash } from './mac-address.ts';

const TABLE = 128;

interface Entry {
  readonly mac: Uint8Array;
  /** The pool, or the physical function's. */
  readonly pool: number;
}

export class Filters {
  readonly #registers: RegisterAccess;
  readonly #name: string;
  /** By RAR. Number 0 is the port's own address. */
  readonly #entries: (Entry | null)[] = Array.from({ length: RAR_ENTRIES }, () => null);
  readonly #groups = new Map<string, number>();
  /** Hashes of virtual functions. */
  #vfHashes: readonly number[] = [];
  readonly #vlans = new Set<number>();
  #vfVlans: readonly number[] = [];
  #promiscuous = false;
  #allMulticast = false;
  #vlanFilter = false;
  /** The pool of the physical function; -1: there are no pools. */
  readonly #pool: number;

  constructor(registers: RegisterAccess, name: string, pool: number) {
    this.#registers = registers;
    this.#name = name;
    this.#pool = pool;
  }

  /** Puts everything into the card, after a reset. */
  restore(): void {
    for (let i = 0; i < RAR_ENTRIES; i++) this.#writeAddress(i);
    for (let i = 0; i < TABLE; i++) this.#registers.write32(Reg.UTA + 4 * i, 0);
    this.#writeGroups();
    this.#writeVlans();
  }

  /** RCTL's bits. */
  get control(): number {
    return (
      (this.#promiscuous ? Rctl.UPE | Rctl.MPE : 0) |
      (this.#allMulticast ? Rctl.MPE : 0) |
      (this.#vlanFilter && !this.#promiscuous ? Rctl.VFE : 0)
    );
  }

  get promiscuous(): boolean {
    return this.#promiscuous;
  }

  get allMulticast(): boolean {
    return this.#allMulticast;
  }

  get vlanFilter(): boolean {
    return this.#vlanFilter;
  }

  setModes(promiscuous: boolean, allMulticast: boolean): void {
    this.#promiscuous = promiscuous;
    this.#allMulticast = allMulticast;
  }

  setOwn(mac: Uint8Array): void {
    this.#set(0, { mac, pool: this.#pool });
  }

  /**
   * One more address of a station.
   * @returns its RAR
   * @throws VfioError ENOSPC when all 24 are taken
   */
  add(mac: Uint8Array, pool = this.#pool): number {
    const same = this.#entries.findIndex((e) => e !== null && e.pool === pool && macText(e.mac) === macText(mac));
    if (same >= 0) return same;
    const free = this.#entries.indexOf(null, 1);
    if (free < 0) {
      throw new VfioError('ENOSPC', `${this.#name} has ${RAR_ENTRIES} addresses, and all are taken`, {
        fix: 'Remove one, or receive promiscuously.',
      });
    }
    this.#set(free, { mac, pool });
    return free;
  }

  /** Whether another pool than `pool` has the address. */
  isOfAnother(mac: Uint8Array, pool: number): boolean {
    return this.#entries.some((e) => e !== null && e.pool !== pool && macText(e.mac) === macText(mac));
  }

  /** @returns false when there is no such address */
  remove(mac: Uint8Array, pool = this.#pool): boolean {
    const at = this.#entries.findIndex((e, i) => i > 0 && e !== null && e.pool === pool && macText(e.mac) === macText(mac));
    if (at < 0) return false;
    this.#set(at, null);
    return true;
  }

  /** Removes all addresses of a pool but the physical function's own. */
  removePool(pool: number): void {
    this.#entries.forEach((entry, i) => {
      if (i > 0 && entry?.pool === pool) this.#set(i, null);
    });
  }

  /** A group's address; counted, so that each `leave` ends one `join`. */
  join(mac: string): void {
    const key = macText(macBytes(mac));
    this.#groups.set(key, (this.#groups.get(key) ?? 0) + 1);
    this.#writeGroups();
  }

  leave(mac: string): boolean {
    const key = macText(macBytes(mac));
    const count = this.#groups.get(key);
    if (count === undefined) return false;
    if (count === 1) this.#groups.delete(key);
    else this.#groups.set(key, count - 1);
    this.#writeGroups();
    return true;
  }

  setVfHashes(hashes: readonly number[]): void {
    this.#vfHashes = hashes;
    this.#writeGroups();
  }

  /** VLANs that are received; null: all of them, which is so after the start. */
  setVlans(vlans: readonly number[] | null): void {
    this.#vlanFilter = vlans !== null;
    this.#vlans.clear();
    for (const vlan of vlans ?? []) this.#vlans.add(vlan);
    this.#writeVlans();
  }

  setVfVlans(vlans: readonly number[]): void {
    this.#vfVlans = vlans;
    this.#writeVlans();
  }

  get vlans(): readonly number[] | null {
    return this.#vlanFilter ? [...this.#vlans] : null;
  }

  #set(index: number, entry: Entry | null): void {
    this.#entries[index] = entry;
    this.#writeAddress(index);
  }

  #writeAddress(index: number): void {
    const entry = this.#entries[index]!;
    const at = ralOf(index);
    if (entry === null) {
      this.#registers.write32(at + 4, 0);
      this.#registers.write32(at, 0);
      return;
    }
    const pool = entry.pool < 0 ? 0 : 1 << (Rah.POOLSEL_SHIFT + entry.pool);
    this.#registers.write32(at, macLow(entry.mac));
    this.#registers.write32(at + 4, (macHigh(entry.mac) | pool | Rah.AV) >>> 0);
  }

  #writeGroups(): void {
    const words = new Uint32Array(TABLE);
    const hashes = [...[...this.#groups.keys()].map((mac) => multicastHash(macBytes(mac))), ...this.#vfHashes];
    for (const hash of hashes) words[(hash >>> 5) & 0x7f]! |= 1 << (hash & 31);
    words.forEach((word, i) => {
      this.#registers.write32(Reg.MTA + 4 * i, word);
    });
  }

  #writeVlans(): void {
    // With pools, VLVF decides, and the table lets all through (7.8.3.4).
    const words = new Uint32Array(TABLE);
    if (this.#pool >= 0 && !this.#vlanFilter) words.fill(ALL);
    for (const vlan of [...this.#vlans, ...this.#vfVlans]) words[(vlan >>> 5) & 0x7f]! |= 1 << (vlan & 31);
    words.forEach((word, i) => {
      this.#registers.write32(Reg.VFTA + 4 * i, word);
    });
  }
}

const ALL = 0xffff_ffff;
