/** `vfio exec` as it is typed: the trace of a program's calls, faults, several devices. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { VfioProcess } from '../kit/vfio-process.ts';
import { compiled, compiler, folder } from './programs.ts';

const possible = spawnSync('unshare', ['--user', '--mount', 'true']).status === 0;
const exec = (...words: string[]) => VfioProcess.run('exec', ...words);
/** edu at the place that asks.c looks for. */
const machine = join(folder, 'machine.yaml');
writeFileSync(machine, 'devices: [{ at: 04.0, model: edu, driver: vfio-pci }]\n');
const asking = () => [compiled('asks'), '/dev/vfio/0'];
/** Lines of the trace, without the number of the process. */
const calls = (text: string) => text.split('\n').flatMap((line) => /\[pid \d+\] (.*)/.exec(line)?.[1] ?? []);

it.skipIf(!possible)('gives each device a slot and a group of its own, and the program its exit status', async () => {
  const script =
    'ls /sys/bus/pci/devices; ls /dev/vfio; for i in 1 2; do basename $(readlink /sys/bus/pci/devices/0000:0$i:00.0/driver); done; exit 7';
  const { stdout, stderr, status } = await exec('--device', 'edu', '-d', 'nvme,size=16M', '--', 'sh', '-c', script);
  expect(stderr).toBe('');
  expect(stdout.trim().split('\n')).toEqual([
    ...['0000:00:10.0', '0000:00:10.1', '0000:01:00.0', '0000:02:00.0'],
    ...['2', '3', 'devices', 'vfio'],
    ...['vfio-pci', 'vfio-pci'],
  ]);
  expect(status).toBe(7);
});

it.skipIf(!possible)('a shell unbinds a device and binds it again', async () => {
  const script =
    'cd /sys/bus/pci; echo 0000:01:00.0 > devices/0000:01:00.0/driver/unbind; ls /dev/vfio; echo 0000:01:00.0 > drivers/vfio-pci/bind; ls /dev/vfio';
  const { stdout, stderr } = await exec('--device', 'edu', '--', 'sh', '-c', script);
  expect(stderr).toBe('');
  expect(stdout.trim().split('\n')).toEqual(['vfio', '1', 'devices', 'vfio']);
});

it.skipIf(!possible)('S3-15 a shell enables virtual functions, whose driver is vfio-pci', async () => {
  const script = `
    cd /sys/bus/pci/devices/0000:01:00.0; cat sriov_totalvfs; echo 2 > sriov_numvfs; for i in 0 1; do
      readlink virtfn$i; basename $(readlink virtfn$i/driver); ls /dev/vfio/$(basename $(readlink virtfn$i/iommu_group))
    done; echo 0 > sriov_numvfs; ls /dev/vfio`;
  const { stdout, stderr } = await exec('--device', 'nvme,size=1M,vfs=3', '--', 'sh', '-c', script);
  expect(stderr).toBe('');
  expect(stdout.trim().split('\n')).toEqual([
    '3',
    ...['../0000:01:00.1', 'vfio-pci', '/dev/vfio/2', '../0000:01:00.2', 'vfio-pci', '/dev/vfio/3'],
    ...['1', 'devices', 'vfio'],
  ]);
});

it.skipIf(compiler === null)('prints calls with their structures, their results and the rules that refused them', async () => {
  const { stderr } = await exec('--no-sysfs', '--machine', machine, '--trace', '--', ...asking());
  const lines = calls(stderr);
  expect(lines).toEqual(
    expect.arrayContaining([
      expect.stringMatching(/^openat\("\/dev\/vfio\/vfio", O_RDWR\) = \d+$/),
      expect.stringMatching(/^ioctl\(\d+<\/dev\/vfio\/vfio>, VFIO_GET_API_VERSION\) = 0$/),
      expect.stringMatching(/^ioctl\(\d+<\/dev\/vfio\/0>, VFIO_GROUP_GET_STATUS, 0x10\) = -1 EFAULT \(.*0x10.*\)$/),
      expect.stringMatching(/^ioctl\(\d+<\/dev\/vfio\/0>, VFIO_GROUP_GET_STATUS, \{argsz=8, flags=0\} => \{flags=VIABLE\}\) = 0$/),
      expect.stringMatching(/^ioctl\(\d+<\/dev\/vfio\/vfio>, VFIO_SET_IOMMU, TYPE1v2_IOMMU\) = 0$/),
      expect.stringMatching(/^ioctl\(\d+<\/dev\/vfio\/0>, VFIO_GROUP_GET_DEVICE_FD, "0000:00:04.0"\) = \d+$/),
      expect.stringMatching(
        /^ioctl\(\d+<0000:00:04.0>, VFIO_DEVICE_GET_REGION_INFO, \{argsz=32, flags=0, index=CONFIG, .*\} => \{.*\}\) = 0$/,
      ),
      expect.stringMatching(/^pread64\(\d+<0000:00:04.0>, 4, 7<<40\+0x0\) = 4$/),
      expect.stringMatching(/, VFIO_IOMMU_MAP_DMA, \{argsz=32, flags=READ\|WRITE, vaddr=0x[0-9a-f]+, iova=0x10000, size=0x10000\}\) = 0$/),
      expect.stringMatching(
        /, VFIO_DEVICE_SET_IRQS, \{.*flags=DATA_EVENTFD\|ACTION_TRIGGER, index=\w+, start=0, count=1, data=\[\d+\]\}\) = 0$/,
      ),
    ]),
  );
});

