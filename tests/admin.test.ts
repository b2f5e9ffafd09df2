/**
 * The administrator of a served machine, while drivers are at work: the effects of sysfs,
 * aer-inject and a hand on the slot.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { adminCommands } from '../src/api/admin/commands.ts';
import { administerMachine, askMachine } from '../src/api/machine-server.ts';
import { managePathOf } from '../src/api/migrate/door.ts';
import { Kind } from '../src/api/migrate/frames.ts';
import { Link } from '../src/api/migrate/link.ts';
import { VfioError } from '../src/base/errno.ts';
import { open } from '../src/doors/index.ts';
import { EduDriver } from '../src/drivers/edu/edu-driver.ts';
import { UnixSocket } from '../src/sys/unix-socket.ts';
import { MachineProcess } from './kit/machine-process.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const EDU = '0000:00:04.0';
const PORT = '0000:00:02.0';
const DISK = '0000:01:00.0';
const ADMIN_QUEUE_ATTRIBUTES = 0x24;
const VFIO = join(import.meta.dirname, '../bin/vfio.js');

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
  it('S1-09 unbind takes the socket away, bind puts it back, and requests that sysfs refuses are refused', async () => {
    expect(await admin('unbind', { bdf: EDU })).toBe(`${EDU} is unbound from vfio-pci`);
    await expect(open(address(EDU))).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await refusal('unbind', { bdf: EDU })).toMatch(/^ENODEV: /);
    expect(await admin('bind', { bdf: '00:04.0', driver: 'vfio-pci' })).toBe(`${EDU} is bound to vfio-pci`);
    expect(await refusal('bind', { bdf: EDU, driver: 'vfio-pci' })).toMatch(/^EBUSY: /);
    expect(await refusal('bind', { bdf: PORT, driver: 'vfio-pci' })).toMatch(/^(EINVAL|EBUSY): /);
    (await open(address(EDU))).close();
  });

  it('S2-41 unbind and unplug ask the working driver to close the device, and wait for it', async () => {
    const device = await open(address(EDU));
    const asked = new Promise<void>((resolve) => {
      device.on((event) => {
        if (event.kind === 'request') resolve();
      });
    });
    const said = await admin('unbind', { bdf: EDU });
    expect(said).toContain(`${EDU} is used by process ${process.pid} (`);
    expect(said).toContain(`once it is released: ${EDU} is unbound from vfio-pci`);
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
    expect(await refusal('plug', { device: 'edu' })).toMatch(/^EINVAL: the place of the new device is missing/);
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

describe('a device in use', () => {
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

  it('B.7 runtime pm: power D3hot and D0 of a function in use: its registers are gone, and come back as they were', async () => {
    const device = await open(address(DISK));
    device.config.memoryEnabled = true;
    const registers = device.bar(0);
    registers.write32(ADMIN_QUEUE_ATTRIBUTES, 0x000f_000f);
    expect(await admin('power', { bdf: DISK, state: 'd3HOT' })).toBe(`${DISK} is in D3hot`);
    expect(() => registers.read32(ADMIN_QUEUE_ATTRIBUTES)).toThrow(/D3hot/);
    expect(await admin('power', { bdf: DISK, state: 'D0' })).toBe(`${DISK} is in D0`);
    expect(registers.read32(ADMIN_QUEUE_ATTRIBUTES)).toBe(0x000f_000f);
    device.close();
  });

  it('B.7 runtime pm: wake of an awake function changes nothing; power is refused for a function without power management', async () => {
    expect(await admin('wake', { bdf: EDU })).toBe(`${EDU} was awake`);
    expect(await refusal('power', { bdf: EDU, state: 'D3hot' })).toMatch(/^EOPNOTSUPP: 0000:00:04\.0 has no power management/);
    expect(await refusal('power', { bdf: EDU, state: 'D7' })).toMatch(/^EINVAL: the state is "D7"/);
  });
});

type SysfsRow = readonly [file: string, command: string, given: Record<string, string>, answer: string, prepare?: () => Promise<unknown>];
/** The answers of sysfs' files: tried on Linux 6.12 with an NVMe controller that has 4 VFs. */
const sysfs: readonly SysfsRow[] = [
  ['drivers/vfio-pci/bind, of a bound function', 'bind', { bdf: EDU, driver: 'vfio-pci' }, 'EBUSY'],
  ['drivers/vfio-pci/bind, nothing there', 'bind', { bdf: '0000:77:00.0', driver: 'vfio-pci' }, 'ENODEV'],
  [
    'drivers/vfio-pci/bind, overridden',
    'bind',
    { bdf: EDU, driver: 'vfio-pci' },
    'ENODEV',
    async () => {
      await admin('unbind', { bdf: EDU });
      await admin('override', { bdf: EDU, driver: 'pci-stub' });
    },
  ],
  ['driver/unbind, nothing bound', 'unbind', { bdf: EDU }, 'ENODEV', () => admin('unbind', { bdf: EDU })],
  ['drivers_probe, nothing there', 'probe', { bdf: '0000:77:00.0' }, 'ENODEV'],
  ['drivers_probe, bound already', 'probe', { bdf: EDU }, 'done'],
  ['drivers_probe, no driver matches', 'probe', { bdf: EDU }, 'done', () => admin('unbind', { bdf: EDU })],
  ['driver_override, of a bound function', 'override', { bdf: EDU, driver: 'pci-stub' }, 'done'],
  ['sriov_numvfs, more than sriov_totalvfs', 'numvfs', { bdf: DISK, count: '3' }, 'ERANGE'],
  ['sriov_numvfs, no number', 'numvfs', { bdf: DISK, count: 'two' }, 'EINVAL'],
  ['sriov_numvfs, negative', 'numvfs', { bdf: DISK, count: '-1' }, 'EINVAL'],
  ['sriov_numvfs, 16 bits', 'numvfs', { bdf: DISK, count: '70000' }, 'EINVAL'],
  ['sriov_numvfs, the number that there is', 'numvfs', { bdf: DISK, count: '2' }, 'done', () => admin('numvfs', { bdf: DISK, count: '2' })],
  ['sriov_numvfs, another number', 'numvfs', { bdf: DISK, count: '1' }, 'EBUSY', () => admin('numvfs', { bdf: DISK, count: '2' })],
  ['sriov_numvfs, 0 of 0', 'numvfs', { bdf: DISK, count: '0' }, 'done'],
  ['sriov_numvfs, no driver', 'numvfs', { bdf: DISK, count: '1' }, 'ENOENT', () => admin('unbind', { bdf: DISK })],
  ['sriov_numvfs, not there', 'numvfs', { bdf: EDU, count: '1' }, 'ENOENT'],
  ['remove, gone already', 'unplug', { bdf: EDU }, 'ENODEV', () => admin('unplug', { bdf: EDU })],
  ['parameters/disable_denylist, read-only', 'params', { parameter: 'vfio_pci.disable_denylist=Y' }, 'EACCES'],
  ['parameters/enable_sriov', 'params', { parameter: 'vfio_pci.enable_sriov=Y' }, 'done'],
];

