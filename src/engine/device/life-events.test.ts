import { describe, expect, it } from 'vitest';
import { DeviceRig, plain, resettable, setCommand } from '../../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { eventsOf, linesOf } from '../../../tests/kit/event-words.ts';
import { eventfds } from '../../../tests/kit/interrupt-rig.ts';
import { PF, sriovRig, VF0, VF1 } from '../../../tests/kit/sriov-rig.ts';
import type { EventKind } from '../../abi/event.ts';
import { Command } from '../../abi/pci.ts';
import { Feature, IrqIndex } from '../../abi/vfio.ts';
import { aer, msi, pcie, pm } from '../../pci/capabilities.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';
import { HeapMemory } from '../../sys/fake.ts';
import type { DeviceFile } from './device-file.ts';

const sleepy: PciDeclaration = { ...resettable, capabilities: [pcie({ flr: true }), pm()] };

function rigOf(declaration: PciDeclaration = sleepy, options = {}) {
  const rig = new DeviceRig(declaration, options);
  const seen = (act: () => void, kinds?: readonly EventKind[]) => linesOf(rig.machine.context.stream, act, kinds);
  return { rig, seen };
}

function causesOf(rig: DeviceRig, act: () => void) {
  const events = eventsOf(rig.machine.context.stream, act);
  const bySeq = new Map(events.map((event) => [event.seq, event]));
  const rootOf = (event: (typeof events)[number]): string => {
    const cause = bySeq.get(event.cause);
    return cause === undefined ? event.kind : rootOf(cause);
  };
  return events.filter(({ device }) => device === rig.bdf).map((event) => [event.kind, rootOf(event)]);
}

describe('open and close', () => {
  it('are events with the process, and the cause of all that happens to the function', () => {
    const { rig } = rigOf();
    let file: DeviceFile | null = null;
    const opened = causesOf(rig, () => {
      file = rig.open();
    });
    expect(new Set(opened.map(([, root]) => root))).toEqual(new Set(['open']));
    expect(opened.map(([kind]) => kind)).toEqual(expect.arrayContaining(['open', 'power', 'enable', 'reset']));
    const closed = causesOf(rig, () => file!.close());
    expect(new Set(closed.map(([, root]) => root))).toEqual(new Set(['open']));
    expect(closed[0]).toEqual(['open', 'open']);
  });

  it('a refused open has errno and reason', () => {
    const { rig } = rigOf();
    using _lock = rig.fn.host.lock('a test');
    const [event] = eventsOf(rig.machine.context.stream, () => expect(errnoFrom(() => rig.open())).toBe('EAGAIN'), ['open']);
    expect(event).toMatchObject({ step: 'refused', errno: 'EAGAIN', reason: expect.stringContaining('locked by a test') });
  });
});

describe('resets', () => {
  const resets = (rig: DeviceRig, act: () => void) => linesOf(rig.machine.context.stream, act, ['reset']);

  it('say by whom and by which method', () => {
    const { rig } = rigOf();
    const file = rig.open();
    const control = rig.fn.config.findCapability(0x10) + 8;
    expect(resets(rig, () => file.reset())).toEqual(['reset by VFIO_DEVICE_RESET (flr)']);
    expect(resets(rig, () => file.region(7).write16(control, 0x8000))).toEqual(['reset by config space (flr)']);
    expect(resets(rig, () => file.close())).toEqual(['reset by close (flr)']);
    expect(resets(rig, () => rig.open())).toEqual(['reset by open (flr)']);
  });

  it('that fail have the errno', () => {
    const { rig } = rigOf();
    const file = rig.open();
    using _lock = rig.fn.host.lock('a test');
    const lines = resets(rig, () => expect(errnoFrom(() => file.reset())).toBe('EAGAIN'));
    expect(lines).toEqual([expect.stringContaining('reset by VFIO_DEVICE_RESET (flr): EAGAIN: ')]);
  });

  it('of a bus are one of each function, caused by the request', () => {
    const { rig } = rigOf(resettable, { behindPort: true });
    const file = rig.open();
    expect(resets(rig, () => file.hotReset([rig.group]))).toEqual([
      'reset by VFIO_DEVICE_PCI_HOT_RESET (bus)',
      'reset by bus (bus) (after 0)',
    ]);
  });

  it('by the power state are the function’s own, and none where a reset uses the power state', () => {
    const { rig } = rigOf({ ...plain, capabilities: [pm({ noSoftReset: false })] });
    const file = rig.open();
    const control = rig.fn.config.findCapability(1) + 4;
    expect(resets(rig, () => file.reset())).toEqual(['reset by VFIO_DEVICE_RESET (pm)']);
    expect(
      resets(rig, () => {
        file.region(7).write16(control, 3);
        file.region(7).write16(control, 0);
      }),
    ).toEqual(['reset by power']);
  });
});

