/**
 * Our client of Linux's VFIO, beyond the conformance cases: many vectors, hot reset, events,
 * unplug, low power, dma-bufs. A program for `vfio exec`; VIA is group or cdev. The machine is that
 * of device.test.ts.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { BusError } from '../../src/abi/bus-error.ts';
import type { DeviceEvent, InterruptSink, SetIrqs } from '../../src/abi/device.ts';
import { EndpointTestCommand, EndpointTestIrq, EndpointTestRegisters } from '../../src/abi/endpoint-test.ts';
import { CapId } from '../../src/abi/pci.ts';
import { IrqIndex, IrqInfoFlags, RegionIndex } from '../../src/abi/vfio.ts';
import { VfioError } from '../../src/base/errno.ts';
import { EduDriver } from '../../src/drivers/edu/edu-driver.ts';
import { DriverDevice } from '../../src/drivers/kit/driver-device.ts';
import { KernelDevice } from '../../src/kernel/device.ts';
import { findCapability } from '../../src/pci/capabilities/walk.ts';
import { EventFd } from '../../src/sys/eventfd.ts';
import { runCases } from '../conformance/standalone/vitest.ts';
import { errnoFrom } from '../kit/errno.ts';

const via = process.env.VIA as 'group' | 'cdev';
/**
 * Two functions of a card, each an edu, with ACS: each has a group of its own. The second cannot be
 * moved.
 */
const [FIRST, SECOND] = ['0000:01:00.0', '0000:01:00.1'];
const CARD = '0000:02:00.0';
/** One is unplugged, the other is revoked. */
const PULLED = '0000:03:00.0';
const REVOKED = '0000:04:00.0';
/** A write of its register makes it report an uncorrectable error. */
const FAILING = '0000:05:00.0';

/** The control register of the PCI Express capability. */
const DEVCTL = 8;

const open = (bdf: string, more: object = {}) => KernelDevice.open({ kind: 'pci', bdf }, { via, ...more });
const turn = () => new Promise<void>((resolve) => setTimeout(resolve, 2));
async function until(done: () => boolean): Promise<void> {
  while (!done()) await turn();
}
const descriptors = () => readdirSync('/proc/self/fd').length;

function arm(device: KernelDevice, index: number, sinks: readonly (InterruptSink | null)[], start = 0): number {
  return device.setIrqs({ index, start, count: sinks.length, action: 'trigger', data: 'sinks', sinks });
}

/** Have the computer take the device away. The command ends when the device is free. */
function remove(bdf: string): Promise<number | null> {
  const tee = spawn('tee', [`/sys/bus/pci/devices/${bdf}/remove`], { stdio: ['pipe', 'ignore', 'inherit'] });
  tee.stdin.end('1');
  return new Promise((resolve) => tee.on('exit', resolve));
}

describe('opening', () => {
  it('says the way and why', () => {
    using device = open(FIRST);
    expect(device.via).toBe(via);
    expect(device.why).toContain('chose');
    expect(device.info).toMatchObject({ name: FIRST, flags: 3, numRegions: 9, numIrqs: 5 });
  });

  it('S2-30 S2-27 everything is closed with the device', () => {
    const before = descriptors();
    {
      using device = open(FIRST);
      using fd = EventFd.create();
      arm(device, IrqIndex.MSI, [fd]);
      arm(device, IrqIndex.REQ, [fd]);
      device.on(() => {});
      using memory = device.dma.allocate(4096);
      device.dma.map({ iova: 0x10_0000n, memory });
    }
    expect(descriptors()).toBe(before);
  });
});

describe('drivers', () => {
  for (const interrupts of ['msi', 'intx', 'poll'] as const) {
    it(`EduDriver computes, copies and waits, by ${interrupts}`, async () => {
      using dev = DriverDevice.attach(open(FIRST));
      using driver = new EduDriver(dev, { interrupts });
      expect(await driver.factorial(6)).toBe(720);
      using buffer = driver.alloc(4096);
      buffer.bytes.fill(9);
      await driver.copyToDevice(buffer.iova, 4096);
      buffer.bytes.fill(0);
      await driver.copyFromDevice(buffer.iova, 4096);
      expect(buffer.bytes.every((byte) => byte === 9)).toBe(true);
    });
  }
});

