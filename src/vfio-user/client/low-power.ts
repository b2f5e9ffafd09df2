/** Low power of a device at the end of a connection (B.10): the gate of its mappings follows. */
import type { InterruptSink, LowPower } from '../../abi/device.ts';
import { Feature } from '../../abi/vfio.ts';
import { textOf } from '../../base/foreign.ts';
import { type EventFdLine, sinkLine } from '../../sys/event-fd-line.ts';
import type { ClientFeatures } from './features.ts';
import type { MemoryGate } from './memory-gate.ts';

export class ClientLowPower implements LowPower, Disposable {
  readonly #features: ClientFeatures;
  readonly #gate: MemoryGate;
  /** The line that the server signals when it wakes the device. */
  #wakeup: EventFdLine | null = null;

  constructor(features: ClientFeatures, gate: MemoryGate) {
    this.#features = features;
    this.#gate = gate;
  }

  enter(): void {
    this.#features.set(Feature.LOW_POWER_ENTRY);
    this.#gate.lowPower = true;
    this.#gate.changed();
  }

  enterWithWakeup(wakeup: InterruptSink): void {
    const { name, messages } = this.#features.connection;
    const line = sinkLine(wakeup, `the sink of feature ${Feature.LOW_POWER_ENTRY_WITH_WAKEUP}`, (what, error) =>
      messages.source.note('error', what, `${name}: ${what}: ${textOf(error)}`),
    );
    try {
      this.#features.set(Feature.LOW_POWER_ENTRY_WITH_WAKEUP, new Uint8Array(8), line === null ? [] : [line.fd]);
    } catch (error) {
      line?.[Symbol.dispose]();
      throw error;
    }
    this.#gate.changed();
    this.#wakeup?.[Symbol.dispose]();
    this.#wakeup = line;
  }

  exit(): void {
    this.#features.set(Feature.LOW_POWER_EXIT);
    this.#gate.lowPower = false;
    this.#gate.changed();
  }

  /** The connection has ended. Idempotent. */
  [Symbol.dispose](): void {
    this.#wakeup?.[Symbol.dispose]();
  }
}
