/**
 * The parts of a `TestHost` that emit events, as a machine does: accesses of BARs, DMA, interrupts,
 * and timers that carry the cause of the access in whose answer they were set.
 */
import type { Model, Width } from '../../abi/device-host.ts';
import type { EventPort } from '../../abi/event.ts';
import { ManualClock } from '../../base/clock.ts';
import type { RegisterAccess } from '../../base/register-access.ts';
import type { EventSource } from '../../events/source.ts';

/** A clock that a test moves. */
export class TestClock extends ManualClock {
  readonly #events: () => EventPort;

  constructor(events: () => EventPort) {
    super();
    this.#events = events;
  }

  override after(delayMs: number, callback: () => void): Disposable {
    const events = this.#events();
    const { cause } = events;
    if (cause === 0) return super.after(delayMs, callback);
    return super.after(delayMs, () => {
      const before = events.cause;
      events.cause = cause;
      try {
        // The promise of an async callback goes to the clock.
        return callback();
      } finally {
        events.cause = before;
      }
    });
  }
}

const LOW = 0xffff_ffffn;

/** BAR `bar` of a model, as its bus reaches it. */
export function barAccess(model: Model, bar: number, events: EventSource): RegisterAccess {
  const read = (offset: number, width: Width): number => {
    if (!events.on) return model.read(bar, offset, width);
    return answered(events, events.access(false, bar, offset, width, 0, 0, false), (seq) => {
      const value = model.read(bar, offset, width);
      events.read(seq, value, 0);
      return value;
    });
  };
  const write = (offset: number, width: Width, value: number): void => {
    if (!events.on) model.write(bar, offset, width, value);
    else answered(events, events.access(true, bar, offset, width, value, 0, false), () => model.write(bar, offset, width, value));
  };
  return {
    read8: (offset) => read(offset, 1),
    read16: (offset) => read(offset, 2),
    read32: (offset) => read(offset, 4),
    read64(offset) {
      if (model.read64 === undefined) return BigInt(read(offset, 4)) | (BigInt(read(offset + 4, 4)) << 32n);
      if (!events.on) return model.read64(bar, offset);
      return answered(events, events.access(false, bar, offset, 8, 0, 0, false), (seq) => {
        const value = model.read64!(bar, offset);
        events.read(seq, Number(value & LOW), Number(value >> 32n));
        return value;
      });
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
        answered(events, seq, () => model.write64!(bar, offset, value));
      }
    },
  };
}

/** Does the work of event `seq`, whose effects name it as their cause. */
function answered<R>(events: EventPort, seq: number, work: (seq: number) => R): R {
  const before = events.cause;
  events.cause = seq;
  try {
    return work(seq);
  } finally {
    events.cause = before;
  }
}
