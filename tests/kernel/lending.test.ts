/** A broker opens a device, and other processes drive it: on our virtual kernel. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { parseMachine } from '../../src/api/machine-file.ts';
import { machineOf } from '../../src/api/machine-of-spec.ts';
import { silentLogger } from '../../src/base/log.ts';
import { answersOf, folder } from './machine.ts';

const card = `
name: a card
devices: [{ at: "1c.0", kind: root-port, devices: [{ at: "00.0", model: edu, driver: vfio-pci }] }]
`;

it('vfio lend says at once that there is no such device', () => {
  const vfio = join(import.meta.dirname, '../../bin/vfio.js');
  const { status, stderr } = spawnSync(process.execPath, [vfio, 'lend', 'ffff:1f:1f.7', '--socket-path', join(folder, 'none.sock')], {
    encoding: 'utf8',
  });
  expect([status, stderr]).toEqual([5, expect.stringMatching(/^vfio: ENODEV: there is no PCI device ffff:1f:1f\.7 on this computer/)]);
});

it.each(['group', 'cdev'])(
  'S2-30 a device that is lent by %s is quiet after kill -9 of its user, and stays without the broker',
  async (via) => {
    using machine = machineOf('machine.yaml', parseMachine(card), { log: silentLogger, nodeOwner: process.getuid!() });
    const answers = await answersOf(machine, 'lends', ['story', join(folder, `${via}.sock`), via]);
    const name = '0000:01:00.0';
    expect(answers).toEqual({
      atFirst: `${via} quiet 120`,
      refused: expect.stringMatching(/^EBUSY: 0000:01:00\.0 is lent to process \d+ \(node\)$/),
      afterKill: `${via} quiet 120`,
      withoutBroker: '720 7',
      lines: [
        `info: ${name}: process N (node) has it, by ${via}`,
        `warn: ${name}: process N (node) does not get it: ${name} is lent to process N (node)`,
        `info: ${name}: process N has given it back`,
        `info: ${name}: process N (node) has it, by ${via}`,
      ],
      leaked: 0,
    });
  },
);
