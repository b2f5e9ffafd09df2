/** Numbers of events, by device and kind. */
import type { EventKind, VfioEvent } from '../../abi/event.ts';
import { formatNanoseconds, grouped } from '../quantities.ts';

interface OfDevice {
  readonly kinds: Map<EventKind, number>;
  readonly refused: Map<string, number>;
}

export class EventStats {
  readonly #devices = new Map<string, OfDevice>();
  #events = 0;
  #dropped = 0;
  #first: number | null = null;
  #last = 0;

  add(event: VfioEvent): void {
    if (event.kind === 'dropped') {
      this.#dropped += event.count;
      return;
    }
    this.#events++;
    this.#first ??= event.timeNs;
    this.#last = event.timeNs;
    let of = this.#devices.get(event.device);
    if (of === undefined) {
      of = { kinds: new Map(), refused: new Map() };
      this.#devices.set(event.device, of);
    }
    count(of.kinds, event.kind);
    if (event.kind === 'dma-refused') count(of.refused, event.reason);
  }

  lines(): string[] {
    const span = formatNanoseconds(this.#first === null ? 0 : this.#last - this.#first);
    const missing = this.#dropped === 0 ? 'none missing' : `${grouped(this.#dropped)} missing`;
    const lines = [`${grouped(this.#events)} events in ${span}, ${missing}`];
    for (const [device, { kinds, refused }] of this.#devices) {
      lines.push('', device);
      for (const [kind, number] of kinds) {
        const reasons = kind !== 'dma-refused' ? [] : [...refused].map(([reason, times]) => `${reason} ${grouped(times)}`);
        lines.push(`  ${kind.padEnd(12)} ${grouped(number).padStart(10)}${reasons.length === 0 ? '' : `  ${reasons.join(', ')}`}`);
      }
    }
    return lines;
  }
}

function count<K>(counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
