import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { DEFAULT_MEMLOCK } from '../engine/dma/process.ts';
import { PeerProcesses } from './peer-processes.ts';

const me = { pid: process.pid, uid: process.getuid!(), gid: process.getgid!() };

describe('a peer', () => {
  let child: ChildProcess | null = null;
  afterEach(() => child?.kill('SIGKILL'));

  /** A process with a limit of 64 KiB, and no privilege to exceed it. */
  async function limited(): Promise<typeof me> {
    const unprivileged = me.uid === 0 ? ['setpriv', '--bounding-set', '-ipc_lock', '--inh-caps', '-all'] : [];
    const [command, ...args] = [...unprivileged, 'prlimit', '--memlock=65536:65536', 'sleep', '600'];
    child = spawn(command!, args, { stdio: 'ignore' });
    const started = child;
    while (readFileSync(`/proc/${started.pid}/comm`, 'latin1') !== 'sleep\n') await new Promise((resolve) => setImmediate(resolve));
    return { ...me, pid: started.pid! };
  }

  it('may lock as much as its own RLIMIT_MEMLOCK and capabilities allow', async () => {
    const peers = new PeerProcesses();
    using theirs = peers.acquire(await limited());
    expect([theirs.process.memlockLimit, theirs.process.mayLockFreely]).toEqual([65536, false]);
  });

  it('may lock as much as the server’s limit allows, when the server has one', async () => {
    const peers = new PeerProcesses(2 ** 20);
    using theirs = peers.acquire(await limited());
    expect(theirs.process.memlockLimit).toBe(2 ** 20);
  });

  it('has one account for all its connections, until the last ends', () => {
    const peers = new PeerProcesses();
    const first = peers.acquire(me);
    const second = peers.acquire(me);
    expect(second.process).toBe(first.process);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    using third = peers.acquire(me);
    expect(third.process).toBe(second.process);
    second[Symbol.dispose]();
  });

  it('with the pid of a process that ended, and another user, is a different process', () => {
    const peers = new PeerProcesses();
    using old = peers.acquire(me);
    using other = peers.acquire({ ...me, uid: me.uid + 1 });
    expect([other.process === old.process, other.process.uid]).toEqual([false, me.uid + 1]);
  });

  it('that /proc does not know gets Linux’s default limit', () => {
    using theirs = new PeerProcesses().acquire({ ...me, pid: 0x7fff_fff0 });
    expect([theirs.process.memlockLimit, theirs.process.mayLockFreely]).toEqual([DEFAULT_MEMLOCK, false]);
  });
});
