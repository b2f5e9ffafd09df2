/**
 * The VFIO files that a virtual machine uses: KVM's device of type VFIO. The set holds each file in
 * it, and the devices of such a file take a reference on the machine when they are opened.
 *
 * @see linux/virt/kvm/vfio.c, kvm_vfio_file_add(), kvm_vfio_file_del(), kvm_vfio_release()
 */
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { type Failed, settle, textOf } from '../../base/foreign.ts';
import { type Logger, silentLogger } from '../../base/log.ts';
import type { VmFile } from './vm-provider.ts';

/** A group file or a device file. */
export interface VfioFile {
  /**
   * The machine of devices that are opened from now on; null for none. Devices that are open keep
   * their machine (S4-05).
   */
  setVm(vm: VmFile | null): void;
  /**
   * All DMA of the file is cache coherent, whatever a device asks for
   * (vfio_file_enforced_coherent).
   */
  readonly enforcesCoherency: boolean;
}

interface Listed {
  readonly file: VfioFile;
  /** The reference on the open file. */
  readonly hold: Disposable;
}

/** Listeners of a `VfioFileSet`. */
export interface VfioFileSetOptions {
  /**
   * Called when the first file comes whose DMA may bypass the caches, and when the last such file
   * goes (S4-11): meanwhile the guest's WBINVD has an effect.
   */
  readonly onNoncoherent?: (noncoherent: boolean) => void;
  /** Default: silent. */
  readonly log?: Logger;
}

/** The VFIO files that a virtual machine uses (KVM's kvm-vfio device). */
export class VfioFileSet implements Disposable {
  readonly #vm: VmFile;
  readonly #onNoncoherent: (noncoherent: boolean) => void;
  /** Reports rejections; errors that are thrown go to the caller. */
  readonly #failed: Failed;
  readonly #listed = new Map<VfioFile, Listed>();
  #noncoherent = false;

  /**
   * An empty set.
   *
   * @param vm the machine whose set it is
   */
  constructor(vm: VmFile, options: VfioFileSetOptions = {}) {
    this.#vm = vm;
    this.#onNoncoherent = options.onNoncoherent ?? (() => {});
    const { log = silentLogger } = options;
    this.#failed = (what, error) => log.log('error', `the set of ${vm.name}: ${what} failed: ${textOf(error)}`);
  }

  /** Files in the set. */
  get size(): number {
    return this.#listed.size;
  }

  /** A file in the set does DMA that may bypass the caches. */
  get noncoherent(): boolean {
    return this.#noncoherent;
  }

  /**
   * @param hold disposed of when the file leaves the set
   * @throws VfioError EEXIST when it is listed already; `hold` is not taken then
   */
  add(file: VfioFile, hold: Disposable): void {
    if (this.#listed.has(file)) throw new VfioError('EEXIST', `the file is in the set of ${this.#vm.name} already`);
    using undo = new Cleanup();
    this.#listed.set(file, { file, hold });
    undo.defer(() => this.#listed.delete(file));
    settle('setVm', file.setVm(this.#vm), this.#failed);
    undo.defer(() => settle('setVm', file.setVm(null), this.#failed));
    this.#updateCoherency();
    undo.move();
  }

  /** @throws VfioError ENOENT when it is not listed */
  delete(file: VfioFile): void {
    const listed = this.#listed.get(file);
    if (listed === undefined) throw new VfioError('ENOENT', `the file is not in the set of ${this.#vm.name}`);
    this.#letGo([listed]);
  }

  /** The machine is gone, or its set is closed (S4-12). Idempotent. */
  [Symbol.dispose](): void {
    this.#letGo([...this.#listed.values()]);
  }

  /** Every step runs, whatever another one throws. */
  #letGo(all: readonly Listed[]): void {
    using steps = new Cleanup();
    steps.defer(() => this.#updateCoherency());
    for (const { file, hold } of all) {
      this.#listed.delete(file);
      steps.defer(() => settle('the release of a file', hold[Symbol.dispose](), this.#failed));
      steps.defer(() => settle('setVm', file.setVm(null), this.#failed));
    }
  }

  #updateCoherency(): void {
    let noncoherent = false;
    for (const { file } of this.#listed.values()) if (!file.enforcesCoherency) noncoherent = true;
    if (noncoherent === this.#noncoherent) return;
    settle('onNoncoherent', this.#onNoncoherent(noncoherent), this.#failed);
    this.#noncoherent = noncoherent;
  }
}
