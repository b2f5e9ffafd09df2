/** Files of /dev/vfio/devices at the ioctl door, as Linux 7.3 answered (cdev-edu, iommufd-bind). */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CARD, EDU, Guest, NVME } from '../../tests/kernel-answers/guest.ts';
import { bytesOf, fdBytes, said, viewOf } from '../../tests/kit/ioctl-bytes.ts';
import { Dma } from '../abi/device-host.ts';
import { IommufdCommand } from '../abi/iommufd.ts';
import { IommuDestroy, IommuIoasAlloc, IommuIoasMap, IommuIoasMapFile, IommuIoasUnmap } from '../abi/iommufd-structs.ts';
import { DeviceIoctl, Feature, FeatureFlags, REGION_OFFSET_STEP } from '../abi/vfio.ts';
import {
  DeviceAttachIommufdPt,
  DeviceBindIommufd,
  DeviceDetachIommufdPt,
  DeviceFeature,
  DmaBufRange,
  FeatureDmaBuf,
  PciDependentDevice,
  PciHotReset,
  PciHotResetInfo,
} from '../abi/vfio-structs.ts';
import { fdinfoOf } from './fdinfo.ts';
import { MapFlags, OpenFlags, Prot } from './posix.ts';
import type { UserProcess } from './user-process.ts';

const CONFIG = 7 * REGION_OFFSET_STEP;
const io = (number: number) => 0x3b00 + number;

let guest: Guest;
let user: UserProcess;
let iommufd: number;

beforeEach(() => {
  guest = new Guest();
  ({ user } = guest.subject(EDU));
  iommufd = user.open('/dev/iommu');
});

afterEach(() => {
  user.exit();
  expect(guest.errors).toEqual([]);
  guest[Symbol.dispose]();
});

const nodeOf = (bdf: string) => `/dev/vfio/devices/vfio${guest.machine.function(bdf).vfioIndex}`;
const openCdev = (bdf = EDU, flags: number = OpenFlags.O_RDWR) => user.open(nodeOf(bdf), flags);
const openGroup = (bdf = EDU) => said(user.open(`/dev/vfio/${guest.machine.function(bdf).group!.id}`));

function bind(fd: number, fields: { argsz?: number; flags?: number; iommufd?: number; token?: bigint } = {}, behind: number[] = []) {
  const { argsz = 24, flags = 0, token = 0n } = fields;
  const bytes = bytesOf(DeviceBindIommufd, { argsz, flags, iommufd: fields.iommufd ?? iommufd, token_uuid_ptr: token }, behind);
  const result = said(user.ioctl(fd, DeviceIoctl.BIND_IOMMUFD, bytes));
  return result === 0 ? `device ${DeviceBindIommufd.out_devid.get(viewOf(bytes), 0)}` : result;
}

function ioas(): number {
  const bytes = bytesOf(IommuIoasAlloc, { size: 12 });
  expect(said(user.ioctl(iommufd, io(IommufdCommand.IOAS_ALLOC), bytes))).toBe(0);
  return IommuIoasAlloc.out_ioas_id.get(viewOf(bytes), 0);
}

function attach(fd: number, pt: number, pasid?: number) {
  const bytes = bytesOf(DeviceAttachIommufdPt, { argsz: 16, flags: pasid === undefined ? 0 : 1, pt_id: pt, pasid: pasid ?? 0 });
  const result = said(user.ioctl(fd, DeviceIoctl.ATTACH_IOMMUFD_PT, bytes));
  return result === 0 ? `domain ${DeviceAttachIommufdPt.pt_id.get(viewOf(bytes), 0)}` : result;
}

const detach = (fd: number, pasid?: number) =>
  said(
    user.ioctl(
      fd,
      DeviceIoctl.DETACH_IOMMUFD_PT,
      bytesOf(DeviceDetachIommufdPt, { argsz: 12, flags: pasid === undefined ? 0 : 1, pasid: pasid ?? 0 }),
    ),
  );

/** A request that says it is longer than its memory is. */
const cut = (number: number, size: number, there: number) => {
  const bytes = new Uint8Array(there);
  viewOf(bytes).setUint32(0, size, true);
  return said(user.ioctl(iommufd, io(number), bytes));
};

const destroy = (id: number) => said(user.ioctl(iommufd, io(IommufdCommand.DESTROY), bytesOf(IommuDestroy, { size: 8, id })));
const readConfig = (fd: number) => said(user.pread(fd, new Uint8Array(4), CONFIG));