describe('interrupts', () => {
  const raise = (dev: DriverDevice, vector: number) => {
    const registers = dev.bar(0, EndpointTestRegisters);
    registers.irqType = EndpointTestIrq.MSIX;
    registers.irqNumber = vector + 1;
    registers.command = EndpointTestCommand.RAISE_MSIX;
  };

  it('B.9 MSI-X: many vectors, each to its own sink', async () => {
    using dev = DriverDevice.attach(open(CARD));
    dev.busMaster = true;
    using irqs = dev.msix.enable(64);
    for (const vector of [0, 17, 63]) {
      raise(dev, vector);
      await irqs.next(vector, { timeoutMs: 5000 });
    }
    expect([irqs.pending(0), irqs.pending(5)]).toEqual([0, 0]);
  });

  it('B.9 MSI-X: vectors are added and taken away while others are in use', async () => {
    const device = open(CARD);
    using dev = DriverDevice.attach(device);
    dev.busMaster = true;
    using first = EventFd.create();
    using second = EventFd.create();
    expect(device.irq(IrqIndex.MSIX).flags & IrqInfoFlags.NORESIZE).toBe(0);
    expect([arm(device, IrqIndex.MSIX, [first]), arm(device, IrqIndex.MSIX, [second], 9)]).toEqual([0, 0]);
    raise(dev, 9);
    await until(() => second.read() !== null);
    expect([arm(device, IrqIndex.MSIX, [null], 9), second.references]).toEqual([0, 1]);
    raise(dev, 0);
    await until(() => first.read() !== null);
  });

  it('B.9 fewer vectors than asked for: their number, and nothing has changed', () => {
    using device = open(CARD);
    using fd = EventFd.create();
    const available = arm(device, IrqIndex.MSIX, Array(400).fill(fd));
    expect([available, fd.references]).toEqual([256, 1]);
    expect(errnoFrom(() => device.setIrqs({ index: IrqIndex.MSIX, start: 0, count: 1, action: 'trigger', data: 'none' }))).toBe('EINVAL');
    expect(arm(device, IrqIndex.MSIX, Array(200).fill(fd))).toBe(0);
  });

  it('a sink that throws is reported, and neither ends the process nor keeps a descriptor', async () => {
    const before = descriptors();
    const lines: string[] = [];
    const device = open(CARD, { log: { log: (_: string, line: string) => void lines.push(line) } });
    const bad: InterruptSink = {
      get: () => bad,
      signal: () => {
        throw new Error('no signal');
      },
      put: () => {
        throw new Error('no put');
      },
    };
    arm(device, IrqIndex.MSI, [bad]);
    arm(device, IrqIndex.REQ, [bad]);
    device.setIrqs({ index: IrqIndex.MSI, start: 0, count: 1, action: 'trigger', data: 'none' });
    await until(() => lines.some((line) => line.includes('no signal')));
    device.close();
    expect(lines.some((line) => line.includes('no put'))).toBe(true);
    expect(descriptors()).toBe(before);
  });

  it('an element that is no sink is EINVAL, and nothing stays open', () => {
    using device = open(CARD);
    const before = descriptors();
    using fd = EventFd.create();
    const own: InterruptSink = { signal: () => {}, get: () => own, put: () => {} };
    expect(errnoFrom(() => arm(device, IrqIndex.MSIX, [fd, own, {} as InterruptSink]))).toBe('EINVAL');
    expect([fd.references, descriptors()]).toEqual([1, before + 1]);
  });
});

