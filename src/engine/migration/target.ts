/** What is moved: a device as migration sees it. `PciTarget` is one; tests make small ones. */
import type { ModelBulk, ModelMigration } from '../../abi/device-host.ts';

/** A store and its number in the stream. */
export interface TargetStore {
  readonly id: number;
  readonly bulk: ModelBulk;
  /** False: nobody notes writes to it, so that it is sent when the device stands still. */
  readonly tracked: boolean;
}

export interface MigrationTarget {
  /** For messages: a BDF. */
  readonly name: string;
  readonly model: ModelMigration;
  /** What no two devices may differ in. */
  readonly identity: Uint8Array<ArrayBuffer>;
  readonly stores: readonly TargetStore[];
  /** Nothing new leaves the device: neither DMA nor interrupts. */
  hold(): void;
  /** It may again; interrupts that were held back go now. */
  release(): void;
  /** DMA of before `hold` is on its way still. */
  readonly draining: boolean;
  /** Sections CONFIG and INTERRUPTS. */
  saveConfig(): Uint8Array<ArrayBuffer>;
  saveInterrupts(): Uint8Array<ArrayBuffer>;
  /** Look without changing anything. @throws VfioError EINVAL for what cannot be */
  checkConfig(saved: Uint8Array): void;
  checkInterrupts(saved: Uint8Array): void;
  /** The model as after power-on; the configuration stays. */
  resetModel(): void;
  loadConfig(saved: Uint8Array): void;
  loadInterrupts(saved: Uint8Array): void;
}

export function blocksOf({ size, blockSize }: ModelBulk): number {
  return Math.floor(size / blockSize);
}
