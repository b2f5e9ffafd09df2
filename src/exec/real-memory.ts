/**
 * The memory of a program, as its system calls and its DMA mappings see it.
 */
import { VfioError } from '../base/errno.ts';
import type { CallerMemory } from '../ioctl/caller.ts';
import type { UserMemoryWindow } from '../ioctl/process-memory.ts';
import type { UserBuffer } from '../ioctl/user-buffer.ts';
import { readFrom, writeTo } from '../sys/other-process.ts';

/** Larger copies look whether their ends are there before they take memory of ours. */
const PROBED = 65536;
/** User addresses end below; a double holds each. */
const ADDRESS_END = 2 ** 56;
const decoder = new TextDecoder('utf-8');

export class RealMemory implements CallerMemory {
  readonly #pid: number;
  readonly #byte = new Uint8Array(1);

  constructor(pid: number) {
    this.#pid = pid;
  }

  copyIn(address: number | bigint, size: number): Uint8Array<ArrayBuffer> {
    const at = addressOf(address);
    if (size > PROBED) this.#probe(at, size);
    const bytes = new Uint8Array(size);
    if (size > 0 && readFrom(this.#pid, at, bytes) < size) throw notMapped(at, size, 'read');
    return bytes;
  }

  copyOut(address: number | bigint, bytes: Uint8Array): void {
    const at = addressOf(address);
    if (bytes.length > 0 && writeTo(this.#pid, at, bytes) < bytes.length) throw notMapped(at, bytes.length, 'written');
  }

  /** The first bytes, up to `into`'s length; how many are mapped. */
  readUpTo(address: number, into: Uint8Array): number {
    return readFrom(this.#pid, address, into);
  }

  /** As far as the memory may be written; how many bytes. */
  writeUpTo(address: number, from: Uint8Array, end: number): number {
    return writeTo(this.#pid, address, from, 0, end);
  }

  window(address: bigint, size: number): UserMemoryWindow {
    const bytes = this.copyIn(address, size);
    return { bytes, commit: () => this.copyOut(address, bytes) };
  }

  #probe(address: number, size: number): void {
    if (readFrom(this.#pid, address, this.#byte) + readFrom(this.#pid, address + size - 1, this.#byte) < 2) {
      throw notMapped(address, size, 'read');
    }
  }
}

/** The argument of an ioctl of a program: an address of its memory. */
export class RealBuffer implements UserBuffer {
  readonly #memory: RealMemory;
  readonly #address: number;

  constructor(memory: RealMemory, address: number) {
    this.#memory = memory;
    this.#address = address;
  }

  readable(limit: number): number {
    if (!isAddress(this.#address)) return 0;
    return this.#memory.readUpTo(this.#address, new Uint8Array(limit));
  }

  copyIn(offset: number, size: number): Uint8Array<ArrayBuffer> {
    return this.#memory.copyIn(this.#address + offset, size);
  }

  viewIn(offset: number, size: number): DataView<ArrayBuffer> {
    return new DataView(this.copyIn(offset, size).buffer);
  }

  copyOut(offset: number, bytes: Uint8Array): void {
    this.#memory.copyOut(this.#address + offset, bytes);
  }

  stringIn(limit: number): string {
    const bytes = new Uint8Array(limit);
    const mapped = isAddress(this.#address) ? this.#memory.readUpTo(this.#address, bytes) : 0;
    const end = bytes.subarray(0, mapped).indexOf(0);
    if (end >= 0) return decoder.decode(bytes.subarray(0, end));
    if (mapped < limit) throw notMapped(this.#address, limit, 'read');
    throw new VfioError('EINVAL', `the string has no NUL within ${limit} bytes`);
  }
}

function isAddress(at: number): boolean {
  return at >= 0 && at < ADDRESS_END;
}

function addressOf(address: number | bigint): number {
  const at = Number(address);
  if (!isAddress(at)) throw new VfioError('EFAULT', `0x${address.toString(16)} is no address of a program`);
  return at;
}

function notMapped(address: number, size: number, what: 'read' | 'written'): VfioError {
  return new VfioError(
    'EFAULT',
    `the program's memory at 0x${address.toString(16)} cannot be ${what}: not all of ${size} bytes are mapped so`,
  );
}
