/** A client whose server is wrong, silent or gone, against a peer that follows a script. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ClientRig, dmaAccess } from '../../tests/kit/client-rig.ts';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { until } from '../../tests/kit/event-loop.ts';
import { openDescriptors } from '../../tests/kit/open-descriptors.ts';
import type { PeerAction, PeerScript } from '../../tests/kit/scripted-peer.ts';
import type { DeviceEvent } from '../abi/device.ts';
import { RegionIndex } from '../abi/vfio.ts';
import { EventFd } from '../sys/eventfd.ts';
import { HeapMemory } from '../sys/fake.ts';
import { VfioUserDevice } from './client.ts';
import { Command } from './messages.ts';

let rig: ClientRig;
beforeAll(async () => {
  rig = await ClientRig.start();
});
afterAll(() => rig[Symbol.asyncDispose]());

describe('vfio-user client: when the server is wrong or gone', () => {
  const wrong: [string, PeerScript['on'], string][] = [
    ['an errno', { [Command.REGION_READ]: [{ do: 'error', errno: 16 }] }, 'EBUSY'],
    ['an error without an errno', { [Command.REGION_READ]: [{ do: 'error', errno: 0 }] }, 'EINVAL'],
    ['an errno beyond all', { [Command.REGION_READ]: [{ do: 'error', errno: 70000 }] }, 'EINVAL'],
    ['an errno that has no name here', { [Command.REGION_READ]: [{ do: 'error', errno: 133 }] }, 'EIO'],
  ];
  it.each(wrong)('%s is that error, and the connection goes on', (_, on, code) => {
    using device = rig.connect({ on: on! }).device;
    const registers = device.region(RegionIndex.CONFIG);
    expect([errnoFrom(() => registers.read16(0)), errnoFrom(() => registers.read16(0))]).toEqual([code, 'none']);
  });

  const structures: [string, number, number, (device: VfioUserDevice) => unknown][] = [
    ['DEVICE_GET_INFO', Command.DEVICE_GET_INFO, 15, () => {}],
    ['DEVICE_GET_REGION_INFO', Command.DEVICE_GET_REGION_INFO, 31, (device) => device.region(4).info],
    ['DEVICE_GET_IRQ_INFO', Command.DEVICE_GET_IRQ_INFO, 15, (device) => device.irq(2)],
  ];
  it.each(structures)('a reply to %s whose argsz is below its structure is no reply', (_, command, argsz, ask) => {
    const short: PeerAction = { do: 'patch', at: 16, bytes: [argsz, 0, 0, 0] };
    const on = { [command]: Array.from({ length: 20 }, () => short) };
    const opened = () => {
      using device = rig.connect({ on }).device;
      ask(device);
    };
    expect(errnoFrom(opened)).toBe('EPROTO');
  });

  it('a reply in small pieces is put together', () => {
    using device = rig.connect({
      on: {
        [Command.REGION_READ]: [
          { do: 'dribble', bytes: 3 },
          { do: 'dribble', bytes: 1 },
        ],
      },
    }).device;
    const config = device.region(RegionIndex.CONFIG);
    expect([config.read16(0), config.read16(2)]).toEqual([0x1234, 0x11e8]);
  });

  const bytesOf = (...numbers: number[]) => numbers.flatMap((n) => [n & 0xff, (n >>> 8) & 0xff, (n >>> 16) & 0xff, n >>> 24]);
  const ends: [string, PeerAction, string][] = [
    ['another id', { do: 'patch', at: 0, bytes: [0x77, 0x77] }, 'EPROTO'],
    ['another command', { do: 'patch', at: 2, bytes: [10, 0] }, 'EPROTO'],
    ['a type that does not exist', { do: 'patch', at: 8, bytes: [7] }, 'EPROTO'],
    ['another count', { do: 'patch', at: 28, bytes: [3] }, 'EPROTO'],
    ['too few bytes', { do: 'resize', by: -1 }, 'EPROTO'],
    ['too many bytes', { do: 'resize', by: 1 }, 'EPROTO'],
    ['a header alone', { do: 'resize', by: -18 }, 'EPROTO'],
    ['a size below a header’s', { do: 'send', bytes: bytesOf(0x0009_0003, 8, 1, 0) }, 'EPROTO'],
    ['a size beyond all', { do: 'send', bytes: bytesOf(0x0009_0003, 0x7fff_ffff, 1, 0) }, 'EPROTO'],
    ['a command beyond all', { do: 'send', bytes: bytesOf(0x000c_0003, 0x7fff_ffff, 0, 0) }, 'EPROTO'],
    ['the end of the stream', { do: 'die' }, 'ENODEV'],
    ['the end in the middle of a header', { do: 'die', bytes: 7 }, 'ENODEV'],
    ['the end in the middle of the data', { do: 'die', bytes: 33 }, 'ENODEV'],
  ];
  it.each(ends)('%s ends the connection', async (_, action, code) => {
    await rig.peer.idle();
    const before = openDescriptors();
    // Once by the client itself, which looks how MSI is switched on.
    const { device, report } = rig.connect({ on: { [Command.REGION_READ]: [{ do: 'answer' }, { do: 'answer' }, action] } });
    const events: DeviceEvent[] = [];
    device.on((event) => events.push(event));
    const config = device.region(RegionIndex.CONFIG);
    using mapping = device.region(2).map();
    using memory = device.dma.allocate(4096);
    using fd = EventFd.create();
    device.dma.map({ iova: 0n, memory });
    device.setIrqs({ index: 1, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [fd] });
    expect(config.read16(0)).toBe(0x1234);
    expect(errnoFrom(() => config.read16(0))).toBe(code);
    const { dma } = {
      get dma() {
        return errnoFrom(() => device.dma);
      },
    };
    expect([
      errnoFrom(() => config.read16(0)),
      errnoFrom(() => device.region(0)),
      errnoFrom(() => device.reset()),
      dma,
      errnoFrom(() => mapping.read32(0)),
    ]).toEqual(['ENODEV', 'ENODEV', 'ENODEV', 'ENODEV', 'BusError']);
    expect([memory.references, fd.references]).toEqual([1, 1]);
    await until(() => events.length > 0);
    expect(events).toEqual([{ kind: 'gone', reason: expect.any(String) }]);
    device.close();
    mapping[Symbol.dispose]();
    memory[Symbol.dispose]();
    fd[Symbol.dispose]();
    await report;
    expect(openDescriptors()).toBe(before);
  });

  it('silence is ETIMEDOUT, and the connection is closed', async () => {
    const { device, hurry, waits } = rig.connect({ on: { [Command.REGION_READ]: [{ do: 'nothing' }] } }, { timeoutMs: 60_000 });
    const events: DeviceEvent[] = [];
    device.on((event) => events.push(event));
    const config = device.region(RegionIndex.CONFIG);
    hurry();
    expect([errnoFrom(() => config.read16(0)), waits]).toEqual(['ETIMEDOUT', [60_000]]);
    expect(errnoFrom(() => config.read16(0))).toBe('ENODEV');
    await until(() => events.length > 0);
    expect(events[0]).toMatchObject({ kind: 'gone', reason: expect.stringContaining('REGION_READ') });
  });

  it('a server that never says VERSION is ETIMEDOUT', () => {
    const { stream } = rig.peer.serve({ on: { [Command.VERSION]: [{ do: 'nothing' }] } });
    expect(errnoFrom(() => VfioUserDevice.connect(stream, { timeoutMs: 50 }))).toBe('ETIMEDOUT');
  });

  it('a server that asks and asks does not keep a request from ending', () => {
    const ask = { do: 'ask', when: 'before', command: Command.DMA_READ, payload: dmaAccess(0n, 1) } as const;
    const { device, hurry } = rig.connect({ on: { [Command.REGION_READ]: [ask, ask, ask, { do: 'nothing' }] } });
    const config = device.region(RegionIndex.CONFIG);
    expect([1, 2, 3].map(() => errnoFrom(() => config.read16(0)))).toEqual(['none', 'none', 'none']);
    hurry();
    expect(errnoFrom(() => config.read16(0))).toBe('ETIMEDOUT');
  });

  it('the client notices the end while no request waits', async () => {
    const { device } = rig.connect({ on: { [Command.REGION_WRITE]: [{ do: 'die', bytes: 32 }] } });
    const events: DeviceEvent[] = [];
    device.on((event) => events.push(event));
    device.region(0).write32(0, 1);
    await until(() => events.length > 0);
    expect(events).toEqual([{ kind: 'gone', reason: 'the server closed the connection' }]);
    expect(errnoFrom(() => device.region(0))).toBe('ENODEV');
  });

  it('a reply to nothing ends it too', async () => {
    const reply = { do: 'ask', when: 'after', command: Command.DMA_READ, payload: new Uint8Array(0), flags: 1 } as const;
    const { device } = rig.connect({ on: { [Command.REGION_WRITE]: [reply] } });
    const events: DeviceEvent[] = [];
    device.on((event) => events.push(event));
    device.region(0).write32(0, 1);
    await until(() => events.length > 0);
    expect(events[0]).toMatchObject({ kind: 'gone', reason: expect.stringContaining('reply to nothing') });
  });

  it('after close every call is ENODEV, and nothing is left open', async () => {
    await rig.peer.idle();
    const before = openDescriptors();
    const { device, report } = rig.connect({ twin: true });
    device.region(2);
    device.close();
    device.close();
    expect([
      errnoFrom(() => device.region(0)),
      errnoFrom(() => device.irq(0)),
      errnoFrom(() => device.on(() => {})),
      errnoFrom(() => device.hotResetInfo()),
    ]).toEqual(new Array(4).fill('ENODEV'));
    await report;
    expect(openDescriptors()).toBe(before);
  });

  it('whatever it sends, a request ends with its answer or an errno, and nothing is left open', async () => {
    await rig.peer.idle();
    const before = openDescriptors();
    const word = fc.oneof(fc.integer({ min: 0, max: 0xff }), fc.constantFrom(0, 1, 0x10, 0x20, 0xff));
    const header = fc
      .tuple(
        fc.constantFrom(3, 4),
        fc.constantFrom(9, 11, 12, 99),
        fc.constantFrom(0, 8, 16, 32, 34, 48, 0xffff_ffff),
        fc.constantFrom(0, 1, 0x21, 0x10, 7),
      )
      .map(([id, command, size, flags]) => bytesOf(id | (command << 16), size, flags, 5));
    const garbage = fc.array(fc.oneof(header, fc.array(word, { maxLength: 40 })), { maxLength: 6 }).map((parts) => parts.flat());
    await fc.assert(
      fc.asyncProperty(garbage, fc.boolean(), async (bytes, twin) => {
        const { device, report } = rig.connect({ twin, on: { [Command.REGION_READ]: [{ do: 'send', bytes, die: true }] } });
        using memory = HeapMemory.allocate(4096);
        device.dma.map({ iova: 0n, memory });
        expect(['none', 'EIO', 'EPROTO', 'ENODEV', 'EINVAL']).toContain(errnoFrom(() => device.region(RegionIndex.CONFIG).read16(0)));
        device.close();
        expect((await report).failed).toBeNull();
        expect(memory.references).toBe(1);
      }),
      { numRuns: 200 },
    );
    expect(openDescriptors()).toBe(before);
  });
});
