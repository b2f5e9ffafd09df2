/** `vfio exec DIRECTORY`: programs on a machine that another process serves. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { connect } from '../../src/api/connect.ts';
import { VfioProcess } from '../kit/vfio-process.ts';
import { compiled, compiler } from './programs.ts';

const isRoot = process.getuid!() === 0;
/** Three groups: 0, 1 and 2. */
const MACHINE = `devices:
  - { at: 04.0, model: edu, driver: vfio-pci }
  - { at: 05.0, model: edu, driver: vfio-pci }
  - { at: 06.0, model: nvme, driver: vfio-pci, options: { size: 16M } }
`;
/** Opens a group, says how that went, waits for a line, and opens the container. */
const HOLDER = `
import os,sys,errno
def said(p):
  try: os.open(p,os.O_RDWR); return 'ok'
  except OSError as e: return errno.errorcode[e.errno]
print(os.getpid(),said(sys.argv[1]),flush=True)
sys.stdin.readline()
print(said('/dev/vfio/vfio'),flush=True)`;
const holder = (group: number) => ['python3', '-c', HOLDER, `/dev/vfio/${group}`];
/** The same without the wait. */
const opener = (group: number) => ['sh', '-c', 'exec "$@" </dev/null', 'sh', ...holder(group)];

const folders: string[] = [];
afterEach(() => {
  for (const path of folders.splice(0)) rmSync(path, { recursive: true });
});

async function serve(...options: string[]): Promise<{ readonly directory: string; readonly server: VfioProcess }> {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-join-'));
  folders.push(folder);
  const file = join(folder, 'machine.yaml');
  writeFileSync(file, MACHINE);
  const directory = join(folder, 'served');
  return { directory, server: await VfioProcess.serve(file, directory, ...options) };
}

/** As `condition` is tested again and again, the test ends in failure when it never holds. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((settle) => setTimeout(settle, 5));
}

/** Those of the served machine's process, by the files that they name. */
function descriptorsOf({ child: { pid } }: VfioProcess): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

async function firstLine(running: VfioProcess): Promise<readonly string[]> {
  await until(() => running.stdout.includes('\n') || running.child.exitCode !== null);
  return running.stdout.trim().split(' ');
}

