/** `vfio new`: the projects that it makes pass their checks at once, against this checkout. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { declarations } from '../tools/declarations.js';

const root = join(import.meta.dirname, '..');
let folder: string;
let types: string;
beforeAll(() => {
  types = mkdtempSync(join(tmpdir(), 'vfio-ts-types-'));
  declarations(types);
});
afterAll(() => rmSync(types, { recursive: true }));
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function run(program: string, args: readonly string[], cwd = folder) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, NO_COLOR: '1' },
  });
  return { status, out: stdout + stderr };
}
const vfio = (...args: string[]) => run(join(root, 'bin/vfio.js'), args);

/** node_modules with the package, and what this checkout has installed. */
function install(project: string): void {
  const modules = join(project, 'node_modules');
  mkdirSync(join(modules, '.bin'), { recursive: true });
  for (const name of readdirSync(join(root, 'node_modules'))) {
    if (!name.startsWith('.')) symlinkSync(join(root, 'node_modules', name), join(modules, name));
  }
  // tsc takes a link for the folder that it leads to, whose dist/ has no declarations in a test.
  const own = join(modules, 'vfio-ts');
  mkdirSync(join(own, 'dist'), { recursive: true });
  copyFileSync(join(root, 'package.json'), join(own, 'package.json'));
  for (const name of readdirSync(join(root, 'dist'))) {
    if (name !== 'types') symlinkSync(join(root, 'dist', name), join(own, 'dist', name));
  }
  symlinkSync(types, join(own, 'dist/types'));
}

describe.each(['device', 'driver'])('vfio new %s', (kind) => {
  it('makes a project whose types and test are right, and whose driver runs on its device', () => {
    expect(vfio('new', kind, 'my-card')).toMatchObject({
      status: 0,
      out: expect.stringContaining('cd my-card && npm install && npm test'),
    });
    const project = join(folder, 'my-card');
    install(project);
    expect(run(join(root, 'node_modules/typescript/bin/tsc'), [], project)).toEqual({ status: 0, out: '' });
    expect(run(join(root, 'node_modules/vitest/vitest.mjs'), ['run'], project)).toMatchObject({
      status: 0,
      out: expect.stringContaining(`${kind}.test.ts`),
    });
    expect(run(join(root, 'bin/vfio.js'), ['run', 'driver.ts', 'sim:./device.ts'], project)).toMatchObject({
      status: 0,
      out: expect.stringContaining('the timer has fired: 1\n'),
    });
  });
});

it('the project has the name that it was given, and this version of the package', () => {
  vfio('new', 'device', 'my-card');
  const read = (file: string) => readFileSync(join(folder, 'my-card', file), 'utf8');
  const { name, devDependencies } = JSON.parse(read('package.json'));
  const own = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  expect([name, devDependencies['vfio-ts']]).toEqual(['my-card', `^${own.version}`]);
  expect(read('README.md')).toMatch(/^# my-card\n/);
  const { 'vfio-ts': _, ...others } = devDependencies;
  const ours = { ...own.dependencies, ...own.peerDependencies, ...own.devDependencies };
  expect(others).toEqual(Object.fromEntries(Object.keys(others).map((each) => [each, ours[each]])));
});

it('an empty folder is taken', () => {
  mkdirSync(join(folder, 'my-card'));
  expect(vfio('new', 'device', 'my-card').status).toBe(0);
  expect(readdirSync(folder)).toEqual(['my-card']);
});

describe('is refused, and writes nothing:', () => {
  it('a folder with files', () => {
    mkdirSync(join(folder, 'my-card'));
    writeFileSync(join(folder, 'my-card/notes.txt'), '');
    expect(vfio('new', 'device', 'my-card')).toEqual({
      status: 1,
      out: expect.stringContaining('the folder my-card is not empty\n  fix: '),
    });
    expect(readdirSync(join(folder, 'my-card'))).toEqual(['notes.txt']);
  });

  it.each(['My-Card', '../card', 'a/b', '.card', '-card', 'node_modules', 'a--b', ''])("the name '%s'", (name) => {
    const { status, out } = vfio('new', 'driver', '--', name);
    expect([status, out]).toEqual([1, expect.stringContaining('cannot be the name of a project\n  fix: ')]);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('a folder that cannot be written', () => {
    const { status, out } = run(join(root, 'bin/vfio.js'), ['new', 'device', 'my-card'], '/proc');
    expect([status, out]).toEqual([1, expect.stringContaining('the folder my-card cannot be made')]);
    expect(existsSync('/proc/my-card')).toBe(false);
  });

  it('another kind', () => {
    expect(vfio('new', 'machine', 'my-card').status).toBe(2);
  });
});
