/**
 * Where a queue's registers lie: a physical function and a virtual one have the same registers at
 * different offsets (8.10, 8.12, 8.26).
 */
import { QUEUE_ALIAS_STRIDE, QUEUE_STRIDE, Reg, VfReg } from '../../abi/82576.ts';

/** Offsets of the first register of either half of a queue pair. */
export interface QueuePlace {
  readonly rx: number;
  readonly tx: number;
}

/** Registers of a queue, from its first one: both halves have them at the same distances. */
export const QueueReg = {
  BAL: 0x00,
  BAH: 0x04,
  LEN: 0x08,
  SRRCTL: 0x0c,
  HEAD: 0x10,
  TAIL: 0x18,
  XDCTL: 0x28,
  RQDPC: 0x30,
} as const;

/** Queue `queue` of the card, in BAR 0 of the physical function. */
export function physicalQueue(queue: number): QueuePlace {
  return { rx: Reg.RDBAL + queue * QUEUE_STRIDE, tx: Reg.TDBAL + queue * QUEUE_STRIDE };
}

/** Queue 0 or 1 of a virtual function. */
export function virtualQueue(queue: number): QueuePlace {
  return { rx: VfReg.RDBAL + queue * QUEUE_ALIAS_STRIDE, tx: VfReg.TDBAL + queue * QUEUE_ALIAS_STRIDE };
}
