/**
 * A device that is bound to an iommufd. Devices of one isolation group are in one domain, or in
 * none: the IOMMU cannot tell them apart.
 *
 * @see linux/drivers/iommu/iommufd/device.c, iommufd_device_bind(), iommufd_device_attach(),
 * iommufd_device_do_replace()
 */
import { VfioError } from '../../base/errno.ts';
import type { EventSource } from '../../events/source.ts';
import { requireIsolation } from '../dma/container-domains.ts';
import type { AttachableGroup, IommuProperties } from '../dma/iommu-properties.ts';
import { Hwpt } from './hwpt.ts';
import type { Ioas } from './ioas.ts';
import type { ObjectTable } from './objects.ts';

/** PASIDs are kept as signed numbers. */
const PASID_MAX = 2 ** 31 - 1;

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
  readonly events: EventSource;
  readonly objects: ObjectTable;
  /** Bound devices by group: those of one group share a domain. */
  readonly groups: Map<ClaimableGroup, BoundGroup>;
  /** @throws VfioError EPERM for a group without isolated interrupts, unless that is allowed */
  checkInterrupts(group: ClaimableGroup): void;
  /** A bound device holds it. */
  get(): unknown;
  put(): void;
  /** Give a new domain its mappings and a number. @throws VfioError as `Ioas.addDomain` */
  makeHwpt(hwpt: Hwpt): Hwpt;
  /** A device was attached to it, and is no more: a domain that ATTACH made goes with the last. */
  released(hwpt: Hwpt): void;
}

/** A device that is bound to an iommufd: an object of it, with a number. */
export class IommufdDevice {
  readonly kind = 'device';
  readonly bdf: string;
  readonly group: ClaimableGroup;
  readonly #iommufd: DeviceIommufd;
  readonly #bound: BoundGroup;
  /** Requests without a PASID reach `#bound.hwpt`. */
  #attached = false;
  /** They were attached without naming PASID 0. */
  #plain = false;
  /** PASIDs that were attached by their names; 0 may be one. */
  readonly #pasids = new Set<number>();
  /** The domain of each PASID but 0. */
  readonly #pasidDomains = new Map<number, Hwpt>();
  readonly #reservers = new Map<number, object>();
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
   * @throws VfioError EINVAL when its IOMMU does not isolate; EPERM while its interrupts are not
   * isolated, while another user has the group, and as `IsolationGroup.claim`
   */
  static bind(iommufd: DeviceIommufd, bdf: string, group: ClaimableGroup): IommufdDevice {
    requireIsolation(group);
    iommufd.checkInterrupts(group);
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

  /** The IOMMU above it. */
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
   * PASID 0 is the requests without a PASID: the same attachment by another name, so that each
   * name refuses what the other one has.
   *
   * @param pasid the requests that carry it; null: those that carry none
   * @returns the number of the domain
   * @throws VfioError ENOSPC for a PASID from 2^31; ENOENT; EINVAL for a number of another kind,
   * when a device of the group is attached elsewhere, for a PASID that the device does not have or
   * the domain does not take; EBUSY when it is attached by the other name; EADDRINUSE, EFAULT,
   * ENOMEM as `Ioas.addDomain`. Nothing has changed then.
   */
  attach(pt: number, pasid: number | null = null): number {
    const { events } = this.#iommufd;
    if (!events.on) return this.#attach(pt, pasid);
    const details = { group: this.group.id, step: 'attached', container: events.name } as const;
    return events.attempt('group', details, () => this.#attach(pt, pasid));
  }

  #attach(pt: number, pasid: number | null): number {
    if (pasid === null) {
      const id = this.#attachName(pt, 0, this.#plain);
      this.#plain = true;
      return id;
    }
    if (pasid > PASID_MAX) throw new VfioError('ENOSPC', `PASID ${pasid} is past the last one`);
    const id = this.#attachName(pt, pasid, this.#pasids.has(pasid));
    this.#pasids.add(pasid);
    return id;
  }

  #attachName(pt: number, pasid: number, replace: boolean): number {
    const { objects } = this.#iommufd;
    const object = objects.find(pt);
    if (object === undefined) throw new VfioError('ENOENT', `there is no object ${pt}`);
    if (object.kind !== 'hwpt' && object.kind !== 'ioas')
      throw new VfioError('EINVAL', `object ${pt} is a ${object.kind}, and devices are attached to an IOAS or a domain`);
    if (!replace && this.#domainOf(pasid) !== null) {
      throw new VfioError('EBUSY', `${this.bdf} is attached already, ${this.#plain ? 'without a PASID' : 'as PASID 0'}`, {
        fix: 'Detach it as it was attached.',
      });
    }
    if (object.kind === 'hwpt') {
      this.#attachTo(object, pasid);
      return pt;
    }
    const known = [...objects.ofKind('hwpt')].find((hwpt) => hwpt.ioas === object && hwpt.auto && hwpt.fits(this.iommu));
    if (known !== undefined) {
      this.#attachTo(known, pasid);
      return objects.idOf(known);
    }
    return this.#attachFresh(object, pasid);
  }

  /** The domain of requests with `pasid`, 0: of those without. */
  #domainOf(pasid: number): Hwpt | null {
    return pasid === 0 ? this.hwpt : (this.#pasidDomains.get(pasid) ?? null);
  }

