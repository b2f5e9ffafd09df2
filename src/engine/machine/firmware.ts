/**
 * The work of firmware and of the kernel's bus scan: BARs are placed, bridge windows stand around
 * them, and decoding is on. Addresses are the same in every run. Ports get spare room for devices
 * that are plugged in later.
 */
import { Config } from '../../abi/pci.ts';
import { hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { BarDeclaration } from '../../pci/declaration.ts';
import type { PciBus, PciFunction } from './pci-function.ts';

type Space = 'io' | 'mem32' | 'mem64';
const spaces: readonly Space[] = ['io', 'mem32', 'mem64'];

const MIB = 2 ** 20;
/** Granularity of a bridge's windows, and the least that a port reserves for hot-plug. */
const windowUnit: Record<Space, number> = { io: 0x1000, mem32: MIB, mem64: MIB };
const headroom: Record<Space, number> = { io: 0, mem32: 2 * MIB, mem64: 256 * MIB };

/** First and last address of PCI in each space; 32-bit memory ends below the I/O APIC. */
const rootFirst: Record<Space, number> = { io: 0x1000, mem32: 0xc000_0000, mem64: 0x8_0000_0000 };
const rootEnd: Record<Space, number> = { io: 0x1_0000, mem32: 0xfec0_0000, mem64: 2 ** 46 };

interface Range {
  readonly first: number;
  /** Exclusive. */
  readonly end: number;
}

/** Addresses that a bus has, and those of them that are taken. */
class Window {
  readonly first: number;
  readonly end: number;
  readonly #byOwner = new Map<PciFunction, Range[]>();
  /** All of them in order, those that touch as one: usually there is one, or few. */
  readonly #taken: Range[] = [];

  constructor(first: number, end: number) {
    this.first = first;
    this.end = end;
  }

  /** The lowest place for `size` bytes; null when there is none. */
  find(size: number, align: number): number | null {
    let at = up(this.first, align);
    for (const range of this.#taken) {
      if (at + size <= range.first) break;
      at = Math.max(at, up(range.end, align));
    }
    return at + size <= this.end ? at : null;
  }

  take(owner: PciFunction, range: Range): void {
    const mine = this.#byOwner.get(owner);
    if (mine === undefined) this.#byOwner.set(owner, [range]);
    else mine.push(range);
    if (range.first < range.end) this.#insert(range);
  }

  free(owner: PciFunction): void {
    for (const { first, end } of this.#byOwner.get(owner) ?? []) {
      const at = this.#taken.findIndex((range) => range.first <= first && first < range.end);
      if (at === -1) continue;
      const around = this.#taken[at]!;
      const rest = [
        { first: around.first, end: first },
        { first: end, end: around.end },
      ];
      this.#taken.splice(at, 1, ...rest.filter((range) => range.first < range.end));
    }
    this.#byOwner.delete(owner);
  }

  /** Ranges do not overlap. Most come after all that are there. */
  #insert(range: Range): void {
    const taken = this.#taken;
    let at = taken.length;
    while (at > 0 && taken[at - 1]!.first > range.first) at--;
    const before = taken[at - 1]?.end === range.first ? 1 : 0;
    const after = taken[at]?.first === range.end ? 1 : 0;
    const first = before === 1 ? taken[at - 1]!.first : range.first;
    const end = after === 1 ? taken[at]!.end : range.end;
    taken.splice(at - before, before + after, { first, end });
  }
}

interface Item {
  readonly size: number;
  readonly align: number;
  /**
   * Bytes that are needed now; the rest of `size` is room for devices that are plugged in later.
   */
  readonly least: number;
  readonly fn: PciFunction;
  /**
   * Null: the window of bridge `fn`; 'rom': its ROM; 'vf': BAR `vfBar` of all its virtual functions
   * together.
   */
  readonly bar: BarDeclaration | 'rom' | 'vf' | null;
  readonly vfBar?: number;
}

const up = (value: number, unit: number) => Math.ceil(value / unit) * unit;

