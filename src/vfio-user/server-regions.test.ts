import { describe, expect, it } from 'vitest';
import { plain, ScriptedModel } from '../../tests/kit/device-rig.ts';
import { type RawClient, ServerRig, type ServerRigOptions, settle } from '../../tests/kit/vfio-user-rig.ts';
import type { Device, MappableArea, Region } from '../abi/device.ts';
import type { DeviceHost } from '../abi/device-host.ts';
import { HeaderFlags } from '../abi/vfio-user.ts';
import { msix } from '../pci/capabilities.ts';
import type { PciDeclaration } from '../pci/declaration.ts';
import { EventFd } from '../sys/eventfd.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import { closeAll } from './frames.ts';
import type { AnswerContext } from './messages/answer-context.ts';
import { regionInfo } from './messages/region-info.ts';
import * as m from './messages.ts';
import { Command } from './messages.ts';
import { RegionFiles } from './server/region-files.ts';

const bytes = (length: number, seed = 1) => Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);

const read = (client: RawClient, offset: number, count: number, region = 0) =>
  client.request(Command.REGION_READ, m.encodeRegionAccess(BigInt(offset), region, count));
const write = (client: RawClient, offset: number, data: Uint8Array, region = 0) =>
  client.request(Command.REGION_WRITE, m.encodeRegionAccess(BigInt(offset), region, data.length, data));

/**
 * BAR 0 registers, BAR 2 memory of 64 KiB, BAR 4 a megabyte of memory with the MSI-X table in it.
 */
const withMemory: PciDeclaration = {
  ...plain,
  bars: [
    { index: 0, size: 0x1000, type: 'mem32' },
    { index: 2, size: 0x10000, type: 'mem32', backing: 'memory' },
    { index: 4, size: 0x10_0000, type: 'mem32', backing: 'memory' },
  ],
  capabilities: [msix({ vectors: 4, tableBar: 4, tableOffset: 0, pbaBar: 4, pbaOffset: 0x1000 })],
};

describe('region accesses', () => {
  it('of every size and alignment read back what was written', async () => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    let seed = 1;
    for (const length of [0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 31, 64, 1000]) {
      for (const offset of [0x100, 0x101, 0x102, 0x104, 0x107]) {
        const data = bytes(length, seed++);
        const written = await write(client, offset, data);
        expect([written.error, written.payload.length, m.viewOf(written.payload).getUint32(12, true)]).toEqual([null, 16, length]);
        const back = await read(client, offset, length);
        expect(back.payload).toEqual(m.encodeRegionAccess(BigInt(offset), 0, length, data));
      }
    }
  });

  it('as large as a message may be', async () => {
    using rig = new ServerRig({ declaration: withMemory, stream: { capacity: 2 ** 22 } });
    const { client } = await rig.attach();
    const info = m.decodeRegionInfo((await client.request(Command.DEVICE_GET_REGION_INFO, m.encodeRegionInfoRequest(2))).payload);
    expect(info.info.size).toBe(0x10000);
    const data = bytes(0x10000);
    expect((await write(client, 0, data, 2)).error).toBeNull();
    expect((await read(client, 0, 0x10000, 2)).payload.subarray(16)).toEqual(data);
    expect((await read(client, 0, 0x10_0000, 4)).payload.length).toBe(16 + 0x10_0000);
    expect((await write(client, 0x2000, bytes(0x10_0000 - 0x2000), 4)).error).toBeNull();
  });

  it('reach the model at its widths', async () => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    rig.rig.model.accesses.length = 0;
    for (const count of [1, 2, 4, 8]) await read(client, 8, count);
    expect(rig.rig.model.accesses).toEqual(['r1 0+0x8', 'r2 0+0x8', 'r4 0+0x8', 'r4 0+0x8', 'r4 0+0xc']);
  });

  it('EIO while memory decoding is off, and again fine', async () => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    await write(client, 4, Uint8Array.of(0, 0), 7);
    expect([(await read(client, 0, 4)).error, (await write(client, 0, bytes(4))).error]).toEqual(['EIO', 'EIO']);
    await write(client, 4, Uint8Array.of(2, 0), 7);
    expect((await read(client, 0, 4)).error).toBeNull();
  });

  it('a model that throws reads as ones and ends nothing', async () => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    rig.rig.model.onRead = () => {
      throw new Error('a bug');
    };
    rig.rig.model.onWrite = () => {
      throw new Error('another');
    };
    expect([...(await read(client, 0, 4)).payload.subarray(16)]).toEqual([255, 255, 255, 255]);
    expect((await write(client, 0, bytes(4))).error).toBeNull();
    expect((await read(client, 0, 4, 7)).error).toBeNull();
  });

  it('a bug of the device below is EIO, is logged, and ends nothing', async () => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    const region = rig.opened[0]!.region(0);
    region.read32 = () => {
      throw new TypeError('a bug of ours');
    };
    expect((await read(client, 0, 4)).error).toBe('EIO');
    expect(rig.logged.join()).toContain('a bug of ours');
    expect((await read(client, 0, 2)).error).toBeNull();
  });
});

