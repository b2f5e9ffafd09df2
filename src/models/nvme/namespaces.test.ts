import { describe, expect, it } from 'vitest';
import { TestIo } from '../../../tests/kit/nvme/test-io.ts';
import { TestStorage } from '../../../tests/kit/nvme/test-storage.ts';
import { NSID_ALL, NvmOpcode } from '../../abi/nvme.ts';
import { Status, StatusBit } from '../../abi/nvme-status.ts';
import { IdentifyNamespace } from '../../abi/nvme-structs.ts';
import { Errno } from '../../base/errno.ts';
import { MemoryStorage } from '../storage/memory-storage.ts';
import type { NamespaceOptions } from './namespace.ts';
import { Namespaces } from './namespaces.ts';

const DNR = StatusBit.DO_NOT_RETRY;
const MIB = 2 ** 20;

function identify(namespaces: Namespaces, nsid = 1) {
  const bytes = new Uint8Array(4096);
  namespaces.get(nsid)!.identify(bytes);
  return IdentifyNamespace.decode(new DataView(bytes.buffer));
}

describe('NVMe 1.4 5.15.2.1 Identify Namespace', () => {
  it.each([
    [512, 0, 2048n, 7],
    [4096, 1, 256n, 0],
  ] as const)('blocks of %i bytes', (blockSize, flbas, nsze, granule) => {
    using namespaces = new Namespaces([{ storage: new MemoryStorage(MIB + 511), blockSize }]);
    const id = identify(namespaces);
    expect(id).toMatchObject({ nsze, ncap: nsze, nuse: 0n, flbas, nlbaf: 1, dlfeat: 9, mc: 0, dpc: 0, dps: 0, nsattr: 0, noiob: 0 });
    expect([id.npwg, id.npwa, id.npdg, id.npda]).toEqual([granule, granule, granule, granule]);
    expect(id.lbaf.map((f) => (f >> 16) & 0xff)).toEqual([9, 12, ...new Array(14).fill(0)]);
    expect(id.nguid.every((b) => b === 0)).toBe(true);
    expect(id.nvmcap).toBe(BigInt(MIB + 511));
  });

  it('NUSE is what the storage holds', () => {
    const storage = new MemoryStorage(MIB);
    using namespaces = new Namespaces([{ storage, blockSize: 4096 }]);
    storage.write(0, new Uint8Array(1).fill(1));
    expect(identify(namespaces).nuse).toBe(16n);
  });

  it('NSATTR says that it cannot be written', () => {
    const storage = new TestStorage(MIB);
    storage.readOnly = true;
    using namespaces = new Namespaces([{ storage }]);
    expect(identify(namespaces).nsattr).toBe(1);
  });

  it('NGUID and EUI64 are given as they are, and as descriptors (5.15.2.4)', () => {
    const nguid = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
    const eui64 = Uint8Array.from({ length: 8 }, (_, i) => 0x80 + i);
    using namespaces = new Namespaces([{ storage: new MemoryStorage(MIB), nguid, eui64 }, { storage: new MemoryStorage(MIB) }]);
    expect(identify(namespaces)).toMatchObject({ nguid, eui64 });
    const bytes = new Uint8Array(4096);
    namespaces.get(1)!.descriptors(bytes);
    expect([...bytes.subarray(0, 36)]).toEqual([1, 8, 0, 0, ...eui64, 2, 16, 0, 0, ...nguid, 0, 0, 0, 0]);
    bytes.fill(0);
    namespaces.get(2)!.descriptors(bytes);
    expect(bytes.every((b) => b === 0)).toBe(true);
  });
});

it('NVMe 1.4 5.15.2.3 the active list: those above the NSID given, in order', () => {
  using namespaces = new Namespaces([1, 2, 3].map(() => ({ storage: new MemoryStorage(MIB) })));
  const active = (after: number) => {
    const bytes = new Uint8Array(4096);
    namespaces.active(after, bytes);
    return [...new Uint32Array(bytes.buffer)].filter((nsid) => nsid !== 0);
  };
  expect([active(0), active(1), active(3)]).toEqual([[1, 2, 3], [2, 3], []]);
  expect([namespaces.count, namespaces.capacity, namespaces.vwc]).toEqual([3, 3n * 1048576n, 6]);
});

