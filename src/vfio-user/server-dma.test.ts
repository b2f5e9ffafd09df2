import { describe, expect, it } from 'vitest';
import type { ScriptedModel } from '../../tests/kit/device-rig.ts';
import { openDescriptors } from '../../tests/kit/open-descriptors.ts';
import { clientMemory, type RawClient, ServerRig, type ServerRigOptions, settle } from '../../tests/kit/vfio-user-rig.ts';
import { Dma } from '../abi/device-host.ts';
import { HeaderFlags } from '../abi/vfio-user.ts';
import { EventFd } from '../sys/eventfd.ts';
import type { MemfdMemory } from '../sys/memfd.ts';
import * as m from './messages.ts';
import { Command } from './messages.ts';

const IOVA = 0x10_0000n;

async function attached(options: ServerRigOptions = {}) {
  const rig = new ServerRig(options);
  const { client, session } = await rig.attach();
  const { dma } = (rig.rig.model as ScriptedModel).host;
  return { rig, client, session, dma, [Symbol.dispose]: () => rig[Symbol.dispose]() };
}

interface Map {
  readonly address?: bigint;
  readonly size?: bigint;
  readonly offset?: bigint;
  readonly flags?: number;
  readonly memory?: MemfdMemory;
}

async function map(client: RawClient, { address = IOVA, size = 0x1000n, offset = 0n, flags = 3, memory }: Map): Promise<string | null> {
  using fd = memory?.duplicateFd();
  return client.errnoOf(Command.DMA_MAP, m.encodeDmaMap({ address, size, offset, flags }), fd === undefined ? {} : { fds: [fd] });
}

const unmap = (client: RawClient, address = IOVA, size = 0x1000n, flags = 0) =>
  client.errnoOf(Command.DMA_UNMAP, m.encodeDmaUnmap({ address, size, flags }));

