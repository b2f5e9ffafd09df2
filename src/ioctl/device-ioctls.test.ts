import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CARD, EDU, Guest, NVME, type Opened } from '../../tests/kernel-answers/guest.ts';
import { bytesOf, fdBytes, said, viewOf } from '../../tests/kit/ioctl-bytes.ts';
import { DeviceIoctl, FeatureFlags, IrqSetFlags, REGION_OFFSET_STEP } from '../abi/vfio.ts';
import {
  DeviceBindIommufd,
  DeviceFeature,
  DeviceIoeventfd,
  FeatureDmaBuf,
  InfoCapHeader,
  IrqInfo,
  IrqSet,
  LowPowerEntryWithWakeup,
  PciDependentDevice,
  PciHotReset,
  PciHotResetInfo,
  RegionInfo,
} from '../abi/vfio-structs.ts';

const { DATA_NONE, DATA_BOOL, DATA_EVENTFD, ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER } = IrqSetFlags;
const [INTX, MSI, MSIX, ERR, REQ] = [0, 1, 2, 3, 4] as const;
const CONFIG = 7 * REGION_OFFSET_STEP;

let guest: Guest;
let at: Opened;

function start(bdf: string): void {
  guest = new Guest();
  at = guest.open(bdf);
}
function stop(): void {
  at.user.exit();
  expect(guest.errors).toEqual([]);
  guest[Symbol.dispose]();
}

function ask(request: number, argument: Uint8Array | number): string | number {
  return said(at.user.ioctl(at.device, request, argument));
}

function setIrqs(
  index: number,
  flags: number,
  first: number,
  count: number,
  data: ArrayLike<number> = [],
  argsz = 20 + data.length,
): string | number {
  return ask(DeviceIoctl.SET_IRQS, bytesOf(IrqSet, { argsz, flags, index, start: first, count }, data));
}

function count(eventfd: number): number | string {
  const into = new Uint8Array(8);
  const result = at.user.read(eventfd, into);
  return result < 0 ? said(result) : Number(viewOf(into).getBigUint64(0, true));
}

function command(bits: number): void {
  at.user.pwrite(at.device, new Uint8Array([bits, bits >> 8]), CONFIG + 4);
}

describe('GET_REGION_INFO and GET_IRQ_INFO', () => {
  beforeEach(() => start(NVME));
  afterEach(stop);

  it('B.8 MSIX BAR: the MSIX_MAPPABLE capability, with the growth of argsz', () => {
    const info = (argsz: number) => {
      const memory = bytesOf(RegionInfo, { argsz, index: 0 }, new Uint8Array(16).fill(0xaa));
      expect(ask(DeviceIoctl.GET_REGION_INFO, memory)).toBe(0);
      return memory;
    };
    expect(RegionInfo.decode(viewOf(info(32)))).toMatchObject({ argsz: 40, flags: 15, cap_offset: 0, size: 0x4000n, offset: 0n });
    const whole = info(40);
    expect(RegionInfo.decode(viewOf(whole))).toMatchObject({ argsz: 40, flags: 15, cap_offset: 32 });
    expect(InfoCapHeader.decode(viewOf(whole), 32)).toEqual({ id: 3, version: 1, next: 0 });
    expect(whole.slice(40)).toEqual(new Uint8Array(8).fill(0xaa));
  });

  it.each([9, 40, 0xffff_ffff])('B.8 region indexes: %i does not exist, EINVAL', (index) => {
    expect(ask(DeviceIoctl.GET_REGION_INFO, bytesOf(RegionInfo, { argsz: 32, index }))).toBe('EINVAL');
  });

  it('B.9 IRQ info of a PCI Express device: ERR exists, MSI-X can grow', () => {
    const info = (index: number) => {
      const memory = bytesOf(IrqInfo, { argsz: 16, index });
      const result = ask(DeviceIoctl.GET_IRQ_INFO, memory);
      return result === 0 ? [IrqInfo.flags.get(viewOf(memory), 0), IrqInfo.count.get(viewOf(memory), 0)] : result;
    };
    expect([INTX, MSI, MSIX, ERR, REQ, 5, 0xffff_ffff].map(info)).toEqual([[7, 1], [9, 0], [1, 3], [9, 1], [9, 1], 'EINVAL', 'EINVAL']);
  });
});

