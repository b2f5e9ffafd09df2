/** Answers of older kernels at the ioctl door, beside those that recordings have. */
import { afterEach, expect, it } from 'vitest';
import { EDU, Guest } from '../../tests/kernel-answers/guest.ts';
import { bytesOf, said } from '../../tests/kit/ioctl-bytes.ts';
import { IommufdCommand } from '../abi/iommufd.ts';
import { DeviceIoctl } from '../abi/vfio.ts';
import { DeviceBindIommufd } from '../abi/vfio-structs.ts';
import { type LinuxVersion, linuxVersions } from '../engine/linux-version.ts';
import { fdinfoOf } from './fdinfo.ts';

let guest: Guest;

afterEach(() => guest[Symbol.dispose]());

/** One answer for each kernel, from the oldest on. */
function each<T>(ask: (linux: LinuxVersion) => T): T[] {
  return linuxVersions.map(ask);
}

it('B.5 IOAS_MAP_FILE and the requests behind it are ENOTTY for Linux 6.12, and GET_PA until 7.3', () => {
  const answers = each((linux) => {
    guest = new Guest({ linux });
    const { user } = guest.subject(EDU);
    const iommufd = user.open('/dev/iommu');
    const { FAULT_QUEUE_ALLOC, IOAS_MAP_FILE, HW_QUEUE_ALLOC, IOAS_NOIOMMU_GET_PA } = IommufdCommand;
    return [FAULT_QUEUE_ALLOC, IOAS_MAP_FILE, HW_QUEUE_ALLOC, IOAS_NOIOMMU_GET_PA].map((number) =>
      said(user.ioctl(iommufd, 0x3b00 + number, 8)),
    );
  });
  expect(answers).toEqual([
    ['EFAULT', 'ENOTTY', 'ENOTTY', 'ENOTTY'],
    ['EFAULT', 'EFAULT', 'EFAULT', 'ENOTTY'],
    ['EFAULT', 'EFAULT', 'EFAULT', 'EFAULT'],
  ]);
});

it('B.5 BIND_IOMMUFD looks at bytes behind its structure since Linux 7.2', () => {
  const answers = each((linux) => {
    guest = new Guest({ linux });
    const { user } = guest.subject(EDU);
    const device = user.open(`/dev/vfio/devices/vfio${guest.machine.function(EDU).vfioIndex}`);
    const fields = { argsz: 40, flags: 0, iommufd: user.open('/dev/iommu') };
    return said(user.ioctl(device, DeviceIoctl.BIND_IOMMUFD, bytesOf(DeviceBindIommufd, fields, new Uint8Array(16).fill(1))));
  });
  expect(answers).toEqual([0, 'E2BIG', 'E2BIG']);
});

it('B.7 fdinfo names the device since Linux 7.2', () => {
  const lines = each((linux) => {
    guest = new Guest({ linux });
    const { user, device } = guest.open(EDU);
    return fdinfoOf(user.files.get(device));
  });
  const line = 'vfio-device-syspath: /sys/devices/pci0000:00/0000:00:04.0\n';
  expect(lines).toEqual(['', line, line]);
});

it('B.12 noiommu: devices without an IOMMU have nodes of their own since Linux 7.3', () => {
  const answers = each((linux) => {
    guest = new Guest({ linux, iommu: { kind: 'none' }, params: { unsafeNoIommu: true } });
    const { user } = guest.subject(EDU);
    const fn = guest.machine.function(EDU);
    const own = guest.machine.nodes.filter(({ path }) => path.startsWith('/dev/vfio/devices/')).length;
    const opened = said(user.open(`/dev/vfio/devices/noiommu-vfio${fn.vfioIndex}`));
    return [own, opened, said(user.open(`/dev/vfio/noiommu-${fn.group!.id}`))];
  });
  expect(answers).toEqual([
    [0, 'ENOENT', 3],
    [0, 'ENOENT', 3],
    [3, 3, 4],
  ]);
});