describe('memory that comes as a descriptor', () => {
  it('can be unmapped with its descriptor, as SPDK does, which is closed', async () => {
    using at = await attached();
    using memory = clientMemory(0x1000);
    await map(at.client, { memory });
    const before = openDescriptors();
    using fd = memory.duplicateFd();
    const request = m.encodeDmaUnmap({ address: IOVA, size: 0x1000n, flags: 0 });
    expect(await at.client.errnoOf(Command.DMA_UNMAP, request, { fds: [fd] })).toBeNull();
    fd[Symbol.dispose]();
    expect(openDescriptors()).toBeLessThanOrEqual(before);
    using one = memory.duplicateFd();
    using two = memory.duplicateFd();
    expect(await at.client.errnoOf(Command.DMA_UNMAP, request, { fds: [one, two] })).toBe('EINVAL');
  });

  it('is reached at once, both ways, from its offset on', async () => {
    using at = await attached();
    using memory = clientMemory(0x4000);
    memory.windows[0]!.fill(7, 0x1000, 0x2000);
    expect(await map(at.client, { memory, offset: 0x1000n, size: 0x2000n })).toBeNull();
    const bytes = new Uint8Array(4);
    expect([at.dma.tryRead(IOVA, bytes), [...bytes]]).toEqual([Dma.DONE, [7, 7, 7, 7]]);
    expect(at.dma.tryWrite(IOVA + 0x1ffen, Uint8Array.of(1, 2))).toBe(Dma.DONE);
    expect([...memory.windows[0]!.subarray(0x2ffc, 0x3002)]).toEqual([0, 0, 1, 2, 0, 0]);
  });

  it('is not reached past what was mapped, though the file goes on', async () => {
    using at = await attached();
    using memory = clientMemory(0x4000);
    await map(at.client, { memory, offset: 0x1000n });
    for (const [iova, size] of [
      [IOVA - 1n, 1],
      [IOVA + 0x1000n, 1],
      [IOVA + 0xfffn, 2],
      [IOVA, 0x1001],
    ] as const) {
      expect(at.dma.tryRead(iova, new Uint8Array(size))).toBe(Dma.FAULT);
      expect(at.dma.tryWrite(iova, new Uint8Array(size))).toBe(Dma.FAULT);
    }
    expect(at.dma.view(IOVA, 0x1001, 1)).toBeNull();
  });

  it('keeps to the access of the mapping', async () => {
    using at = await attached();
    using memory = clientMemory(0x2000);
    await map(at.client, { memory, flags: 1 });
    await map(at.client, { memory, flags: 2, offset: 0x1000n, address: IOVA + 0x1000n });
    const reach = (iova: bigint) => [at.dma.tryRead(iova, new Uint8Array(1)), at.dma.tryWrite(iova, new Uint8Array(1))];
    expect([reach(IOVA), reach(IOVA + 0x1000n)]).toEqual([
      [Dma.DONE, Dma.FAULT],
      [Dma.FAULT, Dma.DONE],
    ]);
  });

  it('sees what the client writes to memory that the device may only read', async () => {
    using at = await attached();
    using memory = clientMemory(0x1000);
    await map(at.client, { memory, flags: 1 });
    const bytes = new Uint8Array(1);
    for (const value of [1, 2]) {
      memory.windows[0]![5] = value;
      at.dma.tryRead(IOVA + 5n, bytes);
      expect(bytes[0]).toBe(value);
    }
  });

  it.each([
    ['past the end of the file', { offset: 0x4000n }, 'EINVAL'],
    ['across its end', { offset: 0x3000n, size: 0x2000n }, 'EINVAL'],
    ['at an offset inside a page', { offset: 0x800n }, 'EINVAL'],
    ['at the last offset', { offset: 2n ** 64n - 0x1000n }, 'EINVAL'],
    ['with libvfio-user flags', { flags: 7 }, null],
    ['to be read and written as a file', { flags: 11 }, null],
  ])('%s', async (_, request, errno) => {
    using at = await attached();
    using memory = clientMemory(0x4000);
    const before = openDescriptors();
    expect(await map(at.client, { memory, ...request })).toBe(errno);
    if (errno !== null) expect([openDescriptors(), at.session.mappings]).toEqual([before, 0]);
  });

  it('what is no memory is EINVAL, two descriptors too, and nothing stays open', async () => {
    using at = await attached();
    using event = EventFd.create();
    using memory = clientMemory(0x1000);
    using one = event.duplicateFd();
    using other = memory.duplicateFd();
    const before = openDescriptors();
    const request = m.encodeDmaMap({ address: IOVA, size: 0x1000n, offset: 0n, flags: 3 });
    expect(await at.client.errnoOf(Command.DMA_MAP, request, { fds: [one] })).toBe('EINVAL');
    expect(await at.client.errnoOf(Command.DMA_MAP, request, { fds: [other, other] })).toBe('EINVAL');
    expect(openDescriptors()).toBe(before);
  });

  it('many ranges of one file take one descriptor and one mapping of this process', async () => {
    using at = await attached({ params: { dmaEntryLimit: 2 ** 20 } });
    using memory = clientMemory(0x100_0000);
    const before = openDescriptors();
    for (let i = 0; i < 4096; i++) {
      const address = IOVA + BigInt(i) * 0x2000n;
      expect(await map(at.client, { memory, address, offset: BigInt(i) * 0x1000n })).toBeNull();
    }
    expect(at.session.mappings).toBe(4096);
    expect(openDescriptors()).toBeLessThanOrEqual(before + 1);
    expect(await unmap(at.client, 0n, 0n, 2)).toBeNull();
    expect(at.session.mappings).toBe(0);
    at.rig.rig.clock.advance(100);
    expect(openDescriptors()).toBe(before);
  });
});

describe('mapping once more', () => {
  it('as it stands is no error and changes nothing; anything else over it is EEXIST', async () => {
    using at = await attached();
    using memory = clientMemory(0x4000);
    using other = clientMemory(0x4000);
    expect(await map(at.client, { memory, offset: 0x1000n })).toBeNull();
    expect(await map(at.client, { memory, offset: 0x1000n })).toBeNull();
    expect(at.session.mappings).toBe(1);
    for (const request of [
      { memory, offset: 0n },
      { memory, offset: 0x1000n, flags: 1 },
      { memory, offset: 0x1000n, size: 0x2000n },
      { memory: other, offset: 0x1000n },
      {},
      { memory, offset: 0x1000n, address: IOVA - 0x1000n, size: 0x2000n },
    ]) {
      expect(await map(at.client, request)).toBe('EEXIST');
    }
    await unmap(at.client);
    expect(await map(at.client, {})).toBeNull();
    expect(await map(at.client, {})).toBeNull();
    expect(await map(at.client, { memory })).toBe('EEXIST');
  });
});

