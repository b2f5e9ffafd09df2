import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { eventLines } from '../../../tests/kit/event-words.ts';
import { bytesOf, fdBytes, said } from '../../../tests/kit/ioctl-bytes.ts';
import { OTHER_TOKEN, outcome, PF, type SriovRig, sriovRig, Tenant, TOKEN, VF0, VF1 } from '../../../tests/kit/sriov-rig.ts';
import { formatVfToken, parseVfToken, withoutVfTokens } from '../../abi/vf-token.ts';
import { ContainerIoctl, DeviceIoctl, Extension, Feature, GroupIoctl } from '../../abi/vfio.ts';
import { DeviceBindIommufd } from '../../abi/vfio-structs.ts';
import { ManualClock } from '../../base/clock.ts';
import type { VfioError } from '../../base/errno.ts';
import { featureBytes } from '../../device/feature-bytes.ts';
import { KernelDoor } from '../../ioctl/kernel-door.ts';
import { cString } from '../../ioctl/user-buffer.ts';
import { Process } from '../dma/process.ts';
import { VfToken } from './vf-token.ts';

const bytes = fc.uint8Array({ minLength: 16, maxLength: 16 });

/** A PF under vfio-pci with two VFs, whose driver has set TOKEN. */
function shared(options: Parameters<typeof sriovRig>[0] = {}): SriovRig & { readonly users: () => number } {
  const rig = sriovRig({ device: { numVfs: 2 }, ...options });
  using owner = new Tenant(rig.machine, PF);
  owner.open(TOKEN).close();
  return { ...rig, users: () => rig.machine.function(PF).vfio!.token!.users };
}

describe('the token itself', () => {
  it('S3-02 the 16 bytes are those of the UUID as it is written, in either case', () => {
    fc.assert(
      fc.property(bytes, (token) => {
        const text = formatVfToken(token);
        expect(text).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
        expect(parseVfToken(text)).toEqual(token);
        expect(parseVfToken(text.toUpperCase())).toEqual(token);
      }),
    );
    for (const text of ['', TOKEN.slice(1), `${TOKEN}0`, TOKEN.replaceAll('-', '0'), `{${TOKEN}}`, TOKEN.replace('8', 'x'), 8 as never]) {
      expect(parseVfToken(text)).toBe(null);
    }
  });

  it('S3-11 two are equal when all bytes are, and only then', () => {
    fc.assert(
      fc.property(bytes, fc.nat(15), fc.integer({ min: 1, max: 255 }), (token, at, change) => {
        const kept = new VfToken();
        kept.set(token);
        const other = token.slice();
        other[at] = other[at]! ^ change;
        expect([kept.equals(token), kept.equals(token.slice()), kept.equals(other)]).toEqual([true, true, false]);
        expect([kept.equals(token.subarray(0, 15)), kept.equals(new Uint8Array(17))]).toEqual([false, false]);
      }),
    );
  });

  it('S3-05 it is random at first, and nothing that prints objects shows it', () => {
    const tokens = Array.from({ length: 8 }, () => new VfToken());
    for (const token of tokens) {
      expect([token.equals(new Uint8Array(16)), token.equals(new Uint8Array(16).fill(255))]).toEqual([false, false]);
    }
    const { machine } = shared();
    const device = machine.function(PF).vfio!;
    for (const seen of [device.token, device, machine, machine.explain(PF), machine.explain(VF0)]) {
      const shown = inspect(seen, { depth: 6, showHidden: true, maxArrayLength: null });
      expect(shown).not.toMatch(/83d8f4f2|131, 216, 244/);
    }
    expect(JSON.stringify(device.token)).toBe('{}');
  });

  it('S3-05 no file of the machine gives it back: not config space, not a region, not FEATURE', () => {
    const { machine } = shared();
    using owner = new Tenant(machine, PF);
    const device = owner.open();
    const token = Buffer.from(parseVfToken(TOKEN)!);
    for (let index = 0; index < device.info.numRegions - 1; index++) {
      const region = device.region(index);
      const all = Buffer.alloc(region.info.size);
      if (all.length > 0) region.read(0, all);
      expect(all.includes(token)).toBe(false);
    }
    expect(outcome(() => featureBytes(device, { feature: Feature.PCI_VF_TOKEN, get: true, data: new Uint8Array(16) }))).toBe('EINVAL');
  });

  it('S3-05 texts with a token in them are shown with asterisks', () => {
    expect(withoutVfTokens(`0000:01:00.0 vf_token=${TOKEN} x`)).toBe(`0000:01:00.0 vf_token=${'*'.repeat(36)} x`);
    expect(withoutVfTokens(`it is ${TOKEN.toUpperCase()}.`)).toBe(`it is ${'*'.repeat(36)}.`);
    expect(withoutVfTokens('vf_token=83d8f4')).toBe('vf_token=******');
    expect(withoutVfTokens('{"a_vf_token": "83d8", "b": 1}')).toBe('{"a_vf_token": "****", "b": 1}');
    expect(withoutVfTokens('nothing of that kind')).toBe('nothing of that kind');
  });

  it('S3-05 a token that is not separated from the name is in no error', () => {
    const { machine } = shared();
    using user = new Tenant(machine, VF0);
    for (const name of [`${VF0}vf_token=${TOKEN}`, `vf_token=${TOKEN}`, TOKEN, `${VF0},${TOKEN}`]) {
      try {
        user.group.openDevice(name);
        expect.unreachable();
      } catch (error) {
        expect((error as VfioError).code).toBe('ENODEV');
        expect((error as VfioError).explain()).not.toMatch(/83d8f4f2|e6bfe0/);
      }
    }
  });
});

