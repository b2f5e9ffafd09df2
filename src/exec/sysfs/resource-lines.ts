/**
 * The file `resource` of a function: a line for each BAR, the ROM, the BARs of its virtual
 * functions and, on a bridge, the windows and three spare entries.
 *
 * @see linux/drivers/pci/pci-sysfs.c, resource_show(); linux/include/linux/ioport.h;
 * linux/drivers/pci/probe.c, decode_bar(), pci_read_bridge_windows()
 */
import { Config } from '../../abi/pci.ts';
import type { PciFunction } from '../../engine/machine/pci-function.ts';
import { barTypeBits } from '../../pci/bars.ts';
import type { BarDeclaration } from '../../pci/declaration.ts';

/** IORESOURCE_* */
const Flag = { IO: 0x100, MEM: 0x200, PREFETCH: 0x2000, READONLY: 0x4000, SIZEALIGN: 0x4_0000, MEM_64: 0x10_0000 } as const;

/** pci_dev's resource[]: BARs, ROM at 6, six of virtual functions from 7, a bridge's from 13. */
const ROM = 6;
const VF_BARS = 7;
const WINDOWS = 13;
const BRIDGE_LINES = 17;
/** Low bits of a bridge's registers: addresses are wider than the register. */
const IO_32 = 1;
const PREF_64 = 1;

interface Resource {
  readonly first: bigint;
  readonly last: bigint;
  readonly flags: number;
}

const NONE: Resource = { first: 0n, last: 0n, flags: 0 };

/** Index of the BAR, and its bytes, for the files resource0 to resource5. */
export function barsOf(fn: PciFunction): readonly BarDeclaration[] {
  return fn.declaration.bars ?? [];
}

export function resourceLines(fn: PciFunction): string {
  const lines = new Array<Resource>(fn.isBridge ? BRIDGE_LINES : WINDOWS).fill(NONE);
  for (const bar of barsOf(fn)) lines[bar.index] = placed(bar, fn.config.barAddress(bar.index), bar.size);
  const { romSize } = fn.config;
  if (romSize > 0 && fn.declaration.virtualFunction !== true) {
    lines[ROM] = range(BigInt(fn.config.romAddress), romSize, Flag.MEM | Flag.PREFETCH | Flag.READONLY | Flag.SIZEALIGN);
  }
  const { sriov } = fn;
  for (const bar of sriov?.bars ?? []) {
    lines[VF_BARS + bar.index] = placed(bar, sriov!.barAddress(bar.index, 0), bar.size * sriov!.totalVfs);
  }
  if (fn.isBridge) for (const [i, window] of windowsOf(fn).entries()) lines[WINDOWS + i] = window;
  return lines.map(({ first, last, flags }) => `${hex(first)} ${hex(last)} ${hex(BigInt(flags))}\n`).join('');
}

function placed(bar: BarDeclaration, address: bigint, size: number): Resource {
  const kind = bar.type === 'io' ? Flag.IO : Flag.MEM;
  const wide = bar.type === 'mem64' ? Flag.MEM_64 : 0;
  const prefetch = bar.prefetchable === true ? Flag.PREFETCH : 0;
  return range(address, size, kind | wide | prefetch | Flag.SIZEALIGN | barTypeBits(bar));
}

function range(first: bigint, size: number, flags: number): Resource {
  return { first, last: first + BigInt(size) - 1n, flags };
}

/** I/O, memory and prefetchable window; a closed one is NONE. */
function windowsOf({ config }: PciFunction): readonly Resource[] {
  const open = (first: bigint, last: bigint, flags: number) => (first > last ? NONE : { first, last, flags });
  const io = (offset: number) => BigInt((config.read(offset, 1) & 0xf0) << 8);
  const memory = (offset: number) => BigInt((config.read(offset, 2) & 0xfff0) * 0x1_0000);
  const upper = (offset: number) => BigInt(config.read(offset, 4)) << 32n;
  const ioBits = config.read(Config.BRIDGE_IO_BASE, 1) & IO_32;
  const wide = (config.read(Config.BRIDGE_PREF_MEMORY_BASE, 2) & PREF_64) === 0 ? 0 : PREF_64 | Flag.MEM_64;
  return [
    open(io(Config.BRIDGE_IO_BASE), io(Config.BRIDGE_IO_LIMIT) + 0xfffn, Flag.IO | ioBits),
    open(memory(Config.BRIDGE_MEMORY_BASE), memory(Config.BRIDGE_MEMORY_LIMIT) + 0xf_ffffn, Flag.MEM),
    open(
      memory(Config.BRIDGE_PREF_MEMORY_BASE) + upper(Config.BRIDGE_PREF_BASE_UPPER32),
      memory(Config.BRIDGE_PREF_MEMORY_LIMIT) + upper(Config.BRIDGE_PREF_LIMIT_UPPER32) + 0xf_ffffn,
      Flag.MEM | Flag.PREFETCH | wide,
    ),
  ];
}

const hex = (value: bigint): string => `0x${value.toString(16).padStart(16, '0')}`;
