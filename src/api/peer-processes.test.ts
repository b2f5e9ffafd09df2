import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { DEFAULT_MEMLOCK } from '../engine/dma/process.ts';
import { PeerProcesses } from './peer-processes.ts';

const me = { pid: process.pid, uid: process.getuid!(), gid: process.getgid!() };

describe('a peer', () => {
  let child: ChildProcess | null = null;
  afterEach(() => child?.kill('SIGKILL'));

  /** Somebody with a limit of 64 KiB, and no privilege to pass it. */
  async function limited(): Promise<typeof me> {
    const unprivileged = me.uid === 0 ? ['setpriv', '--bounding-set', '-ipc_lock', '--inh-caps', '-all'] : [];
    const [command, ...args] = [...unprivileged, 'prlimit', '--memlock=65536:65536', 'sleep', '600'];
    child = spawn(command!, args, { stdio: 'ignore' });
    const started = child;
    while (readFileSync(`/proc/${started.pid}/comm`, 'latin1') !== 'sleep\n') await new Promise((resolve) => setImmediate(resolve));
    return { ...me, pid: started.pid! };
  }

  it('may lock what its own RLIMIT_MEMLOCK and capabilities say', async () => {
    const peers = new PeerProcesses();
    using theirs = peers.acquire(await limited());
    expect([theirs.process.memlockLimit, theirs.process.mayLockFreely]).toEqual([65536, false]);
  });

  it('may lock what whoever serves it says instead', async () => {
    const peers = new PeerProcesses(2 ** 20);
    using theirs = peers.acquire(await limited());
    expect(theirs.process.memlockLimit).toBe(2 ** 20);
  });

  it('has one account, however many connections it has, until the last is over', () => {
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

  it('with the number of one that is gone, and another user, is somebody else', () => {
    const peers = new PeerProcesses();
    using old = peers.acquire(me);
    using other = peers.acquire({ ...me, uid: me.uid + 1 });
    expect([other.process === old.process, other.process.uid]).toEqual([false, me.uid + 1]);
  });

  it('that /proc does not know gets no more than Linux gives anybody', () => {
    using theirs = new PeerProcesses().acquire({ ...me, pid: 0x7fff_fff0 });
    expect([theirs.process.memlockLimit, theirs.process.mayLockFreely]).toEqual([DEFAULT_MEMLOCK, false]);
  });
});
