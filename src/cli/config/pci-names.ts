/**
 * The names of PCI vendors, devices and classes, where a distribution has installed them (package
 * pci.ids or hwdata).
 */
import { readFileSync } from 'node:fs';
import { classNames } from '../../pci/class-names.ts';
import { PciIds, type PciNames } from '../../pci/pci-ids.ts';

const places = ['/usr/share/misc/pci.ids', '/usr/share/hwdata/pci.ids', '/usr/share/pci.ids'];

/**
 * The first database that can be read; when none is installed, classes have the names of the
 * specification and the rest are numbers.
 */
export function loadPciNames(paths: readonly string[] = places): PciNames {
  for (const path of paths) {
    try {
      return new PciIds(readFileSync(path, 'utf8'));
    } catch {
      // Not there: the next place.
    }
  }
  return classNames;
}
