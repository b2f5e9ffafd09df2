/**
 * Opening functions of an SR-IOV device with tokens: the same answers in process, by ioctls of
 * groups, by iommufd and through sockets.
 */
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ContainerIoctl, Extension, Feature, FeatureFlags, GroupIoctl } from '../src/abi/vfio.ts';
import { machineDocument } from '../src/api/machine-document.ts';
import { parseMachine } from '../src/api/machine-file.ts';
import { open } from '../src/api/open.ts';
import { VfioError } from '../src/base/errno.ts';
import { DriverDevice } from '../src/drivers/kit/driver-device.ts';
import { Process } from '../src/engine/dma/process.ts';
import { Machine } from '../src/engine/machine/machine.ts';
import { KernelDoor } from '../src/ioctl/kernel-door.ts';
import { cString } from '../src/ioctl/user-buffer.ts';
import { models } from '../src/models/registry.ts';
import { HeapMemory } from '../src/sys/fake.ts';
import { VfioUserDevice } from '../src/vfio-user/client.ts';
import { Command, encodeVersion } from '../src/vfio-user/messages.ts';
import { fdBytes } from './kit/ioctl-bytes.ts';
import { MachineProcess } from './kit/machine-process.ts';
import { OTHER_TOKEN, PF, TOKEN, VF0, VF1 } from './kit/sriov-rig.ts';
import {
  byIoctl,
  byIommufd,
  bySocket,
  inProcess,
  NATIVE_VF,
  NEITHER,
  SET_TOKEN,
  type TokenDoor,
  type TokenHandle,
  tokenBytes,
  tokenMachine,
} from './kit/token-doors.ts';
import { ServerRig, settle } from './kit/vfio-user-rig.ts';

let sockets: MachineProcess;
beforeAll(async () => {
  sockets = await MachineProcess.start(tokenMachine);
});
afterAll(() => sockets[Symbol.asyncDispose]());

const THIRD_TOKEN = 'ffffffff-ffff-ffff-ffff-ffffffffffff';
const ZERO_TOKEN = '00000000-0000-0000-0000-000000000000';
/** Any eight digits of a token of these tests. */
const SECRET = /83d8f4f2|509f-?382f|e6bfe0fa100|ffffffff-ffff|131.?216.?244|83 d8 f4|0x83d8/i;

