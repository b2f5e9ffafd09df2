/**
 * Parts that the builders of capabilities share. A builder gives the power-on bytes, the bits that
 * software can write in hardware, and those that software clears by writing one. The rows of a
 * capability's `access` say which of these bits VFIO lets a user write.
 */
import type { Width } from '../../abi/device-host.ts';
import { VfioError } from '../../base/errno.ts';
import type { Capability } from '../declaration.ts';
import type { CapabilityKind } from './kind.ts';

/** Bytes and masks in the making. */
export class CapabilityBuilder {
  readonly bytes: Uint8Array;
  readonly writable: Uint8Array;
  readonly writeOneClears: Uint8Array;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.writable = new Uint8Array(size);
    this.writeOneClears = new Uint8Array(size);
  }

  /** One little-endian register at `offset` from the capability's start. */
  set(offset: number, width: Width, value: number, writable = 0, writeOneClears = 0): this {
    for (let i = 0; i < width; i++) {
      this.bytes[offset + i] = (value >>> (8 * i)) & 0xff;
      this.writable[offset + i] = (writable >>> (8 * i)) & 0xff;
      this.writeOneClears[offset + i] = (writeOneClears >>> (8 * i)) & 0xff;
    }
    return this;
  }

  /** @param version of extended capabilities. Default: 1. */
  build(kind: Pick<CapabilityKind, 'id' | 'name' | 'extended'>, options: Placed & { readonly version?: number }): Capability {
    const extended = kind.extended === true;
    return {
      id: kind.id,
      name: kind.name,
      extended,
      ...(extended ? { version: options.version ?? 1 } : {}),
      ...(options.at === undefined ? {} : { at: options.at }),
      bytes: this.bytes,
      writable: this.writable,
      writeOneClears: this.writeOneClears,
    };
  }

  /**
   * Bytes from `offset` on, of which `writable` says which bits software can write: none by
   * default.
   */
  body(offset: number, body: Uint8Array, writable?: Uint8Array | true, writeOneClears?: Uint8Array): this {
    this.bytes.set(body, offset);
    if (writable === true) this.writable.fill(0xff, offset);
    else if (writable !== undefined) this.writable.set(writable.subarray(0, body.length), offset);
    if (writeOneClears !== undefined) this.writeOneClears.set(writeOneClears.subarray(0, body.length), offset);
    return this;
  }
}

/**
 * Bytes of a vendor's extended capability: whole dwords.
 * @throws VfioError EINVAL when there is no room for them
 */
export function roundedSize(headers: number, body: Uint8Array, kind: string): number {
  const size = Math.ceil((headers + body.length) / 4) * 4;
  if (size > 0xf00) throw new VfioError('EINVAL', `a ${kind} cannot have ${size} bytes; there is room for ${0xf00}`);
  return size;
}

/** `at`: fixed offset in config space; otherwise the first gap that is large enough. */
export interface Placed {
  readonly at?: number;
}