describe('unmapping', () => {
  it('takes whole mappings; the device cannot reach them when it is answered, and a moment later nothing is left', async () => {
    using at = await attached();
    const before = openDescriptors();
    const memory = clientMemory(0x4000);
    await map(at.client, { memory, size: 0x2000n });
    await map(at.client, { memory, size: 0x1000n, address: IOVA + 0x2000n, offset: 0x2000n });
    for (const [address, size] of [
      [IOVA, 0x1000n],
      [IOVA + 0x1000n, 0x1000n],
      [IOVA + 0x1000n, 0x2000n],
      [IOVA - 0x1000n, 0x2000n],
      [IOVA + 0x3000n, 0x1000n],
      [IOVA, 0x2001n],
      [IOVA + 1n, 0x2000n],
      [0n, 0x1000n],
    ] as const) {
      expect(await unmap(at.client, address, size)).toBe('ENOENT');
    }
    const { error, payload } = await at.client.request(Command.DMA_UNMAP, m.encodeDmaUnmap({ address: IOVA, size: 0x2000n, flags: 0 }));
    expect([error, payload.length]).toEqual([null, 24]);
    expect(at.dma.tryRead(IOVA, new Uint8Array(1))).toBe(Dma.FAULT);
    expect(await unmap(at.client, IOVA + 0x2000n)).toBeNull();
    memory[Symbol.dispose]();
    at.rig.rig.clock.advance(100);
    expect(openDescriptors()).toBe(before);
  });

  it('of a range takes all that lies in it, as QEMU does it when a guest takes a device out of an IOMMU domain or restarts', async () => {
    using at = await attached();
    using memory = clientMemory(0x4000);
    const addresses = [0x1000n, IOVA, IOVA + 0x1000n, 0x7fff_f000n, 0x8000_0000n];
    for (const address of addresses) expect(await map(at.client, { memory, address })).toBeNull();
    expect(await map(at.client, { address: 0x3000n })).toBeNull();
    expect(await unmap(at.client, 0n, 0x8000_0000n)).toBeNull();
    const mapped = (address: bigint) => at.dma.tryRead(address, new Uint8Array(1)) === Dma.DONE;
    expect([at.session.mappings, addresses.filter(mapped)]).toEqual([1, [0x8000_0000n]]);
    expect(await unmap(at.client, 0n, 0x8000_0000n)).toBe('ENOENT');
    expect(await map(at.client, { memory, address: IOVA, size: 0x4000n })).toBeNull();
    expect(await unmap(at.client, 0x8000_0000n, 2n ** 64n - 0x8000_0000n)).toBeNull();
    expect(at.session.mappings).toBe(1);
  });

  it('with a bitmap of what the device wrote', async () => {
    using at = await attached();
    using memory = clientMemory(0x10000);
    await map(at.client, { memory, size: 0x10000n });
    const range = (flags: number) => m.encodeDmaUnmap({ flags, address: IOVA, size: 0x10000n, bitmap: { pgsize: 4096n, size: 8n } });
    expect(await at.client.errnoOf(Command.DMA_UNMAP, range(1))).toBe('EINVAL');
    expect(await at.client.errnoOf(Command.DIRTY_PAGES, m.encodeDirtyPages({ flags: 1 }))).toBeNull();
    at.dma.tryWrite(IOVA + 0x1fffn, Uint8Array.of(1, 2));
    const report = { iova: IOVA, size: 0x10000n, pgsize: 4096n, bitmapSize: 8n };
    const told = await at.client.request(Command.DIRTY_PAGES, m.encodeDirtyPages({ flags: 4, range: report }));
    expect([...told.payload.subarray(40)]).toEqual([6, 0, 0, 0, 0, 0, 0, 0]);
    at.dma.tryWrite(IOVA + 0xffffn, Uint8Array.of(1));
    const { error, payload } = await at.client.request(Command.DMA_UNMAP, range(1));
    expect([error, [...payload.subarray(40)]]).toEqual([null, [0, 0x80, 0, 0, 0, 0, 0, 0]]);
    expect(at.session.mappings).toBe(0);
  });
});

