/**
 * `vfio migrate` as a user runs it: servers in processes of their own, a client that moves with its
 * device, every way between two ends.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { MachineServer } from '../src/api/machine-server.ts';
import { askDoor } from '../src/api/migrate/door.ts';
import { Kind } from '../src/api/migrate/frames.ts';
import { Link } from '../src/api/migrate/link.ts';
import { moveDevice } from '../src/api/migrate/move.ts';
import { main } from '../src/cli/main.ts';
import { EduDriver, open } from '../src/doors/driver.ts';
import { loadMachine } from '../src/doors/machine.ts';
import { EventStream } from '../src/doors/server.ts';
import { UnixSocket } from '../src/sys/unix-socket.ts';
import { eventLines } from './kit/event-words.ts';
import { recordingTerminal } from './kit/recording-terminal.ts';
import { typescript } from './kit/typescript.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const VFIO = join(import.meta.dirname, '../bin/vfio.js');
const folders: string[] = [];
/** How long a device may stand still here: a machine may have much other work. */
const downtimeMs = 60_000;
const patiently = ['--downtime-ms', String(downtimeMs)];

afterEach(() => {
  for (const path of folders.splice(0)) rmSync(path, { recursive: true });
});

interface Servers extends AsyncDisposable {
  readonly a: string;
  readonly b: string;
  readonly folder: string;
  readonly processes: readonly VfioProcess[];
}

async function servers(device = 'edu', other = device): Promise<Servers> {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  folders.push(folder);
  const [a, b] = [join(folder, 'a.sock'), join(folder, 'b.sock')];
  const processes = await Promise.all([VfioProcess.serve(device, a), VfioProcess.serve(other, b)]);
  return {
    a,
    b,
    folder,
    processes,
    [Symbol.asyncDispose]: async () => {
      for (const each of processes) await each[Symbol.asyncDispose]();
    },
  };
}

/** Resolves when nothing is under way there. */
async function idle(path: string): Promise<void> {
  while ((await askDoor(path, 'status')).state !== 'idle') await new Promise((resolve) => setTimeout(resolve, 5));
}

/**
 * Returns when a killed process has no file open any more; this thread does nothing else meanwhile.
 */
function dead(pid: number): void {
  const state = () => /^State:\s+(\S)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1];
  while (readdirSync(`/proc/${pid}/task`).length > 1 || state() !== 'Z');
}

async function vfio(...argv: string[]) {
  const terminal = recordingTerminal();
  const status = await main(argv, terminal);
  return { status, out: terminal.stdout.join('\n'), err: terminal.stderr.join('\n') };
}