describe('NO_REPLY', () => {
  it('writes are made and not answered, errors neither', async () => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    for (let i = 0; i < 100; i++) {
      client.send(Command.REGION_WRITE, m.encodeRegionAccess(BigInt(4 * i), 0, 4, Uint8Array.of(i, 0, 0, 0)), {
        flags: HeaderFlags.NO_REPLY,
      });
      client.send(Command.REGION_WRITE, m.encodeRegionAccess(2n ** 40n, 0, 4, bytes(4)), { flags: HeaderFlags.NO_REPLY });
    }
    await client.silence();
    expect((await read(client, 4 * 99, 4)).payload[16]).toBe(99);
  });
});

describe('WRITE_MULTI', () => {
  it('makes its writes in order, at their widths', async () => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    rig.rig.model.accesses.length = 0;
    const writes = [4, 2, 1, 8, 3, 0].map((length, i) => ({ offset: BigInt(0x40 + 8 * i), region: 0, data: bytes(length) }));
    const reply = await client.request(Command.REGION_WRITE_MULTI, m.encodeWriteMulti(writes));
    expect([reply.error, reply.payload]).toEqual([null, Uint8Array.of(6, 0, 0, 0, 0, 0, 0, 0)]);
    expect(rig.rig.model.accesses.map((each) => each.replace(/=.*/, ''))).toEqual([
      'w4 0+0x40',
      'w2 0+0x48',
      'w1 0+0x50',
      'w4 0+0x58',
      'w4 0+0x5c',
      'w2 0+0x60',
      'w1 0+0x62',
    ]);
  });

  it('makes none when one of them cannot be', async () => {
    using rig = new ServerRig();
    const { client } = await rig.attach();
    rig.rig.model.accesses.length = 0;
    const writes = [0x40n, 2n ** 30n].map((offset) => ({ offset, region: 0, data: bytes(4) }));
    expect(await client.errnoOf(Command.REGION_WRITE_MULTI, m.encodeWriteMulti(writes))).toBe('EINVAL');
    expect(rig.rig.model.accesses).toEqual([]);
  });
});

describe('an answer that the device holds back', () => {
  class Holding extends ScriptedModel {
    done: (() => void)[] = [];
    constructor(host: DeviceHost) {
      super(host);
      this.onWrite = () => this.host.answerAfter(new Promise<void>((resolve) => this.done.push(resolve)));
    }
  }
  const holding = { models: (host: DeviceHost) => new Holding(host) };

  it('waits, while other commands are answered', async () => {
    using rig = new ServerRig(holding);
    const { client } = await rig.attach();
    const id = client.send(Command.REGION_WRITE, m.encodeRegionAccess(0n, 0, 4, bytes(4)));
    await client.silence();
    expect((await read(client, 8, 4)).error).toBeNull();
    (rig.rig.model as Holding).done[0]!();
    expect(await client.next()).toMatchObject({ id, command: Command.REGION_WRITE, error: null });
  });

  it('is not given when the client does not want it, or is gone', async () => {
    using rig = new ServerRig(holding);
    const { client, session } = await rig.attach();
    client.send(Command.REGION_WRITE, m.encodeRegionAccess(0n, 0, 4, bytes(4)), { flags: HeaderFlags.NO_REPLY });
    client.send(Command.REGION_WRITE, m.encodeRegionAccess(0n, 0, 4, bytes(4)));
    await client.silence();
    (rig.rig.model as Holding).done[0]!();
    await client.silence();
    client[Symbol.dispose]();
    await session.ended;
    (rig.rig.model as Holding).done[1]!();
    await settle();
  });

  it('counts as a reply that waits: with too many, reading stops', async () => {
    using rig = new ServerRig({ ...holding, server: { limits: { maxQueuedBytes: 320 } } });
    const { client, session } = await rig.attach();
    for (let i = 0; i < 50; i++) client.send(Command.REGION_WRITE, m.encodeRegionAccess(0n, 0, 4, bytes(4)));
    await client.silence();
    const { done } = rig.rig.model as Holding;
    expect(done.length).toBe(11);
    expect(session.commands).toBe(12);
    for (let i = 0; i < 50; i++) {
      done[i]!();
      expect((await client.next()).error).toBeNull();
    }
    expect(session.commands).toBe(51);
  });
});

