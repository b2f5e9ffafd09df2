import { describe, expect, it } from 'vitest';
import { DeviceRig, plain, resettable, type ScriptedModel } from '../../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { eventsOf, linesOf } from '../../../tests/kit/event-words.ts';
import { alone, openAll, testMachine } from '../../../tests/kit/machines.ts';
import type { EventKind } from '../../abi/event.ts';
import { PASS_THROUGH, type RegionHooks } from '../../abi/mediator.ts';
import { Command } from '../../abi/pci.ts';
import { IrqIndex, RegionIndex } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { RING_RECORDS } from '../../events/ring.ts';
import { msix, pcie, pm } from '../../pci/capabilities.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';
import { FakeEventFd } from '../../sys/fake.ts';
import { Mediators } from '../mediation/mediators.ts';
import type { DeviceFile } from './device-file.ts';

const { CONFIG, ROM } = RegionIndex;

/** BAR 0: registers with an MSI-X table; BAR 2: plain memory; BAR 4: I/O ports. */
const mixed: PciDeclaration = {
  ...resettable,
  bars: [
    { index: 0, size: 0x1000, type: 'mem32' },
    { index: 2, size: 0x10000, type: 'mem64', backing: 'memory', prefetchable: true },
    { index: 4, size: 0x100, type: 'io' },
  ],
  rom: Uint8Array.of(0x55, 0xaa, 1, 2, 3, 4),
  capabilities: [pcie({ flr: true }), pm(), msix({ vectors: 8, tableOffset: 0x20, pbaOffset: 0x800 })],
};

function open(declaration: PciDeclaration = mixed) {
  const rig = new DeviceRig(declaration);
  const file = rig.open();
  const seen = (act: (file: DeviceFile) => void, kinds: readonly EventKind[] = ['access']) =>
    linesOf(rig.machine.context.stream, () => act(file), kinds);
  const events = (act: (file: DeviceFile) => void, data = false) =>
    eventsOf(rig.machine.context.stream, () => act(file), ['access', 'mapping'], data);
  return { rig, file, seen, events };
}

