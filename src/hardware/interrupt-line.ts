/**
 * An interrupt wire with the handlers on it. Functions whose masks are in COMMAND.InterruptDisable
 * can share one; a function without that bit can only be masked at the interrupt controller, so it
 * needs the wire for itself (S2-12).
 */
import { VfioError } from '../base/errno.ts';

export class InterruptLine {
  readonly name: string;
  readonly #users = new Set<{ readonly who: string; readonly shared: boolean }>();

  constructor(name: string) {
    this.name = name;
  }

  get users(): number {
    return this.#users.size;
  }

  /**
   * Take the line, alone or together with other handlers that share it.
   *
   * @throws VfioError EBUSY when a handler on the line does not share, or when `shared` is false
   * and the line has a handler
   * @see request_irq() and IRQF_SHARED
   */
  request(who: string, shared: boolean): Disposable {
    for (const other of this.#users) {
      if (shared && other.shared) continue;
      const alone = shared ? other.who : who;
      throw new VfioError('EBUSY', `${who}: interrupt line ${this.name} is in use by ${other.who}, and ${alone} cannot share it`, {
        fix: `Use MSI for ${who}, or disable INTx of ${other.who} first.`,
      });
    }
    const user = { who, shared };
    this.#users.add(user);
    return { [Symbol.dispose]: () => void this.#users.delete(user) };
  }
}
