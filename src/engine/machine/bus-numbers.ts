/**
 * The buses of a machine by domain and number: root buses, buses behind bridges, and buses that only virtual functions are on. Numbers grow
 * depth-first from each root bus, as firmware and the kernel's scan give them out, and leave room for virtual functions (pci_iov_bus_range()).
 */
import { checkIndex, hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { bdfParts } from '../../pci/bdf.ts';
import { virtualFunctionAt } from '../../pci/virtual-functions.ts';
import { PciBus, type PciFunction } from './pci-function.ts';

const MAX_BUS = 0xff;
/** Linux gives domains from here to buses that a driver emulates, which appear after those of firmware. */
export const FIRST_EMULATED_DOMAIN = 0x1_0000;

const keyOf = (domain: number, number: number) => domain * 0x100 + number;

export class BusNumbers {
  /** In the order of discovery. */
  #roots: readonly PciBus[] = [];
  readonly #buses = new Map<number, PciBus>();
  /** The lowest number that a bridge may still get at power-on, by root bus. */
  readonly #next = new Map<PciBus, number>();

  /**
   * The root buses that the addresses `ats` are on, in the order in which they name them; domains that a driver emulates come last.
   *
   * @throws VfioError EINVAL for what is no address
   */
  declareRoots(ats: readonly string[]): readonly PciBus[] {
    for (const at of ats) {
      const { domain, bus } = typeof at === 'string' && at.includes(':') ? bdfParts(at) : { domain: 0, bus: 0 };
      if (this.#buses.has(keyOf(domain, bus))) continue;
      const root = new PciBus(domain, bus, null);
      this.#buses.set(keyOf(domain, bus), root);
      this.#roots = [...this.#roots, root];
    }
    const emulated = (root: PciBus) => (root.domain >= FIRST_EMULATED_DOMAIN ? 1 : 0);
    this.#roots = [...this.#roots].sort((a, b) => emulated(a) - emulated(b));
    for (const root of this.#roots) this.#next.set(root, root.number + 1);
    return this.#roots;
  }

  get roots(): readonly PciBus[] {
    return this.#roots;
  }

  /** Root bus by root bus, each with the buses behind it by number. */
  inOrder(): readonly PciBus[] {
    const order = new Map(this.#roots.map((root, i) => [root, i]));
    return [...this.#buses.values()].sort((a, b) => order.get(a.root)! - order.get(b.root)! || a.number - b.number);
  }

  /** The bus of an address; `device.function` alone is on 0000:00. @throws VfioError EINVAL for a bus that is not there */
  of(at: string): PciBus {
    if (typeof at !== 'string') throw new VfioError('EINVAL', `'${String(at)}' is not the address of a device`);
    const { domain, bus } = at.includes(':') ? bdfParts(at) : { domain: 0, bus: 0 };
    const found = this.#buses.get(keyOf(domain, bus));
    if (found === undefined || found.continues !== null) {
      throw new VfioError('EINVAL', `${at}: this machine has no bus ${hex(bus)} in domain ${hex(domain)}`, {
        fix: `Its root buses are ${this.#roots.map((root) => root.name).join(', ')}.`,
      });
    }
    return found;
  }

  /**
   * At power-on: a bus behind `bridge`, with the number that it declares or the next one of its root bus. Bridges come before virtual functions: a
   * number that a bridge declares, or cannot do without, is kept for these no longer.
   *
   * @throws VfioError EINVAL when the number cannot be there, or none is left
   */
  open(bridge: PciFunction, declared: number | undefined): PciBus {
    const { root } = bridge.bus;
    const next = this.#next.get(root)!;
    const lowest = this.#highestUsed(root) + 1;
    const number = checkIndex(declared ?? (next > this.#last(root) ? lowest : next), MAX_BUS + 1, `${bridge.bdf}: bus`);
    if (number > this.#last(root) || number < lowest) {
      throw new VfioError('EINVAL', `${bridge.bdf}: bus ${hex(number)} cannot be behind it`, {
        fix: `Bus numbers grow depth-first; here ${lowest > this.#last(root) ? 'none is left' : `they are from ${hex(lowest)} to ${hex(this.#last(root))}`}.`,
      });
    }
    for (const bus of this.#buses.values()) if (bus.domain === root.domain) bus.reserved = shrink(bus, number);
    return this.#add(bridge, number);
  }

  /** With the machine running: a bus behind `bridge`, with the lowest number that is free. @throws as `open` */
  plug(bridge: PciFunction, declared: number | undefined): PciBus {
    const { root } = bridge.bus;
    let number = declared === undefined ? root.number + 1 : checkIndex(declared, MAX_BUS, `${bridge.bdf}: bus`);
    while (declared === undefined && number <= this.#last(root) && !this.#isFree(root.domain, number)) number++;
    if (number <= root.number || number > this.#last(root) || !this.#isFree(root.domain, number)) {
      throw new VfioError('EINVAL', `${bridge.bdf}: bus ${hex(number)} cannot be behind it`, {
        fix: declared === undefined ? 'No bus number is left.' : 'Leave `bus` out, and it gets one that is free.',
      });
    }
    return this.#add(bridge, number);
  }

  #add(bridge: PciFunction, number: number): PciBus {
    const bus = new PciBus(bridge.bus.domain, number, bridge);
    bridge.secondary = bus;
    this.#buses.set(keyOf(bus.domain, number), bus);
    this.#keepNext(bus.root, number + 1);
    return bus;
  }

  #keepNext(root: PciBus, next: number): void {
    this.#next.set(root, Math.max(this.#next.get(root)!, next));
  }

  /** At power-on, before anything behind `bus` has a number: those after its own are kept for the virtual functions of its functions. */
  reserve(bus: PciBus): void {
    bus.reserved = Math.min(lastForVirtualFunctions(bus), this.#last(bus.root));
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
    const found = this.#buses.get(keyOf(bus.domain, number));
    if (number > bus.reserved || (found !== undefined && found.continues === null)) {
      throw new VfioError('ENOMEM', `${pf.bdf}: its virtual functions would reach to bus ${hex(number)}, which is not kept for them`, {
        fix: `Enable fewer, or declare no bridge whose \`bus\` is from ${hex(bus.number + 1)} to ${hex(number)}.`,
      });
    }
    if (found !== undefined) return found;
    const made = new PciBus(bus.domain, number, bus.bridge, bus);
    this.#buses.set(keyOf(bus.domain, number), made);
    return made;
  }

  delete(bus: PciBus): void {
    if (this.#buses.get(keyOf(bus.domain, bus.number)) === bus) this.#buses.delete(keyOf(bus.domain, bus.number));
  }

  /** The last number of a root bus: the one before the next root bus of its domain. */
  #last(root: PciBus): number {
    return this.#roots.reduce(
      (last, r) => (r.domain === root.domain && r.number > root.number ? Math.min(last, r.number - 1) : last),
      MAX_BUS,
    );
  }

  #highestUsed(root: PciBus): number {
    return [...this.#buses.values()].reduce((most, bus) => (bus.root === root ? Math.max(most, bus.number) : most), root.number);
  }

  #isFree(domain: number, number: number): boolean {
    return [...this.#buses.values()].every((bus) => bus.domain !== domain || number < bus.number || number > bus.reserved);
  }
}

/** What `bus` may keep when `number` is behind a bridge. */
function shrink(bus: PciBus, number: number): number {
  return bus.number < number && bus.reserved >= number ? number - 1 : bus.reserved;
}

/** The bus number of the last virtual function that the functions of `bus` can have; the bus's own when there is none beyond it. */
function lastForVirtualFunctions(bus: PciBus): number {
  let last = bus.number;
  for (const pf of bus.functions) {
    if (pf.sriov !== null) last = Math.max(last, virtualFunctionAt(pf.address, pf.config, pf.sriov.totalVfs - 1)?.bus ?? last);
  }
  return last;
}
