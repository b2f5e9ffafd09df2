import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CARD, EDU, Guest, NVME, type Opened } from '../../tests/kernel-answers/guest.ts';
import { said, viewOf } from '../../tests/kit/ioctl-bytes.ts';
import { REGION_OFFSET_STEP } from '../abi/vfio.ts';
import { MapFlags, PollEvents, Prot } from './posix.ts';

const PAGE = 4096;
const CONFIG = 7 * REGION_OFFSET_STEP;
const RW = Prot.READ | Prot.WRITE;

let guest: Guest;
let at: Opened;

beforeEach(() => {
  guest = new Guest();
  at = guest.open(EDU);
});
afterEach(() => {
  at.user.exit();
  expect(guest.errors).toEqual([]);
  guest[Symbol.dispose]();
});

function command(bits: number, opened = at): void {
  opened.user.pwrite(opened.device, new Uint8Array([bits, bits >> 8]), CONFIG + 4);
}

describe('read and write', () => {
  it('B.8 read/write: without an offset the file’s own position moves on, shared by its descriptors', () => {
    command(2);
    const copy = at.user.dup(at.device);
    const id = new Uint8Array(4);
    expect([at.user.read(at.device, id), viewOf(id).getUint32(0, true)]).toEqual([4, 0x010000ed]);
    expect(at.user.write(copy, new Uint8Array([0x78, 0x56, 0x34, 0x12]))).toBe(4);
    at.user.pread(at.device, id, 4);
    expect(viewOf(id).getUint32(0, true)).toBe(0xedcba987);
  });

  it.each([
    ['negative', -1, 'EINVAL'],
    ['no number', Number.NaN, 'EINVAL'],
    ['a fraction', 0.5, 'EINVAL'],
    ['2^53', 2 ** 53, 'EINVAL'],
    ['2^63', 2n ** 63n, 'EINVAL'],
    ['2^64', 2n ** 64n, 'EINVAL'],
    ['a region that does not exist', 9 * REGION_OFFSET_STEP, 'EINVAL'],
    ['the end of BAR 0', 0x100000, 'EINVAL'],
    ['past it', 0x180000, 'EINVAL'],
    ['the end of config space', CONFIG + 256, 'EFAULT'],
    ['far past it', CONFIG + 2 ** 39, 'EFAULT'],
  ])('B.8 read/write at an offset that is %s: %d is %s', (_what, offset, errno) => {
    expect([said(at.user.pread(at.device, new Uint8Array(4), offset)), said(at.user.pwrite(at.device, new Uint8Array(4), offset))]).toEqual(
      [errno, errno],
    );
  });

  it.each([Number.NaN, -1, 1.5, 2 ** 53])('S2-21 a length of %d is EINVAL', (count) => {
    expect([
      said(at.user.pread(at.device, new Uint8Array(4), 0, count)),
      said(at.user.pwrite(at.device, new Uint8Array(4), 0, count)),
      said(at.user.read(at.device, new Uint8Array(4), count)),
    ]).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
  });

  it('S2-21 a bad pointer is EFAULT, but for no bytes at all; errors about the offset come first', () => {
    const { user, device } = at;
    command(2);
    const both = (offset: number, count: number) => [
      said(user.pread(device, 8, offset, count)),
      said(user.pwrite(device, 8, offset, count)),
    ];
    expect([both(0, 4), both(0, 0), both(CONFIG, 4), both(0x100000, 4), both(CONFIG + 256, 4), both(9 * REGION_OFFSET_STEP, 4)]).toEqual([
      ['EFAULT', 'EFAULT'],
      [0, 0],
      ['EFAULT', 'EFAULT'],
      ['EINVAL', 'EINVAL'],
      ['EFAULT', 'EFAULT'],
      ['EINVAL', 'EINVAL'],
    ]);
    command(0);
    expect(said(user.pread(device, 8, 0, 4))).toBe('EIO');
  });

  it('S2-21 memory that ends before the length does is EFAULT; a length that lies allocates nothing', () => {
    const { user, device } = at;
    command(2);
    const short = new Uint8Array(6);
    expect([said(user.pread(device, short, 0, 8)), viewOf(short).getUint32(0, true)]).toEqual(['EFAULT', 0x010000ed]);
    expect(said(user.pread(device, short, 0xffffc, 2 ** 40))).toBe(4);
    expect([said(user.pwrite(device, new Uint8Array(2), 4, 4)), said(user.pwrite(device, short, CONFIG + 252, 2 ** 40))]).toEqual([
      'EFAULT',
      'EFAULT',
    ]);
  });

  it('B.3 containers and groups cannot be read, written or mapped; an eventfd has no offsets', () => {
    const { user, container, group } = at;
    const event = user.eventfd();
    const bytes = new Uint8Array(8);
    for (const fd of [container, group]) {
      expect([
        said(user.read(fd, bytes)),
        said(user.write(fd, bytes)),
        said(user.pread(fd, bytes, 0)),
        said(user.pwrite(fd, bytes, 0)),
        said(user.mmap(PAGE, RW, MapFlags.SHARED, fd)),
      ]).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'ENODEV']);
    }
    expect([said(user.pread(event, bytes, 0)), said(user.mmap(PAGE, RW, MapFlags.SHARED, event))]).toEqual(['ESPIPE', 'ENODEV']);
    expect(['read', 'write'].map((call) => said(user[call as 'read'](99, bytes)))).toEqual(['EBADF', 'EBADF']);
  });
});

