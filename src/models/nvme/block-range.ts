/**
 * The blocks that a command names: SLBA in CDW10 and CDW11, NLB in CDW12 (NVMe 1.4, 6.6 to 6.17).
 */
import { NvmCdw12, NvmOpcode } from '../../abi/nvme.ts';
import { Status } from '../../abi/nvme-status.ts';
import type { Command } from './command.ts';
import type { Namespace } from './namespace.ts';

/**
 * Checks that the blocks lie in the namespace. Returns a status.
 * @param maxBytes MDTS in bytes, for commands that transfer data
 */
export function rangeStatus({ dw }: Command, namespace: Namespace, maxBytes: number): number {
  const blocks = (dw[12]! & NvmCdw12.NLB) + 1;
  if (blocks * namespace.blockSize > maxBytes) return Status.INVALID_FIELD;
  // From 2^53 on the sum is not exact, but exceeds every namespace anyway.
  if (dw[11]! * 2 ** 32 + dw[10]! + blocks > namespace.blocks) return Status.LBA_OUT_OF_RANGE;
  return Status.SUCCESS;
}

/** SLBA in bytes, once it is known to lie in the namespace. */
export function offsetOf({ dw }: Command, namespace: Namespace): number {
  return (dw[11]! * 2 ** 32 + dw[10]!) * namespace.blockSize;
}

/** NLB in bytes. */
export function bytesOf({ dw }: Command, namespace: Namespace): number {
  return ((dw[12]! & NvmCdw12.NLB) + 1) * namespace.blockSize;
}

/** For the limits of a namespace: what the command moves, or would if it is valid. */
export function limitedBytes(command: Command, namespace: Namespace, maxBytes: number): number {
  switch (command.opcode) {
    case NvmOpcode.READ:
    case NvmOpcode.WRITE:
    case NvmOpcode.COMPARE:
      return Math.min(bytesOf(command, namespace), maxBytes);
    case NvmOpcode.VERIFY:
      return bytesOf(command, namespace);
    default:
      return 0;
  }
}
