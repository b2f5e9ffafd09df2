/**
 * While the machine sleeps, and after (S2-42): requests that cannot wait, D-states, DMA that
 * outlives its user, acknowledgements that come late.
 */
import { describe, expect, it } from 'vitest';
import { DeviceRig, plain, resettable, ScriptedModel, setCommand } from '../../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { MigrationSide } from '../../../tests/kit/migration-rig.ts';
import { movable } from '../../../tests/kit/movable-model.ts';
import { PF, sriovRig, Tenant, TOKEN, VF0 } from '../../../tests/kit/sriov-rig.ts';
import type { DeviceHost } from '../../abi/device-host.ts';
import { CapId, Command, Pm } from '../../abi/pci.ts';
import { Feature, IrqIndex, RegionIndex } from '../../abi/vfio.ts';
import { featureBytes } from '../../device/feature-bytes.ts';
import { PciExp } from '../../pci/capabilities/pci-express-registers.ts';
import { pcie, pm } from '../../pci/capabilities.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';
import { FakeEventFd, HeapMemory } from '../../sys/fake.ts';

const { MEMORY, MASTER } = Command;
const managed = { ...resettable, capabilities: [pcie({ flr: true }), pm({ pme: true })] };
const lowPower = (feature: number, sink?: FakeEventFd) =>
  sink === undefined ? { feature, set: true, data: new Uint8Array(0) } : { feature, set: true, data: new Uint8Array(8), sinks: [sink] };

function opened(declaration: PciDeclaration = managed) {
  const rig = new DeviceRig(declaration);
  const file = rig.open();
  const memory = HeapMemory.allocate(4096);
  file.dma.map({ iova: 0n, memory });
  setCommand(file, MEMORY | MASTER);
  return { rig, file, memory };
}

