/**
 * A device by its own file, /dev/vfio/devices/vfioN, and an address space of /dev/iommu.
 *
 * @see linux/drivers/vfio/device_cdev.c, vfio_df_ioctl_bind_iommufd(), vfio_df_ioctl_attach_pt()
 */
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import type { KernelFile } from '../sys/kernel-file.ts';
import { processesWith } from '../sys/node-users.ts';
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
  const deviceId = bind(ioas, file, token, location);
  ioas.attach(file, deviceId, name);
  const view = new KernelDmaSpace(space, options.source);
  return new OpenedKernelFile(
    { name, via: cdev.noIommu ? 'noiommu-cdev' : 'cdev', why, file, space: view, proof: { kind: 'iommufd', deviceId } },
    undo.move(),
  );
}

/** @see linux/drivers/vfio/vfio_main.c, vfio_df_open() */
function bind(ioas: KernelIoas, file: KernelFile, token: Uint8Array | null, { name, group }: KernelLocation): number {
  try {
    return ioas.bind(file, token, name);
  } catch (cause) {
    if (!(cause instanceof VfioError)) throw cause;
    if (cause.code === 'EINVAL' && token !== null) {
      throw new VfioError(
        'EINVAL',
        `${name}: the device takes no VF token, this kernel takes none by the device's own file, or the device is in use`,
        {
          cause,
          fix: "Open it by its group (via: 'group'), or without a token.",
        },
      );
    }
    // EINVAL: another program has the device's own file bound. EBUSY: another one has the group.
    if (cause.code !== 'EBUSY' && cause.code !== 'EINVAL') throw cause;
    // The file is open here, too.
    const users = [processesWith(file.path, 1), group === null ? '' : processesWith(group.path)].filter((each) => each !== '');
    throw new VfioError('EBUSY', `${name} is in use${users.length === 0 ? '' : ` by ${users.join(', ')}`}`, {
      cause,
      fix: 'Close the device there first: one program has it at a time, by its own file or by its group.',
    });
  }
}
