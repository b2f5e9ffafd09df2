/**
 * One reference on a virtual machine: from the first open of a device to its last close (S4-03).
 */
import { callForeign, type Failed, textOf } from '../../base/foreign.ts';
import type { EngineContext } from '../context.ts';
import type { VmFile } from './vm-provider.ts';

/**
 * Holds the file, and its provider's code. The reference goes back to the file that it was taken
 * from, also when the group has another machine since (S4-05).
 */
export class VmReference implements Disposable {
  readonly file: VmFile;
  readonly #ctx: EngineContext;
  #held = true;

  private constructor(file: VmFile, ctx: EngineContext) {
    this.file = file;
    this.#ctx = ctx;
  }

  /**
   * Null when the machine gives no reference: it is being destroyed, or its hypervisor is unloaded
   * (S4-04). The device then opens without one.
   */
  static take(file: VmFile | null, ctx: EngineContext): VmReference | null {
    if (file === null || !file.provider.tryPin()) return null;
    try {
      ctx.faults.step('vm.get');
      if (tryGet(file, ctx)) return new VmReference(file, ctx);
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
    callForeign('put', () => this.file.put(), reporter(this.file, this.#ctx));
    this.file.provider.unpin();
  }
}

/**
 * A get that throws, or is async, is the hypervisor's bug, too: the device then has no reference.
 */
function tryGet(file: VmFile, ctx: EngineContext): boolean {
  return callForeign('get', () => file.tryGet(), reporter(file, ctx)) === true;
}

function reporter(file: VmFile, { events }: EngineContext): Failed {
  return (what, error) => {
    const { name, provider } = file;
    events.note('error', `${what} of ${name}`, `${provider.name}: ${what} of ${name} failed: ${textOf(error)}`);
  };
}
