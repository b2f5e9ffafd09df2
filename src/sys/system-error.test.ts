import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { failureLines } from '../api/failure-lines.ts';
import { VfioError } from '../base/errno.ts';
import { exitCodeOf } from '../cli/exit-codes.ts';
import { fromNode, isNodeSystemError, SystemError, systemError } from './system-error.ts';
import { UnixListener } from './unix-listener.ts';
import { fitsSocket, socketAddress, UnixSocket } from './unix-socket.ts';

const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
afterAll(() => rmSync(folder, { recursive: true }));

function failure(act: () => unknown): unknown {
  try {
    act();
  } catch (error) {
    return error;
  }
  throw new Error('it did not fail');
}

it('what node:fs throws becomes a sentence with file and fix, and no stack', () => {
  const error = failure(() => readFileSync(join(folder, 'none')));
  expect(isNodeSystemError(error)).toBe(true);
  expect(fromNode(error)).toMatchObject({
    code: 'ENOENT',
    message: `opening ${folder}/none: there is no such file or directory`,
    cause: error,
  });
  expect(failureLines(error)).toEqual([`ENOENT: opening ${folder}/none: there is no such file or directory`]);
  expect(
    fromNode(
      failure(() => readdirSync(import.meta.filename)),
      'the machine cannot be read',
    ).message,
  ).toBe('the machine cannot be read: a part of the path is no directory');
  expect(fromNode(failure(() => writeFileSync(folder, '')))).toMatchObject({ code: 'EISDIR' });
  // A stream's error names no call.
  expect(fromNode(Object.assign(new Error('write'), { code: 'ENOSPC' }), 'x cannot be written')).toMatchObject({ code: 'ENOSPC' });
  const bug = new TypeError('a bug');
  expect(fromNode(bug)).toBe(bug);
  expect(failureLines(bug).join()).toContain('system-error.test.ts');
});

it.each(['EROFS', 'EACCES', 'EPERM', 'ENOSPC', 'EDQUOT', 'EMFILE'])('%s says what to do, and is no rule of VFIO', (code) => {
  const error = systemError(code, 'writing x');
  expect([error.code, error.fix === undefined, exitCodeOf(error)]).toEqual([code, false, 1]);
  const node = Object.assign(new Error(code), { code, syscall: 'open', path: '/x' });
  expect(failureLines(node).join('\n')).toMatch(new RegExp(`^${code}: opening /x: .*\\n  fix: `));
  expect(exitCodeOf(new VfioError('EACCES', 'wrapped', { cause: node }))).toBe(1);
});

it('a code that we do not know stays in the sentence', () => {
  expect(systemError('EXDEV', 'renaming x')).toMatchObject({ code: 'EIO', message: 'renaming x: EXDEV' });
  expect([exitCodeOf(new VfioError('EACCES', 'a rule')), exitCodeOf(new VfioError('ENODEV', 'gone'))]).toEqual([4, 5]);
});

it('a socket in a directory that is not there, or of another file, is said to be that', () => {
  expect(failure(() => UnixListener.listen(join(folder, 'no/x.sock')))).toMatchObject({
    code: 'ENOENT',
    message: `no socket can be made at ${folder}/no/x.sock: there is no directory ${folder}/no`,
  });
  writeFileSync(join(folder, 'file'), '');
  expect(failure(() => UnixSocket.connect(join(folder, 'file')))).toMatchObject({
    code: 'EINVAL',
    message: `${folder}/file is a file, not a socket`,
  });
  expect(failure(() => UnixSocket.connect(folder))).toMatchObject({ code: 'EINVAL', message: `${folder} is a directory, not a socket` });
  expect(failure(() => UnixSocket.connect('/dev/null'))).toMatchObject({
    code: 'EINVAL',
    message: '/dev/null is a device or pipe, not a socket',
  });
  const listener = UnixListener.listen(join(folder, 'dead.sock'));
  listener[Symbol.dispose]();
  expect(failure(() => UnixSocket.connect(join(folder, 'dead.sock')))).toBeInstanceOf(SystemError);
});

it('a path that is too long for a socket is used from the working directory, when that is shorter', () => {
  const deep = join(folder, 'd'.repeat(100));
  mkdirSync(deep);
  const path = join(deep, 'x.sock');
  expect(failure(() => UnixListener.listen(path))).toMatchObject({
    code: 'EINVAL',
    fix: `Use a shorter path, or start in ${deep}: from there it is x.sock.`,
  });
  const before = process.cwd;
  const spot = join(deep, 'here');
  // A worker may not change its directory; Node asks this function for it.
  process.cwd = () => spot;
  try {
    expect([socketAddress(path), fitsSocket(path)]).toEqual([relative(spot, path), true]);
  } finally {
    process.cwd = before;
  }
  expect(fitsSocket(path)).toBe(false);
});
