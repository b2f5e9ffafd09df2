/**
 * From a transmit queue to pools and wire (7.10.3.6): the checks of its pool, its tag, and the
 * choice. Without pools every frame goes to the wire.
 */
import { CtrlExt, Dtxctl, Dtxswc, Icr, Reg, Vmvir } from '../../../abi/82576.ts';
import { Stat } from '../../../abi/82576-statistics.ts';
import { Frame } from '../filter/frame.ts';
import type { ReceiveFilter } from '../filter/receive-filter.ts';
import { type InterruptPort, type MacPort, POOLS, type StatisticsPort, type TransmitPort } from '../parts.ts';
import type { RegisterSpace } from '../register-space.ts';
import { sourceHigh, sourceLow } from './pools.ts';

const TAG = 4;

export interface TransmitSwitchPorts {
  readonly filter: ReceiveFilter;
  readonly mac: MacPort;
  readonly statistics: StatisticsPort;
  readonly interrupts: InterruptPort;
}

export class TransmitSwitch implements TransmitPort {
  readonly #registers: RegisterSpace;
  readonly #ports: TransmitSwitchPorts;
  /** Of the frame that is looked at: nothing keeps it across a call of another room. */
  readonly #frame = new Frame();

  constructor(registers: RegisterSpace, ports: TransmitSwitchPorts) {
    this.#registers = registers;
    this.#ports = ports;
    registers.declare([
      { name: 'DTXSWC', offset: Reg.DTXSWC, section: '8.14.9', writable: 0x80ff_ffff },
      { name: 'WVBR', offset: Reg.WVBR, section: '8.14.10', writable: 0, readClears: true },
      { name: 'VMVIR', offset: Reg.VMVIR, count: POOLS, section: '8.14.11', writable: Vmvir.PORT_VLAN | Vmvir.VLANA },
    ]);
  }

  get ready(): boolean {
    return this.#ports.mac.ready;
  }

  transmit(queue: number, bytes: Uint8Array, offset: number, length: number, vlan: number): void {
    const { filter, mac } = this.#ports;
    if (!filter.pooled) {
      if (vlan < 0) mac.send(bytes, offset, length);
      else mac.send(bytes, this.#insert(bytes, offset, vlan), length + TAG);
      return;
    }
    const pool = queue % POOLS;
    const vmvir = this.#registers.words[(Reg.VMVIR >>> 2) + pool]!;
    const forced = (vmvir & Vmvir.VLANA_DEFAULT) !== 0;
    // VMVIR puts every frame into one VLAN, or forbids the descriptor to (8.14.11).
    const tag = forced ? vmvir & Vmvir.PORT_VLAN : (vmvir & Vmvir.VLANA_NEVER) !== 0 ? -1 : vlan;
    if (!this.#parse(bytes, offset, length) || this.#spoofs(pool, forced ? -1 : tag)) {
      this.#refuse(queue);
      return;
    }
    if (tag < 0) this.#switch(pool, bytes, offset, length);
    else {
      const start = this.#insert(bytes, offset, tag);
      this.#parse(bytes, start, length + TAG);
      this.#switch(pool, bytes, start, length + TAG);
    }
  }

  #parse(bytes: Uint8Array, offset: number, length: number): boolean {
    const { tagType, outerType } = this.#ports.filter.vlans;
    return this.#frame.parseLink(bytes, offset, length, tagType, outerType);
  }

  /** @returns where the frame begins with its tag, which stands behind an outer one */
  #insert(bytes: Uint8Array, offset: number, tag: number): number {
    const { words } = this.#registers;
    const start = offset - TAG;
    const addresses = (words[Reg.CTRL_EXT >>> 2]! & CtrlExt.EXT_VLAN) === 0 ? 12 : 16;
    bytes.copyWithin(start, offset, offset + addresses);
    const type = words[Reg.VET >>> 2]!;
    bytes[start + addresses] = type >>> 8;
    bytes[start + addresses + 1] = type;
    bytes[start + addresses + 2] = tag >>> 8;
    bytes[start + addresses + 3] = tag;
    return start;
  }

  /** Whether a frame claims an address or a VLAN that its pool does not have (7.10.3.9.2). */
  #spoofs(pool: number, inserted: number): boolean {
    const { filter } = this.#ports;
    const checks = this.#registers.words[Reg.DTXSWC >>> 2]! >>> pool;
    const bit = 1 << pool;
    if ((checks & 1) !== 0 && (filter.addresses.match(sourceLow(this.#frame), sourceHigh(this.#frame)) & bit) === 0) return true;
    if ((checks & (1 << Dtxswc.VLANAS_SHIFT)) === 0) return false;
    // A tag within a tag counts, too: a receiver may take off the outer one.
    return (
      (inserted >= 0 && (filter.vlans.group(inserted) & bit) === 0) ||
      (this.#frame.tag >= 0 && (filter.vlans.group(this.#frame.tag) & bit) === 0)
    );
  }

  #refuse(queue: number): void {
    const { words } = this.#registers;
    this.#ports.statistics.count(Stat.SSVPC);
    words[Reg.WVBR >>> 2]! |= 1 << queue;
    if ((words[Reg.DTXCTL >>> 2]! & Dtxctl.SPOOF_INT) !== 0) this.#ports.interrupts.cause(Icr.DOUTSYNC);
  }

  #switch(pool: number, bytes: Uint8Array, offset: number, length: number): void {
    const { filter, mac, statistics } = this.#ports;
    let targets = 0;
    let inexact = false;
    let toWire = true;
    if ((this.#registers.words[Reg.DTXSWC >>> 2]! & Dtxswc.LOOPBACK_EN) !== 0) {
      targets = filter.pools.fromPool(this.#frame, pool);
      ({ inexact, toWire } = filter.pools);
    }
    if (toWire) {
      statistics.poolTransmitted(pool, length, false);
      mac.send(bytes, offset, length);
    }
    if (targets === 0) return;
    statistics.poolTransmitted(pool, length, true);
    filter.loop(bytes, offset, length, targets, inexact);
  }
}