describe('users', () => {
  it('S3-07 a VF is one user, from its first open to its last close, whatever files it has', () => {
    const { machine, users } = shared();
    using one = new Tenant(machine, VF0);
    using two = new Tenant(machine, VF1);
    const files = [one.open(TOKEN), one.open(TOKEN)];
    expect(users()).toBe(1);
    files.push(two.open(TOKEN));
    expect(users()).toBe(2);
    files[0]!.close();
    expect(users()).toBe(2);
    // A mapping keeps its file open, and so the VF in use (S2-37).
    const mapping = files[1]!.region(0).map();
    files[1]!.close();
    expect(users()).toBe(2);
    mapping[Symbol.dispose]();
    expect(users()).toBe(1);
    files[2]!.close();
    expect(users()).toBe(0);
  });

  it('S3-24 users are never fewer than 0, and none is left when the PF goes: by close, exit, revocation or unplug', async () => {
    for (const way of ['close', 'exit', 'revoke', 'switch off'] as const) {
      const { machine, users, clock } = shared({ machine: { params: { enableSriov: true, forceRevokeAfterMs: 1000 } } });
      const token = machine.function(PF).vfio!.token!;
      const process = Process.root({ pid: 9, allocate: machine.context.allocate });
      const group = machine.openGroup(machine.function(VF0).group!.id, process);
      const container = machine.openContainer(process);
      group.setContainer(container);
      container.setIommu(Extension.TYPE1v2_IOMMU);
      const file = group.openDevice(`${VF0} vf_token=${TOKEN}`);
      expect(users()).toBe(1);
      if (way === 'close') file.close();
      if (way === 'exit') process.exit();
      if (way === 'switch off') machine[Symbol.dispose]();
      if (way === 'revoke') {
        const gone = machine.unbind(PF);
        expect(token.users).toBe(1);
        clock.advance(1000);
        await gone;
        expect(machine.function(PF).driver).toBe(null);
      }
      expect(token.users).toBe(0);
      file.close();
      expect(token.users).toBe(0);
    }
  });

  it('S3-06 the token is destroyed with the bind: what was right is worth nothing to what comes after', async () => {
    const { machine } = shared();
    const before = machine.function(PF).vfio!.token!;
    expect(before.equals(parseVfToken(TOKEN)!)).toBe(true);
    await machine.unbind(PF);
    expect([before.equals(parseVfToken(TOKEN)!), before.equals(new Uint8Array(16))]).toEqual([false, true]);
    machine.bind(PF, 'vfio-pci');
    const after = machine.function(PF).vfio!.token!;
    expect([after === before, after.equals(parseVfToken(TOKEN)!), after.equals(new Uint8Array(16))]).toEqual([false, false, false]);
  });
});

