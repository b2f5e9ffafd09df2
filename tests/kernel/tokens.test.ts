/** VF tokens by our client on our virtual kernel, of today and of 6.12. */
import { expect, it } from 'vitest';
import { parseMachine } from '../../src/api/machine-file.ts';
import { machineOf } from '../../src/api/machine-of-spec.ts';
import { silentLogger } from '../../src/base/log.ts';
import { answersOf } from './machine.ts';

const card = `
name: a card with virtual functions
enableSriov: true
devices:
  - at: "1c.0"
    kind: root-port
    acs: true
    devices: [{ at: "00.0", model: edu, options: { vfs: 2 }, numVfs: 1, driver: vfio-pci }]
`;

async function tokens(linux: string): Promise<Record<'right' | 'wrong' | 'none', string[]> & { readonly unwanted: string }> {
  const spec = parseMachine(`linux: ${linux}\n${card}`);
  using machine = machineOf('machine.yaml', spec, { log: silentLogger, nodeOwner: process.getuid!() });
  const [pf, vf] = [...machine.functions.keys()].slice(-2);
  return (await answersOf(machine, 'tokens', [pf!, vf!])) as Awaited<ReturnType<typeof tokens>>;
}

it('S3-11 a virtual function opens with the token of its physical function, by group and by its own file', async () => {
  const { right, wrong, none, unwanted } = await tokens('7.3');
  expect(right).toEqual([
    'group: the caller chose the group',
    "cdev: the caller chose the device's own file",
    'cdev: the device has a file of its own, and /dev/iommu is there',
  ]);
  for (const refusal of [...wrong, ...none]) expect(refusal).toMatch(/^EACCES: .*\n {2}fix: The device needs a VF token/);
  expect(unwanted).toBe('EINVAL: the VF token given is not a UUID');
});

it('S3-11 a kernel that takes tokens only by the group gets them there', async () => {
  const { right } = await tokens('6.12');
  expect(right[0]).toBe('group: the caller chose the group');
  expect(right[1]).toMatch(/^EINVAL: .*takes none by the device's own file, .*\n {2}fix: Open it by its group/);
  expect(right[2]).toBe('group: this kernel takes a VF token only by the group');
});
