import { describe, expect, it } from 'vitest';
import { bdf, conventional, everything, InterruptRig } from '../../tests/kit/interrupt-rig.ts';
import { CapId, Command, Config, Msi, Msix, Pm, PowerState } from '../abi/pci.ts';
import { msi, pm } from '../pci/capabilities.ts';
import type { IrqListener } from './host-irq.ts';

const { INTX_DISABLE, MASTER, MEMORY } = Command;

/** A handler that notes the interrupts that reach it. */
class Handler implements IrqListener {
  asserted = 0;
  readonly messages: number[] = [];
  intxAsserted(): void {
    this.asserted++;
  }
  message(vector: number): void {
    this.messages.push(vector);
  }
}

/**
 * A rig whose interrupts arrive at a plain handler, MSI enabled by hand with message
 * 0xfee00000/0x1234.
 */
function withMsi(declaration = everything) {
  const rig = new InterruptRig(declaration);
  const handler = new Handler();
  rig.host.listener = handler;
  const at = rig.config.findCapability(CapId.MSI);
  rig.config.write(at + Msi.ADDRESS_LO, 4, 0xfee0_0000);
  rig.config.write(at + Msi.DATA_64, 2, 0x1234);
  rig.config.write(at + Msi.FLAGS, 2, Msi.FLAGS_ENABLE | (2 << Msi.FLAGS_QSIZE_SHIFT));
  rig.host.routeMsi(4, 0xfee0_0000, 0, 0x1234);
  return { rig, handler, at };
}

function withMsix() {
  const rig = new InterruptRig();
  const handler = new Handler();
  rig.host.listener = handler;
  const at = rig.config.findCapability(CapId.MSIX);
  rig.config.write(at + Msix.FLAGS, 2, Msix.FLAGS_ENABLE);
  for (let vector = 0; vector < 8; vector++) {
    rig.msix!.route(vector, 0xfee0_0010 + (vector << 5), 0, 0);
    rig.msix!.program(vector);
    rig.msix!.setMasked(vector, false);
  }
  return { rig, handler, at };
}

describe('B.9 INTx automask: the pin', () => {
  it('B.9 INTx automask: STATUS bit 3 follows the device, the pin is quiet while COMMAND.InterruptDisable is set', () => {
    const rig = new InterruptRig();
    const handler = new Handler();
    rig.host.listener = handler;
    rig.config.write(Config.COMMAND, 2, INTX_DISABLE);
    rig.host.raise();
    expect([rig.statusBit, rig.host.pinAsserted, handler.asserted]).toEqual([true, false, 0]);
    rig.config.write(Config.COMMAND, 2, 0);
    expect([rig.host.pinAsserted, handler.asserted]).toEqual([true, 1]);
    rig.host.raise();
    expect(handler.asserted).toBe(1);
    rig.host.lower();
    expect([rig.statusBit, rig.host.pinAsserted]).toEqual([false, false]);
  });

  it('B.9 INTx automask: a handler that comes late hears of a level that is high', () => {
    const rig = new InterruptRig();
    rig.host.raise();
    const handler = new Handler();
    rig.host.listener = handler;
    expect(handler.asserted).toBe(1);
  });

  it('B.9 INTx automask: a function that sends messages leaves its pin alone', () => {
    const { rig, handler, at } = withMsi();
    rig.host.raise();
    expect([rig.host.mode, rig.host.pinAsserted, handler.asserted]).toEqual(['msi', false, 0]);
    rig.config.write(at + Msi.FLAGS, 2, 0);
    expect([rig.host.mode, rig.host.vectors, handler.asserted]).toEqual(['intx', 1, 1]);
  });

  it('B.9 INTX TRIGGER a function without a pin has nothing to raise', () => {
    const rig = new InterruptRig({ ...everything, interruptPin: 0 });
    rig.host.raise();
    expect([rig.statusBit, rig.host.pinAsserted, rig.host.dropped.noPin]).toEqual([false, false, 1]);
  });

  it('B.9 INTx automask: a restored configuration counts as a write', () => {
    const rig = new InterruptRig();
    const saved = rig.config.save();
    const handler = new Handler();
    rig.host.listener = handler;
    rig.config.write(Config.COMMAND, 2, INTX_DISABLE);
    rig.host.raise();
    rig.config.restore(saved);
    expect([rig.statusBit, handler.asserted]).toEqual([true, 1]);
  });
});

