/**
 * A group whose file was given an iommufd in the place of a container: its devices are bound when
 * they are opened, and attached to the IOAS that stands for a container.
 *
 * @see linux/drivers/vfio/group.c, vfio_df_group_open(); iommufd.c
 */
import { Cleanup } from '../../base/cleanup.ts';
import type { EngineContext } from '../context.ts';
import type { DeviceFile } from '../device/device-file.ts';
import type { DmaOwner } from '../device/dma-owner.ts';
import type { VfioPciDevice } from '../device/pci-device.ts';
import type { Process } from '../dma/process.ts';
import { IoasDmaSpace } from '../iommufd/ioas-dma-space.ts';
import type { Iommufd } from '../iommufd/iommufd.ts';
import type { IommufdDevice } from '../iommufd/iommufd-device.ts';
import type { FunctionGroup } from './pci-function.ts';

export class GroupIommufd {
  readonly #group: FunctionGroup;
  readonly #ctx: EngineContext;
  #iommufd: Iommufd | null = null;
  readonly #bound = new Map<VfioPciDevice, IommufdDevice>();

  constructor(group: FunctionGroup, ctx: EngineContext) {
    this.#group = group;
    this.#ctx = ctx;
  }

  /** Whether devices are opened through an iommufd from now on. */
  get isSet(): boolean {
    return this.#iommufd !== null;
  }

  /**
   * The group is in `iommufd`, which gets an IOAS that stands for a container.
   *
   * @throws VfioError EINVAL for a group without an IOMMU beside one with one
   */
  set(iommufd: Iommufd): void {
    if (this.#group.noIommu) iommufd.setNoIommu();
    else iommufd.needCompat();
    this.#iommufd = iommufd.get();
  }

  /** It is not any more. Devices that are open go on. */
  leave(): void {
    this.#iommufd?.put();
    this.#iommufd = null;
  }

  /**
   * The first open binds the device, and attaches it.
   *
   * @throws VfioError as `IommufdDevice.bind` and `attach`; ENODEV without such an IOAS; as `open`.
   * Nothing has changed then.
   */
  open(device: VfioPciDevice, open: (owner: DmaOwner) => DeviceFile): DeviceFile {
    const iommufd = this.#iommufd!;
    const known = this.#bound.get(device);
    const bound = known ?? iommufd.bind(device.bdf, this.#group);
    const space = (process: Process) => new IoasDmaSpace(iommufd, bound, process, this.#ctx);
    const owner = { container: null, ids: null, space };
    if (known !== undefined) return open(owner);
    this.#bound.set(device, bound);
    using undo = new Cleanup();
    undo.defer(() => this.#unbind(device));
    const file = open(owner);
    undo.defer(() => file.close());
    if (!this.#group.noIommu) bound.attach(iommufd.compatId());
    undo.move();
    return file;
  }

  /** A file of `device` was closed; with its last one the device is unbound. */
  released(device: VfioPciDevice): void {
    if (device.openCount === 0) this.#unbind(device);
  }

  #unbind(device: VfioPciDevice): void {
    this.#bound.get(device)?.close();
    this.#bound.delete(device);
  }
}
