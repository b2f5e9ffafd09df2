/**
 * A device that is bound to an iommufd. Devices of one isolation group are in one domain, or in
 * none: the IOMMU cannot tell them apart.
 *
 * @see linux/drivers/iommu/iommufd/device.c, iommufd_device_bind(), iommufd_device_attach(),
 * iommufd_device_do_replace()
 */
import { VfioError } from '../../base/errno.ts';
import type { AttachableGroup, IommuProperties } from '../dma/iommu-properties.ts';
import { Hwpt } from './hwpt.ts';
import type { Ioas } from './ioas.ts';
import type { ObjectTable } from './objects.ts';

/** A group whose DMA a user can have. */
export interface ClaimableGroup extends AttachableGroup {
  readonly owner: object | null;
  /** @throws VfioError EPERM, EBUSY, EINVAL */
  claim(owner: object): void;
  release(owner: object): void;
}

/** The devices of one group that are bound to an iommufd. */
export interface BoundGroup {
  readonly devices: Set<IommufdDevice>;
  /** The domain of those that are attached. */
  hwpt: Hwpt | null;
}

/** The iommufd, as its devices need it. */
export interface DeviceIommufd {
  readonly objects: ObjectTable;
  /** Bound devices by group: those of one group share a domain. */
  readonly groups: Map<ClaimableGroup, BoundGroup>;
  /** A bound device holds it. */
  get(): unknown;
  put(): void;
  /** Give a new domain its mappings and a number. @throws VfioError as `Ioas.addDomain` */
  makeHwpt(hwpt: Hwpt): Hwpt;
  /** A device was attached to it, and is no more: a domain that ATTACH made goes with the last. */
  released(hwpt: Hwpt): void;
}

export class IommufdDevice {
  readonly kind = 'device';
  readonly bdf: string;
  readonly group: ClaimableGroup;
  readonly #iommufd: DeviceIommufd;
  readonly #bound: BoundGroup;
  #attached = false;
  #closed = false;

  private constructor(iommufd: DeviceIommufd, bdf: string, group: ClaimableGroup, bound: BoundGroup) {
    this.#iommufd = iommufd;
    this.bdf = bdf;
    this.group = group;
    this.#bound = bound;
  }

  /**
   * Bind a device: its group's DMA is the iommufd's from now on, and blocked until ATTACH.
   *
   * @throws VfioError as `IsolationGroup.claim`; EPERM while another user has the group
   */
  static bind(iommufd: DeviceIommufd, bdf: string, group: ClaimableGroup): IommufdDevice {
    if (group.owner !== iommufd) group.claim(iommufd);
    const bound = iommufd.groups.get(group) ?? { devices: new Set(), hwpt: null };
    iommufd.groups.set(group, bound);
    const device = new IommufdDevice(iommufd, bdf, group, bound);
    bound.devices.add(device);
    iommufd.objects.add(device);
    iommufd.get();
    return device;
  }

  /** Its number. */
  get id(): number {
    return this.#iommufd.objects.idOf(this);
  }

  get iommu(): IommuProperties {
    return this.group.iommu;
  }

  /** The domain that it is attached to; null: its DMA is blocked. */
  get hwpt(): Hwpt | null {
    return this.#attached ? this.#bound.hwpt : null;
  }

  /**
   * VFIO_DEVICE_ATTACH_IOMMUFD_PT: attach it to a domain, or to an IOAS, which gets one. An
   * attached device goes from one to the other without a moment between.
   *
   * @returns the number of the domain
   * @throws VfioError ENOENT; EINVAL for a number of another kind, or when a device of the group is
   * attached elsewhere; EADDRINUSE, EFAULT, ENOMEM as `Ioas.addDomain`. Nothing has changed then.
   */
  attach(pt: number): number {
    const { objects } = this.#iommufd;
    const object = objects.find(pt);
    if (object === undefined) throw new VfioError('ENOENT', `there is no object ${pt}`);
    if (object.kind === 'device')
      throw new VfioError('EINVAL', `object ${pt} is a device, and devices are attached to an IOAS or a domain`);
    if (object.kind === 'hwpt') {
      this.#attachTo(object);
      return pt;
    }
    const known = [...objects.ofKind('hwpt')].find((hwpt) => hwpt.ioas === object && hwpt.auto && hwpt.fits(this.iommu));
    if (known !== undefined) {
      this.#attachTo(known);
      return objects.idOf(known);
    }
    return this.#attachFresh(object);
  }

  #attachFresh(ioas: Ioas): number {
    // Windows first: a mapping inside one is the caller's fault, whatever memory is behind it.
    ioas.reserveFor(this, this.iommu);
    ioas.unreserve(this);
    const hwpt = this.#iommufd.makeHwpt(new Hwpt({ ioas, iommu: this.iommu, auto: true }));
    const { objects } = this.#iommufd;
    objects.use(hwpt);
    try {
      this.#attachTo(hwpt);
      return objects.idOf(hwpt);
    } finally {
      // The device holds it by now, or nothing does.
      this.#iommufd.released(hwpt);
    }
  }

  #attachTo(hwpt: Hwpt): void {
    const bound = this.#bound;
    if (!hwpt.fits(this.iommu)) throw new VfioError('EINVAL', `the domain is behind another IOMMU than ${this.bdf}`);
    const before = bound.hwpt;
    if (before === hwpt && this.#attached) return;
    if (before !== null && before !== hwpt && !this.#attached) {
      throw new VfioError(
        'EINVAL',
        `group ${this.group.id}: another of its devices is attached elsewhere, and the IOMMU cannot tell them apart`,
      );
    }
    const moving = this.#attached ? [...bound.devices].filter((device) => device.#attached) : [this];
    const { ioas } = hwpt;
    if (before?.ioas !== ioas) {
      const done: IommufdDevice[] = [];
      try {
        for (const device of moving) {
          ioas.reserveFor(device, device.iommu);
          done.push(device);
        }
      } catch (error) {
        for (const device of done) ioas.unreserve(device);
        throw error;
      }
    }
    for (const device of moving) {
      if (before?.ioas !== ioas && device.#attached) before!.ioas.unreserve(device);
      this.#iommufd.objects.use(hwpt);
    }
    bound.hwpt = hwpt;
    this.group.domain = hwpt.domain;
    for (const device of moving) {
      if (device.#attached) this.#iommufd.released(before!);
      device.#attached = true;
    }
  }

  /** VFIO_DEVICE_DETACH_IOMMUFD_PT: its DMA is blocked. No effect when it is not attached. */
  detach(): void {
    if (!this.#attached) return;
    const bound = this.#bound;
    const hwpt = bound.hwpt!;
    this.#attached = false;
    hwpt.ioas.unreserve(this);
    if (![...bound.devices].some((device) => device.#attached)) {
      bound.hwpt = null;
      this.group.domain = null;
    }
    this.#iommufd.released(hwpt);
  }

  /** The file of the device was closed. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.detach();
    this.#bound.devices.delete(this);
    this.#iommufd.objects.remove(this);
    if (this.#bound.devices.size === 0) {
      this.#iommufd.groups.delete(this.group);
      this.group.release(this.#iommufd);
    }
    this.#iommufd.put();
  }
}
