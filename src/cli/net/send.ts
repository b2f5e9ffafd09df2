/** `vfio net send`. */

import { VfioError } from '../../base/errno.ts';
import { framesOf } from '../../base/frame-file.ts';
import { macBytes } from '../../drivers/82576/mac-address.ts';
import { accessIn, type DeviceAccess } from '../device-access.ts';
import { openSource } from '../nvme/files.ts';
import { formatNanoseconds, grouped } from '../quantities.ts';
import { LINK_MS, openPort } from './open-port.ts';
import { type FrameSequence, ListedFrames, NumberedFrames, sendFrames } from './send-loop.ts';
import { CHECK_SEQUENCE_BYTES } from './values.ts';

const BROADCAST = 'ff:ff:ff:ff:ff:ff';
/** A capture that is read into memory as a whole. */
const FILE_MAX = 2 ** 30;
/** Of frames and tags: the longest frame that the card sends (7.2.2.3). */
const MTU_MAX = 9728 - 22;

/** Where the frames come from, and how many of them are sent. */
export interface SendOptions extends DeviceAccess {
  readonly frame?: Uint8Array | undefined;
  /** A file of frames. */
  readonly input?: string | undefined;
  /** With frame check sequence. Default: 64. */
  readonly size?: number | undefined;
  readonly to?: string | undefined;
  readonly count?: number | undefined;
  readonly rate?: number | undefined;
  readonly seconds?: number | undefined;
  readonly signal: AbortSignal;
}

/** @returns the line for people */
export async function send(address: string, options: SendOptions): Promise<string> {
  const { frame, input, size = 64, to = BROADCAST, rate, seconds, signal } = options;
  // A file that cannot be read is an error before the card is reset.
  const listed = frame !== undefined ? [frame] : input !== undefined ? await framesIn(input) : null;
  await using port = await openPort(address, { mtu: MTU_MAX, ...accessIn(options) });
  await port.linkUp({ timeoutMs: LINK_MS });
  const frames: FrameSequence =
    listed !== null ? new ListedFrames(listed) : new NumberedFrames(size - CHECK_SEQUENCE_BYTES, macBytes(port.mac), macBytes(to));
  const count = options.count ?? (seconds === undefined ? (listed?.length ?? 1) : undefined);
  const result = await sendFrames(port.transmitQueue(), frames, {
    signal,
    ...(count === undefined ? {} : { count }),
    ...(rate === undefined ? {} : { rate }),
    ...(seconds === undefined ? {} : { seconds }),
  });
  const frameWord = result.frames === 1 ? 'frame' : 'frames';
  return `${grouped(result.frames)} ${frameWord} sent, ${grouped(result.bytes)} bytes in ${formatNanoseconds(result.seconds * 1e9)}`;
}

async function framesIn(path: string): Promise<Uint8Array[]> {
  await using source = await openSource(path);
  const parts: Uint8Array[] = [];
  let total = 0;
  for (;;) {
    const part = new Uint8Array(2 ** 20);
    const bytes = await source.read(part);
    if (bytes === 0) break;
    parts.push(part.subarray(0, bytes));
    total += bytes;
    if (total > FILE_MAX)
      throw new VfioError('EFBIG', `${source.name} has more than 1 GiB`, { fix: 'Split it: editcap -c 1000000 IN OUT.' });
  }
  const frames = framesOf(Buffer.concat(parts), source.name);
  if (frames.length === 0) throw new VfioError('EINVAL', `${source.name} has no whole frame`);
  return frames.map(({ bytes }) => bytes);
}