describe('reset of the bus', () => {
  it('B.8 HOT_RESET_INFO names every function that it hits', () => {
    using device = open(FIRST);
    const found = device.hotResetInfo();
    expect(found.map(({ bdf }) => bdf)).toEqual([FIRST, SECOND]);
    expect(new Set(found.map(({ groupId }) => groupId)).size).toBe(2);
    expect(found.map(({ deviceId }) => deviceId !== undefined)).toEqual(Array(2).fill(via === 'cdev'));
  });

  it('B.8 HOT_RESET takes open devices as the proof that the caller owns all of them', () => {
    using first = open(FIRST);
    expect(errnoFrom(() => first.resetBus())).toBe('EINVAL');
    using second = open(SECOND, { with: first });
    const liveness = [first, second].map((device) => {
      device.region(RegionIndex.CONFIG).write16(4, 2);
      device.region(0).write32(4, 0);
      return device.region(0).read32(4);
    });
    first.resetBus([second]);
    const after = [first, second].map((device) => device.region(0).read32(4));
    expect([liveness, after]).toEqual([
      [0xffff_ffff, 0xffff_ffff],
      [0, 0],
    ]);
  });

  it('a mapping faults during a reset only, and works again', () => {
    using device = open(FIRST);
    device.region(RegionIndex.CONFIG).write16(4, 2);
    using mapping = device.region(0).map();
    device.reset();
    expect(mapping.read32(0)).toBe(0x0100_00ed);
  });
});

describe('features', () => {
  it('B.10 low power with a wake-up: the access that wakes the device signals it', async () => {
    using device = open(FIRST);
    device.region(RegionIndex.CONFIG).write16(4, 2);
    let woken = 0;
    const sink: InterruptSink = { signal: () => void woken++, get: () => sink, put: () => {} };
    device.lowPower.enterWithWakeup(sink);
    expect(device.region(0).read32(0)).toBe(0x0100_00ed);
    await until(() => woken === 1);
  });

  it('B.8 DMA_BUF: a part of a BAR of memory, until it is revoked', () => {
    using device = open(CARD);
    device.region(RegionIndex.CONFIG).write16(4, 2);
    const before = descriptors();
    const range = { offset: 4096n, length: 8192n };
    {
      using buffer = device.exportDmaBuf({ region: 1, ranges: [range] });
      expect([buffer.size, buffer.revoked, descriptors()]).toEqual([8192, false, before + 1]);
      device.region(RegionIndex.CONFIG).write16(4, 0);
      expect(buffer.revoked).toBe(true);
    }
    expect(descriptors()).toBe(before);
    expect(errnoFrom(() => device.exportDmaBuf({ region: 1, ranges: [] }))).toBe('EINVAL');
    expect(errnoFrom(() => device.exportDmaBuf({ region: 1, ranges: [{ offset: 0n, length: 100n }] }))).toBe('EINVAL');
    expect(errnoFrom(() => device.exportDmaBuf({ region: RegionIndex.CONFIG, ranges: [range] }))).toBe('ENODEV');
    // The device is not gone for that.
    expect(device.info.name).toBe(CARD);
  });

  it('a feature that the device lacks is ENOTTY, with a remedy', () => {
    using device = open(SECOND);
    expect(errnoFrom(() => device.setVfToken(new Uint8Array(16)))).toBe('ENOTTY');
    expect(errnoFrom(() => device.setVfToken(new Uint8Array(4)))).toBe('EINVAL');
    const error = failure(() => device.migration.state);
    expect([error.code, error.message, error.fix]).toEqual([
      'ENOTTY',
      `${SECOND}: the kernel refuses VFIO_DEVICE_FEATURE MIG_DEVICE_STATE`,
      'The device, its driver or this kernel lacks the feature.',
    ]);
  });
});

