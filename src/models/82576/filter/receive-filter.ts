/**
 * From a frame to queues (7.1.1 to 7.1.3): the filters of the port, the pools of the switch, the
 * hash, and all that the descriptor reports about the frame.
 *
 *     wire ─► length ─► address, VLAN ─► pools ─► queue filters, hash ─► rings
 *     pool ─────────────────────────────┘
 */

import {
  Ctrl,
  I82576_FRAME_MAX,
  Mrqc,
  Rctl,
  RETA_ENTRIES,
  Reg,
  Rfctl,
  Rplolr,
  Rxcsum,
  Tsyncctl,
  Vmolr,
  VtCtl,
} from '../../../abi/82576.ts';
import { RxStatus } from '../../../abi/82576-descriptors.ts';
import { Stat } from '../../../abi/82576-statistics.ts';
import { MAX_FRAME } from '../../../abi/wire.ts';
import { type CardPart, POOLS, type ReceivedFrame, type ReceivePort, type StatisticsPort, type TimePort } from '../parts.ts';
import type { RegisterSpace } from '../register-space.ts';
import { Pools } from '../switch/pools.ts';
import { AddressFilter } from './address-filter.ts';
import { checkSums } from './checksums.ts';
import { frameCheckSequence } from './crc.ts';
import { Frame, L4 } from './frame.ts';
import { fragmentOrPacketSum, headerLength, packetType } from './packet-report.ts';
import { NO_QUEUE, QueueFilters } from './queue-filters.ts';
import { RSS_KEY_BYTES, RssHash } from './rss.ts';
import { hashFrame } from './rss-type.ts';
import { VlanFilter } from './vlan-filter.ts';

/** The shortest frame, and the longest without tags, without frame check sequence (IEEE 802.3). */
const SHORTEST = 60;
const LONGEST = 1514;
const FCS = 4;
/** The header of a precision time message (IEEE 1588, 13.3). */
const TIME_MESSAGE = 34;
const TAG = 4;

/** Frames that the port itself takes, and passes to no queue: PAUSE (IEEE 802.3, 31B). */
export interface ControlFrames {
  /** @returns whether the frame was one, and ends here */
  take(bytes: Uint8Array, offset: number, length: number): boolean;
}

export interface ReceiveFilterPorts {
  readonly rings: ReceivePort;
  readonly statistics: StatisticsPort;
  /** The six bytes of the EEPROM's address. */
  station(): Uint8Array;
  /** RCTL was written: a receiver that is on now takes what waits in the packet buffer. */
  receiveControlChanged(value: number): void;
  /** Default: no frame is stamped. */
  readonly time?: Pick<TimePort, 'received'>;
  /** Default: the port has no flow control. */
  readonly control?: ControlFrames;
}

/** A frame on its way: one for each frame that is on its way at once. */
class Passage {
  readonly frame = new Frame();
  readonly padded = new Uint8Array(SHORTEST);
  readonly received: ReceivedFrame = {
    bytes: this.padded,
    offset: 0,
    length: 0,
    looped: false,
    vlan: -1,
    vlanOffset: 12,
    packetType: 0,
    rssType: 0,
    rssHash: 0,
    status: 0,
    errors: 0,
    headerLength: 0,
  };
  /** The frame with its frame check sequence, for queues that do not strip that. */
  checked: Uint8Array | null = null;
}

export class ReceiveFilter implements CardPart {
  readonly addresses: AddressFilter;
  readonly vlans: VlanFilter;
  readonly pools: Pools;
  readonly #registers: RegisterSpace;
  readonly #ports: ReceiveFilterPorts;
  readonly #queueFilters: QueueFilters;
  readonly #hash = new RssHash();
  /** RSSRK has changed since the tables of the hash were made. */
  #newKey = true;
  /** A frame that a driver sends when its interrupt comes may arrive while another one is here. */
  readonly #passages: Passage[] = [];
  #depth = 0;

  constructor(registers: RegisterSpace, ports: ReceiveFilterPorts) {
    this.#registers = registers;
    this.#ports = ports;
    registers.declare([
      { name: 'RCTL', offset: Reg.RCTL, section: '8.10.1', write: (_, value) => ports.receiveControlChanged(value) },
      { name: 'PSRTYPE', offset: Reg.PSRTYPE, count: POOLS, section: '8.10.3' },
      { name: 'RXCSUM', offset: Reg.RXCSUM, section: '8.10.19', reset: Rxcsum.IPOFLD | Rxcsum.TUOFLD, writable: 0x3bff },
      { name: 'RLPML', offset: Reg.RLPML, section: '8.10.20', reset: I82576_FRAME_MAX, writable: 0x3fff },
      { name: 'RFCTL', offset: Reg.RFCTL, section: '8.10.21' },
      { name: 'MRQC', offset: Reg.MRQC, section: '8.10.16' },
      { name: 'RETA', offset: Reg.RETA, count: RETA_ENTRIES / 4, section: '8.10.17' },
      {
        name: 'RSSRK',
        offset: Reg.RSSRK,
        count: RSS_KEY_BYTES / 4,
        section: '8.10.18',
        write: () => {
          this.#newKey = true;
        },
      },
    ]);
    this.addresses = new AddressFilter(registers, () => ports.station());
    this.vlans = new VlanFilter(registers);
    this.pools = new Pools(registers, this.addresses, this.vlans);
    this.#queueFilters = new QueueFilters(registers);
  }

