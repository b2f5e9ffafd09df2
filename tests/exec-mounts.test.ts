/**
 * The machine's folder in place of the computer's own devices, in a user namespace as an ordinary
 * user has it: lspci and shells see the machine, and the rest of /sys and /dev is as before.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { SysfsTree } from '../src/exec/sysfs/sysfs-tree.ts';
import { PF, sriovRig, VF0 } from './kit/sriov-rig.ts';

const unshare = ['--user', '--map-root-user', '--mount', '--propagation', 'unchanged'];
const possible = spawnSync('unshare', [...unshare, 'true']).status === 0;
const hasLspci = spawnSync('lspci', ['--version']).status === 0;
if (!possible) console.warn('SKIPPED: this computer gives its users no user namespaces, so mounts are not tried');

const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

/** The calls of mount(2) as commands, and `script` after them. */
function scriptInside(tree: SysfsTree, overlay: boolean, script: string): string[] {
  const mounts = tree.mounts({ overlay }).map(({ source, target, type, data }) => {
    if (target === '/') return 'mount --make-rslave /';
    const how = type === null ? '--rbind' : `-t ${type} -o ro,${quoted(data!)}`;
    return `mount ${how} ${quoted(source)} ${quoted(target)}`;
  });
  return [...unshare, 'sh', '-ec', [...mounts, script].join('\n')];
}

/** Output of `script` where the machine is shown. */
function inside(tree: SysfsTree, overlay: boolean, script: string): string {
  return execFileSync('unshare', scriptInside(tree, overlay, script), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
}

const lines = (text: string) => text.trim().split('\n');
const outside = (script: string) => execFileSync('sh', ['-ec', script], { encoding: 'utf8' });

it.skipIf(!possible).each([true, false])('a program sees the machine, and the rest of the computer (overlayfs: %s)', async (overlay) => {
  const { machine } = sriovRig();
  using _machine = machine;
  await machine.setNumVfs(PF, 1);
  using tree = SysfsTree.open(machine);
  const { id } = machine.function(PF).group!;
  const asBefore = [
    'cat /sys/class/net/*/address',
    'ls /sys/class/net/*/',
    'ls /dev/pts /dev/shm | grep -v ^vfio-exec-',
    'cat /sys/devices/system/cpu/online',
  ];
  const scripts = [
    'ls /sys/bus/pci/devices',
    `readlink -f /sys/bus/pci/devices/${PF}/iommu_group`,
    `cat /sys/bus/pci/devices/${VF0}/physfn/sriov_numvfs`,
    'test -c /dev/iommu; test -c /dev/vfio/vfio; test -c /dev/null; echo yes > /dev/null; ls /dev/vfio',
    'ls /sys/module/vfio_pci/parameters',
    'ls /sys/module',
    ...asBefore,
  ];
  const [devices, link, vfs, nodes, parameters, modules, ...rest] = inside(tree, overlay, scripts.join('\necho ----\n')).split('----\n');
  expect(lines(devices!)).toEqual([...machine.functions.keys()].sort());
  expect(link).toBe(`/sys/kernel/iommu_groups/${id}\n`);
  expect(vfs).toBe('1\n');
  expect(lines(nodes!)).toContain(String(id));
  expect(lines(parameters!)).toContain('enable_sriov');
  // The rest is as before; links of other classes still lead to the computer's own devices.
  expect(lines(modules!)).toEqual(expect.arrayContaining(lines(outside('ls /sys/module'))));
  expect(rest).toEqual(asBefore.map(outside));
});

it.skipIf(!possible || !hasLspci)('lspci draws the machine', () => {
  const { machine } = sriovRig();
  using _machine = machine;
  using tree = SysfsTree.open(machine);
  const [short, all] = inside(tree, true, `lspci -nD 2>/dev/null; echo ----; lspci -D -vvv -s ${PF} 2>/dev/null`).split('----\n');
  expect(lines(short!).map((line) => line.split(' ')[0])).toEqual([...machine.functions.keys()].sort());
  const fn = machine.function(PF);
  expect(lines(short!).find((line) => line.startsWith(PF))).toContain(fn.id);
  expect(all).toContain(`IOMMU group: ${fn.group!.id}`);
  expect(all).toContain('Kernel driver in use: vfio-pci');
  expect(all).toContain('Single Root I/O Virtualization');
});

it.skipIf(!possible)('a program that runs sees what changes', async () => {
  const { machine } = sriovRig();
  using _machine = machine;
  using tree = SysfsTree.open(machine);
  const wait = 'i=0; while [ ! -e /sys/bus/pci/devices/$vf ] && [ $i -lt 400 ]; do sleep 0.05; i=$((i+1)); done';
  const script = `vf=${VF0}; ls /sys/bus/pci/devices | grep -c $vf || true; echo ready >&2; ${wait}; readlink /sys/bus/pci/devices/$vf/physfn`;
  const child = spawn('unshare', scriptInside(tree, true, script), { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  child.stdout.on('data', (data) => (out += data));
  await new Promise((resolve) => child.stderr.once('data', resolve));
  await machine.setNumVfs(PF, 1);
  await new Promise((resolve) => child.once('close', resolve));
  expect(out.trim().split('\n')).toEqual(['0', `../${PF}`]);
});