/**
 * 64-bit BARs behind a bridge can only use its prefetchable window, which is the one that reaches
 * above 4 GiB.
 */
function spaceOf(bar: BarDeclaration): Space {
  if (bar.type === 'io') return 'io';
  return bar.type === 'mem64' && (bar.prefetchable === true || bar.size > 64 * MIB) ? 'mem64' : 'mem32';
}

export class Firmware {
  readonly #windows = new Map<PciBus, Record<Space, Window>>();
  readonly #roots: Record<Space, number>;

  /** @param memoryBase the first address of 32-bit memory BARs */
  constructor(memoryBase?: number) {
    this.#roots = { ...rootFirst, mem32: memoryBase ?? rootFirst.mem32 };
    if (
      !Number.isInteger(this.#roots.mem32) ||
      this.#roots.mem32 % MIB !== 0 ||
      this.#roots.mem32 < MIB ||
      this.#roots.mem32 >= rootEnd.mem32
    ) {
      throw new VfioError('EINVAL', `memoryBase is ${hex(this.#roots.mem32)}; it must be a multiple of 1 MiB below ${hex(rootEnd.mem32)}`);
    }
  }

  /**
   * Place all functions on the root buses and behind them, and switch decoding on. Addresses are
   * the machine's: no two root buses have the same.
   *
   * @throws VfioError ENOSPC when it does not fit
   */
  start(roots: readonly PciBus[]): void {
    const all = (space: Space) => new Window(this.#roots[space], rootEnd[space]);
    const shared = { io: all('io'), mem32: all('mem32'), mem64: all('mem64') };
    for (const root of roots) {
      this.#windows.set(root, shared);
      for (const space of spaces) this.#fill(root, space, root.functions);
      for (const fn of root.everything()) this.#finish(fn);
    }
  }

  /**
   * Place a function that was plugged in, and the functions behind it.
   *
   * @throws VfioError ENOSPC when its bus has no room left
   */
  plug(fn: PciFunction): void {
    for (const space of spaces) this.#fill(fn.bus, space, [fn]);
    this.#finish(fn);
    if (fn.secondary !== null) for (const below of fn.secondary.everything()) this.#finish(below);
  }

  /** Its addresses are free again. */
  unplug(fn: PciFunction): void {
    const windows = this.#windows.get(fn.bus);
    if (windows !== undefined) for (const space of spaces) windows[space].free(fn);
    if (fn.secondary !== null) this.#windows.delete(fn.secondary);
  }

  /**
   * The space that `fn` needs on its own bus: its BARs, and the window for the functions behind it.
   */
  #items(fn: PciFunction, space: Space): Item[] {
    const items: Item[] = (fn.declaration.bars ?? [])
      .filter((bar) => spaceOf(bar) === space)
      .map((bar) => ({ size: bar.size, least: bar.size, align: bar.size, fn, bar }));
    if (space === 'mem32' && fn.config.romSize > 0)
      items.push({ size: fn.config.romSize, least: fn.config.romSize, align: fn.config.romSize, fn, bar: 'rom' });
    for (const bar of fn.sriov?.bars.filter((b) => spaceOf(b) === space) ?? []) {
      const size = bar.size * fn.sriov!.totalVfs;
      items.push({ size, least: size, align: bar.size, fn, bar: 'vf', vfBar: bar.index });
    }
    if (fn.secondary !== null) {
      const behind = this.#sorted(fn.secondary.functions, space);
      const inside = behind.reduce((end, item) => up(end, item.align) + item.size, 0);
      const port = fn.kind === 'root-port' || fn.kind === 'downstream-port';
      const size = up(Math.max(inside, port ? headroom[space] : 0), windowUnit[space]);
      const align = behind.reduce((most, item) => Math.max(most, item.align), windowUnit[space]);
      if (size > 0) items.push({ size, least: up(inside, windowUnit[space]), align, fn, bar: null });
    }
    return items;
  }

  /** Widest alignment first, which leaves no holes. */
  #sorted(functions: readonly PciFunction[], space: Space): Item[] {
    return functions.flatMap((fn) => this.#items(fn, space)).sort((a, b) => b.align - a.align || b.size - a.size);
  }

  #fill(bus: PciBus, space: Space, functions: readonly PciFunction[]): void {
    for (const item of this.#sorted(functions, space)) {
      const window = this.#windows.get(bus)?.[space];
      const full = window?.find(item.size, item.align) ?? null;
      const size = full === null ? item.least : item.size;
      const first = full ?? (size === 0 ? 0 : (window?.find(size, item.align) ?? null));
      if (first === null) {
        throw new VfioError('ENOSPC', `no room for ${hex(size)} bytes of ${space} of ${item.fn.bdf} on bus ${hex(bus.number)}`, {
          fix: 'Use smaller BARs, or put the device on the root bus.',
        });
      }
      window?.take(item.fn, { first, end: first + size });
      if (item.bar === 'rom') item.fn.config.romAddress = first;
      else if (item.bar === 'vf') item.fn.sriov!.setBarAddress(item.vfBar!, BigInt(first));
      else if (item.bar !== null) item.fn.config.setBarAddress(item.bar.index, BigInt(first));
      else {
        this.#open(item.fn, space, new Window(first, first + size));
        this.#fill(item.fn.secondary!, space, item.fn.secondary!.functions);
      }
    }
  }

