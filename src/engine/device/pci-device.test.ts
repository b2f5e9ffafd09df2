import fc from 'fast-check';
import { expect, it } from 'vitest';
import { command, DeviceRig, plain, resettable, ScriptedModel, setCommand } from '../../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import type { InterruptSink, InterruptSource } from '../../abi/device.ts';
import { Dma } from '../../abi/device-host.ts';
import { Command } from '../../abi/pci.ts';
import { DeviceFlags, Extension, IrqIndex } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { msi, pcie, pm } from '../../pci/capabilities.ts';
import { FakeEventFd, HeapMemory } from '../../sys/fake.ts';
import type { Container } from '../dma/container.ts';
import { Process } from '../dma/process.ts';
import { DeviceFile } from './device-file.ts';

const { IO, MEMORY, MASTER, SERR, INTX_DISABLE } = Command;

/** The state of a function that a failing open must not change. */
function stateOf(rig: DeviceRig) {
  const { device, fn } = rig;
  return {
    config: [...fn.config.bytes],
    power: device.power.state,
    files: device.openCount,
    slow: device.slow,
    lockedBy: fn.host.lockedBy,
    timers: rig.clock.pendingTimers,
    groupFiles: rig.group.deviceFiles.length,
  };
}

it('S2-13 the device is reset once at the first open and once at the last close', () => {
  const rig = new DeviceRig();
  const file = rig.open();
  expect(rig.model.resets).toBe(1);
  const second = rig.open();
  file.close();
  expect(rig.model.resets).toBe(1);
  second.close();
  expect(rig.model.resets).toBe(2);
});

it('S2-13 configuration is back at its power-on values of firmware after the last close', () => {
  const rig = new DeviceRig();
  const before = stateOf(rig);
  const file = rig.open();
  setCommand(file, MEMORY | MASTER | INTX_DISABLE);
  file.close();
  expect(stateOf(rig)).toEqual(before);
});

it('S2-14 several files of one device see the same registers; each closes for itself', () => {
  const rig = new DeviceRig();
  const a = rig.open();
  const b = rig.open();
  a.region(0).write32(0, 0x1234);
  expect(b.region(0).read32(0)).toBe(0x1234);
  a.close();
  expect(errnoFrom(() => a.region(0))).toBe('ENODEV');
  expect(b.region(0).read32(0)).toBe(0x1234);
  expect(rig.device.openCount).toBe(1);
});

it('S2-26 bus mastering is off at the first read after open, whatever a driver before had left', () => {
  const rig = new DeviceRig();
  rig.fn.config.write(4, 2, IO | MEMORY | MASTER | SERR);
  expect(command(rig.open())).toBe(IO | MEMORY | SERR);
});

it('S2-27 the last close releases every sink once', () => {
  const rig = new DeviceRig();
  const sinks = [new FakeEventFd(), new FakeEventFd(), new FakeEventFd()];
  const file = rig.open();
  const [message, error, request] = sinks;
  file.setIrqs({ index: IrqIndex.MSI, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [message!] });
  file.setIrqs({ index: IrqIndex.ERR, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [error!] });
  file.setIrqs({ index: IrqIndex.REQ, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [request!] });
  expect(sinks.map((s) => s.references)).toEqual([2, 2, 2]);
  rig.open().close();
  expect(sinks.map((s) => s.references)).toEqual([2, 2, 2]);
  file.close();
  expect(sinks.map((s) => s.references)).toEqual([1, 1, 1]);
});

