/** A device that is moved, as migration sees it. `PciTarget` is one; tests make small ones. */
import type { ModelBulk, ModelMigration } from '../../abi/device-host.ts';

/** A store and its number in the stream. */
export interface TargetStore {
  readonly id: number;
  readonly bulk: ModelBulk;
  /** False: no log notes writes to the store, so it is sent while the device stands still. */
  readonly tracked: boolean;
}

export interface MigrationTarget {
  /** For messages: a BDF. */
  readonly name: string;
  readonly model: ModelMigration;
  /** Bytes that must be the same at both ends of a move. */
  readonly identity: Uint8Array<ArrayBuffer>;
  readonly stores: readonly TargetStore[];
  /** From now on nothing new leaves the device: neither DMA nor interrupts. */
  hold(): void;
  /** End `hold`: interrupts that were held back go out now. */
  release(): void;
  /** DMA issued before `hold` is still in flight. */
  readonly draining: boolean;
  /** Sections CONFIG and INTERRUPTS. */
  saveConfig(): Uint8Array<ArrayBuffer>;
  saveInterrupts(): Uint8Array<ArrayBuffer>;
  /**
   * Check sections, and change nothing.
   *
   * @throws VfioError EINVAL for sections that no device could have sent
   */
  checkConfig(saved: Uint8Array): void;
  checkInterrupts(saved: Uint8Array): void;
  /** Put the model into its state after power-on; the configuration stays. */
  resetModel(): void;
  loadConfig(saved: Uint8Array): void;
  loadInterrupts(saved: Uint8Array): void;
}

export function blocksOf({ size, blockSize }: ModelBulk): number {
  return Math.floor(size / blockSize);
}