describe('eventfd', () => {
  it('S2-08 8 bytes in, 8 bytes out; less is EINVAL; poll says what is ready', () => {
    const { user } = at;
    const event = user.eventfd(3);
    const bytes = new Uint8Array(8);
    const poll = () => user.poll([{ fd: event, events: PollEvents.IN | PollEvents.OUT }]).events;
    expect([poll(), user.read(event, bytes), bytes[0], poll()]).toEqual([[5], 8, 3, [4]]);
    expect([
      said(user.read(event, bytes)),
      said(user.read(event, bytes, 7)),
      said(user.write(event, bytes, 7)),
      said(user.write(event, 8, 8)),
      said(user.write(event, new Uint8Array(8).fill(255))),
    ]).toEqual(['EAGAIN', 'EINVAL', 'EINVAL', 'EFAULT', 'EINVAL']);
    expect([said(user.eventfd(-1)), said(user.eventfd(0, 2)), said(user.eventfd(0, 1)), said(user.eventfd(2 ** 32))]).toEqual(
      new Array(4).fill('EINVAL'),
    );
    expect(user.poll([{ fd: 99, events: PollEvents.IN }])).toEqual({ ready: 1, events: [PollEvents.NVAL] });
  });
});

describe('mmap', () => {
  it('S2-37 loads and stores reach registers; SIGBUS while memory is disabled, back afterwards; SIGSEGV outside', () => {
    const { user, device } = at;
    const bar = user.mmap(2 * PAGE, RW, MapFlags.SHARED, device, 0);
    command(2);
    expect([user.load(bar, 4), user.store(bar + 4, 4, 1), user.load(bar + 4, 4)]).toEqual([0x010000ed, 0, 0xfffffffe]);
    command(0);
    expect([user.load(bar, 4), user.store(bar + 4, 4, 1), user.load(bar + 0x80, 8)]).toEqual(['SIGBUS', 'SIGBUS', 'SIGBUS']);
    command(2);
    expect([user.load(bar, 4), user.load(bar + 2 * PAGE, 4), user.store(bar - 4, 4, 0), user.load(Number.NaN, 4)]).toEqual([
      0x010000ed,
      'SIGSEGV',
      'SIGSEGV',
      'SIGSEGV',
    ]);
    const readOnly = user.mmap(PAGE, Prot.READ, MapFlags.SHARED, device, 0);
    expect([user.load(readOnly, 4), user.store(readOnly, 4, 0)]).toEqual([0x010000ed, 'SIGSEGV']);
  });

  it('S2-37 a mapping keeps the device open after close; munmap closes it', () => {
    const { user, device, group } = at;
    const bar = user.mmap(PAGE, RW, MapFlags.SHARED, device, 0);
    command(2);
    user.close(device);
    const { vfio } = guest.machine.function(EDU);
    expect([user.load(bar, 4), vfio!.openCount, said(user.ioctl(group, 0x3b69))]).toEqual([0x010000ed, 1, 'EBUSY']);
    expect([user.munmap(bar, PAGE), vfio!.openCount, user.load(bar, 4), said(user.ioctl(group, 0x3b69))]).toEqual([0, 0, 'SIGSEGV', 0]);
  });

  it.each([
    ['no length', [0, RW, MapFlags.SHARED, 0]],
    ['a length that is no number', [Number.NaN, RW, MapFlags.SHARED, 0]],
    ['2^53', [2 ** 53, RW, MapFlags.SHARED, 0]],
    ['an offset inside a page', [PAGE, RW, MapFlags.SHARED, 8]],
    ['neither shared nor private', [PAGE, RW, 0, 0]],
    ['private', [PAGE, RW, MapFlags.PRIVATE, 0]],
    ['past the end', [PAGE, RW, MapFlags.SHARED, 0x100000]],
    ['config space', [PAGE, RW, MapFlags.SHARED, CONFIG]],
    ['a BAR that is not there', [PAGE, RW, MapFlags.SHARED, REGION_OFFSET_STEP]],
    ['a region that does not exist', [PAGE, RW, MapFlags.SHARED, 9 * REGION_OFFSET_STEP]],
    ['an unknown protection', [PAGE, 8, MapFlags.SHARED, 0]],
  ] as const)('S2-40 mmap: %s is EINVAL', (_what, [length, prot, flags, offset]) => {
    expect(said(at.user.mmap(length, prot, flags, at.device, offset))).toBe('EINVAL');
    expect(guest.machine.function(EDU).vfio!.openCount).toBe(1);
  });

  it('S2-53 anonymous memory: load and store what its protection allows; whole areas are unmapped', () => {
    const { user } = at;
    const flags = MapFlags.PRIVATE | MapFlags.ANONYMOUS;
    const rw = user.mmap(PAGE + 1, RW, flags);
    const ro = user.mmap(PAGE, Prot.READ, flags);
    expect([user.store(rw + PAGE, 8, 2n ** 64n - 1n), user.load(rw + PAGE, 8), user.load(rw + PAGE, 1)]).toEqual([0, 2n ** 64n - 1n, 255]);
    expect([user.load(ro, 2), user.store(ro, 2, 1), user.load(rw + 2 * PAGE - 4, 8)]).toEqual([0, 'SIGSEGV', 'SIGSEGV']);
    expect([
      said(user.munmap(rw, PAGE)),
      said(user.munmap(rw + 1, PAGE)),
      said(user.munmap(rw, 0)),
      said(user.munmap(0x1000, PAGE)),
    ]).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 0]);
    expect([user.munmap(rw, PAGE + 1), user.load(rw, 1)]).toEqual([0, 'SIGSEGV']);
    expect([said(user.mmap(2 ** 50, RW, flags)), said(user.mmap(PAGE, RW, MapFlags.SHARED, 99))]).toEqual(['ENOMEM', 'EBADF']);
  });

  it('S2-37 a BAR of memory: loads, stores and pread see the same bytes', () => {
    const card = guest.open(CARD);
    const bar = card.user.mmap(0x4000, RW, MapFlags.SHARED, card.device, 2 * REGION_OFFSET_STEP);
    command(2, card);
    expect(card.user.store(bar + 0x10, 8, 0x1122334455667788n)).toBe(0);
    const bytes = new Uint8Array(4);
    card.user.pread(card.device, bytes, 2 * REGION_OFFSET_STEP + 0x14);
    expect(viewOf(bytes).getUint32(0, true)).toBe(0x11223344);
    card.user.exit();
    expect(guest.machine.function(CARD).host.barMemory(2).references).toBe(1);
  });
});

