/** Open files live until their last descriptor is closed, in any process. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CARD, EDU, Guest, type Opened } from '../../tests/kernel-answers/guest.ts';
import { bytesOf, fdBytes, said, viewOf } from '../../tests/kit/ioctl-bytes.ts';
import { IommufdCommand } from '../abi/iommufd.ts';
import { IommuIoasAlloc, IommuIoasMap } from '../abi/iommufd-structs.ts';
import { ContainerIoctl, DeviceIoctl, DmaUnmapFlags, GroupIoctl, IrqSetFlags, REGION_OFFSET_STEP } from '../abi/vfio.ts';
import { DeviceAttachIommufdPt, DeviceBindIommufd, IommuType1DmaMap, IommuType1DmaUnmap, IrqSet } from '../abi/vfio-structs.ts';
import { MapFlags, Prot } from './posix.ts';
import { cString } from './user-buffer.ts';
import type { UserProcess } from './user-process.ts';

const PAGE = 4096;
/** Registers of edu. */
const Edu = { LIVENESS: 0x04, DMA_SOURCE: 0x80, DMA_DESTINATION: 0x88, DMA_COUNT: 0x90, DMA_COMMAND: 0x98 } as const;
const CONFIG = 7 * REGION_OFFSET_STEP;
const RW = Prot.READ | Prot.WRITE;

let guest: Guest;
let broker: Opened;

beforeEach(() => {
  guest = new Guest();
  broker = guest.open(EDU);
});
afterEach(() => {
  expect(guest.errors).toEqual([]);
  guest[Symbol.dispose]();
});

const command = (user: UserProcess, device: number, bits: number) => user.pwrite(device, new Uint8Array([bits, 0]), CONFIG + 4);
const anonymous = (user: UserProcess, pages = 1, type: number = MapFlags.PRIVATE) => user.mmap(pages * PAGE, RW, type | MapFlags.ANONYMOUS);

function map(user: UserProcess, container: number, vaddr: number, iova: bigint, size = PAGE): string | number {
  const request = bytesOf(IommuType1DmaMap, { argsz: 32, flags: RW, vaddr: BigInt(vaddr), iova, size: BigInt(size) });
  return said(user.ioctl(container, ContainerIoctl.IOMMU_MAP_DMA, request));
}

function unmapAll(user: UserProcess, container: number): bigint {
  const request = bytesOf(IommuType1DmaUnmap, { argsz: 24, flags: DmaUnmapFlags.ALL });
  user.ioctl(container, ContainerIoctl.IOMMU_UNMAP_DMA, request);
  return IommuType1DmaUnmap.size.get(viewOf(request), 0);
}

function armMsi(user: UserProcess, device: number, eventfd: number): string | number {
  const flags = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER;
  return said(
    user.ioctl(device, DeviceIoctl.SET_IRQS, bytesOf(IrqSet, { argsz: 24, flags, index: 1, start: 0, count: 1 }, fdBytes(eventfd))),
  );
}

/** The users of the device, its group and its domain. */
function used(bdf = EDU): readonly [openCount: number, groupFile: boolean, domain: boolean] {
  const { vfio, group } = guest.machine.function(bdf);
  return [vfio!.openCount, group!.file !== null, group!.domain !== null];
}

