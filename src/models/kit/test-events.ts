/**
 * The parts of a `TestHost` that emit events, as a machine does: accesses of BARs, DMA, interrupts,
 * and timers that carry the cause of the access in whose answer they were set.
 */
import type { Model, Width } from '../../abi/device-host.ts';
import { ManualClock } from '../../base/clock.ts';
import type { RegisterAccess } from '../../base/register-access.ts';
import type { EventSource } from '../../events/source.ts';

/** A clock that a test moves. */
export class TestClock extends ManualClock {
  readonly #events: () => EventSource;

  constructor(events: () => EventSource) {
    super();
    this.#events = events;
  }

  override after(delayMs: number, callback: () => void): Disposable {
    return super.after(delayMs, this.#events().later(callback));
  }
}

const LOW = 0xffff_ffffn;

/** BAR `bar` of a model, as its bus reaches it. */
export function barAccess(model: Model, bar: number, events: EventSource): RegisterAccess {
  const read = (offset: number, width: Width): number => {
    if (!events.on) return model.read(bar, offset, width);
    const seq = events.access(false, bar, offset, width, 0, 0, false);
    const value = events.during(seq, () => model.read(bar, offset, width));
    events.read(seq, value, 0);
    return value;
  };
  const write = (offset: number, width: Width, value: number): void => {
    if (!events.on) model.write(bar, offset, width, value);
    else events.during(events.access(true, bar, offset, width, value, 0, false), () => model.write(bar, offset, width, value));
  };
  return {
    read8: (offset) => read(offset, 1),
    read16: (offset) => read(offset, 2),
    read32: (offset) => read(offset, 4),
    read64(offset) {
      if (model.read64 === undefined) return BigInt(read(offset, 4)) | (BigInt(read(offset + 4, 4)) << 32n);
      if (!events.on) return model.read64(bar, offset);
      const seq = events.access(false, bar, offset, 8, 0, 0, false);
      const value = events.during(seq, () => model.read64!(bar, offset));
      events.read(seq, Number(value & LOW), Number(value >> 32n));
      return value;
    },
    write8: (offset, value) => write(offset, 1, value),
    write16: (offset, value) => write(offset, 2, value),
    write32: (offset, value) => write(offset, 4, value),
    write64(offset, value) {
      if (model.write64 === undefined) {
        write(offset, 4, Number(value & LOW));
        write(offset + 4, 4, Number(value >> 32n));
      } else if (!events.on) model.write64(bar, offset, value);
      else {
        const seq = events.access(true, bar, offset, 8, Number(value & LOW), Number(value >> 32n), false);
        events.during(seq, () => model.write64!(bar, offset, value));
      }
    },
  };
}
