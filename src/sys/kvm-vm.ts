/** A virtual machine of KVM as an open file, for those who count references on it (S4-07). */

import { openSync } from 'node:fs';
import { KvmIoctl } from '../abi/kvm.ts';
import { Cleanup } from '../base/cleanup.ts';
import { Counted } from '../base/counted.ts';
import { Errno, VfioError } from '../base/errno.ts';
import { addon, sysError } from './addon.ts';
import { OwnedFd } from './owned-fd.ts';

/** What /proc/self/fd calls the descriptor of a VM. */
const KIND = 'anon_inode:kvm-vm';

/**
 * A descriptor of our own keeps the machine, whoever closes theirs. It is closed with the last reference; the creator's goes with dispose.
 */
export class KvmVm extends Counted {
  readonly name: string;
  readonly #fd: OwnedFd;

  private constructor(fd: OwnedFd) {
    super('the virtual machine');
    this.#fd = fd;
    this.name = `KVM's virtual machine of process ${process.pid}`;
  }

  /** @param fd  stays the caller's   @throws VfioError EBADF nothing is open there; EINVAL not the descriptor of a virtual machine of KVM */
  static fromNumber(fd: number): KvmVm {
    return KvmVm.take(OwnedFd.duplicate(fd));
  }

  /** The same for a descriptor that was received; it is taken over, also when this throws. */
  static take(fd: OwnedFd): KvmVm {
    using undo = new Cleanup();
    undo.use(fd);
    const kind = fd.describe();
    if (kind !== KIND) {
      throw new VfioError('EINVAL', `the descriptor is ${kind}, not a virtual machine`, { fix: 'Give what KVM_CREATE_VM answered.' });
    }
    undo.move();
    return new KvmVm(fd);
  }

  /** A new machine, with nothing in it. @throws VfioError ENOENT, EACCES where there is no KVM, or not for us; what KVM_CREATE_VM answers */
  static create(path = '/dev/kvm'): KvmVm {
    using kvm = openNode(path);
    // A signal that comes while it is made makes it EINTR (linux/mm/mmu_notifier.c, by mm_take_all_locks()).
    let fd: number;
    do fd = addon().ioctl(kvm.number, KvmIoctl.CREATE_VM, 0);
    while (fd === -Errno.EINTR);
    if (fd < 0) throw sysError(fd, `KVM_CREATE_VM on ${path}`);
    return KvmVm.take(OwnedFd.own(fd, 'KVM_CREATE_VM'));
  }

  /** One more reference; false when nobody holds it any more. */
  tryGet(): boolean {
    if (this.references === 0) return false;
    this.get();
    return true;
  }

  /** For calls of this room only. */
  get number(): number {
    return this.#fd.number;
  }

  protected override released(): void {
    this.#fd[Symbol.dispose]();
  }
}

function openNode(path: string): OwnedFd {
  try {
    return OwnedFd.own(openSync(path, 'r+'), `opening ${path}`);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    throw new VfioError(code === 'ENOENT' || code === 'EACCES' ? code : 'EIO', `${path} cannot be opened: ${code}`, { cause });
  }
}
