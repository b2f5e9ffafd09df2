/**
 * The groups of one container and the domains they are in: which groups can share a domain, the
 * ranges that all groups can map, and their page sizes.
 *
 * @see linux/drivers/vfio/vfio_iommu_type1.c, vfio_iommu_type1_attach_group(),
 * vfio_iommu_type1_detach_group()
 */
import type { IovaRange } from '../../abi/device.ts';
import { hex, U64_MAX } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { IommuDomain, LAST_PFN } from '../../hardware/iommu-domain.ts';
import type { EngineContext } from '../context.ts';
import type { AttachableGroup, IommuProperties } from './iommu-properties.ts';
import { blockingRegions, iovaRanges } from './iova-ranges.ts';

export class ContainerDomains {
  readonly #context: EngineContext;
  readonly #groups: AttachableGroup[] = [];
  readonly #domains: IommuDomain[] = [];
  #ranges: IovaRange[] = [];
  #pageSizes = 0n;
  #pageSize = 0n;

  constructor(context: EngineContext) {
    this.#context = context;
    this.#refresh();
  }

  get list(): readonly IommuDomain[] {
    return this.#domains;
  }

  get groups(): readonly AttachableGroup[] {
    return this.#groups;
  }

  /** The ranges that all groups can map. */
  get ranges(): readonly IovaRange[] {
    return this.#ranges;
  }

  /**
   * Page sizes of all domains, those below the CPU's page hidden; with no domain every size from a
   * page up.
   */
  get pageSizes(): bigint {
    return this.#pageSizes;
  }

  /** The smallest of them: the alignment of mappings. */
  get pageSize(): bigint {
    return this.#pageSize;
  }

  get enforcesCoherency(): boolean {
    return this.#domains.length > 0 && this.#domains.every((domain) => domain.enforcesCoherency);
  }

