/**
 * Low power of a device of Linux's VFIO (B.10). The kernel revokes the mappings meanwhile, and
 * wakes the device for every other access.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_pm_entry()
 */
import type { InterruptSink, LowPower } from '../abi/device.ts';
import { Feature, FeatureFlags } from '../abi/vfio.ts';
import { LowPowerEntryWithWakeup } from '../abi/vfio-structs.ts';
import { textOf } from '../base/foreign.ts';
import { type EventFdLine, sinkLine } from '../sys/event-fd-line.ts';
import { descriptorBytes } from '../sys/kernel-file.ts';
import type { KernelFeatures } from './features.ts';

const { SET } = FeatureFlags;

export class KernelLowPower implements LowPower, Disposable {
  readonly #features: KernelFeatures;
  /** The line that the kernel signals when it wakes the device. */
  #wakeup: EventFdLine | null = null;

  constructor(features: KernelFeatures) {
    this.#features = features;
  }

  enter(): void {
    this.#features.ask(Feature.LOW_POWER_ENTRY, SET);
  }

  enterWithWakeup(wakeup: InterruptSink): void {
    const { name, source } = this.#features.port;
    const line = sinkLine(wakeup, `the sink of feature ${Feature.LOW_POWER_ENTRY_WITH_WAKEUP}`, (what, error) =>
      source.note('error', what, `${name}: ${what}: ${textOf(error)}`),
    );
    try {
      const data = new Uint8Array(LowPowerEntryWithWakeup.structSize);
      data.set(descriptorBytes([line?.fd ?? null]));
      this.#features.ask(Feature.LOW_POWER_ENTRY_WITH_WAKEUP, SET, data);
    } catch (error) {
      line?.[Symbol.dispose]();
      throw error;
    }
    this.#wakeup?.[Symbol.dispose]();
    this.#wakeup = line;
  }

  exit(): void {
    this.#features.ask(Feature.LOW_POWER_EXIT, SET);
  }

  /** The device is closed. Idempotent. */
  [Symbol.dispose](): void {
    this.#wakeup?.[Symbol.dispose]();
    this.#wakeup = null;
  }
}
