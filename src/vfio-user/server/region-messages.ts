/**
 * REGION_READ, REGION_WRITE and REGION_WRITE_MULTI on a device. A register access makes no object:
 * the request is read where it was received, the reply is built where it is sent from.
 */
import type { Device, Region } from '../../abi/device.ts';
import { HEADER_BYTES, HeaderFlags } from '../../abi/vfio-user.ts';
import { VfioError } from '../../base/errno.ts';
import type { FrameWriter } from '../frame-writer.ts';
import type { FrameReader } from '../frames.ts';
import type { InPlace } from '../messages/answer-context.ts';
import { checkWriteMulti, putHeader, RegionAccess, WriteMulti, WriteMultiEntry } from '../messages.ts';

/** Header and fields; the data is behind them. */
const DATA_AT = HEADER_BYTES + RegionAccess.structSize;
const WORD = 2 ** 32;

export class RegionMessages implements InPlace {
  readonly #maxData: number;
  readonly #regions: (Region | null)[];
  readonly #sizes: Float64Array;
  readonly #eight = new Uint8Array(8);
  /** The results of `#locate`. */
  #offset = 0;
  #count = 0;

  /** @param maxDataBytes the most data that one message may carry, in either direction */
  constructor(device: Device, maxDataBytes: number) {
    this.#maxData = maxDataBytes;
    this.#regions = Array.from({ length: device.info.numRegions }, (_, index) => regionOf(device, index));
    this.#sizes = Float64Array.from(this.#regions, (region) => region?.info.size ?? 0);
  }

  /** Null for an index that the device does not have. */
  region(index: number): Region | null {
    return this.#regions[index] ?? null;
  }

  /**
   * Does the current message of `reader`, and builds the reply at `writer.begin()`.
   *
   * @returns the reply's size: commit it, or do not
   * @throws VfioError EINVAL malformed, no such region, past its end or more than a message may
   *   carry; what the region throws
   */
  read(reader: FrameReader, writer: FrameWriter): number {
    const { view, start } = reader;
    if (reader.size < DATA_AT) throw tooShort('REGION_READ', reader.size);
    const region = this.#locate(view, start + HEADER_BYTES);
    const count = this.#count;
    const at = writer.begin(DATA_AT + count);
    const out = writer.view;
    let got = count;
    if (count === 4) out.setUint32(at + DATA_AT, region.read32(this.#offset), true);
    else if (count === 2) out.setUint16(at + DATA_AT, region.read16(this.#offset), true);
    else if (count === 1) out.setUint8(at + DATA_AT, region.read8(this.#offset));
    else if (count === 8) {
      got = region.read(this.#offset, this.#eight);
      writer.bytes.set(this.#eight, at + DATA_AT);
    } else if (count > 0) got = region.read(this.#offset, writer.bytes.subarray(at + DATA_AT, at + DATA_AT + count));
    this.#answer(view, start, out, at, DATA_AT + got, got);
    return DATA_AT + got;
  }

  /** As `read`. */
  write(reader: FrameReader, writer: FrameWriter): number {
    const { view, start } = reader;
    const data = start + DATA_AT;
    if (reader.size < DATA_AT) throw tooShort('REGION_WRITE', reader.size);
    const region = this.#locate(view, start + HEADER_BYTES);
    const count = this.#count;
    if (reader.size !== DATA_AT + count) {
      throw new VfioError('EINVAL', `REGION_WRITE of ${count} bytes with ${reader.size - DATA_AT} bytes of data`);
    }
    let got = count;
    if (count === 4) region.write32(this.#offset, view.getUint32(data, true));
    else if (count === 2) region.write16(this.#offset, view.getUint16(data, true));
    else if (count === 1) region.write8(this.#offset, view.getUint8(data));
    else if (count > 0) got = region.write(this.#offset, reader.bytes.subarray(data, data + count));
    const at = writer.begin(DATA_AT);
    this.#answer(view, start, writer.view, at, DATA_AT, got);
    return DATA_AT;
  }

  /**
   * As `read`. All writes are checked first. A write that the device refuses ends the message, and
   * those before it are made.
   */
  writeMulti(reader: FrameReader, writer: FrameWriter): number {
    const { view, start } = reader;
    const base = start + HEADER_BYTES;
    const payload = reader.bytes.subarray(base, start + reader.size);
    const count = checkWriteMulti(payload);
    const entries = base + WriteMulti.structSize;
    for (let i = 0; i < count; i++) this.#locate(view, entries + i * WriteMultiEntry.structSize);
    for (let i = 0; i < count; i++) {
      const entry = entries + i * WriteMultiEntry.structSize;
      const data = entry + WriteMultiEntry.data.offset;
      const region = this.#locate(view, entry);
      if (this.#count === 4) region.write32(this.#offset, view.getUint32(data, true));
      else if (this.#count > 0) region.write(this.#offset, reader.bytes.subarray(data, data + this.#count));
    }
    const size = HEADER_BYTES + WriteMulti.structSize;
    const at = writer.begin(size);
    putHeader(writer.view, at, view.getUint16(start, true), view.getUint16(start + 2, true), size, HeaderFlags.REPLY);
    writer.view.setUint32(at + HEADER_BYTES, count, true);
    writer.view.setUint32(at + HEADER_BYTES + 4, 0, true);
    return size;
  }

  /** Fields of a region access at `at`: offset u64, region u32, count u32. */
  #locate(view: DataView, at: number): Region {
    const offset = view.getUint32(at, true) + view.getUint32(at + 4, true) * WORD;
    const index = view.getUint32(at + 8, true);
    const count = view.getUint32(at + 12, true);
    const region = index < this.#regions.length ? this.#regions[index] : null;
    if (region == null || count > this.#maxData || !(offset + count <= this.#sizes[index])) throw this.#refused(index, offset, count);
    this.#offset = offset;
    this.#count = count;
    return region;
  }

  #refused(index: number, offset: number, count: number): VfioError {
    if (this.#regions[index] == null) return new VfioError('EINVAL', `the device has no region ${index}`);
    if (count > this.#maxData)
      return new VfioError('EINVAL', `${count} bytes of region ${index}; a message carries ${this.#maxData} at most`);
    return new VfioError('EINVAL', `${count} bytes at ${offset} of region ${index}, which has ${this.#sizes[index]}`);
  }

  /** Header and fields of the reply to the request at `start` of `view`. */
  #answer(view: DataView, start: number, out: DataView, at: number, size: number, count: number): void {
    out.setUint32(at, view.getUint32(start, true), true);
    out.setUint32(at + 4, size, true);
    out.setUint32(at + 8, HeaderFlags.REPLY, true);
    out.setUint32(at + 12, 0, true);
    out.setUint32(at + 16, view.getUint32(start + 16, true), true);
    out.setUint32(at + 20, view.getUint32(start + 20, true), true);
    out.setUint32(at + 24, view.getUint32(start + 24, true), true);
    out.setUint32(at + 28, count, true);
  }
}

/** Null where the device answers EINVAL: it has no such region. */
export function regionOf(device: Device, index: number): Region | null {
  try {
    return device.region(index);
  } catch (error) {
    if (error instanceof VfioError && error.code === 'EINVAL') return null;
    throw error;
  }
}

function tooShort(what: string, size: number): VfioError {
  return new VfioError('EINVAL', `${what}: a message of ${size} bytes, ${DATA_AT} at least`);
}