describe('answers as sysfs', () => {
  for (const [file, command, given, answer, prepare] of sysfs) {
    it(`S1-09 S3-15 ${command} is ${answer}: ${file}`, async () => {
      await prepare?.();
      expect((await refusal(command, given)).split(':')[0]).toBe(answer);
    });
  }
});

describe('what is asked', () => {
  it('of 48 administrators at the same time each gets an answer, and their acts follow one another', async () => {
    const asked = Array.from({ length: 48 }, (_, i) =>
      i % 2 === 0 ? refusal('unbind', { bdf: EDU, wait: true }) : refusal('bind', { bdf: EDU, driver: 'vfio-pci' }),
    );
    const answers = await Promise.all(asked);
    const count = (start: string) => answers.filter((answer) => answer.startsWith(start)).length;
    const [unbound, bound] = [count(`done: ${EDU} is unbound`), count(`done: ${EDU} is bound`)];
    expect(unbound + bound + count('ENODEV:') + count('EBUSY:')).toBe(48);
    expect((await functionAt(EDU))!.driver).toBe(unbound === bound ? 'vfio-pci' : null);
    expect([0, 1]).toContain(unbound - bound);
  });

  it('a malformed request is refused with a message at both doors, and the machine goes on', async () => {
    for (const door of [join(served.directory, 'machine'), served.pathOf(EDU)]) {
      for (const [kind, body] of [
        [Kind.ADMIN, 'nothing'],
        [Kind.ADMIN, '[]'],
        [Kind.ADMIN, JSON.stringify({ version: 1, command: 'show', more: 'x'.repeat(70_000) })],
        [Kind.GO, '{}'],
      ] as const) {
        using link = new Link(UnixSocket.connect(managePathOf(door)));
        if (door.endsWith('machine')) await link.expect(Kind.STATUS, 10_000);
        await link.send(kind, new TextEncoder().encode(body));
        await expect(link.expect(Kind.DONE, 10_000), body.slice(0, 20)).rejects.toMatchObject({ code: 'EPROTO' });
      }
    }
    expect(await admin('wake', { bdf: EDU })).toBe(`${EDU} was awake`);
  });

  it('of too many connections without a request, the oldest is closed with a message', async () => {
    const path = managePathOf(join(served.directory, 'machine'));
    using first = new Link(UnixSocket.connect(path));
    await first.expect(Kind.STATUS, 10_000);
    const more: Link[] = [];
    try {
      for (let i = 0; i < 64; i++) {
        const link = new Link(UnixSocket.connect(path));
        more.push(link);
        await link.expect(Kind.STATUS, 10_000);
      }
      await expect(first.expect(Kind.DONE, 10_000)).rejects.toMatchObject({ code: 'EAGAIN' });
      expect(await admin('wake', { bdf: EDU })).toBe(`${EDU} was awake`);
    } finally {
      for (const link of more) link[Symbol.dispose]();
    }
  });

  it('E-01 explain shows the machine as it is now', async () => {
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

  it('a malformed request changes nothing and is refused: unknown commands, arguments, versions, control characters', async () => {
    expect(await refusal('explode')).toMatch(/^EINVAL: there is no command 'explode'/);
    expect(await refusal('constructor')).toMatch(/^EINVAL: there is no command/);
    expect(await refusal('reset', { bdf: EDU, force: true })).toBe('EINVAL: reset takes no force');
    expect(await refusal('unbind', { bdf: EDU, wait: 'yes' })).toBe('EINVAL: unbind: wait is not a boolean');
    expect(await refusal('bind', { bdf: EDU, driver: 'a\nb' })).toMatch(/control characters/);
    expect(await refusal('bind', { bdf: EDU })).toMatch(/^EINVAL: the driver is missing/);
    expect(await refusal('unbind')).toMatch(/^EINVAL: the address of a function is missing/);
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
  it('does one thing, with its arguments, and prints the result', async () => {
    const bound = await VfioProcess.run('admin', served.directory, 'unbind', '--wait', '00:04.0');
    expect([bound.status, bound.stdout]).toEqual([0, `${EDU} is unbound from vfio-pci\n`]);
    const refused = await VfioProcess.run('admin', served.directory, 'bind', EDU, 'vfio-pci', 'more');
    expect([refused.status, refused.stderr]).toEqual([2, expect.stringContaining('too many arguments. Expected 2 arguments but got 3')]);
    const unknown = await VfioProcess.run('admin', served.directory, 'explode');
    expect([unknown.status, unknown.stderr]).toEqual([2, expect.stringContaining("there is no command 'explode'")]);
    const valued = await VfioProcess.run('admin', served.directory, 'bind', EDU, 'vfio-pci', '--wait=1');
    expect([valued.status, valued.stderr]).toEqual([2, expect.stringContaining("unknown option '--wait=1'")]);
    const flag = await VfioProcess.run('admin', served.directory, 'unplug', EDU, '--surprise=no');
    expect([flag.status, flag.stderr]).toEqual([2, expect.stringContaining("unknown option '--surprise=no'")]);
    const gone = await VfioProcess.run('admin', address(EDU), 'reset');
    expect([gone.status, gone.stderr]).toEqual([
      1,
      expect.stringContaining(`vfio show ${served.directory} says whether the function is bound`),
    ]);
    const json = await VfioProcess.run('admin', served.directory, 'params', 'maxVectors', '--json');
    expect(JSON.parse(json.stdout)).toMatchObject({ params: [{ name: 'maxVectors', value: null }] });
  });

  it('resolves files in the directory of the shell', async () => {
    const image = join(served.directory, 'plugged.img');
    const child = spawnSync(process.execPath, [VFIO, 'admin', '.', 'plug', 'nvme,image=plugged.img,size=1M', '--at', '06.0'], {
      cwd: served.directory,
      encoding: 'utf8',
    });
    expect([child.status, child.stdout]).toEqual([0, '0000:00:06.0 is there, bound to vfio-pci\n']);
    expect(statSync(image).size).toBe(1 << 20);
  });

  it('on the socket of one device needs no address, and refuses commands that need a machine', async () => {
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
