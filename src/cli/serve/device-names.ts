/** Names of devices that are served beside each other. */
import { basename, extname } from 'node:path';
import type { ModelAddress } from '../../api/device-code.ts';

/** `nvme`, and the next one `nvme-2`: each has a socket of that name. */
export function deviceNames(addresses: readonly ModelAddress[]): readonly string[] {
  const counts = new Map<string, number>();
  return addresses.map((address) => {
    const base = address.kind === 'model' ? address.name : basename(address.path, extname(address.path));
    const count = (counts.get(base) ?? 0) + 1;
    counts.set(base, count);
    return count === 1 ? base : `${base}-${count}`;
  });
}
