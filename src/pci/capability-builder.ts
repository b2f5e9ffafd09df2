/** What the builders of capabilities.ts and extended-capabilities.ts share. */
import type { Width } from '../abi/device-host.ts';
import type { Capability } from './declaration.ts';

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

  build(head: { id: number; name: string; extended?: boolean; version?: number; at?: number | undefined }): Capability {
    return {
      id: head.id,
      name: head.name,
      extended: head.extended ?? false,
      ...(head.version === undefined ? {} : { version: head.version }),
      ...(head.at === undefined ? {} : { at: head.at }),
      bytes: this.bytes,
      writable: this.writable,
      writeOneClears: this.writeOneClears,
    };
  }
}

/** `at`: fixed offset in config space; otherwise the first gap that is large enough. */
export interface Placed {
  readonly at?: number;
}
