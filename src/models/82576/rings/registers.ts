/** The registers of the rings, as the datasheet lists them. */
import { QUEUE_ALIAS_STRIDE, QUEUE_STRIDE, Reg, RX_ALIAS, Srrctl, TX_ALIAS, Xdctl } from '../../../abi/82576.ts';
import { QUEUES } from '../parts.ts';
import type { RegisterRow } from '../register-space.ts';

/** Queues that have a second address (8.10.5). */
const ALIASED = 4;
/** Bits of RXDCTL and TXDCTL that stay: thresholds, enable, priority. */
const RXDCTL_KEPT = Xdctl.PTHRESH | Xdctl.HTHRESH | Xdctl.WTHRESH | Xdctl.ENABLE;
const TXDCTL_KEPT = RXDCTL_KEPT | Xdctl.PRIORITY;
/** 256 bytes of a header. All queues but 0 drop what they have no descriptor for. */
const srrctlReset = (queue: number): number => (queue === 0 ? 0x400 : 0x400 | Srrctl.DROP_EN) >>> 0;
const RXDCTL_RESET = 0x1_0000;
/** Relaxed ordering of descriptors, data and write-back (8.13). */
const TXCTL_RESET = 0x2a00;
const RXCTL_RESET = 0xa200;
/**
 * A ring is a multiple of 128 bytes (8.10.7). Silicon keeps bits 6:4 too, as the register test of
 * Linux's driver shows.
 */
const RING_BYTES = 0xf_fff0;
/** A ring starts at a multiple of 128 bytes (8.10.5). */
const RING_BASE = 0xffff_ff80;

/** The effects of writes to registers of queues. */
export interface QueueHooks {
  /** Base or length of the ring has changed. */
  receiveRing(queue: number): void;
  receiveTail(queue: number, tail: number): void;
  receiveControl(queue: number, value: number): void;
  transmitRing(queue: number): void;
  transmitTail(queue: number): void;
  transmitControl(queue: number, value: number): void;
}

function queueRows(rows: readonly RegisterRow[], aliasFrom: number, ownFrom: number): RegisterRow[] {
  const own = rows.map((row) => ({ ...row, count: QUEUES, stride: QUEUE_STRIDE }));
  const aliases = rows.map(({ name, offset, section }) => ({
    name: `${name} (alias)`,
    offset: offset - ownFrom + aliasFrom,
    count: ALIASED,
    stride: QUEUE_ALIAS_STRIDE,
    section,
    alias: name,
  }));
  return [...own, ...aliases];
}