describe('B.5 cdev', () => {
  it('B.5 a request whose structure is not all there is EFAULT, also when it says that more follows', () => {
    const { IOAS_ALLOC, IOAS_MAP } = IommufdCommand;
    expect([cut(IOAS_ALLOC, 12, 8), cut(IOAS_ALLOC, 64, 8), cut(IOAS_MAP, 41, 24), cut(IOAS_ALLOC, 8, 8)]).toEqual([
      'EFAULT',
      'EFAULT',
      'EFAULT',
      'EINVAL',
    ]);
    const cdev = openCdev();
    expect(said(user.ioctl(cdev, DeviceIoctl.BIND_IOMMUFD, new Uint8Array([64, 0, 0, 0, 0, 0, 0, 0])))).toBe('EFAULT');
  });

  it('answers nothing but BIND before it is bound', () => {
    const fd = openCdev();
    const requests = Object.values(DeviceIoctl).filter((request) => request !== DeviceIoctl.BIND_IOMMUFD);
    expect(new Set(requests.map((request) => said(user.ioctl(fd, request, new Uint8Array(64).fill(64)))))).toEqual(new Set(['EINVAL']));
    expect([
      readConfig(fd),
      said(user.read(fd, new Uint8Array(8))),
      said(user.pwrite(fd, new Uint8Array(4), CONFIG)),
      said(user.mmap(4096, Prot.READ, MapFlags.SHARED, fd, 0)),
    ]).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL']);
  });

  it('BIND copies its structure strictly, then looks at the token, then at the descriptor', () => {
    const fd = openCdev();
    const container = user.open('/dev/vfio/vfio');
    expect([
      bind(fd, { argsz: 12 }),
      bind(fd, { argsz: 40 }, [0, 0, 0, 1, ...new Array(12).fill(0)]),
      bind(fd, { argsz: 8192 }),
      bind(fd, { flags: 1 }),
      bind(fd, { flags: 1, token: BigInt(user.memory.mapAnonymous(4096, 3)) }),
      bind(fd, { flags: 2 }),
      bind(fd, { iommufd: -1 }),
      bind(fd, { iommufd: 999 }),
      bind(fd, { iommufd: container }),
      bind(fd, { argsz: 40 }, new Array(16).fill(0)),
      bind(fd),
    ]).toEqual(['EINVAL', 'E2BIG', 'E2BIG', 'EFAULT', 'EINVAL', 'EINVAL', 'EINVAL', 'EBADF', 'EBADFD', 'device 1', 'EINVAL']);
    expect(readConfig(fd)).toBe(4);
  });

  it('S2-14 only one of its files is bound at a time, and the last copy of that one unbinds', () => {
    const [first, second] = [openCdev(), openCdev()];
    expect([bind(first), bind(second), readConfig(second)]).toEqual(['device 1', 'EINVAL', 'EINVAL']);
    const copy = user.dup(first);
    user.close(first);
    expect([readConfig(copy), bind(second)]).toEqual([4, 'EINVAL']);
    user.close(copy);
    expect(bind(second)).toBe('device 1');
  });

  it('excludes the group file, and the group file excludes BIND', () => {
    const fd = openCdev();
    expect([bind(fd), openGroup()]).toEqual(['device 1', 'EBUSY']);
    const other = openCdev();
    user.close(fd);
    const group = openGroup();
    expect([typeof group, bind(other)]).toEqual(['number', 'EBUSY']);
    user.close(group as number);
    expect(bind(other)).toBe('device 1');
  });

  it('opened for reading only it binds and reads, and cannot be written or mapped', () => {
    const fd = openCdev(EDU, OpenFlags.O_RDONLY);
    expect([
      bind(fd),
      readConfig(fd),
      said(user.pwrite(fd, new Uint8Array(4), CONFIG)),
      said(user.mmap(4096, Prot.READ | Prot.WRITE, MapFlags.SHARED, fd, 0)),
      said(user.mmap(4096, Prot.READ, MapFlags.SHARED, fd, 0)),
    ]).toEqual(['device 1', 4, 'EBADF', 'EACCES', 'EINVAL']);
  });

  it('S2-37 a mapping keeps it bound after its close', () => {
    const fd = openCdev();
    bind(fd);
    const address = user.mmap(4096, Prot.READ, MapFlags.SHARED, fd, 0);
    user.close(fd);
    const next = openCdev();
    expect(bind(next)).toBe('EINVAL');
    user.munmap(address, 4096);
    expect(bind(next)).toBe('device 1');
  });

  it('B.7 fdinfo S2-22 names the device in sysfs, as that of a file of its group does', () => {
    const [edu, nvme] = [openCdev(), guest.open(NVME)];
    expect([fdinfoOf(user.files.get(edu)), fdinfoOf(nvme.user.files.get(nvme.device)), fdinfoOf(user.files.get(iommufd))]).toEqual([
      'vfio-device-syspath: /sys/devices/pci0000:00/0000:00:04.0\n',
      'vfio-device-syspath: /sys/devices/pci0000:00/0000:00:03.0/0000:02:00.0\n',
      '',
    ]);
    nvme.user.exit();
  });

  it('S2-01 its node belongs to root until it is given away', () => {
    const poor = guest.unprivileged();
    expect([said(poor.open(nodeOf(EDU))), said(poor.open('/dev/iommu'))]).toEqual(['EACCES', 'EACCES']);
    guest.machine.chownNode(nodeOf(EDU), poor.process.uid);
    guest.machine.chownNode('/dev/iommu', poor.process.uid);
    expect([typeof said(poor.open(nodeOf(EDU))), typeof said(poor.open('/dev/iommu'))]).toEqual(['number', 'number']);
    poor.exit();
    expect(said(user.open('/dev/vfio/devices/vfio77'))).toBe('ENOENT');
  });

  it('S2-41 an unbind waits for its close, bound or not', async () => {
    const fd = openCdev();
    let done = false;
    const unbound = guest.machine.unbind(EDU).then(() => {
      done = true;
    });
    await Promise.resolve();
    expect([done, said(user.open(nodeOf(EDU)))]).toEqual([false, 'ENODEV']);
    user.close(fd);
    await unbound;
    expect(guest.machine.function(EDU).driver).toBe(null);
  });
});