describe('registers', () => {
  it('are one event an access, by read and write, by width and through a mapping', () => {
    const { seen } = open();
    const lines = seen((file) => {
      const bar = file.region(0);
      bar.write32(0x200, 7);
      bar.write(0x206, Uint8Array.of(1, 2, 3));
      bar.map(0, 0x1000).write16(0x210, 9);
      file.region(4).read32(8);
    });
    expect(lines).toEqual([
      'write32 BAR 0+0x200 ← 0x7',
      'write16 BAR 0+0x206 ← 0x201',
      'write8 BAR 0+0x208 ← 0x3',
      'write16 BAR 0+0x210 ← 0x9',
      'read32 BAR 4+0x8 → 0x0',
    ]);
  });

  it('64 bits are one event where the model takes them at once, and two where it does not', () => {
    const { rig, file } = open(resettable);
    const wide: Partial<{ read64: unknown; write64: unknown }> & ScriptedModel = rig.model;
    const lines = () =>
      linesOf(rig.machine.context.stream, () => {
        file.region(0).write64(0x200, 0x1_0000_0002n);
        file.region(0).read64(0x200);
      });
    expect(lines()).toHaveLength(4);
    const written: bigint[] = [];
    Object.assign(wide, {
      read64: () => 0xffff_ffff_0000_0001n,
      write64: (_bar: number, _at: number, value: bigint) => written.push(value),
    });
    expect(lines()).toEqual(['write64 BAR 0+0x200 ← 0x100000002', 'read64 BAR 0+0x200 → 0xffffffff00000001']);
    expect(written).toEqual([0x1_0000_0002n]);
  });

  it('the model answers the same with a reader and without', () => {
    const { rig, file } = open();
    const run = () => {
      rig.model.accesses.length = 0;
      const bar = file.region(0);
      bar.write64(0x300, 0x1122_3344_5566_7788n);
      return [bar.read64(0x300), bar.read8(0x301), bar.read(0x2fe, new Uint8Array(7)), ...rig.model.accesses];
    };
    const before = run();
    using _reader = rig.machine.context.stream.read();
    expect(run()).toEqual(before);
  });

  it('that the function does not decode are dropped, with the reason', () => {
    const { rig, seen } = open();
    const lines = seen(() => {
      rig.fn.config.write(4, 2, 0);
      rig.fn.host.write(0, 0x200, 4, 1);
      rig.fn.host.read(4, 0, 1);
    });
    expect(lines).toEqual([
      'write32 BAR 0+0x200 ← 0x1  dropped: memory decoding is off (COMMAND.Memory)',
      'read8 BAR 4+0x0 → 0xff  dropped: I/O decoding is off (COMMAND.IO)',
    ]);
  });

  it('the signal of an ioeventfd is one', () => {
    const { file, seen } = open();
    const source = new FakeEventFd();
    file.ioeventfd({ region: 0, offset: 0x200, size: 4, data: 7n, source });
    expect(seen(() => source.signal())).toEqual(['write32 BAR 0+0x200 ← 0x7']);
  });

  it('the MSI-X table through a mapping is the device’s: its unmask is the cause of a delivery', () => {
    const { rig, file } = open();
    const mapping = file.region(0).map(0, 0x1000);
    file.setIrqs({ index: IrqIndex.MSIX, action: 'trigger', data: 'sinks', start: 0, count: 1, sinks: [new FakeEventFd()] });
    rig.fn.config.write(4, 2, Command.MEMORY | Command.MASTER);
    const lines = linesOf(rig.machine.context.stream, () => {
      mapping.write32(0x2c, 1);
      rig.fn.host.irq.trigger(0);
      mapping.write32(0x2c, 0);
    });
    expect(lines).toEqual([
      'write32 BAR 0+0x2c ← 0x1',
      'MSI-X 0 raised',
      'MSI-X 0 pending: mask (after 1)',
      'write32 BAR 0+0x2c ← 0x0',
      'MSI-X 0 delivered (after 3)',
    ]);
  });

  it('the hidden MSI-X table is one dropped access (S2-34), and what lies beside it is the device’s', () => {
    const { seen } = open();
    const lines = seen((file) => {
      file.region(0).read32(0x20);
      file.region(0).write(0x1c, new Uint8Array(8));
    });
    const hidden = 'dropped: the MSI-X table is hidden: SET_IRQS programs it';
    expect(lines).toEqual([`read32 BAR 0+0x20 → 0xffffffff  ${hidden}`, 'write32 BAR 0+0x1c ← 0x0', `write32 BAR 0+0x20 ← 0x0  ${hidden}`]);
  });
});

