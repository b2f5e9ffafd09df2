/** Programs that use the machine's part of /sys, as shells and administrators' tools do. */
import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { PF, sriovRig, VF0 } from '../kit/sriov-rig.ts';
import { runOn } from './programs.ts';

const possible = spawnSync('unshare', ['--user', '--mount', 'true']).status === 0;
if (!possible) console.warn('SKIPPED: this computer gives its users no user namespaces, so no program sees /sys of a machine');

const dir = `/sys/bus/pci/devices/${PF}`;

/** Lines that `script` prints. */
async function printed(script: string, rig = sriovRig()): Promise<readonly string[]> {
  using machine = rig.machine;
  const { status, lines } = await runOn(machine, 'sh', '-c', `cd ${dir}\n${script}`);
  expect(status).toBe(0);
  return lines;
}

it.skipIf(!possible)('S1-09 a shell gives a function to another driver and back', async () => {
  const script = `
    echo ${PF} > driver/unbind; ls | grep -cx driver; ls /dev/vfio | grep -cx $(basename $(readlink iommu_group))
    echo pci-stub > driver_override; cat driver_override; echo ${PF} > /sys/bus/pci/drivers_probe; basename $(readlink driver)
    echo ${PF} > driver/unbind; echo vfio-pci > driver_override; echo ${PF} > /sys/bus/pci/drivers/vfio-pci/bind; basename $(readlink driver)
    echo > driver_override; cat driver_override`;
  expect(await printed(script)).toEqual(['0', '0', 'pci-stub', 'pci-stub', 'vfio-pci', '(null)']);
});

it.skipIf(!possible)('S3-15 a shell enables virtual functions, which are there at once', async () => {
  expect(
    await printed(
      `echo 2 > sriov_numvfs; cat sriov_numvfs; readlink virtfn0; cat ../${VF0}/vendor; echo 0 > sriov_numvfs; ls -d virtfn*; true`,
    ),
  ).toEqual(['2', `../${VF0}`, '0x8086']);
});

it.skipIf(!possible)('a write fails with the errno that the attribute has', async () => {
  // tee writes through the descriptor that it has opened.
  const script = `
    for each in "77 sriov_numvfs" "9 reset" "${PF} driver/bind" "x driver/new_id" "1 vendor" "1 none"; do
      set -- $each; echo $1 | tee $2 2>&1 >/dev/null | sed 's/.*: //'
    done; echo 1 | tee reset`;
  expect(await printed(script)).toEqual([
    'Numerical result out of range',
    'Invalid argument',
    'Device or resource busy',
    'Invalid argument',
    'Permission denied',
    'Permission denied',
    '1',
  ]);
});

it.skipIf(!possible)('config is the hardware, read and written at offsets', async () => {
  const script = `
    head -c 4 config | od -An -tx1; dd if=config bs=1 skip=1 count=2 2>/dev/null | od -An -tx1
    printf '\\006' | dd of=config bs=1 seek=4 conv=notrunc 2>/dev/null; od -An -tx1 -j4 -N1 config; wc -c < config`;
  const lines = await printed(script);
  expect(lines.map((line) => line.trim())).toEqual(['86 80 c9 10', '80 c9', '06', '4096']);
});

it.skipIf(!possible)('files that are no device of the machine are the computer’s', async () => {
  const script =
    'cat /proc/self/comm; ls /sys/class/net | head -1; echo x > /dev/null; echo a > /dev/shm/vfio-exec-$$; cat /dev/shm/vfio-exec-$$; rm /dev/shm/vfio-exec-$$';
  expect((await printed(script)).filter((line) => line !== '')).toEqual([
    'cat',
    ...spawnSync('sh', ['-c', 'ls /sys/class/net | head -1'], { encoding: 'utf8' }).stdout.trim().split('\n'),
    'a',
  ]);
});
