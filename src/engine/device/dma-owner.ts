/** The user's side of the IOMMU for an open device: a container, or an iommufd. */

import type { DmaSpace } from '../../abi/device.ts';
import type { Container } from '../dma/container.ts';
import type { Process } from '../dma/process.ts';
import type { DeviceIds } from './hot-reset.ts';

export interface DmaOwner {
  /** Null: the device is used through an iommufd. */
  readonly container: Container | null;
  /** For a device that was bound by its own file: the iommufd, which says what its user owns. */
  readonly ids: DeviceIds | null;
  /** For a device that is used through an iommufd: what it is attached to. */
  readonly space?: (process: Process) => DmaSpace;
}
