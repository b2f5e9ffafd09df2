import { describe, expect, it } from 'vitest';
import { ERROR_VALUES, sriovRegisters } from '../../../tests/kit/sriov-registers.ts';
import { outcome, PF, sriovRig, Tenant, TOKEN, VF0, VF1 } from '../../../tests/kit/sriov-rig.ts';
import { Command, Config, ExtCapId } from '../../abi/pci.ts';
import { RegionIndex } from '../../abi/vfio.ts';
import { Sriov } from '../../pci/capabilities/single-root-virtualization.ts';
import { Process } from '../dma/process.ts';

describe('S3-15 sriov_numvfs', () => {
  const answers: [number, string][] = [
    [2, 'ok'],
    [4, 'ok'],
    [0, 'ok'],
    [5, 'ERANGE'],
    [65535, 'ERANGE'],
    // kstrtou16() knows no such number.
    [65536, 'EINVAL'],
    ...ERROR_VALUES.map((value): [number, string] => [value, 'EINVAL']),
  ];
  it.each(answers)('S3-15 %j gives %s', async (count, wanted) => {
    const { machine } = sriovRig();
    const before = [...machine.functions.keys()];
    expect(outcome(() => machine.setNumVfs(PF, count))).toBe(wanted);
    const there = [...machine.functions.keys()].filter((bdf) => !before.includes(bdf));
    expect(there.length).toBe(wanted === 'ok' ? count : 0);
    expect(machine.function(PF).sriov!.numVfs).toBe(there.length);
    await machine.setNumVfs(PF, 0);
    expect([...machine.functions.keys()]).toEqual(before);
  });

  it('S3-15 the same number again is no change, another one EBUSY until it is 0', async () => {
    const { machine } = sriovRig();
    await machine.setNumVfs(PF, 2);
    const vf = machine.function(VF0);
    await machine.setNumVfs(PF, 2);
    expect(machine.function(VF0)).toBe(vf);
    expect([1, 3].map((n) => outcome(() => machine.setNumVfs(PF, n)))).toEqual(['EBUSY', 'EBUSY']);
    expect(outcome(() => machine.setNumVfs(PF, 5))).toBe('ERANGE');
    await machine.setNumVfs(PF, 0);
    await machine.setNumVfs(PF, 3);
    expect(machine.function(PF).vfs.map((f) => f.bdf)).toEqual(['0000:01:00.1', '0000:01:00.2', '0000:01:00.3']);
  });

  it('S3-15 without enable_sriov, without a driver that does it, or without SR-IOV: ENOENT', () => {
    const off = sriovRig({ machine: { params: {} } }).machine;
    expect([1, 0].map((n) => outcome(() => off.setNumVfs(PF, n)))).toEqual(['ENOENT', 'ok']);
    expect([0, 1, 5].map((n) => outcome(() => sriovRig({ driver: null }).machine.setNumVfs(PF, n)))).toEqual(['ok', 'ENOENT', 'ERANGE']);
    expect(outcome(() => sriovRig({ driver: 'pci-stub' }).machine.setNumVfs(PF, 1))).toBe('ENOENT');
    expect(outcome(() => sriovRig({ driver: 'pci-stub' }).machine.setNumVfs(PF, 5))).toBe('ERANGE');
    expect(outcome(() => sriovRig().machine.setNumVfs('0000:00:01.0', 0))).toBe('ENOENT');
  });

  it('S3-15 the PF has no say: a user cannot write the capability', () => {
    const { machine } = sriovRig();
    using user = new Tenant(machine, PF);
    const config = user.open().region(RegionIndex.CONFIG);
    const at = machine.function(PF).config.findExtendedCapability(ExtCapId.SRIOV);
    const before = new Uint8Array(Sriov.SIZE);
    config.read(at, before);
    for (let offset = 0; offset < Sriov.SIZE; offset += 2) config.write16(at + offset, 0xffff);
    const after = new Uint8Array(Sriov.SIZE);
    config.read(at, after);
    expect(after).toEqual(before);
    expect(machine.functions.size).toBe(2);
  });

  it('S3-15 registers tell how many, whatever resets or restores them', async () => {
    const { machine } = sriovRig();
    const registers = () => sriovRegisters(machine, PF);
    const bar = registers().bar0;
    expect(registers()).toEqual({ enabled: false, memory: false, numVfs: 0, bar0: bar });
    await machine.setNumVfs(PF, 2);
    const on = { enabled: true, memory: true, numVfs: 2, bar0: bar };
    expect(registers()).toEqual(on);
    machine.reset(PF);
    expect(registers()).toEqual(on);
    // The close restores the configuration of the open, when there were no VFs.
    await machine.setNumVfs(PF, 0);
    const user = new Tenant(machine, PF);
    user.open(TOKEN);
    await machine.setNumVfs(PF, 2);
    user[Symbol.dispose]();
    expect(registers()).toEqual(on);
    expect(bar).toBeGreaterThan(0);
  });

  it('S3-15 VFs appear where offset and stride say, on the next bus number too; on top of another device EEXIST', () => {
    const wide = sriovRig({ totalVfs: 8, firstOffset: 0x80, stride: 0x10 }).machine;
    void wide.setNumVfs(PF, 8);
    expect(wide.function(PF).vfs.map((f) => f.bdf)).toEqual(['10', '12', '14', '16', '18', '1a', '1c', '1e'].map((d) => `0000:01:${d}.0`));
    const far = sriovRig({ totalVfs: 8, firstOffset: 0x80, stride: 0x20 }).machine;
    void far.setNumVfs(PF, 5);
    expect(far.function(PF).vfs.map((f) => f.bdf)).toEqual(
      ['01:10.0', '01:14.0', '01:18.0', '01:1c.0', '02:00.0'].map((at) => `0000:${at}`),
    );
    expect(outcome(() => far.setNumVfs(PF, 6))).toBe('EBUSY');
    const crowded = sriovRig({ behind: [{ at: '00.2', id: '8086:100e', driver: null }] }).machine;
    expect(outcome(() => crowded.setNumVfs(PF, 1))).toBe('ok');
    void crowded.setNumVfs(PF, 0);
    expect([outcome(() => crowded.setNumVfs(PF, 2)), crowded.functions.size]).toEqual(['EEXIST', 3]);
  });
});

