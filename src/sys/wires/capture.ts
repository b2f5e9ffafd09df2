/** A capture file of all that passes a wire, for Wireshark: pcapng, with mode 0600. */
import { closeSync } from 'node:fs';
import type { Wire, WireCounters, WireEnd, WirePort } from '../../abi/wire.ts';
import { FrameCapture, type FrameDirection } from '../../base/frame-capture.ts';
import { ByteOutput, type OutputEntry, type OutputOwner } from '../byte-output.ts';
import { openPrivate } from '../private-file.ts';

/** The most that waits for a slow disk; what comes then is not in the file. */
const QUEUE_BYTES = 2 ** 24;
/** At the end, for a disk that is slow. */
const PATIENCE_MS = 1000;

/** Options of a capture. */
export interface CaptureOptions {
  /** Gets a line when frames are missing in the file. Default: nothing does. */
  readonly report?: (line: string) => void;
}

/**
 * `inner`, and a file of the frames that its port sends and receives. The wire takes `inner` over.
 * Frames whose turn comes while the disk is too slow are missing in the file alone.
 *
 * @throws VfioError as `openPrivate`
 */
export function captured(inner: Wire, path: string, { report = () => {} }: CaptureOptions = {}): Wire {
  return new CapturedWire(inner, path, report);
}

class CapturedWire implements Wire, OutputOwner<OutputEntry> {
  readonly name: string;
  readonly #inner: Wire;
  readonly #path: string;
  readonly #report: (line: string) => void;
  readonly #capture: FrameCapture;
  readonly #output: ByteOutput<OutputEntry>;
  #broken = false;
  #missing = 0;

  constructor(inner: Wire, path: string, report: (line: string) => void) {
    const number = openPrivate(path);
    try {
      this.#output = new ByteOutput(number, this);
    } finally {
      closeSync(number);
    }
    this.name = inner.name;
    this.#inner = inner;
    this.#path = path;
    this.#report = report;
    this.#capture = new FrameCapture('vfio-ts', [{ name: inner.name }]);
    for (const bytes of this.#capture.begin()) this.#output.add({ bytes });
    this.#output.push(0);
  }

  get counters(): WireCounters {
    return this.#inner.counters;
  }

  plug(port: WirePort): WireEnd {
    const end = this.#inner.plug({
      receive: (bytes, offset, length) => {
        this.note(bytes, offset, length, 'inbound');
        port.receive(bytes, offset, length);
      },
      carrierChanged: () => port.carrierChanged(),
      readyAgain: () => port.readyAgain(),
    });
    return {
      get up() {
        return end.up;
      },
      get ready() {
        return end.ready;
      },
      send: (bytes, offset, length) => {
        this.note(bytes, offset, length, 'outbound');
        end.send(bytes, offset, length);
      },
      setLink: (on) => end.setLink(on),
      [Symbol.dispose]: () => end[Symbol.dispose](),
    };
  }

  note(bytes: Uint8Array, offset: number, length: number, direction: FrameDirection): void {
    if (this.#broken || this.#output.queued > QUEUE_BYTES) {
      if (this.#missing++ === 0 && !this.#broken) this.#report(`the disk of ${this.#path} is too slow: frames are missing in it`);
      return;
    }
    const nowNs = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e3)) * 1000n;
    this.#output.add({ bytes: this.#capture.frame(bytes.subarray(offset, offset + length), nowNs, direction) });
    this.#output.push(0);
  }

  written(): void {}

  failed(reason: string): void {
    if (!this.#broken) this.#report(`${this.#path} cannot be written any more: ${reason}`);
    this.#broken = true;
    this.#output.clear();
  }

  [Symbol.dispose](): void {
    this.#inner[Symbol.dispose]();
    if (this.#output.closed) return;
    this.#output.finish(PATIENCE_MS);
    this.#output[Symbol.dispose]();
  }
}
