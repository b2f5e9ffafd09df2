/**
 * Two layouts of DMA_READ and DMA_WRITE. The specification's has a count of 64 bits. Early QEMUs
 * (10.1) have one of 32, so that data starts four bytes earlier, and answer DMA_WRITE with a header
 * alone. QEMU 11.1 speaks the specification's layout and has the same VERSION, so only a client's
 * answers show which one it speaks.
 *
 * @see qemu/hw/vfio-user/protocol.h, VFIOUserDMARW; qemu/hw/vfio-user/pci.c, vfio_user_dma_read(),
 *   vfio_user_dma_write()
 */
import { HEADER_BYTES, QEMU_MAX_MSG_FDS } from '../../abi/vfio-user.ts';
import { DmaAccess, type VersionMessage } from '../messages.ts';

export type DmaLayout = 'spec' | 'qemu';

/**
 * Bytes before the data, header included. A message of QEMU's is as long as one of the
 * specification's all the same.
 */
export const DMA_FIXED_BYTES = HEADER_BYTES + DmaAccess.structSize;
const QEMU_DATA_AT = HEADER_BYTES + 12;

export function dataAt(layout: DmaLayout): number {
  return layout === 'spec' ? DMA_FIXED_BYTES : QEMU_DATA_AT;
}

/**
 * Whether this client may be a QEMU with the other layout: the server then asks before the first
 * DMA.
 */
export function mayBeQemu({ minor, capabilities }: VersionMessage): boolean {
  return minor === 0 && capabilities.writeMultiple && capabilities.migration !== null && capabilities.maxMsgFds >= QEMU_MAX_MSG_FDS;
}

/**
 * The layout that a reply to DMA_READ of `count` bytes shows; null when it could be either. The
 * upper half of a 64-bit count is 0. Where QEMU has data there, it shows unless the data is 0 too.
 */
export function layoutOfReadReply(view: DataView, at: number): DmaLayout | null {
  return view.getUint32(at + QEMU_DATA_AT, true) === 0 ? null : 'qemu';
}
