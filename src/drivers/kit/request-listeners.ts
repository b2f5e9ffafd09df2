/** Whether a driver listens for 'request' itself: its machine asks for the device back. */
import type { DeviceEventKind } from '../../abi/device.ts';

export class RequestListeners {
  #count = 0;

  /** Whether there is one. */
  get any(): boolean {
    return this.#count > 0;
  }

  /** Counts a listener that hears of `kinds`, of every kind by default. */
  add(kinds: readonly DeviceEventKind[] | undefined, listening: Disposable): Disposable {
    if (kinds !== undefined && !kinds.includes('request')) return listening;
    this.#count++;
    let active = true;
    return {
      [Symbol.dispose]: () => {
        if (active) this.#count--;
        active = false;
        listening[Symbol.dispose]();
      },
    };
  }
}