describe('a descriptor in another process', () => {
  it('S2-01 a privileged broker hands a device to an unprivileged user, who drives it after the broker has exited', () => {
    const user = guest.unprivileged();
    expect(said(user.open(`/dev/vfio/${guest.machine.function(EDU).group!.id}`))).toBe('EACCES');
    const container = broker.user.sendFd(broker.container, user);
    const device = broker.user.sendFd(broker.device, user);
    broker.user.exit();

    const eventfd = user.eventfd();
    const bar = user.mmap(PAGE, RW, MapFlags.SHARED, device, 0);
    const memory = anonymous(user);
    command(user, device, 6);
    expect([map(user, container, memory, 0x1000n), armMsi(user, device, eventfd)]).toEqual([0, 0]);
    user.store(memory, 4, 0x600d_cafe);
    const dma = (from: bigint, to: bigint, run: number) => {
      user.store(bar + Edu.DMA_SOURCE, 8, from);
      user.store(bar + Edu.DMA_DESTINATION, 8, to);
      user.store(bar + Edu.DMA_COUNT, 8, 4n);
      user.store(bar + Edu.DMA_COMMAND, 8, BigInt(run));
      guest.clock.advance(100);
    };
    dma(0x1000n, 0x40000n, 1);
    dma(0x40000n, 0x1800n, 7);
    expect(user.load(memory + 0x800, 4)).toBe(0x600d_cafe);
    expect(user.read(eventfd, new Uint8Array(8))).toBe(8);
    expect(user.process.lockedBytes).toBe(PAGE);

    user.exit();
    expect([used(), user.process.lockedBytes]).toEqual([[0, false, false], 0]);
  });

  it('S2-01 an iommufd and a bound device go to an unprivileged user, who maps and attaches, and pays for its memory', () => {
    broker.user.exit();
    const opener = guest.subject(EDU).user;
    const user = guest.unprivileged();
    const node = `/dev/vfio/devices/vfio${guest.machine.function(EDU).vfioIndex}`;
    expect([said(user.open(node)), said(user.open('/dev/iommu'))]).toEqual(['EACCES', 'EACCES']);
    const [own, cdev] = [opener.open('/dev/iommu'), opener.open(node)];
    expect(said(opener.ioctl(cdev, DeviceIoctl.BIND_IOMMUFD, bytesOf(DeviceBindIommufd, { argsz: 16, flags: 0, iommufd: own })))).toBe(0);
    const [iommufd, device] = [opener.sendFd(own, user), opener.sendFd(cdev, user)];
    opener.exit();
    expect(guest.machine.function(EDU).vfio!.openCount).toBe(1);

    const alloc = bytesOf(IommuIoasAlloc, { size: 12 });
    expect(said(user.ioctl(iommufd, 0x3b00 + IommufdCommand.IOAS_ALLOC, alloc))).toBe(0);
    const ioas = IommuIoasAlloc.out_ioas_id.get(viewOf(alloc), 0);
    const attach = bytesOf(DeviceAttachIommufdPt, { argsz: 12, flags: 0, pt_id: ioas });
    expect(said(user.ioctl(device, DeviceIoctl.ATTACH_IOMMUFD_PT, attach))).toBe(0);
    const mapOf = (vaddr: number, pages: number) =>
      said(
        user.ioctl(
          iommufd,
          0x3b00 + IommufdCommand.IOAS_MAP,
          bytesOf(IommuIoasMap, { size: 40, flags: 7, ioas_id: ioas, user_va: BigInt(vaddr), length: BigInt(pages * PAGE), iova: 0x1000n }),
        ),
      );
    const memory = anonymous(user, 2049);
    // RLIMIT_MEMLOCK is 8 MiB.
    expect([mapOf(memory, 2049), mapOf(memory, 1)]).toEqual(['ENOMEM', 0]);
    command(user, device, 6);
    expect(guest.machine.function(EDU).host.dma.tryWrite(0x1004n, new Uint8Array([1, 2, 3, 4]))).toBe(0);
    expect(user.load(memory + 4, 4)).toBe(0x0403_0201);
    user.exit();
    expect(guest.machine.function(EDU).vfio!.openCount).toBe(0);
    expect(guest.machine.function(EDU).group!.owner).toBe(null);
  });

  it('B.4 close: group, container and device stay with their opener’s exit, and go with the last descriptor, in any order', () => {
    const orders = [
      [0, 1, 2],
      [0, 2, 1],
      [1, 0, 2],
      [1, 2, 0],
      [2, 0, 1],
      [2, 1, 0],
    ];
    broker.user.exit();
    for (const order of orders) {
      const opener = guest.open(EDU);
      const holders = [opener.container, opener.group, opener.device].map((fd) => {
        const holder = guest.unprivileged();
        opener.user.sendFd(fd, holder);
        return holder;
      });
      opener.user.exit();
      expect(used()).toEqual([1, true, true]);
      for (const at of order) holders[at]!.exit();
      expect([order, used()]).toEqual([order, [0, false, false]]);
    }
  });

  it('B.4 open: the group stays taken after its opener has exited, and the error says so', () => {
    using told = new Guest({ onRefusal: (_process, _call, error) => refusals.push(error.message) });
    const refusals: string[] = [];
    const { user, group } = told.open(EDU);
    const holder = told.unprivileged();
    user.sendFd(group, holder);
    user.exit();
    const late = told.subject(EDU);
    expect(said(late.user.open(late.groupPath))).toBe('EBUSY');
    expect(refusals.at(-1)).toContain('which has exited and passed its descriptors on');
    holder.exit();
    expect(late.user.open(late.groupPath)).toBeGreaterThan(0);
  });

  it('S2-37 a mapping in the receiver keeps the device after every descriptor is closed', () => {
    const user = guest.unprivileged();
    const device = broker.user.sendFd(broker.device, user);
    const bar = user.mmap(PAGE, RW, MapFlags.SHARED, device, 0);
    command(user, device, 2);
    broker.user.exit();
    user.close(device);
    expect([used(), user.load(bar, 4)]).toEqual([[1, true, true], 0x0100_00ed]);
    user.munmap(bar, PAGE);
    expect(used()).toEqual([0, false, false]);
  });

  it('S2-52 memory that an exited process has mapped is charged to it until it is unmapped (S2-48)', () => {
    const user = guest.unprivileged();
    const container = broker.user.sendFd(broker.container, user);
    const group = broker.user.sendFd(broker.group, user);
    expect(map(broker.user, broker.container, anonymous(broker.user, 2), 0x10000n, 2 * PAGE)).toBe(0);
    expect(map(user, container, anonymous(user), 0x20000n)).toBe(0);
    broker.user.exit();
    expect([broker.user.process.lockedBytes, user.process.lockedBytes]).toEqual([2 * PAGE, PAGE]);
    expect(said(user.ioctl(group, GroupIoctl.GET_DEVICE_FD, cString(EDU)))).toBeGreaterThan(0);
    expect(unmapAll(user, container)).toBe(BigInt(3 * PAGE));
    expect([broker.user.process.lockedBytes, user.process.lockedBytes]).toEqual([0, 0]);
    user.exit();
  });

  it('B.9 an eventfd hears interrupts after its maker has exited, and the device goes with its last descriptor', () => {
    const eventfd = broker.user.eventfd();
    expect(armMsi(broker.user, broker.device, eventfd)).toBe(0);
    const user = guest.unprivileged();
    const [mine, device] = [broker.user.sendFd(eventfd, user), broker.user.sendFd(broker.device, user)];
    broker.user.exit();
    const flags = IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_TRIGGER;
    user.ioctl(device, DeviceIoctl.SET_IRQS, bytesOf(IrqSet, { argsz: 20, flags, index: 1, start: 0, count: 1 }));
    expect(user.read(mine, new Uint8Array(8))).toBe(8);
    user.exit();
    expect(used()).toEqual([0, false, false]);
  });

  it('S2-14 a device that goes around a hundred processes is open once, and closed with the last', () => {
    const { device } = broker;
    let holder = broker.user;
    let fd = device;
    for (let i = 0; i < 100; i++) {
      const next = guest.unprivileged();
      fd = holder.sendFd(fd, next);
      holder.exit();
      holder = next;
    }
    expect(used()).toEqual([1, true, true]);
    expect(said(holder.ioctl(fd, DeviceIoctl.RESET))).toBe('EINVAL');
    holder.exit();
    expect(used()).toEqual([0, false, false]);
  });
});

