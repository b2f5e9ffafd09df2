import type { DmaBuffer } from '../../drivers/kit/dma.ts';
import type { DriverDevice } from '../../drivers/kit/driver-device.ts';
import type { NvmeNamespace } from '../../drivers/nvme/namespace.ts';
import type { BlockDevice } from './copy.ts';

/**
 * Commands in flight, and bytes of each: 2 MiB that the device may reach, whatever the image's
 * size.
 */
export const DEPTH = 16;
const SLOT_BYTES = 128 * 1024;

/** A namespace as `copyIn` and `copyOut` take it. */
export class NamespaceBlocks implements BlockDevice, Disposable {
  readonly name: string;
  readonly blockSize: number;
  readonly blocks: number;
  readonly slots: readonly Uint8Array[];
  readonly #ns: NvmeNamespace;
  readonly #buffer: DmaBuffer;
  readonly #slotBytes: number;
  readonly #fua: boolean;

  /** @throws VfioError EOPNOTSUPP for a format that the driver does not do */
  constructor(dev: DriverDevice, ns: NvmeNamespace, slots = DEPTH, fua = false) {
    ns.checkUsable();
    this.#ns = ns;
    this.#fua = fua;
    this.name = `namespace ${ns.id} on ${dev.name}`;
    this.blockSize = ns.blockSize;
    this.blocks = ns.blocks;
    const blocks = Math.max(1, Math.min(ns.maxBlocks, Math.floor(SLOT_BYTES / ns.blockSize)));
    this.#slotBytes = blocks * ns.blockSize;
    const buffer = dev.dma.alloc(slots * this.#slotBytes);
    this.#buffer = buffer;
    this.slots = Array.from({ length: slots }, (_, i) => buffer.bytes.subarray(i * this.#slotBytes, (i + 1) * this.#slotBytes));
  }

  async read(lba: number, blocks: number, slot: number): Promise<void> {
    await this.#ns.readInto(lba, blocks, this.#buffer, slot * this.#slotBytes);
  }

  async write(lba: number, blocks: number, slot: number): Promise<void> {
    await this.#ns.writeFrom(lba, blocks, this.#buffer, slot * this.#slotBytes, { fua: this.#fua });
  }

  async flush(): Promise<void> {
    await this.#ns.flush();
  }

  [Symbol.dispose](): void {
    this.#buffer[Symbol.dispose]();
  }
}
