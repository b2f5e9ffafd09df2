/**
 * Effects that only an administrator, the machine's declaration or a model can cause: parameters,
 * errors, wake-up, interrupt wires, vectors.
 */
import { describe, expect, it } from 'vitest';
import { DeviceRig, plain, resettable } from '../../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import type { InterruptSink } from '../../abi/device.ts';
import type { ErrorKind } from '../../abi/device-host.ts';
import { CapId, Config, ExtCapId } from '../../abi/pci.ts';
import { IrqIndex, IrqInfoFlags } from '../../abi/vfio.ts';
import { Aer } from '../../pci/capabilities/advanced-error-reporting.ts';
import { PciExp } from '../../pci/capabilities/pci-express-registers.ts';
import { aer, msi, msix, pcie, pm } from '../../pci/capabilities.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';
import { FakeEventFd } from '../../sys/fake.ts';
import type { DeviceFile } from '../device/device-file.ts';

const reporting: PciDeclaration = { ...resettable, extendedCapabilities: [aer()] };

function trigger(file: DeviceFile, index: number, sinks: readonly (InterruptSink | null)[], start = 0): number {
  return file.setIrqs({ index, start, count: sinks.length, action: 'trigger', data: 'sinks', sinks });
}

const twin = (declaration: PciDeclaration, at = '00.1') => ({
  at,
  model: { declaration, create: () => ({ read: () => 0, write: () => {}, reset: () => {} }) },
  driver: 'vfio-pci',
});

describe('errors that functions report', () => {
  it.each(['nonfatal', 'fatal'] as const)('B.8 error handler: the users of everything below the port hear of a %s error', (kind) => {
    const rig = new DeviceRig(reporting, { behindPort: true, others: [twin(reporting)] });
    const files = [rig.open(), rig.group.openDevice('0000:01:00.1')];
    const sinks = files.map(() => new FakeEventFd());
    files.forEach((file, i) => void trigger(file, IrqIndex.ERR, [sinks[i]!]));
    const events: string[] = [];
    files[0]!.on((event) => events.push(event.kind));
    expect(rig.machine.reportError('01:00.0', kind)).toBe(true);
    expect(sinks.map((s) => s.count)).toEqual([1, 1]);
    expect(events).toEqual(['error']);
    expect(rig.model.resets).toBe(1);
    const before = [...rig.fn.config.bytes.subarray(0, 0x40)];
    rig.clock.advance(0);
    expect(rig.model.resets).toBe(kind === 'fatal' ? 2 : 1);
    expect([...rig.fn.config.bytes.subarray(0, 0x40)]).toEqual(before);
  });

  it('B.8 error handler: a correctable error is logged, and no user hears of it', () => {
    const rig = new DeviceRig(reporting, { behindPort: true });
    const file = rig.open();
    const sink = new FakeEventFd();
    trigger(file, IrqIndex.ERR, [sink]);
    const control = rig.fn.config.findCapability(CapId.EXP) + PciExp.DEVCTL;
    expect(rig.machine.reportError(rig.bdf, 'correctable')).toBe(false);
    rig.fn.config.writeBits(control, 2, PciExp.DEVCTL_CERE, PciExp.DEVCTL_CERE);
    expect(rig.machine.reportError(rig.bdf, 'correctable')).toBe(true);
    expect(sink.count).toBe(0);
    expect(rig.logged.filter((line) => line.includes('correctable'))).toHaveLength(1);
  });

  it("B.8 error handler: a model reports through its host, and the AER capability's registers say what", () => {
    const rig = new DeviceRig(reporting, { behindPort: true });
    const file = rig.open();
    const sink = new FakeEventFd();
    trigger(file, IrqIndex.ERR, [sink]);
    const config = file.region(7);
    const at = rig.fn.config.findExtendedCapability(ExtCapId.ERR);
    const { host } = rig.model;
    const COMPLETION_TIMEOUT = 0x4000;
    expect(host.reportError('nonfatal', COMPLETION_TIMEOUT)).toBe(true);
    expect(host.reportError('nonfatal')).toBe(true);
    expect(config.read32(at + Aer.UNCOR_STATUS)).toBe(COMPLETION_TIMEOUT | Aer.UNCOR_INTERNAL);
    expect(config.read32(at + Aer.CAP) & Aer.CAP_FIRST_ERROR).toBe(14);
    expect(config.read16(rig.fn.config.findCapability(CapId.EXP) + PciExp.DEVSTA) & PciExp.DEVSTA_ERRORS).toBe(0x2);
    expect(sink.count).toBe(2);
    // Masked by its user: noted, not reported.
    config.write32(at + Aer.UNCOR_MASK, COMPLETION_TIMEOUT);
    expect(host.reportError('fatal', COMPLETION_TIMEOUT)).toBe(false);
    expect(sink.count).toBe(2);
    // Write-one-to-clear, as its user does it.
    config.write32(at + Aer.UNCOR_STATUS, COMPLETION_TIMEOUT);
    expect(config.read32(at + Aer.UNCOR_STATUS)).toBe(Aer.UNCOR_INTERNAL);
  });

  it('B.8 error handler: conventional devices report none; unknown kinds and empty status are EINVAL', () => {
    const rig = new DeviceRig({ ...plain, capabilities: [] });
    expect(errnoFrom(() => rig.machine.reportError(rig.bdf, 'fatal'))).toBe('EOPNOTSUPP');
    expect(rig.model.host.reportError('fatal')).toBe(false);
    const express = new DeviceRig(reporting);
    expect(errnoFrom(() => express.machine.reportError(express.bdf, 'strange' as ErrorKind))).toBe('EINVAL');
    expect(errnoFrom(() => express.machine.reportError(express.bdf, 'fatal', 0))).toBe('EINVAL');
    expect(errnoFrom(() => express.machine.reportError('09:00.0', 'fatal'))).toBe('ENODEV');
  });

  it('B.8 error handler: a fatal error on a root bus resets the function itself', () => {
    const rig = new DeviceRig(reporting);
    rig.open();
    rig.machine.reportError(rig.bdf, 'fatal');
    rig.clock.advance(0);
    expect(rig.model.resets).toBe(2);
  });

  it('B.8 error handler: a link that cannot be reset is logged, and the device goes on', () => {
    const rig = new DeviceRig(reporting, { behindPort: true });
    const file = rig.open();
    using _lock = rig.device.lock('another reset');
    rig.machine.reportError(rig.bdf, 'fatal');
    rig.clock.advance(0);
    expect(rig.logged.filter((line) => line.includes('recovery'))).toHaveLength(1);
    expect(file.region(0).read32(0)).toBe(0);
  });
});