describe('fork', () => {
  it('S2-52 fork: the child has the descriptors, a copy of private memory, and shared memory and BARs themselves', () => {
    const { user, device } = broker;
    command(user, device, 2);
    const bar = user.mmap(PAGE, RW, MapFlags.SHARED, device, 0);
    const own = anonymous(user);
    const shared = anonymous(user, 1, MapFlags.SHARED);
    user.store(own, 4, 1);
    user.store(shared, 4, 1);
    const child = user.fork(101);
    user.store(own, 4, 2);
    user.store(shared, 4, 2);
    child.store(bar + Edu.LIVENESS, 4, 0);
    expect([child.load(own, 4), child.load(shared, 4), user.load(bar + Edu.LIVENESS, 4)]).toEqual([1, 2, 0xffff_ffff]);
    expect(child.files.open).toEqual(user.files.open);
    user.exit();
    expect([used(), child.load(bar, 4), said(child.ioctl(device, DeviceIoctl.RESET))]).toEqual([[1, true, true], 0x0100_00ed, 'EINVAL']);
    child.exit();
    expect([used(), child.memory.areas]).toEqual([[0, false, false], 0]);
  });

  it('S2-48 fork: the parent’s mappings stay the parent’s, and the child pays for its own', () => {
    const { user, container } = broker;
    const memory = anonymous(user);
    expect(map(user, container, memory, 0x1000n)).toBe(0);
    const child = user.fork(101);
    expect([child.process.lockedBytes, map(child, container, memory, 0x2000n), child.process.lockedBytes]).toEqual([0, 0, PAGE]);
    // The device reaches the parent's page at one address, and the child's copy at the other.
    child.store(memory, 4, 7);
    command(user, broker.device, 6);
    const bytes = new Uint8Array(4);
    const read = (iova: bigint) => {
      expect(guest.machine.function(EDU).host.dma.tryRead(iova, bytes)).toBe(0);
      return bytes[0];
    };
    expect([read(0x1000n), read(0x2000n)]).toEqual([0, 7]);
    user.exit();
    child.exit();
    expect([used(), user.process.lockedBytes, child.process.lockedBytes]).toEqual([[0, false, false], 0, 0]);
  });

  it('S2-52 fork: a BAR of plain memory is a DMA target in the child too, and goes with the last process', () => {
    broker.user.exit();
    const card = guest.open(CARD);
    const bar = card.user.mmap(0x4000, RW, MapFlags.SHARED, card.device, 2 * REGION_OFFSET_STEP);
    const child = card.user.fork(101);
    card.user.exit();
    expect(map(child, card.container, bar, 0x10000n, 0x4000)).toBe(0);
    expect(child.process.lockedBytes).toBe(0);
    child.exit();
    expect(used(CARD)).toEqual([0, false, false]);
  });
});