describe('what a VF is', () => {
  it('C.1 its user sees ids, no INTx and its BARs, which hardware does not have', () => {
    const { machine, models } = sriovRig();
    void machine.setNumVfs(PF, 2);
    const fn = machine.function(VF1);
    expect([fn.config.read(0, 4), fn.id, fn.name]).toEqual([0xffff_ffff, '8086:10ca', 'card VF 1']);
    using owner = new Tenant(machine, PF);
    owner.open(TOKEN);
    using user = new Tenant(machine, VF1);
    const device = user.open(TOKEN);
    const config = device.region(RegionIndex.CONFIG);
    expect([config.read32(0), config.read8(Config.INTERRUPT_PIN), device.irq(0).count]).toEqual([0x10ca_8086, 0, 0]);
    expect(config.read16(Config.COMMAND) & (Command.MEMORY | Command.MASTER)).toBe(Command.MEMORY);
    config.write32(Config.BASE_ADDRESS_0, 0xffff_ffff);
    expect(config.read32(Config.BASE_ADDRESS_0)).toBe(0xffff_c000);
    // COMMAND.Memory is the user's own: a VF decodes whatever it says.
    config.write16(Config.COMMAND, 0);
    expect(device.region(0).info.size).toBe(0x4000);
    device.region(0).write32(0, 77);
    expect([device.region(0).read32(0), models.find((m) => m.index === 1)!.stored]).toEqual([77, 77]);
    using mapping = device.region(0).map();
    expect(mapping.read32(0)).toBe(77);
    expect(models.find((m) => m.index === 1)!.physical).toBe(models.find((m) => m.index === null));
  });

  it('C.1 BARs of VFs lie one after the other in the VF BARs of their PF', () => {
    const { machine } = sriovRig();
    void machine.setNumVfs(PF, 4);
    const { vfs, sriov } = machine.function(PF);
    const { bars } = sriov!;
    for (const { index, size } of bars) {
      const addresses = vfs.map((vf) => vf.config.barAddress(index));
      expect(addresses[0]! % BigInt(size)).toBe(0n);
      expect(addresses.map((a) => a - addresses[0]!)).toEqual([0, 1, 2, 3].map((i) => BigInt(i * size)));
      if (index === 0) expect(Number(addresses[0])).toBe(sriovRegisters(machine, PF).bar0);
    }
    expect(vfs[0]!.config.barAddress(0)).not.toBe(machine.function(PF).config.barAddress(0));
  });

  it('S3-22 PF and VFs are each in a group of their own', () => {
    const { machine } = sriovRig();
    void machine.setNumVfs(PF, 4);
    const groups = [PF, ...machine.function(PF).vfs.map((f) => f.bdf)].map((bdf) => machine.function(bdf).group!);
    expect(new Set(groups).size).toBe(5);
    expect(groups.every((g) => g.functions.length === 1)).toBe(true);
  });

  it('S3-22 behind a port without access control they share one, as everything there does', () => {
    const pf = sriovRig().machine.function(PF);
    const { machine: shared } = sriovRig({
      spec: {
        devices: [{ at: '01.0', kind: 'root-port', acs: false, devices: [{ at: '00.0', model: pf.deviceModel!, driver: 'vfio-pci' }] }],
      },
    });
    void shared.setNumVfs(PF, 2);
    expect(shared.function(VF1).group).toBe(shared.function(PF).group);
    expect(shared.function(PF).group!.functions.map((f) => f.bdf)).toEqual(['0000:00:01.0', PF, VF0, VF1]);
  });

  it('S3-15 a VF is reached by DMA through its own group alone', () => {
    const { machine, models } = sriovRig();
    void machine.setNumVfs(PF, 2);
    using owner = new Tenant(machine, PF);
    owner.open(TOKEN);
    using one = new Tenant(machine, VF0);
    using two = new Tenant(machine, VF1);
    const memory = one.open(TOKEN).dma.allocate(4096);
    one.group.deviceFiles[0]!.dma.map({ iova: 0x1000n, memory });
    two.open(TOKEN);
    for (const t of [one, two]) t.group.deviceFiles[0]!.region(RegionIndex.CONFIG).write16(Config.COMMAND, Command.MASTER);
    const send = (index: number) => models.find((m) => m.index === index)!.host.dma.tryWrite(0x1000n, Uint8Array.of(1));
    expect([send(0), send(1)]).toEqual([0, 1]);
    memory[Symbol.dispose]();
  });
});