/** Registers of the sixteen receive and transmit queues. */
export function ringRows(hooks: QueueHooks): RegisterRow[] {
  const receive: RegisterRow[] = [
    { name: 'RDBAL', offset: Reg.RDBAL, section: '8.10.5', writable: RING_BASE, write: (q) => hooks.receiveRing(q) },
    { name: 'RDBAH', offset: Reg.RDBAH, section: '8.10.6', write: (q) => hooks.receiveRing(q) },
    { name: 'RDLEN', offset: Reg.RDLEN, section: '8.10.7', writable: RING_BYTES, write: (q) => hooks.receiveRing(q) },
    { name: 'SRRCTL', offset: Reg.SRRCTL, section: '8.10.2', reset: srrctlReset },
    { name: 'RDH', offset: Reg.RDH, section: '8.10.8', writable: 0xffff },
    { name: 'RXCTL', offset: Reg.RXCTL, section: '8.13.1', reset: RXCTL_RESET },
    // The hook stores the tail: a queue that is not enabled ignores it (8.10.9).
    { name: 'RDT', offset: Reg.RDT, section: '8.10.9', writable: 0, write: (q, _, tail) => hooks.receiveTail(q, tail & 0xffff) },
    {
      name: 'RXDCTL',
      offset: Reg.RXDCTL,
      section: '8.10.10',
      // Queue 0 is enabled after a reset.
      reset: (q) => (q === 0 ? RXDCTL_RESET | Xdctl.ENABLE : RXDCTL_RESET),
      writable: RXDCTL_KEPT,
      write: (q, value) => hooks.receiveControl(q, value),
    },
    { name: 'RQDPC', offset: Reg.RQDPC, section: '8.10.11', writable: 0, readClears: true },
  ];
  const transmit: RegisterRow[] = [
    { name: 'TDBAL', offset: Reg.TDBAL, section: '8.12.10', writable: RING_BASE, write: (q) => hooks.transmitRing(q) },
    { name: 'TDBAH', offset: Reg.TDBAH, section: '8.12.11', write: (q) => hooks.transmitRing(q) },
    { name: 'TDLEN', offset: Reg.TDLEN, section: '8.12.12', writable: RING_BYTES, write: (q) => hooks.transmitRing(q) },
    { name: 'TDH', offset: Reg.TDH, section: '8.12.13', writable: 0xffff },
    { name: 'TXCTL', offset: Reg.TXCTL, section: '8.13.2', reset: TXCTL_RESET },
    { name: 'TDT', offset: Reg.TDT, section: '8.12.14', writable: 0xffff, write: (q) => hooks.transmitTail(q) },
    {
      name: 'TXDCTL',
      offset: Reg.TXDCTL,
      section: '8.12.15',
      reset: (q) => (q === 0 ? Xdctl.ENABLE : 0),
      writable: TXDCTL_KEPT,
      write: (q, value) => hooks.transmitControl(q, value),
    },
    { name: 'TDWBAL', offset: Reg.TDWBAL, section: '8.12.16' },
    { name: 'TDWBAH', offset: Reg.TDWBAH, section: '8.12.17' },
  ];
  return [...queueRows(receive, RX_ALIAS, Reg.RDBAL), ...queueRows(transmit, TX_ALIAS, Reg.TDBAL)];
}

/** @param started TCTL has changed: queues with work may go on. */
export function transmitRows(started: (tctl: number, written: number) => void): RegisterRow[] {
  return [
    // PSP, CT 15, BST 64, and bits 31:26 as the datasheet has them.
    { name: 'TCTL', offset: Reg.TCTL, section: '8.12.1', reset: 0xa404_00f8, writable: ~0x40_0000, write: (_, v, w) => started(v, w) },
    { name: 'TCTL_EXT', offset: Reg.TCTL_EXT, section: '8.12.2', reset: 0x1_0840 },
    { name: 'TIPG', offset: Reg.TIPG, section: '8.12.3', reset: 0x60_1008 },
    { name: 'DTXCTL', offset: Reg.DTXCTL, section: '8.12.4', reset: 0x44 },
    // Flags of the first and the middle segments, and of the last (7.2.4.7).
    { name: 'DTXTCPFLGL', offset: Reg.DTXTCPFLGL, section: '8.12.5', reset: 0xff6_0ff6, writable: 0xfff_0fff },
    { name: 'DTXTCPFLGH', offset: Reg.DTXTCPFLGH, section: '8.12.6', reset: 0xf7f, writable: 0xfff },
    { name: 'DTXMXSZRQ', offset: Reg.DTXMXSZRQ, section: '8.12.7', reset: 0x10, writable: 0xfff },
  ];
}

/** Packet buffers, and queues that drop (8.3). */
export function bufferRows(): RegisterRow[] {
  return [
    { name: 'RXPBS', offset: Reg.RXPBS, section: '8.3.1', reset: 0x40, writable: 0x7f, kept: true },
    { name: 'TXPBS', offset: Reg.TXPBS, section: '8.3.2', reset: 0x28, writable: 0x3f, kept: true },
    { name: 'SWPBS', offset: Reg.SWPBS, section: '8.3.3', reset: 0x14, writable: 0x3f, kept: true },
    { name: 'QDE', offset: Reg.QDE, section: '8.10.3', writable: 0xffff },
  ];
}
