/**
 * The VFIO files that a virtual machine uses: KVM's device of type VFIO. While a file is listed it is held, and its devices take a reference on the
 * machine when they are opened.
 *
 * @see linux/virt/kvm/vfio.c, kvm_vfio_file_add(), kvm_vfio_file_del(), kvm_vfio_release()
 */
import { VfioError } from '../../base/errno.ts';
import type { VmFile } from './vm-provider.ts';

/** A group file or a device file. */
export interface VfioFile {
  /** Which machine its devices belong to when they are opened; null: none from now on. Devices that are open keep what they have (S4-05). */
  setVm(vm: VmFile | null): void;
  /** All its DMA is cache coherent, whatever a device asks for (vfio_file_enforced_coherent). */
  readonly enforcesCoherency: boolean;
}

interface Listed {
  readonly file: VfioFile;
  /** The reference on the open file. */
  readonly hold: Disposable;
}

export interface VfioFileSetOptions {
  /** Told when the first file came whose DMA may bypass the caches, and when the last of them went (S4-11): the guest's WBINVD counts meanwhile. */
  readonly onNoncoherent?: (noncoherent: boolean) => void;
}

export class VfioFileSet implements Disposable {
  readonly #vm: VmFile;
  readonly #onNoncoherent: (noncoherent: boolean) => void;
  readonly #listed = new Map<VfioFile, Listed>();
  #noncoherent = false;

  constructor(vm: VmFile, options: VfioFileSetOptions = {}) {
    this.#vm = vm;
    this.#onNoncoherent = options.onNoncoherent ?? (() => {});
  }

  get size(): number {
    return this.#listed.size;
  }

  get noncoherent(): boolean {
    return this.#noncoherent;
  }

  /** @param hold disposed when the file is not listed any more   @throws VfioError EEXIST when it is listed already; `hold` is not taken then */
  add(file: VfioFile, hold: Disposable): void {
    if (this.#listed.has(file)) throw new VfioError('EEXIST', `the file is in the set of ${this.#vm.name} already`);
    this.#listed.set(file, { file, hold });
    file.setVm(this.#vm);
    this.#updateCoherency();
  }

  /** @throws VfioError ENOENT when it is not listed */
  delete(file: VfioFile): void {
    const listed = this.#listed.get(file);
    if (listed === undefined) throw new VfioError('ENOENT', `the file is not in the set of ${this.#vm.name}`);
    this.#listed.delete(file);
    this.#letGo(listed);
    this.#updateCoherency();
  }

  /** The machine is gone, or its set closed (S4-12). Idempotent. */
  [Symbol.dispose](): void {
    const all = [...this.#listed.values()];
    this.#listed.clear();
    for (const listed of all) this.#letGo(listed);
    this.#updateCoherency();
  }

  #letGo({ file, hold }: Listed): void {
    try {
      file.setVm(null);
    } finally {
      hold[Symbol.dispose]();
    }
  }

  #updateCoherency(): void {
    let noncoherent = false;
    for (const { file } of this.#listed.values()) if (!file.enforcesCoherency) noncoherent = true;
    if (noncoherent === this.#noncoherent) return;
    this.#noncoherent = noncoherent;
    this.#onNoncoherent(noncoherent);
  }
}