describe('events', () => {
  it('interrupts, resets and features of the device are in its stream', () => {
    using device = open(FIRST);
    using events = device.events({ kinds: ['set-irqs', 'reset', 'feature', 'mapping', 'migration'] });
    using fd = EventFd.create();
    arm(device, IrqIndex.MSI, [fd]);
    device.reset();
    device.lowPower.enter();
    device.lowPower.exit();
    device.migration.setState(1);
    device.region(0).map()[Symbol.dispose]();
    errnoFrom(() => device.migration.setState(99));
    expect(events.take().map((event) => ({ ...event, seq: 0, timeNs: 0, hostNs: 0 }))).toMatchObject([
      { kind: 'set-irqs', irq: 'msi', with: 'eventfd', count: 1 },
      { kind: 'reset', by: 'VFIO_DEVICE_RESET' },
      { kind: 'feature', name: 'LOW_POWER_ENTRY', op: 'set' },
      { kind: 'feature', name: 'LOW_POWER_EXIT', op: 'set' },
      { kind: 'feature', name: 'MIG_DEVICE_STATE', op: 'get' },
      { kind: 'migration', from: 'RUNNING', to: 'STOP' },
      { kind: 'mapping', op: 'map', region: 0 },
      { kind: 'mapping', op: 'unmap', region: 0 },
      { kind: 'feature', name: 'MIG_DEVICE_STATE', op: 'get' },
      { kind: 'migration', to: 'state 99', errno: 'EINVAL' },
    ]);
  });

  it('an uncorrectable error of the device is an event, and signals ERR', async () => {
    using device = open(FAILING);
    const config = device.region(RegionIndex.CONFIG);
    config.write16(4, 6);
    // The device reports errors.
    const express = findCapability(
      { size: 256, read8: (at) => config.read8(at), read16: (at) => config.read16(at), read32: (at) => config.read32(at) },
      CapId.EXP,
    );
    config.write16(express + DEVCTL, 0x0f);
    using fd = EventFd.create();
    arm(device, IrqIndex.ERR, [fd]);
    const heard: DeviceEvent[] = [];
    device.on((event) => heard.push(event), ['error']);
    device.region(0).write32(0, 1);
    await until(() => heard.length > 0);
    expect([heard, fd.read()]).toEqual([[{ kind: 'error' }], 1n]);
  });

  it('S2-41 the computer asks for the device, and has it when the driver closes it', async () => {
    const heard: string[] = [];
    const dev = DriverDevice.attach(open(PULLED), { onRequest: (device) => heard.push(device) });
    using driver = new EduDriver(dev);
    const removed = remove(PULLED);
    await until(() => heard.length > 0);
    // The device works until then.
    expect(await driver.factorial(3)).toBe(6);
    driver[Symbol.dispose]();
    dev.close();
    expect([await removed, heard]).toEqual([0, [PULLED]]);
    expect(errnoFrom(() => open(PULLED))).toBe('ENODEV');
  });

  it('E-08 a device that is taken away by force: gone, and every call is ENODEV', async () => {
    const device = open(REVOKED);
    device.region(RegionIndex.CONFIG).write16(4, 2);
    using mapping = device.region(0).map();
    const heard: DeviceEvent[] = [];
    device.on((event) => heard.push(event));
    const removed = remove(REVOKED);
    // The engine's own parameter: Linux would wait without end.
    await removed;
    expect(() => mapping.read32(0)).toThrow(BusError);
    const request: SetIrqs = { index: IrqIndex.MSI, start: 0, count: 0, action: 'trigger', data: 'none' };
    await until(() => heard.some(({ kind }) => kind === 'gone'));
    expect(heard.at(-1)).toEqual({ kind: 'gone', reason: 'the kernel has removed it' });
    expect(errnoFrom(() => device.setIrqs(request))).toBe('ENODEV');
    for (const call of [() => device.info, () => device.region(0), () => device.reset(), () => device.dma, () => device.on(() => {})]) {
      expect(failure(call).message).toContain('is gone');
    }
    device.close();
  });
});

function failure(call: () => unknown): VfioError {
  try {
    call();
  } catch (error) {
    if (error instanceof VfioError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

await runCases(process.argv[2]);
