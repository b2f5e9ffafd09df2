/**
 * The registers of a bridge (header type 1): its buses, and the windows through which it passes
 * accesses down (PCI-to-PCI Bridge 1.2, 3.2.5).
 */
import { Config } from '../../abi/pci.ts';
import { type CapabilityReader, sizeText } from './text.ts';

export type DecodedWindow =
  | {
      /** Hexadecimal with 0x, both included. */
      readonly base: string;
      readonly limit: string;
      readonly bits: 16 | 32 | 64;
      /** The limit is below the base: nothing passes. */
      readonly disabled: boolean;
      /** Like "8K". */
      readonly size: string;
    }
  /** Both registers, whose type bits contradict each other or mean nothing. */
  | { readonly unknownTypes: readonly [string, string] };

export interface DecodedBridge {
  readonly primary: number;
  readonly secondary: number;
  readonly subordinate: number;
  readonly latency: number;
  readonly windows: { readonly io: DecodedWindow; readonly memory: DecodedWindow; readonly prefetchable: DecodedWindow };
  readonly status: number;
  readonly control: number;
}

interface WindowRegisters {
  /**
   * Bytes of the base and limit registers: their low four bits are the type, the others the top of
   * a 16- or 32-bit address.
   */
  readonly width: 1 | 2;
  readonly base: number;
  readonly limit: number;
  /** Where type 1 has the upper half of the address. */
  readonly upper: readonly [base: number, limit: number] | null;
  /** Address bits by type. */
  readonly bits: readonly (16 | 32 | 64)[];
}

const windows = {
  io: {
    width: 1,
    base: Config.BRIDGE_IO_BASE,
    limit: Config.BRIDGE_IO_LIMIT,
    upper: [Config.BRIDGE_IO_BASE_UPPER16, Config.BRIDGE_IO_LIMIT_UPPER16],
    bits: [16, 32],
  },
  memory: { width: 2, base: Config.BRIDGE_MEMORY_BASE, limit: Config.BRIDGE_MEMORY_LIMIT, upper: null, bits: [32] },
  prefetchable: {
    width: 2,
    base: Config.BRIDGE_PREF_MEMORY_BASE,
    limit: Config.BRIDGE_PREF_MEMORY_LIMIT,
    upper: [Config.BRIDGE_PREF_BASE_UPPER32, Config.BRIDGE_PREF_LIMIT_UPPER32],
    bits: [32, 64],
  },
} as const satisfies Record<string, WindowRegisters>;

function decodeWindow(r: CapabilityReader, registers: WindowRegisters): DecodedWindow {
  const { width, upper } = registers;
  const base = width === 1 ? r.u8(registers.base) : r.u16(registers.base);
  const limit = width === 1 ? r.u8(registers.limit) : r.u16(registers.limit);
  const bits = registers.bits[base & 0xf];
  if (bits === undefined || (base & 0xf) !== (limit & 0xf)) {
    return { unknownTypes: [base.toString(16), limit.toString(16)] };
  }
  const unit = 8n * BigInt(width);
  const top = (at: number) => BigInt(width === 1 ? r.u16(at) : r.u32(at)) << (2n * unit);
  const wide = upper !== null && (base & 0xf) === 1;
  const first = (BigInt(base & ~0xf) << unit) | (wide ? top(upper[0]) : 0n);
  const last = (BigInt(limit & ~0xf) << unit) | (wide ? top(upper[1]) : 0n) | ((1n << (unit + 4n)) - 1n);
  return {
    base: `0x${first.toString(16)}`,
    limit: `0x${last.toString(16)}`,
    bits,
    disabled: first > last,
    size: first > last ? '0' : sizeText(last - first + 1n),
  };
}

export function decodeBridge(r: CapabilityReader): DecodedBridge {
  return {
    primary: r.u8(Config.BRIDGE_PRIMARY_BUS),
    secondary: r.u8(Config.BRIDGE_SECONDARY_BUS),
    subordinate: r.u8(Config.BRIDGE_SUBORDINATE_BUS),
    latency: r.u8(Config.BRIDGE_SEC_LATENCY_TIMER),
    windows: {
      io: decodeWindow(r, windows.io),
      memory: decodeWindow(r, windows.memory),
      prefetchable: decodeWindow(r, windows.prefetchable),
    },
    status: r.u16(Config.BRIDGE_SEC_STATUS),
    control: r.u16(Config.BRIDGE_CONTROL),
  };
}
