/**
 * The facts that a guest must print of an educational device, from any provider: QEMU's own
 * `-device edu`, which shows that the test itself is right, or ours through `vfio-user-pci`.
 *
 * @see QEMU docs/specs/edu.rst
 */
import { type Check, type Expected, sameAs, tells } from './checks.ts';

const IDENTITY: Expected = {
  present: 'yes',
  'pci.vendor': '0x1234',
  'pci.device': '0x11e8',
  'pci.class': '0x00ff00',
  'pci.revision': '0x10',
  'pci.subsystem_vendor': '0x1af4',
  'pci.subsystem_device': '0x1100',
  'pci.size.0': '1048576',
};

const REGISTERS: Expected = {
  id: '0x10000ed',
  'id.read-only': '0x10000ed',
  'id.64-bit': '0xffffffffffffffff',
  liveness: '0xedcba987',
  'liveness.2000-times': '2000 right',
  'factorial.5': '120',
  'factorial.9': '362880',
  'factorial.13': '1932053504', // 13! modulo 2^32
  'dma-source.64-bit': '0x123456789ab',
  'dma-source.after-32-bit': '0xfeed',
  'hole.0x40000': '0xffffffff',
  'irq-status': '0',
};

/** As after power-on: no trace of the previous user is left. */
const FOUND: Expected = { 'found.liveness': '0', 'found.dma-source': '0' };

const VFIO_INFO: Expected = {
  'group.status': '0x1',
  'device.open': '0',
  info: 'flags 0x2, 9 regions, 5 interrupt indexes', // PCI, no reset
  'region.0': 'flags 0x7, size 0x100000', // read, write, mmap
  'region.1': 'flags 0, size 0',
  'region.7': 'flags 0x3, size 0x100',
  'irq.0': 'flags 0x7, count 1', // eventfd, maskable, automasked
  'irq.1': 'flags 0x9, count 1', // eventfd, not resizable
  'irq.2': 'flags 0x9, count 0',
  reset: 'EINVAL', // no function-level reset, no power management
  end: 'reached',
};

const CONFIG: Expected = {
  'config.read': '256',
  'config.bar0.mask': '0xfff00000',
  'config.bar0.restored': 'yes',
  'config.ids.read-only': '0x11e81234',
  'config.command': '0x6',
};

const INTERRUPTED = '1 interrupts, status 0x100';

const DMA: Expected = {
  'dma.map': '0',
  'dma.to-device': `${INTERRUPTED}, command 0x4`,
  'dma.to-ram': `${INTERRUPTED}, command 0x6`,
  'dma.whole-page': 'arrived',
  'dma.across-pages': 'arrived',
  'dma.unmap': '8192',
  'dma.unmapped': `${INTERRUPTED}, command 0x6`,
  'dma.unmapped.landed': 'no',
  'dma.other-page': 'arrived',
  'dma.read-only.landed': 'no',
  'dma.read-only.read': 'arrived',
  'dma.no-bus-master': '0 interrupts, status 0x100, command 0x6',
  'dma.no-bus-master.landed': 'no',
};

const thrice = (line: string) => [line, line, line].join('\n');

const MESSAGES: Expected = {
  'msi.capability': '0x40',
  'msi.enable': '0',
  'msi.raise': thrice('1 interrupts, status 0xab'),
  'msi.acknowledged': 'status 0',
  'msi.quiet': '0 interrupts',
  'msi.factorial': '1 interrupts, status 0x1, 120',
  'msi.signalled-by-hand': '1 interrupts',
  'msi.disable': '0',
  'msi.disabled': '0 interrupts',
};

const PIN: Expected = {
  'intx.enable': '0',
  'intx.raise': thrice('1 interrupts, then 0'), // masked by the kernel at the first
  'intx.unmask-pending': thrice('1 interrupts'),
  'intx.unmask': thrice('0'),
  'intx.quiet': thrice('0 interrupts'),
  'intx.masked': '0 interrupts, status bit 1',
  'intx.unmasked': '1 interrupts',
  'intx.disable': '0',
};

/**
 * Facts of rounds of `guest drive`. The second user of a device finds it as the first did. Default:
 * the two rounds of edu.sh.
 */
function rounds(expected: Expected, names: readonly string[] = ['first', 'second']): Expected {
  return Object.fromEntries(names.flatMap((round) => Object.entries(expected).map(([key, value]) => [`${round}.${key}`, value])));
}