describe('wake-up', () => {
  const sleepy: PciDeclaration = { ...resettable, capabilities: [pcie({ flr: true }), pm({ pme: true })] };
  function enter(file: DeviceFile): FakeEventFd {
    const sink = new FakeEventFd();
    file.lowPower.enterWithWakeup(sink);
    return sink;
  }

  it('B.10 WITH_WAKEUP: PME of a model that sleeps wakes it and signals its user, once', () => {
    const rig = new DeviceRig(sleepy);
    const file = rig.open();
    expect(rig.model.host.wake()).toBe(false);
    const sink = enter(file);
    expect(rig.device.power.asleep).toBe(true);
    expect(rig.model.host.wake()).toBe(true);
    expect(sink.count).toBe(1);
    expect(rig.device.power.state).toBe('D0');
    expect(rig.model.host.wake()).toBe(false);
    expect(sink.count).toBe(1);
    // The user sees neither the enable bit nor the status: PME is the host's.
    expect(file.region(7).read16(rig.fn.config.findCapability(CapId.PM) + 4) & 0x8100).toBe(0);
  });

  it('B.10 WITH_WAKEUP: a function that cannot signal PME from D3hot does not wake its host; the administrator does', () => {
    const rig = new DeviceRig({ ...resettable, capabilities: [pcie({ flr: true }), pm({ pme: ['D0'] })] });
    const sink = enter(rig.open());
    expect(rig.model.host.wake()).toBe(false);
    expect(rig.device.power.asleep).toBe(true);
    rig.machine.wake(rig.bdf);
    expect(sink.count).toBe(1);
    expect(rig.device.power.asleep).toBe(false);
    rig.machine.wake(rig.bdf);
    expect(errnoFrom(() => rig.machine.wake('09:00.0'))).toBe('ENODEV');
  });
});