  #open(bridge: PciFunction, space: Space, window: Window): void {
    const bus = bridge.secondary!;
    const none = () => new Window(0, 0);
    const windows = this.#windows.get(bus) ?? { io: none(), mem32: none(), mem64: none() };
    windows[space] = window;
    this.#windows.set(bus, windows);
  }

  #finish(fn: PciFunction): void {
    const { config } = fn;
    if (fn.secondary !== null) {
      config.write(Config.BRIDGE_PRIMARY_BUS, 1, fn.bus.number);
      config.write(Config.BRIDGE_SECONDARY_BUS, 1, fn.secondary.number);
      config.write(Config.BRIDGE_SUBORDINATE_BUS, 1, fn.secondary.subordinate);
      this.#writeWindows(fn);
    }
    if (fn.declaration.interruptPin !== undefined && fn.declaration.interruptPin !== 0) config.write(Config.INTERRUPT_LINE, 1, 10);
    config.write(Config.COMMAND, 2, fn.commandOfFirmware);
  }

  /** Program a bridge's windows; one that stays closed has its base above its limit. */
  #writeWindows(bridge: PciFunction): void {
    const { config } = bridge;
    const windows = this.#windows.get(bridge.secondary!);
    const of = (space: Space, unit: number) => {
      const window = windows?.[space];
      return window === undefined || window.end === window.first ? { base: unit, limit: 0 } : { base: window.first, limit: window.end - 1 };
    };
    const io = of('io', 0x1000);
    config.write(Config.BRIDGE_IO_BASE, 1, (io.base >> 8) & 0xf0);
    config.write(Config.BRIDGE_IO_LIMIT, 1, (io.limit >> 8) & 0xf0);
    const mem = of('mem32', MIB);
    config.write(Config.BRIDGE_MEMORY_BASE, 2, Math.floor(mem.base / 0x1_0000));
    config.write(Config.BRIDGE_MEMORY_LIMIT, 2, Math.floor(mem.limit / 0x1_0000));
    const wide = of('mem64', MIB);
    config.write(Config.BRIDGE_PREF_MEMORY_BASE, 2, Math.floor(wide.base / 0x1_0000) & 0xffff);
    config.write(Config.BRIDGE_PREF_MEMORY_LIMIT, 2, Math.floor(wide.limit / 0x1_0000) & 0xffff);
    config.write(Config.BRIDGE_PREF_BASE_UPPER32, 4, Math.floor(wide.base / 2 ** 32));
    config.write(Config.BRIDGE_PREF_LIMIT_UPPER32, 4, Math.floor(wide.limit / 2 ** 32));
  }
}
