/**
 * The driver of a virtual function of an 82576: it has queues and interrupts of its own, and asks
 * its physical function for all else by mailbox (7.8.2, 8.26). It speaks to the physical function's
 * driver of this package as to Linux's igb and DPDK's.
 */
import { Ctrl, Ivar, VfReg, Xdctl } from '../../abi/82576.ts';
import {
  MacFilter,
  MESSAGE_INFO_SHIFT,
  Message,
  MessageFlag,
  MULTICAST_HASHES,
  MULTICAST_OVERFLOW,
  Promiscuity,
} from '../../abi/82576-mailbox.ts';
import { VfioError } from '../../base/errno.ts';
import type { DriverDevice } from '../kit/driver-device.ts';
import { isStation, macBytes, macHigh, macLow, macOfWords, macText, multicastHash, stationBytes } from './mac-address.ts';
import { checkGroup, checkVlans, FRAME_OVERHEAD, type PortOptions, settingsOf } from './options.ts';
import { ALL_ONES, Port } from './port.ts';
import { virtualQueue } from './queue-place.ts';
import type { SignalKind } from './signals.ts';
import type { PortStatistics } from './statistics.ts';
import { granted, VirtualMailbox } from './virtual-mailbox.ts';

/** Queue pairs of a virtual function (7.8.2). */
const QUEUES = 2;
const RESET_MS = 1000;

const COUNTERS = {
  VFGPRC: VfReg.VFGPRC,
  VFGPTC: VfReg.VFGPTC,
  VFGORC: VfReg.VFGORC,
  VFGOTC: VfReg.VFGOTC,
  VFMPRC: VfReg.VFMPRC,
  VFGPRLBC: VfReg.VFGPRLBC,
  VFGPTLBC: VfReg.VFGPTLBC,
  VFGORLBC: VfReg.VFGORLBC,
  VFGOTLBC: VfReg.VFGOTLBC,
} as const;
type Counter = keyof typeof COUNTERS;
const counters = Object.keys(COUNTERS) as Counter[];
const perCounter = (value: (name: Counter) => number) =>
  Object.fromEntries(counters.map((name) => [name, value(name)])) as Record<Counter, number>;

/** A virtual function of the card. */
export class VirtualPort extends Port {
  readonly #mailbox: VirtualMailbox;
  readonly #groups = new Map<string, number>();
  #addresses: readonly Uint8Array[] = [];
  #vlans: readonly number[] = [];
  #modes = 0;
  /** The physical function knows this function: it has answered its reset. */
  #known = false;
  #last = perCounter(() => 0);
  readonly #totals = perCounter(() => 0);

  private constructor(dev: DriverDevice, options: PortOptions) {
    const settings = settingsOf(options, QUEUES);
    super(
      dev,
      settings,
      Array.from({ length: settings.queues }, (_, i) => virtualQueue(i)),
    );
    this.#mailbox = new VirtualMailbox(dev, this.registers, settings.timeoutMs);
  }

  /**
   * Take over a virtual function in any state: reset it, and have its physical function admit it.
   * The device is closed with the driver, and when this fails.
   *
   * @throws VfioError EINVAL for an option; ENODEV when nothing answers; EIO when the physical
   *   function does not answer; EPERM when it refuses
   */
  static async start(dev: DriverDevice, options: PortOptions = {}): Promise<VirtualPort> {
    let port: VirtualPort | null = null;
    try {
      port = new VirtualPort(dev, options);
      await port.begin();
      return port;
    } catch (error) {
      if (port === null) dev.close();
      else port[Symbol.dispose]();
      throw error;
    }
  }

