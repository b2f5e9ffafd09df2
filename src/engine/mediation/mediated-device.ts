/** A device as its mediator sees it: made at each first open, of no use after the last close. */
import type { MediatedDevice } from '../../abi/mediator.ts';
import { hex, U64_MAX } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { VfioPciDevice } from '../device/pci-device.ts';
import { IOMMU_UNIT, type IommuDomain, Reach } from '../dma/iommu-domain.ts';

export function mediatedDevice(device: VfioPciDevice): MediatedDevice {
  const { fn, ctx, host } = device;
  const { declaration } = fn;
  return {
    name: device.bdf,
    vendor: declaration.vendor,
    device: declaration.device,
    subsystemVendor: declaration.subsystemVendor ?? 0,
    subsystem: declaration.subsystem ?? 0,
    classCode: declaration.classCode,
    clock: ctx.clock,
    log: { log: (level, message) => ctx.log.log(level, `mediator of ${device.bdf}`, message) },
    read: (bar, offset, width) => host.read(bar, offset, width),
    write: (bar, offset, width, value) => host.write(bar, offset, width, value),
    read64: (bar, offset) => host.read64(bar, offset),
    write64: (bar, offset, value) => host.write64(bar, offset, value),
    dmaRead: (iova, into) => transfer(device, iova, into, 'read'),
    dmaWrite(iova, from) {
      transfer(device, iova, from, 'write');
      host.dma.noteWrite(iova, from.length);
    },
    wrote: (iova, size) => host.dma.noteWrite(iova, size),
  };
}

/** @see linux/drivers/vfio/vfio_iommu_type1.c, vfio_iommu_type1_dma_rw_chunk() */
function transfer({ bdf, fn }: VfioPciDevice, iova: bigint, bytes: Uint8Array, how: 'read' | 'write'): void {
  const domain = (fn.group?.domain ?? null) as IommuDomain | null;
  const what = `${bdf}: its mediator cannot ${how} ${bytes.length} bytes at ${hex(iova)}`;
  if (domain === null || iova < 0n || iova + BigInt(bytes.length) > U64_MAX + 1n)
    throw new VfioError('EINVAL', `${what}: nothing is mapped there`);
  const [pfn, byte] = [Number(iova / BigInt(IOMMU_UNIT)), Number(iova % BigInt(IOMMU_UNIT))];
  const reach = how === 'read' ? domain.copyOut(pfn, byte, bytes) : domain.copyIn(pfn, byte, bytes);
  if (reach === Reach.OK) return;
  if (reach === Reach.PERMISSION) throw new VfioError('EPERM', `${what}: the mapping does not allow it`);
  if (reach === Reach.REMOTE) throw new VfioError('EAGAIN', `${what}: that memory answers only by messages`);
  throw new VfioError('EINVAL', `${what}: nothing is mapped there`);
}
