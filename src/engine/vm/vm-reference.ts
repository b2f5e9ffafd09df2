/** One reference on a virtual machine: from the first open of a device to its last close (S4-03). */
import type { EngineContext } from '../context.ts';
import type { VmFile } from './vm-provider.ts';

/** Holds the file, and its provider's code: what was taken from is what is given back to, whatever was set since (S4-05). */
export class VmReference implements Disposable {
  readonly file: VmFile;
  readonly #ctx: EngineContext;
  #held = true;

  private constructor(file: VmFile, ctx: EngineContext) {
    this.file = file;
    this.#ctx = ctx;
  }

  /** Null when there is none to be had: the machine is dying, or its hypervisor is unloaded (S4-04). The device opens without one then. */
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

  /** Idempotent. The file first: its code is needed for that. What a hypervisor throws is its own bug, and keeps no device open. */
  [Symbol.dispose](): void {
    if (!this.#held) return;
    this.#held = false;
    try {
      this.file.put();
    } catch (error) {
      this.#ctx.log.log(
        'error',
        `put of ${this.file.name}`,
        `${this.file.provider.name}: put of ${this.file.name} threw: ${String(error)}`,
      );
    } finally {
      this.file.provider.unpin();
    }
  }
}

/** What a hypervisor throws is its own bug here too: it has given none. */
function tryGet(file: VmFile, ctx: EngineContext): boolean {
  try {
    return file.tryGet() === true;
  } catch (error) {
    ctx.log.log('error', `get of ${file.name}`, `${file.provider.name}: get of ${file.name} threw: ${String(error)}`);
    return false;
  }
}
