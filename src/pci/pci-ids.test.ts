import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { classNames } from './class-names.ts';
import { PciIds } from './pci-ids.ts';

const text = `# comment
1af4  Red Hat, Inc.
\t1000  Virtio network device
\t\t1af4 0001  A card
\t\tnonsense
\t1001  Virtio block device
8086  Intel Corporation

X 12  something of a later version
\t1234  not a device of Intel's
C 01  Mass storage controller
\t08  Non-Volatile memory controller
\t\t02  NVM Express
C 02  Network controller
\t00  Ethernet controller
`;
const ids = new PciIds(text);

describe('pci: names', () => {
  it('pci: of vendors, devices and subsystems', () => {
    expect(ids.vendor(0x1af4)).toBe('Red Hat, Inc.');
    expect(ids.device(0x1af4, 0x1001)).toBe('Virtio block device');
    expect(ids.subsystem(0x1af4, 0x1000, 0x1af4, 1)).toBe('A card');
    expect(ids.subsystem(0x1af4, 0x1001, 0x1af4, 0x1001)).toBe('Virtio block device');
    expect([ids.vendor(1), ids.device(0x8086, 0x1001), ids.device(0x8086, 0x1234), ids.subsystem(0x1af4, 0x1001, 0x1af4, 1)]).toEqual(
      Array(4).fill(undefined),
    );
  });

  it('pci: of classes, sub-classes and programming interfaces', () => {
    expect([ids.baseClass(1), ids.subClass(1, 8), ids.progIf(1, 8, 2)]).toEqual([
      'Mass storage controller',
      'Non-Volatile memory controller',
      'NVM Express',
    ]);
    expect([ids.baseClass(3), ids.subClass(2, 8), ids.progIf(2, 0, 2)]).toEqual([undefined, undefined, undefined]);
  });

  it('pci: the built-in names agree with the installed database', (context) => {
    const place = '/usr/share/misc/pci.ids';
    if (!existsSync(place)) return context.skip('no pci.ids on this machine');
    const installed = new PciIds(readFileSync(place, 'utf8'));
    const all = [...Array(256).keys()];
    for (const base of all) {
      const name = classNames.baseClass(base);
      if (name !== undefined) expect(name).toBe(installed.baseClass(base));
      for (const sub of all) {
        const subName = classNames.subClass(base, sub);
        if (subName !== undefined) expect(subName, `${base}/${sub}`).toBe(installed.subClass(base, sub));
      }
    }
  });
});
