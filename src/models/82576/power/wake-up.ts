/**
 * Wake-up (5.6, 8.20): in D3hot the port still looks at frames, and one that WUFC asks for signals
 * PME. WUS says why; both outlive the reset that follows D3hot.
 */
import { RAR_ENTRIES, Rah, Reg, ralOf, Wuc, Wufc } from '../../../abi/82576.ts';
import type { DeviceHost } from '../../../abi/device-host.ts';
import type { RegisterRow, RegisterSpace } from '../register-space.ts';

const ETHERTYPE = { ARP: 0x0806, IPV4: 0x0800, IPV6: 0x86dd, VLAN: 0x8100 } as const;
/** IPAV: which addresses of IP4AT count (8.20.4); bit 16 is that of IP6AT. */
const IPV6_VALID = 0x1_0000;
/** A magic packet: six bytes of ones, then the address 16 times. */
const MAGIC_REPEATS = 16;
const WUPM_BYTES = 128;
const WAKING = Wufc.LNKC | Wufc.MAG | Wufc.EX | Wufc.MC | Wufc.BC | Wufc.ARP | Wufc.IPV4 | Wufc.IPV6;
/** Registers that a reset out of D3hot leaves (8.20). */
const KEPT = [Reg.WUC, Reg.WUFC, Reg.WUS, Reg.WUPL, Reg.IPAV];

export class WakeUp {
  /** In D3hot: no frame reaches a queue. */
  asleep = false;
  readonly #words: Uint32Array;
  readonly #host: DeviceHost;

  constructor(registers: RegisterSpace, host: DeviceHost) {
    this.#words = registers.words;
    this.#host = host;
    registers.declare(rows);
  }

  power(state: 'D0' | 'D3hot'): void {
    this.asleep = state === 'D3hot';
  }

