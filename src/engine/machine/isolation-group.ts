/**
 * An isolation group: functions that the IOMMU cannot keep apart, so that they have one owner or
 * none (S1-01).
 *
 * The kernel owns its DMA (any number of native drivers), or a user does (one group file), or it
 * has no owner; never two of these at a time.
 *
 * @see linux/drivers/iommu/iommu.c, iommu_group_claim_dma_owner(),
 * iommu_device_use_default_domain()
 */

import { type Culprit, VfioError } from '../../base/errno.ts';
import { INSPECT } from '../../base/inspect.ts';
import type { IommuDomain } from '../../hardware/iommu-domain.ts';
import { compareBdf } from '../../pci/bdf.ts';
import type { VfioPciDevice } from '../device/pci-device.ts';
import type { AttachableGroup, IommuProperties } from '../dma/iommu-properties.ts';
import type { DmaUse, ReservedWindow } from './machine-spec.ts';

/** A function of a group; `PciFunction` is one. */
export interface GroupedFunction {
  readonly bdf: string;
  readonly isBridge: boolean;
  /** Windows of I/O addresses that firmware reserves for the function. */
  readonly reserved: readonly ReservedWindow[];
  /** The driver bound to the function, by name. */
  readonly driver: string | null;
  /** Set while the function is bound to vfio-pci. */
  readonly vfio: VfioPciDevice | null;
  /** The unbind that waits for the users of the function; null for none. */
  readonly unbinding: Promise<void> | null;
  /** False once the function is unplugged. */
  readonly present: boolean;
  /** Set by the group. */
  group: IsolationGroup | null;
  /** The command that gives the function to `driver`; 'none' for no driver. */
  bindCommand(driver: string): string;
}

/** The open file of a group, as the group sees it; `GroupFile` is one. */
export interface OpenGroup {
  /** The process that has the file open, for messages. */
  readonly holder: string;
  /** Device files that were opened through the file and are not yet released. */
  readonly deviceFiles: readonly { close(): void }[];
  /** The group has lost its last vfio device. */
  markGone(): void;
  close(): void;
}

export interface Viability {
  /** Whether a user could take the group's DMA, or has it already. */
  readonly viable: boolean;
  /** The functions that stand in the way, in bus order. */
  readonly culprits: readonly Culprit[];
}

export class IsolationGroup<F extends GroupedFunction = GroupedFunction> implements AttachableGroup {
  readonly id: number;
  /** The domain that translates DMA of the group's functions; set by the container. */
  domain: IommuDomain | null = null;
  /** The open group file; a second open is refused (S1-04). */
  file: OpenGroup | null = null;
  /** Its devices that are bound to an iommufd by their own files: no group file is open then. */
  cdevs = 0;
  #iommu: IommuProperties;
  readonly #unit: IommuProperties;
  #functions: F[] = [];
  /** Bound drivers that use DMA, by function. */
  readonly #users = new Map<F, { readonly driver: string; readonly use: DmaUse }>();
  #owner: object | null = null;
  /** Firmware demands identity mappings for one of its functions. */
  #direct = false;

  constructor(id: number, iommu: IommuProperties) {
    this.id = id;
    this.#iommu = iommu;
    this.#unit = iommu;
    this.domain = iommu.physical?.domain ?? null;
  }

  /** Its IOMMU's properties, with the windows that firmware reserves for its devices. */
  get iommu(): IommuProperties {
    return this.#iommu;
  }

  /** Strength of its isolation (S1-05). */
  get isolation(): { readonly dma: boolean; readonly msi: boolean; readonly coherent: boolean } {
    return { dma: this.#iommu.kind === 'full', msi: this.#iommu.isolatedMsi, coherent: this.#iommu.coherent };
  }

  /** It was made for one device that no IOMMU is above: a user has the whole memory with it. */
  get noIommu(): boolean {
    return this.#iommu.physical !== undefined;
  }

  /** In bus order. */
  get functions(): readonly F[] {
    return this.#functions;
  }

  /** The functions under vfio-pci, among which GET_DEVICE_FD finds its device. */
  get vfioFunctions(): readonly F[] {
    return this.#functions.filter((f) => f.vfio !== null);
  }

  /** The group file that holds the DMA of the group for a user; null for none. */
  get owner(): object | null {
    return this.#owner;
  }

  /** Native drivers that use DMA now; with an owner there is none. */
  get nativeUsers(): number {
    return this.#users.size;
  }

  add(fn: F): void {
    let [low, high] = [0, this.#functions.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compareBdf(this.#functions[middle]!.bdf, fn.bdf) < 0) low = middle + 1;
      else high = middle;
    }
    this.#functions = this.#functions.toSpliced(low, 0, fn);
    if (fn.reserved.length > 0) this.#recompute();
    fn.group = this;
  }

  remove(fn: F): void {
    this.#functions = this.#functions.filter((f) => f !== fn);
    this.#users.delete(fn);
    if (fn.reserved.length > 0) this.#recompute();
    fn.group = null;
  }

  #recompute(): void {
    const own = this.#functions.flatMap((f) => f.reserved);
    this.#direct = own.some((window) => window.kind === 'direct');
    this.#iommu = own.length === 0 ? this.#unit : { ...this.#unit, reserved: [...this.#unit.reserved, ...own] };
  }