describe('refused accesses', () => {
  it('have errno and reason: a closed gate, past the end, a read-only region, an absent one', () => {
    const { file, seen } = open();
    const lines = seen(() => {
      for (const access of [
        () => file.region(0).read32(0x1000),
        () => file.region(0).write32(0xffe, 5),
        () => file.region(ROM).write8(0, 1),
        () => file.region(1).read8(0),
        () => file.region(CONFIG).read32(0xffe),
        () => {
          file.region(CONFIG).write16(4, 0);
          file.region(0).read32(0x200);
        },
      ]) {
        expect(errnoFrom(access)).not.toBe('none');
      }
    }).filter((line) => !line.includes('write16 config'));
    expect(lines).toEqual([
      'read32 BAR 0+0x1000  refused EINVAL: 4 bytes at 0x1000 reach past its 0x1000 bytes',
      'write32 BAR 0+0xffe ← 0x5  refused EINVAL: 4 bytes at 0xffe reach past its 0x1000 bytes',
      expect.stringContaining('write8 ROM+0x0 ← 0x1  refused EINVAL: '),
      expect.stringContaining('read8 BAR 1+0x0  refused EINVAL: '),
      expect.stringContaining('read32 config+0xffe  refused EFAULT: '),
      'read32 BAR 0+0x200  refused EIO: memory decoding is off (COMMAND.Memory)',
    ]);
  });

  it('of a device that is gone, and of a closed file', () => {
    const { rig, file, seen } = open();
    const bar = file.region(0);
    expect(
      seen(() => {
        rig.device.revoke('it was pulled');
        expect(errnoFrom(() => bar.read32(0))).toBe('ENODEV');
      }),
    ).toEqual(['read32 BAR 0+0x0  refused ENODEV: 0000:00:04.0 is gone: it was pulled']);
  });

  it('of a mapping: SIGBUS, outside of it, and behind the region’s end', () => {
    const { rig, file, seen } = open({ ...plain, bars: [{ index: 0, size: 0x100, type: 'mem32' }] });
    file.close();
    rig.fn.config.setBarAddress(0, 0xd000_0000n);
    const lines = seen(() => {
      const again = rig.open();
      const mapping = again.region(0).map();
      mapping.read16(0x100);
      mapping.write32(0x200, 1);
      expect(errnoFrom(() => mapping.read32(0x1000))).toBe('EFAULT');
      again.region(CONFIG).write16(4, 0);
      expect(errnoFrom(() => mapping.write8(0, 1))).toBe('BusError');
    }).filter((line) => !line.includes('config'));
    expect(lines).toEqual([
      "read16 BAR 0+0x100 → 0xffff  dropped: behind the region's end",
      "write32 BAR 0+0x200 ← 0x1  dropped: behind the region's end",
      expect.stringContaining('read32 BAR 0+0x1000  refused EFAULT: '),
      'write8 BAR 0+0x0 ← 0x1  refused EIO: memory decoding is off (COMMAND.Memory)',
    ]);
  });
});

describe('plain memory', () => {
  it('is one event whatever the size, and its values are data', () => {
    const { events } = open();
    const act = (file: DeviceFile) => {
      file.region(2).write(8, new Uint8Array(5000).fill(7));
      file.region(2).write32(0x2000, 0x1234);
      file.region(2).read(8, new Uint8Array(3));
    };
    const head = { kind: 'access', region: 2, verdict: 'device' };
    expect(events(act)).toMatchObject([
      { ...head, op: 'write', offset: 8, size: 5000 },
      { ...head, op: 'write', offset: 0x2000, size: 4 },
      { ...head, op: 'read', offset: 8, size: 3 },
    ]);
    expect(events(act).some((event) => 'value' in event || 'data' in event)).toBe(false);
    expect(events(act, true)).toMatchObject([{ data: new Uint8Array(5000).fill(7) }, { value: 0x1234 }, { data: Uint8Array.of(7, 7, 7) }]);
  });

  it('keeps its values to itself also where an access is refused or dropped', () => {
    const { file, events } = open();
    const lines = events(() => {
      const mapping = file.region(2).map();
      file.region(CONFIG).write16(4, 0);
      expect(errnoFrom(() => file.region(2).write32(0, 0x5eed))).toBe('EIO');
      expect(errnoFrom(() => mapping.write32(0, 0x5eed))).toBe('BusError');
    });
    expect(lines.filter((event) => 'verdict' in event && event.region === 2)).toHaveLength(2);
    expect(JSON.stringify(lines)).not.toContain(String(0x5eed));
  });

  it('a mapping is an event, and its end is one', () => {
    const { events } = open();
    const got = events((file) => {
      file.region(2).map(0x1000, 0x2000)[Symbol.dispose]();
    });
    const range = { kind: 'mapping', region: 2, offset: 0x1000, size: 0x2000 };
    expect(got).toMatchObject([
      { ...range, op: 'map' },
      { ...range, op: 'unmap' },
    ]);
  });
});