  /** Values that the reset out of D3hot must not take. */
  kept(): readonly (readonly [offset: number, value: number])[] {
    return this.asleep ? KEPT.map((offset) => [offset, this.#words[offset >>> 2]!] as const) : [];
  }

  linkChanged(): void {
    if (this.asleep && (this.#words[Reg.WUFC >>> 2]! & Wufc.LNKC) !== 0) this.#wake(Wufc.LNKC);
  }

  /** A frame arrives while the function sleeps. */
  arrived(bytes: Uint8Array, offset: number, length: number): void {
    const wanted = this.#words[Reg.WUFC >>> 2]! & WAKING & ~Wufc.LNKC;
    if (wanted === 0 || length < 14) return;
    const found = this.#match(wanted, bytes, offset, length);
    if (found === 0) return;
    const kept = Math.min(length, WUPM_BYTES);
    this.#words[Reg.WUPL >>> 2] = length;
    this.#words.fill(0, Reg.WUPM >>> 2, (Reg.WUPM + WUPM_BYTES) >>> 2);
    for (let i = 0; i < kept; i++) this.#words[(Reg.WUPM + i) >>> 2]! |= bytes[offset + i]! << (8 * (i & 3));
    this.#wake(found);
  }

  #match(wanted: number, bytes: Uint8Array, offset: number, length: number): number {
    const group = (bytes[offset]! & 1) !== 0;
    const all = isAll(bytes, offset);
    let found = 0;
    if ((wanted & Wufc.BC) !== 0 && all) found |= Wufc.BC;
    if ((wanted & Wufc.MC) !== 0 && group && !all) found |= Wufc.MC;
    if ((wanted & Wufc.EX) !== 0 && !group && this.#hasAddress(bytes, offset)) found |= Wufc.EX;
    if ((wanted & Wufc.MAG) !== 0 && this.#isMagic(bytes, offset, length)) found |= Wufc.MAG;
    return found | this.#matchAddress(wanted, bytes, offset, length);
  }

  /** ARP requests, and packets, for an address of this computer (5.6.3.1). */
  #matchAddress(wanted: number, bytes: Uint8Array, offset: number, length: number): number {
    const tagged = type(bytes, offset + 12) === ETHERTYPE.VLAN;
    const at = offset + (tagged ? 18 : 14);
    const left = length - (at - offset);
    switch (type(bytes, at - 2)) {
      case ETHERTYPE.ARP:
        return left >= 28 && type(bytes, at + 6) === 1 && this.#isIpv4(bytes, at + 24) ? wanted & Wufc.ARP : 0;
      case ETHERTYPE.IPV4:
        return left >= 20 && this.#isIpv4(bytes, at + 16) ? wanted & Wufc.IPV4 : 0;
      case ETHERTYPE.IPV6:
        return left >= 40 && this.#isIpv6(bytes, at + 24) ? wanted & Wufc.IPV6 : 0;
      default:
        return 0;
    }
  }

  /** Addresses are stored as they stand in packets. */
  #isIpv4(bytes: Uint8Array, at: number): boolean {
    const valid = this.#words[Reg.IPAV >>> 2]!;
    const address = little(bytes, at);
    for (let i = 0; i < 4; i++) {
      if (((valid >>> i) & 1) !== 0 && this.#words[(Reg.IP4AT + 8 * i) >>> 2] === address) return true;
    }
    return false;
  }

  #isIpv6(bytes: Uint8Array, at: number): boolean {
    if ((this.#words[Reg.IPAV >>> 2]! & IPV6_VALID) === 0) return false;
    for (let i = 0; i < 4; i++) if (this.#words[(Reg.IP6AT >>> 2) + i] !== little(bytes, at + 4 * i)) return false;
    return true;
  }

  #hasAddress(bytes: Uint8Array, at: number): boolean {
    const low = little(bytes, at);
    const high = bytes[at + 4]! | (bytes[at + 5]! << 8);
    for (let i = 0; i < RAR_ENTRIES; i++) {
      const place = ralOf(i) >>> 2;
      const rah = this.#words[place + 1]!;
      if ((rah & Rah.AV) !== 0 && this.#words[place] === low && (rah & Rah.ADDRESS) === high) return true;
    }
    return false;
  }

  /** Anywhere in the frame (5.6.3.1.4): the address is that of RAL 0. */
  #isMagic(bytes: Uint8Array, offset: number, length: number): boolean {
    const size = 6 + 6 * MAGIC_REPEATS;
    for (let at = offset; at + size <= offset + length; at++) {
      if (bytes[at] === 0xff && isAll(bytes, at) && this.#repeats(bytes, at + 6)) return true;
    }
    return false;
  }

  #repeats(bytes: Uint8Array, at: number): boolean {
    const place = Reg.RAL >>> 2;
    for (let i = 0; i < 6 * MAGIC_REPEATS; i++) {
      const byte = i % 6;
      const own = (this.#words[place + (byte >>> 2)]! >>> (8 * (byte & 3))) & 0xff;
      if (bytes[at + i] !== own) return false;
    }
    return true;
  }

  #wake(why: number): void {
    this.#words[Reg.WUS >>> 2]! |= why;
    this.#words[Reg.WUC >>> 2]! |= Wuc.PME_STATUS;
    this.#host.wake();
  }
}

const rows: readonly RegisterRow[] = [
  {
    name: 'WUC',
    offset: Reg.WUC,
    section: '8.20.1',
    writable: Wuc.APME | Wuc.PME_EN | Wuc.APMPME,
    writeOneClears: Wuc.PME_STATUS,
  },
  { name: 'WUFC', offset: Reg.WUFC, section: '8.20.2', writable: 0x000f_80ff },
  { name: 'WUS', offset: Reg.WUS, section: '8.20.3', writable: 0, writeOneClears: 0xffff_ffff },
  { name: 'IPAV', offset: Reg.IPAV, section: '8.20.4', writable: 0x1_000f },
  { name: 'IP4AT', offset: Reg.IP4AT, count: 4, stride: 8, section: '8.20.5' },
  { name: 'IP6AT', offset: Reg.IP6AT, count: 4, section: '8.20.6' },
  { name: 'WUPL', offset: Reg.WUPL, section: '8.20.7', writable: 0 },
  { name: 'WUPM', offset: Reg.WUPM, count: WUPM_BYTES / 4, section: '8.20.8', writable: 0 },
];

function type(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

function little(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

function isAll(bytes: Uint8Array, at: number): boolean {
  for (let i = 0; i < 6; i++) if (bytes[at + i] !== 0xff) return false;
  return true;
}
