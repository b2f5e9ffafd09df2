/**
 * Class codes by name, for computers without a database of PCI ids (PCI Code and ID Assignment
 * 1.15, chapter 1). Vendors and devices have no names here.
 */
import type { PciNames } from './pci-ids.ts';

/** By base class: its name, then sub-classes by number. */
const classes: Readonly<Record<number, readonly [string, Readonly<Record<number, string>>]>> = {
  0: ['Unclassified device', { 0: 'Non-VGA unclassified device', 1: 'VGA compatible unclassified device' }],
  1: [
    'Mass storage controller',
    {
      0: 'SCSI storage controller',
      1: 'IDE interface',
      4: 'RAID bus controller',
      5: 'ATA controller',
      6: 'SATA controller',
      7: 'Serial Attached SCSI controller',
      8: 'Non-Volatile memory controller',
      9: 'Universal Flash Storage controller',
      128: 'Mass storage controller',
    },
  ],
  2: ['Network controller', { 0: 'Ethernet controller', 7: 'Infiniband controller', 8: 'Fabric controller', 128: 'Network controller' }],
  3: [
    'Display controller',
    { 0: 'VGA compatible controller', 1: 'XGA compatible controller', 2: '3D controller', 128: 'Display controller' },
  ],
  4: ['Multimedia controller', { 0: 'Multimedia video controller', 1: 'Multimedia audio controller', 3: 'Audio device' }],
  5: ['Memory controller', { 0: 'RAM memory', 1: 'FLASH memory', 2: 'CXL', 128: 'Memory controller' }],
  6: [
    'Bridge',
    {
      0: 'Host bridge',
      1: 'ISA bridge',
      2: 'EISA bridge',
      4: 'PCI bridge',
      5: 'PCMCIA bridge',
      7: 'CardBus bridge',
      9: 'Semi-transparent PCI-to-PCI bridge',
      128: 'Bridge',
    },
  ],
  7: ['Communication controller', { 0: 'Serial controller', 1: 'Parallel controller', 128: 'Communication controller' }],
  8: [
    'Generic system peripheral',
    { 0: 'PIC', 1: 'DMA controller', 2: 'Timer', 3: 'RTC', 5: 'SD Host controller', 6: 'IOMMU', 128: 'System peripheral' },
  ],
  9: ['Input device controller', { 0: 'Keyboard controller', 2: 'Mouse controller', 128: 'Input device controller' }],
  10: ['Docking station', {}],
  11: ['Processor', { 64: 'Co-processor' }],
  12: ['Serial bus controller', { 0: 'FireWire (IEEE 1394)', 3: 'USB controller', 4: 'Fibre Channel', 5: 'SMBus' }],
  13: ['Wireless controller', { 17: 'Bluetooth', 128: 'Wireless controller' }],
  14: ['Intelligent controller', { 0: 'I2O' }],
  15: ['Satellite communications controller', {}],
  16: ['Encryption controller', { 0: 'Network and computing encryption device', 128: 'Encryption controller' }],
  17: ['Signal processing controller', { 128: 'Signal processing controller' }],
  18: ['Processing accelerators', { 0: 'Processing accelerators' }],
  19: ['Non-Essential Instrumentation', {}],
  64: ['Coprocessor', {}],
  255: ['Unassigned class', {}],
};

const progIfs: Readonly<Record<string, string>> = {
  '1 6 1': 'AHCI 1.0',
  '1 8 1': 'NVMHCI',
  '1 8 2': 'NVM Express',
  '6 4 0': 'Normal decode',
  '6 4 1': 'Subtractive decode',
  'c 3 0': 'UHCI',
  'c 3 10': 'OHCI',
  'c 3 20': 'EHCI',
  'c 3 30': 'XHCI',
};

export const classNames: PciNames = {
  vendor: () => undefined,
  device: () => undefined,
  subsystem: () => undefined,
  baseClass: (base) => classes[base]?.[0],
  subClass: (base, sub) => classes[base]?.[1][sub],
  progIf: (base, sub, progIf) => progIfs[`${base.toString(16)} ${sub.toString(16)} ${progIf.toString(16)}`],
};