  /**
   * A driver that uses DMA is about to be bound: refused while a user owns the group, so that there
   * is no moment at which both have it (S1-12, S1-13).
   *
   * @throws VfioError EBUSY
   */
  useDma(fn: F, driver: string, use: DmaUse): void {
    if (use === 'managed') return;
    if (this.#owner !== null || (use === 'kernel' && this.#foreignDomain() !== null)) {
      throw new VfioError('EBUSY', `${driver} cannot have ${fn.bdf}: group ${this.id} is ${this.#ownedBy()}`, {
        fix: `Bind ${fn.bdf} to vfio-pci or leave it unbound until the group is closed.`,
      });
    }
    this.restoreDma(fn, driver, use);
  }

  /**
   * As `useDma` without its check, for a driver that was bound a moment ago, beside the drivers
   * that are back already.
   */
  restoreDma(fn: F, driver: string, use: DmaUse): void {
    if (use !== 'managed') this.#users.set(fn, { driver, use });
  }

  unuseDma(fn: F): void {
    this.#users.delete(fn);
  }

  /**
   * Take the DMA of the whole group for a user.
   *
   * @throws VfioError EPERM while a native driver uses DMA in the group or another user has it;
   * EBUSY while a driver has a domain of its own attached; EINVAL when firmware demands identity
   * mappings for a device. Each error names the functions and the fix.
   */
  claim(owner: object): void {
    const { culprits } = this.viability();
    if (this.#owner !== null) {
      throw new VfioError('EPERM', `group ${this.id} is ${this.#ownedBy()}`, { culprits, fix: 'Close the group file that holds it.' });
    }
    if (culprits.length > 0) {
      const code = [...this.#users.values()].some((u) => u.use === 'kernel')
        ? 'EPERM'
        : this.#foreignDomain() !== null
          ? 'EBUSY'
          : 'EINVAL';
      const names = culprits.map((c) => (c.driver === null ? c.bdf : `${c.bdf} (${c.driver})`)).join(', ');
      throw new VfioError(code, `group ${this.id} is not viable: ${names} ${culprits.length === 1 ? 'stands' : 'stand'} in the way`, {
        culprits,
      });
    }
    this.#owner = owner;
  }

  /** Give the DMA back; no effect when `owner` does not have it. */
  release(owner: object): void {
    if (this.#owner === owner) this.#owner = null;
  }

  /** Whether a user could have the group, or has it; `viability` names the functions in the way. */
  get viable(): boolean {
    return this.#users.size === 0 && !this.#direct;
  }

  /**
   * Whether a user could have the group, and the functions that are in the way. Changes nothing.
   */
  viability(): Viability {
    const culprits: Culprit[] = [];
    for (const fn of this.#functions) {
      const user = this.#users.get(fn);
      if (user !== undefined) culprits.push(describeUser(fn, user.driver, user.use, this.#functions.length === 1));
      else if (fn.reserved.some((w) => w.kind === 'direct')) {
        culprits.push({
          bdf: fn.bdf,
          driver: fn.driver,
          why: 'firmware demands identity mappings for it (a direct reserved region), which a user could remove',
          fix: 'remove the region in the firmware settings, or use another device: no driver change helps',
        });
      }
    }
    return { viable: this.viable, culprits };
  }

  #foreignDomain(): string | null {
    for (const user of this.#users.values()) if (user.use === 'own-domain') return user.driver;
    return null;
  }

  [INSPECT](): string {
    return `IsolationGroup ${this.id}: ${this.functions.map((fn) => fn.bdf).join(', ')}`;
  }

  #ownedBy(): string {
    if (this.#owner === null) return `attached to a domain of ${this.#foreignDomain() ?? 'no driver'}`;
    return this.file !== null && this.#owner === this.file ? `owned by ${this.file.holder}` : 'owned by a user';
  }
}

function describeUser(fn: GroupedFunction, driver: string, use: DmaUse, alone: boolean): Culprit {
  const why =
    use === 'own-domain'
      ? 'its driver has attached an IOMMU domain of its own'
      : `its driver does DMA for the host${alone ? '' : ', and the IOMMU cannot tell it from the rest of the group'}`;
  const fix = fn.bindCommand(fn.isBridge ? 'none' : 'vfio-pci');
  return { bdf: fn.bdf, driver, why, fix };
}
