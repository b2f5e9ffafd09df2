/** The rooms of src/ and the arrows between them (docs/architecture.md). An import against them fails here. */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, normalize, sep } from 'node:path';
import { expect, it } from 'vitest';

const root = join(import.meta.dirname, '..');

/** What a room may import besides itself. A room that is missing here may not exist. */
const arrows: Record<string, readonly string[]> = {
  base: [],
  abi: ['base'],
  pci: ['base', 'abi'],
  sys: ['base', 'abi'],
  hardware: ['base', 'abi', 'pci'],
  engine: ['base', 'abi', 'pci', 'hardware'],
  ioctl: ['base', 'abi', 'pci', 'hardware', 'engine'],
  models: ['base', 'abi', 'pci'],
  drivers: ['base', 'abi'],
  mediators: ['base', 'abi'],
  'vfio-user': ['base', 'abi', 'sys'],
  api: ['base', 'abi', 'pci', 'sys', 'hardware', 'engine', 'ioctl', 'models', 'drivers', 'mediators', 'vfio-user'],
  cli: ['base', 'abi', 'pci', 'sys', 'hardware', 'engine', 'models', 'drivers', 'mediators', 'vfio-user', 'api'],
  doors: ['base', 'abi', 'pci', 'sys', 'hardware', 'engine', 'ioctl', 'models', 'drivers', 'mediators', 'vfio-user', 'api'],
};

/** Packages that a room may use: what runs in a model, a driver or the engine has none. */
const packages: Record<string, readonly string[]> = {
  api: ['yaml', 'zod', 'tsx'],
  cli: ['commander', 'picocolors'],
};

interface Import {
  readonly file: string;
  readonly room: string;
  readonly specifier: string;
}

const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((f) => f.endsWith('.ts') && !f.endsWith('.test.ts'))
  .map((f) => join('src', f));
const imports: Import[] = files.flatMap((file) => {
  const text = readFileSync(join(root, file), 'utf8');
  const found = [
    ...text.matchAll(/(?:^|\n)\s*(?:import|export)\b[^;'"]*?from\s*'([^']+)'|import\(\s*'([^']+)'\s*\)|(?:^|\n)import\s*'([^']+)'/g),
  ];
  return found.map((m) => ({ file, room: file.split(sep)[1]!, specifier: (m[1] ?? m[2] ?? m[3])! }));
});

function targetRoom(i: Import): string {
  return normalize(join(dirname(i.file), i.specifier)).split(sep)[1]!;
}

it('has sources and finds their imports', () => {
  expect(files.length).toBeGreaterThan(20);
  expect(imports.length).toBeGreaterThan(files.length);
});

it('every folder of src is a room of the table', () => {
  expect([...new Set(files.map((f) => f.split(sep)[1]!))].filter((room) => !(room in arrows))).toEqual([]);
});

it('imports go along the arrows only', () => {
  const wrong = imports
    .filter((i) => i.specifier.startsWith('.'))
    .filter((i) => targetRoom(i) !== i.room && !arrows[i.room]?.includes(targetRoom(i)))
    .map((i) => `${i.file} imports ${i.specifier}: ${i.room} may not know ${targetRoom(i)}`);
  expect(wrong).toEqual([]);
});

it('doors only re-export, and package.json names each', () => {
  const doors = files.filter((f) => f.startsWith(join('src', 'doors') + sep));
  const other = doors.filter((f) => {
    const code = readFileSync(join(root, f), 'utf8').replace(/\/\*[\s\S]*?\*\/|^\/\/.*$/gm, '');
    return code.replace(/export (?:type )?(?:\{[^}]*\}|\* as \w+) from '[^']+';/g, '').trim() !== '';
  });
  expect(other).toEqual([]);
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { exports: Record<string, unknown> };
  expect(
    doors
      .map((f) => basename(f, '.ts'))
      .map((door) => (door === 'index' ? '.' : `./${door}`))
      .sort(),
  ).toEqual(
    Object.keys(exports)
      .filter((name) => name !== './package.json')
      .sort(),
  );
});

it('packages are used where the table allows them', () => {
  const wrong = imports
    .filter((i) => !i.specifier.startsWith('.') && !i.specifier.startsWith('node:'))
    .filter((i) => !packages[i.room]?.some((p) => i.specifier === p || i.specifier.startsWith(`${p}/`)))
    .map((i) => `${i.file} imports ${i.specifier}`);
  expect(wrong).toEqual([]);
});

it('only sys (and what stands on it) talks to Linux through node modules', () => {
  const wrong = imports
    .filter((i) => i.specifier.startsWith('node:') && !['sys', 'api', 'cli'].includes(i.room))
    .map((i) => `${i.file} imports ${i.specifier}`);
  expect(wrong).toEqual([]);
});
