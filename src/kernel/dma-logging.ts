/**
 * The log of a device's writes, kept by the device or its driver in the kernel (B.11).
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_ioctl_device_feature_logging_start(),
 * vfio_ioctl_device_feature_logging_report()
 */
import type { DmaLogging, DmaLogReport, DmaRange } from '../abi/device.ts';
import { bitmapBytes, DMA_LOGGING_MAX_RANGES, Feature, FeatureFlags } from '../abi/vfio.ts';
import { FeatureDmaLoggingControl, FeatureDmaLoggingRange, FeatureDmaLoggingReport } from '../abi/vfio-structs.ts';
import { hex, U64_MAX } from '../base/check.ts';
import { viewOf } from '../base/data-view.ts';
import { errnoName, VfioError } from '../base/errno.ts';
import { checkLogRange, checkLogReport, checkLogStart } from '../device/log-requests.ts';
import { addressOf } from '../sys/kernel-file.ts';
import { callFailure } from './calls.ts';
import { featureCall, type KernelFeatures } from './features.ts';

const { GET, SET, PROBE } = FeatureFlags;
const PAGE = 4096n;

export class KernelDmaLogging implements DmaLogging {
  readonly #features: KernelFeatures;
  #on = false;

  constructor(features: KernelFeatures) {
    this.#features = features;
  }

  start(ranges: ArrayLike<DmaRange>, pageSize: bigint): bigint {
    this.#check(Feature.DMA_LOGGING_START, SET, (name) => checkLogStart(name, ranges, pageSize));
    const { length: count } = ranges;
    // The kernel answers for too many ranges before it reads one.
    const list = this.#read(ranges, count > DMA_LOGGING_MAX_RANGES ? 0 : count);
    const data = new Uint8Array(FeatureDmaLoggingControl.structSize);
    const view = viewOf(data);
    const address = list.length === 0 ? 0n : addressOf(list);
    FeatureDmaLoggingControl.encode(view, 0, { page_size: pageSize, num_ranges: count, ranges: address });
    this.#features.ask(Feature.DMA_LOGGING_START, SET, data);
    this.#on = true;
    return FeatureDmaLoggingControl.page_size.get(view, 0);
  }

  #read(ranges: ArrayLike<DmaRange>, count: number): Uint8Array {
    const size = FeatureDmaLoggingRange.structSize;
    const bytes = new Uint8Array(count * size);
    this.#check(Feature.DMA_LOGGING_START, SET, (name) => {
      for (let i = 0; i < count; i++) FeatureDmaLoggingRange.encode(viewOf(bytes), i * size, checkLogRange(name, ranges[i]));
    });
    return bytes;
  }

  /** A device that does not log says so before a check says what is wrong with a request. */
  #check(feature: number, op: number, check: (name: string) => void): void {
    try {
      check(this.#features.port.name);
    } catch (error) {
      this.#features.ask(feature, op | PROBE);
      throw error;
    }
  }

  stop(): void {
    this.#features.ask(Feature.DMA_LOGGING_STOP, SET);
    this.#on = false;
  }

  report(request: DmaLogReport): void {
    this.#check(Feature.DMA_LOGGING_REPORT, GET, (name) => checkLogReport(name, request));
    const { iova, length, pageSize } = request;
    const isPage = pageSize >= PAGE && (pageSize & (pageSize - 1n)) === 0n;
    const known = isPage && iova + length <= U64_MAX && length > 0n && ((iova | length) & (PAGE - 1n)) === 0n;
    if (!known) throw this.#refusal(request);
    const { bitmap } = request;
    const needed = bitmapBytes(length, pageSize);
    if (bitmap instanceof Uint8Array && bitmap.length >= needed) {
      this.#ask(iova, length, pageSize, addressOf(bitmap));
      return;
    }
    // The kernel would write behind the bitmap's end.
    this.#features.ask(Feature.DMA_LOGGING_REPORT, GET | PROBE);
    const { name } = this.#features.port;
    if (!this.#on) throw new VfioError('EINVAL', `${name}: its DMA is not logged`, { fix: 'Start the log first.' });
    throw new VfioError('EFAULT', `${name}: DMA_LOGGING_REPORT takes a bitmap of ${needed} bytes; ${bitmap?.length ?? 0} are there`);
  }

  /** The kernel's answer to a request that cannot be: without a bitmap, it has no effect. */
  #refusal({ iova, length, pageSize }: DmaLogReport): VfioError {
    const { name } = this.#features.port;
    const result = this.#send(iova, length, pageSize, 0n);
    if (result < 0 && errnoName(result) !== 'EFAULT') return callFailure(result, featureCall(Feature.DMA_LOGGING_REPORT), name);
    return new VfioError('EINVAL', `${name}: DMA_LOGGING_REPORT of ${hex(iova)}+${hex(length)} in pages of ${pageSize} bytes`);
  }

  #ask(iova: bigint, length: bigint, pageSize: bigint, bitmap: bigint): void {
    const result = this.#send(iova, length, pageSize, bitmap);
    if (result >= 0) return;
    this.#features.port.failed(result);
    throw callFailure(result, featureCall(Feature.DMA_LOGGING_REPORT), this.#features.port.name);
  }

  #send(iova: bigint, length: bigint, page_size: bigint, bitmap: bigint): number {
    const data = new Uint8Array(FeatureDmaLoggingReport.structSize);
    FeatureDmaLoggingReport.encode(viewOf(data), 0, { iova, length, page_size, bitmap });
    return this.#features.send(Feature.DMA_LOGGING_REPORT, GET, data);
  }
}
