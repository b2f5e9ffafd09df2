/**
 * The driver of a physical function of an 82576: reset and initialisation (4.6), interrupts, link,
 * filters, counters. Virtual functions are served by `VirtualFunctions`.
 */
import {
  Ctrl,
  CtrlExt,
  Eecd,
  Eicr,
  Gpie,
  I82576_POOLS,
  I82576_QUEUES,
  Icr,
  Ivar,
  QUEUE_STRIDE,
  Rah,
  Rctl,
  Reg,
  Status,
  Tctl,
  Xdctl,
} from '../../abi/82576.ts';
import { EepromWord } from '../../abi/82576-phy.ts';
import { VfioError } from '../../base/errno.ts';
import type { DriverDevice } from '../kit/driver-device.ts';
import { Filters } from './filters.ts';
import { startFlowControl, startReceiver } from './initialisation.ts';
import { isStation, macBytes, macOfWords, stationBytes } from './mac-address.ts';
import { Media } from './media.ts';
import { checkGroup, checkVlans, FRAME_OVERHEAD, type PortOptions, settingsOf } from './options.ts';
import { ALL_ONES, Port } from './port.ts';
import { physicalQueue } from './queue-place.ts';
import type { SignalKind } from './signals.ts';
import { type PortStatistics, Statistics } from './statistics.ts';
import { VirtualFunctions } from './virtual-functions.ts';

/** The pool, and the first queue, of a physical function that serves virtual functions. */
export const OWN_POOL = I82576_POOLS - 1;
/** Queues of a pool (7.8.2). */
const POOL_QUEUES = 2;
/** How long DMA under way may take (4.2.1.6.1), a reset, and the read of the EEPROM after it. */
const MASTER_MS = 100;
const RESET_MS = 1000;
const AUTO_READ_MS = 20;
/** A port of the card: `Port`, and what only a physical function has. */
export class PhysicalPort extends Port {
  readonly #filters: Filters;
  readonly #media: Media;
  readonly #statistics: Statistics;
  /** Hardware's number of the driver's queue 0. */
  readonly #firstQueue: number;
  readonly #virtualFunctions: VirtualFunctions | null;
  #permanent: Uint8Array = new Uint8Array(6);

  private constructor(dev: DriverDevice, options: PortOptions) {
    const virtual = options.virtualFunctions === true;
    const settings = settingsOf(options, virtual ? POOL_QUEUES : I82576_QUEUES);
    const numbers = Array.from({ length: settings.queues }, (_, i) => (virtual ? OWN_POOL + i * I82576_POOLS : i));
    super(dev, settings, numbers.map(physicalQueue));
    this.#firstQueue = numbers[0]!;
    this.#filters = new Filters(this.registers, dev.name, virtual ? OWN_POOL : -1);
    this.#media = new Media(dev, this.registers);
    this.#statistics = new Statistics(this.registers, numbers);
    this.#virtualFunctions = virtual
      ? new VirtualFunctions({
          registers: this.registers,
          filters: this.#filters,
          listeners: this.listeners,
          clock: dev.clock,
          name: dev.name,
          pool: OWN_POOL,
          stripVlan: settings.stripVlan,
          frameMax: this.#frameMax,
          rss: settings.rssFields !== 0,
          mac: () => this.address,
        })
      : null;
  }

  /**
   * Take over a port in any state: reset it and start it. The device is closed with the driver, and
   * when this fails.
   *
   * @throws VfioError EINVAL for an option; ENODEV when nothing answers; EIO for a card that does
   *   not start; ENOSPC without the interrupts that were asked for
   */
  static async start(dev: DriverDevice, options: PortOptions = {}): Promise<PhysicalPort> {
    let port: PhysicalPort | null = null;
    try {
      port = new PhysicalPort(dev, options);
      await port.begin();
      return port;
    } catch (error) {
      if (port === null) dev.close();
      else port[Symbol.dispose]();
      throw error;
    }
  }