  /**
   * Put `group` into a domain: an existing one on the same IOMMU with the same coherency, else a
   * new one with all mappings replayed (S1-07). When `attach` throws, nothing has changed.
   *
   * @param mappedIn the address of a mapping that has a byte in [first, last], null when there is
   * none
   * @throws VfioError EINVAL when it is attached already, its IOMMU does not isolate, its aperture
   * or a reserved window conflicts with a mapping, or no range would be left to map; EPERM when its
   * MSIs are not isolated (S2-36)
   */
  attach(group: AttachableGroup, mappedIn: (first: bigint, last: bigint) => bigint | null): IommuDomain {
    const { iommu } = group;
    const { faults } = this.#context;
    if (this.#groups.includes(group)) throw new VfioError('EINVAL', `group ${group.id} is attached already`);
    requireIsolation(group);
    faults.step('type1.attach.domain');
    const sizes = [...this.#domains.map((domain) => domain.pageSizes), iommu.pageSizes];
    if (this.#visible(sizes) === 0n) {
      throw new VfioError('EINVAL', `the IOMMU of group ${group.id} has no page size in common with the container's others`);
    }
    this.#checkAperture(group, mappedIn);
    faults.step('type1.attach.reserved');
    checkReserved(group, mappedIn);
    if (iovaRanges([...this.#groups.map((other) => other.iommu), iommu]).length === 0) {
      throw new VfioError('EINVAL', `with group ${group.id} the container would have no I/O address left to map`);
    }
    checkInterrupts(group, this.#context);
    const domain = this.#domains.find((other) => shares(other, iommu)) ?? this.#replayed(iommu);
    if (domain.groups++ === 0) this.#domains.push(domain);
    this.#groups.push(group);
    group.domain = domain;
    this.#refresh();
    return domain;
  }

  /**
   * Take `group` out; its domain goes with the last group in it.
   *
   * @param beforeLast called when the last group leaves, while its domain is still there to unmap
   * from
   * @throws VfioError EINVAL when it is not attached
   */
  detach(group: AttachableGroup, beforeLast: () => void): void {
    const at = this.#groups.indexOf(group);
    if (at < 0) throw new VfioError('EINVAL', `group ${group.id} is not attached to this container`);
    this.#groups.splice(at, 1);
    const domain = group.domain!;
    group.domain = null;
    if (--domain.groups === 0) {
      if (this.#groups.length === 0) beforeLast();
      domain.clear();
      domain.dirty = null;
      this.#domains.splice(this.#domains.indexOf(domain), 1);
    }
    this.#refresh();
  }

  #checkAperture(group: AttachableGroup, mappedIn: (first: bigint, last: bigint) => bigint | null): void {
    const { apertureFirst, apertureLast } = group.iommu;
    const ends = `${hex(apertureFirst)}-${hex(apertureLast)}`;
    if (apertureFirst > apertureLast) throw new VfioError('EINVAL', `the IOMMU of group ${group.id} has an empty aperture, ${ends}`);
    if (this.#ranges.length === 0) return;
    if (apertureFirst > this.#ranges.at(-1)!.last || apertureLast < this.#ranges[0].first) {
      throw new VfioError('EINVAL', `the aperture of group ${group.id}, ${ends}, has nothing in common with the container's IOVA ranges`);
    }
    const below = apertureFirst > 0n ? mappedIn(0n, apertureFirst - 1n) : null;
    const outside = below ?? (apertureLast < U64_MAX ? mappedIn(apertureLast + 1n, U64_MAX) : null);
    if (outside !== null) {
      throw new VfioError('EINVAL', `the mapping at ${hex(outside)} is outside the aperture of group ${group.id}, ${ends}`, {
        fix: 'Attach the group before mapping, and keep to the IOVA ranges it leaves.',
      });
    }
  }

  /**
   * A new domain for `iommu`, with all mappings of the other domains: all domains hold the same.
   */
  #replayed(iommu: IommuProperties): IommuDomain {
    const { unit, coherent, pageSizes } = iommu;
    const fresh = new IommuDomain({ unit, coherent, enforcesCoherency: iommu.enforcesCoherency ?? false, pageSizes });
    try {
      this.#domains[0]?.forEach(0, LAST_PFN, (first, last, memory, offset, access) => {
        this.#context.faults.step('type1.attach.replay');
        fresh.map(first, last, memory, offset, access);
      });
    } catch (error) {
      fresh.clear();
      throw error;
    }
    return fresh;
  }

  #visible(pageSizes: readonly bigint[]): bigint {
    const page = BigInt(this.#context.pageSize);
    const common = pageSizes.reduce((sizes, more) => sizes & more, U64_MAX);
    if ((common & (page - 1n)) === 0n) return common;
    // An IOMMU that can map less than a page can map a page.
    return (common & ~(page - 1n)) | page;
  }

  #refresh(): void {
    this.#ranges = iovaRanges(this.#groups.map((group) => group.iommu));
    this.#pageSizes = this.#visible(this.#domains.map((domain) => domain.pageSizes));
    this.#pageSize = this.#pageSizes & -this.#pageSizes;
  }
}

/**
 * @throws VfioError EINVAL for a group whose IOMMU cannot keep its devices apart from the rest
 * (S1-05)
 */
export function requireIsolation(group: AttachableGroup): void {
  if (group.iommu.kind === 'full' || group.iommu.physical !== undefined) return;
  const why = group.iommu.kind === 'none' ? 'no IOMMU stands' : 'the IOMMU translates but does not isolate what stands';
  throw new VfioError('EINVAL', `group ${group.id}: ${why} between its devices and memory`, {
    fix: 'Enable the IOMMU (intel_iommu=on, amd_iommu=on), or move the device behind one.',
  });
}

/**
 * A group whose devices could raise interrupts of others is refused, unless the administrator
 * accepts that (S2-36).
 *
 * @throws VfioError EPERM
 */
export function checkInterrupts(group: AttachableGroup, context: Pick<EngineContext, 'events' | 'params'>): void {
  if (group.iommu.isolatedMsi) return;
  if (!context.params.allowUnsafeInterrupts) {
    throw new VfioError('EPERM', `group ${group.id}: its devices could forge other devices' interrupts (no interrupt remapping)`, {
      fix: 'Enable interrupt remapping, or accept the risk in the machine file: `params: { allowUnsafeInterrupts: true }`.',
    });
  }
  const message = `group ${group.id} is attached although its interrupts are not isolated (allowUnsafeInterrupts)`;
  context.events.note('warn', `unsafe-interrupts ${group.id}`, message);
}

function checkReserved(group: AttachableGroup, mappedIn: (first: bigint, last: bigint) => bigint | null): void {
  for (const region of blockingRegions(group.iommu)) {
    const at = mappedIn(region.first, region.last);
    if (at === null) continue;
    const window = `${hex(region.first)}-${hex(region.last)}`;
    throw new VfioError('EINVAL', `the mapping at ${hex(at)} lies in a window reserved for group ${group.id} (${region.kind}), ${window}`, {
      fix: 'Attach the group before mapping, and keep to the IOVA ranges it leaves.',
    });
  }
}

function shares(domain: IommuDomain, iommu: IommuProperties): boolean {
  return (
    domain.unit === iommu.unit &&
    domain.coherent === iommu.coherent &&
    domain.enforcesCoherency === (iommu.enforcesCoherency ?? false) &&
    domain.pageSizes === iommu.pageSizes
  );
}
