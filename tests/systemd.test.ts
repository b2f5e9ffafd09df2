/** `vfio serve` as a service: sockets that systemd listens at, readiness, samples of units. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, expect, it } from 'vitest';
import { open } from '../src/api/open.ts';
import { addon, Sys } from '../src/sys/addon.ts';
import { OwnedFd } from '../src/sys/owned-fd.ts';

const vfio = join(import.meta.dirname, '../bin/vfio.js');
const units = join(import.meta.dirname, '../examples/systemd');
const folder = mkdtempSync(join(tmpdir(), 'vfio-systemd-'));
afterAll(() => rmSync(folder, { recursive: true }));
const has = (program: string) => spawnSync(program, ['--version']).error === undefined;
const running: ChildProcess[] = [];
const servers: Server[] = [];
afterEach(async () => {
  for (const child of running.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  for (const server of servers.splice(0)) server.close();
});

/** A child with the text that it prints on standard error. */
function started(command: readonly string[], options: { fds?: readonly number[]; env?: Record<string, string> } = {}) {
  const child = spawn(command[0]!, command.slice(1), {
    stdio: ['ignore', 'ignore', 'pipe', ...(options.fds ?? [])],
    env: { ...process.env, NO_COLOR: '1', ...options.env },
  });
  running.push(child);
  const text = { said: '' };
  child.stderr!.on('data', (data: Buffer) => {
    text.said += data.toString();
  });
  const says = (word: string) => expect.poll(() => text.said, { timeout: 100_000 }).toContain(word);
  const ended = async () => (child.exitCode ?? (await once(child, 'exit'))[0]) as number | null;
  return { child, says, text, ended };
}

/** Listening sockets, as systemd makes them. */
async function listening(...names: string[]): Promise<{ paths: string[]; fds: number[] }> {
  const paths = names.map((name) => join(folder, `${name}.sock`));
  const made = paths.map((path) => createServer().listen(path));
  servers.push(...made);
  await Promise.all(made.map((server) => server.listening || once(server, 'listening')));
  return { paths, fds: made.map((server) => (server as unknown as { _handle: { fd: number } })._handle.fd) };
}

/** `vfio serve` with sockets 3 and on, and LISTEN_PID as systemd sets it. */
function activated(words: readonly string[], fds: readonly number[], env: Record<string, string> = {}) {
  const script = `LISTEN_FDS=${fds.length} LISTEN_PID=$$ exec "$@"`;
  return started(['sh', '-c', script, 'sh', process.execPath, vfio, 'serve', ...words], { fds, env });
}

/** The vendor and device ids behind a socket. */
async function idAt(path: string): Promise<number> {
  await using device = await open(`unix:${path}`);
  return device.config.read32(0);
}

it('two devices are behind the sockets of their names, in any order', async () => {
  const { paths, fds } = await listening('disk', 'card');
  const service = activated(['edu', 'nvme,size=16M'], fds, { LISTEN_FDNAMES: 'nvme:edu' });
  await service.says('listening at 2 sockets of systemd: edu, nvme');
  expect([await idAt(paths[0]!), await idAt(paths[1]!)].map((id) => id.toString(16))).toEqual(['4e561234', '11e81234']);
  service.child.kill('SIGTERM');
  expect(await service.ended()).toBe(0);
});

it.each([
  [['edu', 'nvme,size=16M'], 1, '', 'systemd passed 1 sockets for 2 devices'],
  [['edu', 'nvme,size=16M'], 2, 'edu:other', 'the sockets are named edu, other; the devices are edu, nvme'],
  [[join(import.meta.dirname, '../examples/machines/hello.yaml')], 1, '', 'is a machine, whose sockets systemd cannot make'],
] as const)('%s with %s sockets (%s): %s', async (words, count, names, error) => {
  const { fds } = await listening(...Array.from({ length: count }, (_, i) => `wrong-${i}`));
  const service = activated(words, fds, names === '' ? {} : { LISTEN_FDNAMES: names });
  expect(await service.ended()).toBe(1);
  await service.says(error);
});

it('sockets of another process are left alone, with the reason', async () => {
  const { fds } = await listening('foreign');
  const service = started([process.execPath, vfio, 'serve', 'edu', '--socket-path', join(folder, 'own.sock')], {
    fds,
    env: { LISTEN_FDS: '1', LISTEN_PID: '1' },
  });
  await service.says('systemd passed sockets to process 1, which is not this one');
  await service.says('listening at');
});

it('reports READY when clients can come, and STOPPING at its end', async () => {
  const at = join(folder, 'notify');
  using fd = OwnedFd.own(addon().socket(Sys.AF_UNIX, Sys.SOCK_DGRAM), 'a socket');
  expect(addon().bind(fd.number, at)).toBe(0);
  const messages: string[] = [];
  const receive = () => {
    const bytes = new Uint8Array(4096);
    const count = addon().recvmsg(fd.number, bytes, 0, bytes.length, new Int32Array(Sys.MESSAGE_FDS_MAX + 1));
    if (count > 0) messages.push(new TextDecoder().decode(bytes.subarray(0, count)));
    return messages;
  };
  const path = join(folder, 'ready.sock');
  const service = started([process.execPath, vfio, 'serve', 'edu', '--socket-path', path], { env: { NOTIFY_SOCKET: at } });
  await expect.poll(receive, { timeout: 100_000 }).toEqual([`READY=1\nSTATUS=edu at ${path}`]);
  service.child.kill('SIGTERM');
  expect(await service.ended()).toBe(0);
  expect(receive().at(-1)).toBe('STOPPING=1\nSTATUS=closing');
});

it('--fd without such a descriptor names the option, and the remedy', async () => {
  const service = started([process.execPath, vfio, 'serve', 'edu', '--fd', '77']);
  expect(await service.ended()).toBe(1);
  await service.says('EBADF: --fd 77: this process was started without a descriptor 77');
});

it.skipIf(!has('systemd-socket-activate'))('systemd-socket-activate starts it for the first client', async () => {
  const path = join(folder, 'activate.sock');
  const service = started(['systemd-socket-activate', '-l', path, process.execPath, vfio, 'serve', 'edu']);
  await service.says('Listening on');
  expect((await idAt(path)).toString(16)).toBe('11e81234');
});

it.skipIf(!has('systemd-analyze')).each(readdirSync(units))('systemd has no complaint about %s', (unit) => {
  const { stdout, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', join(units, unit)], { encoding: 'utf8' });
  expect(stdout + stderr).toBe('');
});

it('the samples name commands and options that are there', () => {
  const text = readdirSync(units)
    .map((unit) => readFileSync(join(units, unit), 'utf8'))
    .join('\n');
  const commands = [...text.matchAll(/^ExecStart=\/usr\/bin\/env vfio (\S+)(.*)$/gm)];
  expect(commands.map(([, word]) => word).sort()).toEqual(['run', 'serve']);
  for (const [, word, rest] of commands) {
    const { stdout } = spawnSync(process.execPath, [vfio, word!, '--help'], { encoding: 'utf8' });
    for (const [option] of rest!.matchAll(/--[a-z-]+/g)) expect(stdout).toContain(option);
  }
});
