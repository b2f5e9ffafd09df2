/**
 * The log of a device's writes, at the end of a connection (B.11). This side logs itself the
 * writes that the server makes by messages: a server need not count them as its own.
 */
import type { DmaLogging, DmaLogReport, DmaRange } from '../../abi/device.ts';
import { bitmapBytes, DMA_LOGGING_MAX_RANGES, Feature, FeatureFlags } from '../../abi/vfio.ts';
import { FeatureDmaLoggingRange } from '../../abi/vfio-structs.ts';
import { hex, U64_MAX } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { checkLogRange, checkLogReport, checkLogStart } from '../../device/log-requests.ts';
import { UserDmaLoggingControl, UserDmaLoggingReport, viewOf } from '../messages.ts';
import { type ClientFeatures, DATA_AT } from './features.ts';
import type { MappedMemory } from './mapped-memory.ts';

const PAGE = 4096n;

export class ClientDmaLogging implements DmaLogging {
  readonly #features: ClientFeatures;
  readonly #memory: MappedMemory;
  readonly #maxBytes: number;
  /** The server has answered DMA_LOGGING_START, and no STOP yet. */
  #on = false;

  /** @param maxBytes  of data in one message of the server */
  constructor(features: ClientFeatures, memory: MappedMemory, maxBytes: number) {
    this.#features = features;
    this.#memory = memory;
    this.#maxBytes = maxBytes;
  }

