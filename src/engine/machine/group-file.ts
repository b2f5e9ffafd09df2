/**
 * /dev/vfio/N: the file through which one user holds a group. A group has one open file at a time
 * (S1-04); files of its devices keep it alive after `close`.
 *
 * @see linux/drivers/vfio/group.c
 */

import { withoutVfTokens } from '../../abi/vf-token.ts';
import { GroupFlags } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { INSPECT } from '../../base/inspect.ts';
import { refusalOf } from '../../events/source.ts';
import type { EngineContext } from '../context.ts';
import { DeviceFile } from '../device/device-file.ts';
import type { DmaOwner } from '../device/dma-owner.ts';
import type { DeviceFileHolder } from '../device/hosted-function.ts';
import type { Container } from '../dma/container.ts';
import { checkRawIo, type Process } from '../dma/process.ts';
import type { Iommufd } from '../iommufd/iommufd.ts';
import type { VfioFile } from '../vm/vfio-file-set.ts';
import { isVmFile, type VmFile } from '../vm/vm-provider.ts';
import { GroupIommufd } from './group-iommufd.ts';
import type { OpenGroup } from './isolation-group.ts';
import type { FunctionGroup } from './pci-function.ts';

/** An open isolation group (/dev/vfio/N). */
export class GroupFile implements Disposable, DeviceFileHolder, OpenGroup, VfioFile {
  readonly group: FunctionGroup;
  readonly process: Process;
  readonly #ctx: EngineContext;
  readonly #onExit: Disposable;
  #container: Container | null = null;
  /** An iommufd in the place of a container, and the devices that are open through one. */
  readonly #iommufd: GroupIommufd;
  /** Device files that use the container: each holds this file open, and the container attached. */
  readonly #devices = new Set<DeviceFile>();
  #opening = 0;
  /** A private field: no dump of this object shows it. */
  #spareToken: Uint8Array | null = null;
  #vm: VmFile | null = null;
  #closed = false;
  /** The group has no vfio device any more; the file answers ENODEV from now on. */
  #gone = false;

  readonly #asleep: () => boolean;

  private constructor(group: FunctionGroup, process: Process, ctx: EngineContext, asleep: () => boolean) {
    this.#asleep = asleep;
    this.group = group;
    this.process = process;
    this.#ctx = ctx;
    this.#iommufd = new GroupIommufd(group, ctx);
    this.#onExit = process.onExit(() => this.close());
  }

  /**
   * Open the group for `process`. Binds and unbinds nothing (S1-09). The caller checks whether the
   * group's node exists and may be opened.
   *
   * @param asleep whether the machine sleeps: no device is opened then (S2-42)
   * @throws VfioError EBUSY while the group is open, with the name of the process that has it, and
   * while one of its devices is bound to an iommufd; ESRCH for a process that has exited
   */
  static open(group: FunctionGroup, process: Process, ctx: EngineContext, asleep: () => boolean = () => false): GroupFile {
    if (group.file !== null) {
      throw new VfioError('EBUSY', `group ${group.id} is open already, by ${group.file.holder}`, {
        fix: 'Close it there first: the devices of a group have one user at a time.',
      });
    }
    if (group.cdevs > 0) {
      throw new VfioError('EBUSY', `group ${group.id} has ${group.cdevs === 1 ? 'a device' : 'devices'} bound to an iommufd`, {
        fix: 'Close the files of /dev/vfio/devices first: a group is used through its file, or through its devices.',
      });
    }
    ctx.faults.step('group.open');
    const file = new GroupFile(group, process, ctx, asleep);
    group.file = file;
    return file;
  }

  /** The process that has the file, for messages. */
  [INSPECT](): string {
    return `GroupFile of group ${this.group.id}, ${this.#closed ? 'closed' : `open by ${this.holder}`}`;
  }

  get holder(): string {
    const kept = this.#devices.size === 0 ? '' : `, which keeps ${this.#devices.size} of its device files open`;
    const gone = this.process.alive ? '' : ', which has exited and passed its descriptors on';
    return `${this.process}${gone}${this.#closed ? kept : ''}`;
  }

  /** The container of the group; null before SET_CONTAINER. */
  get container(): Container | null {
    return this.#container;
  }

  /** Device files, those that were closed but are still mapped included. */
  get deviceFiles(): readonly DeviceFile[] {
    return [...this.#devices];
  }

  /** `close` was called, or the process has exited. */
  get closed(): boolean {
    return this.#closed;
  }

  /** The virtual machine that devices opened from now on belong to. */
  get vm(): VmFile | null {
    return this.#vm;
  }

  /**
   * Devices that are open keep their machine (S4-05). A value that is no VM file is ignored, with a
   * line in the log (S4-02).
   */
  setVm(vm: VmFile | null): void {
    if (vm !== null && !isVmFile(vm)) {
      this.#ctx.events.note(
        'warn',
        'half a VM',
        `group ${this.group.id}: the virtual machine given has no provider, tryGet or put; it is ignored`,
      );
      return;
    }
    this.#vm = vm;
  }

