/**
 * A virtual machine that is only its file: for tests, and for hypervisors that have no descriptor
 * to give.
 */
import { Counted } from '../../base/counted.ts';
import type { VmFile, VmProvider } from './vm-provider.ts';

/**
 * Dispose it to close the creator's descriptor; the machine ends when its file has no reference any
 * more.
 */
export class SyntheticVm extends Counted implements VmFile {
  readonly provider: VmProvider;
  readonly name: string;
  readonly #onEnd: () => void;

  /**
   * A machine with one reference, the creator's.
   *
   * @param name for messages
   * @param onEnd called once, when the machine ends
   */
  constructor(provider: VmProvider, name: string, onEnd: () => void = () => {}) {
    super(name);
    this.provider = provider;
    this.name = name;
    this.#onEnd = onEnd;
  }

  tryGet(): boolean {
    if (this.references === 0) return false;
    this.get();
    return true;
  }

  protected override released(): unknown {
    return this.#onEnd();
  }
}
