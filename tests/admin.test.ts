/** The administrator of a served machine, while drivers are at work: what sysfs, aer-inject and a hand on the slot would do. */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { adminCommands } from '../src/app/admin/commands.ts';
import { administerMachine, askMachine } from '../src/app/machine-server.ts';
import { managePathOf } from '../src/app/migrate/door.ts';
import { Kind } from '../src/app/migrate/frames.ts';
import { Link } from '../src/app/migrate/link.ts';
import { VfioError } from '../src/base/errno.ts';
import { EduDriver } from '../src/drivers/edu/edu-driver.ts';
import { open } from '../src/index.ts';
import { UnixSocket } from '../src/sys/unix-socket.ts';
import { MachineProcess } from './kit/machine-process.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const EDU = '0000:00:04.0';
const PORT = '0000:00:02.0';
const DISK = '0000:01:00.0';
const ADMIN_QUEUE_ATTRIBUTES = 0x24;

const machine = `name: card
params: { enableSriov: true }
devices:
  - at: 01.0
    kind: root-port
    devices: [ { at: "00.0", model: nvme, options: { size: 1M, vfs: 2 }, driver: vfio-pci } ]
  - { at: 02.0, kind: root-port }
  - { at: "04.0", model: edu, driver: vfio-pci }
`;

let served: MachineProcess;
let heard: string[];
beforeAll(async () => {
  served = await MachineProcess.start(machine);
});
afterAll(() => served[Symbol.asyncDispose]());
beforeEach(async () => {
  heard = [];
  await served.ask({ ask: 'fresh' });
});

const admin = async (command: string, given: Record<string, string | boolean> = {}): Promise<string> =>
  (await administerMachine(served.directory, command, given, (text) => void heard.push(text))).lines.join('\n');
const refusal = async (command: string, given: Record<string, string | boolean> = {}): Promise<string> => {
  try {
    return `done: ${await admin(command, given)}`;
  } catch (error) {
    if (error instanceof VfioError) return `${error.code}: ${error.message}`;
    throw error;
  }
};
const address = (bdf: string) => `unix:${served.pathOf(bdf)}`;
const functionAt = async (bdf: string) => (await askMachine(served.directory)).functions.find((fn) => fn.bdf === bdf);

describe('drivers and functions', () => {
  it('S1-09 unbind takes the socket away, bind puts it back, and what sysfs refuses is refused', async () => {
    expect(await admin('unbind', { bdf: EDU })).toBe(`${EDU} is unbound from vfio-pci`);
    await expect(open(address(EDU))).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await refusal('unbind', { bdf: EDU })).toMatch(/^ENODEV: /);
    expect(await admin('bind', { bdf: '00:04.0', driver: 'vfio-pci' })).toBe(`${EDU} is bound to vfio-pci`);
    expect(await refusal('bind', { bdf: EDU, driver: 'vfio-pci' })).toMatch(/^EBUSY: /);
    expect(await refusal('bind', { bdf: PORT, driver: 'vfio-pci' })).toMatch(/^(EINVAL|EBUSY): /);
    (await open(address(EDU))).close();
  });

  it('S2-41 unbind and unplug ask the driver at work to let go, and wait for it', async () => {
    const device = await open(address(EDU));
    const asked = new Promise<void>((resolve) => {
      device.on((event) => {
        if (event.kind === 'request') resolve();
      });
    });
    const said = await admin('unbind', { bdf: EDU });
    expect(said).toContain(`${EDU} is used by process ${process.pid} (`);
    expect(said).toContain(`when it has: ${EDU} is unbound from vfio-pci`);
    await asked;
    const gone = admin('unplug', { bdf: EDU, wait: true });
    while (heard.length === 0) await new Promise((resolve) => setImmediate(resolve));
    device.close();
    expect(await gone).toBe(`${EDU} is unplugged`);
    expect(await functionAt(EDU)).toBeUndefined();
  });

  it('S2-41 a device that is pulled out is gone for its driver at once', async () => {
    const device = await open(address(EDU));
    const gone = new Promise<void>((resolve) => {
      device.on((event) => {
        if (event.kind === 'gone') resolve();
      });
    });
    expect(await admin('unplug', { bdf: EDU, surprise: true })).toBe(`${EDU} was pulled out`);
    await gone;
    expect(await functionAt(EDU)).toBeUndefined();
    device.close();
  });

  it('S2-41 a device that is plugged in has a socket, and works', async () => {
    expect(await admin('plug', { device: 'edu', behind: PORT })).toMatch(/^0000:0\d:00\.0 is there, bound to vfio-pci$/);
    const bdf = (await askMachine(served.directory)).functions.find(({ parent }) => parent === PORT)!.bdf;
    const device = await open(address(bdf));
    using driver = new EduDriver(device, { timeoutMs: 120_000 });
    expect(await driver.factorial(5)).toBe(120);
    device.close();
    expect(await refusal('plug', { device: 'edu', behind: PORT })).toMatch(/^EEXIST: /);
    expect(await refusal('plug', { device: 'edu' })).toMatch(/^EINVAL: where to plug it in is missing/);
    expect(await refusal('plug', { device: 'nothing', behind: PORT })).toMatch(/^ENOENT: /);
  });

  it('S3-15 S3-18 virtual functions come and go as by sriov_numvfs', async () => {
    expect(await admin('numvfs', { bdf: DISK, count: '2' })).toBe(`${DISK} has 2 virtual functions: 0000:01:00.1, 0000:01:00.2`);
    expect(await refusal('numvfs', { bdf: DISK, count: '1' })).toMatch(/^EBUSY: /);
    expect(await refusal('numvfs', { bdf: EDU, count: '1' })).toMatch(/^(ENOENT|EOPNOTSUPP|EINVAL): /);
    expect(await refusal('power', { bdf: DISK, state: 'D3hot' })).toMatch(/^(EBUSY|EOPNOTSUPP): /);
    expect(await admin('numvfs', { bdf: DISK, count: '0' })).toBe(`${DISK} has no virtual functions`);
  });
});

