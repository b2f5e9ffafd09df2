import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, closeSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { openPrivate } from './private-file.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const codeOf = (path: string) => errnoFrom(() => closeSync(openPrivate(path)));

it('openPrivate: a new file, and one that others could read, have mode 0600 and are empty', () => {
  const made = join(folder, 'made');
  const wide = join(folder, 'wide');
  writeFileSync(wide, 'old', { mode: 0o644 });
  chmodSync(wide, 0o666);
  for (const path of [made, wide]) {
    expect(codeOf(path)).toBe('none');
    expect([statSync(path).mode & 0o777, readFileSync(path, 'utf8')]).toEqual([0o600, '']);
  }
});

it('openPrivate: names what is in the way, and never waits for a reader', () => {
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  symlinkSync(join(folder, 'nowhere/x'), join(folder, 'link'));
  expect([folder, join(folder, 'no/x'), join(folder, 'link'), pipe].map(codeOf)).toEqual(['EISDIR', 'ENOENT', 'ENOENT', 'ENXIO']);
  expect(codeOf('/dev/null')).toBe('none');
  expect(statSync('/dev/null').mode & 0o777).toBe(0o666);
});

it.runIf(process.getuid!() === 0)("openPrivate: a different user's file that others can read keeps its bytes", () => {
  const path = join(folder, 'theirs');
  writeFileSync(path, 'old');
  chmodSync(path, 0o666);
  chmodSync(folder, 0o755);
  chownSync(path, 65534, 65534);
  process.seteuid!(12345);
  try {
    expect(codeOf(path)).toBe('EACCES');
  } finally {
    process.seteuid!(0);
  }
  expect([statSync(path).mode & 0o777, readFileSync(path, 'utf8')]).toEqual([0o666, 'old']);
});
