import { describe, expect, it } from 'vitest';
import { linesOf } from '../../../tests/kit/event-words.ts';
import { eventfds, InterruptRig } from '../../../tests/kit/interrupt-rig.ts';
import { Command, Config } from '../../abi/pci.ts';
import { IrqIndex } from '../../abi/vfio.ts';

const { MSI, MSIX, ERR, REQ } = IrqIndex;

function rigWith(act: (rig: InterruptRig) => void = () => {}) {
  const rig = new InterruptRig();
  act(rig);
  const seen = (then: () => void) => linesOf(rig.host.events.stream as never, then, ['interrupt']);
  return { rig, seen };
}

describe('messages', () => {
  it('raised leads to delivered', () => {
    const { rig, seen } = rigWith((r) => r.arm(MSIX, eventfds(4)));
    expect(seen(() => rig.host.trigger(3))).toEqual(['MSI-X 3 raised', 'MSI-X 3 delivered (after 0)']);
  });

  it('a masked vector is pending, and delivered by the unmask', () => {
    const { rig, seen } = rigWith((r) => r.arm(MSI, eventfds(2)));
    const mask = rig.config.findCapability(5) + 0x10;
    expect(
      seen(() => {
        rig.config.write(mask, 4, 1);
        rig.host.trigger(0);
        rig.config.write(mask, 4, 0);
      }),
    ).toEqual(['MSI 0 raised', 'MSI 0 pending: mask (after 0)', 'MSI 0 delivered']);
  });

  it('those of a function that stands still wait, and are raised once', () => {
    const { rig, seen } = rigWith((r) => r.arm(MSIX, eventfds(1)));
    expect(
      seen(() => {
        rig.host.hold();
        rig.host.trigger(0);
        rig.host.release();
      }),
    ).toEqual(['MSI-X 0 raised', 'MSI-X 0 pending: standstill (after 0)', 'MSI-X 0 delivered']);
  });

  it('that cannot leave are dropped with the reason, and counted by the source', () => {
    const { rig, seen } = rigWith((r) => r.arm(MSIX, [...eventfds(1), null]));
    const lines = seen(() => {
      rig.host.trigger(99);
      rig.config.write(Config.COMMAND, 2, Command.MEMORY);
      rig.host.trigger(0);
      rig.config.write(Config.COMMAND, 2, Command.MEMORY | Command.MASTER);
      rig.disable(MSIX);
      rig.host.trigger(0);
    });
    expect(lines.filter((line) => line.includes('dropped'))).toEqual([
      'MSI-X 99 dropped: bad-vector (after 0)',
      'MSI-X 0 dropped: bus-master-off (after 2)',
      expect.stringMatching(/^MSI-X 0 dropped: not-enabled/),
    ]);
    expect(rig.host.dropped).toMatchObject({ badVector: 1, busMasterOff: 1, notEnabled: 1, remapped: 0 });
  });

  it('remapped messages have the line in the log, at a limited rate', () => {
    const { rig, seen } = rigWith((r) => r.arm(MSIX, eventfds(1)));
    const lines = seen(() => {
      rig.msix!.unroute(0);
      for (let i = 0; i < 100; i++) rig.host.trigger(0);
    });
    expect(lines[1]).toBe('MSI-X vector 0 sent a message that was not programmed; dropped (after 0)');
    expect([rig.logged.length, rig.host.dropped.remapped]).toEqual([1, 100]);
  });

  it('a vector that gets or loses its sink is unmasked or masked by the driver', () => {
    const { rig, seen } = rigWith();
    expect(
      seen(() => {
        rig.arm(MSIX, eventfds(1));
        rig.arm(MSIX, [null]);
      }),
    ).toEqual(['MSI-X 0 unmasked: driver', 'MSI-X 0 masked: driver']);
  });
});

describe('INTx', () => {
  it('is raised, masked by its own signal and delivered; lowered and unmasked by the driver', () => {
    const { rig, seen } = rigWith((r) => r.arm(IrqIndex.INTX, eventfds(1)));
    const lines = seen(() => {
      rig.host.raise();
      rig.host.raise();
      rig.host.lower();
      rig.intx({ action: 'unmask', data: 'none' });
    });
    expect(lines).toEqual([
      'INTx raised',
      'INTx masked: automask (after 0)',
      'INTx delivered (after 0)',
      'INTx lowered',
      'INTx unmasked: driver',
    ]);
  });

  it('while it is masked it is pending, and the unmask delivers it', () => {
    const { rig, seen } = rigWith((r) => r.arm(IrqIndex.INTX, eventfds(1)));
    const lines = seen(() => {
      rig.intx({ action: 'mask', data: 'none' });
      rig.host.raise();
      rig.intx({ action: 'unmask', data: 'none' });
    });
    expect(lines).toEqual(['INTx masked: driver', 'INTx raised', 'INTx pending: COMMAND.InterruptDisable (after 1)', 'INTx delivered']);
  });

  it('the user’s COMMAND.InterruptDisable masks and unmasks', () => {
    const { rig, seen } = rigWith((r) => r.arm(IrqIndex.INTX, eventfds(1)));
    const lines = seen(() => {
      rig.interrupts.intxDisable(true);
      rig.interrupts.intxDisable(false);
    });
    expect(lines).toEqual(['INTx masked: COMMAND.InterruptDisable', 'INTx unmasked: COMMAND.InterruptDisable']);
  });
});

it('ERR and REQ are delivered', () => {
  const { rig, seen } = rigWith((r) => {
    r.arm(ERR, eventfds(1));
    r.arm(REQ, eventfds(1));
  });
  expect(
    seen(() => {
      rig.interrupts.signalError();
      rig.interrupts.signalRequest();
    }),
  ).toEqual(['ERR delivered', 'REQ delivered']);
});

it('a sink is signalled with the delivery as the cause of what it does', () => {
  const { rig, seen } = rigWith();
  const sink = { signal: () => void rig.host.events.interrupt(0, 4, 0), get: () => sink, put: () => {} };
  rig.arm(MSIX, [sink]);
  expect(seen(() => rig.host.trigger(0))).toEqual(['MSI-X 0 raised', 'MSI-X 0 delivered (after 0)', 'REQ raised (after 1)']);
});

it('while there is no reader, no event is built', () => {
  const { rig } = rigWith((r) => r.arm(MSIX, eventfds(2)));
  const { events } = rig.host;
  for (const method of ['emit', 'interrupt'] as const) (events as unknown as Record<string, unknown>)[method] = () => expect.unreachable();
  expect(rig.host.trigger(0)).toBe(true);
  expect(rig.host.trigger(99)).toBe(false);
  rig.disable(MSIX);
  rig.arm(IrqIndex.INTX, eventfds(1));
  rig.host.raise();
  rig.intx({ action: 'unmask', data: 'none' });
  rig.host.lower();
  expect([rig.host.dropped.badVector, rig.host.asserted]).toEqual([1, 1]);
});