describe('order', () => {
  it('S3-12 the token is set while the name is looked up: also when there is no container, and the open fails', () => {
    const { machine } = shared();
    const group = machine.openGroup(machine.function(PF).group!.id);
    expect(outcome(() => group.openDevice(`${PF} vf_token=${OTHER_TOKEN}`))).toBe('EINVAL');
    group.close();
    using user = new Tenant(machine, VF0);
    expect([user.try(TOKEN), user.try(OTHER_TOKEN)]).toEqual(['EACCES', 'ok']);
  });

  it('S3-12 a token that is refused says so before a container that is missing', () => {
    const { machine } = shared();
    const group = machine.openGroup(machine.function(VF0).group!.id);
    const answers = [VF0, `${VF0} vf_token=${OTHER_TOKEN}`, `${VF0} vf_token=${TOKEN}`, `${VF0} x`];
    expect(answers.map((name) => outcome(() => group.openDevice(name)))).toEqual(['EACCES', 'EACCES', 'EINVAL', 'EINVAL']);
    group.close();
  });

  it('S3-04 the name of no device of the group is ENODEV, right token or not', () => {
    const { machine } = shared();
    using user = new Tenant(machine, VF0);
    expect([VF1, `${VF1} vf_token=${TOKEN}`, `0000:01:00 vf_token=${TOKEN}`].map((n) => outcome(() => user.group.openDevice(n)))).toEqual([
      'ENODEV',
      'ENODEV',
      'ENODEV',
    ]);
  });

  it('S3-12 through the ioctl door the token comes before the descriptor table is looked at, and is set when that is full', () => {
    const { machine } = shared();
    const door = new KernelDoor(machine);
    const poor = door.process(Process.root({ pid: 5, allocate: machine.context.allocate }), 5);
    const [group, container] = [poor.open(`/dev/vfio/${machine.function(PF).group!.id}`), poor.open('/dev/vfio/vfio')];
    poor.ioctl(group, GroupIoctl.SET_CONTAINER, fdBytes(container));
    poor.ioctl(container, ContainerIoctl.SET_IOMMU, Extension.TYPE1v2_IOMMU);
    const ask = (name: string) => said(poor.ioctl(group, GroupIoctl.GET_DEVICE_FD, cString(name)));
    expect([ask(`${PF} x`), ask(VF0), ask(`${PF} vf_token=${OTHER_TOKEN}`)]).toEqual(['EINVAL', 'ENODEV', 'EMFILE']);
    using user = new Tenant(machine, VF0);
    expect(user.try(OTHER_TOKEN)).toBe('ok');
    poor.exit();
  });

  it('S3-12 a malformed option sets nothing', () => {
    const { machine } = shared();
    using owner = new Tenant(machine, PF);
    for (const options of [`vf_token=${OTHER_TOKEN} x`, `vf_token=${OTHER_TOKEN}x`, `vf_token=${OTHER_TOKEN} vf_token=${OTHER_TOKEN}`]) {
      expect(outcome(() => owner.group.openDevice(`${PF} ${options}`))).toBe('EINVAL');
    }
    using user = new Tenant(machine, VF0);
    expect(user.try(TOKEN)).toBe('ok');
  });
});

describe('events', () => {
  it('S3-07 S3-09 S3-12 a token that was set, matched and refused, and none of its bytes', () => {
    const { machine } = sriovRig({ device: { numVfs: 2 } });
    using reader = machine.events({ kinds: ['token'] });
    using owner = new Tenant(machine, PF);
    using user = new Tenant(machine, VF0);
    owner.open(TOKEN).close();
    user.open(TOKEN);
    owner.open(TOKEN).setVfToken(parseVfToken(OTHER_TOKEN)!);
    user.try(TOKEN);
    user.try();
    expect(eventLines(reader.take())).toEqual([
      `${PF}: VF token set`,
      `${VF0}: VF token matched`,
      `${PF}: VF token matched`,
      `${PF}: VF token set`,
      `${VF0}: error: the VF token given for ${VF0} is not the current one`,
      `${VF0}: error: ${VF0} needs a VF token: it is a virtual function of ${PF}, which vfio-pci drives`,
    ]);
  });
});