describe('config space', () => {
  it('says who decides and by which rule', () => {
    const { events } = open();
    const got = events((file) => {
      const config = file.region(CONFIG);
      config.read16(8);
      config.write32(0x10, 0xffff_ffff);
      config.write16(4, 6);
      config.write16(0, 7);
      config.write8(0x0c, 4);
      config.read(0, new Uint8Array(256));
    });
    expect(got.map((event) => 'verdict' in event && [event.verdict, event.value, (event.rule ?? '') === ''])).toEqual([
      ['device', 0, true],
      ['virtual', 0xffff_ffff, false],
      ['mixed', 6, false],
      ['dropped', 7, false],
      [expect.stringMatching(/device|virtual/), 4, expect.any(Boolean)],
      ['mixed', undefined, false],
    ]);
  });

  it('an access of several registers has the rule of each, by its name', () => {
    const { events } = open();
    const [two, same, header] = events((file) => {
      const config = file.region(CONFIG);
      config.read32(4);
      config.read32(0);
      config.read(0, new Uint8Array(64));
    }).map((event) => ('rule' in event && event.rule) || '');
    expect(two).toMatch(/^COMMAND: .*; STATUS: /);
    expect(same).toMatch(/^vendor id, device id: [^:]*$/);
    expect(header).toMatch(/^vendor id, .*; \d+ more$/);
  });

  it('is the cause of its effects', () => {
    const { seen } = open();
    const lines = seen((file) => file.region(CONFIG).write16(4, Command.MASTER), ['access', 'enable']);
    expect(lines).toEqual([expect.stringMatching(/^write16 config\+0x4 ← 0x4 {2}mixed: /), 'bus master on, memory off, I/O off (after 0)']);
  });
});

it('the ROM is the device’s, and ones behind the image', () => {
  const { file, seen } = open();
  expect(file.region(ROM).info.size).toBeGreaterThan(8);
  expect(
    seen(() => {
      file.region(ROM).read16(0);
      file.region(ROM).read32(4);
      file.region(ROM).read8(100);
    }),
  ).toEqual([
    'read16 ROM+0x0 → 0xaa55',
    'read32 ROM+0x4 → 0xffff0403  mixed: behind the image',
    'read8 ROM+0x64 → 0xff  dropped: behind the image',
  ]);
});

describe('a mediator', () => {
  const BDF = '0000:01:00.0';

  function mediated(hooks: RegionHooks<number>) {
    const mediators = new Mediators();
    mediators.register({ name: 'one', open: () => ({ handle: 0, regions: { 0: hooks } }), release: () => {} });
    const { machine } = testMachine({ devices: [alone('01.0', { at: '00.0', model: 'probe', driver: 'vfio-pci' })] }, { mediators });
    const { device } = openAll(machine, BDF);
    return (act: (file: DeviceFile) => void) => linesOf(machine.context.stream, () => act(device), ['access']);
  }

  it('that answers is the event, and the accesses that it makes name it as their cause', () => {
    const seen = mediated({
      read: (_handle, offset, into, direct) => {
        direct.read(offset, into);
        into.fill(9);
        return into.length;
      },
    });
    expect(seen((file) => file.region(0).read16(0))).toEqual([
      'read16 BAR 0+0x0 → 0x909  mediator: one',
      'read16 BAR 0+0x0 → 0xf00d (after 0)',
    ]);
  });

  it('that passes leaves one event: the device’s', () => {
    const seen = mediated({ write: () => PASS_THROUGH });
    expect(seen((file) => file.region(0).write32(0, 3))).toEqual(['write32 BAR 0+0x0 ← 0x3']);
  });

  it('that refuses leaves one event, with its errno', () => {
    const seen = mediated({
      read: () => {
        throw new VfioError('EPERM', 'not for you');
      },
      write: (_handle, _offset, from, direct) => direct.write(2 ** 40, from),
    });
    expect(seen((file) => void errnoFrom(() => file.region(0).read32(0)))).toEqual(['read32 BAR 0+0x0  refused EPERM: not for you']);
    expect(seen((file) => void errnoFrom(() => file.region(0).write32(0, 1)))).toEqual([
      'write32 BAR 0+0x0  mediator: one fails',
      expect.stringContaining('write32 BAR 0+0x10000000000 ← 0x1  refused EINVAL: '),
    ]);
  });
});

