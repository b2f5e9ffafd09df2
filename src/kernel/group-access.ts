/**
 * A device by its group: the container, /dev/vfio/N, and GROUP_GET_DEVICE_FD.
 *
 * @see linux/drivers/vfio/group.c, vfio_group_ioctl_get_device_fd()
 */
import { Cleanup } from '../base/cleanup.ts';
import { callFailure, GroupCall } from './calls.ts';
import { KernelContainer } from './container.ts';
import { KernelDmaSpace } from './dma-space.ts';
import { type KernelLocation, type KernelRoots, notViable } from './location.ts';
import { newSpace } from './no-iommu-space.ts';
import type { KernelOptions, OpenedFile } from './opened.ts';
import { OpenedKernelFile } from './opened-file.ts';

/**
 * Open a device that has a group.
 *
 * @throws VfioError as `openKernelDevice`
 */
export function openByGroup(location: KernelLocation, roots: KernelRoots, options: KernelOptions, why: string): OpenedFile {
  const { name } = location;
  const group = location.group!;
  using undo = new Cleanup();
  const space = (options.space ?? newSpace(KernelContainer.open(`${roots.dev}/vfio/vfio`, name), group.noIommu)).get();
  undo.defer(() => space.put());
  const container = space.backend as KernelContainer;
  const groupFile = container.join(group, {
    device: name,
    blockedBy: location.cdev?.path,
    whyNotViable: () => notViable(group, name, roots),
  });
  undo.defer(() => container.leave(group.number));
  const words = options.token === undefined ? name : `${name} vf_token=${options.token}`;
  const file = groupFile.ioctlFile(GroupCall.GET_DEVICE_FD.request, new TextEncoder().encode(`${words}\0`), name);
  if (typeof file === 'number') throw callFailure(file, GroupCall.GET_DEVICE_FD, name);
  undo.use(file);
  const view = new KernelDmaSpace(space, options.source);
  const after = undo.move();
  return new OpenedKernelFile(
    {
      name,
      via: group.noIommu ? 'noiommu-group' : 'group',
      why,
      file,
      space: view,
      proof: { kind: 'group', group: group.number, file: groupFile },
    },
    after,
  );
}
