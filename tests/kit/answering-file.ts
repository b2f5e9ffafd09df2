/** A file of the kernel whose answers a test gives: also those that no kernel should give. */
import type { KernelFile } from '../../src/sys/kernel-file.ts';

/** Answers a request: writes into its structure, and gives the result. Default: 0. */
export type Answer = (view: DataView, request: number) => number | undefined;

export class AnsweringFile {
  readonly path = '/dev/vfio/answers';
  readonly fd = { number: -1 };
  /** Requests so far. */
  requests = 0;
  /** Bytes of the largest structure. */
  largest = 0;
  closed = false;
  readonly #answer: Answer;

  constructor(answer: Answer) {
    this.#answer = answer;
  }

  static file(answer: Answer): { readonly file: KernelFile; readonly notes: AnsweringFile } {
    const notes = new AnsweringFile(answer);
    return { file: notes as unknown as KernelFile, notes };
  }

  ioctl(request: number, argument: number | Uint8Array): number {
    if (++this.requests > 1000) throw new Error('the client asks without end');
    if (typeof argument === 'number') return this.#answer(new DataView(new ArrayBuffer(0)), request) ?? 0;
    this.largest = Math.max(this.largest, argument.length);
    return this.#answer(new DataView(argument.buffer, argument.byteOffset, argument.byteLength), request) ?? 0;
  }

  [Symbol.dispose](): void {
    this.closed = true;
  }
}
