/**
 * A pcapng file that is being written. A full disk, or a reader that is gone, ends the capture; the
 * connections go on.
 */
import { closeSync, fstatSync, ftruncateSync, writeSync } from 'node:fs';
import { openPrivate } from '../../sys/private-file.ts';
import { capturedPacket, captureHeader } from './pcapng.ts';
import type { SeenMessage } from './proxy.ts';

export class CaptureFile implements Disposable {
  readonly #path: string;
  readonly #fd: number;
  readonly #onEvent: (text: string) => void;
  #ended = false;
  #missing = 0;
  #closed = false;

  /**
   * @param name of the interface
   * @param onEvent is called when the capture ends early, and at the end
   * @throws VfioError as `openPrivate`
   */
  constructor(path: string, name: string, onEvent: (text: string) => void) {
    this.#path = path;
    this.#onEvent = onEvent;
    this.#fd = openPrivate(path);
    this.#write(captureHeader(name));
  }

  add({ bytes, direction, fds, twin }: SeenMessage): void {
    const timeNs = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e3)) * 1000n;
    const notes = [...(twin ? ['twin socket'] : []), ...(fds.length === 0 ? [] : [`${fds.length} descriptors: ${fds.join(', ')}`])];
    this.#write(capturedPacket(bytes, direction, timeNs, notes.join('; ')));
    if (this.#ended) this.#missing++;
  }

  #write(bytes: Uint8Array): void {
    if (this.#ended) return;
    let at = 0;
    try {
      while (at < bytes.length) at += writeSync(this.#fd, bytes, at);
    } catch (error) {
      this.#ended = true;
      this.#cutOff(at);
      this.#onEvent(`${this.#path}: ${(error as NodeJS.ErrnoException).code}: the capture ends here`);
    }
  }

  /** Half a packet would make the file unreadable. */
  #cutOff(bytes: number): void {
    try {
      const stat = fstatSync(this.#fd);
      if (stat.isFile()) ftruncateSync(this.#fd, stat.size - bytes);
    } catch {
      // The disk has a fault; the part of the file that is there may still be readable.
    }
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#fd);
    if (this.#missing > 0) this.#onEvent(`${this.#path}: ${this.#missing} messages are not in the capture`);
  }
}
