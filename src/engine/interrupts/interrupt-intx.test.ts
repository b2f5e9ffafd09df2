import { describe, expect, it } from 'vitest';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { bdf, conventional, eventfds, everything, InterruptRig, type Part, type RigOptions } from '../../../tests/kit/interrupt-rig.ts';
import { Command, Config } from '../../abi/pci.ts';
import { IrqIndex } from '../../abi/vfio.ts';
import { InterruptLine } from '../../hardware/interrupt-line.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';

const { INTX } = IrqIndex;
const mask: Part = { action: 'mask', data: 'none' };
const unmask: Part = { action: 'unmask', data: 'none' };
const fire: Part = { action: 'trigger', data: 'none' };
const bool = (action: string, value: unknown): Part => ({ action, data: 'bool', values: [value] });
const source = (fd: unknown): Part => ({ action: 'unmask', data: 'sinks', sources: [fd] });

/** COMMAND.InterruptDisable cannot be set: a device older than PCI 2.3. */
const old: PciDeclaration = { ...conventional, interruptDisable: false };

function enabled(declaration: PciDeclaration = conventional, options: RigOptions = {}) {
  const rig = new InterruptRig(declaration, options);
  const [fd, next, third] = eventfds(3);
  rig.arm(INTX, [fd!]);
  return { rig, fd: fd!, next: next!, third: third! };
}

describe('B.9 INTX TRIGGER', () => {
  it('B.9 INTX TRIGGER count 0: DATA_NONE disables when active, else EINVAL; other data EINVAL', () => {
    const { rig, fd } = enabled();
    for (const request of [bool('trigger', true), { action: 'trigger', data: 'sinks', sinks: [fd] }]) {
      expect(errnoFrom(() => rig.intx({ ...request, count: 0 }))).toBe('EINVAL');
    }
    expect(rig.intx({ ...fire, count: 0 })).toBe(0);
    expect([rig.interrupts.type, fd.references]).toEqual(['none', 1]);
    for (const request of [fire, bool('trigger', true), { action: 'trigger', data: 'sinks', sinks: [fd] }]) {
      expect(errnoFrom(() => rig.intx({ ...request, count: 0 }))).toBe('EINVAL');
    }
  });

  it('B.9 INTX TRIGGER loopback fires the eventfd when enabled, else EINVAL', () => {
    const { rig, fd } = enabled();
    rig.intx(fire);
    rig.intx(bool('trigger', false));
    rig.intx(bool('trigger', true));
    expect(fd.count).toBe(2);
    rig.disable(INTX);
    for (const request of [fire, bool('trigger', true), bool('trigger', false)]) expect(errnoFrom(() => rig.intx(request))).toBe('EINVAL');
    expect(fd.count).toBe(2);
  });

  it('B.9 INTX TRIGGER DATA_EVENTFD enables, with no eventfd too, and swaps', () => {
    const rig = new InterruptRig(conventional);
    const [fd] = eventfds(1);
    expect(rig.arm(INTX, [null])).toBe(0);
    expect(rig.interrupts.type).toBe('intx');
    rig.host.raise();
    expect(rig.interrupts.intxMasked).toBe(true);
    expect(rig.arm(INTX, [fd!])).toBe(0);
    rig.intx(unmask);
    expect(fd!.count).toBe(1);
    rig.arm(INTX, [null]);
    expect(fd!.references).toBe(1);
    rig.intx(unmask);
    expect(fd!.count).toBe(1);
  });

  it('B.9 INTX TRIGGER enabling again clears the mask that the last use left in hardware', () => {
    const { rig, fd } = enabled();
    rig.host.raise();
    rig.disable(INTX);
    rig.host.lower();
    expect(rig.disIntx).toBe(true);
    rig.arm(INTX, [fd]);
    rig.host.raise();
    expect(fd.count).toBe(2);
  });

  it('B.9 INTX TRIGGER without a line is ENODEV', () => {
    const rig = new InterruptRig(conventional, { line: null });
    const [fd] = eventfds(1);
    expect(errnoFrom(() => rig.arm(INTX, [fd!]))).toBe('ENODEV');
    expect([fd!.references, rig.interrupts.type]).toEqual([1, 'none']);
  });

  it('B.9 INTX TRIGGER start and count other than 0 and 1 are EINVAL', () => {
    const { rig, fd } = enabled();
    for (const [start, count] of [
      [1, 0],
      [1, 1],
      [0, 2],
    ]) {
      expect(errnoFrom(() => rig.intx({ ...fire, start: start!, count: count! }))).toBe('EINVAL');
    }
    expect(fd.count).toBe(0);
  });

  it('S2-08 replace fd while interrupts flow: none lost, none to the old fd after return', () => {
    const { rig, fd, next } = enabled();
    let raised = 0;
    const interrupt = () => {
      raised++;
      rig.host.raise();
      rig.host.lower();
      rig.intx(unmask);
    };
    const fds = [fd, next];
    for (let i = 0; i < 100; i++) {
      interrupt();
      const old = fds[i % 2]!;
      const fresh = fds[(i + 1) % 2]!;
      // Half of the swaps happen while the line is high and masked: that interrupt has gone to the
      // old one.
      if (i % 4 < 2) {
        raised++;
        rig.host.raise();
      }
      rig.arm(INTX, [fresh]);
      const before = old.count;
      if (i % 4 < 2) {
        rig.host.lower();
        rig.intx(unmask);
      }
      interrupt();
      expect([old.count, old.references, fresh.references]).toEqual([before, 1, 2]);
    }
    expect(fd.count + next.count).toBe(raised);
  });

  it('S2-08 the same eventfd again is fine', () => {
    const { rig, fd } = enabled();
    rig.arm(INTX, [fd]);
    rig.host.raise();
    expect([fd.references, fd.count]).toEqual([2, 1]);
    fd[Symbol.dispose]();
    rig.arm(INTX, [fd]);
    expect(fd.references).toBe(1);
  });
});