describe('a model', () => {
  function scripted() {
    const rig = new DeviceRig(plain);
    const file = rig.open();
    return { rig, file, stream: rig.machine.context.stream, bar: file.region(0) };
  }

  it('that throws in an access leaves the events after it whole', () => {
    const { rig, stream, bar } = scripted();
    rig.model.onRead = () => {
      throw new Error('no');
    };
    const lines = linesOf(stream, () => {
      bar.read32(0);
      bar.write32(4, 1);
    }, ['access']);
    expect(lines).toEqual(['read32 BAR 0+0x0 → 0xffffffff', 'write32 BAR 0+0x4 ← 0x1']);
  });

  it('that comes back in the middle of an access makes events of its own, in order', () => {
    const { rig, stream, bar } = scripted();
    rig.model.onWrite = (_bar, offset) => {
      if (offset === 0) bar.write32(8, 2);
    };
    rig.model.onRead = (_bar, offset) => (offset === 0 ? bar.read32(8) + 1 : undefined);
    const lines = linesOf(stream, () => {
      bar.write32(0, 1);
      bar.read32(0);
    });
    expect(lines).toEqual([
      'write32 BAR 0+0x0 ← 0x1',
      'write32 BAR 0+0x8 ← 0x2 (after 0)',
      'read32 BAR 0+0x0 → 0x3',
      'read32 BAR 0+0x8 → 0x2 (after 2)',
    ]);
  });

  it('that ends the reader, or starts one, in the middle of an access hurts neither', () => {
    const { rig, stream, bar } = scripted();
    const reader = stream.read();
    const later: Disposable[] = [];
    rig.model.onRead = () => {
      reader[Symbol.dispose]();
      later.push(stream.read());
      return 5;
    };
    expect(bar.read32(0)).toBe(5);
    rig.model.onRead = null;
    bar.write32(4, 6);
    const [second] = later as (Disposable & { take(): unknown[] })[];
    expect(second!.take()).toMatchObject([{ kind: 'access', op: 'write', value: 6 }]);
    second![Symbol.dispose]();
    expect(rig.model.host.events?.on).toBe(false);
  });

  it('that emits without end in one access takes bounded memory, and the loss is counted', () => {
    const { rig, stream, bar } = scripted();
    using reader = stream.read();
    rig.model.onRead = () => {
      for (let i = 0; i < 2 * RING_RECORDS; i++) rig.fn.host.events.emit('power', { state: 'D0' });
      return 1;
    };
    bar.read32(0);
    const [first, ...rest] = reader.take();
    expect(first).toMatchObject({ kind: 'dropped', count: RING_RECORDS + 1 });
    expect(rest).toHaveLength(RING_RECORDS);
  });

  it('timers that it starts in an access carry the access as cause', () => {
    const { rig, stream, bar } = scripted();
    rig.model.onWrite = () => void rig.model.host.clock.after(5, () => void rig.fn.host.events.emit('power', { state: 'D0' }));
    const lines = linesOf(stream, () => {
      bar.write32(0, 1);
      rig.clock.advance(10);
      bar.read32(4);
    });
    expect(lines).toEqual(['write32 BAR 0+0x0 ← 0x1', 'power: D0 (after 0)', 'read32 BAR 0+0x4 → 0x0']);
  });
});

it('while there is no reader, no event is built', () => {
  const { rig, file } = open();
  const { events } = rig.fn.host;
  const calls: string[] = [];
  for (const method of ['emit', 'begin', 'access', 'interrupt', 'dma'] as const) {
    (events as unknown as Record<string, unknown>)[method] = () => calls.push(method);
  }
  const bar = file.region(0);
  bar.read32(0x200);
  bar.write64(0x200, 1n);
  bar.read32(0x20);
  bar.map(0, 0x1000).read32(0x200);
  file.region(2).write(0, new Uint8Array(100));
  file.region(CONFIG).write16(4, Command.MASTER);
  file.region(ROM);
  for (const refused of [() => bar.read32(0x200), () => bar.read32(0x1000)]) errnoFrom(refused);
  expect(calls).toEqual([]);
});
