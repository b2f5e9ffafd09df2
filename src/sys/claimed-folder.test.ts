import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { ClaimedFolder } from './claimed-folder.ts';

let above: string;
beforeEach(() => {
  above = mkdtempSync(join(tmpdir(), 'claimed-'));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(above, { recursive: true });
});

const module = new URL('./claimed-folder.ts', import.meta.url).href;
const code = `const { ClaimedFolder } = await import('${module}');
console.log(ClaimedFolder.make('card', process.argv[1]).path);
setInterval(() => {}, 1000);`;
const node = ['--import', './bin/typescript.js', '--input-type=module', '-e', code];

it('is for its owner alone, and goes with it', () => {
  const folder = ClaimedFolder.make('card', above);
  expect(lstatSync(folder.path).mode & 0o777).toBe(0o700);
  folder.makeFolder('/a/b');
  folder.makeFile('/a/b/c', 0o640, 'text\n');
  folder.makeLink('/a/l', 'b/c');
  expect(readFileSync(join(folder.path, 'a/l'), 'utf8')).toBe('text\n');
  folder.rewriteFile('/a/b/c', 'new');
  expect(readFileSync(join(folder.path, 'a/l'), 'utf8')).toBe('new');
  folder.makeFile('/zeroes', 0o600, 4096);
  expect(lstatSync(join(folder.path, 'zeroes')).size).toBe(4096);
  expect(() => folder.makeFile('/zeroes', 0o600, '')).toThrow(expect.objectContaining({ code: 'EEXIST' }));
  folder[Symbol.dispose]();
  expect(readdirSync(above)).toEqual([]);
});

it('is in the run-time directory, unless the user cannot write there', () => {
  vi.stubEnv('XDG_RUNTIME_DIR', above);
  using own = ClaimedFolder.make('card');
  expect(own.path.startsWith(`${above}/`)).toBe(true);
  vi.stubEnv('XDG_RUNTIME_DIR', join(above, 'of-another-user'));
  using other = ClaimedFolder.make('card');
  expect(other.path.startsWith(`${above}/`)).toBe(false);
});

it('of a process that was killed goes with the next one, and that of a living process stays', async () => {
  const child = spawn(process.execPath, [...node, above], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [path] = await once(child.stdout, 'data');
  using _other = ClaimedFolder.make('card', above);
  expect(existsSync(String(path).trim())).toBe(true);
  child.kill('SIGKILL');
  await once(child, 'exit');
  using _next = ClaimedFolder.make('card', above);
  expect(existsSync(String(path).trim())).toBe(false);
  expect(readdirSync(above).length).toBe(2);
});

it('leaves folders of another kind, and such as are being made', () => {
  mkdirSync(join(above, 'other-1'));
  mkdirSync(join(above, 'card-new'));
  mkdirSync(join(above, 'card-old'));
  utimesSync(join(above, 'card-old'), 1, 1);
  using folder = ClaimedFolder.make('card', above);
  expect(readdirSync(above).sort()).toEqual([folder.path.slice(above.length + 1), 'card-new', 'other-1'].sort());
});

it('makes nodes that look like devices and lead nowhere', () => {
  using folder = ClaimedFolder.make('card', above);
  folder.makeNode('/node', 0o620);
  const stat = lstatSync(join(folder.path, 'node'));
  expect([stat.isCharacterDevice(), stat.mode & 0o777, stat.rdev]).toEqual([true, 0o620, 0]);
  expect(spawnSync('cat', [join(folder.path, 'node')], { encoding: 'utf8' }).stderr).toContain('No such device or address');
});

it('has an error that names the directory', () => {
  expect(() => ClaimedFolder.make('card', join(above, 'missing'))).toThrow(
    expect.objectContaining({ code: 'ENOENT', message: expect.stringContaining('missing') }),
  );
});