describe('drivers', () => {
  it("S3-17 VFs of a vfio PF get its driver by override; the host's own does not take them", () => {
    const { machine, lines } = sriovRig();
    void machine.setNumVfs(PF, 2);
    const vf = machine.function(VF0);
    expect([vf.driver, vf.driverOverride]).toEqual(['vfio-pci', 'vfio-pci']);
    expect(outcome(() => machine.bind(VF0, 'igbvf'))).toBe('EBUSY');
    void machine.unbind(VF0);
    expect(outcome(() => machine.bind(VF0, 'igbvf'))).toBe('ENODEV');
    expect(machine.probe(VF0)).toBe('vfio-pci');
    void machine.unbind(VF0);
    machine.setDriverOverride(VF0, null);
    expect(lines).toEqual([]);
    machine.bind(VF0, 'igbvf');
    expect(lines).toEqual([expect.stringMatching(/^0000:01:00\.1 is bound to igbvf, while .* 0000:01:00\.0/)]);
  });

  it('S3-13 a native PF driver: VFs go to the native VF driver, and under vfio-pci they need no token', () => {
    const { machine } = sriovRig({ driver: 'igb' });
    void machine.setNumVfs(PF, 2);
    expect([machine.function(VF0).driver, machine.function(VF0).driverOverride]).toEqual(['igbvf', null]);
    machine.bindGroup(machine.function(VF0).group!.id);
    using user = new Tenant(machine, VF0);
    expect([user.try(), user.try(TOKEN)]).toEqual(['ok', 'EINVAL']);
  });

  it('S3-14 pci-pf-stub enables VFs and does nothing else; a vfio PF may be closed once it has set the token', () => {
    const stub = sriovRig({ driver: 'pci-pf-stub' }).machine;
    void stub.setNumVfs(PF, 1);
    stub.bindGroup(stub.function(VF0).group!.id);
    using plain = new Tenant(stub, VF0);
    expect(plain.try()).toBe('ok');
    const { machine } = sriovRig();
    void machine.setNumVfs(PF, 1);
    using owner = new Tenant(machine, PF);
    expect(owner.try(TOKEN)).toBe('ok');
    using user = new Tenant(machine, VF0);
    expect(user.try(TOKEN)).toBe('ok');
  });

  it('S3-16 a PF whose VFs are enabled already does not bind to vfio-pci: EBUSY', async () => {
    const { machine } = sriovRig({ driver: 'pci-pf-stub' });
    void machine.setNumVfs(PF, 1);
    await machine.unbind(PF);
    expect(machine.function(PF).sriov!.numVfs).toBe(1);
    expect(outcome(() => machine.bind(PF, 'vfio-pci'))).toBe('EBUSY');
    expect([machine.function(PF).driver, machine.function(VF0).driver]).toEqual([null, 'igbvf']);
    machine.bind(PF, 'pci-pf-stub');
    await machine.setNumVfs(PF, 0);
    await machine.unbind(PF);
    machine.bind(PF, 'vfio-pci');
    expect(machine.function(PF).driver).toBe('vfio-pci');
  });

  it("S3-18 unbinding a PF removes its VFs first; the users of VFs are asked to close them, then the PF's user", async () => {
    const { machine, clock } = sriovRig();
    void machine.setNumVfs(PF, 2);
    using owner = new Tenant(machine, PF);
    const pf = owner.open(TOKEN);
    using user = new Tenant(machine, VF0);
    const vf = user.open(TOKEN);
    const asked: string[] = [];
    pf.on((e) => asked.push(`PF ${e.kind}`));
    vf.on((e) => asked.push(`VF ${e.kind}`));
    const told: string[] = [];
    machine.on((e) => told.push(`${e.kind} ${e.bdf}`));
    let done = false;
    const gone = machine.unbind(PF).then(() => {
      done = true;
    });
    expect(machine.unbind(PF)).toBeInstanceOf(Promise);
    // The VF without a user is gone at once.
    expect([machine.functions.has(VF0), machine.functions.has(VF1)]).toEqual([true, false]);
    expect(asked).toEqual(['VF request']);
    clock.advance(10_000);
    expect(asked).toEqual(['VF request', 'VF request']);
    expect(outcome(() => user.open(TOKEN))).toBe('ENODEV');
    expect(outcome(() => machine.setNumVfs(PF, 1))).toBe('EBUSY');
    vf.close();
    await new Promise(setImmediate);
    expect([asked.at(-1), done, machine.functions.has(VF0)]).toEqual(['PF request', false, false]);
    pf.close();
    await gone;
    expect(told).toEqual([`unbind ${VF1}`, `remove ${VF1}`, `unbind ${VF0}`, `remove ${VF0}`, `unbind ${PF}`]);
    expect([machine.function(PF).driver, machine.function(PF).sriov!.numVfs]).toEqual([null, 0]);
    expect(sriovRegisters(machine, PF).enabled).toBe(false);
  });

  it('S3-18 unplugging a PF, or the port above it, takes its VFs along', async () => {
    for (const top of [PF, '0000:00:01.0']) {
      const { machine, models } = sriovRig();
      void machine.setNumVfs(PF, 2);
      const user = new Tenant(machine, VF1);
      using owner = new Tenant(machine, PF);
      owner.try(TOKEN);
      const vf = user.open(TOKEN);
      const gone = machine.remove(top);
      expect(machine.functions.has(PF)).toBe(true);
      vf.close();
      await gone;
      expect([PF, VF0, VF1, top].filter((bdf) => machine.functions.has(bdf))).toEqual([]);
      expect(models.map((m) => m.disposed)).toEqual([1, 1, 1]);
      user[Symbol.dispose]();
    }
  });

  it('S3-18 so does unplugging a PF that the host drives, or that has lost its driver', async () => {
    for (const unbound of [false, true]) {
      const { machine, models } = sriovRig({ driver: 'pci-pf-stub' });
      void machine.setNumVfs(PF, 2);
      if (unbound) void machine.unbind(PF);
      await machine.remove(PF);
      expect([[...machine.functions.keys()], models.map((m) => m.disposed)]).toEqual([['0000:00:01.0'], [1, 1, 1]]);
    }
  });

  it('S3-18 a VF alone can be unplugged; the others stay', async () => {
    const { machine } = sriovRig();
    void machine.setNumVfs(PF, 2);
    await machine.remove(VF0);
    expect([machine.functions.has(VF0), machine.function(PF).sriov!.numVfs]).toEqual([false, 2]);
    machine.reset(PF);
    await machine.setNumVfs(PF, 0);
    expect(machine.functions.has(VF1)).toBe(false);
  });

  it('S3-26 VFs come and go under a PF driver that knows nothing of SR-IOV', async () => {
    const { machine } = sriovRig();
    using owner = new Tenant(machine, PF);
    const pf = owner.open();
    pf.region(0).write32(0, 5);
    await machine.setNumVfs(PF, 2);
    await machine.setNumVfs(PF, 0);
    expect(pf.region(0).read32(0)).toBe(5);
  });
});