describe('a machine that sleeps', () => {
  it.each([
    ['without power management', plain],
    ['with it', managed],
  ])('S2-42 a device %s does not answer: registers EIO, mappings fault', async (_what, declaration) => {
    const { rig, file } = opened(declaration);
    using mapping = file.region(RegionIndex.BAR0).map();
    await rig.machine.suspend();
    expect(errnoFrom(() => file.region(RegionIndex.BAR0).read32(0))).toBe('EIO');
    expect(errnoFrom(() => mapping.read32(0))).toBe('BusError');
    rig.machine.resume();
    expect([file.region(RegionIndex.BAR0).read32(0), mapping.read32(0)]).toEqual([0, 0]);
  });

  it('S2-42 nor do its ROM and the registers of its own regions; regions of memory are memory', async () => {
    const type = { type: 1, subtype: 1 };
    const { rig, file } = opened({
      ...plain,
      rom: Uint8Array.of(0x55, 0xaa, 1, 0),
      regions: [
        { size: 4096, ...type },
        { size: 4096, ...type, backing: 'memory' },
      ],
    });
    const read = () => [RegionIndex.ROM, 9, 10].map((index) => errnoFrom(() => file.region(index).read32(0)));
    await rig.machine.suspend();
    expect(read()).toEqual(['EIO', 'EIO', 'none']);
    rig.machine.resume();
    expect(read()).toEqual(['none', 'none', 'none']);
  });

  it('S2-42 a PF with VFs, which keeps out of idle D3hot, stands still too', async () => {
    const { machine } = sriovRig();
    await machine.setNumVfs(PF, 1);
    using user = new Tenant(machine, PF);
    const file = user.open();
    await machine.suspend();
    expect([machine.function(PF).config.sleeping, errnoFrom(() => file.region(RegionIndex.BAR0).read32(0))]).toEqual([true, 'EIO']);
    machine.resume();
    expect([machine.function(PF).config.sleeping, machine.function(VF0).present]).toEqual([false, true]);
  });

  it('S2-42 a D-state that the user writes meanwhile holds afterwards', async () => {
    const { rig, file } = opened();
    const config = file.region(RegionIndex.CONFIG);
    const control = rig.fn.config.findCapability(CapId.PM) + Pm.CTRL;
    await rig.machine.suspend();
    config.write16(control, 0);
    expect([rig.device.power.state, errnoFrom(() => file.region(RegionIndex.BAR0).read32(0))]).toEqual(['D3hot', 'EIO']);
    config.write16(control, 3);
    rig.machine.resume();
    expect(rig.device.power.state).toBe('D3hot');
    config.write16(control, 0);
    await rig.machine.suspend();
    rig.machine.resume();
    expect(rig.device.power.state).toBe('D0');
  });

  it('S2-42 resets, low power and migration states are EBUSY, and change nothing', async () => {
    const { rig, file } = opened();
    const wakeup = new FakeEventFd();
    await rig.machine.suspend();
    const { resets } = rig.model;
    // The reset bit has no effect, as on a device that cannot be reset.
    const control = rig.fn.config.findCapability(CapId.EXP) + PciExp.DEVCTL;
    file.region(RegionIndex.CONFIG).write16(control, PciExp.DEVCTL_BCR_FLR);
    const attempts = [
      () => file.reset(),
      () => rig.machine.reset(rig.bdf),
      () => file.hotReset([rig.group]),
      () => featureBytes(file, lowPower(Feature.LOW_POWER_ENTRY)),
      () => featureBytes(file, lowPower(Feature.LOW_POWER_ENTRY_WITH_WAKEUP, wakeup)),
      () => featureBytes(file, lowPower(Feature.LOW_POWER_EXIT)),
    ];
    expect(attempts.map(errnoFrom)).toEqual(attempts.map(() => 'EBUSY'));
    expect([rig.model.resets, wakeup.references, rig.device.power.engaged]).toEqual([resets, 1, false]);
    rig.machine.resume();
    expect(attempts.slice(3).map(errnoFrom)).toEqual(['none', 'EINVAL', 'none']);
    using side = new MigrationSide(movable());
    await side.machine.suspend();
    expect(errnoFrom(() => side.migration.go('STOP'))).toBe('EBUSY');
    side.machine.resume();
    side.migration.go('STOP');
    expect(side.migration.state).toBe('STOP');
  });

  it('S2-42 B.10 a device in low power stays there, and calls meanwhile do not signal its wake-up', async () => {
    const { rig, file } = opened();
    const [wakeup, interrupt] = [new FakeEventFd(), new FakeEventFd()];
    file.setIrqs({ index: IrqIndex.INTX, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [interrupt] });
    featureBytes(file, lowPower(Feature.LOW_POWER_ENTRY_WITH_WAKEUP, wakeup));
    await rig.machine.suspend();
    expect([file.info.name, file.irq(0).count]).toEqual([rig.bdf, 1]);
    rig.machine.resume();
    expect([rig.device.power.asleep, wakeup.count]).toEqual([true, 0]);
    expect(file.info.name).toBe(rig.bdf);
    expect([rig.device.power.state, wakeup.count]).toEqual(['D0', 1]);
    rig.model.host.irq.raise();
    expect(interrupt.count).toBe(1);
  });

  it.each(['the device itself', 'another on its bus, which is not open'])(
    'S2-42 B.8 recovery from a fatal error of %s waits for the end of the sleep',
    async (_which) => {
      const own = _which === 'the device itself';
      const other = {
        at: '00.1',
        model: { declaration: managed, create: (host: DeviceHost) => new ScriptedModel(host) },
        driver: 'vfio-pci',
      };
      const rig = new DeviceRig(managed, { behindPort: true, others: [other] });
      const file = rig.open();
      const culprit = own ? rig.fn : rig.machine.function('01:00.1');
      setCommand(file, MEMORY | MASTER);
      culprit.config.writeBits(4, 2, Command.SERR, Command.SERR);
      const { resets } = rig.model;
      await rig.machine.suspend();
      expect(rig.machine.reportError(culprit.bdf, 'fatal')).toBe(true);
      rig.clock.advance(1000);
      expect(rig.model.resets).toBe(resets);
      rig.machine.resume();
      rig.clock.advance(0);
      expect([rig.model.resets, file.region(RegionIndex.BAR0).read32(0)]).toEqual([resets + 1, 0]);
    },
  );
});

