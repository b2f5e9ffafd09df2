import { constants, existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { addon, Sys } from './addon.ts';
import { EventFd } from './eventfd.ts';
import { addressOf, descriptorBytes, KernelFile } from './kernel-file.ts';
import { MemfdMemory } from './memfd.ts';

/** asm-generic/ioctls.h: FIONREAD writes a 32-bit number. */
const FIONREAD = 0x541b;
/** Unlock the other end of a pseudoterminal, and open it. */
const [TIOCSPTLCK, TIOCGPTPEER] = [0x4004_5431, 0x5441];

describe('house: a file of the kernel', () => {
  it('house: answers the errno of open, with the path', () => {
    expect(() => KernelFile.open('/dev/no-such-file')).toThrow(
      expect.objectContaining({ code: 'ENOENT', message: expect.stringContaining('/dev/no-such-file') as string }),
    );
  });

  it('house: answers -errno of an ioctl that the file does not know', () => {
    using file = KernelFile.open('/dev/null');
    expect(file.ioctl(0x3b64, 0)).toBe(-25);
    expect(file.ioctl(0x3b64, new Uint8Array(8))).toBe(-25);
  });

  it('house: an ioctl writes into the bytes of a structure', () => {
    using memory = MemfdMemory.allocate(4096);
    using file = KernelFile.own(memory.duplicateFd(), 'memory');
    const bytes = new Uint8Array(4);
    expect(file.ioctl(FIONREAD, bytes)).toBe(0);
    expect(new DataView(bytes.buffer).getInt32(0, true)).toBe(4096);
  });

  it.skipIf(!existsSync('/dev/ptmx'))(
    'house: an ioctl whose result is a descriptor gives a file, or -errno (skipped without /dev/ptmx)',
    () => {
      using terminal = KernelFile.open('/dev/ptmx');
      expect(terminal.ioctl(TIOCSPTLCK, new Uint8Array(4))).toBe(0);
      const peer = terminal.ioctlFile(TIOCGPTPEER, constants.O_RDWR | constants.O_NOCTTY, 'the other end');
      if (typeof peer === 'number') throw new Error(`no descriptor: ${peer}`);
      using _peer = peer;
      expect(peer.path).toBe('the other end');
      expect(peer.pwrite(0, Uint8Array.of(65))).toBe(-29);
      using other = KernelFile.open('/dev/null');
      expect(other.ioctlFile(TIOCGPTPEER, 0, 'the other end')).toBe(-25);
    },
  );

  it('house: reads and writes at places, and says how many bytes there were', () => {
    using memory = MemfdMemory.allocate(4096);
    using file = KernelFile.own(memory.duplicateFd(), 'memory');
    expect(file.pwrite(4090, Uint8Array.of(1, 2, 3, 4))).toBe(4);
    const into = new Uint8Array(8);
    expect(file.pread(4090, into)).toBe(6);
    expect([...into]).toEqual([1, 2, 3, 4, 0, 0, 0, 0]);
    expect(file.pread(7 * 2 ** 40, into)).toBe(0);
    expect(file.pwrite(7 * 2 ** 40, into)).toBe(-1);
  });

  it('house: is closed once, and EBADF afterwards', () => {
    const file = KernelFile.open('/dev/null');
    file[Symbol.dispose]();
    file[Symbol.dispose]();
    expect(() => file.ioctl(0, 0)).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });

  it('house: a program that this process starts does not get it', () => {
    using file = KernelFile.open('/dev/null');
    const getFlags = 1;
    expect(addon().fcntl(file.fd.number, getFlags, 0)).toBe(Sys.FD_CLOEXEC);
  });
});

describe('house: bytes of structures', () => {
  it('house: the address of memory is where the kernel finds it', () => {
    using memory = MemfdMemory.allocate(8192);
    const [window] = memory.windows;
    expect(addressOf(window!.subarray(4096)) - addressOf(window!)).toBe(4096n);
    expect(addressOf(window!) % 4096n).toBe(0n);
    expect(addressOf(new Uint8Array(0))).toBe(0n);
    expect(() => addressOf(new Uint16Array(4) as never)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('house: a small array keeps its address', () => {
    const small = Uint8Array.of(1, 2, 3);
    const address = addressOf(small);
    const other = Array.from({ length: 1000 }, () => new Uint8Array(64).fill(7));
    expect(other).toHaveLength(1000);
    expect(addressOf(small)).toBe(address);
  });

  it('house: numbers of descriptors are 32 bits each, -1 for none', () => {
    using event = EventFd.create();
    using owned = event.duplicateFd();
    const bytes = descriptorBytes([event, null, owned]);
    expect([...new Int32Array(bytes.buffer)]).toEqual([event.number, -1, owned.number]);
    owned[Symbol.dispose]();
    expect(() => descriptorBytes([owned])).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });
});