  start(ranges: ArrayLike<DmaRange>, pageSize: bigint): bigint {
    const { connection } = this.#features;
    const { name, out } = connection;
    this.#check(Feature.DMA_LOGGING_START, FeatureFlags.SET, (of) => checkLogStart(of, ranges, pageSize));
    const { length: count } = ranges;
    if (count === 0) {
      // On the wire a list without ranges means every write; here it is an error, as with the
      // ioctl.
      this.#features.probe(Feature.DMA_LOGGING_START, FeatureFlags.SET);
      throw new VfioError('EINVAL', `${name}: DMA_LOGGING_START without ranges`);
    }
    // More ranges than the server takes go without, so that the server answers that they are too
    // many.
    const sent = count > DMA_LOGGING_MAX_RANGES ? 0 : count;
    const list = this.#read(ranges, sent);
    UserDmaLoggingControl.encode(out, DATA_AT, { page_size: pageSize, num_ranges: count, reserved: 0 });
    const at = DATA_AT + UserDmaLoggingControl.structSize;
    for (const [i, range] of list.entries()) FeatureDmaLoggingRange.encode(out, at + i * FeatureDmaLoggingRange.structSize, range);
    const errno = this.#features.send(
      Feature.DMA_LOGGING_START,
      FeatureFlags.SET,
      UserDmaLoggingControl.structSize + sent * FeatureDmaLoggingRange.structSize,
    );
    if (errno !== 0) throw connection.failure(errno, 'DMA_LOGGING_START');
    this.#memory.logWrites(true);
    this.#on = true;
    return UserDmaLoggingControl.page_size.get(viewOf(this.#features.reply(UserDmaLoggingControl.page_size.end)), 0);
  }

  #read(ranges: ArrayLike<DmaRange>, count: number): readonly DmaRange[] {
    return this.#check(Feature.DMA_LOGGING_START, FeatureFlags.SET, (name) =>
      Array.from({ length: count }, (_, i) => checkLogRange(name, ranges[i])),
    );
  }

  /** A device that does not log says so before a check says what is wrong with a request. */
  #check<T>(feature: number, op: number, check: (name: string) => T): T {
    try {
      return check(this.#features.connection.name);
    } catch (error) {
      this.#features.probe(feature, op);
      throw error;
    }
  }

  stop(): void {
    this.#features.set(Feature.DMA_LOGGING_STOP);
    this.#memory.logWrites(false);
    this.#on = false;
  }

  report(request: DmaLogReport): void {
    const { name } = this.#features.connection;
    this.#check(Feature.DMA_LOGGING_REPORT, FeatureFlags.GET, (of) => checkLogReport(of, request));
    const { iova, length, pageSize } = request;
    const isPage = pageSize >= PAGE && (pageSize & (pageSize - 1n)) === 0n;
    const known = isPage && iova + length <= U64_MAX && length > 0n && ((iova | length) & (PAGE - 1n)) === 0n;
    if (!known) {
      // The server says what is wrong with it.
      this.#ask(iova, length, pageSize, new Uint8Array(0));
      throw new VfioError('EINVAL', `${name}: DMA_LOGGING_REPORT of ${hex(iova)}+${hex(length)} in pages of ${pageSize} bytes`);
    }
    const { bitmap } = request;
    const needed = bitmapBytes(length, pageSize);
    if (!(bitmap instanceof Uint8Array) || bitmap.length < needed) {
      this.#ask(iova, PAGE, PAGE, null);
      if (!this.#on) throw new VfioError('EINVAL', `${name}: its DMA is not logged`, { fix: 'Start the log first.' });
      throw new VfioError(
        'EFAULT',
        `${name}: DMA_LOGGING_REPORT takes a bitmap of ${needed} bytes; ${(bitmap as Uint8Array | undefined)?.length ?? 0} are there`,
      );
    }
    const first = Number(iova / PAGE);
    const last = Number((iova + length) / PAGE) - 1;
    const most = Math.max(8, (this.#maxBytes - UserDmaLoggingReport.structSize) & ~7);
    try {
      for (let at = 0; at < needed; at += most) {
        const from = BigInt(at) * 8n * pageSize;
        const piece = bitmap.subarray(at, Math.min(at + most, needed));
        const bytes = BigInt(piece.length) * 8n * pageSize;
        this.#ask(iova + from, from + bytes > length ? length - from : bytes, pageSize, piece);
      }
    } catch (error) {
      if (!(error instanceof VfioError) || error.code !== 'EOPNOTSUPP') throw error;
      this.#askByMapping(first, last);
    }
    this.#memory.takeWrites(first, last, Number(pageSize / PAGE), bitmap);
  }

  /**
   * libvfio-user answers for a mapping as it was made, and for no other range. Pages of its answer
   * that were not asked for are noted here until they are. libvfio-user has no bitmap for memory
   * that it reaches by messages; its writes there are noted here anyway.
   */
  #askByMapping(first: number, last: number): void {
    const before = this.#memory.at(first);
    for (let at = before ?? this.#memory.next(first); at !== null && at.first <= last; at = this.#memory.next(at.last + 1)) {
      const pages = at.last + 1 - at.first;
      const bits = new Uint8Array(Math.ceil(pages / 64) * 8);
      try {
        this.#ask(BigInt(at.first) * PAGE, BigInt(pages) * PAGE, PAGE, bits);
      } catch (error) {
        if (!(error instanceof VfioError) || error.code !== 'EINVAL') throw error;
      }
      for (let page = 0; page < pages; page++) {
        if ((bits[page >>> 3]! & (1 << (page & 7))) !== 0) this.#memory.markWritten(at.first + page, at.first + page);
      }
    }
  }

  /**
   * One message.
   *
   * @param into bits are set there; null: asks only whether the request is allowed
   * @throws VfioError the error that the server answers
   */
  #ask(iova: bigint, length: bigint, page_size: bigint, into: Uint8Array | null): void {
    const fixed = UserDmaLoggingReport.structSize;
    UserDmaLoggingReport.encode(this.#features.connection.out, DATA_AT, { iova, length, page_size });
    const op = into === null ? FeatureFlags.GET | FeatureFlags.PROBE : FeatureFlags.GET;
    // Room for a word at least: a range that cannot be is to be refused for what it is.
    const errno = this.#features.send(Feature.DMA_LOGGING_REPORT, op, fixed, fixed + Math.max(8, into?.length ?? 8));
    if (errno !== 0) throw this.#features.connection.failure(errno, `DMA_LOGGING_REPORT of ${hex(iova)}+${hex(length)}`);
    if (into === null || into.length === 0) return;
    const bits = this.#features.reply(fixed).subarray(fixed);
    for (let i = 0; i < Math.min(bits.length, into.length); i++) into[i]! |= bits[i]!;
  }

  /** The connection has ended. */
  end(): void {
    this.#memory.logWrites(false);
  }
}
