/** Drivers on devices of the kernel, by open(): our client on our virtual kernel. */
import { expect, it } from 'vitest';
import { parseMachine } from '../../src/api/machine-file.ts';
import { machineOf } from '../../src/api/machine-of-spec.ts';
import { silentLogger } from '../../src/base/log.ts';
import { answersOf } from './machine.ts';

const ports = `
name: two devices
devices:
  - { at: "1c.0", kind: root-port, devices: [{ at: "00.0", model: edu, options: { dmaMs: 0, dmaMask: 0xffffffffffff }, driver: vfio-pci }] }
  - { at: "1c.1", kind: root-port, devices: [{ at: "00.0", model: edu, options: { dmaMs: 0, dmaMask: 0xffffffffffff }, driver: vfio-pci }] }
`;
const options = { log: silentLogger, nodeOwner: process.getuid!() };

it('S1-07 two devices that are opened with one another share buffers, which stay for the second', async () => {
  using machine = machineOf('machine.yaml', parseMachine(ports), options);
  expect(await answersOf(machine, 'drives', ['shared', '01:00.0', '02:00.0'])).toEqual({
    same: true,
    owned: true,
    text: 'from one device to another',
    leaked: 0,
    lines: [],
  });
});

it.skipIf(process.getuid!() !== 0)('a device without an IOMMU is driven by physical addresses, when that is asked for', async () => {
  const spec = parseMachine(ports.replace('devices:', 'iommu: { kind: none }\ndevices:'));
  using machine = machineOf('machine.yaml', spec, { ...options, params: { unsafeNoIommu: true } });
  const answers = (await answersOf(machine, 'drives', ['no-iommu', '01:00.0'])) as Record<string, unknown>;
  expect(answers).toMatchObject({
    refused: expect.stringMatching(/^EPERM: 0000:01:00\.0 has no IOMMU.*\n.*--unsafe-noiommu/),
    group: expect.stringMatching(/^EOPNOTSUPP: .*pins no memory.*\n.*Linux 7\.3/),
    chosen: expect.stringMatching(/^EOPNOTSUPP: .*at an address of the driver's choice/),
    text: 'from one device to another',
    references: 0,
    leaked: 0,
  });
  expect(answers.lines).toEqual(expect.arrayContaining([expect.stringContaining('HAS NO IOMMU')]));
});
