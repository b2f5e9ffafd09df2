/**
 * A device by its own file, /dev/vfio/devices/vfioN, and an address space of /dev/iommu.
 *
 * @see linux/drivers/vfio/device_cdev.c, vfio_df_ioctl_bind_iommufd(), vfio_df_ioctl_attach_pt()
 */
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import type { KernelFile } from '../sys/kernel-file.ts';
import { KernelDmaSpace } from './dma-space.ts';
import { KernelIoas } from './ioas.ts';
import type { KernelLocation, KernelRoots } from './location.ts';
import { newSpace } from './no-iommu-space.ts';
import { openNode } from './node-error.ts';
import type { KernelOptions, OpenedFile } from './opened.ts';
import { OpenedKernelFile } from './opened-file.ts';

/**
 * Open a device that has a file of its own.
 *
 * @param token 16 bytes
 * @throws VfioError as `openKernelDevice`; EINVAL for a token in a kernel that takes none here
 */
export function openByCdev(
  location: KernelLocation,
  roots: KernelRoots,
  options: KernelOptions,
  token: Uint8Array | null,
  why: string,
): OpenedFile {
  const { name } = location;
  const cdev = location.cdev!;
  using undo = new Cleanup();
  const space = (options.space ?? newSpace(KernelIoas.open(`${roots.dev}/iommu`, name), cdev.noIommu)).get();
  undo.defer(() => space.put());
  const ioas = space.backend as KernelIoas;
  const file = undo.use(
    openNode(cdev.path, { device: name, what: 'the file of the device', missing: 'Load the module: modprobe vfio-pci.' }),
  );
  const deviceId = bind(ioas, file, token, name);
  ioas.attach(file, deviceId, name);
  const view = new KernelDmaSpace(space, options.source);
  return new OpenedKernelFile(
    { name, via: cdev.noIommu ? 'noiommu-cdev' : 'cdev', why, file, space: view, proof: { kind: 'iommufd', deviceId } },
    undo.move(),
  );
}

function bind(ioas: KernelIoas, file: KernelFile, token: Uint8Array | null, name: string): number {
  try {
    return ioas.bind(file, token, name);
  } catch (error) {
    if (token === null || !(error instanceof VfioError) || error.code !== 'EINVAL') throw error;
    throw new VfioError('EINVAL', `${name}: the device takes no VF token, or this kernel takes none by the device's own file`, {
      cause: error,
      fix: "Open it by its group (via: 'group'), or without a token.",
    });
  }
}
