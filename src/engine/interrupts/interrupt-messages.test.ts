import { describe, expect, it } from 'vitest';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { conventional, eventfds, everything, InterruptRig, type Part } from '../../../tests/kit/interrupt-rig.ts';
import { CapId, Command, Config, Msi, Msix } from '../../abi/pci.ts';
import { IrqIndex } from '../../abi/vfio.ts';
import { msi } from '../../pci/capabilities.ts';

const { MSI, MSIX, INTX } = IrqIndex;
const both = [
  { name: 'msi', index: MSI },
  { name: 'msix', index: MSIX },
] as const;
const none = (count: number, start = 0): Part => ({ action: 'trigger', data: 'none', start, count });
const bool = (values: unknown, count: number, start = 0): Part => ({ action: 'trigger', data: 'bool', start, count, values });

function msiRegisters(rig: InterruptRig) {
  const at = rig.config.findCapability(CapId.MSI);
  const flags = rig.config.read(at + Msi.FLAGS, 2);
  return {
    enabled: (flags & Msi.FLAGS_ENABLE) !== 0,
    queue: (flags & Msi.FLAGS_QSIZE) >>> Msi.FLAGS_QSIZE_SHIFT,
    address: rig.config.read(at + Msi.ADDRESS_LO, 4),
    data: rig.config.read(at + Msi.DATA_64, 2),
    mask: (flags & Msi.FLAGS_MASKBIT) === 0 ? 0 : rig.config.read(at + Msi.MASK_64, 4),
  };
}

const msixControl = (rig: InterruptRig) => rig.config.read(rig.config.findCapability(CapId.MSIX) + Msix.FLAGS, 2);
const entry = (rig: InterruptRig, vector: number) => [0, 4, 8, 12].map((field) => rig.msix!.read(0, 0x2000 + vector * 16 + field, 4));