  #attachFresh(ioas: Ioas, pasid: number): number {
    // Windows first: a mapping inside one is the caller's fault, whatever memory is behind it.
    ioas.reserveFor(this, this.iommu);
    ioas.unreserve(this);
    const hwpt = this.#iommufd.makeHwpt(new Hwpt({ ioas, iommu: this.iommu, auto: true }));
    const { objects } = this.#iommufd;
    objects.use(hwpt);
    try {
      this.#attachTo(hwpt, pasid);
      return objects.idOf(hwpt);
    } finally {
      // The device holds it by now, or nothing does.
      this.#iommufd.released(hwpt);
    }
  }

  #attachTo(hwpt: Hwpt, pasid: number): void {
    if (!hwpt.fits(this.iommu)) throw new VfioError('EINVAL', `the domain is behind another IOMMU than ${this.bdf}`);
    this.#checkPasid(hwpt, pasid);
    if (pasid === 0) this.#attachRequests(hwpt);
    else this.#attachPasid(hwpt, pasid);
  }

  /** @see linux/drivers/iommu/iommufd/device.c, iommufd_hwpt_pasid_compat() */
  #checkPasid(hwpt: Hwpt, pasid: number): void {
    if (pasid === 0) {
      if (hwpt.takesPasids || this.#pasidDomains.size === 0) return;
      throw new VfioError('EINVAL', `${this.bdf} has PASIDs attached, and the domain was not made for PASIDs`, {
        fix: 'Allocate it with IOMMU_HWPT_ALLOC_PASID, or detach the PASIDs first.',
      });
    }
    const max = 2 ** (this.iommu.pasidBits ?? 0);
    if (pasid >= max) throw new VfioError('EINVAL', `${this.bdf} has no PASID ${pasid}${max === 1 ? ': it has none' : ''}`);
    if (hwpt.takesPasids && this.hwpt?.takesPasids !== false) return;
    throw new VfioError(
      'EINVAL',
      `PASID ${pasid} of ${this.bdf}: its domain, and the one of requests without PASID, must be made for PASIDs`,
      {
        fix: 'Allocate both with IOMMU_HWPT_ALLOC_PASID.',
      },
    );
  }

  #attachPasid(hwpt: Hwpt, pasid: number): void {
    const before = this.#pasidDomains.get(pasid);
    if (before === hwpt) return;
    if (before?.ioas !== hwpt.ioas) hwpt.ioas.reserveFor(this.#reserver(pasid), this.iommu);
    if (before !== undefined && before.ioas !== hwpt.ioas) before.ioas.unreserve(this.#reserver(pasid));
    this.#iommufd.objects.use(hwpt);
    this.#pasidDomains.set(pasid, hwpt);
    if (before !== undefined) this.#iommufd.released(before);
  }

  /** Who reserves windows of an IOAS for requests with `pasid`: each attachment for itself. */
  #reserver(pasid: number): object {
    let reserver = this.#reservers.get(pasid);
    if (reserver === undefined) {
      reserver = {};
      this.#reservers.set(pasid, reserver);
    }
    return reserver;
  }

  #attachRequests(hwpt: Hwpt): void {
    const bound = this.#bound;
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
    if (before?.ioas !== ioas || !this.#attached) {
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
    if (this.iommu.physical === undefined) this.group.domain = hwpt.domain;
    for (const device of moving) {
      if (device.#attached) this.#iommufd.released(before!);
      device.#attached = true;
    }
  }

  /**
   * VFIO_DEVICE_DETACH_IOMMUFD_PT: its DMA is blocked. No effect on what is not attached by that
   * name.
   */
  detach(pasid: number | null = null): void {
    if (pasid === null ? !this.#plain : !this.#pasids.has(pasid)) return;
    const { events } = this.#iommufd;
    if (events.on) events.emit('group', { group: this.group.id, step: 'detached', container: events.name });
    if (pasid === null) {
      this.#plain = false;
      this.#detachRequests();
    } else {
      this.#pasids.delete(pasid);
      if (pasid === 0) this.#detachRequests();
      else this.#detachPasid(pasid);
    }
  }

  #detachPasid(pasid: number): void {
    const hwpt = this.#pasidDomains.get(pasid)!;
    this.#pasidDomains.delete(pasid);
    hwpt.ioas.unreserve(this.#reserver(pasid));
    this.#iommufd.released(hwpt);
  }

  #detachRequests(): void {
    const bound = this.#bound;
    const hwpt = bound.hwpt!;
    this.#attached = false;
    hwpt.ioas.unreserve(this);
    if (![...bound.devices].some((device) => device.#attached)) {
      bound.hwpt = null;
      if (this.iommu.physical === undefined) this.group.domain = null;
    }
    this.#iommufd.released(hwpt);
  }

  /** The file of the device was closed. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.detach();
    for (const pasid of [...this.#pasids]) this.detach(pasid);
    this.#bound.devices.delete(this);
    this.#iommufd.objects.remove(this);
    if (this.#bound.devices.size === 0) {
      this.#iommufd.groups.delete(this.group);
      this.group.release(this.#iommufd);
    }
    this.#iommufd.put();
  }
}
