/**
 * Rules of every request with a structure: argsz, minsz, bad pointers, unknown flags, unknown
 * numbers.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EDU, Guest, NVME, type Opened } from '../../tests/kernel-answers/guest.ts';
import { said } from '../../tests/kit/ioctl-bytes.ts';
import { ContainerIoctl, DeviceIoctl, GroupIoctl } from '../abi/vfio.ts';
import { cString } from './user-buffer.ts';

type Kind = 'container' | 'group' | 'device';

/** File, request, minsz, and the words of a request whose sizes are right. */
const requests: readonly (readonly [kind: Kind, name: string, request: number, minsz: number, words: readonly number[]])[] = [
  ['container', 'IOMMU_GET_INFO', ContainerIoctl.IOMMU_GET_INFO, 16, []],
  ['container', 'IOMMU_MAP_DMA', ContainerIoctl.IOMMU_MAP_DMA, 32, [3]],
  ['container', 'IOMMU_UNMAP_DMA', ContainerIoctl.IOMMU_UNMAP_DMA, 24, []],
  ['container', 'IOMMU_DIRTY_PAGES', ContainerIoctl.IOMMU_DIRTY_PAGES, 8, [1]],
  ['group', 'GROUP_GET_STATUS', GroupIoctl.GET_STATUS, 8, []],
  ['device', 'DEVICE_GET_INFO', DeviceIoctl.GET_INFO, 16, []],
  ['device', 'DEVICE_GET_REGION_INFO', DeviceIoctl.GET_REGION_INFO, 32, []],
  ['device', 'DEVICE_GET_IRQ_INFO', DeviceIoctl.GET_IRQ_INFO, 16, []],
  ['device', 'DEVICE_SET_IRQS', DeviceIoctl.SET_IRQS, 20, [0x21, 0, 0, 1]],
  ['device', 'DEVICE_GET_PCI_HOT_RESET_INFO', DeviceIoctl.GET_PCI_HOT_RESET_INFO, 12, []],
  ['device', 'DEVICE_PCI_HOT_RESET', DeviceIoctl.PCI_HOT_RESET, 12, [0, 1]],
  ['device', 'DEVICE_IOEVENTFD', DeviceIoctl.IOEVENTFD, 28, [4]],
  ['device', 'DEVICE_FEATURE', DeviceIoctl.FEATURE, 8, [(1 << 18) | 3]],
  ['device', 'DEVICE_BIND_IOMMUFD', DeviceIoctl.BIND_IOMMUFD, 16, []],
];

function request(argsz: number, words: readonly number[], length: number): Uint8Array {
  const whole = new Uint8Array(64);
  new Uint32Array(whole.buffer).set([argsz, ...words]);
  return whole.slice(0, length);
}