describe('SET_IRQS', () => {
  beforeEach(() => start(NVME));
  afterEach(stop);

  it.each([
    ['index of no interrupt', [5, DATA_NONE | ACTION_TRIGGER, 0, 0], []],
    ['an index without interrupts, even to disable', [MSI, DATA_NONE | ACTION_TRIGGER, 0, 0], []],
    ['start at the end', [MSIX, DATA_NONE | ACTION_TRIGGER, 3, 0], []],
    ['one past the end', [MSIX, DATA_NONE | ACTION_TRIGGER, 1, 3], []],
    ['count 2^32-1', [MSIX, DATA_NONE | ACTION_TRIGGER, 0, 0xffff_ffff], []],
    ['count 2^31-1', [MSIX, DATA_EVENTFD | ACTION_TRIGGER, 0, 0x7fff_ffff], []],
    ['start and count wrap', [MSIX, DATA_NONE | ACTION_TRIGGER, 0xffff_ffff, 1], []],
    ['no data for DATA_BOOL', [MSIX, DATA_BOOL | ACTION_TRIGGER, 0, 1], []],
    ['data for one of two', [MSIX, DATA_EVENTFD | ACTION_TRIGGER, 0, 2], [0, 0, 0, 0]],
  ] as const)('S2-24 %s is EINVAL', (_what, [index, flags, first, n], data) => {
    expect(setIrqs(index, flags, first, n, data)).toBe('EINVAL');
  });

  it('S2-24 data that argsz promises and memory does not have is EFAULT', () => {
    expect(setIrqs(MSIX, DATA_EVENTFD | ACTION_TRIGGER, 0, 2, fdBytes(0), 28)).toBe('EFAULT');
  });

  it('B.9 MSI/MSIX TRIGGER with eventfds: enable, fire, take away, disable; each eventfd is released once', () => {
    const [a, b] = [at.user.eventfd(), at.user.eventfd()];
    expect(setIrqs(MSIX, DATA_EVENTFD | ACTION_TRIGGER, 0, 2, fdBytes(a, b))).toBe(0);
    expect(setIrqs(MSIX, DATA_NONE | ACTION_TRIGGER, 0, 2)).toBe(0);
    expect(setIrqs(MSIX, DATA_BOOL | ACTION_TRIGGER, 0, 2, [0, 1])).toBe(0);
    expect([count(a), count(b), count(b)]).toEqual([1, 2, 'EAGAIN']);
    expect(setIrqs(MSIX, DATA_EVENTFD | ACTION_TRIGGER, 1, 1, fdBytes(-1))).toBe(0);
    expect(setIrqs(MSIX, DATA_NONE | ACTION_TRIGGER, 0, 0)).toBe(0);
    expect([references(a), references(b)]).toEqual([0, 0]);
  });

  it('B.9 a bad descriptor in a block: EBADF or EINVAL, and the whole block is unwound', () => {
    const [a, nul] = [at.user.eventfd(), at.user.open('/dev/null')];
    for (const [fd, errno] of [
      [999, 'EBADF'],
      [nul, 'EINVAL'],
      [at.device, 'EINVAL'],
    ] as const) {
      expect(setIrqs(MSIX, DATA_EVENTFD | ACTION_TRIGGER, 0, 3, fdBytes(a, fd, a))).toBe(errno);
      expect([references(a), setIrqs(MSIX, DATA_NONE | ACTION_TRIGGER, 0, 0)]).toEqual([0, 'EINVAL']);
    }
  });

  it('B.9 a descriptor is looked at last: what else is wrong is said first', () => {
    const a = at.user.eventfd();
    expect(setIrqs(INTX, DATA_EVENTFD | ACTION_TRIGGER, 0, 1, fdBytes(a))).toBe(0);
    expect(setIrqs(MSIX, DATA_EVENTFD | ACTION_TRIGGER, 0, 1, fdBytes(999))).toBe('EINVAL');
    expect(setIrqs(INTX, DATA_EVENTFD | ACTION_MASK, 0, 1, fdBytes(999))).toBe('ENOTTY');
    expect(setIrqs(MSIX, DATA_EVENTFD | ACTION_MASK, 0, 1, fdBytes(999))).toBe('ENOTTY');
    expect(setIrqs(REQ, DATA_EVENTFD | ACTION_UNMASK, 0, 1, fdBytes(999))).toBe('ENOTTY');
    expect(setIrqs(INTX, DATA_EVENTFD | ACTION_UNMASK, 0, 1, fdBytes(999))).toBe('EBADF');
  });

  it('B.9 any negative descriptor takes a vector’s eventfd away; ERR and REQ take -1 alone', () => {
    const a = at.user.eventfd();
    expect(setIrqs(MSIX, DATA_EVENTFD | ACTION_TRIGGER, 0, 1, fdBytes(a))).toBe(0);
    expect(setIrqs(MSIX, DATA_EVENTFD | ACTION_TRIGGER, 0, 1, fdBytes(-2))).toBe(0);
    expect(references(a)).toBe(0);
    for (const index of [ERR, REQ]) {
      expect(setIrqs(index, DATA_EVENTFD | ACTION_TRIGGER, 0, 1, fdBytes(a))).toBe(0);
      expect(setIrqs(index, DATA_EVENTFD | ACTION_TRIGGER, 0, 1, fdBytes(-2))).toBe('EINVAL');
      expect(references(a)).toBe(1);
      expect(setIrqs(index, DATA_EVENTFD | ACTION_TRIGGER, 0, 1, fdBytes(-1))).toBe(0);
      expect(references(a)).toBe(0);
    }
  });

  it('S2-27 closing the device lets every eventfd go, and closing an eventfd does not take it from the device', () => {
    const [a, b, c] = [at.user.eventfd(), at.user.eventfd(), at.user.eventfd()];
    setIrqs(MSIX, DATA_EVENTFD | ACTION_TRIGGER, 0, 2, fdBytes(a, b));
    setIrqs(ERR, DATA_EVENTFD | ACTION_TRIGGER, 0, 1, fdBytes(c));
    setIrqs(REQ, DATA_EVENTFD | ACTION_TRIGGER, 0, 1, fdBytes(c));
    const counter = counterOf(b);
    at.user.close(b);
    expect(setIrqs(MSIX, DATA_NONE | ACTION_TRIGGER, 0, 2)).toBe(0);
    expect([counter.value, counter.references, references(c)]).toEqual([1n, 1, 2]);
    at.user.close(at.device);
    expect([references(a), counter.references, references(c)]).toEqual([0, 0, 0]);
  });
});

