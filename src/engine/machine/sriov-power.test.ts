import { describe, expect, it } from 'vitest';
import { outcome, PF, sriovRig, Tenant, TOKEN, VF0, VF1 } from '../../../tests/kit/sriov-rig.ts';
import { CapId, Command, Config, Pm } from '../../abi/pci.ts';
import { Feature, RegionIndex } from '../../abi/vfio.ts';
import { featureBytes } from '../../device/feature-bytes.ts';
import { FakeEventFd } from '../../sys/fake.ts';

describe('reset and power', () => {
  it("S3-20 the administrator's reset of a PF resets its VFs, and asks for no token", () => {
    const { machine, models } = sriovRig();
    void machine.setNumVfs(PF, 2);
    using owner = new Tenant(machine, PF);
    owner.try(TOKEN);
    using user = new Tenant(machine, VF0);
    const vf = user.open(TOKEN);
    vf.region(0).write32(0, 9);
    const config = vf.region(RegionIndex.CONFIG);
    config.write16(Config.COMMAND, Command.MASTER | Command.MEMORY);
    const resets = models.map((m) => m.resets);
    machine.reset(PF);
    expect(models.map((m, i) => m.resets - resets[i]!)).toEqual([1, 1, 1]);
    expect(vf.region(0).read32(0)).toBe(0);
    expect(config.read16(Config.COMMAND) & Command.MASTER).toBe(0);
    expect(owner.try()).toBe('EACCES');
  });

  it('S3-20 while the PF is locked a reset is EAGAIN, and no function is woken or reset', () => {
    const { machine, models } = sriovRig();
    const { host, config } = machine.function(PF);
    const resets = models.map((m) => m.resets);
    let written = 0;
    using _listening = config.onWrite(() => void written++);
    {
      using _lock = host.lock('a test');
      expect([outcome(() => machine.reset(PF)), config.sleeping, models.map((m) => m.resets)]).toEqual(['EAGAIN', true, resets]);
      expect(written).toBe(0);
    }
    expect([outcome(() => machine.reset(PF)), config.sleeping]).toEqual(['ok', true]);
    expect(outcome(() => machine.reset('0000:00:01.0'))).toBe('ENOTTY');
  });

  it("S3-20 the PF user's reset does so too; a VF's resets itself alone", () => {
    const { machine, models } = sriovRig();
    void machine.setNumVfs(PF, 2);
    using owner = new Tenant(machine, PF);
    const pf = owner.open(TOKEN);
    using user = new Tenant(machine, VF1);
    const vf = user.open(TOKEN);
    let resets = models.map((m) => m.resets);
    pf.reset();
    expect(models.map((m, i) => m.resets - resets[i]!)).toEqual([1, 1, 1]);
    resets = models.map((m) => m.resets);
    vf.reset();
    expect(models.map((m, i) => m.resets - resets[i]!)).toEqual([0, 0, 1]);
  });

  it('B.8 HOT_RESET a bus with VFs on it cannot be reset through vfio: a VF is alone in its set', () => {
    const { machine } = sriovRig();
    void machine.setNumVfs(PF, 1);
    using owner = new Tenant(machine, PF);
    const pf = owner.open(TOKEN);
    using user = new Tenant(machine, VF0);
    const vf = user.open(TOKEN);
    expect(vf.hotResetInfo().map((d) => d.bdf)).toEqual([PF, VF0]);
    for (const device of [pf, vf]) expect(outcome(() => device.hotReset([owner.group, user.group]))).toBe('EINVAL');
  });

  it('S3-19 a sleeping PF is woken before VFs are enabled, and sleeps again when the last is gone', async () => {
    const { machine } = sriovRig();
    const { config } = machine.function(PF);
    expect(config.sleeping).toBe(true);
    await machine.setNumVfs(PF, 1);
    expect(config.sleeping).toBe(false);
    using owner = new Tenant(machine, PF);
    owner.try(TOKEN);
    expect(config.sleeping).toBe(false);
    await machine.setNumVfs(PF, 0);
    expect(config.sleeping).toBe(true);
  });

  it('S3-19 B.10 PF with VFs stays in D0 when its user writes D3hot', async () => {
    const { machine } = sriovRig();
    const { config } = machine.function(PF);
    using owner = new Tenant(machine, PF);
    const view = owner.open(TOKEN).region(RegionIndex.CONFIG);
    const control = config.findCapability(CapId.PM) + Pm.CTRL;
    const sleepy = () => {
      view.write16(control, 3);
      return view.read16(control) & 3;
    };
    expect(sleepy()).toBe(3);
    await machine.setNumVfs(PF, 1);
    expect(config.sleeping).toBe(false);
    expect(sleepy()).toBe(0);
    await machine.setNumVfs(PF, 0);
    expect(sleepy()).toBe(3);
  });

  it('B.10 PF in LOW_POWER_ENTRY: engaged, its mappings fault, and it stays awake until its VFs are gone', async () => {
    const { machine } = sriovRig();
    const { config, vfio } = machine.function(PF);
    using owner = new Tenant(machine, PF);
    const pf = owner.open(TOKEN);
    await machine.setNumVfs(PF, 1);
    pf.lowPower.enter();
    expect([vfio!.power.engaged, vfio!.power.asleep, config.sleeping]).toEqual([true, false, false]);
    using mapping = pf.region(0).map();
    expect(() => mapping.read32(0)).toThrow();
    await machine.setNumVfs(PF, 0);
    expect([vfio!.power.asleep, config.sleeping]).toEqual([true, true]);
  });

  it('S3-19 B.10 WITH_WAKEUP: enabling VFs wakes a PF in low power, and signals its wake-up eventfd', async () => {
    const { machine } = sriovRig();
    const { config, vfio } = machine.function(PF);
    using owner = new Tenant(machine, PF);
    const pf = owner.open(TOKEN);
    const state = () => [vfio!.power.engaged, vfio!.power.asleep, config.sleeping];
    const enter = (feature: number, sinks: FakeEventFd[]) =>
      featureBytes(pf, { feature, set: true, data: new Uint8Array(8), ...(sinks.length === 0 ? {} : { sinks }) });
    enter(Feature.LOW_POWER_ENTRY, []);
    expect(state()).toEqual([true, true, true]);
    await machine.setNumVfs(PF, 1);
    expect(state()).toEqual([true, false, false]);
    await machine.setNumVfs(PF, 0);
    expect(state()).toEqual([true, true, true]);
    pf.lowPower.exit();
    const wakeup = new FakeEventFd();
    enter(Feature.LOW_POWER_ENTRY_WITH_WAKEUP, [wakeup]);
    expect([state(), wakeup.read()]).toEqual([[true, true, true], null]);
    await machine.setNumVfs(PF, 1);
    expect([state(), wakeup.read()]).toEqual([[false, false, false], 1n]);
  });

  it('S3-15 B.10 a suspended machine enables and disables nothing', async () => {
    const { machine } = sriovRig();
    await machine.suspend();
    expect(outcome(() => machine.setNumVfs(PF, 1))).toBe('EBUSY');
    machine.resume();
    await machine.setNumVfs(PF, 1);
    expect(machine.functions.has(VF0)).toBe(true);
  });
});
