import { spawnSync } from 'node:child_process';
import { existsSync, lstatSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fewDescriptors } from '../../tests/kit/descriptor-limit.ts';
import { withCode } from '../../tests/kit/errno.ts';
import { turn, until } from '../../tests/kit/event-loop.ts';
import { openDescriptorsAndFiles } from '../../tests/kit/open-descriptors.ts';
import { addon, Sys } from './addon.ts';
import { addonFile } from './addon-file.ts';
import { OwnedFd } from './owned-fd.ts';
import { socketFromNumber, UnixListener } from './unix-listener.ts';
import { SOCKET_PATH_MAX_BYTES, UnixSocket } from './unix-socket.ts';

const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
afterAll(() => rmSync(directory, { recursive: true }));
const path = join(directory, 'socket');

fewDescriptors();
let before = 0;
beforeEach(() => {
  addon();
  before = openDescriptorsAndFiles();
});
afterEach(() => {
  expect(openDescriptorsAndFiles(), 'descriptors open afterwards').toBe(before);
  expect(readdirSync(directory), 'files left behind').toEqual([]);
});

/** Runs `script` in a process of its own with the addon as `sys`. */
const inProcess = (script: string) =>
  spawnSync(
    process.execPath,
    ['-e', `const m = { exports: {} }; process.dlopen(m, ${JSON.stringify(addonFile())}); const sys = m.exports; ${script}`],
    {
      encoding: 'utf8',
      timeout: 180_000,
    },
  );

/** A socket's file whose process is dead. */
const leaveStale = (): void => {
  expect(inProcess(`const fd = sys.socket(1, 1); sys.bind(fd, ${JSON.stringify(path)}); sys.listen(fd, 1);`).status).toBe(0);
  expect(lstatSync(path).isSocket()).toBe(true);
};