it('S2-30 close order: bus mastering off, interrupts off, reset, and only then the domain', () => {
  const rig = new DeviceRig();
  const file = rig.open();
  const memory = HeapMemory.allocate(4096);
  file.dma.map({ iova: 0x10000n, memory });
  const sink = new FakeEventFd();
  file.setIrqs({ index: IrqIndex.MSI, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] });
  setCommand(file, MEMORY | MASTER);
  const seen: unknown[] = [];
  rig.model.onReset = () => {
    seen.push({
      dma: rig.model.host.dma.tryWrite(0x10000, Uint8Array.of(1)),
      interrupt: rig.model.host.irq.trigger(0),
      mode: rig.model.host.irq.mode,
      domain: rig.fn.group!.domain !== null,
      sink: sink.references,
    });
  };
  rig.group.close();
  file.close();
  expect(seen).toEqual([{ dma: Dma.FAULT, interrupt: false, mode: 'intx', domain: true, sink: 1 }]);
  expect(rig.fn.group!.domain).toBe(null);
  expect(rig.fn.host.dma.faults['no-domain']).toBe(0);
  expect(sink.count).toBe(0);
  expect(memory.windows[0]![0]).toBe(0);
});

it('S2-30 a model that never stops its DMA reaches no memory once the file is closed', () => {
  const rig = new DeviceRig();
  const file = rig.open();
  const memory = HeapMemory.allocate(4096);
  file.dma.map({ iova: 0n, memory });
  setCommand(file, MEMORY | MASTER);
  const pump = () => rig.model.host.dma.tryWrite(0, Uint8Array.of(0xaa));
  rig.model.onReset = pump;
  rig.clock.after(1, function again() {
    pump();
    rig.clock.after(1, again);
  });
  rig.clock.advance(5);
  expect(memory.windows[0]![0]).toBe(0xaa);
  memory.windows[0]![0] = 0;
  file.close();
  rig.clock.advance(5);
  expect(memory.windows[0]![0]).toBe(0);
  expect(rig.fn.host.dma.faults['bus-master-off']).toBeGreaterThan(0);
});

it('S2-31 a device without reset can be opened; RESET is EINVAL and not in its flags', () => {
  const rig = new DeviceRig(plain);
  const file = rig.open();
  expect(rig.model.resets).toBe(0);
  expect(file.info).toEqual({ name: '0000:00:04.0', flags: DeviceFlags.PCI, numRegions: 9, numIrqs: 5 });
  expect(errnoFrom(() => file.reset())).toBe('EINVAL');
  file.close();
  expect(rig.device.needsReset).toBe(true);
});

it('S2-31 a device with reset says so', () => {
  const rig = new DeviceRig();
  expect(rig.open().info.flags).toBe(DeviceFlags.PCI | DeviceFlags.RESET);
});

it('S2-31 a reset that fails at open makes a device without reset', () => {
  const rig = new DeviceRig();
  rig.faults.failNext('device.reset');
  const file = rig.open();
  expect(file.info.flags).toBe(DeviceFlags.PCI);
  expect(errnoFrom(() => file.reset())).toBe('EINVAL');
  file.close();
  expect(rig.device.needsReset).toBe(true);
});

it('S2-31 requireReset refuses to bind a device that cannot be reset', () => {
  expect(errnoFrom(() => new DeviceRig(plain, { params: { requireReset: true } }))).toBe('ENODEV');
  expect(errnoFrom(() => new DeviceRig(plain, { params: { requireReset: true }, behindPort: true }))).toBe('none');
  expect(errnoFrom(() => new DeviceRig(resettable, { params: { requireReset: true } }))).toBe('none');
});

it('S2-31 the bus is reset when the last of its devices is closed and one still needs it', () => {
  const other = { declaration: plain, create: (host: ConstructorParameters<typeof ScriptedModel>[0]) => new ScriptedModel(host) };
  const rig = new DeviceRig(plain, { behindPort: true, others: [{ at: '00.1', model: other, driver: 'vfio-pci' }] });
  const group = rig.group;
  const first = rig.open();
  const second = group.openDevice('0000:01:00.1');
  const models = [rig.model, rig.machine.function('0000:01:00.1').model as ScriptedModel];
  expect(first.info.flags & DeviceFlags.RESET).toBe(0);
  first.close();
  expect(models.map((m) => m.resets)).toEqual([0, 0]);
  expect(rig.device.needsReset).toBe(true);
  second.close();
  expect(models.map((m) => m.resets)).toEqual([1, 1]);
  expect(rig.device.needsReset).toBe(false);
  expect(rig.machine.function('0000:01:00.1').vfio!.needsReset).toBe(false);
});