  reset(): void {
    this.refresh();
  }

  /** After registers have changed without a write: a reset, a migration. */
  refresh(): void {
    this.#newKey = true;
    this.addresses.refresh();
    this.vlans.refresh();
    this.#queueFilters.refresh();
  }

  /** Queues belong to pools (MRQC, 7.10.2). */
  get pooled(): boolean {
    const mode = this.#registers.words[Reg.MRQC >>> 2]! & Mrqc.ENABLE;
    return mode === Mrqc.VMDQ || mode === Mrqc.VMDQ_RSS;
  }

  /** A frame arrives from the wire, or from the port's own transmitter in loopback. */
  receive(bytes: Uint8Array, offset: number, length: number): void {
    const { words } = this.#registers;
    if ((words[Reg.RCTL >>> 2]! & Rctl.RXEN) === 0) return;
    if (this.#ports.control?.take(bytes, offset, length) === true) return;
    const passage = this.#enter();
    try {
      this.#receive(passage, bytes, offset, length);
    } finally {
      this.#depth--;
    }
  }

  #receive(passage: Passage, bytes: Uint8Array, offset: number, length: number): void {
    const { frame } = passage;
    if (!this.#parse(passage, bytes, offset, length) || !this.#fits(frame)) return;
    const queues = this.#pass(passage);
    if (queues !== 0) this.#ports.statistics.received(frame.bytes, frame.start, frame.end - frame.start);
  }

  /** @returns the queues that took it */
  #pass(passage: Passage): number {
    const { frame } = passage;
    if (!this.vlans.accepts(frame.tag)) return 0;
    if (this.pooled) {
      const pools = this.pools.fromWire(frame);
      return pools === 0 ? 0 : this.#toPools(passage, pools, false, this.pools.inexact);
    }
    const exact = this.addresses.match(frame.low, frame.high) !== 0;
    return exact || this.#acceptsInexactly(frame) ? this.#toQueue(passage, !exact) : 0;
  }

  /** A frame of a pool of this card, to pools that the switch has chosen (7.10.3.6). */
  loop(bytes: Uint8Array, offset: number, length: number, pools: number, inexact: boolean): void {
    if ((this.#registers.words[Reg.RCTL >>> 2]! & Rctl.RXEN) === 0) return;
    const passage = this.#enter();
    try {
      if (this.#parse(passage, bytes, offset, length)) this.#toPools(passage, pools, true, inexact);
    } finally {
      this.#depth--;
    }
  }

  #enter(): Passage {
    const passage = this.#passages[this.#depth] ?? new Passage();
    this.#passages[this.#depth++] = passage;
    return passage;
  }

  /** @returns false for less than a header, which is counted */
  #parse({ frame, padded }: Passage, bytes: Uint8Array, offset: number, length: number): boolean {
    const { tagType, outerType } = this.vlans;
    if (length >= SHORTEST) return frame.parseLink(bytes, offset, length, tagType, outerType);
    if (length < 14) {
      this.#ports.statistics.count(Stat.RUC);
      return false;
    }
    // Taps and sockets carry frames without the padding of a transmitter (IEEE 802.3, 3.2.8).
    padded.fill(0);
    for (let i = 0; i < length; i++) padded[i] = bytes[offset + i]!;
    return frame.parseLink(padded, 0, SHORTEST, tagType, outerType);
  }

  /** Whether the port takes a frame of this length (7.1.3). */
  #fits(frame: Frame): boolean {
    const { words } = this.#registers;
    const rctl = words[Reg.RCTL >>> 2]!;
    const length = frame.end - frame.start;
    const fits = (rctl & Rctl.LPE) === 0 ? length <= longest(frame) : length + FCS <= words[Reg.RLPML >>> 2]!;
    if (length + FCS <= I82576_FRAME_MAX && (fits || (rctl & Rctl.SBP) !== 0)) return true;
    this.#ports.statistics.count(Stat.ROC);
    return false;
  }