describe('B.9 INTX MASK', () => {
  it('B.9 INTX MASK masks in hardware, with DATA_BOOL only when true', () => {
    const { rig, fd } = enabled();
    rig.intx(bool('mask', false));
    expect([rig.disIntx, rig.interrupts.intxMasked]).toEqual([false, false]);
    rig.intx(bool('mask', true));
    expect([rig.disIntx, rig.interrupts.intxMasked]).toEqual([true, true]);
    rig.host.raise();
    expect(fd.count).toBe(0);
    rig.intx(unmask);
    expect([fd.count, rig.interrupts.intxMasked]).toEqual([1, true]);
  });

  it('B.9 INTX MASK DATA_EVENTFD is ENOTTY, when not active EINVAL', () => {
    const { rig, fd } = enabled();
    const byEventfd: Part = { action: 'mask', data: 'sinks', sinks: [fd] };
    expect(errnoFrom(() => rig.intx(byEventfd))).toBe('ENOTTY');
    expect(errnoFrom(() => rig.intx({ ...byEventfd, count: 0 }))).toBe('EINVAL');
    rig.disable(INTX);
    expect(errnoFrom(() => rig.intx(byEventfd))).toBe('EINVAL');
  });

  it('B.9 INTX MASK and UNMASK when not active, or with start or count off, are EINVAL', () => {
    const rig = new InterruptRig(conventional);
    const [fd] = eventfds(1);
    const requests = [mask, unmask, bool('mask', true), bool('unmask', true), source(fd), source(null)];
    for (const request of requests) expect(errnoFrom(() => rig.intx(request))).toBe('EINVAL');
    rig.arm(INTX, [fd!]);
    for (const request of requests) expect(errnoFrom(() => rig.intx({ ...request, count: 0 }))).toBe('EINVAL');
    expect([rig.interrupts.intxMasked, fd!.references]).toEqual([false, 2]);
  });
});

