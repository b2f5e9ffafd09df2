/**
 * The code that a run of the command may load: its own, and the user's file with its project. It
 * loads nothing from the current or the temporary directory.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const root = join(import.meta.dirname, '..');
const command = join(root, 'bin/vfio.js');
const isRoot = process.getuid!() === 0;
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function put(name: string, text: string): string {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
}

const paths = (names: Record<string, string[]>) => JSON.stringify({ compilerOptions: { baseUrl: '.', paths: names } });

function vfio(args: readonly string[], options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {}) {
  const { cwd = folder, env = {} } = options;
  const { status, stdout, stderr } = spawnSync(process.execPath, [command, ...args], {
    cwd,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    timeout: 120_000,
  });
  return { status, stdout, stderr };
}

const strange = 'console.log("the code of a stranger"); process.exit(66);';

describe('the current directory', () => {
  it('tsconfig.json there is not for files of the package', () => {
    put('tsconfig.json', paths({ '*': ['./evil.ts'], commander: ['./evil.ts'], picocolors: ['./evil.ts'] }));
    put('evil.ts', strange);
    expect(vfio(['--version'])).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' });
  });

  it('no command waits for a FIFO called tsconfig.json', () => {
    spawnSync('mkfifo', [join(folder, 'tsconfig.json')]);
    expect(vfio(['--version']).stdout).toBe(`${version}\n`);
    put('driver.ts', 'export const main = (address: string) => console.log(address);');
    expect(vfio(['run', 'driver.ts', 'sim:edu']).stdout).toBe('sim:edu\n');
  });
});

it('a missing current directory is reported at once', () => {
  const { status, stderr } = spawnSync(
    'sh',
    [
      '-c',
      `mkdir gone && cd gone && rmdir ../gone && exec ${process.execPath} ${command} run ${join(root, 'examples/hello-driver.ts')} sim:edu`,
    ],
    {
      cwd: folder,
      encoding: 'utf8',
      timeout: 60_000,
    },
  );
  expect([status, stderr.split('\n')[0]]).toEqual([1, 'vfio: ENOENT: the current directory is not there any more']);
});

describe('the temporary directory', () => {
  it('gets no file, and none is read from it', () => {
    const kept = join(folder, 'kept');
    mkdirSync(kept);
    // A cache that the loader would keep by itself, with other code put into it.
    const main = `const { main } = await import(${JSON.stringify(join(root, 'src/cli/main.ts'))}); process.exitCode = await main(['--version']);`;
    const loader = ['--import', import.meta.resolve('tsx'), '--input-type=module', '-e', main];
    spawnSync(process.execPath, loader, { env: { ...process.env, TMPDIR: kept, TSX_DISABLE_CACHE: '' } });
    const cache = join(kept, readdirSync(kept)[0]!);
    const files = readdirSync(cache);
    expect(files.length).toBeGreaterThan(5);
    for (const file of files) writeFileSync(join(cache, file), JSON.stringify({ code: strange }));
    expect(vfio(['--version'], { env: { TMPDIR: kept } })).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' });
    expect(readdirSync(cache)).toEqual(files);
    expect(readdirSync(kept)).toHaveLength(1);
  });

  it.each(['a FIFO', 'a file', 'nothing'])('works where the loader would have its folder, and there is %s', (what) => {
    const place = join(folder, `tsx-${process.geteuid!()}`);
    if (what === 'a FIFO') spawnSync('mkfifo', [place]);
    if (what === 'a file') writeFileSync(place, '');
    const before = readdirSync(folder);
    expect(vfio(['--version'], { env: { TMPDIR: folder } }).stdout).toBe(`${version}\n`);
    expect(readdirSync(folder)).toEqual(before);
  });
});

describe("a user's file", () => {
  const driver = `import { word } from '~/word';
    import { VfioError } from 'vfio-ts';
    export async function main(address: string): Promise<void> {
      const { open } = await import('vfio-ts');
      await open('unix:/nowhere').catch((error) => console.log(word, error instanceof VfioError, address));
    }`;

  it('is loaded with the tsconfig.json of its own project, not with that of the current directory', () => {
    put(
      'project/tsconfig.json',
      `// with comments\n${paths({ '~/*': ['./lib/*'], commander: ['./evil.ts'], '../base/*': ['./evil.ts'] })}`,
    );
    put('project/evil.ts', strange);
    put('project/lib/word.ts', 'export const word: string = "its own";');
    put('project/deep/driver.ts', driver);
    put('elsewhere/tsconfig.json', paths({ '~/*': ['./evil.ts'], 'vfio-ts': ['./evil.ts'] }));
    put('elsewhere/evil.ts', strange);
    const { status, stdout, stderr } = vfio(['run', '../project/deep/driver.ts', 'sim:edu'], { cwd: join(folder, 'elsewhere') });
    expect([status, stdout, stderr]).toEqual([0, 'its own true sim:edu\n', '']);
  });

  it('two projects in one run have a tsconfig.json each', () => {
    for (const name of ['a', 'b']) {
      put(`${name}/tsconfig.json`, paths({ '~word': ['./word.ts'] }));
      put(`${name}/word.ts`, `export default ${JSON.stringify(name)};`);
      put(`${name}/said.ts`, `import word from '~word'; export const said: string = word;`);
    }
    put(
      'driver.ts',
      `import { said as a } from './a/said.ts'; import { said as b } from './b/said.ts'; export const main = () => console.log(a + b);`,
    );
    expect(vfio(['run', 'driver.ts', 'sim:edu']).stdout).toBe('ab\n');
  });

  it('a tsconfig.json that is broken is named', () => {
    put('tsconfig.json', '{ "extends": "./nowhere.json" }');
    put('driver.ts', 'export const main = () => {};');
    const { status, stderr } = vfio(['run', 'driver.ts', 'sim:edu']);
    expect(status).toBe(1);
    expect(stderr).toContain('nowhere.json');
  });

  describe.runIf(isRoot)('in a directory that every user can write', () => {
    const strangers = (...names: string[]) => {
      for (const name of names) chownSync(join(folder, name), 65534, 65534);
      chmodSync(folder, 0o1777);
    };

    it("tsconfig.json of another user's does not count", () => {
      put('tsconfig.json', paths({ '~/word': ['./evil.ts'], 'vfio-ts': ['./evil.ts'] }));
      put('evil.ts', strange);
      put('mine/driver.ts', `import { VfioError } from 'vfio-ts'; export const main = () => console.log(VfioError.name);`);
      strangers('tsconfig.json', 'evil.ts');
      expect(vfio(['run', 'mine/driver.ts', 'sim:edu']).stdout).toBe('VfioError\n');
    });

    it('packages that another user has put there are refused by name, and never stand for this one', () => {
      for (const name of ['vfio-ts', 'helper']) {
        put(`node_modules/${name}/package.json`, `{"name":"${name}","type":"module","exports":"./index.js"}`);
        put(`node_modules/${name}/index.js`, strange);
      }
      put('mine/own.ts', `import { VfioError } from 'vfio-ts'; export const main = () => console.log(VfioError.name);`);
      put('mine/driver.ts', `import 'helper'; export const main = () => {};`);
      strangers('node_modules');
      expect(vfio(['run', 'mine/own.ts', 'sim:edu']).stdout).toBe('VfioError\n');
      const { status, stdout, stderr } = vfio(['run', 'mine/driver.ts', 'sim:edu']);
      expect([status, stdout]).toEqual([1, '']);
      expect(stderr).toContain(
        `'helper', which ${join(folder, 'mine/driver.ts')} imports, is found by ${join(folder, 'node_modules')}: another user`,
      );
    });

    it.each([
      ['the name of the package that the file belongs to', `import 'helper';`, { name: 'helper', exports: './evil.mjs' }],
      ['an import of that package', `import '#helper';`, { imports: { '#helper': './evil.mjs' } }],
      ['a name without its extension', `import '../evil';`, {}],
      ['require', `import { createRequire } from 'node:module'; createRequire(import.meta.url)('../evil');`, {}],
    ])("a different user's file is refused by name: found by %s", (_, line, description) => {
      put('package.json', JSON.stringify(description));
      put('evil.mjs', strange);
      put('evil.js', strange);
      put('mine/driver.ts', `${line} export const main = () => {};`);
      strangers('package.json', 'evil.mjs', 'evil.js');
      const { status, stdout, stderr } = vfio(['run', 'mine/driver.ts', 'sim:edu']);
      expect([status, stdout]).toEqual([1, '']);
      expect(stderr).toMatch(/is found by \S*evil\.m?js: another user/);
    });

    it("a package.json of a different user's makes no other package of this one", () => {
      put('package.json', JSON.stringify({ name: 'vfio-ts', exports: './evil.mjs' }));
      put('evil.mjs', strange);
      put('mine/driver.ts', `import { VfioError } from 'vfio-ts'; export const main = () => console.log(VfioError.name);`);
      strangers('package.json', 'evil.mjs');
      expect(vfio(['run', 'mine/driver.ts', 'sim:edu'])).toEqual({ status: 0, stdout: 'VfioError\n', stderr: '' });
    });

    it('a link that a different user has put there is refused, wherever it leads', () => {
      const place = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
      mkdirSync(join(place, 'helper'));
      writeFileSync(join(place, 'helper/index.js'), strange);
      symlinkSync(place, join(folder, 'node_modules'));
      lchownSync(join(folder, 'node_modules'), 65534, 65534);
      put('mine/driver.ts', `import 'helper'; export const main = () => {};`);
      strangers();
      const { status, stdout, stderr } = vfio(['run', 'mine/driver.ts', 'sim:edu']);
      rmSync(place, { recursive: true });
      expect([status, stdout]).toEqual([1, '']);
      expect(stderr).toContain(`is found by ${join(folder, 'node_modules')}: another user`);
    });

    it('settings of the own project that extend a different user’s file lead to no code of that user', () => {
      put('node_modules/base/tsconfig.json', paths({ helper: ['../../evil.ts'] }));
      put('evil.ts', strange);
      put('mine/tsconfig.json', '{ "extends": "base/tsconfig.json" }');
      put('mine/driver.ts', `import 'helper'; export const main = () => {};`);
      strangers('node_modules', 'evil.ts');
      expect(vfio(['run', 'mine/driver.ts', 'sim:edu']).stderr).toContain(`is found by ${join(folder, 'evil.ts')}: another user`);
    });

    it("a different user's project that is run by its name has its own files", () => {
      put('theirs/driver.ts', `import { word } from './word.ts'; export const main = () => console.log(word);`);
      put('theirs/word.ts', `export const word: string = 'theirs';`);
      for (const name of ['theirs', 'theirs/driver.ts', 'theirs/word.ts']) chownSync(join(folder, name), 65534, 65534);
      strangers();
      expect(vfio(['run', 'theirs/driver.ts', 'sim:edu']).stdout).toBe('theirs\n');
    });
  });
});
