import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openDescriptors } from '../../tests/kit/open-descriptors.ts';
import { Access } from '../abi/memory.ts';
import { ManualClock } from '../base/clock.ts';
import { EventFd } from './eventfd.ts';
import { MemfdMemory } from './memfd.ts';
import { OwnedFd } from './owned-fd.ts';
import { PeerFiles } from './peer-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-files-'));
afterAll(() => rmSync(folder, { recursive: true }));

const make = (size: number) => MemfdMemory.allocate(size) as MemfdMemory;

describe('files of a peer', () => {
  it('are mapped once, whole, and known again by any descriptor of theirs', () => {
    const files = new PeerFiles(2 ** 30);
    using memory = make(0x8000);
    const first = files.range(memory.duplicateFd(), 0x1000, 0x1000, Access.READ_WRITE);
    first.memory.get();
    files.settle();
    const second = files.range(memory.duplicateFd(), 0x5000, 0x3000, Access.READ);
    files.settle();
    expect([second.memory === first.memory, second.offset, second.file === first.file]).toEqual([true, 0x5000, true]);
    using fd = memory.duplicateFd();
    expect(files.identify(fd)).toBe(first.file);
    first.memory.put();
    expect(files.identify(fd)).toBe(0);
  });

  it('stay mapped for a moment after their last use, for the next use', () => {
    const before = openDescriptors();
    const clock = new ManualClock();
    const files = new PeerFiles(2 ** 30, { clock });
    using memory = make(0x8000);
    const use = () => {
      const { memory: mapped } = files.range(memory.duplicateFd(), 0, 0x1000, Access.READ_WRITE);
      mapped.get();
      files.settle();
      mapped.put();
      files.unused();
      return mapped;
    };
    expect(use()).toBe(use());
    expect(clock.pendingTimers).toBe(1);
    clock.advance(100);
    expect([files.known, clock.pendingTimers, openDescriptors()]).toEqual([0, 0, before + 1]);
  });

  it('that are not in use make room for others at once', () => {
    const files = new PeerFiles(0x8000, { clock: new ManualClock() });
    for (let i = 0; i < 20; i++) {
      using memory = make(0x6000);
      const { memory: mapped } = files.range(memory.duplicateFd(), 0, 0x1000, Access.READ_WRITE);
      mapped.get();
      files.settle();
      mapped.put();
      files.unused();
    }
    expect(files.known).toBe(1);
    files[Symbol.dispose]();
  });

  it('go with the peer, but for memory that is in use', () => {
    const clock = new ManualClock();
    const files = new PeerFiles(2 ** 30, { clock });
    using one = make(0x1000);
    using other = make(0x1000);
    const [used, unused] = [one, other].map((memory) => {
      const range = files.range(memory.duplicateFd(), 0, 0x1000, Access.READ_WRITE);
      range.memory.get();
      files.settle();
      return range.memory;
    });
    unused!.put();
    files.unused();
    files[Symbol.dispose]();
    expect([used!.references, unused!.references, clock.pendingTimers]).toEqual([1, 0, 0]);
    used!.put();
  });

  it('settle drops memory that was not taken after all', () => {
    const before = openDescriptors();
    const files = new PeerFiles(2 ** 30);
    using memory = make(0x1000);
    const range = files.range(memory.duplicateFd(), 0, 0x1000, Access.READ_WRITE);
    expect(range.memory.references).toBe(1);
    files.settle();
    expect(range.memory.references).toBe(0);
    expect(openDescriptors()).toBe(before + 1);
  });

  it('one that has grown, or is to be written now, is mapped anew and is the same file', () => {
    const path = join(folder, 'grows');
    const number = openSync(path, 'w+');
    ftruncateSync(number, 0x2000);
    const files = new PeerFiles(2 ** 30, { anyFile: true });
    const take = (offset: number, access: Access) => {
      const range = files.range(OwnedFd.duplicate(number), offset, 0x1000, access);
      range.memory.get();
      files.settle();
      return range;
    };
    const small = take(0x1000, Access.READ);
    const written = take(0x1000, Access.READ_WRITE);
    ftruncateSync(number, 0x4000);
    const grown = take(0x3000, Access.READ_WRITE);
    expect(new Set([small.memory, written.memory, grown.memory]).size).toBe(3);
    expect(new Set([small.file, written.file, grown.file]).size).toBe(1);
    expect(take(0x1000, Access.READ).memory).toBe(small.memory);
    for (const { memory } of [small, written, grown, small]) memory.put();
    closeSync(number);
  });

  it.each(['/proc/self/status', '/dev/zero', '/dev/null', process.execPath, '/sys/kernel/mm', '/'])(
    '%s is no memory: refused before it is looked at, unless any file is allowed',
    (path) => {
      const open = () => {
        const number = openSync(path, 'r');
        const fd = OwnedFd.duplicate(number);
        closeSync(number);
        return fd;
      };
      const memory = new PeerFiles(2 ** 30);
      expect(() => memory.range(open(), 0, 0x1000, Access.READ)).toThrow(/no memory \(memfd, tmpfs, hugetlbfs\)/);
      using fd = open();
      expect(memory.identify(fd)).toBe(0);
      const any = new PeerFiles(2 ** 30, { anyFile: true });
      if (path !== process.execPath) expect(() => any.range(open(), 0, 0x1000, Access.READ)).toThrow(/not memory|of a file of 0 bytes/);
      else expect(any.range(open(), 0, 0x1000, Access.READ).memory.size).toBeGreaterThan(0x1000);
      any.settle();
    },
  );

  it('bytes without pages are counted once, over all time, and those that the peer has filled are not', () => {
    const files = new PeerFiles(2 ** 30, { maxSparseBytes: 0x8000 });
    const once = (memory: MemfdMemory, offset: number, size: number) => {
      files.range(memory.duplicateFd(), offset, size, Access.READ_WRITE);
      files.settle();
    };
    using sparse = make(0x6000);
    // The file is unmapped in between, and is recognized all the same.
    for (let i = 0; i < 5; i++) once(sparse, 0, 0x6000);
    using filled = make(0x10000);
    filled.windows[0]!.fill(1);
    once(filled, 0, 0x10000);
    using half = make(0x8000);
    half.windows[0]!.fill(1, 0, 0x6000);
    once(half, 0x6000, 0x2000);
    using more = make(0x1000);
    const before = openDescriptors();
    expect(() => once(more, 0, 0x1000)).toThrow(/4096 bytes that have no pages, after 32768 before/);
    expect(openDescriptors()).toBe(before);
    more.windows[0]![0] = 1;
    once(more, 0, 0x1000);
  });

  it('a peer that gives a little at a time, again and again, gets no further', () => {
    const files = new PeerFiles(2 ** 30, { maxSparseBytes: 0x10000 });
    let taken = 0;
    const kept: MemfdMemory[] = [];
    const give = () => {
      const memory = make(0x1000);
      kept.push(memory);
      const { memory: mapped } = files.range(memory.duplicateFd(), 0, 0x1000, Access.READ_WRITE);
      mapped.windows[0]![0] = 1;
      files.settle();
      taken += 0x1000;
    };
    expect(() => {
      for (;;) give();
    }).toThrow(/have no pages/);
    expect(taken).toBe(0x10000);
    for (const memory of kept) memory[Symbol.dispose]();
  });

  it('what cannot be mapped is refused, its descriptor closed', () => {
    const files = new PeerFiles(0x4000);
    using memory = make(0x2000);
    using large = make(0x8000);
    using event = EventFd.create();
    const before = openDescriptors();
    for (const [fd, offset, size, code] of [
      [memory.duplicateFd(), 0x2000, 0x1000, 'EINVAL'],
      [memory.duplicateFd(), 0x1000, 0x2000, 'EINVAL'],
      [memory.duplicateFd(), 0x800, 0x1000, 'EINVAL'],
      [event.duplicateFd(), 0, 0x1000, 'EINVAL'],
      [large.duplicateFd(), 0, 0x1000, 'ENOMEM'],
    ] as const) {
      expect(() => files.range(fd, offset, size, Access.READ)).toThrow(expect.objectContaining({ code }));
      files.settle();
    }
    expect(openDescriptors()).toBe(before);
  });

  it('many that came and went are forgotten, and count for nothing', () => {
    const files = new PeerFiles(0x4000);
    for (let i = 0; i < 500; i++) {
      using memory = make(0x3000);
      files.range(memory.duplicateFd(), 0, 0x3000, Access.READ_WRITE);
      files.settle();
    }
    expect(files.known).toBeLessThan(100);
  });
});
