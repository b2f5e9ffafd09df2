/**
 * A hypervisor as VFIO sees it: a module whose code must stay loaded while its objects are
 * referenced (S4-06), and open files of its virtual machines (S4-07). The engine imports no
 * hypervisor: the program that has one makes these (S4-01).
 */
import { VfioError } from '../../base/errno.ts';

/**
 * One hypervisor module. Several can be there side by side (S4-13): each reference carries its own.
 */
export class VmProvider {
  readonly name: string;
  #pins = 0;
  #unloaded = false;

  /**
   * A module that is loaded, without pins.
   *
   * @param name the module's name, for messages: `kvm_intel`
   */
  constructor(name: string) {
    this.name = name;
  }

  /** References that need the module's code. */
  get pins(): number {
    return this.#pins;
  }

  /** `unload` has succeeded. */
  get unloaded(): boolean {
    return this.#unloaded;
  }

  /** False when the module is unloaded (try_module_get). */
  tryPin(): boolean {
    if (this.#unloaded) return false;
    this.#pins++;
    return true;
  }

  /** Drops one reference of `tryPin` (module_put). */
  unpin(): void {
    if (this.#pins === 0) throw new Error(`unpin of ${this.name}, which has no pins`);
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
 * The open file of a virtual machine. References count the file, not the machine (S4-07): the
 * machine lives as long as its file, also after its first descriptor is closed.
 */
export interface VmFile {
  readonly provider: VmProvider;
  /** For messages: `vm 42`. */
  readonly name: string;
  /** Take a reference; false when the machine is being destroyed (S4-04). */
  tryGet(): boolean;
  /** Drops one reference of `tryGet`. */
  put(): void;
}

/** Whether `value` has all members of a VM file: half of them are dangerous (S4-02). */
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