  /** The address that the EEPROM has, whatever address is in use. */
  get permanentMac(): string {
    return [...this.#permanent].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
  }

  /**
   * The virtual functions, which the driver serves.
   * @throws VfioError EOPNOTSUPP without the option `virtualFunctions`
   */
  get virtualFunctions(): VirtualFunctions {
    if (this.#virtualFunctions !== null) return this.#virtualFunctions;
    throw new VfioError('EOPNOTSUPP', `the driver of ${this.dev.name} does not serve virtual functions`, {
      fix: 'Start the port with virtualFunctions: true.',
    });
  }

  override statistics(): PortStatistics {
    if (this.state === 'live' && !this.dev.asleep) this.#statistics.read();
    return this.#statistics.all;
  }

  override async setMac(mac: string): Promise<void> {
    const bytes = stationBytes(mac);
    await this.ready();
    this.address = bytes;
    this.#filters.setOwn(bytes);
  }

  override async addMac(mac: string): Promise<void> {
    const bytes = stationBytes(mac);
    await this.ready();
    this.#filters.add(bytes);
  }

  override async removeMac(mac: string): Promise<boolean> {
    await this.ready();
    return this.#filters.remove(macBytes(mac));
  }

  override async joinGroup(mac: string): Promise<void> {
    checkGroup(mac);
    await this.ready();
    this.#filters.join(mac);
  }

  override async leaveGroup(mac: string): Promise<boolean> {
    checkGroup(mac);
    await this.ready();
    return this.#filters.leave(mac);
  }

  override async setPromiscuous(modes: { readonly all?: boolean; readonly groups?: boolean } = {}): Promise<void> {
    await this.ready();
    this.#filters.setModes(modes.all ?? false, modes.groups ?? false);
    this.#writeReceiveControl();
  }

  override async setVlans(vlans: readonly number[] | null): Promise<void> {
    checkVlans(vlans ?? []);
    await this.ready();
    this.#virtualFunctions?.setOwnVlans(vlans ?? []);
    this.#filters.setVlans(vlans);
    this.#writeReceiveControl();
  }

  /** A word of the EEPROM. @throws VfioError EIO */
  async eepromWord(address: number): Promise<number> {
    await this.ready();
    return this.#media.eepromWord(address);
  }

  /** Whether the checksum of the EEPROM is right; null: the card has none. @throws VfioError EIO */
  async eepromGood(): Promise<boolean | null> {
    await this.ready();
    return this.#media.eepromGood();
  }

  /** A register of the PHY (8.25). @throws VfioError EIO */
  async readPhy(register: number): Promise<number> {
    await this.ready();
    return this.#media.readPhy(register);
  }

  /** The PHY sends frames back, and the wire sees none. A reset ends it. @throws VfioError EIO */
  async setLoopback(on: boolean): Promise<void> {
    await this.ready();
    await this.#media.setLoopback(on, this.settings.flowControl);
    this.lookAtLink();
  }

  /**
   * Turn the link off, or on again: the partner sees it. A reset turns it on.
   * @throws VfioError EIO
   */
  async setLink(on: boolean): Promise<void> {
    await this.ready();
    await this.#media.power(on);
  }

  protected async initialise(): Promise<void> {
    const { registers } = this;
    await this.#resetCard();
    this.#statistics.drop();
    this.#permanent = await this.#readMac();
    if (this.address.every((byte) => byte === 0)) this.address = this.settings.mac ?? this.#permanent;
    this.#filters.setOwn(this.address);
    this.#filters.restore();
    const ctrl = registers.read32(Reg.CTRL) & ~(Ctrl.FRCSPD | Ctrl.FRCDPLX | Ctrl.VME | Ctrl.RFCE | Ctrl.TFCE);
    registers.write32(Reg.CTRL, (ctrl | Ctrl.SLU | (this.settings.stripVlan ? Ctrl.VME : 0)) >>> 0);
    startFlowControl(registers);
    startReceiver(registers, this.settings, this.#virtualFunctions !== null);
    this.#virtualFunctions?.start();
    this.#startInterrupts();
    await this.startQueues(this.#virtualFunctions !== null);
    registers.write32(Reg.TCTL, Tctl.EN | Tctl.PSP | (15 << Tctl.CT_SHIFT) | (64 << Tctl.BST_SHIFT) | Tctl.RTLC);
    this.#writeReceiveControl();
    this.openQueues();
    registers.write32(Reg.CTRL_EXT, (registers.read32(Reg.CTRL_EXT) | CtrlExt.DRV_LOAD | CtrlExt.PFRSTD) >>> 0);
    await this.#media.negotiate(this.settings.flowControl);
  }

  protected halt(): void {
    const { registers } = this;
    registers.write32(Reg.IMC, ALL_ONES);
    registers.write32(Reg.EIMC, ALL_ONES);
    registers.write32(Reg.RCTL, 0);
    registers.write32(Reg.TCTL, Tctl.PSP);
    this.#virtualFunctions?.stop();
    registers.write32(Reg.CTRL_EXT, registers.read32(Reg.CTRL_EXT) & ~(CtrlExt.DRV_LOAD | CtrlExt.PFRSTD));
  }

  protected readStatus(): number {
    return this.registers.read32(Reg.STATUS);
  }

  protected intact(): boolean {
    const receives = (this.registers.read32(Reg.RCTL) & Rctl.RXEN) !== 0;
    return receives && (this.registers.read32(Reg.RXDCTL + this.#firstQueue * QUEUE_STRIDE) & Xdctl.ENABLE) !== 0;
  }

  protected tick(): void {
    this.#statistics.read();
    this.#virtualFunctions?.tick();
  }

  protected serveOther(): void {
    const causes = this.signals.kind === 'msix' ? this.registers.read32(Reg.ICR) : 0;
    if (causes === ALL_ONES) return;
    const before = this.link.up;
    this.lookAtLink();
    if (this.link.up && !before) void this.#agreePauses();
    if (this.link.up !== before) this.#virtualFunctions?.ping();
    this.#virtualFunctions?.serve();
  }

  arm(kind: SignalKind, vector: number): void {
    if (kind === 'msix') {
      this.registers.write32(Reg.EIMS, 2 ** vector);
      if (vector !== this.signals.other) return;
      this.registers.write32(Reg.IMS, this.#otherCauses);
      return;
    }
    const queues = this.awaited(-1) ? Icr.RXDW | Icr.TXDW | Icr.RXO | Icr.RXDMT0 : 0;
    this.registers.write32(Reg.IMS, this.#otherCauses | queues);
  }

  acknowledge(): void {
    this.registers.read32(Reg.ICR);
    this.registers.write32(Reg.IMC, ALL_ONES);
  }

  get #frameMax(): number {
    return this.settings.mtu + FRAME_OVERHEAD;
  }

  get #otherCauses(): number {
    return Icr.LSC | Icr.DOUTSYNC | (this.#virtualFunctions === null ? 0 : Icr.VMMB);
  }

  /** 4.6.2, 4.2.1.6.1: interrupts off, DMA off, reset, EEPROM read, interrupts off. */
  async #resetCard(): Promise<void> {
    const { registers, dev } = this;
    if (registers.read32(Reg.STATUS) === ALL_ONES) {
      throw new VfioError('ENODEV', `${dev.name} does not answer: STATUS reads as all ones`);
    }
    this.#maskAll();
    registers.write32(Reg.RCTL, 0);
    registers.write32(Reg.TCTL, Tctl.PSP);
    registers.write32(Reg.CTRL, (registers.read32(Reg.CTRL) | Ctrl.GIO_MASTER_DISABLE) >>> 0);
    // A card that goes on is reset all the same.
    await this.#settles(() => (registers.read32(Reg.STATUS) & Status.GIO_MASTER_EN) === 0, MASTER_MS);
    registers.write32(Reg.CTRL, ((registers.read32(Reg.CTRL) & ~Ctrl.GIO_MASTER_DISABLE) | Ctrl.RST) >>> 0);
    if (!(await this.#settles(() => (registers.read32(Reg.CTRL) & Ctrl.RST) === 0, RESET_MS))) {
      throw new VfioError('EIO', `${dev.name} does not end its reset within ${RESET_MS} ms: CTRL.RST stays set`);
    }
    // A card without an EEPROM, and QEMU's, never set the bit.
    await this.#settles(() => (registers.read32(Reg.EECD) & Eecd.AUTO_RD) !== 0, AUTO_READ_MS);
    this.#maskAll();
    registers.read32(Reg.ICR);
  }

  #maskAll(): void {
    this.registers.write32(Reg.IMC, ALL_ONES);
    this.registers.write32(Reg.EIMC, ALL_ONES);
  }

  async #settles(condition: () => boolean, timeoutMs: number): Promise<boolean> {
    if (condition()) return true;
    try {
      await this.dev.until(condition, { timeoutMs });
      return true;
    } catch (error) {
      if (error instanceof VfioError && error.code === 'ETIMEDOUT') return false;
      throw error;
    }
  }

  /** RAL0 and RAH0 have the EEPROM's address after a reset (6.2.1). */
  async #readMac(): Promise<Uint8Array> {
    const high = this.registers.read32(Reg.RAH);
    const mac = macOfWords(this.registers.read32(Reg.RAL), high);
    if ((high & Rah.AV) !== 0 && isStation(mac)) return mac;
    const words = [];
    for (let i = 0; i < 3; i++) words.push(await this.#media.eepromWord(EepromWord.MAC + i));
    const read = macOfWords(words[0]! | (words[1]! << 16), words[2]!);
    if (isStation(read) || this.settings.mac !== null) return read;
    throw new VfioError('EIO', `${this.dev.name} has no address: neither RAL0 nor its EEPROM has one`, {
      fix: 'Start the port with an address: mac.',
    });
  }

  async #agreePauses(): Promise<void> {
    try {
      const pauses = await this.#media.agreedPauses();
      if (this.state !== 'live') return;
      const ctrl = this.registers.read32(Reg.CTRL) & ~(Ctrl.RFCE | Ctrl.TFCE);
      this.registers.write32(Reg.CTRL, (ctrl | pauses) >>> 0);
    } catch (error) {
      // A PHY that does not answer agrees to no pauses. The tick finds a card that is gone.
      if (!(error instanceof VfioError)) throw error;
    }
  }

  #writeReceiveControl(): void {
    const filters = this.#filters;
    const long = this.#virtualFunctions !== null || this.settings.mtu > 1500;
    const pools = this.#virtualFunctions?.receiveModes(filters) ?? 0;
    this.registers.write32(Reg.RCTL, Rctl.RXEN | Rctl.BAM | Rctl.SECRC | Rctl.DPF | (long ? Rctl.LPE : 0) | filters.control | pools);
  }

  /** 7.3.1.3: a vector for each queue pair while there are enough, and the last for the rest. */
  #startInterrupts(): void {
    const { registers, signals } = this;
    const msix = signals.kind === 'msix';
    registers.write32(Reg.GPIE, msix ? (Gpie.MULTIPLE_MSIX | Gpie.EIAME | Gpie.PBA_SUPPORT | Gpie.NSICR) >>> 0 : Gpie.NSICR);
    const ivar = new Uint32Array(I82576_POOLS);
    this.receiveQueues.forEach((_, i) => {
      const number = this.#firstQueue + (this.#virtualFunctions === null ? i : i * I82576_POOLS);
      const both = signals.vectorOf(i) | Ivar.VALID;
      ivar[number % I82576_POOLS]! |= (both | (both << 8)) << (number < I82576_POOLS ? 0 : 16);
    });
    ivar.forEach((value, i) => {
      registers.write32(Reg.IVAR0 + 4 * i, value);
    });
    registers.write32(Reg.IVAR_MISC, (signals.other | Ivar.VALID) << 8);
    if (!msix) {
      // IMS alone enables nothing while the other causes are masked here (8.8.3).
      registers.write32(Reg.EIMS, Eicr.OTHER);
      return;
    }
    const all = 2 ** signals.vectors - 1;
    registers.write32(Reg.EIAC, all);
    registers.write32(Reg.EIAM, all);
  }
}