describe('B.9 INTX UNMASK', () => {
  it('B.9 INTX UNMASK re-signals while the device still asserts, and only then', () => {
    const { rig, fd } = enabled();
    rig.host.raise();
    expect([fd.count, rig.disIntx]).toEqual([1, true]);
    rig.intx(unmask);
    rig.intx(bool('unmask', true));
    // Signalled again from the mask: the wire was not opened for it.
    expect([fd.count, rig.disIntx, rig.host.asserted]).toEqual([3, true, 1]);
    rig.host.lower();
    rig.intx(bool('unmask', false));
    expect(rig.interrupts.intxMasked).toBe(true);
    rig.intx(unmask);
    expect([fd.count, rig.disIntx, rig.interrupts.intxMasked]).toEqual([3, false, false]);
    rig.intx(unmask);
    expect(fd.count).toBe(3);
  });

  it('B.9 INTX UNMASK by eventfd: arm, EBUSY when armed, disarm', () => {
    const { rig, fd, next, third } = enabled();
    expect(rig.intx(source(next))).toBe(0);
    expect(errnoFrom(() => rig.intx(source(third)))).toBe('EBUSY');
    expect(errnoFrom(() => rig.intx(source(next)))).toBe('EBUSY');
    expect([next.references, third.references]).toEqual([2, 1]);
    rig.host.raise();
    next.signal();
    expect(fd.count).toBe(2);
    rig.host.lower();
    next.signal();
    expect([fd.count, rig.interrupts.intxMasked]).toEqual([2, false]);
    rig.intx(source(null));
    rig.intx(source(null));
    expect(next.references).toBe(1);
    expect(rig.intx(source(third))).toBe(0);
    rig.disable(INTX);
    expect(third.references).toBe(1);
  });

  it('B.9 INTX UNMASK by an eventfd that is signalled already unmasks at once', () => {
    const { rig, fd, next } = enabled();
    rig.intx(mask);
    next.signal();
    rig.intx(source(next));
    expect([rig.interrupts.intxMasked, next.count, fd.count]).toEqual([false, 0, 0]);
  });

  it('B.9 INTX UNMASK by something that is no source is EINVAL, and a failed arming leaves none', () => {
    const { rig, next } = enabled();
    expect(errnoFrom(() => rig.intx(source({})))).toBe('EINVAL');
    expect(errnoFrom(() => rig.intx({ action: 'unmask', data: 'sinks', sinks: [next] }))).toBe('EINVAL');
    rig.faults.failNext('irq.unmask.arm', 'ENOMEM');
    expect(errnoFrom(() => rig.intx(source(next)))).toBe('ENOMEM');
    expect(next.references).toBe(1);
    expect(rig.intx(source(next))).toBe(0);
  });

  it('S2-27 a source whose listening ends INTx on the spot is not kept', () => {
    const { rig, fd, next } = enabled();
    const greedy = {
      listen: (listener: () => void) => {
        const listening = next.listen(listener);
        rig.disable(INTX);
        return listening;
      },
    };
    rig.intx(source(greedy));
    expect([next.references, fd.references]).toEqual([1, 1]);
  });
});

describe('B.9 INTx automask', () => {
  it('B.9 INTx automask: masked in hardware before the signal arrives', () => {
    const rig = new InterruptRig(conventional);
    const seen: boolean[] = [];
    const sink = {
      signal: () => void seen.push(rig.disIntx && rig.interrupts.intxMasked),
      get() {
        return this;
      },
      put: () => {},
    };
    rig.arm(INTX, [sink]);
    rig.host.raise();
    expect(seen).toEqual([true]);
  });

  it('B.9 INTx automask: enabling while the line is high signals at once', () => {
    const rig = new InterruptRig(conventional);
    const [fd] = eventfds(1);
    rig.host.raise();
    rig.arm(INTX, [fd!]);
    expect([fd!.count, rig.disIntx]).toEqual([1, true]);
  });

  it('B.9 INTx automask: a sink that unmasks and acknowledges at once gets each interrupt once', () => {
    const rig = new InterruptRig(conventional);
    let signals = 0;
    const sink = {
      signal: () => {
        signals++;
        rig.host.lower();
        rig.intx(unmask);
      },
      get() {
        return this;
      },
      put: () => {},
    };
    rig.arm(INTX, [sink]);
    for (let i = 0; i < 5; i++) rig.host.raise();
    expect([signals, rig.interrupts.intxMasked]).toEqual([5, false]);
  });
});

