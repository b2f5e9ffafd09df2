/**
 * SET_IRQS: from bytes and descriptors to a `SetIrqs` (B.7 "SET_IRQS generic", B.9).
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_set_irqs_validate_and_prepare()
 */
import type { InterruptSink, SetIrqs } from '../abi/device.ts';
import { IrqIndex, IrqSetFlags } from '../abi/vfio.ts';
import { IrqSet, MinSize } from '../abi/vfio-structs.ts';
import { VfioError } from '../base/errno.ts';
import { checkIrqIndex, checkIrqRange } from '../device/set-irqs.ts';
import type { DeviceFile } from '../engine/device/device-file.ts';
import { type Caller, checkArgsz, checkFlags, eventTarget, lazySource } from './caller.ts';
import type { UserBuffer } from './user-buffer.ts';

const actions = new Map<number, 'mask' | 'unmask' | 'trigger'>([
  [IrqSetFlags.ACTION_MASK, 'mask'],
  [IrqSetFlags.ACTION_UNMASK, 'unmask'],
  [IrqSetFlags.ACTION_TRIGGER, 'trigger'],
]);
/** Bytes per element of data[]. */
const elementSizes = new Map<number, 0 | 1 | 4>([
  [IrqSetFlags.DATA_NONE, 0],
  [IrqSetFlags.DATA_BOOL, 1],
  [IrqSetFlags.DATA_EVENTFD, 4],
]);

/** No allocation comes before every number has been checked against the device's own (S2-24). */
export function decodeIrqSet(device: DeviceFile, caller: Caller, user: UserBuffer): SetIrqs {
  const { argsz, flags, index, start, count } = IrqSet.decode(user.viewIn(0, MinSize.IRQ_SET));
  checkArgsz(argsz, MinSize.IRQ_SET, 'SET_IRQS');
  checkFlags(flags, IrqSetFlags.DATA_TYPE_MASK | IrqSetFlags.ACTION_TYPE_MASK, 'SET_IRQS');
  checkIrqIndex('SET_IRQS', index);
  checkIrqRange('SET_IRQS', index, start, count, () => device.irq(index).count);
  const elementSize = elementSizes.get(flags & IrqSetFlags.DATA_TYPE_MASK);
  if (elementSize === undefined) throw new VfioError('EINVAL', 'SET_IRQS: exactly one DATA flag must be set');
  const dataSize = count * elementSize;
  if (argsz - MinSize.IRQ_SET < dataSize)
    throw new VfioError('EINVAL', `SET_IRQS: argsz ${argsz} leaves no room for ${dataSize} bytes of data`);
  const data = user.viewIn(MinSize.IRQ_SET, dataSize);
  const action = actions.get(flags & IrqSetFlags.ACTION_TYPE_MASK);
  if (action === undefined) throw new VfioError('ENOTTY', 'SET_IRQS: exactly one ACTION flag must be set');

  const range = { index, start, count };
  if (elementSize === 0) return { ...range, action, data: 'none' };
  if (elementSize === 1) return { ...range, action, data: 'bool', values: new Uint8Array(data.buffer) };
  const fds = Array.from({ length: count }, (_, i) => data.getInt32(4 * i, true));
  if (action === 'unmask') return { ...range, action, data: 'sinks', sources: fds.map((fd) => lazySource(caller, fd)) };
  return { ...range, action, data: 'sinks', sinks: lazySinks(caller, index, fds) };
}

/**
 * The engine looks up a descriptor when it reaches the element, after all other checks. A bad one
 * is EBADF only where nothing else is wrong, as in the kernel.
 */
function lazySinks(caller: Caller, index: number, fds: readonly number[]): readonly (InterruptSink | null)[] {
  const sinks = new Array<InterruptSink | null>(fds.length);
  fds.forEach((fd, i) => {
    Object.defineProperty(sinks, i, { get: () => sinkOf(caller, index, fd) });
  });
  return sinks;
}

/** ERR and REQ take -1 for none and no lower number; the other indexes take any negative number. */
function sinkOf(caller: Caller, index: number, fd: number): InterruptSink | null {
  if (fd >= 0) return eventTarget(caller, fd);
  if (fd < -1 && (index === IrqIndex.ERR || index === IrqIndex.REQ)) {
    throw new VfioError('EINVAL', `SET_IRQS: ${fd} is neither a descriptor nor -1`);
  }
  return null;
}
