/**
 * The buses of a machine by domain and number: root buses, buses behind bridges, and buses that
 * only virtual functions are on. Numbers that no bridge declares grow depth-first from each root
 * bus, as the kernel's scan assigns them, and leave room for virtual functions
 * (pci_iov_bus_range()).
 */
import { checkIndex, hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { bdfParts } from '../../pci/bdf.ts';
import { virtualFunctionAt } from '../../pci/virtual-functions.ts';
import { PciBus, type PciFunction } from './pci-function.ts';

const MAX_BUS = 0xff;
/**
 * Linux gives domains from here to buses that a driver emulates, which appear after those of
 * firmware.
 */
export const FIRST_EMULATED_DOMAIN = 0x1_0000;

interface Domain {
  /** By number. */
  readonly buses: Map<number, PciBus>;
  /** In the order of discovery. */
  readonly roots: PciBus[];
}

export class BusNumbers {
  /** In the order of discovery. */
  #roots: readonly PciBus[] = [];
  readonly #domains = new Map<number, Domain>();
  /** The lowest number that is still free for a bridge at power-on, by root bus. */
  readonly #next = new Map<PciBus, number>();

  /**
   * The root buses that the addresses `ats` are on, in the order in which the addresses name them;
   * domains that a driver emulates come last.
   *
   * @throws VfioError EINVAL for a text that is no address
   */
  declareRoots(ats: readonly string[]): readonly PciBus[] {
    const roots: PciBus[] = [];
    for (const at of ats) {
      const { domain, bus } = typeof at === 'string' && at.includes(':') ? bdfParts(at) : { domain: 0, bus: 0 };
      const there = this.#domain(domain);
      if (there.buses.has(bus)) continue;
      const root = new PciBus(domain, bus, null);
      there.buses.set(bus, root);
      there.roots.push(root);
      roots.push(root);
    }
    const emulated = (root: PciBus) => (root.domain >= FIRST_EMULATED_DOMAIN ? 1 : 0);
    this.#roots = roots.sort((a, b) => emulated(a) - emulated(b));
    for (const root of this.#roots) this.#next.set(root, root.number + 1);
    return this.#roots;
  }

  get roots(): readonly PciBus[] {
    return this.#roots;
  }

  #domain(number: number): Domain {
    const found = this.#domains.get(number);
    if (found !== undefined) return found;
    const made: Domain = { buses: new Map(), roots: [] };
    this.#domains.set(number, made);
    return made;
  }

  #find(domain: number, number: number): PciBus | undefined {
    return this.#domains.get(domain)?.buses.get(number);
  }

  /**
   * As Linux scans them: root bus by root bus, each with the buses behind its bridges, bridge by
   * bridge and not by number.
   *
   * @param tops the buses to begin at. Default: the root buses
   */
  inOrder(tops: readonly PciBus[] = this.#roots): readonly PciBus[] {
    const order: PciBus[] = [];
    const visit = (bus: PciBus): void => {
      order.push(bus, ...this.#continuing(bus));
      for (const { secondary } of bus.functions) if (secondary !== null) visit(secondary);
    };
    for (const top of tops) visit(top);
    return order;
  }

  /** The buses that only virtual functions of functions on `bus` are on. */
  #continuing(bus: PciBus): readonly PciBus[] {
    const behind: PciBus[] = [];
    for (let number = bus.number + 1; number <= bus.reserved; number++) {
      const found = this.#find(bus.domain, number);
      if (found?.continues === bus) behind.push(found);
    }
    return behind;
  }

  /**
   * The bus of an address; `device.function` alone is on 0000:00.
   *
   * @throws VfioError EINVAL for a bus that is not there
   */
  of(at: string): PciBus {
    if (typeof at !== 'string') throw new VfioError('EINVAL', `'${String(at)}' is not the address of a device`);
    const { domain, bus } = at.includes(':') ? bdfParts(at) : { domain: 0, bus: 0 };
    const found = this.#find(domain, bus);
    if (found === undefined || found.continues !== null) {
      throw new VfioError('EINVAL', `${at}: this machine has no bus ${hex(bus)} in domain ${hex(domain)}`, {
        fix: `Its root buses are ${this.#roots.map((root) => root.name).join(', ')}.`,
      });
    }
    return found;
  }

  /**
   * At power-on: a bus behind `bridge`. Its number is the declared one, in any order, as firmware
   * may assign numbers, or the next one of its root bus. Bridges come before virtual functions: a
   * number that a bridge declares or needs is no longer kept for virtual functions.
   *
   * @throws VfioError EINVAL when the number cannot be there, or none is left
   */
  open(bridge: PciFunction, declared: number | undefined): PciBus {
    const { root } = bridge.bus;
    const number = this.#choose(bridge, declared, this.#next.get(root)!, (n) => this.#conflict(bridge, n));
    for (const bus of this.#domain(root.domain).buses.values()) bus.reserved = shrink(bus, number);
    return this.#add(bridge, number);
  }

  /**
   * As `open`, of a recording: any number that no other bus has, wherever it is. Null for a bridge
   * without devices whose bus is not known, or is there already.
   */
  openRecorded(bridge: PciFunction, declared: number | undefined, empty: boolean): PciBus | null {
    const { domain } = bridge.bus;
    const taken = declared === undefined || this.#find(domain, checkIndex(declared, MAX_BUS, `${bridge.bdf}: bus`)) !== undefined;
    if (taken) return empty ? null : this.open(bridge, undefined);
    for (const bus of this.#domain(domain).buses.values()) bus.reserved = shrink(bus, declared);
    return this.#add(bridge, declared);
  }

  /**
   * With the machine running: a bus behind `bridge`, with the lowest number that is free.
   *
   * @throws as `open`
   */
  plug(bridge: PciFunction, declared: number | undefined): PciBus {
    const { buses } = this.#domain(bridge.bus.domain);
    const kept = (number: number) => {
      const bus = [...buses.values()].find((b) => number > b.number && number <= b.reserved);
      return bus === undefined ? null : `it is kept for virtual functions on bus ${hex(bus.number)}`;
    };
    const conflict = (number: number) => this.#conflict(bridge, number) ?? kept(number);
    return this.#add(bridge, this.#choose(bridge, declared, bridge.bus.number + 1, conflict));
  }

  /**
   * The declared number; else `preferred`, or the lowest number for which `conflict` finds no
   * reason.
   */
  #choose(bridge: PciFunction, declared: number | undefined, preferred: number, conflict: (n: number) => string | null): number {
    if (declared !== undefined) {
      const why = conflict(checkIndex(declared, MAX_BUS, `${bridge.bdf}: bus`));
      if (why === null) return declared;
      throw new VfioError('EINVAL', `${bridge.bdf}: bus ${hex(declared)} cannot be behind it: ${why}`, {
        fix: 'Leave `bus` out, and it gets one that is free.',
      });
    }
    if (conflict(preferred) === null) return preferred;
    for (let number = bridge.bus.number + 1; number <= MAX_BUS; number++) if (conflict(number) === null) return number;
    throw new VfioError('EINVAL', `${bridge.bdf}: no bus number is left for what is behind it`, {
      fix: 'Give bridges lower numbers with `bus`, or leave `bus` out.',
    });
  }

  /**
   * The reason why bus `number` cannot be behind `bridge`; null when it can. A bridge forwards one
   * range of numbers, from the bus behind it to the last one below that, and ranges of bridges
   * beside each other do not overlap.
   */
  #conflict(bridge: PciFunction, number: number): string | null {
    const { bus } = bridge;
    const last = this.#last(bus.root);
    if (number <= bus.number || number > last) {
      return bus.number === last ? 'none is left' : `those below bus ${hex(bus.number)} are from ${hex(bus.number + 1)} to ${hex(last)}`;
    }
    const above = busesAbove(bus);
    for (const other of this.#domain(bus.domain).buses.values()) {
      const owner = other.bridge;
      if (owner === null || other.continues !== null || above.includes(other)) continue;
      if (number >= other.number && number <= lastBehind(other)) {
        return `${owner.bdf} has buses ${hex(other.number)} to ${hex(lastBehind(other))}`;
      }
      const across = above.find(
        (a) => a.bridge !== null && other.number > a.number && other.number < number && !busesAbove(other).includes(a),
      );
      if (across !== undefined) return `${across.bridge!.bdf} would then forward bus ${hex(other.number)}, which is behind ${owner.bdf}`;
    }
    return null;
  }

  #add(bridge: PciFunction, number: number): PciBus {
    const bus = new PciBus(bridge.bus.domain, number, bridge);
    bridge.secondary = bus;
    this.#domain(bus.domain).buses.set(number, bus);
    this.#keepNext(bus.root, number + 1);
    return bus;
  }

  #keepNext(root: PciBus, next: number): void {
    this.#next.set(root, Math.max(this.#next.get(root)!, next));
  }

  /**
   * At power-on, before anything behind `bus` has a number: the numbers after the bus's own are
   * kept for the virtual functions of its functions.
   */
  reserve(bus: PciBus): void {
    const taken = [...this.#domain(bus.domain).buses.values()].filter((other) => other.number > bus.number);
    bus.reserved = Math.min(lastForVirtualFunctions(bus), this.#last(bus.root), ...taken.map((other) => other.number - 1));
    this.#keepNext(bus.root, bus.reserved + 1);
  }

  /**
   * The bus that virtual functions of `pf` with bus number `number` are on.
   *
   * @throws VfioError ENOMEM when that number is not kept for them
   */
  forVirtualFunctions(pf: PciFunction, number: number): PciBus {
    const { bus } = pf;
    if (number === bus.number) return bus;
    const found = this.#find(bus.domain, number);
    if (number > bus.reserved || (found !== undefined && found.continues === null)) {
      throw new VfioError('ENOMEM', `${pf.bdf}: its virtual functions would reach to bus ${hex(number)}, which is not kept for them`, {
        fix: `Enable fewer, or declare no bridge whose \`bus\` is from ${hex(bus.number + 1)} to ${hex(number)}.`,
      });
    }
    if (found !== undefined) return found;
    const made = new PciBus(bus.domain, number, bus.bridge, bus);
    this.#domain(bus.domain).buses.set(number, made);
    return made;
  }

  delete(bus: PciBus): void {
    if (this.#find(bus.domain, bus.number) === bus) this.#domain(bus.domain).buses.delete(bus.number);
  }

  /** The last number of a root bus: the one before the next root bus of its domain. */
  #last(root: PciBus): number {
    const { roots } = this.#domain(root.domain);
    return roots.reduce((last, r) => (r.number > root.number ? Math.min(last, r.number - 1) : last), MAX_BUS);
  }
}

/** `bus`, the bus that its bridge is on, and so on up to the root bus. */
function busesAbove(bus: PciBus): readonly PciBus[] {
  return bus.bridge === null ? [bus] : [bus, ...busesAbove(bus.bridge.bus)];
}

/**
 * The last bus that is behind the bridge of `bus`; those that are kept for virtual functions do not
 * count.
 */
function lastBehind(bus: PciBus): number {
  return bus.functions.reduce((last, { secondary }) => (secondary === null ? last : Math.max(last, lastBehind(secondary))), bus.number);
}

/** The last number that `bus` may keep when `number` is behind a bridge. */
function shrink(bus: PciBus, number: number): number {
  return bus.number < number && bus.reserved >= number ? number - 1 : bus.reserved;
}

/**
 * The bus number of the last virtual function that the functions of `bus` can have; the bus's own
 * when there is none beyond it.
 */
function lastForVirtualFunctions(bus: PciBus): number {
  let last = bus.number;
  for (const pf of bus.functions) {
    if (pf.sriov !== null) last = Math.max(last, virtualFunctionAt(pf.address, pf.config, pf.sriov.totalVfs - 1)?.bus ?? last);
  }
  return last;
}