  /** Without an exact match: promiscuity and hash tables (7.1.2.1). */
  #acceptsInexactly(frame: Frame): boolean {
    const rctl = this.#registers.words[Reg.RCTL >>> 2]!;
    if (frame.broadcast && (rctl & Rctl.BAM) !== 0) return true;
    if ((rctl & (frame.multicast ? Rctl.MPE : Rctl.UPE)) !== 0) return true;
    return this.addresses.hashed(frame.multicast ? Reg.MTA : Reg.UTA, frame.high);
  }

  #toQueue(passage: Passage, inexact: boolean): number {
    const { words } = this.#registers;
    const { frame, received } = passage;
    this.#report(passage, false, inexact && this.#isByHash(frame));
    let queue = this.#queueFilters.byEtherType(frame);
    if (queue === NO_QUEUE) queue = this.#queueFilters.byPacket(frame);
    if (this.#queueFilters.etherType >= 0) this.#reportEtherType(received);
    this.#stamp(passage);
    if (queue === NO_QUEUE) {
      const mrqc = words[Reg.MRQC >>> 2]!;
      // A frame without a hash goes to the default queue (7.1.1.1).
      queue = (mrqc & Mrqc.ENABLE) === Mrqc.RSS && passage.received.rssType !== 0 ? this.#indirect(passage) : (mrqc & Mrqc.DEF_Q) >>> 3;
    }
    const strips = (words[Reg.CTRL >>> 2]! & Ctrl.VME) !== 0;
    return this.#deliver(passage, queue, strips, (words[Reg.RCTL >>> 2]! & Rctl.SECRC) !== 0);
  }

  /** PIF says that software must look: a promiscuous port takes all, and says nothing (7.1.5). */
  #isByHash(frame: Frame): boolean {
    const rctl = this.#registers.words[Reg.RCTL >>> 2]!;
    return !frame.broadcast && (rctl & (frame.multicast ? Rctl.MPE : Rctl.UPE)) === 0;
  }

  #toPools(passage: Passage, pools: number, looped: boolean, inexact: boolean): number {
    const { words } = this.#registers;
    const { frame, received } = passage;
    this.#report(passage, looped, inexact);
    const queue = this.#queueFilters.byEtherType(frame);
    if (this.#queueFilters.etherType >= 0) this.#reportEtherType(received);
    if (!looped) this.#stamp(passage);
    // An EtherType filter has the last word over the pools, but not over VFRE (7.10.3.5).
    const targets = queue === NO_QUEUE ? pools : (1 << (queue % POOLS)) & words[Reg.VFRE >>> 2]!;
    const high = this.#hashSelectsSecondQueue(passage);
    const replication = frame.multicast && (words[Reg.VT_CTL >>> 2]! & VtCtl.RPL_EN) !== 0;
    const length = frame.end - frame.start;
    let took = 0;
    let tooLong = 0;
    for (let rest = targets; rest !== 0; rest &= rest - 1) {
      const pool = 31 - Math.clz32(rest & -rest);
      const vmolr = words[(Reg.VMOLR >>> 2) + pool]!;
      if ((vmolr & Vmolr.LPE) === 0 ? length > longest(frame) : length + FCS > (vmolr & Vmolr.RLPML)) {
        tooLong |= 1 << pool;
        continue;
      }
      const offloads = replication ? words[Reg.RPLOLR >>> 2]! : vmolr;
      const second = high && (vmolr & Vmolr.RSSE) !== 0 ? POOLS : 0;
      const taken = this.#deliver(passage, pool + second, (offloads & Rplolr.STRVLAN) !== 0, (offloads & Rplolr.STRCRC) !== 0);
      if (taken === 0) continue;
      took |= taken;
      this.#ports.statistics.poolReceived(pool, length, frame.multicast && !frame.broadcast, looped);
    }
    // A frame that is too long for each of its pools is an oversized one (8.19.37).
    if (tooLong !== 0 && tooLong === targets) this.#ports.statistics.count(Stat.ROC);
    return took;
  }

  #hashSelectsSecondQueue(passage: Passage): boolean {
    if ((this.#registers.words[Reg.MRQC >>> 2]! & Mrqc.ENABLE) !== Mrqc.VMDQ_RSS || passage.received.rssType === 0) return false;
    // Bit 3 of a queue's number is its place in the pool (7.10.2.3).
    return (this.#indirect(passage) & POOLS) !== 0;
  }

  /** The entry of RETA for the hash. */
  #indirect({ received }: Passage): number {
    const entry = received.rssHash & (RETA_ENTRIES - 1);
    return (this.#registers.words[(Reg.RETA >>> 2) + (entry >>> 2)]! >>> ((entry & 3) * 8)) & 0xf;
  }

  /** All that is the same for each queue. */
  #report({ frame, received }: Passage, looped: boolean, inexact: boolean): void {
    const { words } = this.#registers;
    frame.parseNetwork();
    const rfctl = words[Reg.RFCTL >>> 2]!;
    if (frame.ip === 6 && (rfctl & Rfctl.IPV6_DIS) !== 0) {
      frame.ip = 0;
      frame.l4 = L4.NONE;
    }
    const rxcsum = words[Reg.RXCSUM >>> 2]!;
    const sums = checkSums(frame, rxcsum, (rfctl & Rfctl.IPV6_XSUM_DIS) !== 0);
    received.bytes = frame.bytes;
    received.offset = frame.start;
    received.length = frame.end - frame.start;
    received.looped = looped;
    received.vlanOffset = frame.tagOffset;
    received.packetType = packetType(frame);
    received.status = (sums & STATUS) | (inexact ? RxStatus.PIF : 0) | (looped ? RxStatus.LB : 0) | (frame.outer ? RxStatus.VEXT : 0);
    received.errors = sums & ERRORS;
    received.rssType = 0;
    received.rssHash = 0;
    const mrqc = words[Reg.MRQC >>> 2]!;
    const mode = mrqc & Mrqc.ENABLE;
    if ((mode === Mrqc.RSS || mode === Mrqc.VMDQ_RSS) && frame.ip !== 0) {
      if (this.#newKey) this.#makeTables();
      hashFrame(received, frame, this.#hash, mrqc, rfctl);
    }
  }

  /** The clock samples the arrival of a time message, one until software has read it (7.9.2). */
  #stamp({ frame, received }: Passage): void {
    const { words } = this.#registers;
    const { time } = this.#ports;
    if (time === undefined || (words[Reg.TSYNCRXCTL >>> 2]! & (Tsyncctl.EN | Tsyncctl.VALID)) !== Tsyncctl.EN) return;
    const at = this.#queueFilters.timeMessageAt(frame);
    if (at < 0 || at + TIME_MESSAGE > frame.end) return;
    time.received(frame.bytes, at);
    if ((words[Reg.TSYNCRXCTL >>> 2]! & Tsyncctl.VALID) !== 0) received.status |= RxStatus.TS;
  }

  #makeTables(): void {
    this.#newKey = false;
    const key = new Uint8Array(RSS_KEY_BYTES);
    const { words } = this.#registers;
    for (let i = 0; i < RSS_KEY_BYTES; i++) key[i] = words[(Reg.RSSRK >>> 2) + (i >>> 2)]! >>> ((i & 3) * 8);
    this.#hash.setKey(key);
  }

  #reportEtherType(received: ReceivedFrame): void {
    received.packetType = ETQF_PACKET | this.#queueFilters.etherType;
  }

  /** @returns the bit of the queue, where that took the frame */
  #deliver(passage: Passage, queue: number, stripsVlan: boolean, stripsCrc: boolean): number {
    const { frame, received } = passage;
    const { words } = this.#registers;
    const strips = stripsVlan && frame.tag >= 0;
    const hash = received.rssHash;
    const { status } = received;
    received.vlan = strips ? frame.tag : -1;
    if (strips) received.status |= RxStatus.VP;
    const psrtype = words[(Reg.PSRTYPE >>> 2) + (queue % POOLS)]!;
    received.headerLength = headerLength(frame, psrtype, strips ? TAG : 0);
    const rxcsum = words[Reg.RXCSUM >>> 2]!;
    if ((rxcsum & Rxcsum.PCSD) === 0) {
      const sum = fragmentOrPacketSum(frame, rxcsum, strips);
      received.rssHash = sum.value;
      received.status |= sum.status;
    }
    if (!stripsCrc) this.#appendCheck(passage);
    const taken = this.#ports.rings.receive(received, 1 << queue);
    received.bytes = frame.bytes;
    received.offset = frame.start;
    received.length = frame.end - frame.start;
    received.status = status;
    received.rssHash = hash;
    return taken;
  }

  /** A queue that keeps the frame check sequence gets one (7.1.3): wires carry none. */
  #appendCheck(passage: Passage): void {
    const { frame, received } = passage;
    const length = frame.end - frame.start;
    passage.checked ??= new Uint8Array(MAX_FRAME + FCS);
    passage.checked.set(frame.bytes.subarray(frame.start, frame.end));
    const check = frameCheckSequence(frame.bytes, frame.start, frame.end);
    for (let i = 0; i < FCS; i++) passage.checked[length + i] = check >>> (8 * i);
    received.bytes = passage.checked;
    received.offset = 0;
    received.length = length + FCS;
  }
}

const ERRORS = RxStatus.IPE | RxStatus.L4E;
const STATUS = RxStatus.IPCS | RxStatus.L4CS | RxStatus.UDPCS;
const ETQF_PACKET = 0x800;

/** The longest frame where jumbo frames are off: tags come on top (7.1.3). */
function longest(frame: Frame): number {
  return LONGEST + (frame.tag >= 0 ? TAG : 0) + (frame.outer ? TAG : 0);
}