describe('B.5 ATTACH', () => {
  it('to an IOAS, which gets a domain that goes with its last device; replaced without a detach', () => {
    const fd = openCdev();
    bind(fd);
    const [a, b] = [ioas(), ioas()];
    expect([attach(fd, a), attach(fd, a), attach(fd, b), attach(fd, 999), attach(fd, 1)]).toEqual([
      'domain 4',
      'domain 4',
      'domain 5',
      'ENOENT',
      'EINVAL',
    ]);
    expect([destroy(a), destroy(b), destroy(5), destroy(1)]).toEqual([0, 'EBUSY', 'EBUSY', 'EBUSY']);
    expect([detach(fd), detach(fd), destroy(5), destroy(b)]).toEqual([0, 0, 'ENOENT', 0]);
  });

  it('by a PASID: 0 is the plain attachment under another name, and each name detaches its own', () => {
    const fd = openCdev();
    bind(fd);
    const a = ioas();
    expect([
      attach(fd, a, 5),
      attach(fd, a, 0),
      attach(fd, a),
      detach(fd),
      attach(fd, a),
      detach(fd, 0),
      attach(fd, a),
      attach(fd, a, 0),
      attach(fd, a, 0xffff_ffff),
      attach(fd, 999, 5),
      detach(fd, 5),
    ]).toEqual(['EINVAL', 'domain 3', 'EBUSY', 0, 'EBUSY', 0, 'domain 3', 'EBUSY', 'ENOSPC', 'ENOENT', 0]);
  });

  it('blocks DMA until then, and lets it go on when the iommufd is closed', () => {
    const fd = openCdev();
    bind(fd);
    const { group, host } = guest.machine.function(EDU);
    user.pwrite(fd, new Uint8Array([6, 0]), CONFIG + 4);
    const reads = () => host.dma.tryRead(0x10_0000n, new Uint8Array(4)) === Dma.DONE;
    expect([group!.domain, reads()]).toEqual([null, false]);
    const a = ioas();
    const vaddr = BigInt(user.memory.mapAnonymous(4096, 3));
    const map = bytesOf(IommuIoasMap, { size: 40, flags: 7, ioas_id: a, user_va: vaddr, length: 4096n, iova: 0x10_0000n });
    expect(said(user.ioctl(iommufd, io(IommufdCommand.IOAS_MAP), map))).toBe(0);
    attach(fd, a);
    expect(reads()).toBe(true);
    user.close(iommufd);
    expect(reads()).toBe(true);
    expect([detach(fd), reads(), attach(fd, a), reads()]).toEqual([0, false, 'domain 3', true]);
    user.close(fd);
    expect(group!.domain).toBe(null);
  });
});

