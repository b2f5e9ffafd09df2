import { closeSync, mkdtempSync, openSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { giveSocket, nodeState, ownerOfNode, processesWith } from './node-users.ts';
import { UnixListener } from './unix-listener.ts';

const folder = mkdtempSync(join(tmpdir(), 'vfio-nodes-'));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'node');
writeFileSync(path, '', { mode: 0o640 });

it('finds the processes that have a file open', () => {
  expect(processesWith(path)).toBe('');
  const fd = openSync(path, 'r');
  expect([processesWith(path), processesWith(path, 1)]).toEqual(['this process', '']);
  closeSync(fd);
});

it('says whose a file is, and whether this user may open it', () => {
  expect(ownerOfNode(path)).toMatch(/^user \S+ and group \d+, with mode 640$/);
  expect([nodeState(path), nodeState(join(folder, 'none'))]).toEqual(['open', 'missing']);
  expect(ownerOfNode(join(folder, 'none'))).toBeNull();
});

it('gives a socket to a user', () => {
  const socket = join(folder, 'socket');
  using _listener = UnixListener.listen(socket);
  giveSocket(socket, process.getuid!());
  expect(nodeState(socket)).toBe('open');
});

it('gives away no file that another user has put in the place of the socket', () => {
  symlinkSync(path, join(folder, 'link'));
  for (const name of ['link', 'node']) {
    expect(() => giveSocket(join(folder, name), process.getuid!())).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  }
});