describe('memory that comes without a descriptor', () => {
  it('is reached by messages, while register accesses go on', async () => {
    using at = await attached();
    await map(at.client, {});
    expect(at.dma.tryRead(IOVA, new Uint8Array(4))).toBe(Dma.REMOTE);
    const into = new Uint8Array(4);
    const done = at.dma.read(IOVA + 8n, into);
    const asked = await at.client.next();
    expect([asked.command, asked.flags, m.viewOf(asked.payload).getBigUint64(0, true)]).toEqual([Command.DMA_READ, 0, IOVA + 8n]);
    expect(await at.client.errnoOf(Command.REGION_READ, m.encodeRegionAccess(0n, 0, 4))).toBeNull();
    at.client.reply(asked, Uint8Array.of(...asked.payload, 9, 8, 7, 6));
    await done;
    expect([...into]).toEqual([9, 8, 7, 6]);
  });

  it('is written by messages', async () => {
    using at = await attached();
    await map(at.client, {});
    const done = at.dma.write(IOVA, Uint8Array.of(1, 2, 3));
    const asked = await at.client.next();
    expect([asked.command, [...asked.payload.subarray(16)]]).toEqual([Command.DMA_WRITE, [1, 2, 3]]);
    at.client.reply(asked, asked.payload.subarray(0, 16));
    await done;
  });

  it('an error of the client is a fault of the device; a reply that is none too', async () => {
    using at = await attached();
    await map(at.client, {});
    for (const [flags, payload] of [
      [HeaderFlags.REPLY | HeaderFlags.ERROR, new Uint8Array(0)],
      [HeaderFlags.REPLY, new Uint8Array(19)],
      [HeaderFlags.REPLY, new Uint8Array(21)],
      [HeaderFlags.REPLY, new Uint8Array(20)],
    ] as const) {
      const done = expect(at.dma.read(IOVA, new Uint8Array(4))).rejects.toThrow('remote-failed');
      at.client.reply(await at.client.next(), payload, flags, 14);
      await done;
    }
    expect(await at.client.errnoOf(Command.REGION_READ, m.encodeRegionAccess(0n, 0, 4))).toBeNull();
  });

  it('a client that does not answer: the DMA fails in time, a late answer does no harm, and the connection goes on', async () => {
    using at = await attached({ server: { limits: { dmaTimeoutMs: 1000 } } });
    await map(at.client, {});
    const done = expect(at.dma.read(IOVA, new Uint8Array(4))).rejects.toThrow('remote-failed');
    const asked = await at.client.next();
    at.rig.rig.clock.advance(2000);
    await done;
    at.client.reply(asked, new Uint8Array(20));
    await at.client.silence();
    const again = at.dma.read(IOVA, new Uint8Array(4));
    const next = await at.client.next();
    expect(next.id).not.toBe(asked.id);
    at.client.reply(next, Uint8Array.of(...next.payload, 0, 0, 0, 0));
    await again;
    expect(at.rig.rig.clock.pendingTimers).toBeLessThanOrEqual(1);
  });

  it('a client that never answers: those that wait for their turn fail as well', async () => {
    using at = await attached({ server: { limits: { dmaTimeoutMs: 1000 } } });
    await map(at.client, {});
    const ends = Array.from({ length: 200 }, () => at.dma.read(IOVA, new Uint8Array(4)).then(String, () => 'failed'));
    // As many as may be in flight at once fail each time.
    for (let i = 0; i < 8; i++) {
      await settle();
      at.rig.rig.clock.advance(1500);
    }
    expect(new Set(await Promise.all(ends))).toEqual(new Set(['failed']));
    at.client.receive();
    at.client.inbox.length = 0;
    expect(await at.client.errnoOf(Command.REGION_READ, m.encodeRegionAccess(0n, 0, 4))).toBeNull();
  });

  it('a reply of a size that cannot be is a fault at once, and the stream stays in step', async () => {
    using at = await attached();
    await map(at.client, {});
    for (const [write, size] of [
      [false, 15],
      [true, 0],
      [false, 2 ** 20 + 8192],
    ] as const) {
      const done = expect(write ? at.dma.write(IOVA, new Uint8Array(4)) : at.dma.read(IOVA, new Uint8Array(4))).rejects.toThrow(
        'remote-failed',
      );
      const asked = await at.client.next();
      const reply = m.encodeMessage(asked.id, asked.command as Command, new Uint8Array(Math.max(0, size - 16)), HeaderFlags.REPLY);
      m.viewOf(reply).setUint32(4, size, true);
      for (let from = 0; from < reply.length; from += 65536) {
        at.client.raw(reply.subarray(from, from + 65536));
        await settle();
      }
      await done;
    }
    expect(await at.client.errnoOf(Command.REGION_READ, m.encodeRegionAccess(0n, 0, 4))).toBeNull();
  });

  it('a client that goes away: transfers in flight fail, and no mapping stays', async () => {
    using at = await attached();
    await map(at.client, {});
    const done = expect(at.dma.read(IOVA, new Uint8Array(4))).rejects.toThrow('remote-failed');
    await at.client.next();
    at.client[Symbol.dispose]();
    await done;
    expect(await at.session.ended).toMatch('closed the connection');
    expect(at.rig.rig.container.size).toBe(0);
  });

  it('up to the last address, and across a boundary of 2^52', async () => {
    using at = await attached({ machine: { iommu: { addressBits: 64 } } as never });
    const last = 2n ** 64n - 0x1000n;
    for (const address of [last, 2n ** 52n - 0x1000n]) {
      const size = address === last ? 0x1000n : 0x2000n;
      const errno = await map(at.client, { address, size });
      if (errno === 'EINVAL') continue;
      expect(errno).toBeNull();
      const into = new Uint8Array(2);
      const done = at.dma.read(address + 0xffen, into);
      const asked = await at.client.next();
      expect(m.viewOf(asked.payload).getBigUint64(0, true)).toBe(address + 0xffen);
      at.client.reply(asked, Uint8Array.of(...asked.payload, 1, 2));
      await done;
      expect([...into]).toEqual([1, 2]);
    }
  });
});