describe('B.9 virtual DisINTx', () => {
  it('B.9 virtual DisINTx: set masks, clear unmasks and signals what is pending', () => {
    const { rig, fd } = enabled();
    rig.interrupts.intxDisable(true);
    expect(rig.disIntx).toBe(true);
    rig.host.raise();
    rig.intx(fire);
    rig.intx(unmask);
    expect([fd.count, rig.disIntx]).toEqual([0, true]);
    rig.interrupts.intxDisable(true);
    rig.interrupts.intxDisable(false);
    expect([fd.count, rig.disIntx]).toEqual([1, true]);
    rig.host.lower();
    rig.intx(unmask);
    expect([fd.count, rig.disIntx]).toEqual([1, false]);
  });

  it('B.9 virtual DisINTx: set before INTx is enabled, it starts masked', () => {
    const rig = new InterruptRig(conventional);
    const [fd] = eventfds(1);
    rig.interrupts.intxDisable(true);
    expect(rig.disIntx).toBe(true);
    rig.host.raise();
    rig.arm(INTX, [fd!]);
    expect([fd!.count, rig.interrupts.intxMasked]).toEqual([0, true]);
    rig.interrupts.intxDisable(false);
    expect(fd!.count).toBe(1);
  });

  it('B.9 virtual DisINTx: while INTx is not in use the hardware’s bit follows', () => {
    const rig = new InterruptRig(conventional);
    rig.interrupts.intxDisable(true);
    expect(rig.disIntx).toBe(true);
    rig.interrupts.intxDisable(false);
    expect(rig.disIntx).toBe(false);
  });

  it('B.9 virtual DisINTx: after MSI the hardware’s bit says again what the user wrote', () => {
    for (const on of [true, false]) {
      const rig = new InterruptRig(conventional);
      rig.interrupts.intxDisable(on);
      rig.arm(IrqIndex.MSI, eventfds(1));
      expect(rig.disIntx).toBe(true);
      rig.disable(IrqIndex.MSI);
      expect(rig.disIntx).toBe(on);
    }
  });

  it('B.9 virtual DisINTx: the next user starts without it', () => {
    const { rig, next } = enabled();
    rig.interrupts.intxDisable(true);
    rig.interrupts.disableAll();
    rig.interrupts.open();
    rig.arm(INTX, [next]);
    rig.host.raise();
    expect(next.count).toBe(1);
  });
});

describe('S2-12 devices without a working COMMAND.InterruptDisable', () => {
  it('S2-12 INTx works; the mask is the interrupt controller’s', () => {
    const { rig, fd } = enabled(old);
    rig.host.raise();
    expect([fd.count, rig.interrupts.intxMasked, rig.disIntx, rig.host.pinAsserted]).toEqual([1, true, false, true]);
    rig.host.lower();
    rig.host.raise();
    expect(fd.count).toBe(1);
    rig.intx(unmask);
    expect([fd.count, rig.interrupts.intxMasked]).toEqual([2, true]);
    rig.host.lower();
    rig.intx(unmask);
    expect([fd.count, rig.interrupts.intxMasked]).toEqual([2, false]);
    rig.intx(mask);
    rig.host.raise();
    expect(fd.count).toBe(2);
    rig.intx(unmask);
    expect(fd.count).toBe(3);
  });

  it('S2-12 the virtual bit masks it too', () => {
    const { rig, fd } = enabled(old);
    rig.interrupts.intxDisable(true);
    rig.host.raise();
    expect(fd.count).toBe(0);
    rig.interrupts.intxDisable(false);
    expect(fd.count).toBe(1);
  });

  it('S2-12 such a device needs a line of its own: sharing is EBUSY, both ways', () => {
    const line = new InterruptLine('PIRQA');
    const sharing = new InterruptRig(conventional, { line });
    const alone = new InterruptRig(old, { line, bdf: '0000:00:05.0' });
    const [a, b] = eventfds(2);
    sharing.arm(INTX, [a!]);
    expect(errnoFrom(() => alone.arm(INTX, [b!]))).toBe('EBUSY');
    expect([b!.references, alone.interrupts.type, line.users]).toEqual([1, 'none', 1]);
    sharing.disable(INTX);
    expect(alone.arm(INTX, [b!])).toBe(0);
    expect(() => sharing.arm(INTX, [a!])).toThrow(
      `${bdf}: interrupt line PIRQA is in use by 0000:00:05.0, and 0000:00:05.0 cannot share it`,
    );
    alone.interrupts.disableAll();
    const second = new InterruptRig(conventional, { line });
    sharing.arm(INTX, [a!]);
    second.arm(INTX, [b!]);
    expect(line.users).toBe(2);
  });

  it('S2-12 probing leaves COMMAND as it was, but for InterruptDisable, which is clear', () => {
    const rig = new InterruptRig(conventional);
    rig.config.writeBits(Config.COMMAND, 2, Command.INTX_DISABLE, Command.INTX_DISABLE);
    rig.interrupts.open();
    expect(rig.config.command).toBe(Command.MEMORY | Command.MASTER);
  });

  it('B.8 params nointxmask: COMMAND.InterruptDisable is not used though it works', () => {
    const line = new InterruptLine('PIRQA');
    const { rig, fd } = enabled(conventional, { params: { noIntxMask: true }, line });
    rig.host.raise();
    expect([fd.count, rig.interrupts.intxMasked, rig.disIntx]).toEqual([1, true, false]);
    rig.intx(unmask);
    expect(fd.count).toBe(2);
    expect(errnoFrom(() => line.request('other', true)[Symbol.dispose]())).toBe('EBUSY');
  });

  it('B.8 params nointxmask: INTx works after MSI, whatever the user wrote to COMMAND', () => {
    const rig = new InterruptRig(conventional, { params: { noIntxMask: true } });
    const [fd] = eventfds(1);
    rig.interrupts.intxDisable(true);
    rig.arm(IrqIndex.MSI, [fd!]);
    rig.disable(IrqIndex.MSI);
    rig.interrupts.intxDisable(false);
    rig.arm(INTX, [fd!]);
    rig.host.raise();
    expect([fd!.count, rig.disIntx]).toEqual([1, false]);
  });
});

