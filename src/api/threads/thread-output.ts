/**
 * Standard output and standard error of a thread's code. The starting thread writes them; a thread
 * that prints faster than that loses lines, which are counted, and never fills the memory.
 */
import { Writable } from 'node:stream';

/** The most that waits for the starting thread, in bytes. */
const WAITING_BYTES = 2 ** 20;
/** A message costs this much besides its text. */
const MESSAGE_BYTES = 256;

export const outputNames = ['stdout', 'stderr'] as const;

/** Text for one of the streams. */
export interface OutputPiece {
  readonly to: (typeof outputNames)[number];
  readonly text: string;
}

const costOf = ({ text }: OutputPiece): number => text.length + MESSAGE_BYTES;

/**
 * From now on `process.stdout`, `process.stderr` and `console` of this thread send what is written.
 *
 * @param waiting bytes that were sent and not taken yet, shared with the starting thread
 */
export function sendOutput(waiting: Int32Array, send: (piece: OutputPiece) => void): void {
  for (const to of outputNames) {
    let missing = 0;
    const stream = new Writable({
      decodeStrings: false,
      write(chunk: string | Uint8Array, _encoding, done) {
        const text = typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString();
        if (Atomics.load(waiting, 0) >= WAITING_BYTES) missing += text.split('\n').length - 1;
        else {
          const before = missing === 0 ? '' : `(${missing} ${missing === 1 ? 'line is' : 'lines are'} missing here)\n`;
          missing = 0;
          const piece = { to, text: before + text };
          Atomics.add(waiting, 0, costOf(piece));
          send(piece);
        }
        done();
      },
    });
    Object.defineProperty(process, to, { configurable: true, enumerable: true, writable: true, value: stream });
  }
}

/** In the starting thread: write what a thread has sent. */
export function takeOutput(waiting: Int32Array, piece: OutputPiece): void {
  Atomics.sub(waiting, 0, costOf(piece));
  process[piece.to].write(piece.text);
}
