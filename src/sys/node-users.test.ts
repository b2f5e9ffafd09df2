import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { giveFile, nodeState, ownerOfNode, processesWith } from './node-users.ts';

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

it('gives files to users that exist only', () => {
  expect(() => giveFile(path, 'no-such-user')).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  giveFile(path, String(process.getuid!()));
  expect(nodeState(path)).toBe('open');
});