  /** @see vfio_group_enforced_coherent(): true also when no device is left to ask. */
  get enforcesCoherency(): boolean {
    return this.group.functions.every((fn) => fn.vfio === null || this.group.iommu.enforcesCoherency === true);
  }

  /** A token for opens that give none, of functions that take one. */
  setSpareToken(token: Uint8Array): void {
    this.#spareToken = token;
  }

  #check(): void {
    if (this.#closed) throw new VfioError('EBADF', `the file of group ${this.group.id} is closed`);
  }

  /**
   * VFIO_GROUP_GET_STATUS: `GroupFlags`.
   *
   * @throws VfioError ENODEV when the group's last vfio device has gone
   */
  status(): number {
    this.#check();
    if (this.#gone) throw this.#goneError();
    if (this.#container !== null || this.#iommufd.isSet) return GroupFlags.VIABLE | GroupFlags.CONTAINER_SET;
    return this.group.viability().viable && this.group.owner === null ? GroupFlags.VIABLE : 0;
  }

  /**
   * VFIO_GROUP_SET_CONTAINER: claim the group's DMA for this file and put the group into
   * `container`.
   *
   * @throws VfioError EINVAL when it has one; ENODEV gone; EPERM, EBUSY, EINVAL when the group is
   * not viable, with the functions that are in the way; what the container's attach throws. Nothing
   * has changed then.
   */
  setContainer(container: Container): void {
    this.#checkFree();
    this.#checkRawIo(this.process);
    this.#claimFor(container);
    try {
      this.#ctx.faults.step('group.claim');
      container.attachGroup(this.group);
    } catch (error) {
      this.group.release(this);
      throw error;
    }
    this.#container = container;
  }

  #checkRawIo(process: Process): void {
    if (this.group.noIommu) checkRawIo(process, `group ${this.group.id}, which has no IOMMU`);
  }

  #checkFree(): void {
    this.#check();
    if (this.#container !== null || this.#iommufd.isSet) {
      const what = this.#container === null ? 'an iommufd' : 'a container';
      throw new VfioError('EINVAL', `group ${this.group.id} is in ${what} already`, { fix: 'Unset that one first.' });
    }
    if (this.#gone) throw this.#goneError();
  }

  /**
   * VFIO_GROUP_SET_CONTAINER with an iommufd, whose IOAS for containers stands for one. The group
   * is claimed when a device is opened.
   *
   * @throws VfioError EINVAL when it has a container or an iommufd; ENODEV gone
   */
  setIommufd(iommufd: Iommufd): void {
    this.#checkFree();
    this.#checkRawIo(this.process);
    this.#iommufd.set(iommufd);
  }

  #claimFor({ events }: Container): void {
    const group = this.group.id;
    try {
      this.group.claim(this);
    } catch (error) {
      if (events.on) events.emit('group', { group, step: 'attached', container: events.name, ...refusalOf(error) });
      throw error;
    }
  }

  /**
   * VFIO_GROUP_UNSET_CONTAINER.
   *
   * Devices that are open through an iommufd go on.
   *
   * @throws VfioError EINVAL when none is set; EBUSY while devices are open in a container (S2-04)
   */
  unsetContainer(): void {
    this.#check();
    if (this.#iommufd.isSet) {
      this.#iommufd.leave();
      return;
    }
    const container = this.#container;
    try {
      this.#checkUnset();
    } catch (error) {
      const { events } = container ?? this.#ctx;
      const inside = container === null ? {} : { container: events.name };
      if (events.on) events.emit('group', { group: this.group.id, step: 'detached', ...inside, ...refusalOf(error) });
      throw error;
    }
    this.#detach();
  }

  #checkUnset(): void {
    if (this.#container === null) throw new VfioError('EINVAL', `group ${this.group.id} is in no container`);
    const open = this.#devices.size + this.#opening;
    if (open > 0) {
      throw new VfioError('EBUSY', `group ${this.group.id} still has ${open} open device ${open === 1 ? 'file' : 'files'}`, {
        fix: 'Close the device files, and dispose of their mappings, first.',
      });
    }
  }