it('S2-32 the first open is EAGAIN while the device lock is held; a later file needs no reset', () => {
  const rig = new DeviceRig();
  const before = stateOf(rig);
  {
    using _held = rig.device.lock('a sysfs reset');
    const held = { ...before, lockedBy: 'a sysfs reset' };
    expect(errnoFrom(() => rig.open())).toBe('EAGAIN');
    expect(stateOf(rig)).toEqual(held);
  }
  const file = rig.open();
  using _held = rig.device.lock('a sysfs reset');
  expect(errnoFrom(() => rig.open())).toBe('none');
  expect(errnoFrom(() => file.reset())).toBe('EAGAIN');
});

it('S2-32 a lock held at the last close means no reset then, not a dead-lock', () => {
  const rig = new DeviceRig();
  const file = rig.open();
  using held = rig.device.lock('a sysfs reset');
  file.close();
  expect(rig.model.resets).toBe(1);
  expect(rig.device.needsReset).toBe(true);
  held[Symbol.dispose]();
});

it('S2-38 only the user sets bus mastering: DMA before that is dropped and counted', () => {
  const rig = new DeviceRig();
  const file = rig.open();
  const memory = HeapMemory.allocate(4096);
  file.dma.map({ iova: 0n, memory });
  expect(rig.model.host.dma.tryWrite(0, Uint8Array.of(7))).toBe(Dma.FAULT);
  expect(rig.fn.host.dma.faults['bus-master-off']).toBe(1);
  setCommand(file, MEMORY | MASTER);
  expect(rig.model.host.dma.tryWrite(0, Uint8Array.of(7))).toBe(Dma.DONE);
  expect(memory.windows[0]![0]).toBe(7);
});

it('S2-23 a device file works over any IOMMU back end: it asks its container for nothing but a DMA space', () => {
  const rig = new DeviceRig();
  const released: unknown[] = [];
  const nothing = new Proxy({} as Container, {
    get: (_target, name) => {
      throw new Error(`the device layer asked its container for ${String(name)}`);
    },
  });
  const file = DeviceFile.open(
    rig.device,
    { deviceReleased: (which) => void released.push(which) },
    { container: nothing, ids: null },
    rig.machine.process,
  );
  const sink = new FakeEventFd();
  file.setIrqs({ index: IrqIndex.MSI, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] });
  setCommand(file, MEMORY | MASTER);
  file.region(0).write32(0, 3);
  const mapping = file.region(0).map();
  expect([mapping.read32(0), rig.model.host.irq.trigger(0), sink.count]).toEqual([3, true, 1]);
  file.reset();
  mapping[Symbol.dispose]();
  file.close();
  expect(released).toEqual([file]);
});

it.each([Extension.TYPE1_IOMMU, Extension.TYPE1v2_IOMMU])('S2-23 the same device over a container of type %i', (type) => {
  const rig = new DeviceRig();
  rig.group.unsetContainer();
  const container = rig.machine.openContainer();
  rig.group.setContainer(container);
  container.setIommu(type);
  const file = rig.open();
  const memory = HeapMemory.allocate(4096);
  file.dma.map({ iova: 0x1000n, memory });
  setCommand(file, MEMORY | MASTER);
  expect(rig.model.host.dma.tryWrite(0x1000, Uint8Array.of(9))).toBe(Dma.DONE);
  expect(memory.windows[0]![0]).toBe(9);
});

