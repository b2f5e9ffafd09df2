/** Limits of mappings, and written pages: our client on our virtual kernel. */
import { expect, it } from 'vitest';
import { parseMachine } from '../../src/api/machine-file.ts';
import { machineOf } from '../../src/api/machine-of-spec.ts';
import { silentLogger } from '../../src/base/log.ts';
import { answersOf } from './machine.ts';

const card = `
name: a card
iommu: { dirtyTracking: true }
params: { dmaEntryLimit: 20 }
devices: [{ at: "1c.0", kind: root-port, devices: [{ at: "00.0", model: edu, driver: vfio-pci }] }]
`;

function machine() {
  return machineOf('machine.yaml', parseMachine(card), { log: silentLogger, nodeOwner: process.getuid!() });
}

it('B.6 dma_entry_limit: a line warns before the kernel refuses, and the error has the numbers', async () => {
  using computer = machine();
  expect(await answersOf(computer, 'maps', ['limit'])).toEqual({
    answers: {
      first: 20,
      left: 0,
      refused: expect.stringMatching(
        /^ENOSPC: 0000:01:00\.0: 0x1000 bytes at 0x128000: the container has 20 DMA mappings, and its limit \(dma_entry_limit\) is 20: .*\n {2}fix: Map larger/,
      ),
      unmapped: 20 * 4096,
      references: 1,
    },
    lines: ['0000:01:00.0: the container has 18 of at most 20 DMA mappings; 2 are left'],
  });
});

it('B.6 dirty pages: written pages are reported once, by the container and by the domain of an iommufd', async () => {
  using computer = machine();
  const pages = { first: 0b0100_0100, second: 0b0010, unmapped: 0x8000, references: 1 };
  expect(await answersOf(computer, 'maps', ['dirty'])).toEqual({
    answers: [
      { via: 'group', ...pages },
      { via: 'cdev', ...pages },
    ],
    lines: [],
  });
});