  /**
   * VFIO_GROUP_GET_DEVICE_FD: open a device by name, `0000:00:04.0`, with options after it.
   *
   * @param process the process that opens the device. Default: the process that opened the group
   * @param reserve called when the device is found and its token accepted, before the open: here
   * the caller reserves its descriptor
   * @throws VfioError ENODEV when no device of the group has that name; EINVAL for a name of a page
   * or more, bad options, or when there is no container with an IOMMU set (S2-02); EBUSY while the
   * machine sleeps; what the device's own open throws
   */
  openDevice(nameAndOptions: string, process: Process = this.process, reserve: () => void = () => {}): DeviceFile {
    this.#check();
    if (typeof nameAndOptions !== 'string' || Buffer.byteLength(nameAndOptions) >= this.#ctx.pageSize) {
      throw new VfioError('EINVAL', `a device name has at most ${this.#ctx.pageSize - 1} bytes`);
    }
    const device = this.group.functions.find(
      (fn) => fn.unbinding === null && fn.present && fn.vfio?.matches(nameAndOptions, this.#spareToken) === true,
    )?.vfio;
    if (device == null) throw this.#noDevice(nameAndOptions);
    reserve();
    const container = this.#container;
    if (!this.#iommufd.isSet && (container === null || container.iommuType === null)) {
      const [what, fix] =
        container === null ? ['is in no container', 'Set a container first.'] : ["'s container has no IOMMU set", 'Set the IOMMU first.'];
      throw new VfioError('EINVAL', `group ${this.group.id}${container === null ? ' ' : ''}${what}: no device of it can be opened`, {
        fix,
      });
    }
    this.#checkRawIo(process);
    if (this.#asleep()) throw new VfioError('EBUSY', 'the machine is suspended', { fix: 'Resume it first.' });
    this.#opening++;
    try {
      const open = (owner: DmaOwner) => DeviceFile.open(device, this, owner, process);
      const file = this.#iommufd.isSet ? this.#iommufd.open(device, open) : open({ container, ids: null });
      this.#devices.add(file);
      return file;
    } finally {
      this.#opening--;
      this.#releaseWhenUnused();
    }
  }

  deviceReleased(file: DeviceFile): void {
    this.#devices.delete(file);
    this.#iommufd.released(file.device);
    this.#releaseWhenUnused();
  }

  /**
   * The group has lost its last vfio device: this file is of no more use, and the group may be
   * opened anew.
   */
  markGone(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#leave();
  }

  /**
   * Descriptors hold the file from now on, and may be in other processes: the exit of the process
   * that opened it does not close it.
   */
  keepAfterExit(): void {
    this.#onExit[Symbol.dispose]();
  }

  /**
   * Idempotent. With device files open the group stays held until the last of them is closed (B.4).
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#onExit[Symbol.dispose]();
    this.#releaseWhenUnused();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * A mediator or a hypervisor that is called within an open may close the file: the file then goes
   * when that open is over.
   */
  #releaseWhenUnused(): void {
    if (!this.#closed || this.#devices.size > 0 || this.#opening > 0) return;
    this.#leave();
  }

  /** The group may be opened anew. */
  #leave(): void {
    this.#detach();
    if (this.group.file !== this) return;
    this.group.file = null;
    const { events } = this.#ctx;
    if (events.on) events.emit('group', { group: this.group.id, step: 'closed' });
  }

  #detach(): void {
    this.#iommufd.leave();
    const container = this.#container;
    if (container === null) return;
    this.#container = null;
    container.detachGroup(this.group);
    this.group.release(this);
  }

  #goneError(): VfioError {
    return new VfioError('ENODEV', `group ${this.group.id} has no device bound to vfio-pci any more`, {
      fix: 'Close this file and open the group again.',
    });
  }

  #noDevice(name: string): VfioError {
    // The name may hold a token that was not separated from it, which no message may show.
    const wanted = withoutVfTokens(name.split(' ', 1)[0]!).slice(0, 40);
    const fn = this.group.functions.find((f) => f.bdf === wanted || f.bdf.slice(5) === wanted);
    const devices = this.group.vfioFunctions.map((f) => f.bdf);
    if (fn !== undefined && fn.vfio === null) {
      return new VfioError(
        'ENODEV',
        `${fn.bdf} is in group ${this.group.id} but ${fn.driver === null ? 'not bound' : `bound to ${fn.driver}`}`,
        {
          fix: fn.isBridge ? 'Bridges cannot be opened.' : fn.bindCommand('vfio-pci'),
        },
      );
    }
    if (fn !== undefined && fn.bdf !== wanted) {
      return new VfioError('ENODEV', `group ${this.group.id} has no device '${wanted}'`, { fix: `Write it in full: ${fn.bdf}` });
    }
    if (fn !== undefined) return new VfioError('ENODEV', `${fn.bdf} is being unbound or unplugged`);
    return new VfioError('ENODEV', `group ${this.group.id} has no device '${wanted}'`, {
      ...(devices.length === 0 ? {} : { fix: `It has ${devices.join(', ')}.` }),
    });
  }
}