describe('regions that are memory', () => {
  it('come with a descriptor, in which their bytes can be mapped', async () => {
    using rig = new ServerRig({ declaration: withMemory, allocate: MemfdMemory.allocate });
    const { client } = await rig.attach();
    const short = await client.request(Command.DEVICE_GET_REGION_INFO, m.encodeRegionInfoRequest(2));
    const first = m.decodeRegionInfo(short.payload);
    expect([short.fds.length, first.argsz, first.info]).toEqual([0, 64, { index: 2, flags: 7, size: 0x10000 }]);
    const reply = await client.request(Command.DEVICE_GET_REGION_INFO, m.encodeRegionInfoRequest(2, first.argsz));
    const { info, offset } = m.decodeRegionInfo(reply.payload);
    const sparseAreas = [{ offset: 0, size: 0x10000 }];
    expect([reply.fds.length, info, offset]).toEqual([1, { index: 2, flags: 15, size: 0x10000, sparseAreas }, 0n]);
    using memory = MemfdMemory.fromFd(reply.fds[0]!, 0, 0x10000);
    memory.windows[0]!.set(bytes(64), 0x100);
    expect((await read(client, 0x100, 64, 2)).payload.subarray(16)).toEqual(bytes(64));
    await write(client, 0x8000, bytes(4, 9), 2);
    expect(memory.windows[0]!.subarray(0x8000, 0x8004)).toEqual(bytes(4, 9));
  });

  it('are reported as not mappable when no descriptor can go: plain buffers, registers, the MSI-X table, a pipe, a client that takes none', async () => {
    const flagsOf = async (options: ServerRigOptions, region: number, maxMsgFds = 8) => {
      using rig = new ServerRig({ declaration: withMemory, ...options });
      const { client } = await rig.attach({ maxMsgFds });
      const reply = await client.request(Command.DEVICE_GET_REGION_INFO, m.encodeRegionInfoRequest(region, 4096));
      return [reply.fds.length, m.decodeRegionInfo(reply.payload).info.flags];
    };
    expect(await flagsOf({}, 2)).toEqual([0, 3]);
    for (const region of [0, 4]) expect(await flagsOf({ allocate: MemfdMemory.allocate }, region)).toEqual([0, 3]);
    expect(await flagsOf({ allocate: MemfdMemory.allocate, stream: { carriesFds: false } }, 2)).toEqual([0, 3]);
    expect(await flagsOf({ allocate: MemfdMemory.allocate }, 2, 0)).toEqual([0, 3]);
  });

  describe('sparse areas', () => {
    const first = { offset: 0, size: 0x1000 };
    const last = { offset: 0x2000, size: 0x2000 };
    const infoOf = (sparseAreas: MappableArea[], argsz?: number) => {
      using memory = MemfdMemory.allocate(0x4000) as MemfdMemory;
      const region = {
        info: { index: 0, flags: 15, size: 0x4000, sparseAreas },
        map: (offset: number) => ({ memory: { memory, offset }, [Symbol.dispose]: () => {} }),
      } as unknown as Region;
      const regionFiles = new RegionFiles({
        device: { info: { numRegions: 9 } } as Device,
        region: () => region,
        maxFds: 8,
        onBug: () => {},
      });
      const { payload, fds = [] } = regionInfo.answer!({ regionFiles } as unknown as AnswerContext, { argsz: argsz ?? 32, index: 0 }, []);
      closeAll(fds);
      const { argsz: needed, info } = m.decodeRegionInfo(payload);
      return { needed, flags: info.flags, areas: info.sparseAreas, fds: fds.length };
    };

    it('that leave nothing out: their capability when there is room for it, and the descriptor with it', () => {
      const areas = [first, { offset: 0x1000, size: 0x1000 }, last];
      expect(infoOf(areas)).toEqual({ needed: 96, flags: 7, areas: undefined, fds: 0 });
      expect(infoOf(areas, 96)).toEqual({ needed: 96, flags: 15, areas, fds: 1 });
    });

    it('that leave something out: they are listed, and no descriptor gives the rest away', () => {
      expect(infoOf([first, last])).toEqual({ needed: 80, flags: 3, areas: undefined, fds: 0 });
      expect(infoOf([first, last], 80)).toEqual({ needed: 80, flags: 11, areas: [first, last], fds: 0 });
    });
  });
});

