/** `vfio nvme read` and `write`: images between a namespace and a file or pipe. */
import { VfioError } from '../../base/errno.ts';
import type { NvmeNamespace } from '../../drivers/nvme/namespace.ts';
import { accessIn, type DeviceAccess } from '../device-access.ts';
import { Progress } from '../progress.ts';
import { formatBytes, formatRate } from '../quantities.ts';
import { checkRange, copyIn, copyOut } from './copy.ts';
import { type OpenedSource, openSink, openSource, refuseTerminal } from './files.ts';
import { DEPTH, NamespaceBlocks } from './namespace-blocks.ts';
import { openNvme } from './open-nvme.ts';

export interface Range extends DeviceAccess {
  readonly namespace: number;
  /** First block. */
  readonly start: number;
  /** Blocks. */
  readonly count?: number;
  readonly signal?: AbortSignal;
}

/**
 * Blocks to `output`, a path or `-`. Says at the end how much it was.
 *
 * @throws VfioError naming the block that could not be read
 */
export async function readImage(address: string, range: Range, output: string): Promise<string> {
  // First: what goes to a terminal should not disturb a disk. The file is made anew only when there
  // is something to put into it.
  refuseTerminal(output);
  await using driver = await openNvme(address, { depth: DEPTH, ...accessIn(range) });
  const ns = driver.namespace(range.namespace);
  using blocks = new NamespaceBlocks(driver.dev, ns);
  const count = range.count ?? Math.max(ns.blocks - range.start, 0);
  checkRange(blocks, range.start, count);
  await using sink = await openSink(output);
  using progress = new Progress(count * ns.blockSize);
  const done = await copyOut(blocks, range.start, count, sink, { onProgress: progress.update, ...signalOf(range) });
  return summary(done, ns.blockSize, progress.elapsedMs, 'read');
}

export interface WriteOptions extends Range {
  /** Each block is on the medium before the next one counts as written. */
  readonly fua?: boolean;
  readonly verify?: boolean;
  readonly pad?: boolean;
}

/**
 * Blocks from `input`, a path or `-`.
 *
 * @throws VfioError before anything is written, when a file is known not to fit
 */
export async function writeImage(address: string, options: WriteOptions, input: string): Promise<string> {
  await using source = await openSource(input);
  await using driver = await openNvme(address, { depth: DEPTH, ...accessIn(options) });
  const ns = driver.namespace(options.namespace);
  checkFits(source, ns, options);
  using blocks = new NamespaceBlocks(driver.dev, ns, options.verify === true ? 2 * DEPTH : DEPTH, options.fua === true);
  const total = options.count === undefined ? source.size : options.count * ns.blockSize;
  using progress = new Progress(total);
  // A pipe without a writer would keep the command waiting.
  const stop = () => void source[Symbol.asyncDispose]();
  options.signal?.addEventListener('abort', stop);
  try {
    const done = await copyIn(blocks, options.start, source, {
      onProgress: progress.update,
      ...(options.count === undefined ? {} : { count: options.count }),
      pad: options.pad === true,
      verify: options.verify === true,
      ...signalOf(options),
    });
    return summary(done, ns.blockSize, progress.elapsedMs, options.verify === true ? 'written and read back' : 'written');
  } finally {
    options.signal?.removeEventListener('abort', stop);
  }
}

function checkFits({ name, size }: OpenedSource, ns: NvmeNamespace, { start, count, pad }: WriteOptions): void {
  if (size === null) return;
  if (count !== undefined) {
    const blocks = (pad === true ? Math.ceil : Math.floor)(size / ns.blockSize);
    if (blocks >= count) return;
    throw new VfioError('EINVAL', `${name} has ${size} bytes, which is ${blocks} of ${count} blocks of ${ns.blockSize}`, {
      fix: 'Without --count all that it has is written; with --pad the last block is filled with zeroes.',
    });
  }
  const room = Math.max(ns.blocks - start, 0) * ns.blockSize;
  if (size > room) {
    throw new VfioError('ENOSPC', `${name} has ${size} bytes; from LBA ${start} on, namespace ${ns.id} has ${room}`, {
      fix: 'With --count only so many blocks of it are written.',
    });
  }
  const partial = size % ns.blockSize;
  if (partial === 0 || pad === true) return;
  throw new VfioError('EINVAL', `${name} has ${size} bytes, which ends ${partial} bytes into a block of ${ns.blockSize}`, {
    fix: 'With --pad the rest of the last block is filled with zeroes.',
  });
}

const signalOf = ({ signal }: Range) => (signal === undefined ? {} : { signal });

function summary(blocks: number, blockSize: number, elapsedMs: number, what: string): string {
  const bytes = blocks * blockSize;
  return `${blocks} ${blocks === 1 ? 'block' : 'blocks'} ${what}, ${formatBytes(bytes)} at ${formatRate(elapsedMs > 0 ? (bytes / elapsedMs) * 1000 : 0)}`;
}