describe('B.9 MSI: what lets a message out', () => {
  it('B.9 MSI sends only when enabled, and only vectors it was given', () => {
    const { rig, handler, at } = withMsi();
    expect([rig.host.mode, rig.host.vectors]).toEqual(['msi', 4]);
    expect([0, 3].map((v) => rig.host.trigger(v))).toEqual([true, true]);
    expect([4, -1, 1.5, Number.NaN, 2 ** 53].map((v) => rig.host.trigger(v))).toEqual([false, false, false, false, false]);
    rig.config.write(at + Msi.FLAGS, 2, 0);
    expect(rig.host.trigger(0)).toBe(false);
    expect(handler.messages).toEqual([0, 3]);
    expect(rig.host.dropped).toMatchObject({ badVector: 5, notEnabled: 1 });
  });

  it('S2-38 a message is a DMA write: without bus mastering it is dropped and counted', () => {
    const { rig, handler } = withMsi();
    rig.config.write(Config.COMMAND, 2, MEMORY);
    expect(rig.host.trigger(0)).toBe(false);
    rig.config.write(Config.COMMAND, 2, MEMORY | MASTER);
    expect([handler.messages, rig.host.dropped.busMasterOff]).toEqual([[], 1]);
  });

  it('B.10 INTx and messages: a function in D3hot sends none', () => {
    const { rig, handler } = withMsi({ ...everything, capabilities: [pm({ noSoftReset: true }), msi({ vectors: 4 })] });
    const control = rig.config.findCapability(CapId.PM) + Pm.CTRL;
    rig.config.write(control, 2, PowerState.D3HOT);
    expect(rig.host.trigger(0)).toBe(false);
    rig.config.write(control, 2, PowerState.D0);
    expect(rig.host.trigger(0)).toBe(true);
    expect([handler.messages, rig.host.dropped.notPowered]).toEqual([[0], 1]);
  });

  it('B.9 MSI a masked vector is pending, and sent once when the mask goes', () => {
    const { rig, handler, at } = withMsi();
    rig.config.write(at + Msi.MASK_64, 4, 0b0101);
    expect([0, 0, 1, 2].map((v) => rig.host.trigger(v))).toEqual([false, false, true, false]);
    expect(rig.config.read(at + Msi.PENDING_64, 4)).toBe(0b0101);
    rig.config.write(at + Msi.MASK_64, 4, 0b0100);
    expect([rig.config.read(at + Msi.PENDING_64, 4), handler.messages]).toEqual([0b0100, [1, 0]]);
    rig.config.write(Config.COMMAND, 2, MEMORY);
    rig.config.write(at + Msi.MASK_64, 4, 0);
    expect(handler.messages).toEqual([1, 0]);
    rig.config.write(Config.COMMAND, 2, MEMORY | MASTER);
    expect([rig.config.read(at + Msi.PENDING_64, 4), handler.messages]).toEqual([0, [1, 0, 2]]);
  });

  it('B.9 MSI what is pending is forgotten when MSI is disabled', () => {
    const { rig, handler, at } = withMsi();
    rig.config.write(at + Msi.MASK_64, 4, 1);
    rig.host.trigger(0);
    rig.config.writeBits(at + Msi.FLAGS, 2, 0, Msi.FLAGS_ENABLE);
    rig.config.writeBits(at + Msi.FLAGS, 2, Msi.FLAGS_ENABLE, Msi.FLAGS_ENABLE);
    rig.config.write(at + Msi.MASK_64, 4, 0);
    expect(handler.messages).toEqual([]);
  });

  it('S2-36 a message other than the one programmed is stopped and counted', () => {
    const { rig, handler, at } = withMsi();
    for (const [register, good, bad] of [
      [Msi.ADDRESS_LO, 0xfee0_0000, 0xfee0_1000],
      [Msi.ADDRESS_HI, 0, 1],
      [Msi.DATA_64, 0x1234, 0x1235],
    ] as const) {
      rig.config.write(at + register, register === Msi.DATA_64 ? 2 : 4, bad);
      expect(rig.host.trigger(0)).toBe(false);
      rig.config.write(at + register, register === Msi.DATA_64 ? 2 : 4, good);
    }
    rig.host.routeMsi(3, 0xfee0_0000, 0, 0x1234);
    expect(rig.host.trigger(3)).toBe(false);
    expect(rig.host.trigger(2)).toBe(true);
    rig.host.unrouteMsi();
    expect(rig.host.trigger(0)).toBe(false);
    expect([handler.messages, rig.host.dropped.remapped]).toEqual([[2], 5]);
  });

  it('S2-47 a device that floods with stopped messages fills no log', () => {
    const { rig } = withMsi();
    rig.host.unrouteMsi();
    for (let i = 0; i < 10_000; i++) rig.host.trigger(0);
    expect([rig.logged.length, rig.host.dropped.remapped]).toEqual([1, 10_000]);
  });
});