describe('SET_IRQS UNMASK with an eventfd', () => {
  beforeEach(() => start(EDU));
  afterEach(stop);

  it('B.9 INTX UNMASK eventfd: a write to it unmasks; a second one is EBUSY; -1 takes it away', () => {
    const [trigger, unmask] = [at.user.eventfd(), at.user.eventfd()];
    const arm = (fd: number) => setIrqs(INTX, DATA_EVENTFD | ACTION_UNMASK, 0, 1, fdBytes(fd));
    command(6);
    expect([arm(unmask), setIrqs(INTX, DATA_EVENTFD | ACTION_TRIGGER, 0, 1, fdBytes(trigger))]).toEqual(['EINVAL', 0]);
    expect([arm(999), arm(at.container), arm(unmask), arm(unmask)]).toEqual(['EBADF', 'EINVAL', 0, 'EBUSY']);
    at.user.pwrite(at.device, new Uint8Array([1, 0, 0, 0]), 0x60);
    expect([count(trigger), count(trigger)]).toEqual([1, 'EAGAIN']);
    // Still asserted: it fires again, and the count of the unmask eventfd was taken.
    at.user.write(unmask, new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]));
    expect([count(trigger), count(unmask)]).toEqual([1, 'EAGAIN']);
    expect([arm(-1), arm(unmask)]).toEqual([0, 0]);
  });
});

describe('PCI_HOT_RESET', () => {
  beforeEach(() => start(NVME));
  afterEach(stop);

  it('B.8 HOT_RESET_INFO: too small is ENOSPC with the count; else the devices', () => {
    const ask12 = bytesOf(PciHotResetInfo, { argsz: 19 }, new Uint8Array(8));
    expect(ask(DeviceIoctl.GET_PCI_HOT_RESET_INFO, ask12)).toBe('ENOSPC');
    expect(PciHotResetInfo.decode(viewOf(ask12))).toEqual({ argsz: 19, flags: 0, count: 1 });
    const whole = bytesOf(PciHotResetInfo, { argsz: 20 }, new Uint8Array(8));
    expect(ask(DeviceIoctl.GET_PCI_HOT_RESET_INFO, whole)).toBe(0);
    expect(PciDependentDevice.decode(viewOf(whole), 12)).toEqual({
      id: guest.machine.function(NVME).group!.id,
      segment: 0,
      bus: 2,
      devfn: 0,
    });
    expect(ask(DeviceIoctl.GET_PCI_HOT_RESET_INFO, whole.subarray(0, 19))).toBe('EFAULT');
  });

  it('B.8 HOT_RESET: count, room, descriptors, kind of file, ownership, in this order', () => {
    const reset = (n: number, fds: number[]) =>
      ask(DeviceIoctl.PCI_HOT_RESET, bytesOf(PciHotReset, { argsz: 12, count: n }, fdBytes(...fds)));
    const edu = guest.machine.function(EDU).group!.id;
    const otherGroup = at.user.open(`/dev/vfio/${edu}`);
    expect([
      reset(0, []),
      reset(2, [at.group, at.group]),
      reset(0xffff_ffff, []),
      reset(1, []),
      reset(1, [999]),
      reset(1, [at.container]),
      reset(1, [otherGroup]),
      reset(1, [at.group]),
    ]).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 'EFAULT', 'EBADF', 'EINVAL', 'EINVAL', 0]);
  });
});