describe('what happens to a device in use', () => {
  it('S3-20 reset: the driver finds the registers as after power-on', async () => {
    const device = await open(address(DISK));
    device.config.memoryEnabled = true;
    const registers = device.bar(0);
    registers.write32(ADMIN_QUEUE_ATTRIBUTES, 0x000f_000f);
    expect(registers.read32(ADMIN_QUEUE_ATTRIBUTES)).toBe(0x000f_000f);
    expect(await admin('reset', { bdf: DISK })).toBe(`${DISK} was reset`);
    expect(registers.read32(ADMIN_QUEUE_ATTRIBUTES)).toBe(0);
    expect(await refusal('reset', { bdf: PORT })).toMatch(/^ENOTTY: /);
    device.close();
  });

  it('S2-42 suspend and resume: nothing is opened meanwhile, and the driver goes on afterwards', async () => {
    const device = await open(address(EDU));
    using driver = new EduDriver(device, { timeoutMs: 120_000 });
    expect(await admin('suspend')).toBe('card sleeps');
    expect(await refusal('bind', { bdf: EDU, driver: 'vfio-pci' })).toMatch(/^EBUSY: card is suspended/);
    expect([await admin('resume'), await admin('resume')]).toEqual(['card is awake', 'card was awake']);
    expect(await driver.factorial(4)).toBe(24);
    device.close();
  });

  it('B.8 error handler: an error that the function reports reaches its user', async () => {
    const device = await open(address(DISK));
    const told = new Promise<void>((resolve) => {
      device.on((event) => {
        if (event.kind === 'error') resolve();
      });
    });
    expect(await admin('error', { bdf: DISK, kind: 'nonfatal' })).toMatch(/0000:01:00\.0 has (reported|noted) a nonfatal error/);
    expect(await refusal('error', { bdf: EDU, kind: 'nonfatal' })).toMatch(/^EOPNOTSUPP: /);
    expect(await refusal('error', { bdf: DISK, kind: 'bad' })).toMatch(/^EINVAL: the kind is "bad"/);
    await told;
    device.close();
  });

  it('B.7 runtime pm: wake of what is awake changes nothing; power is refused where there is none to manage', async () => {
    expect(await admin('wake', { bdf: EDU })).toBe(`${EDU} was awake`);
    expect(await refusal('power', { bdf: EDU, state: 'D3hot' })).toMatch(/^EOPNOTSUPP: 0000:00:04\.0 has no power management/);
    expect(await refusal('power', { bdf: EDU, state: 'D7' })).toMatch(/^EINVAL: the state is "D7"/);
  });
});