describe('power', () => {
  it('states of PMCSR, low power and the machine’s sleep', async () => {
    const { rig, seen } = rigOf();
    const file = rig.open();
    expect(
      seen(() => {
        file.lowPower.enter();
        file.lowPower.exit();
      }, ['power']),
    ).toEqual(['power: low power', 'power: D3hot', 'power: awake', 'power: D0']);
    using reader = rig.machine.context.stream.read({ kinds: ['power'], devices: [rig.bdf] });
    const asleep = rig.device.suspend();
    await asleep;
    rig.device.resume();
    expect(reader.take()).toMatchObject([{ state: 'suspended' }, { state: 'D3hot' }, { state: 'resumed' }, { state: 'D0' }]);
  });

  it('COMMAND: what the function decodes, once for each change', () => {
    const { rig, seen } = rigOf();
    const file = rig.open();
    expect(
      seen(() => {
        setCommand(file, Command.MEMORY | Command.MASTER);
        setCommand(file, Command.MEMORY | Command.MASTER);
      }, ['enable']),
    ).toEqual(['bus master on, memory on, I/O off']);
  });
});

it('SET_IRQS is an event with its refusal, and the cause of what follows', () => {
  const { rig, seen } = rigOf(resettable);
  const file = rig.open();
  const index = IrqIndex.MSI;
  const lines = seen(() => {
    file.setIrqs({ index, action: 'trigger', data: 'sinks', start: 0, count: 1, sinks: eventfds(1) });
    file.setIrqs({ index, action: 'trigger', data: 'none', start: 0, count: 1 });
    expect(errnoFrom(() => file.setIrqs({ index, action: 'mask', data: 'none', start: 0, count: 1 }))).not.toBe('none');
    expect(errnoFrom(() => file.setIrqs({ index: 77, action: 'mask', data: 'none', start: 0, count: 1 }))).toBe('EINVAL');
  }, ['set-irqs', 'interrupt']);
  expect(lines).toEqual([
    'SET_IRQS MSI trigger, eventfd, 1 from 0',
    'MSI 0 unmasked: driver (after 0)',
    'SET_IRQS MSI trigger, none, 1 from 0',
    'MSI 0 delivered (after 2)',
    expect.stringMatching(/^SET_IRQS MSI mask, none, 1 from 0: [A-Z]+: /),
  ]);
});

it('SET_IRQS with fewer vectors than it asks for says how many there are', () => {
  const { rig, seen } = rigOf({ ...resettable, capabilities: [msi({ vectors: 4 })] }, { params: { maxVectors: 1 } });
  const file = rig.open();
  const sinks = eventfds(2);
  const lines = seen(() => {
    expect(file.setIrqs({ index: IrqIndex.MSI, action: 'trigger', data: 'sinks', start: 0, count: 2, sinks })).toBe(1);
  }, ['set-irqs']);
  expect(lines).toEqual(['SET_IRQS MSI trigger, eventfd, 2 from 0: the device can have 1']);
});

