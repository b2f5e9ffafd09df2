/**
 * /dev/vfio/devices/vfioN: a device without its group. It can do nothing until it is bound to an
 * iommufd; its DMA is blocked until it is attached. Any number of files may be open, and one is
 * bound. Close is the only unbind.
 *
 * @see linux/drivers/vfio/device_cdev.c, iommufd.c
 */
import { VfioError } from '../../base/errno.ts';
import { INSPECT } from '../../base/inspect.ts';
import type { EngineContext } from '../context.ts';
import { DeviceFile } from '../device/device-file.ts';
import type { DeviceFileHolder } from '../device/hosted-function.ts';
import { authorize } from '../device/vf-token.ts';
import type { Process } from '../dma/process.ts';
import { IoasDmaSpace } from '../iommufd/ioas-dma-space.ts';
import type { Iommufd } from '../iommufd/iommufd.ts';
import type { IommufdDevice } from '../iommufd/iommufd-device.ts';
import type { LinuxRules } from '../linux-version.ts';
import type { VfioFile } from '../vm/vfio-file-set.ts';
import type { VmFile } from '../vm/vm-provider.ts';
import type { FunctionGroup, PciFunction } from './pci-function.ts';

/** VFIO_DEVICE_BIND_IOMMUFD. Each part is asked for when its turn comes. */
export interface BindRequest {
  /** The VF token. Absent: none is given. @throws VfioError EFAULT */
  readonly token?: (() => Uint8Array) | undefined;
  /** @throws VfioError EBADF; EBADFD for a descriptor of another kind */
  readonly iommufd: () => Iommufd;
  /** The process that binds. Default: the one that opened the file. */
  readonly process?: Process;
}

/** The machine around a device's file. */
export interface CdevSurroundings {
  readonly ctx: EngineContext;
  /** The machine sleeps: no device is opened then (S2-42). */
  asleep(): boolean;
  /** The file was closed. */
  closed(file: CdevFile): void;
}

/** An open device node (/dev/vfio/devices/vfioN). */
export class CdevFile implements Disposable, DeviceFileHolder, VfioFile {
  readonly fn: PciFunction;
  readonly process: Process;
  readonly #around: CdevSurroundings;
  /** The device stays registered as long as the file is open, or is mapped. */
  readonly #registration: Disposable;
  #device: DeviceFile | null = null;
  #bound: { readonly device: IommufdDevice; readonly group: FunctionGroup } | null = null;
  #vm: VmFile | null = null;
  /** A private field: no dump of this object shows it. */
  #spareToken: Uint8Array | null = null;
  #closed = false;

  private constructor(fn: PciFunction, process: Process, around: CdevSurroundings) {
    this.fn = fn;
    this.process = process;
    this.#around = around;
    this.#registration = fn.vfio!.keepRegistered();
  }

  /** @throws VfioError ENODEV for a function that leaves vfio-pci; what a fault plan says */
  static open(fn: PciFunction, process: Process, around: CdevSurroundings): CdevFile {
    around.ctx.faults.step('cdev.open');
    return new CdevFile(fn, process, around);
  }

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    return `CdevFile of ${this.fn.bdf}, ${this.#closed ? 'closed' : this.#device === null ? 'not bound' : 'bound'}`;
  }

  /** Where kernels differ, the answers of the machine's. */
  get linux(): LinuxRules {
    return this.#around.ctx.linux;
  }

  /** The virtual machine of the device, when it is bound later. */
  get vm(): VmFile | null {
    return this.#vm;
  }

  setVm(vm: VmFile | null): void {
    this.#vm = vm;
  }

  get enforcesCoherency(): boolean {
    return this.fn.group?.iommu.enforcesCoherency === true;
  }

  /** A token for opens that give none, of functions that take one. */
  setSpareToken(token: Uint8Array): void {
    this.#spareToken = token;
  }

  /** The device. @throws VfioError EINVAL before BIND */
  get device(): DeviceFile {
    if (this.#device !== null) return this.#device;
    throw new VfioError('EINVAL', `${this.fn.bdf} is not bound to an iommufd`, { fix: 'Bind it first (VFIO_DEVICE_BIND_IOMMUFD).' });
  }

  /** Whether BIND has succeeded. */
  get isBound(): boolean {
    return this.#device !== null;
  }

  /**
   * VFIO_DEVICE_BIND_IOMMUFD.
   *
   * @returns the device's number in the iommufd
   * @throws VfioError in this order: EBUSY while the group's file is open; EINVAL when this file is
   * bound; as `authorize`; the errors of `iommufd`; EINVAL when another file is bound; as
   * `IommufdDevice.bind` and `DeviceFile.open`. A token that was set stays.
   */
  bind({ token, iommufd: find, process = this.process }: BindRequest): number {
    const { fn } = this;
    const { group } = fn;
    const vfio = fn.vfio;
    if (group === null || vfio === null || this.#closed) throw new VfioError('ENODEV', `${fn.bdf} is not driven by vfio-pci any more`);
    if (group.file !== null) {
      throw new VfioError('EBUSY', `group ${group.id} of ${fn.bdf} is open, by ${group.file.holder}`, {
        fix: 'Close the group file first: a group is used through its file, or through its devices.',
      });
    }
    if (this.#device !== null) throw new VfioError('EINVAL', `this file of ${fn.bdf} is bound already`);
    if (this.linux.cdevToken) authorize(vfio, token?.() ?? null, fn.host.events, this.#spareToken);
    const iommufd = find();
    if (vfio.openCount > 0) {
      throw new VfioError('EINVAL', `${fn.bdf} is bound by another file`, { fix: 'Close that file, and unmap its regions, first.' });
    }
    if (this.#around.asleep()) throw new VfioError('EBUSY', 'the machine is suspended', { fix: 'Resume it first.' });
    this.#around.ctx.faults.step('cdev.bind');
    const bound = iommufd.bind(fn.bdf, group);
    group.cdevs++;
    const space = (user: Process) => new IoasDmaSpace(iommufd, bound, user, this.#around.ctx);
    try {
      this.#device = DeviceFile.open(vfio, this, { container: null, ids: iommufd, space }, process);
      this.#bound = { device: bound, group };
    } finally {
      if (this.#device === null) {
        group.cdevs--;
        bound.close();
      }
    }
    return bound.id;
  }

  /** The device in its iommufd. @throws VfioError EINVAL before BIND; ENODEV once it is gone */
  get #attachable(): IommufdDevice {
    this.device.checkLive();
    return this.#bound!.device;
  }

  /**
   * VFIO_DEVICE_ATTACH_IOMMUFD_PT.
   *
   * @param pasid attach requests with that PASID. Default: all without one
   * @returns the number of the domain
   * @throws VfioError EINVAL before BIND; as `IommufdDevice.attach`
   */
  attach(pt: number, pasid: number | null = null): number {
    return this.#attachable.attach(pt, pasid);
  }

  /** VFIO_DEVICE_DETACH_IOMMUFD_PT. @throws VfioError EINVAL before BIND */
  detach(pasid: number | null = null): void {
    this.#attachable.detach(pasid);
  }

  /** The device was disabled and reset before (S2-30): only now may its DMA be given back. */
  deviceReleased(): void {
    const bound = this.#bound;
    this.#bound = null;
    if (bound !== null) {
      bound.device.close();
      bound.group.cdevs--;
    }
    this.#registration[Symbol.dispose]();
  }

  /** Idempotent. A mapping of a region keeps the device bound until it goes (S2-37). */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#around.closed(this);
    if (this.#device === null) this.#registration[Symbol.dispose]();
    else this.#device.close();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