describe('B.2 every request with a structure', () => {
  let guest: Guest;
  let at: Opened;

  beforeEach(() => {
    guest = new Guest();
    at = guest.open(NVME);
  });
  afterEach(() => {
    expect(guest.errors).toEqual([]);
    guest[Symbol.dispose]();
  });

  it.each(requests)('B.2 %s %s: argsz below minsz is EINVAL', (kind, _name, number, minsz, words) => {
    for (let argsz = 0; argsz < minsz; argsz++) {
      expect([argsz, said(at.user.ioctl(at[kind], number, request(argsz, words, 64)))]).toEqual([argsz, 'EINVAL']);
    }
  });

  it.each(requests)('B.2 %s %s: a bad pointer, and memory that ends before minsz, are EFAULT', (kind, _name, number, minsz, words) => {
    for (const bad of [0, 8, 2 ** 47, 0xffff_ffff_f000, -1, Number.NaN, 8n])
      expect(said(at.user.ioctl(at[kind], number, bad))).toBe('EFAULT');
    for (let length = 0; length < minsz; length++) {
      expect([length, said(at.user.ioctl(at[kind], number, request(minsz, words, length)))]).toEqual([length, 'EFAULT']);
    }
  });

  it.each(requests)('B.2 %s %s: argsz of minsz is enough', (kind, name, number, minsz, words) => {
    const answer = said(at.user.ioctl(at[kind], number, request(minsz, words, minsz)));
    // The answer to a request with a right size and little else.
    const others: Record<string, string | number> = {
      IOMMU_MAP_DMA: 'EINVAL', // size 0
      IOMMU_UNMAP_DMA: 'EINVAL', // size 0
      DEVICE_SET_IRQS: 'EINVAL', // INTx is not enabled
      DEVICE_GET_PCI_HOT_RESET_INFO: 'ENOSPC', // no room for the device
      DEVICE_PCI_HOT_RESET: 'EFAULT', // the descriptor is not there
      DEVICE_IOEVENTFD: 'EINVAL', // descriptor 0 is not an eventfd
      DEVICE_BIND_IOMMUFD: 'EINVAL', // opened through its group
    };
    expect(answer).toBe(others[name] ?? 0);
  });

  it.each([
    ['container', 'IOMMU_MAP_DMA', ContainerIoctl.IOMMU_MAP_DMA, 7],
    ['container', 'IOMMU_UNMAP_DMA', ContainerIoctl.IOMMU_UNMAP_DMA, 7],
    ['container', 'IOMMU_DIRTY_PAGES', ContainerIoctl.IOMMU_DIRTY_PAGES, 7],
    ['device', 'DEVICE_SET_IRQS', DeviceIoctl.SET_IRQS, 0x3f],
    ['device', 'DEVICE_PCI_HOT_RESET', DeviceIoctl.PCI_HOT_RESET, 0],
    ['device', 'DEVICE_IOEVENTFD', DeviceIoctl.IOEVENTFD, 15],
    ['device', 'DEVICE_FEATURE', DeviceIoctl.FEATURE, 0x7ffff],
  ] as const)('S2-21 %s %s: an unknown flag is EINVAL, each of them', (kind, _name, number, known) => {
    for (let bit = 0; bit < 32; bit++) {
      const flag = (1 << bit) >>> 0;
      if ((flag & known) !== 0) continue;
      expect([bit, said(at.user.ioctl(at[kind], number, request(64, [flag], 64)))]).toEqual([bit, 'EINVAL']);
    }
  });

  it('B.1 unknown requests: ENOTTY for a group, a device and a container with an IOMMU, EINVAL for a container without', () => {
    const fresh = at.user.open('/dev/vfio/vfio');
    for (const unknown of [0, 0x3b63, 0x3b64 + 22, 0x3b00 + 250, 0xffff_ffff, 2 ** 40, Number.NaN]) {
      expect([at.container, at.group, at.device, fresh].map((fd) => said(at.user.ioctl(fd, unknown)))).toEqual([
        'ENOTTY',
        'ENOTTY',
        'ENOTTY',
        'EINVAL',
      ]);
    }
  });

  it('B.1 a request’s number has a meaning for one kind of file; other kinds do not know it', () => {
    const all = [ContainerIoctl, GroupIoctl, DeviceIoctl].flatMap((table) => Object.values(table));
    const kinds: readonly (readonly [Kind, readonly number[]])[] = [
      ['container', Object.values(ContainerIoctl)],
      ['group', Object.values(GroupIoctl)],
      // These requests exist, but not for a device that was opened through its group, or not for
      // vfio-pci.
      [
        'device',
        Object.values(DeviceIoctl).filter(
          (n) =>
            ![
              DeviceIoctl.QUERY_GFX_PLANE as number,
              DeviceIoctl.GET_GFX_DMABUF,
              DeviceIoctl.ATTACH_IOMMUFD_PT,
              DeviceIoctl.DETACH_IOMMUFD_PT,
            ].includes(n),
        ),
      ],
    ];
    for (const [kind, own] of kinds) {
      for (const number of all) {
        if (!own.includes(number))
          expect([kind, number, said(at.user.ioctl(at[kind], number, new Uint8Array(64)))]).toEqual([kind, number, 'ENOTTY']);
      }
    }
  });

  it('B.1 files of other kinds know no request of VFIO, and a closed descriptor is EBADF first', () => {
    const event = at.user.eventfd();
    const nul = at.user.open('/dev/null');
    for (const fd of [event, nul, 0]) expect(said(at.user.ioctl(fd, DeviceIoctl.GET_INFO, cString('')))).toBe('ENOTTY');
    at.user.close(nul);
    for (const fd of [nul, -1, 9999, 2 ** 31, Number.NaN]) expect(said(at.user.ioctl(fd, DeviceIoctl.GET_INFO, 0))).toBe('EBADF');
  });

  it('B.1 a container whose last group left is as after open: EINVAL again', () => {
    at.user.close(at.device);
    expect(said(at.user.ioctl(at.group, GroupIoctl.UNSET_CONTAINER))).toBe(0);
    expect(said(at.user.ioctl(at.container, 0x3b00 + 250))).toBe('EINVAL');
    expect(said(at.user.ioctl(at.container, ContainerIoctl.IOMMU_GET_INFO, 8))).toBe('EINVAL');
  });
});

describe('B.2 what an answer may write', () => {
  it('B.2 GET_INFO of device and IOMMU write min(argsz, size) bytes and not one more', () => {
    using guest = new Guest();
    const { user, container, device } = guest.open(EDU);
    for (const [fd, number] of [
      [container, ContainerIoctl.IOMMU_GET_INFO],
      [device, DeviceIoctl.GET_INFO],
    ] as const) {
      for (let argsz = 16; argsz < 28; argsz++) {
        const memory = new Uint8Array(64).fill(0xaa);
        new DataView(memory.buffer).setUint32(0, argsz, true);
        expect(user.ioctl(fd, number, memory)).toBe(0);
        expect(memory.subarray(Math.min(argsz, 24)).every((byte) => byte === 0xaa)).toBe(true);
      }
    }
  });

  it('B.2 a refused request writes nothing, but for HOT_RESET_INFO without room', () => {
    using guest = new Guest();
    const at = guest.open(EDU);
    for (const [kind, , number, minsz, words] of requests) {
      for (const argsz of [0, minsz - 1]) {
        const memory = request(argsz, words, 64);
        const before = memory.slice();
        expect(at.user.ioctl(at[kind], number, memory)).toBeLessThan(0);
        expect(memory).toEqual(before);
      }
    }
  });
});