describe('B.9 MSI and B.9 MSIX: TRIGGER', () => {
  it('B.9 MSI and MSIX TRIGGER count 0: DATA_NONE disables when this type is active, else EINVAL', () => {
    for (const { name, index } of both) {
      const rig = new InterruptRig();
      const fds = eventfds(3);
      expect(errnoFrom(() => rig.disable(index))).toBe('EINVAL');
      expect(errnoFrom(() => rig.set(index, bool([], 0)))).toBe('EINVAL');
      rig.arm(index, fds);
      expect(rig.interrupts.type).toBe(name);
      expect(rig.set(index, bool([], 0))).toBe(0);
      expect(rig.arm(index, [])).toBe(0);
      expect(rig.interrupts.type).toBe(name);
      // The engine ignores the start of a disabling request, as long as the index has that vector.
      expect(rig.set(index, none(0, 3))).toBe(0);
      expect([rig.interrupts.type, ...fds.map((fd) => fd.references)]).toEqual(['none', 1, 1, 1]);
    }
  });

  it('B.9 MSIX TRIGGER DATA_EVENTFD for no vectors at all is ERANGE, and enables nothing', () => {
    for (const { index } of both) {
      const rig = new InterruptRig();
      expect(errnoFrom(() => rig.arm(index, []))).toBe('ERANGE');
      expect(rig.interrupts.type).toBe('none');
    }
  });

  it('B.9 MSI TRIGGER loopback fires each vector that has an eventfd, with DATA_BOOL where true', () => {
    for (const { index } of both) {
      const rig = new InterruptRig();
      const fds = eventfds(4);
      rig.arm(index, [fds[0]!, null, fds[2]!, fds[3]!]);
      rig.set(index, none(4));
      rig.set(index, none(2, 1));
      rig.set(index, bool([true, true, false, true], 4));
      rig.set(index, bool(Uint8Array.of(0, 7), 2, 2));
      expect(fds.map((fd) => fd.count)).toEqual([2, 0, 2, 3]);
      rig.disable(index);
      expect(errnoFrom(() => rig.set(index, none(1)))).toBe('EINVAL');
      expect(errnoFrom(() => rig.set(index, bool([false], 1)))).toBe('EINVAL');
    }
  });

  it('B.9 MSI TRIGGER DATA_EVENTFD returns how many vectors can be had when that is fewer, and changes nothing', () => {
    for (const { index } of both) {
      const rig = new InterruptRig(everything, { maxVectors: () => 3 });
      const fds = eventfds(4);
      const before = rig.config.bytes.slice();
      expect(rig.arm(index, fds)).toBe(3);
      expect(rig.arm(index, [fds[0]!], 3)).toBe(3);
      expect([rig.interrupts.type, ...fds.map((fd) => fd.references)]).toEqual(['none', 1, 1, 1, 1]);
      expect(rig.config.bytes).toEqual(before);
      expect(rig.arm(index, fds.slice(1))).toBe(0);
    }
  });

  it('B.9 MSI TRIGGER without any vector left is ENOSPC', () => {
    for (const { index } of both) {
      for (const left of [0, -1]) {
        const rig = new InterruptRig(everything, { maxVectors: () => left });
        expect(errnoFrom(() => rig.arm(index, eventfds(1)))).toBe('ENOSPC');
        expect(rig.interrupts.type).toBe('none');
      }
    }
  });

  it('B.9 MSI TRIGGER DATA_EVENTFD on an active type sets the block, -1 unassigns', () => {
    for (const { index } of both) {
      const rig = new InterruptRig();
      const fds = eventfds(4);
      const next = eventfds(2);
      rig.arm(index, fds);
      rig.arm(index, [next[0]!, null, next[1]!], 1);
      for (let vector = 0; vector < 4; vector++) rig.host.trigger(vector);
      expect(fds.map((fd) => [fd.count, fd.references])).toEqual([
        [1, 2],
        [0, 1],
        [0, 1],
        [0, 1],
      ]);
      expect(next.map((fd) => [fd.count, fd.references])).toEqual([
        [1, 2],
        [1, 2],
      ]);
    }
  });

  it('B.9 MSI enabling only -1 enables the type without eventfds', () => {
    for (const { name, index } of both) {
      const rig = new InterruptRig();
      expect(rig.arm(index, [null, null])).toBe(0);
      expect(rig.interrupts.type).toBe(name);
      rig.host.trigger(0);
      rig.set(index, none(2));
      const [fd] = eventfds(1);
      rig.arm(index, [fd!], 1);
      rig.host.trigger(1);
      expect(fd!.count).toBe(1);
    }
  });

  it('B.9 MSI and MSIX MASK and UNMASK are ENOTTY, active or not', () => {
    for (const { index } of both) {
      const rig = new InterruptRig();
      for (let active = 0; active < 2; active++) {
        for (const action of ['mask', 'unmask']) {
          expect(errnoFrom(() => rig.set(index, { action, data: 'none' }))).toBe('ENOTTY');
          expect(errnoFrom(() => rig.set(index, { action, data: 'bool', values: [true] }))).toBe('ENOTTY');
          expect(errnoFrom(() => rig.set(index, { action, data: 'sinks', sinks: [{}], sources: [{}] }))).toBe('ENOTTY');
        }
        rig.arm(index, eventfds(1));
      }
    }
  });

  it('B.9 MSI an error in the middle unwinds what the block came to; the rest is as it was', () => {
    for (const { index } of both) {
      const rig = new InterruptRig();
      const fds = eventfds(4);
      const next = eventfds(4);
      rig.arm(index, fds);
      rig.faults.failNext('irq.vector.request', 'ENOMEM', 1);
      expect(errnoFrom(() => rig.arm(index, next.slice(0, 3)))).toBe('ENOMEM');
      for (let vector = 0; vector < 4; vector++) rig.host.trigger(vector);
      expect(fds.map((fd) => [fd.count, fd.references])).toEqual([
        [0, 1],
        [0, 1],
        [1, 2],
        [1, 2],
      ]);
      expect(next.map((fd) => fd.references)).toEqual([1, 1, 1, 1]);
      rig.interrupts.disableAll();
      expect(fds.map((fd) => fd.references)).toEqual([1, 1, 1, 1]);
    }
  });

  it('B.9 MSI a block with something that is no sink changes nothing', () => {
    for (const { index } of both) {
      const rig = new InterruptRig();
      const fds = eventfds(3);
      rig.arm(index, fds);
      expect(errnoFrom(() => rig.arm(index, [null, {} as never, null]))).toBe('EINVAL');
      expect(fds.map((fd) => fd.references)).toEqual([2, 2, 2]);
    }
  });

  it('S2-10 MSIX enable, disable, enable again with another count', () => {
    const rig = new InterruptRig();
    const fds = eventfds(8);
    for (const count of [8, 1, 3, 8]) {
      rig.arm(MSIX, fds.slice(0, count));
      for (let vector = 0; vector < 8; vector++) rig.host.trigger(vector);
      expect(fds.map((fd) => fd.read() ?? 0n)).toEqual(fds.map((_, i) => (i < count ? 1n : 0n)));
      rig.disable(MSIX);
      expect(fds.every((fd) => fd.references === 1)).toBe(true);
    }
  });
});

