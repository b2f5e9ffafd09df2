import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { addon, Sys } from './addon.ts';
import { OwnedFd } from './owned-fd.ts';
import { passedSockets, ServiceManager } from './service-manager.ts';

const folder = mkdtempSync(join(tmpdir(), 'vfio-notify-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A manager's socket at a path; `received` takes the next message, '' for none. */
function manager(path: string): Disposable & { received(): string } {
  const fd = OwnedFd.own(addon().socket(Sys.AF_UNIX, Sys.SOCK_DGRAM), 'a socket');
  expect(addon().bind(fd.number, path)).toBe(0);
  return {
    received: () => {
      const bytes = new Uint8Array(4096);
      const count = addon().recvmsg(fd.number, bytes, 0, bytes.length, new Int32Array(Sys.MESSAGE_FDS_MAX + 1));
      return count < 0 ? '' : new TextDecoder().decode(bytes.subarray(0, count));
    },
    [Symbol.dispose]: () => fd[Symbol.dispose](),
  };
}

it('takes the sockets with their names, and the variables', () => {
  const env = { LISTEN_PID: '7', LISTEN_FDS: '3', LISTEN_FDNAMES: 'nvme:unknown', OTHER: 'x' };
  expect(passedSockets(env, 7)).toEqual({
    sockets: [
      { number: 3, name: 'nvme' },
      { number: 4, name: null },
      { number: 5, name: null },
    ],
    otherPid: null,
  });
  expect(env).toEqual({ OTHER: 'x' });
});

it('leaves the sockets of another process alone', () => {
  expect(passedSockets({ LISTEN_PID: '8', LISTEN_FDS: '1' }, 7)).toEqual({ sockets: [], otherPid: 8 });
  expect(passedSockets({}, 7)).toEqual({ sockets: [], otherPid: null });
  expect(() => passedSockets({ LISTEN_PID: 'x', LISTEN_FDS: '1' }, 7)).toThrow(/no numbers/);
});

it('sends messages to a path; a status is one line', () => {
  const path = join(folder, 'notify');
  using at = manager(path);
  const env = { NOTIFY_SOCKET: path };
  using service = ServiceManager.fromEnvironment(env, 1)!;
  service.send('READY=1', 'STATUS=a\nb');
  expect([at.received(), at.received(), env]).toEqual(['READY=1\nSTATUS=a b', '', {}]);
});

it('sends the watchdog’s message twice in its time, for the process that is watched', async () => {
  const path = join(folder, 'watchdog');
  using at = manager(path);
  using _other = ServiceManager.fromEnvironment({ NOTIFY_SOCKET: path, WATCHDOG_USEC: '2000', WATCHDOG_PID: '2' }, 1)!;
  using _service = ServiceManager.fromEnvironment({ NOTIFY_SOCKET: path, WATCHDOG_USEC: '20000', WATCHDOG_PID: '1' }, 1)!;
  let said = '';
  await expect.poll(() => (said += at.received()), { timeout: 60_000 }).toContain('WATCHDOG=1');
  expect(said.replaceAll('WATCHDOG=1', '')).toBe('');
});

it('sends messages to an abstract name', async () => {
  const name = `vfio-ts-${process.pid}`;
  const script = `import socket; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.bind("\\0${name}"); print("bound",flush=True); print(s.recv(99).decode(),flush=True)`;
  const receiver = spawn('python3', ['-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  receiver.stdout.on('data', (data: Buffer) => {
    text += data.toString();
  });
  await expect.poll(() => text, { timeout: 60_000 }).toBe('bound\n');
  using service = ServiceManager.fromEnvironment({ NOTIFY_SOCKET: `@${name}` }, 1)!;
  service.send('READY=1');
  await once(receiver, 'close');
  expect(text).toBe('bound\nREADY=1\n');
});

it('says which socket is no manager’s', () => {
  expect(ServiceManager.fromEnvironment({}, 1)).toBeNull();
  expect(() => ServiceManager.fromEnvironment({ NOTIFY_SOCKET: join(folder, 'none') }, 1)).toThrow(
    expect.objectContaining({ code: 'ENOENT', fix: expect.stringContaining('env -u NOTIFY_SOCKET') }),
  );
  expect(() => ServiceManager.fromEnvironment({ NOTIFY_SOCKET: 'vsock:2:1234' }, 1)).toThrow(/vsock:2:1234, which is neither/);
});