  override statistics(): PortStatistics {
    if (this.state === 'live' && !this.dev.asleep) this.#readCounters();
    const { VFGPRC, VFGORC, VFGPTC, VFGOTC, VFMPRC } = this.#totals;
    return {
      receivedFrames: VFGPRC,
      receivedBytes: VFGORC,
      sentFrames: VFGPTC,
      sentBytes: VFGOTC,
      receivedMulticasts: VFMPRC,
      registers: { ...this.#totals },
    };
  }

  override async setMac(mac: string): Promise<void> {
    const bytes = stationBytes(mac);
    await this.ready();
    await this.#setMac(bytes);
  }

  override async addMac(mac: string): Promise<void> {
    const bytes = stationBytes(mac);
    await this.ready();
    if (this.#addresses.some((each) => macText(each) === macText(bytes))) return;
    await this.#ask(`the address ${mac}`, addressMessage(bytes, MacFilter.ADD));
    this.#addresses = [...this.#addresses, bytes];
  }

  override async removeMac(mac: string): Promise<boolean> {
    const text = macText(macBytes(mac));
    await this.ready();
    const left = this.#addresses.filter((each) => macText(each) !== text);
    if (left.length === this.#addresses.length) return false;
    this.#addresses = left;
    // There is no message that removes one.
    await this.#ask('fewer addresses', addressMessage(new Uint8Array(6), MacFilter.CLEAR));
    for (const each of left) await this.#ask(`the address ${macText(each)}`, addressMessage(each, MacFilter.ADD));
    return true;
  }

  override async joinGroup(mac: string): Promise<void> {
    const key = checkGroup(mac);
    await this.ready();
    this.#groups.set(key, (this.#groups.get(key) ?? 0) + 1);
    await this.#sendGroups();
  }

  override async leaveGroup(mac: string): Promise<boolean> {
    const key = checkGroup(mac);
    await this.ready();
    const count = this.#groups.get(key);
    if (count === undefined) return false;
    if (count === 1) this.#groups.delete(key);
    else this.#groups.set(key, count - 1);
    await this.#sendGroups();
    return true;
  }

  override async setPromiscuous(modes: { readonly all?: boolean; readonly groups?: boolean } = {}): Promise<void> {
    await this.ready();
    const info =
      (modes.all === true ? Promiscuity.UNICAST | Promiscuity.MULTICAST : 0) | (modes.groups === true ? Promiscuity.MULTICAST : 0);
    await this.#ask('promiscuity', [Message.SET_PROMISC | (info << MESSAGE_INFO_SHIFT)]);
    this.#modes = info;
  }

  override async setVlans(vlans: readonly number[] | null): Promise<void> {
    checkVlans(vlans ?? []);
    await this.ready();
    const wanted = vlans ?? [];
    for (const vlan of this.#vlans) if (!wanted.includes(vlan)) await this.#askVlan(vlan, false);
    for (const vlan of wanted) if (!this.#vlans.includes(vlan)) await this.#askVlan(vlan, true);
    this.#vlans = [...wanted];
  }

  protected async initialise(): Promise<void> {
    this.#known = false;
    await this.#resetFunction();
    // The resets of the physical function, of which there may have been several, are over.
    if (this.state === 'resetting') this.regain();
    this.#last = perCounter((name) => this.registers.read32(COUNTERS[name]));
    this.#startInterrupts();
    await this.#ask('its longest frame', [Message.SET_LPE, this.settings.mtu + FRAME_OVERHEAD]);
    await this.#restore();
    await this.startQueues(true);
    this.openQueues();
  }

  protected halt(): void {
    this.registers.write32(VfReg.VTEIMC, ALL_ONES);
    this.registers.write32(VfReg.VTCTRL, Ctrl.RST);
  }

  protected readStatus(): number {
    return this.registers.read32(VfReg.STATUS);
  }

  protected intact(): boolean {
    return (this.registers.read32(VfReg.RXDCTL) & Xdctl.ENABLE) !== 0;
  }

  protected tick(): void {
    this.#readCounters();
  }

  protected serveOther(): void {
    const notice = this.#mailbox.takeNotice();
    if (this.#mailbox.partnerReset) {
      this.#partnerLeft('its physical function is being reset');
      return;
    }
    if (notice !== null && this.#known && (notice & MessageFlag.CTS) === 0) {
      this.#partnerLeft('its physical function has new values for it');
      return;
    }
    this.lookAtLink(this.#known);
  }

  arm(_kind: SignalKind, vector: number): void {
    this.registers.write32(VfReg.VTEIMS, 2 ** vector);
  }

  /** A virtual function has MSI-X alone. */
  acknowledge(): void {
    this.registers.read32(VfReg.VTEICR);
  }

  #partnerLeft(reason: string): void {
    if (!this.#known) return;
    this.#known = false;
    this.lookAtLink(false);
    this.listeners.emit({ kind: 'pf-reset' });
    void this.recover(reason);
  }

  /** 7.8.2.4, and the order of Linux's igbvf: reset, wait for the PF, ask for admission. */
  async #resetFunction(): Promise<void> {
    const { registers, dev } = this;
    if (registers.read32(VfReg.STATUS) === ALL_ONES) {
      throw new VfioError('ENODEV', `${dev.name} does not answer: STATUS reads as all ones`);
    }
    registers.write32(VfReg.VTEIMC, ALL_ONES);
    registers.write32(VfReg.VTCTRL, Ctrl.RST);
    await dev
      .until(() => (registers.read32(VfReg.VTCTRL) & Ctrl.RST) === 0, { timeoutMs: RESET_MS })
      .catch((error: unknown) => {
        // Linux and DPDK do not look at the bit, and QEMU's function keeps it.
        if (!(error instanceof VfioError) || error.code !== 'ETIMEDOUT') throw error;
      });
    await this.#mailbox.partnerReady();
    this.#mailbox.clear();
    const answer = await this.#mailbox.request([Message.RESET]);
    if ((answer[0]! & 0xffff) !== Message.RESET) {
      throw new VfioError('EIO', `${dev.name}: the physical function answers a reset with message ${answer[0]! & 0xffff}`);
    }
    this.#known = true;
    const given = macOfWords(answer[1]!, answer[2]!);
    this.address = granted(answer) && isStation(given) ? given : new Uint8Array(6);
  }

  /** All that the physical function has forgotten with the reset. */
  async #restore(): Promise<void> {
    const { mac } = this.settings;
    if (mac !== null) await this.#setMac(mac);
    else if (!isStation(this.address)) await this.#setMac(anyAddress());
    for (const each of this.#addresses) await this.#ask(`the address ${macText(each)}`, addressMessage(each, MacFilter.ADD));
    if (this.#groups.size > 0) await this.#sendGroups();
    for (const vlan of this.#vlans) await this.#askVlan(vlan, true);
    if (this.#modes !== 0) await this.#ask('promiscuity', [Message.SET_PROMISC | (this.#modes << MESSAGE_INFO_SHIFT)]);
  }

  async #setMac(mac: Uint8Array): Promise<void> {
    await this.#ask(`the address ${macText(mac)}`, addressMessage(mac, 0));
    this.address = mac;
  }

  #askVlan(vlan: number, add: boolean): Promise<void> {
    return this.#ask(`VLAN ${vlan}`, [Message.SET_VLAN | ((add ? 1 : 0) << MESSAGE_INFO_SHIFT), vlan]);
  }

  async #sendGroups(): Promise<void> {
    const hashes = [...this.#groups.keys()].map((mac) => multicastHash(macBytes(mac)));
    const sent = hashes.slice(0, MULTICAST_HASHES);
    const info = sent.length | (hashes.length > MULTICAST_HASHES ? MULTICAST_OVERFLOW : 0);
    const words = Array.from({ length: Math.ceil(sent.length / 2) }, (_, i) => sent[2 * i]! | ((sent[2 * i + 1] ?? 0) << 16));
    await this.#ask('its groups', [Message.SET_MULTICAST | (info << MESSAGE_INFO_SHIFT), ...words]);
  }

  async #ask(what: string, message: readonly number[]): Promise<void> {
    const answer = await this.#mailbox.request(message);
    if (granted(answer)) return;
    throw new VfioError('EPERM', `${this.dev.name}: the physical function refuses ${what}`, {
      fix: 'Its driver decides: it can trust this function, or give it the value.',
    });
  }

  #startInterrupts(): void {
    const { registers, signals } = this;
    let ivar = 0;
    for (let i = 0; i < this.receiveQueues.length; i++) {
      const both = signals.vectorOf(i) | Ivar.VALID;
      ivar |= (both | (both << 8)) << (16 * i);
    }
    registers.write32(VfReg.VTIVAR, ivar >>> 0);
    registers.write32(VfReg.VTIVAR_MISC, signals.other | Ivar.VALID);
    const all = 2 ** signals.vectors - 1;
    registers.write32(VfReg.VTEIAC, all);
    registers.write32(VfReg.VTEIAM, all);
  }

  /** The counters run on, and wrap at 2^32 (8.26). */
  #readCounters(): void {
    for (const name of counters) {
      const value = this.registers.read32(COUNTERS[name]);
      this.#totals[name] += (value - this.#last[name]) >>> 0;
      this.#last[name] = value;
    }
  }
}

function addressMessage(mac: Uint8Array, info: number): number[] {
  return [Message.SET_MAC_ADDR | (info << MESSAGE_INFO_SHIFT), macLow(mac), macHigh(mac)];
}

/** A physical function may leave the choice of the address to the function's driver. */
function anyAddress(): Uint8Array {
  const mac = Uint8Array.from({ length: 6 }, () => Math.floor(Math.random() * 256));
  mac[0] = (mac[0]! & 0xfc) | 2;
  return mac;
}
