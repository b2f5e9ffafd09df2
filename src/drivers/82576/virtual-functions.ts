/**
 * The physical function's service for its virtual functions: pools of the switch, and answers to
 * the messages that Linux's igbvf, DPDK and this package's own driver send. The administrator
 * decides how many there are (`vfio admin numvfs`); the driver sees them come and go.
 *
 * A virtual function sends and receives once its driver has asked for a reset. Requests before that
 * are refused, as are those of a function that sends nonsense.
 *
 * Longer than 400 lines because requests, resets and the administrator's calls change one state.
 */
import { Dtxswc, I82576_POOLS, Mbvficr, Rctl, Reg, Rplolr, Status, Vmolr, Vmvir, VtCtl } from '../../abi/82576.ts';
import {
  MAILBOX_WORDS,
  MacFilter,
  MESSAGE_INFO,
  MESSAGE_INFO_SHIFT,
  Message,
  MessageFlag,
  MULTICAST_COUNT,
  MULTICAST_HASHES,
  MULTICAST_OVERFLOW,
  Promiscuity,
} from '../../abi/82576-mailbox.ts';
import type { RegisterAccess } from '../../abi/device.ts';
import { checkIndex } from '../../base/check.ts';
import type { Clock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import type { PortListeners } from './events.ts';
import type { Filters } from './filters.ts';
import { isStation, macHigh, macLow, macOfWords, macText, stationBytes } from './mac-address.ts';
import { PhysicalMailbox } from './physical-mailbox.ts';
import { defaultMac, FRAME_STANDARD, newFunction, type ServedFunction, type VirtualFunctionState } from './served-function.ts';
import { VlanPools } from './vlan-pools.ts';

/** Virtual functions that can be served: the last pool is the physical function's. */
export const VFS_MAX = I82576_POOLS - 1;
/** Addresses that one virtual function may have beside its own. */
const ADDRESSES_MAX = 3;
/** VLANs that one virtual function may have: the card has 32 for all. */
const VLANS_MAX = 8;
/** A frame of a virtual function: 64 to 9728 bytes. */
const FRAME_MIN = 64;
const FRAME_MAX = 9728;
/** Seconds after which an answer may be overwritten: its function does not read. */
const UNREAD_TICKS = 2;
/** A function that may not ask is answered this often: else it could keep the driver busy. */
const REFUSALS_MS = 2000;
/** Messages that are answered at one look, of each function: more wait for the next. */
const MESSAGES_MAX = 4;
const POOL_MASK = 0xff;

/** The parts of the port that the service stands on. */
export interface VirtualFunctionsPort {
  readonly registers: RegisterAccess;
  readonly filters: Filters;
  readonly listeners: PortListeners;
  readonly clock: Clock;
  readonly name: string;
  /** The pool of the physical function. */
  readonly pool: number;
  readonly stripVlan: boolean;
  readonly frameMax: number;
  readonly rss: boolean;
  /** The physical function's own address. */
  mac(): Uint8Array;
}

/** The service for virtual functions: `port.virtualFunctions`. */
export class VirtualFunctions {
  readonly #port: VirtualFunctionsPort;
  readonly #mailbox: PhysicalMailbox;
  readonly #vlans: VlanPools;
  readonly #served: ServedFunction[] = Array.from({ length: VFS_MAX }, newFunction);
  readonly #message = new Uint32Array(MAILBOX_WORDS);
  #count = 0;

  /** The driver of the physical function makes it. */
  constructor(port: VirtualFunctionsPort) {
    this.#port = port;
    this.#mailbox = new PhysicalMailbox(port.registers);
    this.#vlans = new VlanPools(port.registers);
  }

  /** Virtual functions that the administrator has enabled. */
  get count(): number {
    return this.#count;
  }

  /** The enabled ones, by index. */
  get all(): readonly VirtualFunctionState[] {
    return this.#served.slice(0, this.#count).map((_, vf) => this.get(vf));
  }

  /** @throws VfioError EINVAL */
  get(vf: number): VirtualFunctionState {
    const served = this.#at(vf);
    return {
      index: vf,
      started: served.clearToSend,
      mac: served.mac === null ? null : macText(served.mac),
      macFixed: served.macFixed,
      vlan: served.vlan,
      vlans: this.#vlans.of(vf),
      spoofCheck: served.spoofCheck,
      trusted: served.trusted,
      requests: served.requests,
      refused: served.refused,
    };
  }

  /**
   * Give function `vf` an address, which it cannot change. Its driver starts anew.
   * @throws VfioError EINVAL; ENOSPC when the card has no room for more addresses
   */
  setMac(vf: number, mac: string): void {
    const served = this.#at(vf);
    const bytes = stationBytes(mac);
    this.#takeAway(bytes, vf);
    this.#useMac(vf, bytes);
    served.macFixed = true;
    this.#restart(vf);
  }

  /**
   * Keep function `vf` to one VLAN: the card inserts and removes the tag.
   *
   * @param vlan 0: the function tags its frames itself
   * @param priority of the tag. Default: 0
   * @throws VfioError EINVAL; ENOSPC when the card has no room for more VLANs
   */
  setVlan(vf: number, vlan: number, priority = 0): void {
    const served = this.#at(vf);
    checkIndex(vlan, 4094, 'vlan');
    served.priority = checkIndex(priority, 7, 'priority');
    if (!this.#vlans.set(vf, vlan === 0 ? [] : [vlan])) throw this.#noVlan(vlan);
    served.vlan = vlan;
    this.#writePool(vf);
    this.#vlansChanged();
    this.#restart(vf);
  }

  /** Check source addresses and VLANs of the function's frames. It is on at the start. */
  setSpoofCheck(vf: number, on: boolean): void {
    this.#at(vf).spoofCheck = on;
    this.#writeSwitch();
  }

  /** Let the function ask for promiscuity, and change an address that was given. Default: off. */
  setTrust(vf: number, on: boolean): void {
    const served = this.#at(vf);
    served.trusted = on;
    if (on || !(served.promiscuous || served.allMulticast)) return;
    served.promiscuous = served.allMulticast = false;
    this.#writePool(vf);
  }

  /** Tell all functions that something has changed: their drivers look at the link. */
  ping(): void {
    for (let vf = 0; vf < this.#count; vf++) this.#ping(vf);
  }

  /**
   * An answer that was not read yet is not overwritten, nor a message that waits: the function
   * would wait for ever.
   */
  #ping(vf: number): void {
    const served = this.#served[vf]!;
    const flags = served.clearToSend ? MessageFlag.CTS : 0;
    const hasToWait = served.unreadTicks > 0 || served.waiting || served.answer !== null;
    served.pingDue = hasToWait || !this.#mailbox.notify(vf, [Message.PF_CONTROL | flags]);
  }

  /** Puts pools into the card, after a reset. Functions have to ask for their resets anew. */
  start(): void {
    const { registers, pool } = this.#port;
    const own = 1 << pool;
    registers.write32(Reg.VT_CTL, (pool << VtCtl.DEF_PL_SHIFT) | VtCtl.RPL_EN);
    registers.write32(Reg.RPLOLR, (Rplolr.STRCRC | (this.#port.stripVlan ? Rplolr.STRVLAN : 0)) >>> 0);
    // A function without buffers must not hold up the others (7.8.3.8).
    registers.write32(Reg.QDE, 0xffff);
    this.#served.forEach((served, vf) => {
      this.#forget(served);
      this.#writePool(vf);
    });
    registers.write32(Reg.VMVIR + 4 * pool, 0);
    registers.write32(Reg.VFRE, own);
    registers.write32(Reg.VFTE, own);
    this.#vlans.restore();
    this.#writeSwitch();
    this.#count = 0;
    this.#mailbox.takeCauses();
    this.#mailbox.takeResets();
    registers.write32(Reg.MBVFIMR, POOL_MASK);
    this.#countFunctions();
  }

  /** No function sends or receives any more. */
  stop(): void {
    this.#port.registers.write32(Reg.VFRE, 0);
    this.#port.registers.write32(Reg.VFTE, 0);
  }

  /** RCTL's bits, and the modes of the physical function's own pool. */
  receiveModes(filters: Filters): number {
    const { registers, pool, frameMax, rss, stripVlan } = this.#port;
    const modes = (filters.promiscuous ? Vmolr.ROPE | Vmolr.MPE : 0) | (filters.allMulticast ? Vmolr.MPE : 0) | (rss ? Vmolr.RSSE : 0);
    const always = Vmolr.AUPE | Vmolr.BAM | Vmolr.ROMPE | Vmolr.LPE | frameMax;
    registers.write32(Reg.VMOLR + 4 * pool, (modes | always | Vmolr.STRCRC | (stripVlan ? Vmolr.STRVLAN : 0)) >>> 0);
    return Rctl.VFE;
  }

  /** @throws VfioError ENOSPC when the card has no room for more VLANs */
  setOwnVlans(vlans: readonly number[]): void {
    const before = this.#vlans.of(this.#port.pool);
    if (!this.#vlans.set(this.#port.pool, vlans)) {
      this.#vlans.set(this.#port.pool, before);
      throw this.#noVlan(vlans.at(-1)!);
    }
    this.#vlansChanged();
  }

  /** Once a second: functions that came or went without a message, and messages that waited. */
  tick(): void {
    this.#countFunctions();
    this.serve();
    this.#served.forEach((served, vf) => {
      if (served.unreadTicks > 0) served.unreadTicks--;
      if (served.pingDue) this.#ping(vf);
    });
    const spoofed = this.#port.registers.read32(Reg.WVBR);
    if (spoofed !== 0 && spoofed !== 0xffff_ffff) this.#port.listeners.emit({ kind: 'vf-spoofed', queues: spoofed });
  }

  /** Resets and messages since the last look (7.8.2.9). */
  serve(): void {
    for (let round = 0; round < MESSAGES_MAX; round++) {
      // In this order: a driver sends its message behind its reset. The reset is seen with the
      // message or before it. Seen after it, the reset would turn the function off again.
      const causes = this.#mailbox.takeCauses();
      const resets = this.#mailbox.takeResets();
      const waiting = this.#served.some((served) => served.waiting || served.answer !== null);
      if (resets === 0 && causes === 0 && !(waiting && round === 0)) return;
      if (resets !== 0) this.#countFunctions();
      this.#served.forEach((served, vf) => {
        if ((resets & (1 << vf)) !== 0) this.#wasReset(vf);
        const hasRead = (causes & (1 << (vf + Mbvficr.VFACK_SHIFT))) !== 0;
        if (hasRead) served.unreadTicks = 0;
        if (served.answer !== null) this.#answer(vf, served.answer);
        if (served.waiting || (causes & (1 << vf)) !== 0) this.#serveMessage(vf);
        else if (hasRead && !served.clearToSend) this.#refuseQuietly(vf);
        if (served.pingDue) this.#ping(vf);
      });
    }
  }

  #countFunctions(): void {
    const status = this.#port.registers.read32(Reg.STATUS);
    if (status === 0xffff_ffff) return;
    const count = (status & Status.IOV_MODE) === 0 ? 0 : (status & Status.NUM_VFS) >>> Status.NUM_VFS_SHIFT;
    if (count === this.#count) return;
    for (let vf = Math.min(count, VFS_MAX); vf < this.#count; vf++) this.#wasReset(vf);
    this.#count = Math.min(count, VFS_MAX);
    this.#port.listeners.emit({ kind: 'vfs', count });
  }

  /** The function is as after power-on: its driver has to ask for its reset. */
  #wasReset(vf: number): void {
    const served = this.#served[vf]!;
    const started = served.clearToSend;
    this.#forget(served);
    this.#enable(vf, false);
    if (served.vlan === 0) this.#vlans.set(vf, []);
    this.#port.filters.removePool(vf);
    this.#vlansChanged();
    this.#hashesChanged();
    this.#writePool(vf);
    if (started) this.#port.listeners.emit({ kind: 'vf-reset', vf });
  }

  #forget(served: ServedFunction): void {
    served.clearToSend = served.waiting = served.promiscuous = served.allMulticast = false;
    served.hashes = [];
    served.addresses = 0;
    served.answer = null;
    served.unreadTicks = 0;
    served.frameMax = FRAME_STANDARD;
    if (!served.macFixed) served.mac = null;
  }

  #serveMessage(vf: number): void {
    const served = this.#served[vf]!;
    served.waiting = !this.#mailbox.read(vf, this.#message);
    if (served.waiting) return;
    const message = this.#message[0]!;
    // Answers of drivers to messages of ours.
    if ((message & (MessageFlag.ACK | MessageFlag.NACK)) !== 0) return;
    served.requests++;
    if ((message & 0xffff) === Message.RESET) {
      this.#answer(vf, this.#reset(vf));
      return;
    }
    if (!served.clearToSend) {
      this.#refuseQuietly(vf, message);
      return;
    }
    const reason = this.#obey(vf, message);
    if (reason !== null) this.#refused(vf, message, reason);
    const flag = reason === null ? MessageFlag.ACK : MessageFlag.NACK;
    this.#answer(vf, [(message | flag | MessageFlag.CTS) >>> 0]);
  }

  /** The function's driver has started: its queues work from now on. */
  #reset(vf: number): number[] {
    const served = this.#served[vf]!;
    this.#wasReset(vf);
    const mac = served.mac ?? defaultMac(this.#port.mac(), vf);
    this.#useMac(vf, mac);
    this.#enable(vf, true);
    served.clearToSend = true;
    this.#writePool(vf);
    this.#port.listeners.emit({ kind: 'vf-started', vf, mac: macText(mac) });
    return [Message.RESET | MessageFlag.ACK, macLow(mac), macHigh(mac)];
  }

  /** @returns null: it is done; or the reason why not */
  #obey(vf: number, message: number): string | null {
    const served = this.#served[vf]!;
    const info = (message & MESSAGE_INFO) >>> MESSAGE_INFO_SHIFT;
    switch (message & 0xffff) {
      case Message.SET_MAC_ADDR:
        return this.#setMacAddress(vf, info);
      case Message.SET_MULTICAST:
        return this.#setMulticast(vf, info);
      case Message.SET_VLAN:
        return this.#setFilteredVlan(vf, info === 1, this.#message[1]! & 0xfff);
      case Message.SET_LPE: {
        const frame = this.#message[1]!;
        if (frame < FRAME_MIN || frame > FRAME_MAX) return `frames of ${frame} bytes`;
        served.frameMax = frame;
        this.#writePool(vf);
        return null;
      }
      case Message.SET_PROMISC: {
        // An untrusted function may turn it off.
        if (info !== 0 && !served.trusted) return 'it is not trusted';
        served.promiscuous = (info & Promiscuity.UNICAST) !== 0;
        served.allMulticast = (info & Promiscuity.MULTICAST) !== 0;
        this.#writePool(vf);
        return null;
      }
      default:
        return 'there is no such request';
    }
  }

  #setMacAddress(vf: number, info: number): string | null {
    const served = this.#served[vf]!;
    const { filters } = this.#port;
    const mac = macOfWords(this.#message[1]!, this.#message[2]!);
    if (info === MacFilter.CLEAR) {
      filters.removePool(vf);
      served.addresses = 0;
      if (served.mac !== null) filters.add(served.mac, vf);
      return null;
    }
    if (!isStation(mac)) return `${macText(mac)} is no address of a station`;
    const own = served.mac !== null && macText(served.mac) === macText(mac);
    if (served.macFixed && !served.trusted && !own) return 'the administrator has given it an address';
    // With the address the function would get the other one's frames, and could send in its name.
    if (!served.trusted && this.#isOfAnother(mac, vf)) return `${macText(mac)} is the address of another function`;
    try {
      if (info === MacFilter.ADD) {
        if (served.addresses >= ADDRESSES_MAX) return `it has ${ADDRESSES_MAX} more addresses already`;
        filters.add(mac, vf);
        served.addresses++;
      } else {
        this.#useMac(vf, mac);
      }
    } catch (error) {
      if (error instanceof VfioError && error.code === 'ENOSPC') return 'the card has no room for more addresses';
      throw error;
    }
    return null;
  }

  #setMulticast(vf: number, info: number): string | null {
    const served = this.#served[vf]!;
    const count = Math.min(info & MULTICAST_COUNT, MULTICAST_HASHES);
    served.hashes = Array.from({ length: count }, (_, i) => (this.#message[1 + (i >>> 1)]! >>> ((i & 1) * 16)) & 0xfff);
    if ((info & MULTICAST_OVERFLOW) !== 0 && served.trusted) served.allMulticast = true;
    this.#hashesChanged();
    this.#writePool(vf);
    return null;
  }

  #setFilteredVlan(vf: number, add: boolean, vlan: number): string | null {
    if (this.#served[vf]!.vlan !== 0) return 'the administrator has given it a VLAN';
    // VLAN 0 is a tag for its priority alone: drivers ask for it, and need no filter.
    if (vlan === 0) return null;
    if (!add) this.#vlans.remove(vlan, vf);
    else if (this.#vlans.of(vf).length >= VLANS_MAX) return `it has ${VLANS_MAX} VLANs already`;
    else if (!this.#vlans.add(vlan, vf)) return 'the card has no room for more VLANs';
    this.#vlansChanged();
    return null;
  }

  /** Addresses of functions whose drivers have not started yet are theirs, too. */
  #isOfAnother(mac: Uint8Array, vf: number): boolean {
    const text = macText(mac);
    if (this.#port.filters.isOfAnother(mac, vf) || macText(this.#port.mac()) === text) return true;
    return this.#served.some((served, other) => other !== vf && macText(served.mac ?? defaultMac(this.#port.mac(), other)) === text);
  }

  /** The administrator gives an address to `vf`: another one that had chosen it loses it. */
  #takeAway(mac: Uint8Array, vf: number): void {
    this.#served.forEach((served, other) => {
      if (other === vf || served.trusted || served.macFixed || !this.#port.filters.remove(mac, other)) return;
      if (served.mac === null || macText(served.mac) !== macText(mac)) return;
      served.mac = null;
      this.#restart(other);
    });
  }

  #useMac(vf: number, mac: Uint8Array): void {
    const served = this.#served[vf]!;
    const { filters } = this.#port;
    if (served.mac !== null) filters.remove(served.mac, vf);
    filters.add(mac, vf);
    served.mac = mac;
  }

  #answer(vf: number, message: number[]): void {
    const served = this.#served[vf]!;
    const written = this.#mailbox.write(vf, message);
    served.answer = written ? null : message;
    if (written) served.unreadTicks = UNREAD_TICKS;
  }

  /** A function that may not ask: now and then an answer has its driver start anew. */
  #refuseQuietly(vf: number, message: number = 0): void {
    const served = this.#served[vf]!;
    const now = this.#port.clock.nowNs();
    if (now - served.refusedAtNs < REFUSALS_MS * 1e6) return;
    served.refusedAtNs = now;
    if (message !== 0) this.#refused(vf, message, 'its driver has not asked for a reset');
    this.#answer(vf, [(message | MessageFlag.NACK) >>> 0]);
  }

  #refused(vf: number, message: number, reason: string): void {
    this.#served[vf]!.refused++;
    const request = Object.entries(Message).find(([, number]) => number === (message & 0xffff))?.[0] ?? `message ${message & 0xffff}`;
    this.#port.listeners.emit({ kind: 'vf-refused', vf, request, reason });
  }

  /** The function's driver starts anew: a message without CTS says so. */
  #restart(vf: number): void {
    const served = this.#served[vf]!;
    if (!served.clearToSend) return;
    served.clearToSend = false;
    this.#ping(vf);
  }

  #enable(vf: number, on: boolean): void {
    const { registers } = this.#port;
    for (const register of [Reg.VFRE, Reg.VFTE]) {
      const value = registers.read32(register);
      registers.write32(register, on ? value | (1 << vf) : value & ~(1 << vf));
    }
  }

  #writePool(vf: number): void {
    const { registers } = this.#port;
    const { frameMax, promiscuous, allMulticast, hashes, vlan, priority } = this.#served[vf]!;
    const modes = (promiscuous ? Vmolr.ROPE : 0) | (allMulticast ? Vmolr.MPE : 0) | (hashes.length > 0 ? Vmolr.ROMPE : 0);
    // A function with a VLAN of the administrator's gets tagged frames alone, without the tag.
    const tags = vlan === 0 ? Vmolr.AUPE : 0;
    registers.write32(Reg.VMOLR + 4 * vf, (modes | tags | Vmolr.BAM | Vmolr.LPE | Vmolr.STRVLAN | Vmolr.STRCRC | frameMax) >>> 0);
    registers.write32(Reg.VMVIR + 4 * vf, vlan === 0 ? 0 : vlan | (priority << 13) | Vmvir.VLANA_DEFAULT);
  }

  #writeSwitch(): void {
    let checked = 0;
    this.#served.forEach((served, vf) => {
      if (served.spoofCheck) checked |= 1 << vf;
    });
    this.#port.registers.write32(Reg.DTXSWC, (Dtxswc.LOOPBACK_EN | checked | (checked << Dtxswc.VLANAS_SHIFT)) >>> 0);
  }

  #vlansChanged(): void {
    this.#port.filters.setVfVlans(this.#vlans.all);
  }

  #hashesChanged(): void {
    this.#port.filters.setVfHashes(this.#served.flatMap((served) => served.hashes));
  }

  #noVlan(vlan: number): VfioError {
    return new VfioError('ENOSPC', `${this.#port.name} has no room for VLAN ${vlan}: its 32 entries are taken`, {
      fix: 'Remove VLANs of other functions.',
    });
  }

  #at(vf: number): ServedFunction {
    return this.#served[checkIndex(vf, VFS_MAX - 1, 'virtual function')]!;
  }
}