it('S2-23 the same device over an address space of an iommufd', () => {
  const rig = new DeviceRig();
  rig.group.close();
  const { machine } = rig;
  const iommufd = machine.openIommufd();
  const file = machine.openDevice(rig.bdf);
  file.bind({ iommufd: () => iommufd });
  const ioas = iommufd.allocIoas();
  const process = Process.root({ allocate: HeapMemory.allocate });
  const memory = HeapMemory.allocate(4096);
  const vaddr = process.addressSpace.map(memory);
  iommufd.map({ ioas, process, flags: 7, source: { kind: 'address', vaddr }, length: 4096n, iova: 0x1000n });
  setCommand(file.device, MEMORY | MASTER);
  // Until the device is attached, its DMA is blocked.
  expect(rig.model.host.dma.tryWrite(0x1000, Uint8Array.of(9))).toBe(Dma.FAULT);
  file.attach(ioas);
  expect(rig.model.host.dma.tryWrite(0x1000, Uint8Array.of(9))).toBe(Dma.DONE);
  expect(memory.windows[0]![0]).toBe(9);
  file.close();
});

const steps = ['power', 'decode', 'reset', 'save', 'config', 'interrupts'].map((s) => `device.enable.${s}`).concat('device.open');

it.each(steps)('S2-13 an open that fails at %s leaves everything as it was', (step) => {
  const rig = new DeviceRig({ ...resettable, capabilities: [...resettable.capabilities!, pm({ noSoftReset: false })] });
  const before = stateOf(rig);
  rig.faults.failNext(step, 'EIO');
  expect(errnoFrom(() => rig.open())).toBe('EIO');
  expect(stateOf(rig)).toEqual(before);
  const file = rig.open();
  expect(command(file) & MASTER).toBe(0);
  file.close();
  expect(stateOf(rig)).toEqual(before);
});

it('S2-13 a process that has exited opens nothing, and the device is as it was', () => {
  const rig = new DeviceRig();
  const process = Process.root({ pid: 77 });
  process.exit();
  const before = stateOf(rig);
  expect(errnoFrom(() => rig.open(process))).toBe('ESRCH');
  expect(stateOf(rig)).toEqual(before);
});

it('S2-52 the exit of its process closes the file and disposes of its mappings', () => {
  const rig = new DeviceRig();
  const process = Process.root({ pid: 77 });
  const file = rig.open(process);
  const mapping = file.region(0).map();
  process.exit();
  expect(rig.device.openCount).toBe(0);
  expect(rig.model.resets).toBe(2);
  expect(errnoFrom(() => mapping.read32(0))).toBe('EFAULT');
});

it('B.8 header type: only endpoints bind', () => {
  const rig = new DeviceRig(resettable, { behindPort: true });
  const port = rig.machine.function('00:02.0');
  void rig.machine.unbind(port.bdf);
  expect(errnoFrom(() => rig.machine.bind(port.bdf, 'vfio-pci'))).toBe('EINVAL');
});

it('B.7 cache coherency: a device whose IOMMU is not coherent is refused at bind', () => {
  expect(errnoFrom(() => new DeviceRig(resettable, { machine: { iommu: { coherent: false } } }))).toBe('EINVAL');
});

it('B.8 denylist: accelerators that could wedge their host are refused, and with B.8 params disableDenylist bound', () => {
  for (const device of [0x0435, 0x0443, 0x19e2, 0x19e3, 0x37c8, 0x37c9]) {
    const qat = { ...resettable, vendor: 0x8086, device };
    expect(errnoFrom(() => new DeviceRig(qat))).toBe('EINVAL');
    expect(errnoFrom(() => new DeviceRig({ ...qat, vendor: 0x1234 }))).toBe('none');
    expect(errnoFrom(() => new DeviceRig(qat, { params: { disableDenylist: true } }))).toBe('none');
  }
});

it('B.8 params: disableIdleD3 keeps unused devices in D0', () => {
  const sleepy = { ...plain, capabilities: [pm()] };
  expect(new DeviceRig(sleepy).device.power.state).toBe('D3hot');
  expect(new DeviceRig(sleepy, { params: { disableIdleD3: true } }).device.power.state).toBe('D0');
});

