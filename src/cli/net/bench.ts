/** `vfio net bench`: load from one card to another, or from a card to itself, and the figures. */
import { VfioError } from '../../base/errno.ts';
import { macBytes } from '../../drivers/82576/mac-address.ts';
import { PhysicalPort } from '../../drivers/82576/physical-port.ts';
import { accessIn, type DeviceAccess } from '../device-access.ts';
import { latencyDocument } from '../nvme/bench.ts';
import type { Report } from '../nvme/inspect.ts';
import { rowLines } from '../nvme/rows.ts';
import { formatNanoseconds, grouped } from '../quantities.ts';
import { type LoadResult, runLoad } from './load-loop.ts';
import { LINK_MS, openPort } from './open-port.ts';
import { CHECK_SEQUENCE_BYTES } from './values.ts';

const MTU = 9728 - 22;

export interface BenchOptions extends DeviceAccess {
  /** Bytes of a frame, with its check sequence. */
  readonly size: number;
  readonly depth: number;
  readonly seconds: number;
  readonly signal: AbortSignal;
}

/** @param receiver  null: the first card sends to itself */
export async function bench(address: string, receiver: string | null, options: BenchOptions): Promise<Report> {
  if (receiver === address && !address.startsWith('sim:')) {
    throw new VfioError('EINVAL', `${address} is both cards, and a card has one driver`, {
      fix: 'Leave the second one out: the card sends to itself then.',
    });
  }
  const how = { mtu: MTU, interrupts: 'poll', receiveEntries: 512, transmitEntries: 512, ...accessIn(options) } as const;
  await using from = await openPort(address, how);
  await using other = receiver === null ? null : await openPort(receiver, how);
  const to = other ?? from;
  if (other === null) {
    if (!(from instanceof PhysicalPort))
      throw new VfioError('ENXIO', `${address} is a virtual function, which has no loopback`, { fix: 'Name a second card.' });
    await from.setLoopback(true);
  }
  await Promise.all([from, to].map((port) => port.linkUp({ timeoutMs: LINK_MS })));
  const { size, depth, seconds, signal } = options;
  const result = await runLoad(from.transmitQueue(), to.receiveQueue(), {
    size: size - CHECK_SEQUENCE_BYTES,
    from: macBytes(from.mac),
    to: macBytes(to.mac),
    depth,
    seconds,
    signal,
  });
  // The load ended before it had a result.
  if (result.frames === 0) signal.throwIfAborted();
  return benchReport(from.dev.name, other?.dev.name ?? null, options, result);
}

/** Gbit/s of frames with their check sequences, without preambles and gaps. */
const gigabits = (framesPerSecond: number, size: number) => (framesPerSecond * size * 8) / 1e9;

function benchReport(address: string, receiver: string | null, { size, depth }: BenchOptions, result: LoadResult): Report {
  const { seconds, frames, lost, others, framesPerSecond, latency } = result;
  const gbps = gigabits(framesPerSecond, size);
  const time = (percent: number) => `p${percent} ${formatNanoseconds(latency.percentile(percent))}`;
  return {
    lines: [
      `frames of ${size} bytes, depth ${depth}: ${address}${receiver === null ? ', loopback' : ` to ${receiver}`}`,
      ...rowLines([
        ['frames/s', grouped(Math.round(framesPerSecond)), `${grouped(frames)} frames in ${seconds.toFixed(1)} s, ${grouped(lost)} lost`],
        ['bandwidth', `${gbps.toFixed(gbps < 10 ? 2 : 1)} Gbit/s`, ''],
        ['latency', `${[50, 95, 99, 99.9].map(time).join('   ')}   max ${formatNanoseconds(latency.max)}`, ''],
      ]),
    ],
    document: {
      address,
      receiver,
      size,
      depth,
      seconds,
      frames,
      lost,
      others,
      framesPerSecond,
      bitsPerSecond: framesPerSecond * size * 8,
      latencyNs: latencyDocument(latency),
    },
  };
}
