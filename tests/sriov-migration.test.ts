/** SR-IOV and migration: the parts of a PF that move, and those that stay with its machine. */
import { describe, expect, it } from 'vitest';
import type { DeviceHost } from '../src/abi/device-host.ts';
import { CapId, Pm } from '../src/abi/pci.ts';
import { RegionIndex } from '../src/abi/vfio.ts';
import { ManualClock } from '../src/base/clock.ts';
import { Migration } from '../src/drivers/kit/migration.ts';
import { Machine } from '../src/engine/machine/machine.ts';
import { edu } from '../src/models/edu/edu.ts';
import { pcie, pm } from '../src/pci/capabilities.ts';
import type { DeviceModel } from '../src/pci/declaration.ts';
import { HeapMemory } from '../src/sys/fake.ts';
import { load, save } from './kit/migration-rig.ts';
import { movable } from './kit/movable-model.ts';
import { sriovRegisters } from './kit/sriov-registers.ts';
import { OTHER_TOKEN, PF, Tenant, TOKEN, VF0 } from './kit/sriov-rig.ts';

const LIVENESS = 4;

/** A PF whose driver holds it open with `token`. */
function side(numVfs: number, token: string, model: DeviceModel = edu({ vfs: 4 })) {
  const machine = new Machine(
    {
      enableSriov: true,
      devices: [{ at: '01.0', kind: 'root-port', devices: [{ at: '00.0', model, driver: 'vfio-pci', numVfs }] }],
    },
    { allocate: HeapMemory.allocate, clock: new ManualClock() },
  );
  const owner = new Tenant(machine, PF);
  const device = owner.open(token);
  device.region(RegionIndex.CONFIG).write16(4, 6);
  const fn = machine.function(PF);
  return { machine, owner, device, fn, migration: new Migration(device) };
}

describe('a PF with VFs that is moved', () => {
  it('B.11 S3-15 moves alone: the number and place of VFs belong to the machine on either side', () => {
    for (const [had, has] of [
      [2, 0],
      [2, 1],
      [0, 3],
    ] as const) {
      const [from, to] = [side(had, TOKEN), side(has, OTHER_TOKEN)];
      const before = [from, to].map(({ machine }) => [sriovRegisters(machine, PF), [...machine.functions.keys()]]);
      from.device.region(0).write32(LIVENESS, 7);
      load(to, save(from));
      expect(to.device.region(0).read32(LIVENESS)).toBe(~7 >>> 0);
      expect([from, to].map(({ machine }) => [sriovRegisters(machine, PF), [...machine.functions.keys()]])).toEqual(before);
    }
  });

  it('B.11 S3-19 one that slept in D3hot is awake where it has VFs', () => {
    const sleeper = () => {
      const { declaration, create } = movable({ declaration: { capabilities: [pm(), pcie({ flr: true })] } });
      const vf = { declaration, create: (host: DeviceHost) => create(host) };
      return { declaration, create: (host: DeviceHost) => create(host), sriov: { totalVfs: 2, firstOffset: 1, stride: 1, vf } };
    };
    const [from, to] = [side(0, TOKEN, sleeper()), side(1, TOKEN, sleeper())];
    const control = from.fn.config.findCapability(CapId.PM) + Pm.CTRL;
    from.device.region(RegionIndex.CONFIG).write16(control, 3);
    expect(from.fn.config.sleeping).toBe(true);
    load(to, save(from));
    expect([to.fn.config.sleeping, to.fn.vfio!.power.state]).toEqual([false, 'D0']);
  });

  it('S3-05 S3-08 its token stays: it is not in the stream, the target has its own, and tenants at the source go on', () => {
    const [from, to] = [side(2, TOKEN), side(2, OTHER_TOKEN)];
    using tenant = new Tenant(from.machine, VF0);
    const vf = tenant.open(TOKEN);
    vf.region(0).write32(LIVENESS, 1);
    const stream = save(from);
    const secret = Buffer.from(TOKEN.replaceAll('-', ''), 'hex');
    expect([Buffer.from(stream).includes(secret), Buffer.from(stream).includes(TOKEN)]).toEqual([false, false]);
    load(to, stream);
    expect(vf.region(0).read32(LIVENESS)).toBe(~1 >>> 0);
    expect(from.fn.vfio!.token!.users).toBe(1);
    using other = new Tenant(to.machine, VF0);
    expect([other.try(TOKEN), other.try(OTHER_TOKEN)]).toEqual(['EACCES', 'ok']);
    // The PF's driver follows its device. No other driver takes its place while the tenant is
    // there.
    from.device.close();
    expect([from.owner.try(), from.owner.try(TOKEN)]).toEqual(['EACCES', 'ok']);
  });

  it('B.11 a VF is moved by itself, to any equal VF, with its own token there', () => {
    const [from, to] = [side(1, TOKEN), side(3, OTHER_TOKEN)];
    using source = new Tenant(from.machine, VF0);
    using target = new Tenant(to.machine, '0000:01:00.3');
    const [a, b] = [source.open(TOKEN), target.open(OTHER_TOKEN)];
    a.region(0).write32(LIVENESS, 5);
    from.device.region(0).write32(LIVENESS, 9);
    load({ migration: new Migration(b) }, save({ migration: new Migration(a) }));
    expect([b.region(0).read32(LIVENESS), to.device.region(0).read32(LIVENESS)]).toEqual([~5 >>> 0, 0]);
  });
});