describe('B.9 MSI hardware', () => {
  it('B.9 MSI enabling writes message, queue size, masks and enable, and keeps the pin quiet', () => {
    const rig = new InterruptRig();
    const fds = eventfds(3);
    rig.arm(MSI, [fds[0]!, null, fds[2]!]);
    expect(msiRegisters(rig)).toEqual({ enabled: true, queue: 2, address: 0xfee0_0018, data: 0, mask: 0b1010 });
    expect([rig.host.mode, rig.host.vectors, rig.disIntx, rig.interrupts.msiQueueMax]).toEqual(['msi', 4, true, 2]);
    rig.disable(MSI);
    expect(msiRegisters(rig).mask).toBe(0);
    rig.arm(MSI, fds);
    // The device has the fourth message of the power of two, but was given three.
    rig.config.write(rig.config.findCapability(CapId.MSI) + Msi.MASK_64, 4, 0);
    expect(rig.host.trigger(3)).toBe(false);
    rig.disable(MSI);
    expect([msiRegisters(rig).enabled, msiRegisters(rig).mask, rig.disIntx, rig.interrupts.msiQueueMax]).toEqual([false, 0, false, 0]);
  });

  it('B.9 MSI queue size is the power of two at or above the vectors asked for', () => {
    for (const [count, queue] of [
      [1, 0],
      [2, 1],
      [3, 2],
      [4, 2],
    ] as const) {
      const rig = new InterruptRig();
      rig.arm(MSI, eventfds(count));
      expect([msiRegisters(rig).queue, rig.interrupts.msiQueueMax]).toEqual([queue, queue]);
    }
  });

  it('B.9 MSI with 32-bit addresses and no masks works as well', () => {
    const rig = new InterruptRig({ ...everything, capabilities: [msi({ vectors: 2, is64: false })] });
    const fds = eventfds(2);
    rig.arm(MSI, fds);
    expect([rig.host.trigger(0), rig.host.trigger(1), fds[0]!.count, fds[1]!.count]).toEqual([true, true, 1, 1]);
    rig.arm(MSI, [null], 1);
    rig.host.trigger(1);
    expect([fds[1]!.count, rig.interrupts.unclaimed]).toEqual([1, 1]);
  });

  it('B.9 MSI vectors that were not allocated cannot be added: EINVAL, nothing changes; -1 there is nothing to do', () => {
    const rig = new InterruptRig();
    const fds = eventfds(4);
    rig.arm(MSI, fds.slice(0, 2));
    expect(errnoFrom(() => rig.arm(MSI, [fds[2]!, fds[3]!], 1))).toBe('EINVAL');
    expect(rig.arm(MSI, [null, null], 2)).toBe(0);
    expect(fds.map((fd) => fd.references)).toEqual([2, 2, 1, 1]);
    // Hardware holds the mask for vector 2 that enabling left there.
    expect(msiRegisters(rig).mask).toBe(0b1100);
  });

  it('B.9 MSI a message for a vector without an eventfd waits behind its mask for the next one', () => {
    for (const { index } of both) {
      const rig = new InterruptRig();
      const [fd, next] = eventfds(2);
      rig.arm(index, [fd!]);
      rig.arm(index, [null]);
      rig.host.trigger(0);
      rig.arm(index, [next!]);
      expect([fd!.count, next!.count]).toEqual([0, 1]);
    }
  });

  it('S2-08 for messages: replace while they flow, none lost, none to the old eventfd', () => {
    for (const { index } of both) {
      const rig = new InterruptRig();
      const fds = eventfds(2);
      rig.arm(index, [fds[0]!]);
      for (let i = 1; i <= 50; i++) {
        rig.host.trigger(0);
        const old = fds[(i + 1) % 2]!;
        rig.arm(index, [fds[i % 2]!]);
        const before = old.count;
        rig.host.trigger(0);
        expect([old.count, old.references]).toEqual([before, 1]);
      }
      expect(fds[0]!.count + fds[1]!.count).toBe(100);
    }
  });
});

