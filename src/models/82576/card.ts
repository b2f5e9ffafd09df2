/**
 * One 82576: its registers and its rooms, which PF and virtual functions share. It makes the rooms,
 * and is what they ask about functions, queues and resets.
 */
import { Ctrl, I82576_BAR_BYTES, Reg } from '../../abi/82576.ts';
import { EepromWord } from '../../abi/82576-phy.ts';
import type { DeviceHost } from '../../abi/device-host.ts';
import type { Wire } from '../../abi/wire.ts';
import { Eeprom } from './eeprom/eeprom.ts';
import { ReceiveFilter } from './filter/receive-filter.ts';
import { declareGeneral } from './general/general-registers.ts';
import { plainRegisters } from './general/plain-registers.ts';
import { Timers } from './general/timers.ts';
import { Interrupts } from './interrupts/interrupts.ts';
import { FunctionControl } from './mailbox/function-control.ts';
import { Mailbox } from './mailbox/mailbox.ts';
import { type CardPart, type CardPort, type FunctionSide, PF, POOLS, type ResetKind } from './parts.ts';
import { Link } from './phy/link.ts';
import { Phy } from './phy/phy.ts';
import { Port } from './port.ts';
import { WakeUp } from './power/wake-up.ts';
import { RegisterSpace } from './register-space.ts';
import { Rings } from './rings/rings.ts';
import { Statistics } from './statistics/statistics.ts';
import { TransmitSwitch } from './switch/transmit-switch.ts';
import { SystemTime } from './time/system-time.ts';

export interface CardOptions {
  readonly wire: Wire | undefined;
  /** The chip's contents, which outlive the card. */
  readonly eeprom: Uint16Array;
}

export class Card implements CardPort {
  readonly registers = new RegisterSpace(I82576_BAR_BYTES);
  readonly statistics: Statistics;
  readonly interrupts: Interrupts;
  readonly eeprom: Eeprom;
  readonly phy: Phy;
  readonly link: Link;
  readonly port: Port;
  readonly time: SystemTime;
  readonly timers: Timers;
  readonly wake: WakeUp;
  readonly filter: ReceiveFilter;
  readonly switch: TransmitSwitch;
  readonly rings: Rings;
  readonly mailbox: Mailbox;
  readonly #physical: FunctionSide;
  readonly #virtual: (FunctionSide | null)[] = new Array(POOLS).fill(null);
  #virtualFunctions = 0;
  /** Rooms with state beside their registers, in the order of a saved card. */
  readonly parts: readonly CardPart[];
  #dmaOff = false;
  #held = false;

