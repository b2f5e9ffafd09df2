/**
 * One reference on a virtual machine: from the first open of a device to its last close (S4-03).
 */
import { callForeign, type Failed, textOf } from '../../base/foreign.ts';
import type { EventSource } from '../../events/source.ts';
import type { EngineContext } from '../context.ts';
import type { FaultPlan } from '../fault-plan.ts';
import type { VmFile } from './vm-provider.ts';

/**
 * Holds the file, and its provider's code. The reference goes back to the file that it was taken
 * from, also when the group has another machine since (S4-05).
 */
export class VmReference implements Disposable {
  readonly file: VmFile;
  readonly #events: EventSource;
  #held = true;

  private constructor(file: VmFile, events: EventSource) {
    this.file = file;
    this.#events = events;
  }

  /**
   * Null when the machine gives no reference: it is being destroyed, or its hypervisor is unloaded
   * (S4-04). The device then opens without one.
   *
   * @param events of the device
   */
  static take(file: VmFile | null, { faults }: Pick<EngineContext, 'faults'>, events: EventSource): VmReference | null {
    if (file === null) return null;
    const reference = VmReference.#tryTake(file, faults, events);
    if (events.on) events.emit('vm', { step: reference === null ? 'refused' : 'taken', name: nameOf(file) });
    return reference;
  }

  static #tryTake(file: VmFile, faults: FaultPlan, events: EventSource): VmReference | null {
    if (!file.provider.tryPin()) return null;
    try {
      faults.step('vm.get');
      if (tryGet(file, events)) return new VmReference(file, events);
    } catch (error) {
      file.provider.unpin();
      throw error;
    }
    file.provider.unpin();
    return null;
  }

  /**
   * Idempotent. The file goes first, because that needs its provider's code. A put that throws or
   * rejects is the hypervisor's bug, and keeps no device open.
   */
  [Symbol.dispose](): void {
    if (!this.#held) return;
    this.#held = false;
    callForeign('put', () => this.file.put(), reporter(this.file, this.#events));
    this.file.provider.unpin();
    if (this.#events.on) this.#events.emit('vm', { step: 'given back', name: nameOf(this.file) });
  }
}

/**
 * A get that throws, or is async, is the hypervisor's bug, too: the device then has no reference.
 */
function tryGet(file: VmFile, events: EventSource): boolean {
  return callForeign('get', () => file.tryGet(), reporter(file, events)) === true;
}

/** The hypervisor's own word, of any type. */
function nameOf({ name }: VmFile): string {
  return typeof name === 'string' ? name.slice(0, 64) : '?';
}

function reporter(file: VmFile, events: EventSource): Failed {
  return (what, error) => {
    const { name, provider } = file;
    events.note('error', `${what} of ${name}`, `${provider.name}: ${what} of ${name} failed: ${textOf(error)}`);
  };
}