describe('exit', () => {
  it('S2-52 exit closes everything, mapped or not, once', () => {
    const nvme = guest.open(NVME);
    nvme.user.mmap(PAGE, RW, MapFlags.SHARED, nvme.device, 0);
    nvme.user.mmap(PAGE, RW, MapFlags.PRIVATE | MapFlags.ANONYMOUS);
    nvme.user.dup(nvme.device);
    nvme.user.eventfd();
    nvme.user.exit();
    nvme.user.exit();
    const { group, vfio } = guest.machine.function(NVME);
    expect([nvme.user.files.open, nvme.user.memory.areas, group!.file, group!.domain, vfio!.openCount]).toEqual([[], 0, null, null, 0]);
    expect(said(nvme.user.ioctl(nvme.device, 0x3b6b, 0))).toBe('EBADF');
  });

  it('B.7 unplug with forced revocation: calls give ENODEV, mappings SIGBUS, and closing still works', async () => {
    using impatient = new Guest({ params: { forceRevokeAfterMs: 1000 } });
    const opened = impatient.open(EDU);
    const bar = opened.user.mmap(PAGE, RW, MapFlags.SHARED, opened.device, 0);
    command(2, opened);
    const gone = impatient.machine.remove(EDU);
    impatient.clock.advance(1000);
    await gone;
    expect([
      said(opened.user.ioctl(opened.device, 0x3b6f)),
      said(opened.user.pread(opened.device, new Uint8Array(4), 0)),
      opened.user.load(bar, 4),
      said(opened.user.close(opened.device)),
      said(opened.user.munmap(bar, PAGE)),
    ]).toEqual(['ENODEV', 'ENODEV', 'SIGBUS', 0, 0]);
    expect(impatient.errors).toEqual([]);
  });
});

describe('our own bugs', () => {
  it('B.1 an error that is not a VfioError is EIO, with the stack in the log; nothing throws', () => {
    const broken = new Guest();
    broken.machine.openContainer = () => {
      throw new TypeError('something of ours');
    };
    const { user } = broken.subject(EDU);
    const before = user.files.open;
    expect([said(user.open('/dev/vfio/vfio')), user.files.open]).toEqual(['EIO', before]);
    expect(broken.errors).toEqual([expect.stringMatching(/bug behind open of process 100: TypeError: something of ours\n {4}at /)]);
  });
});
