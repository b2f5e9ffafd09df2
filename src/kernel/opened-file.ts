/** An open device, and the parts that are closed with it. */
import type { KernelFile } from '../sys/kernel-file.ts';
import type { KernelDmaSpace } from './dma-space.ts';
import type { OpenedFile, OpenedVia, OwnershipProof } from './opened.ts';

type OpenedParts = Omit<OpenedFile, typeof Symbol.dispose>;

export class OpenedKernelFile implements OpenedFile {
  readonly name: string;
  readonly via: OpenedVia;
  readonly why: string;
  readonly file: KernelFile;
  readonly space: KernelDmaSpace;
  readonly proof: OwnershipProof;
  readonly #after: Disposable;

  /** @param after its group, and its use of the space: disposed after the device's file */
  constructor(parts: OpenedParts, after: Disposable) {
    this.name = parts.name;
    this.via = parts.via;
    this.why = parts.why;
    this.file = parts.file;
    this.space = parts.space;
    this.proof = parts.proof;
    this.#after = after;
  }

  [Symbol.dispose](): void {
    this.space[Symbol.dispose]();
    this.file[Symbol.dispose]();
    this.#after[Symbol.dispose]();
  }
}