describe('B.9 MSIX hardware', () => {
  it('B.9 MSIX enabling masks every entry but those with an eventfd, and takes the function mask off', () => {
    const rig = new InterruptRig();
    const fds = eventfds(3);
    rig.arm(MSIX, [fds[0]!, null, fds[2]!]);
    expect(msixControl(rig) & (Msix.FLAGS_ENABLE | Msix.FLAGS_MASKALL)).toBe(Msix.FLAGS_ENABLE);
    expect(Array.from({ length: 8 }, (_, vector) => rig.msix!.isMasked(vector))).toEqual([
      false,
      true,
      false,
      true,
      true,
      true,
      true,
      true,
    ]);
    expect([rig.host.mode, rig.host.vectors, rig.disIntx]).toEqual(['msix', 8, true]);
    rig.disable(MSIX);
    expect([msixControl(rig), rig.disIntx]).toEqual([7, false]);
  });
});

describe('B.9 MSI-X dynamic vectors', () => {
  it('B.9 MSI-X dynamic: vectors beyond the first ones are added on demand and kept until disable', () => {
    const rig = new InterruptRig();
    const fds = eventfds(8);
    rig.arm(MSIX, [fds[0]!]);
    expect([rig.host.trigger(5), rig.msix!.isPending(5)]).toEqual([false, true]);
    rig.arm(MSIX, [fds[5]!], 5);
    expect(fds[5]!.count).toBe(1);
    rig.arm(MSIX, [null], 5);
    expect([rig.msix!.isRouted(5), rig.msix!.isMasked(5), fds[5]!.references]).toEqual([true, true, 1]);
    rig.arm(MSIX, [fds[6]!], 5);
    rig.host.trigger(5);
    expect(fds[6]!.count).toBe(1);
    rig.disable(MSIX);
    expect([rig.msix!.isRouted(5), fds[6]!.references]).toEqual([false, 1]);
  });

  it('B.9 MSI-X dynamic: ENOSPC when the machine has no more vectors, and nothing changes', () => {
    const rig = new InterruptRig(everything, { maxVectors: () => 3 });
    const fds = eventfds(4);
    rig.arm(MSIX, [fds[0]!]);
    expect(errnoFrom(() => rig.arm(MSIX, fds.slice(1), 1))).toBe('ENOSPC');
    expect(fds.map((fd) => fd.references)).toEqual([2, 1, 1, 1]);
    expect(rig.arm(MSIX, [fds[1]!, null, null, fds[2]!], 4)).toBe(0);
    expect(errnoFrom(() => rig.arm(MSIX, [fds[3]!], 1))).toBe('ENOSPC');
    // A vector that was allocated is replaced without a new one.
    expect(rig.arm(MSIX, [fds[3]!], 7)).toBe(0);
  });

  it('B.9 MSI-X dynamic: without it a vector that was not allocated is EINVAL', () => {
    const rig = new InterruptRig(everything, { dynamicMsix: false });
    const fds = eventfds(3);
    rig.arm(MSIX, [fds[0]!, null]);
    expect(errnoFrom(() => rig.arm(MSIX, [fds[1]!, fds[2]!], 1))).toBe('EINVAL');
    expect(rig.arm(MSIX, [fds[1]!], 1)).toBe(0);
    expect(fds.map((fd) => fd.references)).toEqual([2, 2, 1]);
  });

  it('B.9 MSI-X dynamic: a failed allocation unwinds the block', () => {
    const rig = new InterruptRig();
    const fds = eventfds(3);
    rig.arm(MSIX, [fds[0]!]);
    rig.faults.failNext('irq.vector.allocate', 'ENOSPC', 1);
    expect(errnoFrom(() => rig.arm(MSIX, fds.slice(1), 4))).toBe('ENOSPC');
    expect(fds.map((fd) => fd.references)).toEqual([2, 1, 1]);
    expect([rig.msix!.isMasked(4), rig.msix!.isRouted(5)]).toEqual([true, false]);
  });
});