describe('programs that join a served machine', () => {
  it('share it with each other and with clients of its sockets: a group has one user', async () => {
    const { directory, server } = await serve('--threads', '1');
    await using _server = server;
    const before = descriptorsOf(server);
    await using first = new VfioProcess(['exec', directory, '--', ...holder(0)]);
    expect((await firstLine(first))[1]).toBe('ok');
    const held = descriptorsOf(server);
    const other = await VfioProcess.run('exec', directory, '--', ...opener(0));
    expect(other.stdout).toMatch(/ EBUSY\nok\n$/);
    {
      using device = connect(`${directory}/0000:00:05.0.sock`);
      expect(device.info.numRegions).toBeGreaterThan(0);
      const second = await VfioProcess.run('exec', directory, '--', ...opener(1));
      expect(second.stdout).toMatch(/ EBUSY\nok\n$/);
    }
    // A client of the socket waits for the program, and has the device once the group is free.
    await until(() => descriptorsOf(server) === held);
    await using client = new VfioProcess(['config', `unix:${directory}/0000:00:04.0.sock`]);
    await until(() => descriptorsOf(server) > held);
    first.child.stdin!.end('\n');
    expect(await first.ended).toBe(0);
    expect(await client.ended).toBe(0);
    expect(client.stdout).toContain('1234:11e8');
    await until(() => descriptorsOf(server) === before);
  });

  it('end with their client, and leave nothing behind in the server', async () => {
    const { directory, server } = await serve('--threads', '1');
    await using _server = server;
    const before = descriptorsOf(server);
    await using client = new VfioProcess(['exec', directory, '--', ...holder(2)]);
    expect((await firstLine(client))[1]).toBe('ok');
    expect(descriptorsOf(server)).toBeGreaterThan(before);
    expect(await client.end('SIGKILL')).toBe('SIGKILL');
    await until(() => descriptorsOf(server) === before);

    await using killed = new VfioProcess(['exec', directory, '--', ...holder(2)]);
    const [pid, opened] = await firstLine(killed);
    expect(opened).toBe('ok');
    process.kill(Number(pid), 'SIGKILL');
    expect(await killed.ended).toBe(137);
    await until(() => descriptorsOf(server) === before);
    const after = await VfioProcess.run('exec', directory, '--', 'sh', '-c', 'exec 9<>/dev/vfio/2 && echo free');
    expect(after.stdout).toBe('free\n');
  });

  it.each(['SIGTERM', 'SIGKILL'] as const)('lose the machine when its server ends by %s', async (signal) => {
    const { directory, server } = await serve('--threads', '1');
    await using _server = server;
    await using client = new VfioProcess(['exec', directory, '--', ...holder(0)]);
    expect((await firstLine(client))[1]).toBe('ok');
    await server.end(signal);
    await client.says(`the machine in ${directory} has gone`);
    client.child.stdin!.end('\n');
    expect(await client.ended).toBe(0);
    expect(client.stdout.trim().split('\n').at(-1)).toBe('ENOSYS');
    expect(client.stderr).toContain('fail with ENOSYS');
  });

  it('have a trace and faults of their own', async () => {
    const { directory, server } = await serve('--threads', '1');
    await using _server = server;
    await using beside = new VfioProcess(['exec', directory, '--', ...holder(1)]);
    await firstLine(beside);
    const failing = await VfioProcess.run('exec', directory, '--trace', '--fail', 'open:1:EIO', '--', ...opener(0));
    expect(failing.stdout).toMatch(/ EIO\nok\n$/);
    const calls = failing.stderr.split('\n').filter((line) => line.includes('openat('));
    expect(calls.map((line) => line.replace(/^.*?openat/, 'openat'))).toEqual([
      `openat("/dev/vfio/0", O_RDWR) = -1 EIO (injected fault at step 'open')`,
      expect.stringMatching(/^openat\("\/dev\/vfio\/vfio", O_RDWR\) = \d+$/),
    ]);
    beside.child.stdin!.end('\n');
    expect(await beside.ended).toBe(0);
    expect(beside.stdout).toMatch(/ ok\nok$/m);
  });

  it.skipIf(compiler === null)('are answered as by Linux, with DMA, interrupts and mapped registers', async () => {
    const { directory, server } = await serve('--threads', '1');
    await using _server = server;
    const asked = await VfioProcess.run('exec', directory, '--', compiled('asks'), '/dev/vfio/0');
    for (const line of ['shared memory: through the device', 'anonymous memory: through the device', 'interrupts 1'])
      expect(asked.stdout).toContain(`${line}\n`);
    expect(asked.status).toBe(7);
    if (process.arch !== 'x64') return;
    const mapped = await VfioProcess.run('exec', directory, '--', compiled('maps'), '/dev/vfio/0');
    expect(mapped.stdout).toContain('factorial 120\n');
    expect(mapped.stdout).toContain('child 010000ed\n');
    expect(mapped.status).toBe(0);
  });
});

describe('vfio exec DIRECTORY refuses', () => {
  it('a machine in threads, and names the option', async () => {
    const { directory, server } = await serve();
    await using _server = server;
    const { stderr, status } = await VfioProcess.run('exec', directory, '--', 'true');
    expect(stderr).toContain('a program joins one that runs in one thread');
    expect(stderr).toContain('--threads 1');
    expect(status).toBe(1);
  });

  it.each([
    [['--device', 'edu'], '--device is for a machine of this command'],
    [['--machine', 'm.yaml'], '--machine is for a machine of this command'],
    [['--events', 'e.jsonl'], 'vfio serve --events'],
    [['--record', 'r.jsonl'], 'vfio serve --record'],
    [['--fail', 'type1.map.charge:1:ENOMEM'], 'which all programs of the machine share'],
    [[], 'no machine is served in'],
  ])('%s', async (options, sentence) => {
    const { stderr, status } = await VfioProcess.run('exec', ...options, tmpdir(), '--', 'true');
    expect(stderr).toContain(sentence);
    expect(status).not.toBe(0);
  });

  it('a directory without a program', async () => {
    const { stderr, status } = await VfioProcess.run('exec', tmpdir());
    expect(stderr).toContain('there is no program behind it');
    expect(status).not.toBe(0);
  });

  it.skipIf(!isRoot)('the machine of another user', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vfio-join-'));
    folders.push(folder);
    chmodSync(folder, 0o777);
    const { directory, server } = await serve('--threads', '1');
    await using _server = server;
    chmodSync(join(directory, '..'), 0o755);
    const nobody = ['--reuid', '65534', '--regid', '65534', '--clear-groups'];
    const vfio = [process.execPath, join(import.meta.dirname, '../../bin/vfio.js')];
    const { stderr, status } = spawnSync('setpriv', [...nobody, ...vfio, 'exec', directory, '--', 'true'], { encoding: 'utf8' });
    expect(stderr).toContain('EACCES');
    expect(status).not.toBe(0);
    expect(readFileSync(join(directory, '../machine.yaml'), 'utf8')).toBe(MACHINE);
  });
});