describe('vfio migrate', () => {
  it('S0-19 between two servers: the client continues there with its device and its memory, which the device reaches', async () => {
    await using served = await servers();
    const { a, b } = served;
    const here = new EduDriver(await open(`unix:${a}`), { interrupts: 'poll', timeoutMs: 120_000 });
    const buffer = here.alloc(8192);
    buffer.bytes.fill(0x5a, 0, 64);
    await here.copyToDevice(buffer.iova, 64);
    buffer.bytes.fill(0, 0, 64);
    const gone = new Promise<string>((resolve) => {
      here.dev.on((event) => event.kind === 'gone' && resolve(event.reason));
    });
    const moved = await vfio('migrate', `unix:${a}`, `unix:${b}`, '--json', ...patiently);
    expect([moved.status, moved.err]).toEqual([0, '']);
    expect(JSON.parse(moved.out)).toMatchObject({ schema: 'vfio-migrate/1', rounds: expect.any(Number), downtimeMs: expect.any(Number) });
    await gone;
    expect(() => here.dev.device.region(0).read32(0)).toThrow(expect.objectContaining({ code: 'ENODEV' }));

    const there = new EduDriver(await open(`unix:${b}`, { adopt: true }), { interrupts: 'poll', timeoutMs: 120_000 });
    const [adopted] = there.dev.adopted;
    expect(adopted).toMatchObject({ iova: buffer.iova, size: 8192 });
    // The device's own buffer is written to the memory that moved.
    await there.copyFromDevice(adopted!.iova, 64);
    expect(Buffer.from(adopted!.bytes.subarray(0, 64)).equals(Buffer.alloc(64, 0x5a))).toBe(true);
    // New addresses do not overlap the moved mappings, and moved mappings can be unmapped.
    const other = there.alloc(4096);
    expect(other.iova < adopted!.iova || other.iova >= adopted!.iova + 8192n).toBe(true);
    const before = there.dev.device.dma.available;
    adopted![Symbol.dispose]();
    expect(there.dev.device.dma.available).toBe(before + 1);
    there.dev.close();
    // The next client gets the device as after any other client.
    using fresh = await open(`unix:${b}`);
    expect(fresh.adopted).toEqual([]);
  });

  it('over TCP with a key that both have, and with no other key', async () => {
    await using served = await servers();
    const { a, b, folder } = served;
    const [key, other, open_] = ['key', 'other', 'open'].map((name) => join(folder, name)) as [string, string, string];
    writeFileSync(key, 'k'.repeat(40), { mode: 0o600 });
    writeFileSync(other, 'o'.repeat(40), { mode: 0o600 });
    writeFileSync(open_, 'k'.repeat(40), { mode: 0o644 });
    using client = await open(`unix:${a}`);
    client.dma.alloc(4096).bytes[0] = 9;
    await using receiver = new VfioProcess(['migrate', '--receive', 'tcp:127.0.0.1:0', '--key-file', key, `unix:${b}`]);
    await receiver.says('waiting at');
    const to = /tcp:\S+/.exec(receiver.stderr)![0];
    expect(await vfio('migrate', `unix:${a}`, to)).toMatchObject({ status: 1, err: expect.stringContaining('--key-file') });
    expect(await vfio('migrate', `unix:${a}`, to, '-k', open_)).toMatchObject({ status: 4, err: expect.stringContaining('chmod 600') });
    expect(await vfio('migrate', `unix:${a}`, to, '-k', other)).toMatchObject({ status: 4, err: expect.stringContaining('another key') });
    expect(client.bar(0).read32(0)).toBe(0x0100_00ed);
    expect(await vfio('migrate', `unix:${a}`, to, '-k', key, ...patiently)).toMatchObject({
      status: 0,
      out: expect.stringContaining('downtime'),
    });
    expect(await receiver.ended).toBe(0);
    using there = await open(`unix:${b}`, { adopt: true });
    expect(there.adopted[0]!.bytes[0]).toBe(9);
  });

  it('through a command such as ssh', async () => {
    await using served = await servers();
    const { a, b } = served;
    using client = await open(`unix:${a}`);
    client.dma.alloc(4096).bytes[4095] = 3;
    const command = `exec:'${process.execPath}' '${VFIO}' migrate --receive --stdio unix:${b}`;
    expect(await vfio('migrate', `unix:${a}`, command, ...patiently)).toMatchObject({ status: 0 });
    using there = await open(`unix:${b}`, { adopt: true });
    expect(there.adopted[0]!.bytes[4095]).toBe(3);
    // A wrong command.
    expect(await vfio('migrate', `unix:${b}`, 'exec:exit 3')).toMatchObject({
      status: 1,
      err: expect.stringContaining('goes on where it was'),
    });
    expect(there.bar(0).read32(0)).toBe(0x0100_00ed);
  });

  it('a moved device waits for its client; other clients get an error; it can move on, or be dropped', async () => {
    await using served = await servers();
    const { a, b } = served;
    await expect(open(`unix:${b}`, { adopt: true })).rejects.toMatchObject({ code: 'ENXIO' });
    {
      using client = await open(`unix:${a}`);
      client.dma.alloc(4096).bytes[1] = 4;
      await moveDevice(a, { kind: 'server', path: b }, { downtimeMs });
    }
    expect(await askDoor(b, 'status')).toMatchObject({ state: 'waits for its client', movedIn: (await askDoor(a, 'status')).movedOut });
    await expect(open(`unix:${b}`)).rejects.toMatchObject({ code: 'EBUSY' });
    await moveDevice(b, { kind: 'server', path: a }, { downtimeMs });
    {
      using client = await open(`unix:${a}`, { adopt: true });
      expect(client.adopted[0]!.bytes[1]).toBe(4);
      await moveDevice(a, { kind: 'server', path: b }, { downtimeMs });
    }
    expect(await vfio('migrate', '--let-go', `unix:${b}`)).toMatchObject({ status: 0, out: expect.stringContaining('edu: idle') });
    using fresh = await open(`unix:${b}`);
    expect(fresh.adopted).toEqual([]);
  });

  it('a function of a machine moves like any other device, but not one whose virtual functions would stay behind', async () => {
    await using served = await servers();
    const { a, folder } = served;
    const file = (name: string) => join(import.meta.dirname, '../examples/machines', name);
    const bdf = '0000:00:04.0';
    const there = join(folder, `${bdf}.sock`);
    await using hello = new VfioProcess(['serve', file('hello.yaml'), '--socket-path', folder]);
    await hello.says('listening at');
    using client = await open(`unix:${a}`);
    client.dma.alloc(4096).bytes[7] = 7;
    client.bar(0).write32(0x20, 0x80);
    expect(await vfio('migrate', `unix:${a}`, `unix:${there}`, ...patiently)).toMatchObject({ status: 0 });
    {
      using moved = await open(`unix:${there}`, { adopt: true });
      expect([moved.adopted[0]!.bytes[7], moved.bar(0).read32(0x20)]).toEqual([7, 0x80]);
      expect(await vfio('migrate', `unix:${there}`, `unix:${a}`, ...patiently)).toMatchObject({ status: 0 });
    }
    // An administrator needs no client's consent for a waiting one: unbinding the function gets it
    // at once.
    using events = new EventStream();
    using machine = loadMachine(file('hello.yaml'), { events });
    using server = new MachineServer(machine, join(folder, 'here'), { events, keepAlive: false });
    using reader = events.read({ kinds: ['migration', 'dma-map', 'note'] });
    await moveDevice(a, { kind: 'server', path: server.pathOf(bdf) }, { downtimeMs });
    expect(await askDoor(server.pathOf(bdf), 'status')).toMatchObject({ name: bdf, state: 'waits for its client' });
    const seen = eventLines(reader.take());
    expect(seen[0]).toBe(`${bdf}: ${bdf}: a device is being moved here`);
    expect(seen).toContain(`${bdf}: migration: RESUMING → STOP`);
    expect(seen.filter((line) => line.startsWith('container 0: map'))).not.toEqual([]);
    expect(seen.at(-1)).toBe(`${bdf}: ${bdf}: a device was moved here, runs, and waits for its client`);
    await machine.unbind(bdf);
    expect(server.functions).toEqual([]);

    await using card = new VfioProcess(['serve', file('sriov.yaml'), '--socket-path', folder]);
    await card.says('listening at');
    const physical = join(folder, '0000:01:00.0.sock');
    using user = await open(`unix:${physical}`);
    expect(await vfio('migrate', `unix:${physical}`, `unix:${served.b}`)).toMatchObject({
      status: 4,
      err: expect.stringMatching(/has 2 virtual functions/),
    });
    expect(user.name).toBe(`unix:${physical}`);
  });

  it('a client that goes away while its device is copied: the error says so, and both servers are free again', async () => {
    await using served = await servers();
    const { a, b } = served;
    const index = JSON.stringify(join(import.meta.dirname, '../src/doors/driver.ts'));
    const script = `const { open } = await import(${index}); const client = await open('unix:${a}');
      client.dma.alloc(2 ** 27).bytes.fill(1); console.log('up'); setInterval(() => {}, 1000);`;
    const args = [...typescript, '--input-type=module', '-e', script];
    const client = spawn(process.execPath, args, { cwd: join(import.meta.dirname, '..'), stdio: ['ignore', 'pipe', 'inherit'] });
    await once(client.stdout, 'data');
    // The copy passes through this thread: it cannot finish before its client is gone.
    const onProgress = (): void => {
      if (client.killed) return;
      client.kill('SIGKILL');
      dead(client.pid!);
    };
    await expect(moveDevice(a, { kind: 'server', path: b }, { onProgress, downtimeMs })).rejects.toMatchObject({
      code: 'ENODEV',
      message: expect.stringContaining('the client of edu has gone'),
    });
    for (const path of [a, b]) await idle(path);
  });

  it('a device stays when it has no client, or the destination is in use, has another device, or is missing', async () => {
    await using served = await servers('edu', 'bench');
    const { a, b } = served;
    expect(await vfio('migrate', `unix:${a}`, `unix:${b}`)).toMatchObject({ status: 5, err: expect.stringContaining('nothing to move') });
    using client = await open(`unix:${a}`);
    expect(await vfio('migrate', `unix:${a}`, `unix:${b}`)).toMatchObject({ status: 1, err: expect.stringContaining('another device') });
    {
      using other = await open(`unix:${b}`);
      expect(await vfio('migrate', `unix:${a}`, `unix:${b}`)).toMatchObject({
        status: 4,
        err: expect.stringContaining('in use by a client'),
      });
      // Two reasons, of two ends: bench cannot be moved, and edu is in use.
      expect(await vfio('migrate', `unix:${b}`, `unix:${a}`)).toMatchObject({
        err: expect.stringMatching(/cannot be moved|in use by a client/),
      });
      expect(other.name).toBe(`unix:${b}`);
    }
    expect(await vfio('migrate', `unix:${a}`, `unix:${a}x`)).toMatchObject({ status: 1, err: expect.stringContaining('vfio serve') });
    expect(await vfio('migrate', `unix:${a}`, `unix:${a}`)).toMatchObject({ status: 1, err: expect.stringContaining('already') });
    expect(await vfio('migrate', '--resume', `unix:${a}`)).toMatchObject({ status: 1, err: expect.stringContaining('in doubt') });
    for (const words of [[], ['--receive'], ['--downtime-ms', '0', `unix:${b}`], ['sim:edu'], ['tcp:nowhere'], ['--stdio', `unix:${b}`]]) {
      const refused = await vfio('migrate', `unix:${a}`, ...words);
      expect([words, refused.status === 0]).toEqual([words, false]);
    }
    expect(client.bar(0).read32(0)).toBe(0x0100_00ed);
  });

  it('the door belongs to its owner, and a connection that sends nonsense is closed', async () => {
    await using served = await servers();
    const { a, b } = served;
    using client = await open(`unix:${a}`);
    expect(statSync(`${a}.manage`).mode & 0o777).toBe(0o600);
    const say = async (speak: (link: Link) => Promise<void>): Promise<unknown> => {
      using link = new Link(UnixSocket.connect(`${b}.manage`));
      await speak(link);
      return await link.receive(120_000).then(
        (frame) => frame.kind,
        (error: unknown) => (error as { code: string }).code,
      );
    };
    expect(await say((link) => link.sendJson(Kind.HELLO, { command: 'sing' }))).toBe('EINVAL');
    expect(await say((link) => link.sendJson(Kind.GO, {}))).toBe('EPROTO');
    expect(await say((link) => link.sendJson(Kind.HELLO, { command: 'out', downtimeMs: -1 }))).toBe('EINVAL');
    const into = async (link: Link, ...kinds: Kind[]): Promise<void> => {
      await link.sendJson(Kind.HELLO, { command: 'in' });
      for (const kind of kinds)
        await link.sendJson(kind, { format: 'vfio-ts-move', version: 1, id: '0'.repeat(16), page: 4096, ids: 0x11e8_1234 });
    };
    expect(await say((link) => into(link, Kind.RUNNING))).toBe('EPROTO');
    expect(await say((link) => into(link, Kind.OFFER, Kind.MAPPINGS))).toBe(Kind.READY);
    {
      using raw = UnixSocket.connect(`${b}.manage`);
      raw.send(new Uint8Array(64).fill(0xff), 0, 64);
    }
    await idle(b);
    await moveDevice(a, { kind: 'server', path: b }, { downtimeMs });
    expect(client.dma.buffers).toBe(0);
  });
});