describe('what is asked', () => {
  it('E-01 explain is of the machine as it is now', async () => {
    const { value } = await administerMachine(served.directory, 'explain', { bdf: EDU });
    expect(value).toMatchObject({ bdf: EDU, usable: true });
    await admin('unbind', { bdf: EDU });
    const run = await VfioProcess.run('explain', served.directory, EDU);
    expect([run.status, run.stdout]).toEqual([3, expect.stringContaining('it is not bound to vfio-pci')]);
  });

  it('S3-20 parameters: read, set where Linux lets them be set, refused where it does not', async () => {
    expect(await admin('params', { parameter: 'enable_sriov=N' })).toBe('enableSriov (vfio_pci.enable_sriov) = false');
    expect(await refusal('params', { parameter: 'nointxmask=Y' })).toMatch(/^EACCES: /);
    expect(await refusal('params', { parameter: 'nothing' })).toMatch(/^ENOENT: /);
    expect((await admin('params')).split('\n').length).toBeGreaterThan(8);
  });

  it('a request that is none changes nothing and is refused: unknown commands, arguments, versions, control characters', async () => {
    expect(await refusal('explode')).toMatch(/^EINVAL: there is no command 'explode'/);
    expect(await refusal('constructor')).toMatch(/^EINVAL: there is no command/);
    expect(await refusal('reset', { bdf: EDU, force: true })).toBe('EINVAL: reset takes no force');
    expect(await refusal('unbind', { bdf: EDU, wait: 'yes' })).toBe('EINVAL: unbind: wait is a string');
    expect(await refusal('bind', { bdf: EDU, driver: 'a\nb' })).toMatch(/control characters/);
    expect(await refusal('bind', { bdf: EDU })).toMatch(/^EINVAL: the driver is missing/);
    expect(await refusal('unbind')).toMatch(/^EINVAL: which function is missing/);
    using link = new Link(UnixSocket.connect(managePathOf(join(served.directory, 'machine'))));
    await link.expect(Kind.STATUS, 10_000);
    await link.sendJson(Kind.ADMIN, { version: 2, command: 'suspend' });
    await expect(link.expect(Kind.DONE, 10_000)).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
    expect((await functionAt(EDU))!.driver).toBe('vfio-pci');
  });

  it('the door is the owner’s alone', () => {
    expect(statSync(managePathOf(join(served.directory, 'machine'))).mode & 0o777).toBe(0o600);
  });
});

describe('the command', () => {
  it('does one thing, with its arguments, and says what came of it', async () => {
    const bound = await VfioProcess.run('admin', served.directory, 'unbind', '--wait', '00:04.0');
    expect([bound.status, bound.stdout]).toEqual([0, `${EDU} is unbound from vfio-pci\n`]);
    const refused = await VfioProcess.run('admin', served.directory, 'bind', EDU, 'vfio-pci', 'more');
    expect([refused.status, refused.stderr]).toEqual([2, expect.stringContaining("bind takes no 'more'")]);
    const json = await VfioProcess.run('admin', served.directory, 'params', 'maxVectors', '--json');
    expect(JSON.parse(json.stdout)).toMatchObject({ params: [{ name: 'maxVectors', value: null }] });
  });

  it('on the socket of one device needs no address, and refuses what takes a machine', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-admin-'));
    const path = join(directory, 'disk.sock');
    await using one = await VfioProcess.serve('nvme,size=1M', path);
    const reset = await VfioProcess.run('admin', `unix:${path}`, 'reset');
    expect([reset.status, reset.stdout]).toEqual([0, `${DISK} was reset\n`]);
    const plug = await VfioProcess.run('admin', `unix:${path}`, 'plug', 'edu', '--at', '05.0');
    expect([plug.status, plug.stderr]).toEqual([1, expect.stringContaining('one device is served here')]);
    expect(one.stderr).toContain('administrator: reset');
    rmSync(directory, { recursive: true });
  });

  it('help has every row', async () => {
    const { stdout } = await VfioProcess.run('admin', '--help');
    for (const name of Object.keys(adminCommands)) expect(stdout).toMatch(new RegExp(`^ {2}${name}`, 'm'));
  });
});
