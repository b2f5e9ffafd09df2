/**
 * The checks of VFIO_DEVICE_SET_IRQS that hold for every kind of device, before anybody acts or allocates (S2-21, S2-24).
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_set_irqs_validate_and_prepare()
 */
import type { InterruptSink, InterruptSource, SetIrqs } from '../../abi/device.ts';
import { NUM_IRQS } from '../../abi/vfio.ts';
import { checkIndex, checkU32 } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { RateLimitedLogger } from '../../base/log.ts';
import { GuardedSink } from './guarded-sink.ts';

const U32_MAX = 0xffff_ffff;

export const irqNames = ['INTx', 'MSI', 'MSI-X', 'ERR', 'REQ'] as const;

export function checkIrqIndex(bdf: string, index: number): number {
  return checkIndex(index, NUM_IRQS - 1, `${bdf}: IRQ index`);
}

/**
 * Index, range, data type and length; `available` is the number of interrupts that index has. What the data says is looked at later, by those
 * who act on it, as the kernel does.
 *
 * @throws VfioError EINVAL
 */
export function validateSetIrqs(bdf: string, request: SetIrqs, available: (index: number) => number): void {
  if (typeof request !== 'object' || request === null) throw new VfioError('EINVAL', `${bdf}: SET_IRQS without a request`);
  const { start, count } = request;
  const index = checkIrqIndex(bdf, request.index);
  const name = irqNames[index]!;
  checkU32(start, `${bdf}: ${name} start`);
  checkU32(count, `${bdf}: ${name} count`);
  const have = available(index);
  if (count >= U32_MAX - start || start >= have || start + count > have) {
    throw new VfioError('EINVAL', `${bdf}: ${name} interrupts [${start}, ${start + count}) were named, but it has ${have}`, {
      fix: have === 0 ? `The device has no ${name}; use another IRQ index.` : `Stay below ${have}, the count that GET_IRQ_INFO gives.`,
    });
  }
  const given = dataLength(request);
  if (given === null) throw new VfioError('EINVAL', `${bdf}: ${name}: not exactly one type of data`);
  if (given < count) throw new VfioError('EINVAL', `${bdf}: ${name}: data for ${given} interrupts, ${count} were named`);
}

/** Elements the request carries, Infinity when its type needs none, null when the type is not one. */
function dataLength(request: SetIrqs): number | null {
  let data: unknown;
  if (request.data === 'none') return Number.POSITIVE_INFINITY;
  if (request.data === 'bool') data = request.values;
  else if (request.data === 'sinks') data = request.action === 'unmask' ? request.sources : request.sinks;
  return Array.isArray(data) || data instanceof Uint8Array ? data.length : null;
}

/** Element `i` as a sink that can be kept. @throws VfioError EINVAL when it is neither a sink nor null */
export function sinkAt(bdf: string, log: RateLimitedLogger, sinks: readonly (InterruptSink | null)[], i: number): InterruptSink | null {
  const sink = sinks[i] ?? null;
  if (sink !== null && (typeof sink.signal !== 'function' || typeof sink.get !== 'function' || typeof sink.put !== 'function')) {
    throw new VfioError('EINVAL', `${bdf}: SET_IRQS element ${i} cannot be signalled`);
  }
  return sink === null ? null : new GuardedSink(sink, bdf, log);
}

/** Element 0 as a source. @throws VfioError EINVAL when it is neither a source nor null */
export function sourceAt(bdf: string, sources: readonly (InterruptSource | null)[]): InterruptSource | null {
  const source = sources[0] ?? null;
  if (source !== null && typeof source.listen !== 'function')
    throw new VfioError('EINVAL', `${bdf}: SET_IRQS element 0 cannot be listened to`);
  return source;
}

/** Whether DATA_NONE, or a true DATA_BOOL, asks for vector `start + i`. */
export function asksFor(request: SetIrqs, i: number): boolean {
  return request.data === 'none' || (request.data === 'bool' && Boolean(request.values[i]));
}