describe.each<[string, () => Promise<TokenDoor>]>([
  ['in process', inProcess],
  ['by ioctl', byIoctl],
  ['by iommufd', byIommufd],
  ['through sockets', () => bySocket(sockets)],
])('%s', (_, make) => {
  let door: TokenDoor;
  beforeEach(async () => {
    door = await make();
  });
  /** S3-05: no text that any reader got during a test holds a part of a token. */
  afterEach(async () => {
    await door[Symbol.asyncDispose]();
    for (const line of door.told) expect(line).not.toMatch(SECRET);
  });

  const held = (bdf: string, token?: string): TokenHandle => {
    const opened = door.open(bdf, token);
    if (typeof opened === 'string') throw new Error(`${bdf} cannot be opened: ${opened}`);
    return opened;
  };
  /** 'ok', or the errno. The device is closed again. */
  const attempt = async (bdf: string, token?: string): Promise<string> => {
    const opened = door.open(bdf, token);
    if (typeof opened === 'string') return opened;
    await opened.close();
    return 'ok';
  };
  /** The PF's driver has set the token and closed the PF. */
  const setToken = (token: string) => attempt(PF, token);

  it('T1 a VF whose PF has a driver of the host opens without a token', async () => {
    expect(await attempt(NATIVE_VF)).toBe('ok');
  });

  it('T2 and with one it is EINVAL: the token would not be used', async () => {
    expect(await attempt(NATIVE_VF, TOKEN)).toBe('EINVAL');
  });

  it('T3 a VF whose PF is under vfio without a token: EACCES', async () => {
    expect(await attempt(VF0)).toBe('EACCES');
    await setToken(TOKEN);
    expect(await attempt(VF0)).toBe('EACCES');
  });

  it('T4 with a wrong one: EACCES; until one is set, every one is wrong', async () => {
    expect([await attempt(VF0, TOKEN), await attempt(VF0, ZERO_TOKEN)]).toEqual(['EACCES', 'EACCES']);
    await setToken(TOKEN);
    expect([await attempt(VF0, OTHER_TOKEN), await attempt(VF1, ZERO_TOKEN)]).toEqual(['EACCES', 'EACCES']);
  });

  it('T5 with the current one it opens, and counts as a user while it is open', async () => {
    await setToken(TOKEN);
    const vf = held(VF0, TOKEN.toUpperCase());
    expect(await attempt(PF)).toBe('EACCES');
    await vf.close();
    expect(await attempt(PF)).toBe('ok');
  });

  it('T6 a PF without users of its VFs opens without a token, which stays as it is', async () => {
    expect(await attempt(PF)).toBe('ok');
    await setToken(TOKEN);
    expect([await attempt(PF), await attempt(VF0, TOKEN)]).toEqual(['ok', 'ok']);
  });

  it('T7 and with any token, which it takes as its own', async () => {
    for (const token of [TOKEN, OTHER_TOKEN, ZERO_TOKEN]) {
      expect([await setToken(token), await attempt(VF0, token)]).toEqual(['ok', 'ok']);
    }
    expect(await attempt(VF0, TOKEN)).toBe('EACCES');
  });

  it('T8 a PF with users of its VFs without a token: EACCES', async () => {
    await setToken(TOKEN);
    const vf = held(VF0, TOKEN);
    expect(await attempt(PF)).toBe('EACCES');
    await vf.close();
  });

  it('T9 with a wrong one: EACCES, and the token stays', async () => {
    await setToken(TOKEN);
    const vf = held(VF0, TOKEN);
    expect([await attempt(PF, OTHER_TOKEN), await attempt(VF1, OTHER_TOKEN), await attempt(VF1, TOKEN)]).toEqual([
      'EACCES',
      'EACCES',
      'ok',
    ]);
    await vf.close();
  });

  it('T10 with the current one it opens', async () => {
    await setToken(TOKEN);
    const vf = held(VF0, TOKEN);
    expect(await attempt(PF, TOKEN)).toBe('ok');
    await vf.close();
  });

  it('T11 a device that has nothing to do with SR-IOV opens without a token', async () => {
    expect(await attempt(NEITHER)).toBe('ok');
  });

  it('T12 and with one it is EINVAL', async () => {
    expect(await attempt(NEITHER, TOKEN)).toBe('EINVAL');
  });

  it('S3-02 a text that is no UUID is EINVAL, for every device', async () => {
    for (const bdf of [PF, VF0, NEITHER]) {
      for (const token of [TOKEN.slice(1), `${TOKEN}0`, TOKEN.replace('f', 'g'), '']) expect(await attempt(bdf, token)).toBe('EINVAL');
    }
    expect(await attempt(VF0, TOKEN)).toBe('EACCES');
  });

  it('S3-06 a token outlives close and SR-IOV off and on; unbinding the PF ends it', async () => {
    await setToken(TOKEN);
    expect(await attempt(VF0, TOKEN)).toBe('ok');
    await door.setNumVfs(PF, 0);
    await door.setNumVfs(PF, 1);
    expect(await attempt(VF0, TOKEN)).toBe('ok');
    await door.rebind(PF);
    await door.setNumVfs(PF, 1);
    expect(await attempt(VF0, TOKEN)).toBe('EACCES');
  });

  it('S3-08 with VFs in use no driver takes the place of a PF driver that is gone', async () => {
    const pf = held(PF, TOKEN);
    const vf = held(VF0, TOKEN);
    await pf.close();
    expect([await attempt(PF), await attempt(PF, OTHER_TOKEN), await attempt(PF, TOKEN)]).toEqual(['EACCES', 'EACCES', 'ok']);
    await vf.close();
    expect(await attempt(PF, OTHER_TOKEN)).toBe('ok');
  });

  it('S3-10 a PF opened without a token: its VFs cannot be used, and no warning is logged', async () => {
    const before = door.told.length;
    const pf = held(PF);
    expect(door.told.length).toBe(before);
    expect([await attempt(VF0), await attempt(VF0, TOKEN)]).toEqual(['EACCES', 'EACCES']);
    await pf.close();
  });

  it('S3-11 FEATURE sets it at any time: users stay, the old token is worth nothing', async () => {
    const pf = held(PF, TOKEN);
    const vf = held(VF0, TOKEN);
    expect(pf.feature(SET_TOKEN, tokenBytes(OTHER_TOKEN))).toBe('ok');
    expect([await attempt(VF1, TOKEN), await attempt(VF1, OTHER_TOKEN)]).toEqual(['EACCES', 'ok']);
    expect(vf.feature(FeatureFlags.SET | Feature.LOW_POWER_EXIT, new Uint8Array(0))).toBe('ok');
    await pf.close();
    expect([await attempt(PF, TOKEN), await attempt(PF, OTHER_TOKEN)]).toEqual(['EACCES', 'ok']);
    await vf.close();
  });

  it('S3-11 FEATURE: on what is no PF ENOTTY, too short EINVAL, GET EINVAL, PROBE ok', async () => {
    const pf = held(PF, TOKEN);
    const token = tokenBytes(THIRD_TOKEN);
    const { GET, PROBE } = FeatureFlags;
    expect([
      pf.feature(SET_TOKEN, token.subarray(0, 15)),
      pf.feature(GET | Feature.PCI_VF_TOKEN, new Uint8Array(16)),
      pf.feature(PROBE | GET | Feature.PCI_VF_TOKEN, new Uint8Array(16)),
      pf.feature(PROBE | SET_TOKEN, token),
      pf.feature(PROBE | Feature.PCI_VF_TOKEN, token),
      pf.feature(Feature.PCI_VF_TOKEN, token),
    ]).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 'ok', 'ok', 'EINVAL']);
    expect([await attempt(VF0, THIRD_TOKEN), await attempt(VF0, TOKEN)]).toEqual(['EACCES', 'ok']);
    const others = [held(NEITHER), held(VF0, TOKEN), held(NATIVE_VF)];
    for (const device of others) expect(device.feature(SET_TOKEN, token)).toBe('ENOTTY');
    for (const device of others) expect(device.feature(GET | Feature.PCI_VF_TOKEN, token)).toBe('ENOTTY');
    await Promise.all(others.map((device) => device.close()));
    await pf.close();
  });

  it('S3-21 the user chooses the token, even a well-known one', async () => {
    expect([await setToken(ZERO_TOKEN), await attempt(VF0, ZERO_TOKEN)]).toEqual(['ok', 'ok']);
  });

  it('S3-27 the whole: a PF driver sets a token, VFs are enabled, tenants come with it, the PF goes and they stay', async () => {
    await door.setNumVfs(PF, 0);
    const pf = held(PF);
    expect(pf.feature(SET_TOKEN, tokenBytes(TOKEN))).toBe('ok');
    await door.setNumVfs(PF, 2);
    const tenants = [held(VF0, TOKEN), held(VF1, TOKEN)];
    await pf.close();
    expect([await attempt(PF), await attempt(PF, TOKEN)]).toEqual(['EACCES', 'ok']);
    for (const tenant of tenants) await tenant.close();
    expect(await attempt(PF)).toBe('ok');
  });
});