describe('B.9 vector re-arm', () => {
  it('B.9 vector re-arm: the message is written again when a vector gets an eventfd', () => {
    const rig = new InterruptRig();
    const [fd, next] = eventfds(2);
    rig.arm(MSIX, [fd!]);
    const message = entry(rig, 0);
    rig.msix!.reset();
    expect([entry(rig, 0), rig.host.trigger(0)]).toEqual([[0, 0, 0, 1], false]);
    rig.msix!.clearAllPending();
    rig.arm(MSIX, [next!]);
    expect([entry(rig, 0), rig.host.trigger(0), next!.count]).toEqual([message, true, 1]);
  });

  it('B.9 vector re-arm: restore puts back everything that a reset took', () => {
    for (const { index } of both) {
      const rig = new InterruptRig();
      const fds = eventfds(3);
      rig.arm(index, [fds[0]!, null, fds[2]!]);
      rig.config.reset();
      rig.host.reset();
      rig.config.write(Config.COMMAND, 2, Command.MASTER);
      expect(rig.host.trigger(0)).toBe(false);
      rig.interrupts.restore();
      expect([0, 1, 2].map((vector) => rig.host.trigger(vector))).toEqual([true, false, true]);
      expect(fds.map((fd) => fd.count)).toEqual([1, 0, 1]);
      expect([rig.disIntx, rig.config.command & Command.MEMORY]).toEqual([true, 0]);
    }
  });

  it('B.9 vector re-arm: restore without an interrupt type does nothing', () => {
    const rig = new InterruptRig();
    const before = rig.config.bytes.slice();
    rig.interrupts.restore();
    expect(rig.config.bytes).toEqual(before);
  });
});

describe('B.9 memory decode', () => {
  it('B.9 memory decode is forced on around MSI-X table writes and put back', () => {
    const rig = new InterruptRig();
    const [fd, next] = eventfds(2);
    rig.config.write(Config.COMMAND, 2, Command.MASTER);
    const seen: boolean[] = [];
    using _listening = rig.config.onWrite((offset) => {
      if (offset === Config.COMMAND) seen.push(rig.config.memoryEnabled);
    });
    rig.arm(MSIX, [fd!]);
    expect([seen.includes(true), rig.config.memoryEnabled, rig.host.trigger(0), fd!.count]).toEqual([true, false, true, 1]);
    rig.arm(MSIX, [next!]);
    rig.arm(MSIX, [null], 0);
    expect([rig.config.memoryEnabled, rig.msix!.isMasked(0)]).toEqual([false, true]);
    rig.disable(MSIX);
    expect([rig.config.memoryEnabled, rig.config.busMaster]).toEqual([false, true]);
  });

  it('B.9 memory decode that the user has on stays on', () => {
    const rig = new InterruptRig();
    rig.arm(MSIX, eventfds(2));
    rig.disable(MSIX);
    expect(rig.config.memoryEnabled).toBe(true);
  });
});

describe('S2-36 messages and their remapping entries', () => {
  it('S2-36 each MSI-X vector has a message of its own, in the remappable format', () => {
    const rig = new InterruptRig();
    rig.arm(MSIX, eventfds(8));
    const addresses = Array.from({ length: 8 }, (_, vector) => entry(rig, vector)[0]!);
    expect(new Set(addresses).size).toBe(8);
    for (const address of addresses) expect([address >>> 20, address & 0x10]).toEqual([0xfee, 0x10]);
  });

  it('S2-36 an edited entry reaches no eventfd until the vector is armed again', () => {
    const rig = new InterruptRig();
    const fds = eventfds(2);
    rig.arm(MSIX, fds);
    rig.msix!.write(0, 0x2000, 4, entry(rig, 1)[0]!);
    rig.host.trigger(0);
    expect([rig.host.dropped.remapped, fds[0]!.count, fds[1]!.count]).toEqual([1, 0, 0]);
    rig.arm(MSIX, [fds[0]!]);
    rig.host.trigger(0);
    expect(fds[0]!.count).toBe(1);
  });

  it('S2-38 enabling interrupts does not switch bus mastering on', () => {
    for (const index of [INTX, MSI]) {
      const rig = new InterruptRig(conventional);
      rig.config.write(Config.COMMAND, 2, 0);
      const [fd] = eventfds(1);
      rig.arm(index, [fd!]);
      rig.host.trigger(0);
      expect([rig.config.busMaster, fd!.count]).toEqual([false, 0]);
    }
  });
});
