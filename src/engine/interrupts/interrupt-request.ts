/**
 * The elements of SET_IRQS as the engine keeps them: sinks whose failures end in the log, and
 * sources.
 */
import type { InterruptSink, InterruptSource } from '../../abi/device.ts';
import { VfioError } from '../../base/errno.ts';
import { checkedSink } from '../../device/set-irqs.ts';
import type { EventSource } from '../../events/source.ts';
import { GuardedSink } from './guarded-sink.ts';

/**
 * Element `i` as a sink that can be kept.
 *
 * @throws VfioError EINVAL when it is neither a sink nor null
 */
export function sinkAt(bdf: string, events: EventSource, sinks: readonly (InterruptSink | null)[], i: number): GuardedSink | null {
  const sink = checkedSink(bdf, sinks, i);
  return sink === null ? null : new GuardedSink(sink, bdf, events);
}

/** Element 0 as a source. @throws VfioError EINVAL when it is neither a source nor null */
export function sourceAt(bdf: string, sources: readonly (InterruptSource | null)[]): InterruptSource | null {
  const source = sources[0] ?? null;
  if (source !== null && typeof source.listen !== 'function')
    throw new VfioError('EINVAL', `${bdf}: SET_IRQS element 0 cannot be listened to`);
  return source;
}
