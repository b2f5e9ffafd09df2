/**
 * VF tokens of devices that are bound to an iommufd: BIND_IOMMUFD has a token where the name that
 * opens a device of a group has `vf_token=`.
 */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { bytesOf, said, viewOf } from '../../tests/kit/ioctl-bytes.ts';
import { PF, type SriovRig, sriovRig, VF0, VF1 } from '../../tests/kit/sriov-rig.ts';
import { DeviceIoctl, Feature, FeatureFlags } from '../abi/vfio.ts';
import { DeviceBindIommufd, DeviceFeature, DeviceInfo } from '../abi/vfio-structs.ts';
import { Process } from '../engine/dma/process.ts';
import type { LinuxVersion } from '../engine/linux-version.ts';
import { KernelDoor } from './kernel-door.ts';
import { MapFlags, Prot } from './posix.ts';
import type { UserProcess } from './user-process.ts';

let rig: SriovRig;
let user: UserProcess;
let iommufd: number;
/** Addresses of tokens. */
let A: number;
let B: number;
let zero: number;

function setUp(linux: LinuxVersion = '7.3', spec: Parameters<typeof sriovRig>[0] = {}): void {
  rig = sriovRig({ device: { numVfs: 2 }, ...spec, machine: { linux } });
  user = new KernelDoor(rig.machine).process(Process.root({ pid: 9, allocate: rig.machine.context.allocate }));
  iommufd = user.open('/dev/iommu');
  [A, B, zero] = [0x11, 0x99, 0].map((byte) => {
    const address = user.mmap(4096, Prot.READ | Prot.WRITE, MapFlags.PRIVATE | MapFlags.ANONYMOUS);
    user.memory.copyOut(address, new Uint8Array(16).fill(byte));
    return address;
  }) as [number, number, number];
}

beforeEach(() => setUp());
afterEach(() => user.exit());

const open = (bdf: string) => user.open(`/dev/vfio/devices/vfio${rig.machine.function(bdf).vfioIndex}`);

/** @param token its address; null: without one */
function bind(fd: number, token: number | null, onto = iommufd): string | number {
  const fields = { argsz: 24, flags: token === null ? 0 : 1, iommufd: onto, token_uuid_ptr: BigInt(token ?? 0) };
  return said(user.ioctl(fd, DeviceIoctl.BIND_IOMMUFD, bytesOf(DeviceBindIommufd, fields)));
}

/** A new file of the device binds, and is closed again. */
function tries(bdf: string, ...tokens: readonly (number | null)[]): (string | number)[] {
  return tokens.map((token) => {
    const fd = open(bdf);
    const answer = bind(fd, token);
    user.close(fd);
    return answer;
  });
}

it('S3-28 the token of a PF that is in use, and of its VFs, as Linux’s selftest has it', () => {
  expect(tries(VF0, null, A, zero)).toEqual(['EACCES', 'EACCES', 'EACCES']);
  const pf = open(PF);
  expect(bind(pf, null)).toBe(0);
  expect(tries(VF0, null, A, zero)).toEqual(['EACCES', 'EACCES', 'EACCES']);
  user.close(pf);

  const owner = open(PF);
  expect(bind(owner, A)).toBe(0);
  const vf = open(VF0);
  expect([null, B, zero, 8, A].map((token) => bind(vf, token))).toEqual(['EACCES', 'EACCES', 'EACCES', 'EFAULT', 0]);
  user.close(owner);
  expect(tries(PF, null, B, A)).toEqual(['EACCES', 'EACCES', 0]);
  expect(tries(VF1, null, B, A)).toEqual(['EACCES', 'EACCES', 0]);
  user.close(vf);
  expect(tries(PF, null)).toEqual([0]);
});

it('S3-28 FEATURE of a bound PF sets another token, which outlives its close', () => {
  const pf = open(PF);
  bind(pf, A);
  const bytes = bytesOf(DeviceFeature, { argsz: 24, flags: FeatureFlags.SET | Feature.PCI_VF_TOKEN }, new Uint8Array(16).fill(0x99));
  expect(said(user.ioctl(pf, DeviceIoctl.FEATURE, bytes))).toBe(0);
  expect(tries(VF0, A, B)).toEqual(['EACCES', 0]);
  user.close(pf);
  expect(tries(VF0, null, A, B)).toEqual(['EACCES', 'EACCES', 0]);
});

it('S3-12 S3-28 the token of a PF sticks, also when its BIND fails afterwards', () => {
  const pf = open(PF);
  expect([bind(pf, B, 999), bind(pf, null)]).toEqual(['EBADF', 0]);
  expect(tries(VF0, A, B)).toEqual(['EACCES', 0]);
});

it('S3-07 S3-28 a VF that is mapped is in use after its file was closed, and its PF needs the token', () => {
  const pf = open(PF);
  bind(pf, A);
  user.close(pf);
  const vf = open(VF0);
  bind(vf, A);
  const bar = user.mmap(4096, Prot.READ, MapFlags.SHARED, vf);
  user.close(vf);
  expect(tries(PF, null, A)).toEqual(['EACCES', 0]);
  user.munmap(bar, 4096);
  expect(tries(PF, null)).toEqual([0]);
});

it('T13 BIND_IOMMUFD with a token where none can be matched: EINVAL; a bad pointer is EFAULT before', () => {
  setUp('7.3', {
    spec: { devices: [{ at: '01.0', kind: 'root-port', devices: [{ at: '00.0', id: '8086:100e', driver: 'vfio-pci' }] }] },
    device: {},
  });
  expect(tries(PF, A, 8, null)).toEqual(['EINVAL', 'EFAULT', 0]);
});

it('T13 a VF whose PF another driver has: EINVAL with a token, opens without', () => {
  setUp('7.3', { driver: 'igb', device: { numVfs: 1, vfDriver: 'vfio-pci' } });
  expect(tries(VF0, A, null)).toEqual(['EINVAL', 0]);
});

it('S3-28 Linux 6.12 knows no token of a cdev: the flag is EINVAL, and a VF binds without', () => {
  setUp('6.12');
  const pf = open(PF);
  expect(bind(pf, null)).toBe(0);
  expect(tries(VF0, A, null)).toEqual(['EINVAL', 0]);
  const longer = bytesOf(DeviceBindIommufd, { argsz: 40, flags: 0, iommufd }, new Uint8Array(16).fill(1));
  expect(said(user.ioctl(open(VF1), DeviceIoctl.BIND_IOMMUFD, longer))).toBe(0);
});

it('S2-02 before BIND a file of a VF can do nothing', () => {
  const vf = open(VF0);
  const info = bytesOf(DeviceInfo, { argsz: 20 });
  const before = said(user.ioctl(vf, DeviceIoctl.GET_INFO, info));
  expect([before, DeviceInfo.num_regions.get(viewOf(info), 0)]).toEqual(['EINVAL', 0]);
});