describe('transport: listening at a path', () => {
  it('transport: connections come in order, each with its own bytes and the peer that made it', async () => {
    using listener = UnixListener.listen(path);
    const accepted: UnixSocket[] = [];
    using _connections = listener.onConnection((socket) => accepted.push(socket));
    const clients = [1, 2, 3].map((n) => {
      const client = UnixSocket.connect(path);
      client.send(new Uint8Array([n]), 0, 1);
      return client;
    });
    await until(() => accepted.length === 3);
    const into = new Uint8Array(4);
    expect(accepted.map((socket) => [socket.receive(into, 0, 4, []), into[0]])).toEqual([
      [1, 1],
      [1, 2],
      [1, 3],
    ]);
    for (const socket of [...accepted, ...clients]) {
      expect(socket.peer).toMatchObject({ pid: process.pid, uid: process.getuid!(), gid: process.getgid!() });
      socket[Symbol.dispose]();
    }
  });

  it('transport: more connections than one turn accepts all come', async () => {
    using listener = UnixListener.listen(path);
    let accepted = 0;
    using _connections = listener.onConnection((socket) => {
      accepted++;
      socket[Symbol.dispose]();
    });
    const clients = Array.from({ length: 50 }, () => UnixSocket.connect(path));
    await until(() => accepted === 50);
    for (const client of clients) client[Symbol.dispose]();
  });

  it('transport: only its owner may connect: mode 0600, also under an open umask', () => {
    const umask = process.umask(0);
    try {
      using _listener = UnixListener.listen(path);
      expect(lstatSync(path).mode & 0o7777).toBe(0o600);
    } finally {
      process.umask(umask);
    }
  });

  it('transport: the file goes with the listener, but not one that replaced it', () => {
    const first = UnixListener.listen(path);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    expect(existsSync(path)).toBe(false);
    const second = UnixListener.listen(path);
    rmSync(path);
    const third = UnixListener.listen(path);
    second[Symbol.dispose]();
    expect(existsSync(path)).toBe(true);
    third[Symbol.dispose]();
    const gone = UnixListener.listen(path);
    rmSync(path);
    gone[Symbol.dispose]();
  });

  it('transport: a socket that a dead process left is replaced', () => {
    leaveStale();
    expect(() => UnixSocket.connect(path)).toThrow(withCode('ECONNREFUSED'));
    using _listener = UnixListener.listen(path);
    UnixSocket.connect(path)[Symbol.dispose]();
  });

  it('transport: a live one is refused, without a word to it, and goes on; also one that is not listening yet', async () => {
    {
      using listener = UnixListener.listen(path);
      let connections = 0;
      using _connections = listener.onConnection((socket) => {
        connections++;
        socket[Symbol.dispose]();
      });
      expect(() => UnixListener.listen(path)).toThrow(expect.objectContaining({ code: 'EADDRINUSE', fix: expect.any(String) }));
      for (let i = 0; i < 5; i++) await turn();
      expect(connections).toBe(0);
      UnixSocket.connect(path)[Symbol.dispose]();
      await until(() => connections === 1);
    }
    for (const type of [Sys.SOCK_STREAM, Sys.SOCK_DGRAM]) {
      using bound = OwnedFd.own(addon().socket(Sys.AF_UNIX, type), 'socket');
      expect(addon().bind(bound.number, path)).toBe(0);
      expect(() => UnixListener.listen(path)).toThrow(withCode('EADDRINUSE'));
      rmSync(path);
    }
  });

  it('transport: a file that is no socket, or a link, is left alone', () => {
    writeFileSync(path, 'precious');
    expect(() => UnixListener.listen(path)).toThrow(
      expect.objectContaining({ code: 'EADDRINUSE', message: expect.stringMatching(/not a socket/) }),
    );
    expect(lstatSync(path).size).toBe(8);
    rmSync(path);
    symlinkSync('/nowhere', path);
    expect(() => UnixListener.listen(path)).toThrow(withCode('EADDRINUSE'));
    rmSync(path);
  });

  it('transport: a path that no socket can have is EINVAL and says why; without its directory ENOENT', () => {
    const fitting = join(directory, 'x'.repeat(SOCKET_PATH_MAX_BYTES - directory.length - 1));
    UnixListener.listen(fitting)[Symbol.dispose]();
    for (const open of [(p: string) => UnixListener.listen(p), (p: string) => UnixSocket.connect(p)]) {
      // Too long from any directory, this one included.
      expect(() => open(`${fitting}${'x'.repeat(100)}`)).toThrow(
        expect.objectContaining({ code: 'EINVAL', message: expect.stringMatching(/207 bytes.*at most 107/) }),
      );
      for (const bad of ['', 'a\0b', '\0abstract', 7 as unknown as string, 'ü'.repeat(60)])
        expect(() => open(bad)).toThrow(withCode('EINVAL'));
      expect(() => open(join(directory, 'none', 'socket'))).toThrow(withCode('ENOENT'));
    }
    expect(() => UnixSocket.connect(path)).toThrow(withCode('ENOENT'));
  });

  it('transport: when as many wait as it takes, one more is EAGAIN', () => {
    using _listener = UnixListener.listen(path);
    const waiting: UnixSocket[] = [];
    let last = '';
    for (let i = 0; i < 1000 && last === ''; i++) {
      try {
        waiting.push(UnixSocket.connect(path));
      } catch (error) {
        last = (error as { code: string }).code;
      }
    }
    expect(last).toBe('EAGAIN');
    for (const socket of waiting) socket[Symbol.dispose]();
  });

  it('transport: with no descriptor left connections are closed and counted rather than reported for ever; later ones are served', async () => {
    using listener = UnixListener.listen(path);
    let accepted = 0;
    using _connections = listener.onConnection((socket) => {
      accepted++;
      socket[Symbol.dispose]();
    });
    const clients = [1, 2, 3].map(() => UnixSocket.connect(path));
    const held: OwnedFd[] = [];
    try {
      for (;;) held.push(OwnedFd.own(addon().eventfd(0, Sys.EFD_CLOEXEC), 'eventfd'));
    } catch {
      // EMFILE.
    }
    await until(() => listener.refused === clients.length);
    for (const fd of held) fd[Symbol.dispose]();
    expect([accepted, listener.refused]).toEqual([0, 3]);
    expect(clients.map((client) => client.receive(new Uint8Array(1), 0, 1, []))).toEqual([0, 0, 0]);
    clients.push(UnixSocket.connect(path));
    await until(() => accepted === 1);
    for (const client of clients) client[Symbol.dispose]();
  });

  it('transport: disposing it from its own callback ends it at once; connections already made stay', async () => {
    const listener = UnixListener.listen(path);
    const accepted: UnixSocket[] = [];
    listener.onConnection((socket) => {
      accepted.push(socket);
      listener[Symbol.dispose]();
    });
    const clients = [UnixSocket.connect(path), UnixSocket.connect(path)];
    await until(() => accepted.length === 1);
    for (let i = 0; i < 5; i++) await turn();
    expect(accepted.length).toBe(1);
    expect(clients[0]!.send(new Uint8Array(1), 0, 1)).toBe(1);
    expect(accepted[0]!.receive(new Uint8Array(1), 0, 1, [])).toBe(1);
    expect(() => clients[1]!.receive(new Uint8Array(1), 0, 1, [])).toThrow(withCode('ECONNRESET'));
    expect(() => listener.onConnection(() => {})).toThrow(withCode('EBADF'));
    for (const socket of [...accepted, ...clients]) socket[Symbol.dispose]();
  });
});

describe('transport: inherited sockets', () => {
  it('transport: a listening number is taken over and its file stays; a connected one is a socket; others are EINVAL', async () => {
    const fd = addon().socket(Sys.AF_UNIX, Sys.SOCK_STREAM);
    expect(() => UnixListener.fromNumber(fd)).toThrow(withCode('EINVAL'));
    expect(addon().bind(fd, path)).toBe(0);
    expect(addon().listen(fd, 4)).toBe(0);
    expect(() => UnixSocket.fromNumber(fd)).toThrow(withCode('EINVAL'));
    {
      using listener = socketFromNumber(fd) as UnixListener;
      expect([listener instanceof UnixListener, listener.path]).toEqual([true, null]);
      using client = UnixSocket.connect(path);
      let accepted: UnixSocket | undefined;
      using _connections = listener.onConnection((socket) => {
        accepted = socket;
      });
      await until(() => accepted !== undefined);
      expect(client.send(new Uint8Array(1), 0, 1)).toBe(1);
      accepted![Symbol.dispose]();
    }
    expect(addon().fcntl(fd, 1, 0)).toBe(-9);
    rmSync(path);
    const pair = new Int32Array(2);
    addon().socketpair(pair);
    for (const number of pair) {
      using socket = socketFromNumber(number);
      expect(socket).toBeInstanceOf(UnixSocket);
    }
    for (const bad of [-1, 999_999]) expect(() => socketFromNumber(bad)).toThrow(withCode('EBADF'));
  });
});