describe('B.5 IOAS_MAP_FILE of a BAR', () => {
  it('takes whole pages of a DMA buffer while its device decodes memory, and lets devices write there', () => {
    const [card, edu] = [openCdev(CARD), openCdev()];
    expect([bind(card), bind(edu)]).toEqual(['device 1', 'device 2']);
    const command = (fd: number, bits: number) => user.pwrite(fd, new Uint8Array([bits, 0]), CONFIG + 4);
    command(card, 2);
    command(edu, 6);
    const feature = bytesOf(DeviceFeature, { argsz: 40, flags: FeatureFlags.GET | Feature.DMA_BUF }, [
      ...bytesOf(FeatureDmaBuf, { region_index: 2, open_flags: OpenFlags.O_RDWR, nr_ranges: 1 }),
      ...bytesOf(DmaBufRange, { offset: 0n, length: 0x2000n }),
    ]);
    const buffer = user.ioctl(card, DeviceIoctl.FEATURE, feature);
    expect(buffer).toBeGreaterThan(0);
    const a = ioas();
    attach(edu, a);
    const map = (start: bigint, length: bigint, iova: bigint) =>
      said(
        user.ioctl(
          iommufd,
          io(IommufdCommand.IOAS_MAP_FILE),
          bytesOf(IommuIoasMapFile, { size: 40, flags: 7, ioas_id: a, fd: buffer, start, length, iova }),
        ),
      );
    expect([
      map(0n, 0x2000n, 0x10_0000n),
      map(0x1000n, 0x1000n, 0x20_0000n),
      map(0x2000n, 0x1000n, 0x30_0000n),
      map(16n, 16n, 0x30_0010n),
    ]).toEqual([0, 0, 'EINVAL', 'EINVAL']);
    expect(guest.machine.function(EDU).host.dma.tryWrite(0x20_0000n, new Uint8Array([1, 2, 3, 4]))).toBe(Dma.DONE);
    const bar = new Uint8Array(4);
    user.pread(card, bar, 2 * REGION_OFFSET_STEP + 0x1000);
    expect([...bar]).toEqual([1, 2, 3, 4]);
    command(card, 0);
    expect(map(0n, 0x1000n, 0x30_0000n)).toBe('ENODEV');
    expect(user.process.lockedBytes).toBe(0);
  });
});

describe('B.8 HOT_RESET of a device that is bound to an iommufd', () => {
  const info = (fd: number) => {
    const bytes = bytesOf(PciHotResetInfo, { argsz: 20 }, new Uint8Array(8));
    expect(said(user.ioctl(fd, DeviceIoctl.GET_PCI_HOT_RESET_INFO, bytes))).toBe(0);
    return { flags: PciHotResetInfo.flags.get(viewOf(bytes), 0), id: PciDependentDevice.id.get(viewOf(bytes), 12) };
  };
  const reset = (fd: number, ...fds: number[]) =>
    said(user.ioctl(fd, DeviceIoctl.PCI_HOT_RESET, bytesOf(PciHotReset, { argsz: 12, count: fds.length }, fdBytes(...fds))));

  it('names numbers of devices, and takes no files', () => {
    const [card, nvme] = [openCdev(CARD), openCdev(NVME)];
    expect([bind(card), bind(nvme)]).toEqual(['device 1', 'device 2']);
    expect(info(nvme)).toEqual({ flags: 3, id: 2 });
    expect([reset(nvme, nvme), reset(nvme), reset(card)]).toEqual(['EINVAL', 0, 'ENODEV']);
  });
});

describe('B.5 IOAS_MAP_FILE of a memfd', () => {
  it('keeps the file that is closed before a device is attached, until the last part is unmapped', () => {
    const fd = user.memfd(0x4000);
    const { body } = user.files.get(fd);
    const references = () => (body.kind === 'memory' ? body.memory.references : -1);
    const a = ioas();
    const map = bytesOf(IommuIoasMapFile, { size: 40, flags: 7, ioas_id: a, fd, start: 0n, length: 0x4000n, iova: 0x10_0000n });
    expect(said(user.ioctl(iommufd, io(IommufdCommand.IOAS_MAP_FILE), map))).toBe(0);
    user.close(fd);
    const cdev = openCdev();
    bind(cdev);
    expect(attach(cdev, a)).toMatch(/^domain/);
    user.pwrite(cdev, new Uint8Array([6, 0]), CONFIG + 4);
    expect(guest.machine.function(EDU).host.dma.tryWrite(0x10_0000n, new Uint8Array([1]))).toBe(Dma.DONE);
    const unmap = (iova: bigint) =>
      said(user.ioctl(iommufd, io(IommufdCommand.IOAS_UNMAP), bytesOf(IommuIoasUnmap, { size: 24, ioas_id: a, iova, length: 0x4000n })));
    detach(cdev);
    expect(references()).toBe(1);
    expect(unmap(0x10_0000n)).toBe(0);
    expect(references()).toBe(0);
  });
});