it('B.8 idle D3: unused devices sleep, open ones do not, unbound ones are left in D0', async () => {
  const rig = new DeviceRig({ ...resettable, capabilities: [pcie({ flr: true }), pm()] });
  const { model, fn } = rig;
  expect(rig.device.power.state).toBe('D3hot');
  const file = rig.open();
  expect(rig.device.power.state).toBe('D0');
  file.close();
  expect(rig.device.power.state).toBe('D3hot');
  expect(model.powers.slice(0, 3)).toEqual(['D3hot', 'D0', 'D3hot']);
  await rig.machine.unbind(rig.bdf);
  expect(fn.config.sleeping).toBe(false);
});

it('B.9 nointx devices: the pin of a device with broken INTx reads 0 and INTx stays disabled', () => {
  const rig = new DeviceRig({ ...resettable, vendor: 0x8086, device: 0x1572 });
  const file = rig.open();
  expect(file.irq(IrqIndex.INTX).count).toBe(0);
  expect(file.region(7).read8(0x3d)).toBe(0);
  expect(rig.fn.config.intxDisabled).toBe(true);
});

it('S2-12 a device that cannot disable INTx works on a line of its own', () => {
  const rig = new DeviceRig({ ...resettable, interruptDisable: false });
  const file = rig.open();
  const sink = new FakeEventFd();
  file.setIrqs({ index: IrqIndex.INTX, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] });
  rig.model.host.irq.raise();
  expect(sink.count).toBe(1);
  expect(rig.fn.config.intxDisabled).toBe(false);
});

it('B.8 error handler: a reported error reaches the ERR sink and the listeners', () => {
  const rig = new DeviceRig();
  const file = rig.open();
  const sink = new FakeEventFd();
  const events: string[] = [];
  file.on((event) => events.push(event.kind));
  file.setIrqs({ index: IrqIndex.ERR, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] });
  rig.device.reportError();
  expect(sink.count).toBe(1);
  expect(events).toEqual(['error']);
});

/** Breaks its contract in every way. */
const badSink = (told: string[], name: string): InterruptSink & InterruptSource => ({
  signal() {
    told.push(`${name} signal`);
    throw new Error(`${name} signal`);
  },
  get() {
    told.push(`${name} get`);
    return this;
  },
  put() {
    told.push(`${name} put`);
    throw new Error(`${name} put`);
  },
  listen: () => ({
    [Symbol.dispose]() {
      told.push(`${name} end`);
      throw new Error(`${name} end`);
    },
  }),
});

it('S2-30 sinks and sources that throw stop neither each other nor a close: each is released once, and the device is reset', () => {
  const told: string[] = [];
  const rig = new DeviceRig({ ...resettable, capabilities: [pcie({ flr: true }), msi({ vectors: 2 })] });
  const file = rig.open();
  const sinks = (index: number, ...names: string[]) =>
    file.setIrqs({ index, start: 0, count: names.length, action: 'trigger', data: 'sinks', sinks: names.map((n) => badSink(told, n)) });
  sinks(IrqIndex.MSI, 'msi0', 'msi1');
  sinks(IrqIndex.ERR, 'err');
  sinks(IrqIndex.REQ, 'req');
  file.ioeventfd({ region: 0, offset: 0, size: 4, data: 0n, source: badSink(told, 'ioeventfd') });
  told.length = 0;
  const events: string[] = [];
  file.on((event) => events.push(event.kind));
  file.setIrqs({ index: IrqIndex.MSI, start: 0, count: 2, action: 'trigger', data: 'none' });
  rig.device.reportError();
  expect([told, events]).toEqual([['msi0 signal', 'msi1 signal', 'err signal'], ['error']]);
  told.length = 0;
  const { resets } = rig.model;
  file.close();
  expect(told.toSorted()).toEqual(['err put', 'ioeventfd end', 'msi0 put', 'msi1 put', 'req put']);
  expect([rig.model.resets, rig.device.openCount, rig.fn.group!.file?.deviceFiles.length]).toEqual([resets + 1, 0, 0]);
  expect(rig.logged.some((line) => line.includes('an interrupt sink failed when it was put: Error: msi0 put'))).toBe(true);
});