describe('what the end of a sleep must not bring', () => {
  it.each([
    ['that can be reset', managed],
    ['that cannot', plain],
  ])('S2-42 DMA of a user who has closed a device %s does not reach the memory of the next', async (_what, declaration) => {
    const { rig, file } = opened(declaration);
    await rig.machine.suspend();
    const outcome = rig.model.host.dma.write(8, Uint8Array.of(7)).then(
      () => 'written',
      (error: { reason: string }) => error.reason,
    );
    file.close();
    rig.machine.resume();
    const next = rig.open();
    next.dma.unmap(0n, 4096n);
    const memory = HeapMemory.allocate(4096);
    next.dma.map({ iova: 0n, memory });
    setCommand(next, MEMORY | MASTER);
    expect([await outcome, memory.windows[0]![8]]).toEqual(['bus-master-off', 0]);
  });

  it('S2-42 DMA of a VF that was reset, because the user of its PF is gone, does not land', async () => {
    const { machine, models } = sriovRig();
    await machine.setNumVfs(PF, 1);
    using physical = new Tenant(machine, PF);
    const owner = physical.open(TOKEN);
    using user = new Tenant(machine, VF0);
    const file = user.open(TOKEN);
    const memory = HeapMemory.allocate(4096);
    file.dma.map({ iova: 0n, memory });
    setCommand(file, MASTER);
    await machine.suspend();
    const outcome = models[1]!.host.dma.write(8, Uint8Array.of(7)).catch((error: { reason: string }) => error.reason);
    owner.close();
    setCommand(file, MASTER);
    machine.resume();
    expect([await outcome, memory.windows[0]![8]]).toEqual(['bus-master-off', 0]);
  });

  it('S2-42 memory that was unmapped meanwhile is not written', async () => {
    const { rig, file, memory } = opened();
    await rig.machine.suspend();
    const outcome = rig.model.host.dma.write(8, Uint8Array.of(7)).catch((error: { reason: string }) => error.reason);
    file.dma.unmap(0n, 4096n);
    rig.machine.resume();
    expect([await outcome, memory.windows[0]![8]]).toEqual(['not-mapped', 0]);
  });

  it('S2-42 an acknowledgement of a suspend that is over does not acknowledge the next', async () => {
    const { rig, file } = opened();
    const acknowledge: (() => void)[] = [];
    file.on((event) => event.kind === 'suspend' && acknowledge.push(event.acknowledge), ['suspend']);
    const over = rig.machine.suspend();
    rig.machine.resume();
    await over;
    const next = rig.machine.suspend();
    acknowledge[0]!();
    expect(rig.fn.host.dma.asleep).toBe(false);
    acknowledge[1]!();
    await next;
    expect(rig.fn.host.dma.asleep).toBe(true);
  });

  it('S2-42 SYSTEM_SLEEP: as many resumes as suspends are signalled, and a count that is not the newest is EAGAIN', async () => {
    const { rig, file } = opened();
    const [suspend, resume] = [new FakeEventFd(), new FakeEventFd()];
    const acknowledge = (count: bigint) => {
      const data = new Uint8Array(8);
      new DataView(data.buffer).setBigUint64(0, count, true);
      return errnoFrom(() => featureBytes(file, { feature: Feature.SYSTEM_SLEEP_ACK, set: true, data }));
    };
    const early = rig.machine.suspend();
    featureBytes(file, { feature: Feature.SYSTEM_SLEEP, set: true, data: new Uint8Array(8), sinks: [suspend, resume] });
    await early;
    rig.machine.resume();
    expect([suspend.count, resume.count]).toEqual([0, 0]);
    const over = rig.machine.suspend();
    rig.machine.resume();
    await over;
    const next = rig.machine.suspend();
    expect([suspend.count, resume.count, acknowledge(1n), rig.fn.host.dma.asleep]).toEqual([2, 1, 'EAGAIN', false]);
    expect([acknowledge(2n), rig.fn.host.dma.asleep]).toEqual(['none', true]);
    await next;
    rig.machine.resume();
    // Not acknowledged in time: the suspend eventfd is signalled once more when the machine sleeps.
    const late = rig.machine.suspend();
    rig.clock.advance(5_000);
    await late;
    expect([suspend.count, resume.count, acknowledge(3n), acknowledge(4n)]).toEqual([4, 2, 'EAGAIN', 'none']);
    rig.machine.resume();
    expect(resume.count).toBe(4);
  });

  it('S2-42 B.11 what a sleeping device sends says nothing of the sleep: at the destination it is awake', async () => {
    const sleepy = () => movable({ declaration: { capabilities: [pcie({ flr: true }), pm()] } });
    using source = new MigrationSide(sleepy());
    using destination = new MigrationSide(sleepy());
    const stream = source.migration.go('STOP_COPY')!;
    await source.machine.suspend();
    const arriving = destination.migration.go('RESUMING')!;
    const chunk = new Uint8Array(4096);
    for (let size = stream.read(chunk); size > 0; size = stream.read(chunk)) arriving.write(chunk.subarray(0, size));
    destination.migration.go('RUNNING');
    expect([source.migration.state, destination.device.device.power.state]).toEqual(['STOP_COPY', 'D0']);
  });
});