describe('NVMe 1.4 5.23 Format NVM', () => {
  it('changes the block size, zeroes the contents, and says so', () => {
    const storage = new MemoryStorage(MIB);
    using io = new TestIo([{ storage }]);
    const told: number[] = [];
    io.namespaces.onChanged = (nsid) => void told.push(nsid);
    io.memory.bytes.fill(0xee, 0, 512);
    io.write(0, 1, 0);
    const statuses: number[] = [];
    io.namespaces.format(1, 1, (status) => void statuses.push(status));
    expect(statuses).toEqual([Status.SUCCESS]);
    expect(identify(io.namespaces)).toMatchObject({ nsze: 256n, nuse: 0n, flbas: 1 });
    expect(storage.allocated()).toBe(0);
    expect(told).toEqual([1]);
    expect(io.namespaces.takeChanged()).toEqual([1]);
    expect(io.namespaces.takeChanged()).toEqual([]);
    expect(io.read(255, 1, 0)).toBe(Status.SUCCESS);
    expect(io.read(256, 1, 0)).toBe(Status.LBA_OUT_OF_RANGE | DNR);
    expect(io.memory.bytes.subarray(0, 4096).every((b) => b === 0)).toBe(true);
  });

  it('commands meanwhile: Format In Progress; those under way before end first', () => {
    const storage = new TestStorage(MIB);
    using io = new TestIo([{ storage }]);
    io.start({ opcode: NvmOpcode.WRITE });
    const statuses: number[] = [];
    io.namespaces.format(1, 1, (status) => void statuses.push(status));
    expect(storage.underWay.map((o) => o.kind)).toEqual(['write']);
    expect(io.status({ opcode: NvmOpcode.READ })).toBe(Status.FORMAT_IN_PROGRESS);
    storage.underWay[0]!.end();
    expect(storage.underWay.map((o) => [o.kind, o.size])).toEqual([['zero', MIB]]);
    storage.underWay[0]!.end();
    expect(storage.underWay.map((o) => o.kind)).toEqual(['flush']);
    expect(statuses).toEqual([]);
    io.namespaces.format(1, 0, (status) => void statuses.push(status));
    expect(statuses).toEqual([Status.FORMAT_IN_PROGRESS]);
    storage.endAll();
    expect(statuses).toEqual([Status.FORMAT_IN_PROGRESS, Status.SUCCESS]);
    expect(io.namespaces.get(1)!.blockSize).toBe(4096);
    expect(io.idle).toBe(true);
  });

  it('of all with FFFFFFFFh: reported when the last is done, with the first error', () => {
    const storages = [new TestStorage(MIB), new TestStorage(MIB)];
    using io = new TestIo(storages.map((storage) => ({ storage })));
    const statuses: number[] = [];
    io.namespaces.format(NSID_ALL, 1, (status) => void statuses.push(status));
    storages[0]!.underWay[0]!.end(-Errno.EIO);
    expect(statuses).toEqual([]);
    storages[1]!.endAll();
    expect(statuses).toEqual([Status.WRITE_FAULT]);
    expect([1, 2].map((nsid) => io.namespaces.get(nsid)!.blockSize)).toEqual([512, 4096]);
    expect(io.namespaces.takeChanged()).toEqual([2]);
  });

  it('an error of the storage is reported as one of a write: a full disk, Capacity Exceeded', () => {
    const storage = new TestStorage(MIB);
    using io = new TestIo([{ storage }]);
    const statuses: number[] = [];
    io.namespaces.format(1, 1, (status) => void statuses.push(status));
    storage.underWay[0]!.end(-Errno.ENOSPC);
    io.namespaces.format(1, 1, (status) => void statuses.push(status));
    storage.underWay[0]!.end();
    storage.underWay[0]!.end(-Errno.EIO);
    expect(statuses).toEqual([Status.CAPACITY_EXCEEDED, Status.WRITE_FAULT]);
    expect(io.namespaces.get(1)!.blockSize).toBe(512);
  });

  it('what is refused changes nothing', () => {
    const readOnly = new TestStorage(MIB);
    readOnly.readOnly = true;
    using namespaces = new Namespaces([{ storage: new MemoryStorage(2048) }, { storage: readOnly }]);
    const status = (nsid: number, index: number) => {
      let told = -1;
      namespaces.format(nsid, index, (s) => {
        told = s;
      });
      return told;
    };
    expect(status(1, 2)).toBe(Status.INVALID_FORMAT | DNR);
    expect(status(1, 1)).toBe(Status.INVALID_FORMAT | DNR);
    expect(status(2, 0)).toBe(Status.WRITE_PROTECTED | DNR);
    for (const nsid of [0, 3, 0xffff_fffe]) expect(status(nsid, 0)).toBe(Status.INVALID_NAMESPACE | DNR);
    expect(namespaces.takeChanged()).toEqual([]);
  });

  it('reset: one that has begun goes on and is not reported, one that waits is forgotten', () => {
    const storage = new TestStorage(MIB);
    using io = new TestIo([{ storage }]);
    const told: number[] = [];
    io.namespaces.format(1, 1, (status) => void told.push(status));
    io.namespaces.reset();
    expect(io.status({ opcode: NvmOpcode.READ })).toBe(Status.FORMAT_IN_PROGRESS);
    storage.endAll();
    expect(io.namespaces.get(1)!.blockSize).toBe(4096);
    io.start({ opcode: NvmOpcode.WRITE });
    io.namespaces.format(1, 0, (status) => void told.push(status));
    io.commands.reset();
    io.namespaces.reset();
    storage.endAll();
    expect(io.namespaces.get(1)!.blockSize).toBe(4096);
    expect(told).toEqual([]);
    io.start({ opcode: NvmOpcode.READ });
    storage.endAll();
    expect(io.completed.at(-1)![1]).toBe(Status.SUCCESS);
  });
});

it('a namespace that cannot be is refused, and nothing stays open', () => {
  const storage = new TestStorage(MIB);
  const wrong: NamespaceOptions[] = [
    { storage, blockSize: 1024 as 512 },
    { storage: new MemoryStorage(511) },
    { storage: new MemoryStorage(4095), blockSize: 4096 },
    { storage, nguid: new Uint8Array(8) },
    { storage, eui64: new Uint8Array(16) },
    { storage, limits: { iops: 0 } },
    { storage, limits: { bytesPerSecond: Number.NaN } },
    { storage, limits: { latencyMs: -1 } },
  ];
  for (const options of wrong) expect(() => new Namespaces([{ storage }, options])).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  expect(() => new Namespaces(new Array(1025).fill({ storage }))).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  expect(storage.queues).toBe(0);
});

it('dispose waits for what is under way, and leaves the storage', () => {
  const storage = new TestStorage(MIB);
  const io = new TestIo([{ storage }]);
  io.memory.bytes.fill(0xee, 0, 512);
  io.start({ opcode: NvmOpcode.WRITE });
  io[Symbol.dispose]();
  expect(storage.underWay).toEqual([]);
  expect(storage.queues).toBe(0);
  expect(storage.bytes[0]).toBe(0xee);
  expect(io.completed).toEqual([]);
});