it('S2-41 a REQ sink that throws stops no unplug', async () => {
  const told: string[] = [];
  const rig = new DeviceRig();
  const file = rig.open();
  file.setIrqs({ index: IrqIndex.REQ, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [badSink(told, 'req')] });
  const gone = rig.machine.unbind(rig.bdf);
  rig.clock.advance(10_000);
  expect(told).toEqual(['req get', 'req signal', 'req signal']);
  file.close();
  await gone;
  expect(rig.fn.driver).toBe(null);
});

it('S2-30 a listener that throws stops no other', () => {
  const rig = new DeviceRig();
  const file = rig.open();
  const events: string[] = [];
  file.on(() => {
    throw new Error('bug of a listener');
  });
  using _removed = file.on((event) => events.push(event.kind));
  rig.device.reportError();
  expect(events).toEqual(['error']);
  expect(rig.logged.filter((line) => line.includes('bug of a listener'))).toHaveLength(1);
});

it('S2-13 any sequence of opens, closes and failing steps ends with the device as it was', () => {
  const act = fc.oneof(
    fc.constant({ kind: 'open' as const }),
    fc.record({ kind: fc.constant('close' as const), which: fc.nat(7) }),
    fc.record({ kind: fc.constant('fail' as const), step: fc.constantFrom(...steps, 'device.reset') }),
    fc.record({ kind: fc.constant('map' as const), which: fc.nat(7) }),
    fc.record({ kind: fc.constant('unmap' as const), which: fc.nat(7) }),
    fc.record({ kind: fc.constant('config' as const), which: fc.nat(7), offset: fc.nat(255), value: fc.nat(0xffffffff) }),
  );
  fc.assert(
    fc.property(fc.array(act, { maxLength: 40 }), (acts) => {
      const rig = new DeviceRig({ ...resettable, capabilities: [...resettable.capabilities!, pm({ noSoftReset: false })] });
      const before = stateOf(rig);
      const files: ReturnType<DeviceRig['open']>[] = [];
      const mappings: Disposable[] = [];
      const quietly = (run: () => void) => {
        try {
          run();
        } catch (error) {
          if (!(error instanceof VfioError)) throw error;
        }
      };
      for (const one of acts) {
        if (files.length === 0 && one.kind !== 'open' && one.kind !== 'fail') continue;
        quietly(() => {
          if (one.kind === 'open') files.push(rig.open());
          else if (one.kind === 'close') files[one.which % files.length]?.close();
          else if (one.kind === 'fail') rig.faults.failNext(one.step);
          else if (one.kind === 'map') mappings.push(...files.slice(one.which, one.which + 1).map((file) => file.region(0).map()));
          else if (one.kind === 'unmap') mappings[one.which % mappings.length]?.[Symbol.dispose]();
          else files[one.which % files.length]?.region(7).write32(one.offset & ~3, one.value);
        });
        // Open exactly while a file or a mapping of it lives.
        expect(rig.device.openCount).toBe(rig.group.deviceFiles.length);
        expect(rig.fn.host.busMaster && rig.device.openCount === 0).toBe(false);
      }
      for (const file of files) file.close();
      for (const mapping of mappings) mapping[Symbol.dispose]();
      rig.faults.clear();
      expect({ ...stateOf(rig), config: [] }).toEqual({ ...before, config: [] });
      expect([...rig.fn.config.bytes]).toEqual(before.config);
    }),
    { numRuns: 200 },
  );
});
