/** A virtual machine of KVM as an open file, for holders of counted references (S4-07). */

import { openSync } from 'node:fs';
import { KvmIoctl } from '../abi/kvm.ts';
import { Cleanup } from '../base/cleanup.ts';
import { Counted } from '../base/counted.ts';
import { Errno, VfioError } from '../base/errno.ts';
import { addon, sysError } from './addon.ts';
import { OwnedFd } from './owned-fd.ts';

/** The name of a VM's descriptor in /proc/self/fd. */
const KIND = 'anon_inode:kvm-vm';

/**
 * This object's own descriptor keeps the machine, even when others close theirs. The last reference
 * closes it; the creator's reference ends with dispose.
 */
export class KvmVm extends Counted {
  readonly name: string;
  readonly #fd: OwnedFd;

  private constructor(fd: OwnedFd) {
    super('the virtual machine');
    this.#fd = fd;
    this.name = `KVM's virtual machine of process ${process.pid}`;
  }

  /**
   * @param fd stays the caller's
   * @throws VfioError EBADF when it is not open; EINVAL when it is not a virtual machine of KVM
   */
  static fromNumber(fd: number): KvmVm {
    return KvmVm.take(OwnedFd.duplicate(fd));
  }

  /** The same for a received descriptor, which is taken over, also when this throws. */
  static take(fd: OwnedFd): KvmVm {
    using undo = new Cleanup();
    undo.use(fd);
    const kind = fd.describe();
    if (kind !== KIND) {
      throw new VfioError('EINVAL', `the descriptor is ${kind}, not a virtual machine`, {
        fix: 'Give the descriptor that KVM_CREATE_VM returned.',
      });
    }
    undo.move();
    return new KvmVm(fd);
  }

  /**
   * A new, empty machine.
   * @throws VfioError ENOENT without KVM; EACCES when this user may not use it; the errno of
   *   KVM_CREATE_VM
   */
  static create(path = '/dev/kvm'): KvmVm {
    using kvm = openNode(path);
    // A signal that arrives meanwhile makes KVM_CREATE_VM return EINTR (linux/mm/mmu_notifier.c, by
    // mm_take_all_locks()).
    let fd: number;
    do fd = addon().ioctl(kvm.number, KvmIoctl.CREATE_VM, 0);
    while (fd === -Errno.EINTR);
    if (fd < 0) throw sysError(fd, `KVM_CREATE_VM on ${path}`);
    return KvmVm.take(OwnedFd.own(fd, 'KVM_CREATE_VM'));
  }

  /** One more reference; false when the last one is gone. */
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
