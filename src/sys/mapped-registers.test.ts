import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { BusError } from '../abi/bus-error.ts';
import { Access } from '../abi/memory.ts';
import { Cleanup } from '../base/cleanup.ts';
import { addon, Sys } from './addon.ts';
import { addonFile } from './addon-file.ts';
import { KernelFile } from './kernel-file.ts';
import { MappedRegisters } from './mapped-registers.ts';
import { OwnedFd } from './owned-fd.ts';

/** Memory in the place of a device. Where its file is shortened, an access faults. */
function memory(size = 8192): { file: KernelFile; bytes: () => Uint8Array; shorten: (size: number) => void } & Disposable {
  const undo = new Cleanup();
  const file = undo.use(KernelFile.own(OwnedFd.own(addon().memfdCreate('registers', Sys.MFD_CLOEXEC), 'memory'), 'the device'));
  const shorten = (to: number): void => void addon().ftruncate(file.fd.number, to);
  shorten(size);
  const bytes = (): Uint8Array => {
    const all = new Uint8Array(size);
    file.pread(0, all);
    return all;
  };
  return { file, bytes, shorten, [Symbol.dispose]: () => undo[Symbol.dispose]() };
}

describe('house: mapped registers', () => {
  it('house: stores have exactly their width, at their place', () => {
    using device = memory();
    using registers = MappedRegisters.map(device.file, 4096, 4096, Access.READ_WRITE);
    registers.store8(1, 0x11);
    registers.store16(4, 0x2222);
    registers.store32(8, 0x8333_3333);
    registers.store64(16, 0xf444_4444_4444_4444n);
    expect(Buffer.from(device.bytes().subarray(4096, 4096 + 26)).toString('hex')).toBe(
      `0011000022220000${'33333383'}00000000${'44444444444444f4'}0000`,
    );
  });

  it('house: loads give what is there, without a sign', () => {
    using device = memory();
    using registers = MappedRegisters.map(device.file, 0, 8192, Access.READ_WRITE);
    device.file.pwrite(4096, Uint8Array.of(0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8));
    expect(registers.load8(4096)).toBe(0xf1);
    expect(registers.load16(4098)).toBe(0xf4f3);
    expect(registers.load32(4096)).toBe(0xf4f3_f2f1);
    expect(registers.load64(4096)).toBe(0xf8f7_f6f5_f4f3_f2f1n);
  });

  it('house: a fault is an error of this access, and the process goes on', () => {
    using device = memory();
    using registers = MappedRegisters.map(device.file, 0, 8192, Access.READ_WRITE);
    registers.store32(4096, 7);
    device.shorten(4096);
    for (const access of [
      () => registers.load8(4096),
      () => registers.load16(4096),
      () => registers.load32(4096),
      () => registers.load64(4096),
      () => registers.store8(4096, 1),
      () => registers.store16(4096, 1),
      () => registers.store32(4096, 1),
      () => registers.store64(4096, 1n),
    ]) {
      expect(access).toThrow(BusError);
    }
    expect(registers.load32(0)).toBe(0);
    device.shorten(8192);
    registers.store32(4096, 9);
    expect(registers.load32(4096)).toBe(9);
  });

  it('house: no offset and no value reaches other memory', () => {
    using device = memory();
    using registers = MappedRegisters.map(device.file, 0, 4096, Access.READ_WRITE);
    for (const offset of [-1, -4, 4096, 4093, 2 ** 32, 2 ** 53, 1e300, Number.NaN, Number.POSITIVE_INFINITY, 1.5, 2, '0', null, {}]) {
      expect(() => registers.load32(offset as number), String(offset)).toThrow(
        expect.objectContaining({ code: expect.stringMatching(/^(EINVAL|EFAULT)$/) as string }),
      );
      expect(() => registers.store32(offset as number, 1), String(offset)).toThrow();
      expect(() => registers.store64(offset as number, 1n), String(offset)).toThrow();
    }
    expect(() => registers.store64(0, -1n)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => registers.store64(0, 2n ** 64n)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => registers.store32(0, 'x' as never)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(device.bytes().every((byte) => byte === 0)).toBe(true);
  });

  it('house: an access that the mapping does not allow is EACCES', () => {
    using device = memory();
    using readOnly = MappedRegisters.map(device.file, 0, 4096, Access.READ);
    expect(readOnly.load32(0)).toBe(0);
    expect(() => readOnly.store32(0, 1)).toThrow(expect.objectContaining({ code: 'EACCES' }));
    expect(() => readOnly.store64(0, 1n)).toThrow(expect.objectContaining({ code: 'EACCES' }));
    using writeOnly = MappedRegisters.map(device.file, 0, 4096, Access.WRITE);
    writeOnly.store32(0, 5);
    expect(() => writeOnly.load32(0)).toThrow(expect.objectContaining({ code: 'EACCES' }));
    expect(readOnly.load32(0)).toBe(5);
  });

  it('house: a disposed mapping is an error, also when another mapping has its number', () => {
    using device = memory();
    const first = MappedRegisters.map(device.file, 0, 4096, Access.READ_WRITE);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    using second = MappedRegisters.map(device.file, 0, 4096, Access.READ_WRITE);
    second.store32(0, 3);
    expect(() => first.load32(0)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    expect(() => first.store32(0, 4)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    expect(second.load32(0)).toBe(3);
  });

  it('house: a mapping outlives the file, and many are there at once', () => {
    const device = memory();
    const all = Array.from({ length: 40 }, () => MappedRegisters.map(device.file, 0, 8192, Access.READ_WRITE));
    device[Symbol.dispose]();
    all[7]!.store32(8, 77);
    expect(all.map((each) => each.load32(8))).toEqual(all.map(() => 77));
    expect(new Set(all.map((each) => each.address)).size).toBe(40);
    for (const each of all) each[Symbol.dispose]();
  });

  it('house: a thread that ends unmaps its registers', async () => {
    const mapped = () => readFileSync('/proc/self/maps', 'utf8').split('memfd:of-a-thread').length - 1;
    const code = `
      const { workerData, parentPort } = require('node:worker_threads');
      const module_ = { exports: {} };
      process.dlopen(module_, workerData);
      const sys = module_.exports;
      const fd = sys.memfdCreate('of-a-thread', 1);
      sys.ftruncate(fd, 4096);
      for (let i = 0; i < 20; i++) sys.registersMap(fd, 0, 4096, 3);
      sys.store32(19, 0, 7);
      parentPort.postMessage(sys.load32(0, 0));
      setInterval(() => {}, 1000);`;
    const worker = new Worker(code, { eval: true, workerData: addonFile() });
    expect(await new Promise((resolve) => worker.once('message', resolve))).toBe(7);
    expect(mapped()).toBe(20);
    await worker.terminate();
    expect(mapped()).toBe(0);
  });

  it('house: a file that cannot be mapped names itself and the errno', () => {
    using file = KernelFile.open('/dev/null');
    expect(() => MappedRegisters.map(file, 0, 4096, Access.READ)).toThrow(
      expect.objectContaining({ code: 'ENODEV', message: expect.stringContaining('/dev/null') as string }),
    );
    expect(() => MappedRegisters.map(file, 0, 0, Access.READ)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => MappedRegisters.map(file, -4096, 4096, Access.READ)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });
});