describe('doorbells', () => {
  const doorbells: PciDeclaration = {
    ...plain,
    bars: [
      {
        index: 0,
        size: 0x1000,
        type: 'mem32',
        doorbells: [
          { offset: 0x20, size: 4, value: 7n },
          { offset: 0x28, size: 2, value: null },
        ],
      },
    ],
  };

  it('are eventfds that stand for a write', async () => {
    using rig = new ServerRig({ declaration: doorbells });
    const { client } = await rig.attach();
    const short = await client.request(Command.DEVICE_GET_REGION_IO_FDS, m.encodeIoFdsRequest(0));
    expect([short.fds.length, short.payload.length, m.decodeIoFds(short.payload).argsz]).toEqual([0, 16, 96]);
    const { payload, fds } = await client.request(Command.DEVICE_GET_REGION_IO_FDS, m.encodeIoFdsRequest(0, 96));
    expect(m.decodeIoFds(payload).entries).toEqual([
      { offset: 0x20n, size: 4n, fdIndex: 0, type: 0, flags: 1, datamatch: 7n },
      { offset: 0x28n, size: 2n, fdIndex: 1, type: 0, flags: 0, datamatch: 0n },
    ]);
    rig.rig.model.accesses.length = 0;
    const events = fds.map((fd) => EventFd.fromFd(fd));
    for (const event of events) event.signal();
    while (rig.rig.model.accesses.length < 2) await settle();
    expect([...rig.rig.model.accesses].sort()).toEqual(['w2 0+0x28=0x0', 'w4 0+0x20=0x7']);
    const again = await client.request(Command.DEVICE_GET_REGION_IO_FDS, m.encodeIoFdsRequest(0, 96));
    for (const each of [...events, ...again.fds]) each[Symbol.dispose]();
  });

  it('a bug of the device below is logged when one rings, and ends nothing', async () => {
    using rig = new ServerRig({ declaration: doorbells });
    const { client } = await rig.attach();
    const { fds } = await client.request(Command.DEVICE_GET_REGION_IO_FDS, m.encodeIoFdsRequest(0, 96));
    rig.opened[0]!.region(0).write = () => {
      throw new TypeError('oops');
    };
    const events = fds.map((fd) => EventFd.fromFd(fd));
    events[0]!.signal();
    while (rig.logged.every((line) => !line.includes('oops'))) await settle();
    expect(rig.logged.join()).toMatch('error: rig: a doorbell: TypeError: oops');
    expect((await client.request(Command.REGION_READ, m.encodeRegionAccess(0n, 7, 4))).error).toBeNull();
    for (const each of events) each[Symbol.dispose]();
  });

  it('S2-42 that are rung while the machine sleeps are written once, at resume', async () => {
    using rig = new ServerRig({ declaration: doorbells });
    const { client } = await rig.attach();
    const { fds } = await client.request(Command.DEVICE_GET_REGION_IO_FDS, m.encodeIoFdsRequest(0, 96));
    const [event] = fds.map((fd) => EventFd.fromFd(fd));
    await rig.rig.machine.suspend();
    rig.rig.model.accesses.length = 0;
    for (let i = 0; i < 3; i++) {
      event!.signal();
      while (event!.waitSync(0)) await settle();
    }
    expect(rig.rig.model.accesses).toEqual([]);
    rig.rig.machine.resume();
    await settle();
    expect(rig.rig.model.accesses).toEqual(['w4 0+0x20=0x7']);
    for (const fd of fds) fd[Symbol.dispose]();
    event![Symbol.dispose]();
  });

  it('ring in vain while the device does not decode memory, or the client is gone', async () => {
    using rig = new ServerRig({ declaration: doorbells });
    const { client, session } = await rig.attach();
    const { fds } = await client.request(Command.DEVICE_GET_REGION_IO_FDS, m.encodeIoFdsRequest(0, 96));
    const events = fds.map((fd) => EventFd.fromFd(fd));
    await write(client, 4, Uint8Array.of(0, 0), 7);
    rig.rig.model.accesses.length = 0;
    events[0]!.signal();
    while (events[0]!.waitSync(0)) await settle();
    await settle();
    client[Symbol.dispose]();
    await session.ended;
    events[1]!.signal();
    await settle();
    expect(rig.rig.model.accesses).toEqual([]);
    for (const each of events) each[Symbol.dispose]();
  });
});
