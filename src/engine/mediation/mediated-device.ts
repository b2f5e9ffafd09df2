/**
 * A device as its mediator sees it: made at each first open, without effect after the last close.
 */
import type { FunctionRegisters, MediatedDevice, MediatedPhysical } from '../../abi/mediator.ts';
import { hex, U64_MAX } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { guardedClock, textOf } from '../../base/foreign.ts';
import { Way } from '../../events/source.ts';
import type { FunctionHost } from '../../hardware/function-host.ts';
import { IOMMU_UNIT, type IommuDomain, Reach } from '../../hardware/iommu-domain.ts';
import type { EngineContext } from '../context.ts';
import type { HostedFunction } from '../device/hosted-function.ts';

/** The device that is shown; `VfioPciDevice` is one. */
export interface ShownDevice {
  readonly bdf: string;
  readonly fn: HostedFunction;
  readonly host: FunctionHost;
  readonly ctx: Pick<EngineContext, 'allocate' | 'clock'>;
  readonly numRegions: number;
}

/**
 * The view of the device that mediators get at a first open. After `retire` the view has no device:
 * reads give ones, writes go nowhere, and the memory of the device's next user is out of reach.
 */
export function mediatedDevice(device: ShownDevice): { readonly shown: MediatedDevice; readonly retire: () => void } {
  const { fn, ctx, host } = device;
  const { declaration } = fn;
  let there = true;
  const shown: MediatedDevice = {
    name: device.bdf,
    vendor: declaration.vendor,
    device: declaration.device,
    subsystemVendor: declaration.subsystemVendor ?? 0,
    subsystem: declaration.subsystem ?? 0,
    classCode: declaration.classCode,
    clock: guardedClock(ctx.clock, (what, error) =>
      host.events.note('error', `mediator ${what}`, `${device.bdf}: its mediator failed in ${what}: ${textOf(error)}`),
    ),
    log: { log: (level, message) => host.events.note(level, 'mediator', message) },
    ...registersOf(host, () => there),
    physical: physicalOf(fn.physical ?? null, () => there),
    vfIndex: fn.physical == null ? null : (fn.vfIndex ?? 0),
    totalVfs: fn.sriov?.totalVfs ?? 0,
    numRegions: device.numRegions,
    allocate: (size) => ctx.allocate(size),
    dmaRead(iova, into) {
      check();
      transfer(device, iova, into, 'read');
    },
    dmaWrite(iova, from) {
      check();
      transfer(device, iova, from, 'write');
      host.dma.noteWrite(iova, from.length);
    },
    wrote(iova, size) {
      if (there) host.dma.noteWrite(iova, size);
    },
  };
  const check = () => {
    if (!there) throw new VfioError('ENODEV', `${device.bdf} was closed: its mediator has no part in it any more`);
  };
  const retire = () => {
    there = false;
  };
  return { shown, retire };
}

function registersOf(host: FunctionHost, there: () => boolean): FunctionRegisters {
  return {
    read: (bar, offset, width) => (there() ? host.read(bar, offset, width) : 2 ** (8 * width) - 1),
    write(bar, offset, width, value) {
      if (there()) host.write(bar, offset, width, value);
    },
    read64: (bar, offset) => (there() ? host.read64(bar, offset) : U64_MAX),
    write64(bar, offset, value) {
      if (there()) host.write64(bar, offset, value);
    },
  };
}

/** A PF outlives its VFs, so a view of the PF is valid as long as the VF exists. */
function physicalOf(physical: HostedFunction | null, there: () => boolean): MediatedPhysical | null {
  if (physical === null) return null;
  const { bdf, declaration, host } = physical;
  return {
    name: bdf,
    vendor: declaration.vendor,
    device: declaration.device,
    get driver() {
      return physical.driver;
    },
    totalVfs: physical.sriov?.totalVfs ?? 0,
    get numVfs() {
      return physical.sriov?.numVfs ?? 0;
    },
    ...registersOf(host, there),
  };
}

/** @see linux/drivers/vfio/vfio_iommu_type1.c, vfio_iommu_type1_dma_rw_chunk() */
function transfer(
  { bdf, fn, host }: Pick<ShownDevice, 'bdf' | 'fn' | 'host'>,
  iova: bigint,
  bytes: Uint8Array,
  how: 'read' | 'write',
): void {
  const domain = (fn.group?.domain ?? null) as IommuDomain | null;
  const what = `${bdf}: its mediator cannot ${how} ${bytes.length} bytes at ${hex(iova)}`;
  if (domain === null || iova < 0n || iova + BigInt(bytes.length) > U64_MAX + 1n)
    throw new VfioError('EINVAL', `${what}: nothing is mapped there`);
  const [pfn, byte] = [Number(iova / BigInt(IOMMU_UNIT)), Number(iova % BigInt(IOMMU_UNIT))];
  const reach = how === 'read' ? domain.copyOut(pfn, byte, bytes) : domain.copyIn(pfn, byte, bytes);
  if (reach === Reach.OK) {
    if (host.events.on) host.events.dma(how === 'write', pfn, byte, bytes.length, Way.direct, bytes);
    return;
  }
  if (reach === Reach.PERMISSION) throw new VfioError('EPERM', `${what}: the mapping does not allow it`);
  if (reach === Reach.REMOTE) throw new VfioError('EAGAIN', `${what}: that memory answers only by messages`);
  if (reach === Reach.FAILED) throw new VfioError('EFAULT', `${what}: the process has unmapped that memory, or has ended`);
  throw new VfioError('EINVAL', `${what}: nothing is mapped there`);
}