describe('declared', () => {
  it('S3-15 numVfs of a declaration are there at power-on, and when a PF is plugged in', async () => {
    const { machine } = sriovRig({ device: { numVfs: 2 } });
    expect([machine.functions.has(VF1), machine.function(VF1).driver]).toEqual([true, 'vfio-pci']);
    const model = machine.function(PF).deviceModel!;
    await machine.remove(PF);
    machine.add({ at: '00.0', model, driver: 'vfio-pci', numVfs: 1 }, '00:01.0');
    expect([machine.functions.has(VF0), machine.functions.has(VF1)]).toEqual([true, false]);
  });

  it('S3-15 what is refused then is kept and logged; what can never be is EINVAL', () => {
    const off = sriovRig({ device: { numVfs: 1 }, machine: { params: {} } });
    expect([off.machine.function(PF).probeError?.code, off.lines.length]).toEqual(['ENOENT', 1]);
    expect(sriovRig({ device: { numVfs: 1 }, machine: { params: {} }, spec: { enableSriov: true } }).machine.functions.has(VF0)).toBe(true);
    for (const numVfs of [5, -1, 1.5, Number.NaN]) expect(outcome(() => sriovRig({ device: { numVfs } }))).toBe('EINVAL');
    expect(outcome(() => sriovRig({ device: { sriov: { totalVfs: 1 } } }))).toBe('EINVAL');
  });

  it('S3-15 a stub can be a PF: its VFs are stubs', () => {
    const stub = {
      at: '00.0',
      id: '8086:10c9',
      driver: 'igb',
      numVfs: 3,
      sriov: { totalVfs: 7, device: '10ca', firstOffset: 0x80, stride: 2 },
    };
    const { machine } = sriovRig({ spec: { devices: [{ at: '01.0', kind: 'root-port', devices: [stub] }] } });
    expect(machine.function(PF).vfs.map((f) => [f.bdf, f.id, f.driver])).toEqual(
      ['0000:01:10.0', '0000:01:10.2', '0000:01:10.4'].map((bdf) => [bdf, '8086:10ca', 'igbvf']),
    );
    const alone = { at: '02.0', id: '8086:10c9', numVfs: 1 };
    expect(outcome(() => sriovRig({ spec: { devices: [alone] } }))).toBe('EINVAL');
  });

  it('S3-15 switching off with VFs in use releases everything; only a mapped device is reported as taken away', () => {
    const { machine, models, clock, lines } = sriovRig({ device: { numVfs: 2 } });
    const owner = new Tenant(machine, PF);
    owner.open(TOKEN);
    new Tenant(machine, VF0).open(TOKEN).region(0).map();
    void machine.unbind(PF);
    lines.length = 0;
    machine[Symbol.dispose]();
    expect([models.map((m) => m.disposed), clock.pendingTimers]).toEqual([[1, 1, 1], 0]);
    expect(lines).toEqual([expect.stringContaining(`${VF0} was taken from its users`)]);
  });

  it('S2-01 a VF is not its PF: each node has its own owner', () => {
    const { machine } = sriovRig({ device: { numVfs: 1 } });
    const tenant = Process.user({ allocate: machine.context.allocate });
    const group = machine.function(VF0).group!.id;
    expect(outcome(() => machine.openGroup(group, tenant))).toBe('EACCES');
    machine.chownGroup(group, 1000);
    expect(outcome(() => machine.openGroup(group, tenant))).toBe('ok');
    expect(outcome(() => machine.openGroup(machine.function(PF).group!.id, tenant))).toBe('EACCES');
  });
});

