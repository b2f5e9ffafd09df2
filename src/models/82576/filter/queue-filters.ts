/**
 * Filters that choose a queue before the hash does (7.1.2): by EtherType, TCP's SYN flag, or five
 * values of a packet.
 *
 * The 82576 can also ask for an immediate interrupt by these filters (7.3.5); this model stores
 * that wish and throttles all interrupts alike.
 */

import { Reg } from '../../../abi/82576.ts';
import { ETQF_ENTRIES, Etqf, FTQF_ENTRIES, Ftqf, Imir, Synqf } from '../../../abi/82576-filters.ts';
import type { RegisterSpace } from '../register-space.ts';
import { type Frame, L4 } from './frame.ts';

/** No filter has a queue for the frame. */
export const NO_QUEUE = -1;

const SYN = 0x02;

export class QueueFilters {
  /** The EtherType filter that matched the last frame, for RDESC.PKTTYPE; -1: none. */
  etherType = -1;
  readonly #registers: RegisterSpace;
  /** Whether any filter is on: most cards have none. */
  #etherTypes = false;
  #others = false;

  constructor(registers: RegisterSpace) {
    this.#registers = registers;
    const write = (): void => this.refresh();
    const eight = { count: FTQF_ENTRIES, section: '8.11.1' };
    registers.declare([
      { ...eight, name: 'SAQF', offset: Reg.SAQF },
      { ...eight, name: 'DAQF', offset: Reg.DAQF, section: '8.11.2' },
      { ...eight, name: 'SPQF', offset: Reg.SPQF, section: '8.11.3', writable: 0xffff },
      { ...eight, name: 'FTQF', offset: Reg.FTQF, section: '8.11.4', reset: 0xf000_0000, write },
      { name: 'SYNQF', offset: Reg.SYNQF, section: '8.11.6', writable: Synqf.QUEUE_ENABLE | Synqf.QUEUE, write },
      { name: 'ETQF', offset: Reg.ETQF, count: ETQF_ENTRIES, section: '8.11.5', write },
      { ...eight, name: 'IMIR', offset: Reg.IMIR, section: '8.8.14' },
      { ...eight, name: 'IMIREXT', offset: Reg.IMIREXT, section: '8.8.15' },
      { name: 'IMIRVP', offset: Reg.IMIRVP, section: '8.8.16', writable: 0xf },
    ]);
  }

  /** After registers have changed without a write: a reset, a migration. */
  refresh(): void {
    const { words } = this.#registers;
    this.#etherTypes = false;
    this.#others = (words[Reg.SYNQF >>> 2]! & Synqf.QUEUE_ENABLE) !== 0;
    for (let i = 0; i < ETQF_ENTRIES; i++) {
      this.#etherTypes ||= (words[(Reg.ETQF >>> 2) + i]! & Etqf.FILTER_ENABLE) !== 0;
      this.#others ||= (words[(Reg.FTQF >>> 2) + i]! & Ftqf.QUEUE_ENABLE) !== 0;
    }
  }

  /** Queue of the EtherType filter; sets `etherType`. */
  byEtherType(frame: Frame): number {
    this.etherType = -1;
    if (!this.#etherTypes) return NO_QUEUE;
    const { words } = this.#registers;
    for (let i = 0; i < ETQF_ENTRIES; i++) {
      const filter = words[(Reg.ETQF >>> 2) + i]!;
      if ((filter & Etqf.FILTER_ENABLE) === 0 || (filter & Etqf.ETYPE) !== frame.etherType) continue;
      this.etherType = i;
      return (filter & Etqf.QUEUE_ENABLE) !== 0 ? (filter & Etqf.QUEUE) >>> Etqf.QUEUE_SHIFT : NO_QUEUE;
    }
    return NO_QUEUE;
  }

  /** Queue of the SYN filter, then of the five-tuple filter with the highest priority. */
  byPacket(frame: Frame): number {
    if (!this.#others || frame.ip === 0) return NO_QUEUE;
    const { words } = this.#registers;
    const syn = words[Reg.SYNQF >>> 2]!;
    if ((syn & Synqf.QUEUE_ENABLE) !== 0 && frame.l4 === L4.TCP && (frame.bytes[frame.start + frame.l4Offset + 13]! & SYN) !== 0) {
      return (syn & Synqf.QUEUE) >>> Synqf.QUEUE_SHIFT;
    }
    return frame.ip === 4 ? this.#byFiveValues(frame) : NO_QUEUE;
  }

  /** Where the header of a precision time message begins, if a filter marks it (7.9); or -1. */
  timeMessageAt(frame: Frame): number {
    const { words } = this.#registers;
    if (this.etherType >= 0 && (words[(Reg.ETQF >>> 2) + this.etherType]! & Etqf.TIME_STAMP_1588) !== 0) return frame.start + frame.l3;
    if (frame.ip !== 4 || frame.l4 !== L4.UDP) return -1;
    for (let i = 0; i < FTQF_ENTRIES; i++) {
      const filter = words[(Reg.FTQF >>> 2) + i]!;
      if ((filter & Ftqf.TIME_STAMP_1588) !== 0 && this.#matches(frame, i, filter)) return frame.start + frame.l4Offset + 8;
    }
    return -1;
  }

  #byFiveValues(frame: Frame): number {
    const { words } = this.#registers;
    let queue = NO_QUEUE;
    let best = -1;
    for (let i = 0; i < FTQF_ENTRIES; i++) {
      const filter = words[(Reg.FTQF >>> 2) + i]!;
      if ((filter & Ftqf.QUEUE_ENABLE) === 0) continue;
      const priority = words[(Reg.IMIR >>> 2) + i]! >>> Imir.PRIORITY_SHIFT;
      if (priority <= best || !this.#matches(frame, i, filter)) continue;
      best = priority;
      queue = (filter & Ftqf.QUEUE) >>> Ftqf.QUEUE_SHIFT;
    }
    return queue;
  }

  #matches(frame: Frame, index: number, filter: number): boolean {
    const { words } = this.#registers;
    const { bytes } = frame;
    const at = frame.start + frame.l4Offset;
    if ((filter & Ftqf.MASK_PROTOCOL) === 0 && bytes[frame.start + frame.l3 + 9] !== (filter & Ftqf.PROTOCOL)) return false;
    // Addresses stand in the registers as in the packet: byte 0 is the first.
    if ((filter & Ftqf.MASK_SOURCE) === 0 && littleEndian(bytes, frame.sourceAt) !== (words[(Reg.SAQF >>> 2) + index]! | 0)) return false;
    if ((filter & Ftqf.MASK_DESTINATION) === 0 && littleEndian(bytes, frame.destinationAt) !== (words[(Reg.DAQF >>> 2) + index]! | 0)) {
      return false;
    }
    const imir = words[(Reg.IMIR >>> 2) + index]!;
    const anySource = (filter & Ftqf.MASK_SOURCE_PORT) !== 0;
    const anyPort = (imir & Imir.PORT_BP) !== 0;
    if (anySource && anyPort) return true;
    if (frame.l4 === L4.NONE) return false;
    // Ports, too, are in the order of the packet.
    return (
      (anySource || (bytes[at]! | (bytes[at + 1]! << 8)) === (words[(Reg.SPQF >>> 2) + index]! & 0xffff)) &&
      (anyPort || (bytes[at + 2]! | (bytes[at + 3]! << 8)) === (imir & Imir.PORT))
    );
  }
}

function littleEndian(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}
