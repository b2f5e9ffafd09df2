/**
 * The file `config` of a function: its hardware's configuration space, in the accesses that the
 * kernel makes of a read or a write.
 *
 * @see linux/drivers/pci/pci-sysfs.c, pci_read_config(), pci_write_config()
 */
import type { Width } from '../../abi/device-host.ts';
import type { ConfigSpace } from '../../pci/config-space.ts';
import type { Attribute } from './attribute.ts';

export function configFile(config: ConfigSpace): Attribute {
  const read = (offset: number, into: Uint8Array): number =>
    eachAccess(offset, into.length, config.size, (at, width, i) => {
      const value = config.read(at, width);
      for (let byte = 0; byte < width; byte++) into[i + byte] = (value >>> (8 * byte)) & 0xff;
    });
  const write = (offset: number, bytes: Uint8Array): number =>
    eachAccess(offset, bytes.length, config.size, (at, width, i) => {
      let value = 0;
      for (let byte = 0; byte < width; byte++) value |= bytes[i + byte]! << (8 * byte);
      config.write(at, width, value >>> 0);
    });
  const show = () => {
    const all = new Uint8Array(config.size);
    read(0, all);
    return all;
  };
  return { mode: 0o644, show, store: null, binary: { read, write } };
}

/** Bytes and words up to the next doubleword, doublewords, and the rest. @returns bytes */
function eachAccess(offset: number, count: number, size: number, access: (at: number, width: Width, i: number) => void): number {
  const total = Math.max(Math.min(count, size - offset), 0);
  for (let i = 0; i < total; ) {
    const at = offset + i;
    const left = total - i;
    const width = (at & 1) !== 0 || left < 2 ? 1 : (at & 2) !== 0 || left < 4 ? 2 : 4;
    access(at, width, i);
    i += width;
  }
  return total;
}