describe('IOEVENTFD', () => {
  beforeEach(() => start(EDU));
  afterEach(stop);

  function ioeventfd(size: number, offset: number, data: number, fd: number): string | number {
    return ask(DeviceIoctl.IOEVENTFD, bytesOf(DeviceIoeventfd, { argsz: 32, flags: size, offset: BigInt(offset), data: BigInt(data), fd }));
  }

  it('B.8 IOEVENTFD: a write to the eventfd writes the register, until it is removed', () => {
    const event = at.user.eventfd();
    const liveness = () => {
      const into = new Uint8Array(4);
      at.user.pread(at.device, into, 4);
      return viewOf(into).getUint32(0, true);
    };
    const signal = () => at.user.write(event, new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]));
    command(2);
    expect([ioeventfd(4, 4, 0x1234, event), ioeventfd(4, 4, 0x1234, event)]).toEqual([0, 'EEXIST']);
    signal();
    expect(liveness()).toBe(0xffffedcb);
    command(0);
    signal();
    command(2);
    expect([ioeventfd(4, 4, 0x1234, -1), ioeventfd(4, 4, 0x1234, -1)]).toEqual([0, 'ENODEV']);
    at.user.pwrite(at.device, new Uint8Array(4), 4);
    signal();
    expect(liveness()).toBe(0xffff_ffff);
  });

  it('B.8 IOEVENTFD: one size, a descriptor or -1, a BAR and inside it; the descriptor is looked at last', () => {
    const event = at.user.eventfd();
    expect([0, 3, 5, 6, 7, 9, 15].map((size) => ioeventfd(size, 4, 0, event))).toEqual(new Array(7).fill('EINVAL'));
    expect([
      ioeventfd(8, 8, 0, event),
      ioeventfd(4, 4, 0, -2),
      ioeventfd(4, 0xffffe, 0, 999),
      ioeventfd(4, 6 * REGION_OFFSET_STEP, 0, 999),
      ioeventfd(4, REGION_OFFSET_STEP, 0, 999),
      ioeventfd(4, 4, 0, 999),
      ioeventfd(4, 4, 0, at.container),
    ]).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'EBADF', 'EINVAL']);
  });
});