/** The facts that the guest of edu.sh must print of `subject`. */
export function eduChecks(subject: string): Check[] {
  const bar = Object.fromEntries(Object.entries({ ...FOUND, ...REGISTERS }).map(([key, value]) => [`bar.${key}`, value]));
  return [
    tells('is enumerated with its ids and one 1 MiB BAR', subject, IDENTITY),
    tells('registers answer through sysfs', subject, bar),
    tells("binds to the guest kernel's vfio-pci, alone in its group", subject, {
      'vfio.driver': 'vfio-pci',
      'vfio.group.devices': '1',
      'vfio.unbound': 'yes',
    }),
    tells('vfio-pci describes it', subject, rounds(VFIO_INFO)),
    tells('vfio-pci: config space', subject, rounds(CONFIG)),
    tells('vfio-pci: registers through a mapping', subject, rounds(REGISTERS)),
    tells('vfio-pci: DMA both ways, and only where it is mapped', subject, rounds(DMA)),
    tells('vfio-pci: MSI', subject, rounds(MESSAGES)),
    tells('vfio-pci: INTx', subject, rounds(PIN)),
  ];
}

/** The facts that the guest of edu-physical.sh must print of `subject`. */
export function physicalChecks(subject: string): Check[] {
  const lines = Array.from({ length: 5 }, () => 'arrived, command 0x2');
  return [
    tells('without an IOMMU: is as just switched on', subject, {
      'bar.found.liveness': '0',
      'bar.found.dma-source': '0',
      'physical.found.buffer': '0 bytes in use',
    }),
    tells('without an IOMMU: registers answer', subject, {
      'pci.vendor': '0x1234',
      'bar.id': '0x10000ed',
      'bar.liveness.2000-times': '2000 right',
    }),
    tells('without an IOMMU: DMA to physical addresses', subject, { 'physical.page': lines.join('\n') }),
  ];
}

/** The facts that the guest of edu-reboot.sh must print of `subject`. */
export function rebootChecks(subject: string): Check[] {
  const again = (expected: Expected) => rounds(expected, ['again']);
  return [
    tells('is in use when the guest restarts', subject, {
      'held.device.open': '0',
      'held.dma.map': '0',
      'held.dma.landed': 'yes',
      'held.holding': 'liveness 0xffffffff',
    }),
    tells('after a restart: vfio-pci describes it', subject, again(VFIO_INFO)),
    tells('after a restart: registers', subject, again(REGISTERS)),
    tells('after a restart: DMA, and nothing is left of the mappings before', subject, again(DMA)),
    tells('after a restart: MSI', subject, again(MESSAGES)),
    tells('after a restart: INTx', subject, again(PIN)),
  ];
}

/** Accesses narrower than the register: QEMU's bus reads 0, hardware and our model all ones. */
const NARROW: Expected = { 'id.8-bit': '0xff', 'id.16-bit': '0xffff' };

/** Checks that the guest sees no difference between `subject` and `like` but their places. */
export function likenessChecks(subject: string, like: string): Check[] {
  const narrow = { ...rounds(NARROW), ...Object.fromEntries(Object.entries(NARROW).map(([key, value]) => [`bar.${key}`, value])) };
  const same = (what: string, prefix: string, options = {}) => sameAs(`${what} is what QEMU's has`, subject, like, prefix, options);
  return [
    same('config space', 'pci.config', { normalize: withoutPlace }),
    same('config space after use', 'after.config', { normalize: withoutPlace }),
    same('what lspci prints', 'lspci', { normalize: lspciWithoutPlace }),
    same('every other word of sysfs', 'pci.', { normalize: sysfsWithoutPlace }),
    same('every register', 'bar.', { except: narrow }),
    same('every answer to the first user', 'first.', { except: narrow }),
    same('every answer to the second user', 'second.', { except: narrow }),
  ];
}

/**
 * Lines of 16 bytes in hex, without the address of BAR 0 (0x10..0x13) and the interrupt line
 * (0x3c).
 */
function withoutPlace(config: string): string {
  const lines = config.split('\n');
  if (lines.length < 4) return config;
  lines[1] = `........${lines[1]!.slice(8)}`;
  lines[3] = `${lines[3]!.slice(0, 24)}..${lines[3]!.slice(26)}`;
  return lines.join('\n');
}

function lspciWithoutPlace(text: string): string {
  return text
    .replace(/Memory at [0-9a-f]+/, 'Memory at ....')
    .replace(/routed to IRQ \d+/, 'routed to IRQ ..')
    .replace(/IOMMU group: \d+/, 'IOMMU group: ..')
    .replace(/^10: (\S\S ){4}/m, '10: .. .. .. .. ')
    .replace(/^(30: (\S\S ){12})\S\S/m, '$1..');
}

function sysfsWithoutPlace(value: string, key: string): string {
  if (key === 'pci.irq') return '..';
  if (key === 'pci.config') return withoutPlace(value);
  if (key === 'pci.resource') {
    return value.replace(/^0x(\S+) 0x(\S+)/gm, (_, first: string, last: string) => `${BigInt(`0x${last}`) - BigInt(`0x${first}`)}`);
  }
  return value;
}