it.skipIf(compiler === null)('fails the call that is named, the n-th time, once', async () => {
  const out = join(folder, 'trace.txt');
  const { stdout } = await exec('--no-sysfs', '-m', machine, '--fail', 'map_dma:2:ENOMEM', '-t', '-o', out, '--', ...asking());
  expect(stdout.match(/^MAP_DMA .*$/gm)?.[1]).toBe('MAP_DMA ENOMEM');
  const failed = calls(readFileSync(out, 'utf8')).filter((line) => line.includes("injected fault at step 'VFIO_IOMMU_MAP_DMA'"));
  expect(failed.length).toBe(1);
});

it('a token is in no trace', async () => {
  const code =
    'import fcntl,os;g=os.open("/dev/vfio/1",2)\ntry: fcntl.ioctl(g,0x3b6a,b"0000:01:00.0 vf_token=83d8f4f2-509f-382f-3c1e-e6bfe0fa1001\\0")\nexcept OSError: pass';
  const { stderr } = await exec('--no-sysfs', '-d', 'edu', '-t', '--', 'python3', '-c', code);
  expect(stderr).toContain('GET_DEVICE_FD, "0000:01:00.0 vf_token=…")');
  expect(stderr).not.toContain('83d8f4f2');
});

it.each([
  ['--fail', 'MAP_DMQ:1:ENOMEM', 'there is no call MAP_DMQ'],
  ['--fail', 'MAP_DMA:0:ENOMEM', 'is invalid. Give CALL:N:ERRNO'],
  ['--fail', 'MAP_DMA:ENOSUCH', 'is invalid. Give CALL:N:ERRNO'],
  ['--output', 'x', '--output is the file of --trace'],
  ['--device', 'nothing-like-it', 'nothing-like-it'],
])('%s %s is refused with a sentence', async (option, value, sentence) => {
  const { stderr, status } = await exec('-d', 'edu', option, value, '--', 'true');
  expect(stderr).toContain(sentence);
  expect(status).not.toBe(0);
});

it('a program that does not exist has a sentence, and no folder stays', async () => {
  const { stderr, status } = await exec('-d', 'edu', '--', './no-such-program');
  expect(stderr).toContain('there is no program ./no-such-program');
  expect(status).toBe(1);
});

it.skipIf(!possible)('an open node is a character device, with the number that sysfs shows', async () => {
  const code = `
import os,stat
def look(p):
  s=os.fstat(os.open(p,os.O_RDWR)); print(p,stat.S_ISCHR(s.st_mode),oct(s.st_mode&0o777),os.major(s.st_rdev),os.minor(s.st_rdev))
for p in ('/dev/vfio/vfio','/dev/iommu','/dev/vfio/devices/vfio0','/etc/hostname'): look(p)
print(open('/sys/class/vfio-dev/vfio0/dev').read().strip())`;
  const { stdout, stderr } = await exec('-d', 'edu', '--', 'python3', '-c', code);
  expect(stderr).toBe('');
  expect(stdout.trim().split('\n')).toEqual([
    '/dev/vfio/vfio True 0o666 10 196',
    '/dev/iommu True 0o660 10 257',
    '/dev/vfio/devices/vfio0 True 0o600 245 0',
    expect.stringMatching(/^\/etc\/hostname False/),
    '245:0',
  ]);
});