describe('messages', () => {
  it('S3-25 each kind of refusal is logged, and none more often than every five seconds', () => {
    const clock = new ManualClock();
    const { machine, lines } = shared({ machine: { clock, params: { enableSriov: true } } });
    using user = new Tenant(machine, VF0);
    const refuse = () => {
      for (let i = 0; i < 100; i++) {
        user.try();
        user.try(OTHER_TOKEN);
      }
    };
    refuse();
    expect(lines).toEqual([
      expect.stringMatching(/^error: 0000:01:00\.1 needs a VF token/),
      expect.stringMatching(/^error: the VF token given for 0000:01:00\.1 is not the current one/),
    ]);
    clock.advance(5000);
    refuse();
    expect(lines.length).toBe(4);
    expect(lines.join()).not.toContain(OTHER_TOKEN.slice(0, 8));
  });

  it('S3-09 S3-25 the four texts speak of an error, and of nothing that was given', () => {
    const texts = new Set<string>();
    const collect = ({ machine }: SriovRig, bdf: string, token?: string) => {
      using user = new Tenant(machine, bdf);
      try {
        user.open(token);
      } catch (error) {
        texts.add((error as VfioError).message.replaceAll(/[0-9a-f:.]{12}/g, 'BDF'));
      }
    };
    collect(shared(), VF0);
    collect(shared(), VF0, OTHER_TOKEN);
    collect(sriovRig({ driver: 'igb', device: { numVfs: 1, vfDriver: 'vfio-pci' } }), VF0, TOKEN);
    collect(
      sriovRig({ spec: { devices: [{ at: '01.0', kind: 'root-port', devices: [{ at: '00.0', id: '8086:100e', driver: 'vfio-pci' }] }] } }),
      PF,
      TOKEN,
    );
    expect(texts.size).toBe(4);
    for (const text of texts) expect(text).toMatch(/^error: /);
    expect([...texts].join()).not.toMatch(/83d8f4f2/);
  });
});

describe('cdev', () => {
  it('T13 S3-28 BIND_IOMMUFD on a file that came through its group: EINVAL with a token as without, after the structure was checked', () => {
    const { machine } = shared();
    const user = new KernelDoor(machine).process(Process.root({ pid: 5, allocate: machine.context.allocate }));
    const group = user.open(`/dev/vfio/${machine.function(VF0).group!.id}`);
    const container = user.open('/dev/vfio/vfio');
    user.ioctl(group, GroupIoctl.SET_CONTAINER, fdBytes(container));
    user.ioctl(container, ContainerIoctl.SET_IOMMU, Extension.TYPE1v2_IOMMU);
    const device = user.ioctl(group, GroupIoctl.GET_DEVICE_FD, cString(`${VF0} vf_token=${TOKEN}`));
    expect(device).toBeGreaterThan(0);
    const bind = (flags: number, pointer: bigint, argsz = 24) =>
      said(
        user.ioctl(
          device,
          DeviceIoctl.BIND_IOMMUFD,
          bytesOf(DeviceBindIommufd, { argsz, flags, iommufd: 3, out_devid: 0, token_uuid_ptr: pointer }),
        ),
      );
    expect([bind(0, 0n), bind(1, 0x1000n), bind(1, 0n), bind(2, 0n), bind(1, 0x1000n, 15)]).toEqual(Array(5).fill('EINVAL'));
    user.exit();
  });

  it('S3-28 each file that is opened through the group needs the token', () => {
    const { machine } = shared();
    using user = new Tenant(machine, VF0);
    user.open(TOKEN);
    expect([user.try(), user.try(OTHER_TOKEN), user.try(TOKEN)]).toEqual(['EACCES', 'EACCES', 'ok']);
  });
});