describe('B.9 MSIX: what lets a message out', () => {
  it('B.9 MSIX a masked entry or a masked function holds the message pending', () => {
    const { rig, handler, at } = withMsix();
    expect([rig.host.mode, rig.host.vectors]).toEqual(['msix', 8]);
    rig.msix!.setMasked(3, true);
    expect([2, 3].map((v) => rig.host.trigger(v))).toEqual([true, false]);
    expect(rig.msix!.isPending(3)).toBe(true);
    rig.config.write(at + Msix.FLAGS, 2, Msix.FLAGS_ENABLE | Msix.FLAGS_MASKALL);
    rig.msix!.write(0, 0x2000 + 3 * 16 + 12, 4, 0);
    expect(rig.host.trigger(7)).toBe(false);
    expect(handler.messages).toEqual([2]);
    rig.config.write(at + Msix.FLAGS, 2, Msix.FLAGS_ENABLE);
    expect([handler.messages, rig.msix!.pendingCount]).toEqual([[2, 3, 7], 0]);
  });

  it('B.9 MSIX unmasking through a mapped table sends what is pending', () => {
    const { rig, handler } = withMsix();
    rig.msix!.write(0, 0x2000 + 12, 4, 1);
    rig.host.trigger(0);
    rig.msix!.write(0, 0x2000 + 12, 4, 0);
    expect([handler.messages, rig.msix!.isPending(0)]).toEqual([[0], false]);
  });

  it('B.9 MSIX without bus mastering a pending message waits, a new one is dropped', () => {
    const { rig, handler } = withMsix();
    rig.msix!.setMasked(0, true);
    rig.host.trigger(0);
    rig.config.write(Config.COMMAND, 2, MEMORY);
    rig.msix!.setMasked(0, false);
    rig.host.trigger(1);
    expect([handler.messages, rig.host.dropped.busMasterOff]).toEqual([[], 1]);
    rig.config.write(Config.COMMAND, 2, MEMORY | MASTER);
    expect(handler.messages).toEqual([0]);
  });

  it('S2-36 a user who rewrites an entry through a mapping reaches no other vector', () => {
    const { rig, handler } = withMsix();
    rig.msix!.write(0, 0x2000, 4, 0xfee0_0030);
    expect([rig.host.trigger(0), rig.host.dropped.remapped, handler.messages]).toEqual([false, 1, []]);
  });

  it('B.9 MSIX vectors past the table are dropped', () => {
    const { rig } = withMsix();
    expect([8, -1, Number.NaN, 2 ** 32, Number.POSITIVE_INFINITY].map((v) => rig.host.trigger(v))).toEqual([
      false,
      false,
      false,
      false,
      false,
    ]);
    expect(rig.host.dropped.badVector).toBe(5);
  });

  it('B.9 close: pending bits go with MSI-X', () => {
    const { rig, handler, at } = withMsix();
    rig.msix!.setMasked(0, true);
    rig.host.trigger(0);
    rig.config.write(at + Msix.FLAGS, 2, 0);
    rig.config.write(at + Msix.FLAGS, 2, Msix.FLAGS_ENABLE);
    rig.msix!.setMasked(0, false);
    expect(handler.messages).toEqual([]);
  });
});

describe('B.9 close: no handler is there', () => {
  it('B.9 close: a message without a handler is counted', () => {
    const { rig } = withMsi();
    rig.host.listener = null;
    expect([rig.host.trigger(0), rig.host.dropped.noListener]).toEqual([false, 1]);
  });

  it('S2-21 a handler that throws does not reach the model', () => {
    const rig = new InterruptRig(conventional);
    rig.host.listener = {
      intxAsserted: () => {
        throw new Error('of the handler');
      },
      message: () => {},
    };
    rig.host.raise();
    expect(rig.host.dropped.listenerFailed).toBe(1);
    expect(rig.logged[0]).toContain(`${bdf}: interrupt handler failed: Error: of the handler`);
  });

  it('S2-13 a reset lowers the pin and forgets what is pending', () => {
    const { rig, handler, at } = withMsix();
    rig.host.raise();
    rig.msix!.setMasked(0, true);
    rig.host.trigger(0);
    rig.host.reset();
    expect([rig.statusBit, rig.msix!.pendingCount, rig.msix!.isMasked(1)]).toEqual([false, 0, true]);
    rig.config.write(at + Msix.FLAGS, 2, 0);
    expect([handler.asserted, handler.messages]).toEqual([0, []]);
  });
});
