/**
 * Commands on which others depend go on without a reader of their log, and end in order when the
 * terminal goes.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { UnixSocket } from '../src/sys/unix-socket.ts';
import { VfioUserDevice } from '../src/vfio-user/client.ts';

const command = join(import.meta.dirname, '../bin/vfio.js');
const PATIENCE_MS = 60_000;

let folder: string;
const children: ChildProcess[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
});
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  rmSync(folder, { recursive: true });
});

type Output = number | 'ignore' | 'pipe';

async function start(args: readonly string[], socket: string, output: readonly [Output, Output]): Promise<ChildProcess> {
  const child = spawn(process.execPath, [command, ...args], { stdio: ['ignore', ...output] });
  children.push(child);
  await listening(socket, child);
  return child;
}

/** The socket's file exists before the server listens. */
async function listening(socket: string, child: ChildProcess): Promise<void> {
  for (;;) {
    try {
      UnixSocket.connect(socket)[Symbol.dispose]();
      return;
    } catch {
      if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

const serve = (socket: string, output: readonly [Output, Output], ...more: string[]) =>
  start(['serve', 'edu', '--socket-path', socket, ...more], socket, output);

/** Two lines of log for each. */
async function visit(path: string): Promise<number> {
  using device = VfioUserDevice.connect(path, { timeoutMs: PATIENCE_MS });
  return device.region(0).read32(0);
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<unknown> {
  const exit = once(child, 'exit');
  child.kill(signal);
  const [status, killed] = await exit;
  return status ?? killed;
}

const EDU = 0x010000ed;

describe('vfio serve', () => {
  it.each(['stdout', 'stderr', 'both'])('goes on when the reader of %s goes away', async (which) => {
    const socket = join(folder, 's');
    const child = await serve(socket, [which === 'stderr' ? 'ignore' : 'pipe', which === 'stdout' ? 'ignore' : 'pipe']);
    child.stdout?.destroy();
    child.stderr?.destroy();
    for (let i = 0; i < 5; i++) expect(await visit(socket)).toBe(EDU);
    expect(await end(child, 'SIGTERM')).toBe(0);
    expect(existsSync(socket)).toBe(false);
  });

  it('no client waits for a log that is not read', async () => {
    const fifo = join(folder, 'log');
    spawnSync('mkfifo', [fifo]);
    const reader = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
    const log = openSync(fifo, constants.O_WRONLY);
    // The pipe is full from the start.
    const filler = openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK);
    expect(() => {
      for (;;) writeFileSync(filler, 'x'.repeat(4096));
    }).toThrow('EAGAIN');
    const socket = join(folder, 's');
    const child = await serve(socket, [log, log]);
    for (let i = 0; i < 5; i++) expect(await visit(socket)).toBe(EDU);
    expect(await end(child, 'SIGTERM')).toBe(0);
    for (const fd of [reader, log, filler]) closeSync(fd);
  });

  it('goes on when the disk of its log is full', async () => {
    const full = openSync('/dev/full', 'w');
    const socket = join(folder, 's');
    const child = await serve(socket, [full, full]);
    closeSync(full);
    for (let i = 0; i < 3; i++) expect(await visit(socket)).toBe(EDU);
    expect(await end(child, 'SIGTERM')).toBe(0);
  });

  it.each([
    ['console', `console.log('y'.repeat(100_000)); console.error('z'.repeat(100_000));`],
    ['its streams', `process.stdout.write('y'.repeat(100_000)); process.stderr.write('z'.repeat(100_000));`],
    ['warnings', `process.emitWarning('w'.repeat(100_000));`],
  ])('a server goes on when its device prints by %s', async (_, talk) => {
    writeFileSync(
      join(folder, 'chatty.ts'),
      `import { bar, device, u32 } from 'vfio-ts';
      export default device({ id: '1234:cafe', bars: { bar0: bar('4K', { talk: u32(0x0c) }) },
        on: { 'bar0.talk'() { ${talk} } } });`,
    );
    const socket = join(folder, 's');
    const child = await start(['serve', join(folder, 'chatty.ts'), '--socket-path', socket], socket, ['pipe', 'pipe']);
    child.stdout!.pause();
    child.stderr!.pause();
    using device = VfioUserDevice.connect(socket, { timeoutMs: PATIENCE_MS });
    for (let i = 1; i <= 20; i++) {
      device.region(0).write32(0x0c, i);
      expect(device.region(0).read32(0x0c)).toBe(i);
    }
    expect(await end(child, 'SIGTERM')).toBe(0);
  });

  it.each(['SIGTERM', 'SIGHUP', 'SIGINT'] as const)('%s: sockets go, and the record has every line', async (signal) => {
    const socket = join(folder, 's');
    const record = join(folder, 'record.jsonl');
    const child = await serve(socket, ['ignore', 'ignore'], '--record', record);
    using device = VfioUserDevice.connect(socket, { timeoutMs: PATIENCE_MS });
    const before = readFileSync(record, 'utf8').split('\n').length;
    for (let i = 0; i < 300; i++) device.region(0).read32(0);
    // The record has every line as it happens; the last one may still be missing.
    while (readFileSync(record, 'utf8').split('\n').length < before + 299) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(await end(child, signal)).toBe(signal === 'SIGINT' ? 130 : 0);
    const reads = readFileSync(record, 'utf8')
      .trimEnd()
      .split('\n')
      .filter((line) => line.includes('"op":"read","region":0'));
    expect(reads.length).toBe(300);
    expect([existsSync(socket), existsSync(`${socket}.manage`)]).toEqual([false, false]);
  });
});

describe('vfio trace', () => {
  it('goes on when its reader goes away, and its capture has mode 0600', async () => {
    const [server, seen, capture] = ['s', 't', 'c.pcapng'].map((name) => join(folder, name)) as [string, string, string];
    writeFileSync(capture, 'old', { mode: 0o644 });
    await serve(server, ['ignore', 'ignore']);
    const args = ['trace', `unix:${server}`, '--listen', seen, '--write', capture];
    const child = await start(args, seen, ['pipe', 'pipe']);
    child.stdout!.destroy();
    child.stderr!.destroy();
    for (let i = 0; i < 3; i++) expect(await visit(seen)).toBe(EDU);
    expect(await end(child, 'SIGHUP')).toBe(0);
    expect(statSync(capture).mode & 0o777).toBe(0o600);
    expect(readFileSync(capture).length).toBeGreaterThan(500);
  });

  it('a capture whose disk is full says what is missing, and the connections go on', async () => {
    const [server, seen] = ['s', 't'].map((name) => join(folder, name)) as [string, string];
    await serve(server, ['ignore', 'ignore']);
    const child = await start(['trace', `unix:${server}`, '--listen', seen, '--write', '/dev/full', '--quiet'], seen, ['ignore', 'pipe']);
    let said = '';
    child.stderr!.on('data', (text: Buffer) => {
      said += text;
    });
    for (let i = 0; i < 3; i++) expect(await visit(seen)).toBe(EDU);
    expect(await end(child, 'SIGTERM')).toBe(0);
    expect(said).toMatch(/\/dev\/full cannot be written: [^\n]*ENOSPC[^\n]*\n/);
    expect(said).toMatch(/\/dev\/full: \d+ events are missing in it\n/);
  });
});

/** The program has a terminal, which goes away while it runs. */
it.skipIf(spawnSync('python3', ['--version']).status !== 0)(
  'a server whose terminal is gone goes on, and ends with its own status',
  async () => {
    const socket = join(folder, 's');
    const program = `
import os, pty, signal, subprocess, sys, time
master, slave = pty.openpty()
child = subprocess.Popen(sys.argv[1:], stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
os.close(slave)
sys.stdin.readline(); os.close(master); print('gone', flush=True)
sys.stdin.readline(); child.terminate(); print(child.wait(), flush=True)`;
    const python = spawn('python3', ['-c', program, process.execPath, command, 'serve', 'edu', '--socket-path', socket]);
    children.push(python);
    let said = '';
    python.stdout.on('data', (part) => {
      said += part;
    });
    await listening(socket, python);
    expect(await visit(socket)).toBe(EDU);
    python.stdin.write('\n');
    await once(python.stdout, 'data');
    for (let i = 0; i < 3; i++) expect(await visit(socket)).toBe(EDU);
    python.stdin.write('\n');
    await once(python, 'close');
    expect(said).toBe('gone\n0\n');
  },
);

it.each(['the shell', 'npx'])('a server that npx started ends when %s is gone', async (which) => {
  const socket = join(folder, 's');
  // As npx does: a process, a shell, the command.
  const script = `import('node:child_process').then(({ spawn }) => {
    const shell = spawn('sh', ['-c', '"$@"; true', 'sh', ...process.argv.slice(1)], { stdio: 'ignore' });
    console.log(shell.pid);
    setInterval(() => {}, 1000);
  })`;
  const launcher = spawn(process.execPath, ['-e', script, process.execPath, command, 'serve', 'edu', '--socket-path', socket], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, npm_command: 'exec' },
  });
  children.push(launcher);
  const [shell] = await once(launcher.stdout, 'data');
  await listening(socket, launcher);
  expect(await visit(socket)).toBe(EDU);
  if (which === 'npx') launcher.kill('SIGKILL');
  else process.kill(Number(String(shell)), 'SIGKILL');
  while (existsSync(socket)) await new Promise((resolve) => setTimeout(resolve, 20));
});

describe('temporary folders', () => {
  it.each(['SIGINT', 'SIGTERM', 'SIGHUP', 'a reader that has seen enough'])('vfio demo leaves no process behind: %s', async (what) => {
    const temporary = join(folder, 'tmp');
    mkdirSync(temporary);
    const child = spawn(process.execPath, [command, 'demo'], {
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, TMPDIR: temporary },
    });
    children.push(child);
    const exit = once(child, 'exit');
    while (readdirSync(temporary).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    if (what.startsWith('SIG')) child.kill(what as NodeJS.Signals);
    else child.stdout.destroy();
    expect(await exit).toEqual([what.startsWith('SIG') ? 130 : 0, null]);
    expect(readdirSync(temporary)).toEqual([]);
  });
});