  constructor(host: DeviceHost, { wire, eeprom }: CardOptions) {
    const { registers } = this;
    this.#physical = { index: PF, host };
    this.statistics = new Statistics(registers);
    this.interrupts = new Interrupts(registers, this, host, this.statistics);
    this.eeprom = new Eeprom(registers, eeprom, () => this.#resetRegisters({ kind: 'software' }));
    this.phy = new Phy(registers, this.interrupts);
    this.wake = new WakeUp(registers, host);
    this.port = new Port(wire, registers, this.statistics, this.wake);
    this.link = new Link(registers, host.clock, this.interrupts, this.port, this.phy);
    this.time = new SystemTime(registers, host.clock, this.interrupts);
    this.timers = new Timers(registers, host.clock, () => this.interrupts.tcpTimer());
    declareGeneral(registers, this, {
      softwareReset: () => this.reset({ kind: 'software' }),
      phyReset: () => this.phy.reset(),
      linkControl: () => {
        this.link.macChanged();
        this.#master();
      },
      reloadEeprom: () => this.eeprom.reload(),
      pfResetDone: () => this.mailbox.pfResetDone(),
    });
    registers.declare(plainRegisters);
    const { port, statistics, interrupts } = this;
    this.filter = new ReceiveFilter(registers, {
      rings: { receive: (frame, queues) => this.rings.receive(frame, queues) },
      statistics,
      station: () => this.station(),
      receiveControlChanged: () => this.rings.wake(),
      time: this.time,
      control: { take: (bytes, offset, length) => this.rings.takesControl(bytes, offset, length) },
    });
    this.switch = new TransmitSwitch(registers, { filter: this.filter, mac: port, statistics, interrupts });
    this.rings = new Rings({
      card: this,
      registers,
      port: this.switch,
      interrupts,
      statistics,
      sendControl: (bytes, offset, length) => port.send(bytes, offset, length),
      stamp: () => this.time.transmitted(),
    });
    this.mailbox = new Mailbox(registers, interrupts);
    const control = new FunctionControl(registers, {
      card: this,
      interrupts,
      enablesChanged: () => this.rings.wake(),
      resetFunction: (vf) => this.reset({ kind: 'vf', vf }),
    });
    // Registers of a function's queues have their values before its rings look at them.
    this.parts = [control, this.filter, this.rings, this.mailbox];
    this.phy.connect(this.link);
    this.link.onChange = () => this.wake.linkChanged();
    this.port.connect(this.link, { arrive: (bytes, offset, length) => this.filter.receive(bytes, offset, length) }, () =>
      this.rings.wake(),
    );
    this.interrupts.remap();
  }

  // ---- Functions

  ownerOf(queue: number): FunctionSide | null {
    return this.#virtual[queue % POOLS] ?? this.#physical;
  }

  functionAt(index: number): FunctionSide | null {
    return index === PF ? this.#physical : (this.#virtual[index] ?? null);
  }

  get virtualized(): boolean {
    return this.#virtualFunctions > 0;
  }

  get virtualFunctions(): number {
    return this.#virtualFunctions;
  }

  /** VF `index` is there from now on. Dispose: it is gone. */
  attach(index: number, host: DeviceHost): Disposable {
    const side: FunctionSide = { index, host };
    // Queues that the PF has used are quiet before they reach the memory of the VF.
    this.#resetParts({ kind: 'vf', vf: index });
    this.#virtual[index] = side;
    this.#virtualFunctions++;
    this.rings.functionsChanged();
    this.interrupts.remap();
    return {
      [Symbol.dispose]: () => {
        if (this.#virtual[index] !== side) return;
        // Its queues are quiet before they are the PF's again.
        this.#resetParts({ kind: 'vf', vf: index });
        this.#virtual[index] = null;
        this.#virtualFunctions--;
        this.rings.functionsChanged();
        // It may go while a move has it stand still; who has the queues next does not.
        this.rings.goOn(index);
        this.interrupts.remap();
      },
    };
  }

  /** D3hot: no DMA, and frames only wake (5.6). */
  power(state: 'D0' | 'D3hot'): void {
    this.wake.power(state);
    this.#master();
  }

  /** DMA may begin in D0, while CTRL.GIO_MASTER_DISABLE is clear (8.2.1). */
  #master(): void {
    const off = this.#held || this.wake.asleep || (this.registers.words[Reg.CTRL >>> 2]! & Ctrl.GIO_MASTER_DISABLE) !== 0;
    if (off === this.#dmaOff) return;
    this.#dmaOff = off;
    if (off) this.rings.halt();
    else this.rings.goOn();
  }

  // ---- Migration

  /** No DMA begins while it is held. */
  holdDma(held: boolean): void {
    this.#held = held;
    this.#master();
  }

  /** Time stands still, and no interrupt leaves. @returns nanoseconds left of the TCP timer */
  pause(): number {
    this.interrupts.pause();
    this.link.pause();
    return this.timers.pause();
  }

  goOn(timerNs: number): void {
    this.timers.goOn(timerNs);
    this.link.goOn();
    this.interrupts.goOn();
  }

  /** Registers have changed without a write. */
  refresh(): void {
    this.filter.refresh();
    this.#master();
  }

  // ---- Resets (4.2.1)

  reset(reset: ResetKind): void {
    if (reset.kind === 'vf') {
      this.#resetParts(reset);
      return;
    }
    this.#resetRegisters(reset);
    if (reset.kind === 'device') this.phy.reset();
    this.link.macReset();
    this.#master();
  }

  #resetRegisters(reset: ResetKind): void {
    const kept = reset.kind === 'device' ? this.wake.kept() : [];
    this.registers.reset((row) => reset.kind === 'device' || row.kept !== true);
    for (const [offset, value] of kept) this.registers.words[offset >>> 2] = value;
    this.#resetParts(reset);
  }

  #resetParts(reset: ResetKind): void {
    for (const part of this.parts) part.reset(reset);
    if (reset.kind === 'vf') this.statistics.resetOf(reset.vf);
    else {
      this.timers.stop();
      this.time.reset();
    }
    this.interrupts.reset(reset);
  }

  /** The six bytes of the EEPROM's address. */
  station(): Uint8Array {
    const mac = new Uint8Array(6);
    for (let i = 0; i < 6; i++) mac[i] = (this.eeprom.contents[EepromWord.MAC + (i >>> 1)]! >>> (8 * (i & 1))) & 0xff;
    return mac;
  }

  dispose(): void {
    this.#resetParts({ kind: 'device' });
    this.link.dispose();
    this.port.dispose();
  }
}