describe('S3-23 failures', () => {
  const steps = (rig: SriovRig) => [...rig.faults.seen.keys()];
  const picture = ({ machine, models }: SriovRig) => ({
    functions: [...machine.functions.values()].map((f) => [f.bdf, f.driver, f.driverOverride, f.group?.id, f.vfioIndex, f.config.sleeping]),
    groups: [...machine.groups.keys()],
    numVfs: machine.function(PF).sriov!.numVfs,
    alive: models.filter((m) => m.disposed === 0).length,
    hosts: machine.function(PF).host.virtualFunctions.length,
  });

  it('S3-23 each step of enabling VFs fails once: then nothing has changed, and the next try works', async () => {
    const all = sriovRig();
    const before = new Map(all.faults.seen);
    await all.machine.setNumVfs(PF, 2);
    const passed = steps(all).filter((s) => s.startsWith('sriov.') && !before.has(s));
    expect(passed).toEqual(['sriov.power', 'sriov.enable', 'sriov.config', 'sriov.model', 'sriov.group']);
    for (const step of passed) {
      for (let skip = 0; skip < all.faults.seen.get(step)!; skip++) {
        const rig = sriovRig();
        const then = picture(rig);
        rig.faults.failNext(step, 'ENOMEM', skip);
        expect([step, skip, outcome(() => rig.machine.setNumVfs(PF, 2))]).toEqual([step, skip, 'ENOMEM']);
        expect(picture(rig)).toEqual(then);
        await rig.machine.setNumVfs(PF, 2);
        expect(rig.machine.functions.has(VF1)).toBe(true);
        await rig.machine.setNumVfs(PF, 0);
        expect(picture(rig)).toEqual(then);
      }
    }
  });

  it("S3-23 a VF's bind that fails leaves the VF without driver, and the others as they are", () => {
    for (const step of ['bind.match', 'bind.dma', 'bind.token', 'bind.probe', 'bind.register']) {
      const rig = sriovRig();
      rig.faults.failNext(step, 'ENOMEM');
      void rig.machine.setNumVfs(PF, 2);
      expect([VF0, VF1].map((bdf) => rig.machine.function(bdf).driver)).toEqual([null, 'vfio-pci']);
      expect(rig.machine.function(VF0).probeError?.code).toBe('ENOMEM');
      expect(rig.machine.probe(VF0)).toBe('vfio-pci');
    }
  });

  it("S3-23 a PF's bind that fails at any step leaves no token and no sleeping device", () => {
    for (const step of ['bind.match', 'bind.dma', 'bind.token', 'bind.probe', 'bind.register']) {
      const rig = sriovRig({ driver: null });
      const then = picture(rig);
      rig.faults.failNext(step, 'ENOMEM');
      expect(outcome(() => rig.machine.bind(PF, 'vfio-pci'))).toBe('ENOMEM');
      expect(picture(rig)).toEqual(then);
      rig.machine.bind(PF, 'vfio-pci');
      expect(rig.machine.function(PF).vfio!.token).not.toBe(null);
    }
  });

  it('S3-23 an open of a VF that fails at any step counts no user', () => {
    const all = shared();
    const seen = new Map(all.faults.seen);
    using first = new Tenant(all.machine, VF0);
    first.open(TOKEN);
    const passed = steps(all).filter((s) => s.startsWith('device.') && all.faults.seen.get(s)! > (seen.get(s) ?? 0));
    expect(passed.length).toBeGreaterThan(5);
    for (const step of passed) {
      const rig = shared();
      using user = new Tenant(rig.machine, VF0);
      rig.faults.failNext(step, 'EAGAIN');
      expect([step, outcome(() => user.open(TOKEN))]).toEqual([step, 'EAGAIN']);
      expect([step, rig.users()]).toEqual([step, 0]);
      expect(user.try(TOKEN)).toBe('ok');
      expect(rig.users()).toBe(0);
    }
  });
});
