/**
 * The registers of a CardBus bridge (header type 2): buses, windows and an address of 16-bit cards
 * (PC Card Standard 8.0, vol. 2, 5.4).
 */
import { Cardbus } from '../../abi/pci.ts';
import type { CapabilityReader } from './text.ts';

export interface DecodedCardbusWindow {
  readonly kind: 'memory' | 'io';
  readonly index: number;
  /** Hexadecimal with 0x, both included. */
  readonly base: string;
  readonly limit: string;
  readonly prefetchable: boolean;
}

export interface DecodedCardbus {
  readonly primary: number;
  readonly cardbus: number;
  readonly subordinate: number;
  readonly latency: number;
  readonly status: number;
  readonly windows: readonly DecodedCardbusWindow[];
  /** Unknown when there are fewer bytes than the whole header. */
  readonly legacyBase: number | null;
  readonly control: number;
}

/** Windows of memory are in pages, those of I/O in dwords. */
const [PAGE, DWORD] = [0xfff, 3];

export function decodeCardbus(r: CapabilityReader): DecodedCardbus {
  const control = r.u16(Cardbus.BRIDGE_CONTROL);
  const windows: DecodedCardbusWindow[] = [];
  const window = (kind: 'memory' | 'io', index: number, base: number, limit: number, prefetchable: boolean): void => {
    windows.push({ kind, index, base: `0x${(base >>> 0).toString(16)}`, limit: `0x${(limit >>> 0).toString(16)}`, prefetchable });
  };
  for (let i = 0; i < 2; i++) {
    const at = Cardbus.MEMORY_BASE_0 + 8 * i;
    window('memory', i, r.u32(at) & ~PAGE, r.u32(at + 4) | PAGE, (control & (Cardbus.PREFETCH_0 << i)) !== 0);
  }
  for (let i = 0; i < 2; i++) {
    const at = Cardbus.IO_BASE_0 + 8 * i;
    const mask = (r.u32(at) & Cardbus.IO_32) !== 0 ? 0xffff_ffff : 0xffff;
    window('io', i, r.u32(at) & mask & ~DWORD, (r.u32(at + 4) & mask) | DWORD, false);
  }
  return {
    primary: r.u8(Cardbus.PRIMARY_BUS),
    cardbus: r.u8(Cardbus.CARD_BUS),
    subordinate: r.u8(Cardbus.SUBORDINATE_BUS),
    latency: r.u8(Cardbus.LATENCY_TIMER),
    status: r.u16(Cardbus.SEC_STATUS),
    windows,
    legacyBase: r.has(Cardbus.LEGACY_MODE_BASE, 4) ? r.u16(Cardbus.LEGACY_MODE_BASE) : null,
    control,
  };
}