it('features by name, also refused ones; a token and a migration state have events of their own', () => {
  const { rig, seen } = rigOf();
  const file = rig.open();
  const lines = seen(() => {
    file.feature({ feature: Feature.LOW_POWER_EXIT, probe: true, set: true });
    file.lowPower.exit();
    expect(errnoFrom(() => file.dmaLogging.stop())).toBe('ENOTTY');
    expect(errnoFrom(() => file.setVfToken(new Uint8Array(16).fill(7)))).toBe('ENOTTY');
    expect(errnoFrom(() => file.migration.setState(1))).toBe('ENOTTY');
    expect(errnoFrom(() => file.ioeventfd({ region: 7, offset: 0, size: 4, data: 0n, source: null }))).toBe('EINVAL');
  }, ['feature']);
  expect(lines).toEqual([
    'probe LOW_POWER_EXIT',
    'set LOW_POWER_EXIT',
    expect.stringContaining('set DMA_LOGGING_STOP: ENOTTY: '),
    expect.stringContaining('set IOEVENTFD: EINVAL: '),
  ]);
});

it('an error (AER) is an event, and the cause of ERR and of the recovery’s reset', () => {
  const { rig } = rigOf({ ...resettable, capabilities: [pcie({ flr: true })], extendedCapabilities: [aer()] });
  const file = rig.open();
  file.setIrqs({ index: IrqIndex.ERR, action: 'trigger', data: 'sinks', start: 0, count: 1, sinks: eventfds(1) });
  const control = rig.fn.config.findCapability(0x10) + 8;
  rig.fn.config.write(control, 2, 7);
  const lines = linesOf(rig.machine.context.stream, () => {
    rig.fn.host.reportError('fatal');
    rig.clock.advance(1);
  }, ['error', 'interrupt', 'reset']);
  expect(lines).toEqual(['reports a fatal PCI Express error', 'ERR delivered (after 0)', 'reset by recovery (flr) (after 0)']);
  expect(rig.logged).toContain('warn: 0000:00:04.0: reports a fatal PCI Express error');
});

it('a PF’s reset takes its VFs along: each has the event', () => {
  const { machine } = sriovRig();
  machine.setNumVfs(PF, 2);
  const events = eventsOf(machine.context.stream, () => machine.function(PF).host.functionReset(), ['reset']);
  expect(events).toMatchObject([
    { device: VF0, by: 'physical function' },
    { device: VF1, by: 'physical function' },
  ]);
});

it('notes about a function come from it', () => {
  const { rig } = rigOf();
  rig.open();
  const notes = eventsOf(rig.machine.context.stream, () => rig.device.revoke('it was pulled'), ['note']);
  expect(notes).toMatchObject([{ device: rig.bdf, about: 'revoked' }]);
});

it('two runs of one scenario make equal events, but for the host’s time', () => {
  const run = () => {
    const rig = new DeviceRig(resettable);
    const events = eventsOf(rig.machine.context.stream, () => {
      const file = rig.open();
      rig.container.mapMemory({ process: file.process, memory: HeapMemory.allocate(4096), iova: 0x1000n, access: 3 });
      const { host } = rig.model;
      rig.model.onWrite = (_bar, offset, _width, value) => {
        if (offset !== 0) return;
        host.dma.tryRead(value, new Uint8Array(8));
        host.clock.after(3, () => {
          host.dma.tryWrite(value, Uint8Array.of(1));
          host.irq.trigger(0);
        });
      };
      file.setIrqs({ index: IrqIndex.MSI, action: 'trigger', data: 'sinks', start: 0, count: 1, sinks: eventfds(1) });
      setCommand(file, Command.MEMORY | Command.MASTER);
      file.region(0).write32(0, 0x1000);
      rig.clock.advance(5);
      file.region(0).write32(0, 0x9000);
      file.reset();
      rig.clock.advance(5);
      file.close();
    });
    return events.map(({ hostNs: _, ...event }) => event);
  };
  const first = run();
  expect(run()).toEqual(first);
  const doorbell = first.find((event) => event.kind === 'access' && event.op === 'write' && event.region === 0)!;
  const caused = first.filter(({ cause }) => cause === doorbell.seq).map(({ kind }) => kind);
  expect(caused).toEqual(['dma', 'dma', 'interrupt']);
});
