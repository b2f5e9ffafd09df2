/** A device as its mediator sees it: made at each first open, of no use after the last close. */
import type { MediatedDevice } from '../../abi/mediator.ts';
import type { VfioPciDevice } from '../device/pci-device.ts';

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
    wrote: (iova, size) => host.dma.noteWrite(iova, size),
  };
}