describe('B.9 nointx devices', () => {
  it('B.9 nointx devices show no pin and keep COMMAND.InterruptDisable set', () => {
    const rig = new InterruptRig(conventional, { noIntx: true });
    const [fd] = eventfds(1);
    expect(rig.interrupts.info(INTX).count).toBe(0);
    expect(errnoFrom(() => rig.arm(INTX, [fd!]))).toBe('EINVAL');
    expect(rig.disIntx).toBe(true);
    rig.interrupts.intxDisable(true);
    rig.interrupts.intxDisable(false);
    expect(rig.disIntx).toBe(true);
    rig.arm(IrqIndex.MSI, [fd!]);
    rig.disable(IrqIndex.MSI);
    expect(rig.disIntx).toBe(true);
    rig.config.writeBits(Config.COMMAND, 2, 0, Command.INTX_DISABLE);
    rig.interrupts.restore();
    expect(rig.disIntx).toBe(true);
  });
});

describe('B.10 INTx across sleep', () => {
  it('B.10 INTx is masked across sleep when the user had not masked it', () => {
    const { rig, fd } = enabled();
    rig.interrupts.sleep();
    expect(rig.disIntx).toBe(true);
    rig.host.raise();
    expect(fd.count).toBe(0);
    rig.interrupts.wake();
    expect(fd.count).toBe(1);
    rig.host.lower();
    rig.intx(unmask);
    expect(rig.disIntx).toBe(false);
  });

  it('B.10 INTx stays masked after sleep when the user had masked it', () => {
    const { rig } = enabled();
    rig.intx(mask);
    rig.interrupts.sleep();
    rig.interrupts.wake();
    expect(rig.interrupts.intxMasked).toBe(true);
    rig.interrupts.wake();
    expect(rig.interrupts.intxMasked).toBe(true);
  });

  it('B.10 INTx: a mask made after INTx was disabled in its sleep is not taken away by waking', () => {
    const { rig, fd } = enabled();
    rig.interrupts.sleep();
    rig.disable(INTX);
    rig.arm(INTX, [fd]);
    rig.intx(mask);
    rig.interrupts.wake();
    expect(rig.interrupts.intxMasked).toBe(true);
  });

  it('B.10 INTx and messages: one that became pending before sleep is sent after it', () => {
    let powered = true;
    const rig = new InterruptRig(everything, { powered: () => powered });
    const [fd] = eventfds(1);
    rig.arm(IrqIndex.MSIX, [fd!]);
    rig.msix!.setMasked(0, true);
    rig.host.trigger(0);
    powered = false;
    rig.msix!.setMasked(0, false);
    expect(fd!.count).toBe(0);
    powered = true;
    rig.interrupts.wake();
    expect(fd!.count).toBe(1);
  });

  it('B.10 INTx: sleep and wake do nothing while it is not in use', () => {
    const rig = new InterruptRig(conventional);
    rig.interrupts.sleep();
    expect(rig.disIntx).toBe(false);
    rig.interrupts.wake();
    expect(rig.disIntx).toBe(false);
  });

  it('B.9 vector re-arm: the INTx mask is put back after a reset behind our back', () => {
    const { rig } = enabled();
    rig.intx(mask);
    rig.config.write(Config.COMMAND, 2, 0);
    rig.interrupts.restore();
    expect(rig.disIntx).toBe(true);
  });
});