describe('FEATURE', () => {
  beforeEach(() => start(CARD));
  afterEach(stop);

  const { GET, SET, PROBE } = FeatureFlags;

  function feature(flags: number, data: ArrayLike<number> = [], argsz = 8 + data.length): string | number {
    return ask(DeviceIoctl.FEATURE, bytesOf(DeviceFeature, { argsz, flags }, data));
  }

  it('B.7 FEATURE dispatcher: both operations without PROBE are EINVAL even for what is unknown; unknown is ENOTTY; wrong or no operation EINVAL', () => {
    expect([
      feature(GET | SET | 999),
      feature(GET | 999),
      feature(999),
      feature(SET | 999, [], 8),
      feature(GET | 3),
      feature(3),
      feature(PROBE | GET | SET | 3),
      feature(PROBE | 3),
    ]).toEqual(['EINVAL', 'ENOTTY', 'ENOTTY', 'ENOTTY', 'EINVAL', 'EINVAL', 'EINVAL', 0]);
  });

  it('B.10 LOW_POWER_ENTRY_WITH_WAKEUP: data too short EINVAL, not there EFAULT, the descriptor EINVAL or EBADF', () => {
    const entry = (fd: number) => [...bytesOf(LowPowerEntryWithWakeup, { wakeup_eventfd: fd })];
    const event = at.user.eventfd();
    expect([
      feature(SET | 4, [], 8),
      feature(SET | 4, entry(event), 15),
      feature(SET | 4, [], 16),
      feature(SET | 4, entry(-1)),
      feature(SET | 4, entry(999)),
      feature(SET | 4, entry(at.group)),
      feature(SET | 4, entry(event)),
      feature(SET | 5),
    ]).toEqual(['EINVAL', 'EINVAL', 'EFAULT', 'EINVAL', 'EBADF', 'EINVAL', 0, 0]);
  });

  it('B.5 DMA_BUF: a descriptor for a range of a BAR that is memory, which keeps nothing when it is closed', () => {
    const dmaBuf = (
      values: { region_index: number; open_flags?: number; flags?: number; nr_ranges: number },
      ranges: bigint[],
      argsz?: number,
    ) => feature(GET | 11, bytesOf(FeatureDmaBuf, values, new Uint8Array(new BigUint64Array(ranges).buffer)), argsz);
    const before = at.user.files.open;
    expect([
      dmaBuf({ region_index: 2, nr_ranges: 0 }, []),
      dmaBuf({ region_index: 2, nr_ranges: 1, flags: 1 }, [0n, 4096n]),
      dmaBuf({ region_index: 7, nr_ranges: 1 }, [0n, 4096n]),
      dmaBuf({ region_index: 2, nr_ranges: 2 }, [0n, 4096n]),
      dmaBuf({ region_index: 2, nr_ranges: 2 ** 18 }, [0n, 4096n]),
      dmaBuf({ region_index: 2, nr_ranges: 2 ** 18 + 1 }, [0n, 4096n]),
      dmaBuf({ region_index: 2, nr_ranges: 0xffff_ffff }, [0n, 4096n]),
      dmaBuf({ region_index: 2, nr_ranges: 1 }, [8n, 4096n]),
      dmaBuf({ region_index: 2, nr_ranges: 1 }, [0n, 4096n], 23),
    ]).toEqual(['EINVAL', 'EINVAL', 'ENODEV', 'EFAULT', 'EFAULT', 'ENOMEM', 'ENOMEM', 'EINVAL', 'EINVAL']);
    expect(at.user.files.open).toEqual(before);
    const fd = dmaBuf({ region_index: 2, open_flags: 0o2000000, nr_ranges: 1 }, [0x1000n, 4096n]) as number;
    expect([fd, at.user.getFd(fd), said(at.user.read(fd, new Uint8Array(8))), said(at.user.ioctl(fd, 0))]).toEqual([
      before.length,
      1,
      'EINVAL',
      'ENOTTY',
    ]);
    const { body } = at.user.files.get(fd);
    expect(body.kind === 'dmabuf' && [body.buffer.size, body.buffer.revoked]).toEqual([4096, false]);
    at.user.close(fd);
    expect(body.kind === 'dmabuf' && body.buffer.revoked).toBe(true);
    const full = guest.door.process(at.user.process, 4);
    expect(
      said(
        full.ioctl(
          at.user.sendFd(at.device, full),
          DeviceIoctl.FEATURE,
          bytesOf(DeviceFeature, { argsz: 40, flags: GET | 11 }, dmaBufBytes()),
        ),
      ),
    ).toBe('EMFILE');
  });
});

describe('RESET and BIND_IOMMUFD', () => {
  beforeEach(() => start(NVME));
  afterEach(stop);

  it('B.8 RESET: 0 with a reset method, and the user’s COMMAND is afterwards what it was', () => {
    command(6);
    expect(ask(DeviceIoctl.RESET, 0)).toBe(0);
    const bytes = new Uint8Array(2);
    at.user.pread(at.device, bytes, CONFIG + 4);
    expect(bytes[0]).toBe(6);
  });

  it('B.5 BIND_IOMMUFD on a file that came through a group: EINVAL, after the structure was checked', () => {
    const bind = (argsz: number, tail: number[] = [], length = 24 + tail.length) =>
      ask(DeviceIoctl.BIND_IOMMUFD, bytesOf(DeviceBindIommufd, { argsz, iommufd: 1 }, tail).subarray(0, length));
    expect([
      bind(16),
      bind(24),
      bind(28, [0, 0, 0, 0]),
      bind(28, [0, 0, 1, 0]),
      bind(32, [0, 0, 0, 0]),
      bind(0xffff_ffff),
      bind(15),
      bind(24, [], 23),
    ]).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 'E2BIG', 'EFAULT', 'E2BIG', 'EINVAL', 'EFAULT']);
  });
});

function counterOf(eventfd: number) {
  const { body } = at.user.files.get(eventfd);
  if (body.kind !== 'eventfd') throw new Error('not an eventfd');
  return body.counter;
}

function references(eventfd: number): number {
  return counterOf(eventfd).references;
}

function dmaBufBytes(): Uint8Array {
  return bytesOf(FeatureDmaBuf, { region_index: 2, nr_ranges: 1 }, new Uint8Array(new BigUint64Array([0n, 4096n]).buffer));
}
