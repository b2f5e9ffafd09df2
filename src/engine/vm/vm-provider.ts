/**
 * A hypervisor as VFIO sees it: somebody whose code must stay loaded while anything of it is
 * referenced (S4-06), and open files that stand for its virtual machines (S4-07). The engine
 * imports no hypervisor: whoever has one makes these (S4-01).
 */
import { VfioError } from '../../base/errno.ts';

/**
 * One hypervisor module. Several can be there side by side (S4-13): each reference carries its own.
 */
export class VmProvider {
  readonly name: string;
  #pins = 0;
  #unloaded = false;

  constructor(name: string) {
    this.name = name;
  }

  /** References that need its code. */
  get pins(): number {
    return this.#pins;
  }

  get unloaded(): boolean {
    return this.#unloaded;
  }

  /** False when it is unloaded: there is nothing to pin any more (try_module_get). */
  tryPin(): boolean {
    if (this.#unloaded) return false;
    this.#pins++;
    return true;
  }

  unpin(): void {
    if (this.#pins === 0) throw new Error(`unpin of ${this.name}, which nobody has pinned`);
    this.#pins--;
  }

  /** @throws VfioError EBUSY while it is pinned; nothing has changed then */
  unload(): void {
    if (this.#pins > 0) {
      throw new VfioError(
        'EBUSY',
        `${this.name} is in use by ${this.#pins} ${this.#pins === 1 ? 'device' : 'devices'} of its virtual machines`,
        {
          fix: 'Close the devices first.',
        },
      );
    }
    this.#unloaded = true;
  }
}

/**
 * The open file of a virtual machine. What is counted is the file, not the machine (S4-07): the
 * machine lives as long as its file, whoever closed the descriptor that it came from.
 */
export interface VmFile {
  readonly provider: VmProvider;
  /** For messages: `vm 42`. */
  readonly name: string;
  /** One more reference; false when the machine is on its way out and gives none (S4-04). */
  tryGet(): boolean;
  put(): void;
}

/** Whether `value` has all that a VM file needs: half of it is of no use, and dangerous (S4-02). */
export function isVmFile(value: unknown): value is VmFile {
  const file = value as Partial<VmFile> | null;
  return (
    typeof file === 'object' &&
    file !== null &&
    typeof file.tryGet === 'function' &&
    typeof file.put === 'function' &&
    file.provider instanceof VmProvider
  );
}