it('S3-15 the number that was, written while those VFs are going, is EBUSY: they are not there any more when it is believed', async () => {
  const { machine } = sriovRig();
  await machine.setNumVfs(PF, 2);
  new Tenant(machine, PF).open(TOKEN).close();
  const user = new Tenant(machine, VF0);
  const file = user.open(TOKEN);
  const going = machine.setNumVfs(PF, 0);
  expect(machine.setNumVfs(PF, 0)).toBe(going);
  expect(outcome(() => machine.setNumVfs(PF, 2))).toBe('EBUSY');
  expect(outcome(() => machine.setNumVfs(PF, 5))).toBe('ERANGE');
  file.close();
  await going;
  await machine.setNumVfs(PF, 2);
  expect(machine.function(PF).vfs.length).toBe(2);
});

it('S3-15 S3-18 a PF that is being unbound, while its user holds it, gets no VFs any more: EBUSY', async () => {
  const { machine } = sriovRig();
  using owner = new Tenant(machine, PF);
  const file = owner.open();
  const gone = machine.unbind(PF);
  expect([outcome(() => machine.setNumVfs(PF, 1)), outcome(() => machine.setNumVfs(PF, 0)), machine.functions.size]).toEqual([
    'EBUSY',
    'ok',
    2,
  ]);
  file.close();
  await gone;
  expect(machine.function(PF).driver).toBe(null);
});

it('S3-18 a VF whose model throws when it ends does not keep its PF’s VFs from being enabled again', async () => {
  const { machine, models } = sriovRig();
  await machine.setNumVfs(PF, 2);
  for (const model of models)
    model.dispose = () => {
      throw new Error('oops');
    };
  await machine.setNumVfs(PF, 0);
  expect([machine.function(PF).sriov!.numVfs, machine.function(PF).vfs.length]).toEqual([0, 0]);
  await machine.setNumVfs(PF, 1);
  const tenant = new Tenant(machine, PF);
  tenant.open(TOKEN).close();
  const user = new Tenant(machine, VF0);
  const file = user.open(TOKEN);
  for (const model of models)
    model.dispose = () => {
      throw new Error('oops');
    };
  const going = machine.setNumVfs(PF, 0);
  file.close();
  await going;
  expect(machine.function(PF).sriov!.disabling).toBe(null);
});
