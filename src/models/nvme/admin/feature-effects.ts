/**
 * Applies features: passes each change of a value, by the host or by a reset, to the part of the
 * controller that uses the value (NVMe 1.4, 5.21.1).
 */
import { CriticalWarning, EventSmart, EventType, FeatureId, LogId } from '../../../abi/nvme.ts';
import type { AsyncEvents } from '../async-events.ts';
import type { Health } from '../health.ts';
import type { Interrupts } from '../interrupts.ts';
import type { KeepAlive } from '../keep-alive.ts';
import type { Namespaces } from '../namespaces.ts';
import type { Queues } from '../queues.ts';
import { BURST_UNLIMITED, type Features, type FeatureTarget } from './features.ts';

export interface FeatureParts {
  readonly ioQueues: number;
  readonly queues: Queues;
  readonly interrupts: Interrupts;
  readonly events: AsyncEvents;
  readonly keepAlive: KeepAlive;
  readonly namespaces: Namespaces;
  readonly health: Health;
  readonly setWriteCache: (on: boolean) => void;
}

export class FeatureEffects implements FeatureTarget {
  readonly ioQueues: number;
  readonly vectors: number;
  readonly writeCache: boolean;
  /** Whose effects these are: set before the first change. */
  features!: Features;
  /** Critical warnings that the host may have heard of. */
  warnings = 0;
  readonly #parts: FeatureParts;

  constructor(parts: FeatureParts) {
    this.#parts = parts;
    this.ioQueues = parts.ioQueues;
    this.vectors = parts.ioQueues + 1;
    this.writeCache = parts.namespaces.list.some((n) => n.storage.volatile);
  }

  get hasIoQueues(): boolean {
    return this.#parts.queues.cq.some((cq) => cq !== null && cq.id !== 0);
  }

  hasNamespace(nsid: number): boolean {
    return this.#parts.namespaces.get(nsid) !== undefined;
  }

  changed(id: number): void {
    const { queues, interrupts, events, keepAlive, setWriteCache } = this.#parts;
    const { features } = this;
    const value = features.value(id);
    switch (id) {
      case FeatureId.ARBITRATION:
        queues.burst = (value & 7) === BURST_UNLIMITED ? Number.POSITIVE_INFINITY : 1 << (value & 7);
        break;
      case FeatureId.TEMPERATURE_THRESHOLD:
        this.#checkHealth();
        break;
      case FeatureId.VOLATILE_WRITE_CACHE:
        setWriteCache(value === 1);
        break;
      case FeatureId.INTERRUPT_COALESCING:
        interrupts.threshold = value & 0xff;
        interrupts.time = value >>> 8;
        interrupts.flush();
        break;
      case FeatureId.INTERRUPT_VECTOR_CONFIGURATION:
        for (let vector = 0; vector < this.vectors; vector++) interrupts.uncoalesced[vector] = features.uncoalesced(vector) ? 1 : 0;
        interrupts.flush();
        break;
      case FeatureId.ASYNC_EVENT_CONFIGURATION:
        events.config = value;
        // Report a present condition, because the host has only now enabled its event.
        this.warnings = 0;
        this.#checkHealth();
        break;
      case FeatureId.KEEP_ALIVE_TIMER:
        keepAlive.set(value);
        break;
    }
  }

  /** Critical Warning for the thresholds that are set. */
  get criticalWarning(): number {
    return this.#parts.health.warnings(this.features.over, this.features.under);
  }

  /**
   * Compares the temperature with its thresholds. Sends an event for a new condition, if the host
   * has enabled the event.
   */
  #checkHealth(): void {
    const { events } = this.#parts;
    const warnings = this.criticalWarning;
    const fresh = warnings & ~this.warnings;
    this.warnings = warnings;
    if ((fresh & events.config & CriticalWarning.TEMPERATURE) !== 0) {
      events.post(EventType.SMART, EventSmart.TEMPERATURE_THRESHOLD, LogId.SMART);
    }
  }
}
