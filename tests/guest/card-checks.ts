/** The facts that a guest must print of the device of card.ts. */
import { type Check, type Expected, tells } from './checks.ts';

const MEMORY: Expected = {
  'memory.mmap': '0',
  'memory.written-by-us': 'the device saw it',
  'memory.written-by-it': 'we saw it',
  'memory.pread': '256',
  'memory.pread.bytes': '0x77 .. 0x77',
};

/** Printed twice a round: before and after a reset. */
const MESSAGES: Expected = {
  'msix.enable': '0',
  'msix.each': '1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1',
  'msix.no-such-vector': '0 0 0 0',
  'msix.one-disabled': '0 0 0 1',
  'msix.many': '4 vectors were heard',
  'msix.disable': '0',
  'msix.disabled': '0 0 0 0',
};

export function cardChecks(subject: string): Check[] {
  const rounds = (expected: Expected, times = 1): Expected =>
    Object.fromEntries(
      ['first', 'second'].flatMap((round) =>
        Object.entries(expected).map(([key, value]) => [`${round}.${key}`, Array.from({ length: times }, () => value).join('\n')]),
      ),
    );
  return [
    tells('is enumerated behind a root port, with a 64-bit BAR and MSI-X in a BAR of its own', subject, {
      present: 'yes',
      'pci.vendor': '0x1234',
      'pci.device': '0xcafd',
      region: [
        'Region 0: Memory (32-bit, non-prefetchable) [size=4K]',
        'Region 2: Memory (64-bit, prefetchable) [size=64K]',
        'Region 5: Memory (32-bit, non-prefetchable) [size=8K]',
      ].join('\n'),
      capability: 'MSI-X\nExpress (v2) Endpoint, IntMsgNum 0',
    }),
    tells('vfio-pci describes it', subject, {
      'vfio.driver': 'vfio-pci',
      ...rounds({
        'device.open': '0',
        info: 'flags 0x3, 9 regions, 5 interrupt indexes', // PCI, reset
        'region.2': 'flags 0x7, size 0x10000',
        'region.7': 'flags 0x3, size 0x1000',
        'irq.2': 'flags 0x1, count 4',
        end: 'reached',
      }),
    }),
    tells('memory behind a BAR is the same for device and driver', subject, { 'first.memory.found': '0 bytes in use', ...rounds(MEMORY) }),
    tells('MSI-X, vector by vector, also after a reset', subject, rounds(MESSAGES, 2)),
    tells('function-level reset', subject, rounds({ reset: '0', 'reset.register': '0' })),
  ];
}
