/**
 * Descriptors that a peer has sent: which of them can keep this process waiting, and how they are
 * closed.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { until } from '../../tests/kit/event-loop.ts';
import { addon } from './addon.ts';
import { EventFd } from './eventfd.ts';
import { MemfdMemory } from './memfd.ts';
import { OwnedFd } from './owned-fd.ts';
import { UnixSocket } from './unix-socket.ts';

const isOpen = (fd: number) => {
  try {
    fstatSync(fd);
    return true;
  } catch {
    return false;
  }
};
const opened: OwnedFd[] = [];
afterEach(() => {
  for (const fd of opened.splice(0)) fd[Symbol.dispose]();
});
const file = (path: string): OwnedFd => {
  const number = openSync(path, 'r');
  const fd = OwnedFd.duplicate(number);
  closeSync(number);
  opened.push(fd);
  return fd;
};

describe('what a peer has sent', () => {
  it('memory and eventfds cannot keep us waiting; files, devices and sockets can', () => {
    using memory = MemfdMemory.allocate(4096);
    using event = EventFd.create();
    const [a, b] = UnixSocket.pair();
    using one = a.release();
    using other = b.release();
    using first = memory.duplicateFd();
    using second = event.duplicateFd();
    const kinds = [first, second, one, other, file(process.execPath), file('/dev/null'), file('/proc/self/status')];
    expect(kinds.map(({ cannotWait, isMemory }) => [cannotWait, isMemory])).toEqual([
      [true, true],
      [true, false],
      ...Array(5).fill([false, false]),
    ]);
  });

  it('memory and eventfds are closed at once, other descriptors elsewhere', async () => {
    using memory = MemfdMemory.allocate(4096);
    const sent = OwnedFd.received(memory.duplicateFd().disown());
    const number = sent.number;
    sent[Symbol.dispose]();
    expect(isOpen(number)).toBe(false);
    const [a, b] = UnixSocket.pair();
    using _a = a;
    const socket = OwnedFd.received(b.release().disown());
    socket[Symbol.dispose]();
    await until(() => addon().closing(0) === 0);
    expect(a.receive(new Uint8Array(1), 0, 1, [])).toBe(0);
  });

  it('a copy of one is closed as the first is', async () => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    {
      using sent = OwnedFd.received(b.release().disown());
      using _copy = sent.duplicate();
      using _moved = sent.move();
    }
    await until(() => addon().closing(0) === 0);
    expect(a.receive(new Uint8Array(1), 0, 1, [])).toBe(0);
  });

  it('what came over an accepted connection and was not received goes with it', async () => {
    const [client, end] = UnixSocket.pair();
    const [a, b] = UnixSocket.pair();
    using _a = a;
    using _client = client;
    const server = UnixSocket.accepted(end.release());
    {
      using sent = b.release();
      client.send(new Uint8Array(4), 0, 4, [sent]);
    }
    server[Symbol.dispose]();
    await until(() => addon().closing(0) === 0);
    expect([a.receive(new Uint8Array(1), 0, 1, []), client.receive(new Uint8Array(1), 0, 1, [])]).toEqual([0, 0]);
  });
});
