import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { PeerCredentials } from './byte-stream.ts';
import { processOf } from './peer-process.ts';
import { startTime } from './process-identity.ts';
import { UnixListener } from './unix-listener.ts';
import { UnixSocket } from './unix-socket.ts';

const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-peer-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Connects as often as it is asked to, keeps the connections, and ends when its input does. */
const connector = `const { connect } = require('node:net');
const [path, times] = process.argv.slice(1);
for (let i = 0; i < Number(times); i++) connect(path);
process.stdin.resume().on('end', () => process.exit());`;

describe('the process behind a socket', () => {
  /** Who connects: `times` connections of one other process. */
  async function peersOf(path: string, times: number): Promise<{ peers: PeerCredentials[]; end: () => Promise<void> }> {
    using listener = UnixListener.listen(path);
    const sockets: UnixSocket[] = [];
    const child = spawn(process.execPath, ['-e', connector, path, String(times)], { stdio: ['pipe', 'ignore', 'inherit'] });
    await new Promise<void>((resolve) => {
      listener.onConnection((socket) => {
        sockets.push(socket);
        if (sockets.length === times) resolve();
      });
    });
    const peers = sockets.map(({ peer }) => peer);
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    return {
      peers,
      end: () => {
        for (const socket of sockets) socket[Symbol.dispose]();
        child.stdin.end();
        return ended;
      },
    };
  }

  it('S1-04 has one key for all its connections, which no other process has, and is described by /proc', async () => {
    const first = await peersOf(join(directory, 'a'), 2);
    const second = await peersOf(join(directory, 'b'), 1);
    const [one, two] = first.peers.map(({ process: peer }) => peer);
    expect(one!.key).toBe(two!.key);
    expect(second.peers[0]!.process!.key).not.toBe(one!.key);
    expect(one!.found).toMatchObject({ pid: first.peers[0]!.pid, name: 'node', uid: process.getuid!() });
    await first.end();
    await second.end();
  });

  it('S1-04 is ourselves at both ends of a pair', () => {
    const [here, there] = UnixSocket.pair();
    using _here = here;
    using _there = there;
    expect(here.peer.process!.key).toBe(there.peer.process!.key);
    expect(here.peer.process!.found!.pid).toBe(process.pid);
  });

  it('S1-04 by its number alone: with its start time, and null where there is none', () => {
    expect(processOf(process.pid)!.key).toBe(`pid ${process.pid} of ${startTime(process.pid)}`);
    expect(Number(startTime(process.pid))).toBeGreaterThan(Number(startTime(1)) - 1);
    expect(processOf(0x7fff_ffff)).toBeNull();
    expect(processOf(0)).toBeNull();
  });

  it('S1-04 a name with spaces and parentheses does not hide when the process started', async () => {
    const child = spawn('bash', ['-c', 'printf "a) b (c" > /proc/$$/comm; read'], { stdio: ['pipe', 'ignore', 'inherit'] });
    while (!readFileSync(`/proc/${child.pid}/comm`, 'latin1').startsWith('a) b')) await new Promise((resolve) => setImmediate(resolve));
    expect(startTime(child.pid!)).toMatch(/^\d+$/);
    expect(processOf(child.pid!)!.found!.name).toBe('a) b (c');
    child.stdin.end();
    await new Promise((resolve) => child.once('exit', resolve));
  });
});
