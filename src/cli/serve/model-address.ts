/** The device that an argument of `vfio serve` names. */
import { parseAddress } from '../../api/address.ts';
import type { ModelAddress } from '../../api/device-code.ts';
import { VfioError } from '../../base/errno.ts';

/** @throws VfioError EINVAL for a thing that is no model and no file with one */
export function modelAddress(text: string): ModelAddress {
  const address = parseAddress(/^(sim|unix):/.test(text) ? text : `sim:${text}`);
  if (address.kind === 'model' || address.kind === 'file') return address;
  throw new VfioError('EINVAL', `${text} is not a device to serve`, {
    fix: "Give 'nvme', 'edu', 'bench', 'endpoint-test', 'virtio-rng', or a file such as './my-device.ts'.",
  });
}
