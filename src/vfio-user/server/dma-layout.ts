/**
 * Two layouts of DMA_READ and DMA_WRITE. The specification's has a count of 64 bits; that of early QEMUs (10.1) has one of 32, so that its data
 * starts four bytes earlier, and it answers DMA_WRITE with a header alone. QEMU 11.1 speaks the specification's, and says the same of itself in
 * VERSION: only its answers tell them apart.
 *
 * @see qemu/hw/vfio-user/protocol.h, VFIOUserDMARW; qemu/hw/vfio-user/pci.c, vfio_user_dma_read(), vfio_user_dma_write()
 */
import { HEADER_BYTES, QEMU_MAX_MSG_FDS } from '../../abi/vfio-user.ts';
import { DmaAccess, type VersionMessage } from '../messages.ts';

export type DmaLayout = 'spec' | 'qemu';

/** Bytes before the data, header included. A message of QEMU's is nevertheless as long as one of the specification's. */
export const DMA_FIXED_BYTES = HEADER_BYTES + DmaAccess.structSize;
const QEMU_DATA_AT = HEADER_BYTES + 12;

export function dataAt(layout: DmaLayout): number {
  return layout === 'spec' ? DMA_FIXED_BYTES : QEMU_DATA_AT;
}

/** Whether this client may be a QEMU with the other layout: worth asking before the first DMA, rather than finding out by it. */
export function mayBeQemu({ minor, capabilities }: VersionMessage): boolean {
  return minor === 0 && capabilities.writeMultiple && capabilities.migration !== null && capabilities.maxMsgFds >= QEMU_MAX_MSG_FDS;
}

/**
 * What a reply to DMA_READ of `count` bytes tells of its sender: null when it could be either. The upper half of a 64-bit count is 0; where QEMU
 * has data there, it shows unless that is 0 too.
 */
export function layoutOfReadReply(view: DataView, at: number): DmaLayout | null {
  return view.getUint32(at + QEMU_DATA_AT, true) === 0 ? null : 'qemu';
}