describe('as many as clients have', () => {
  it.each([
    ['by messages', false],
    ['by descriptor', true],
  ])('70000 mappings %s', async (_, byFd) => {
    using at = await attached({ params: { dmaEntryLimit: 100_000 } });
    using memory = clientMemory(0x1000);
    const before = openDescriptors();
    using fd = memory.duplicateFd();
    const options = byFd ? { fds: [fd], flags: HeaderFlags.NO_REPLY } : { flags: HeaderFlags.NO_REPLY };
    for (let i = 0; i < 70_000; i++) {
      at.client.send(Command.DMA_MAP, m.encodeDmaMap({ address: BigInt(i) * 0x1000n, size: 0x1000n, offset: 0n, flags: 3 }), options);
      if (i % 200 === 199) await at.client.errnoOf(Command.DEVICE_GET_INFO, m.encodeDeviceInfo());
    }
    expect([at.session.mappings, at.rig.rig.container.size]).toEqual([70_000, 70_000]);
    expect(openDescriptors()).toBeLessThanOrEqual(before + 2);
    expect(await unmap(at.client, 69_999n * 0x1000n)).toBeNull();
    at.client[Symbol.dispose]();
    await at.session.ended;
    expect(at.rig.rig.container.size).toBe(0);
  });

  it('more than the server allows is ENOSPC', async () => {
    using at = await attached({ server: { limits: { maxMappings: 2 } } });
    for (const [i, errno] of [null, null, 'ENOSPC'].entries()) {
      expect(await map(at.client, { address: BigInt(i) * 0x2000n })).toBe(errno);
    }
  });

  it('files that take more address space than the server allows are ENOMEM, until others are unmapped', async () => {
    using at = await attached({ server: { limits: { maxFileBytes: 0x5000 } } });
    using first = clientMemory(0x4000);
    using second = clientMemory(0x4000);
    expect(await map(at.client, { memory: first })).toBeNull();
    expect(await map(at.client, { memory: second, address: 0n })).toBe('ENOMEM');
    await unmap(at.client);
    expect(await map(at.client, { memory: second, address: 0n })).toBeNull();
  });
});