it('S3-05 no printed object shows the token that a device was opened with: client, driver, process, machine', async () => {
  const all = { depth: 12, showHidden: true, maxArrayLength: null, maxStringLength: null } as const;
  await sockets.ask({ ask: 'fresh' });
  using client = VfioUserDevice.connect(sockets.pathOf(PF), { timeoutMs: 120_000, token: TOKEN });
  const driver = DriverDevice.attach(client);
  using simulated = await open('sim:edu,vfs=2', { token: TOKEN });
  using machine = new Machine(parseMachine(tokenMachine), { allocate: HeapMemory.allocate, models });
  const door = new KernelDoor(machine);
  const user = door.process(Process.root({ pid: 42, allocate: HeapMemory.allocate }));
  const [group, container] = [user.open(`/dev/vfio/${machine.function(PF).group!.id}`), user.open('/dev/vfio/vfio')];
  user.ioctl(group, GroupIoctl.SET_CONTAINER, fdBytes(container));
  user.ioctl(container, ContainerIoctl.SET_IOMMU, Extension.TYPE1v2_IOMMU);
  expect(user.ioctl(group, GroupIoctl.GET_DEVICE_FD, cString(`${PF} vf_token=${TOKEN}`))).toBeGreaterThan(0);
  for (const holder of [client, driver, simulated, door, user, machine]) {
    expect(inspect(holder, all)).not.toMatch(SECRET);
    expect(JSON.stringify(machineDocument(machine))).not.toMatch(SECRET);
  }
});

it('S3-05 a server has forgotten the token when the client has its answer, a refusal too', async () => {
  for (const refuse of [false, true]) {
    const seen: { shown: Uint8Array; kept: Uint8Array }[] = [];
    using rig = new ServerRig({
      server: {
        open: (_peer, kept) => {
          seen.push({ shown: kept!.slice(), kept: kept! });
          if (refuse) throw new VfioError('EACCES', 'wrong');
          return rig.rig.open();
        },
      },
    });
    const { client } = rig.connect();
    client.send(Command.VERSION, encodeVersion(0, 1, { maxMsgFds: 8 }, tokenBytes(TOKEN)));
    await settle();
    expect(seen).toEqual([{ shown: tokenBytes(TOKEN), kept: new Uint8Array(16) }]);
  }
});

it('E-11 through a socket, the error for a client without a token says that it needs one, and where to give it', () => {
  const told: string[] = [];
  return bySocket(sockets).then(async (door) => {
    expect(door.open(VF0)).toBe('EACCES');
    told.push(door.told.at(-1)!);
    expect(door.open(VF0, TOKEN)).toBe('EACCES');
    told.push(door.told.at(-1)!);
    expect(door.open(NEITHER, TOKEN)).toBe('EINVAL');
    told.push(door.told.at(-1)!);
    await door[Symbol.asyncDispose]();
    expect(told[0]).toMatch(/needs a VF token[\s\S]*open\(address, \{ token \}\)/);
    expect(told[1]).toMatch(/the VF token given for unix:.* is not the current one/);
    expect(told[2]).toMatch(/no use for a VF token/);
  });
});