describe('parameters at run time', () => {
  it("B.8 params: what Linux lets an administrator write is written, by either name and in sysfs' spelling", () => {
    const { machine } = new DeviceRig();
    machine.setParam('enableSriov', true);
    machine.setParam('allow_unsafe_interrupts', 'Y');
    machine.setParam('vfio_iommu_type1.dma_entry_limit', '16');
    machine.setParam('forceRevokeAfterMs', '250');
    const states = Object.fromEntries(machine.params.map(({ name, value }) => [name, value]));
    expect(states).toMatchObject({ enableSriov: true, allowUnsafeInterrupts: true, dmaEntryLimit: 16, forceRevokeAfterMs: 250 });
    machine.setParam('forceRevokeAfterMs', 'none');
    machine.setParam('enable_sriov', '0');
    expect(machine.context.params).toMatchObject({ forceRevokeAfterMs: null, enableSriov: false });
  });

  it('B.8 params: read-only ones are EACCES, unknown ones ENOENT, bad values EINVAL; nothing has changed then', () => {
    const { machine } = new DeviceRig();
    const before = JSON.stringify(machine.params);
    const answers = (
      [
        ['disableDenylist', true],
        ['nointxmask', 'Y'],
        ['disable_idle_d3', 'Y'],
        ['maxVectors', 4],
        ['nope', true],
        ['enableSriov', 'perhaps'],
        ['enableSriov', 1],
        ['dmaEntryLimit', -1],
        ['dmaEntryLimit', 'none'],
        ['suspendTimeoutMs', '2.5'],
      ] as const
    ).map(([name, value]) => errnoFrom(() => machine.setParam(name, value)));
    expect(answers).toEqual(['EACCES', 'EACCES', 'EACCES', 'EACCES', 'ENOENT', 'EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'EINVAL']);
    expect(JSON.stringify(machine.params)).toBe(before);
  });

  it('B.6 dma_entry_limit: a container keeps the limit that it began with', () => {
    const rig = new DeviceRig(plain, { params: { dmaEntryLimit: 3 } });
    const file = rig.open();
    rig.machine.setParam('dma_entry_limit', 1);
    expect(file.dma.available).toBe(3);
  });
});

describe('interrupts of a machine', () => {
  const old: PciDeclaration = { ...plain, interruptDisable: false };
  const intx = (file: DeviceFile) => errnoFrom(() => trigger(file, IrqIndex.INTX, [new FakeEventFd()]));

  it('S2-12 two functions without DisINTx on one wire: the second one is EBUSY, naming the first, until that is done', () => {
    const rig = new DeviceRig(old, { others: [twin(old, '04.1')] });
    const [a, b] = [rig.open(), rig.group.openDevice('0000:00:04.1')];
    expect(intx(a)).toBe('none');
    expect(intx(b)).toBe('EBUSY');
    expect(() => trigger(b, IrqIndex.INTX, [new FakeEventFd()])).toThrow(/0000:00:04\.0/);
    a.close();
    expect(intx(b)).toBe('none');
  });

  it.each([
    ['another pin', { ...old, interruptPin: 2 as const }, '04.1', 'none'],
    ['a pin that is swizzled to the same wire', { ...old, interruptPin: 4 as const }, '05.0', 'EBUSY'],
    ['one that can be masked beside one that cannot', plain, '04.1', 'EBUSY'],
    ['the same pin and device on another root bus', old, '60:04.0', 'none'],
  ] as const)('S2-12 wires: %s', (_what, declaration, at, errno) => {
    const rig = new DeviceRig(old, { others: [twin(declaration, at)] });
    const { bdf, group } = rig.machine.function(at.includes(':') ? at : `00:${at}`);
    const second = group!.id === rig.group.group!.id ? rig.group : rig.machine.openGroup(group!.id);
    if (second !== rig.group) second.setContainer(rig.container);
    const [a, b] = [rig.open(), second.openDevice(bdf)];
    expect(intx(a)).toBe('none');
    expect(intx(b)).toBe(errno);
  });

  it('S2-12 functions with DisINTx share a wire', () => {
    const rig = new DeviceRig(plain, { others: [twin(plain, '04.1')] });
    expect([rig.open(), rig.group.openDevice('0000:00:04.1')].map(intx)).toEqual(['none', 'none']);
  });

  it('B.9 INTX TRIGGER: a pin that the platform does not route is ENODEV', () => {
    const rig = new DeviceRig(plain, { others: [{ ...twin(plain, '04.1'), intxRouted: false }] });
    expect(intx(rig.group.openDevice('0000:00:04.1'))).toBe('ENODEV');
  });

  const many: PciDeclaration = { ...plain, capabilities: [msi({ vectors: 8 }), msix({ vectors: 8, tableBar: 0, tableOffset: 0x800 })] };
  const sinks = (count: number) => Array.from({ length: count }, () => new FakeEventFd());

  it('B.9 MSI and MSIX: devices share the vectors of the machine; SET_IRQS says how many can be had', () => {
    const rig = new DeviceRig(many, { others: [twin(many, '04.1')], params: { maxVectors: 6 } });
    const [a, b] = [rig.open(), rig.group.openDevice('0000:00:04.1')];
    expect(trigger(a, IrqIndex.MSIX, sinks(4))).toBe(0);
    expect(trigger(b, IrqIndex.MSI, sinks(4))).toBe(2);
    expect(trigger(b, IrqIndex.MSI, sinks(2))).toBe(0);
    expect(errnoFrom(() => trigger(a, IrqIndex.MSIX, sinks(1), 5))).toBe('ENOSPC');
    b.close();
    expect(trigger(a, IrqIndex.MSIX, sinks(1), 5)).toBe(0);
  });

  it('B.9 MSI-X dynamic: a machine without it says NORESIZE, and adds no vector later', () => {
    const rig = new DeviceRig(many, { params: { dynamicMsix: false } });
    const file = rig.open();
    expect(file.irq(IrqIndex.MSIX).flags & IrqInfoFlags.NORESIZE).toBe(IrqInfoFlags.NORESIZE);
    trigger(file, IrqIndex.MSIX, sinks(2));
    expect(errnoFrom(() => trigger(file, IrqIndex.MSIX, sinks(1), 3))).toBe('EINVAL');
  });
});

it('S2-12 a stub without DisINTx, from the declaration of a machine', () => {
  const rig = new DeviceRig(plain, { others: [{ at: '05.0', id: '1234:0001', interruptDisable: false }] });
  const { config } = rig.machine.function('00:05.0');
  config.write(Config.COMMAND, 2, 0x0400);
  expect(config.intxDisabled).toBe(false);
});
