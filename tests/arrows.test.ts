/**
 * The rooms of src/ and the arrows between them (docs/architecture.md). An import against them
 * fails here.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, normalize, sep } from 'node:path';
import { expect, it } from 'vitest';

const root = join(import.meta.dirname, '..');

/** The rooms that a room may import besides itself. A room that is missing here may not exist. */
const arrows: Record<string, readonly string[]> = {
  base: [],
  abi: ['base'],
  events: ['base', 'abi'],
  pci: ['base', 'abi'],
  sys: ['base', 'abi'],
  device: ['base', 'abi'],
  hardware: ['base', 'abi', 'events', 'pci'],
  engine: ['base', 'abi', 'events', 'device', 'pci', 'hardware'],
  ioctl: ['base', 'abi', 'events', 'device', 'pci', 'hardware', 'engine'],
  exec: ['base', 'abi', 'events', 'device', 'pci', 'sys', 'hardware', 'engine', 'ioctl'],
  models: ['base', 'abi', 'events', 'pci'],
  drivers: ['base', 'abi', 'events', 'pci'],
  mediators: ['base', 'abi'],
  'vfio-user': ['base', 'abi', 'events', 'pci', 'device', 'sys'],
  kernel: ['base', 'abi', 'events', 'pci', 'device', 'sys'],
  host: ['base', 'abi', 'pci', 'sys', 'hardware', 'engine'],
  api: [
    'base',
    'abi',
    'events',
    'pci',
    'sys',
    'hardware',
    'engine',
    'ioctl',
    'exec',
    'models',
    'drivers',
    'mediators',
    'vfio-user',
    'kernel',
    'host',
  ],
  cli: [
    'base',
    'abi',
    'events',
    'pci',
    'sys',
    'hardware',
    'engine',
    'exec',
    'models',
    'drivers',
    'mediators',
    'vfio-user',
    'kernel',
    'host',
    'api',
  ],
  doors: [
    'base',
    'abi',
    'events',
    'pci',
    'sys',
    'hardware',
    'engine',
    'ioctl',
    'exec',
    'models',
    'drivers',
    'mediators',
    'vfio-user',
    'kernel',
    'host',
    'api',
  ],
};

/** Packages that a room may use. Code that runs in a model, a driver or the engine uses none. */
const packages: Record<string, readonly string[]> = {
  api: ['yaml', 'zod'],
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

/** The files that each file imports. Type-only imports count: a reader follows those, too. */
const graph = new Map<string, readonly string[]>(
  files.map((file) => [
    file,
    [...new Set(imports.filter((i) => i.file === file && i.specifier.startsWith('.')).map(target))].filter((f) => files.includes(f)),
  ]),
);

function target(i: Import): string {
  return normalize(join(dirname(i.file), i.specifier));
}

/** Groups of files that import each other, directly or through others (Tarjan's algorithm). */
function circles(of: ReadonlyMap<string, readonly string[]>): string[][] {
  const found: string[][] = [];
  const order = new Map<string, number>();
  const lowest = new Map<string, number>();
  const stack: string[] = [];
  const visit = (file: string): void => {
    order.set(file, order.size);
    lowest.set(file, order.get(file)!);
    stack.push(file);
    for (const next of of.get(file) ?? []) {
      if (!order.has(next)) visit(next);
      else if (!stack.includes(next)) continue;
      lowest.set(file, Math.min(lowest.get(file)!, lowest.get(next)!));
    }
    if (lowest.get(file) !== order.get(file)) return;
    const circle = stack.splice(stack.indexOf(file));
    if (circle.length > 1) found.push(circle.sort());
  };
  for (const file of of.keys()) if (!order.has(file)) visit(file);
  return found;
}

/** The longest file that needs no reason. */
const MAX_LINES = 400;
/** The sentence by which the comment at the head of a longer file says why it is one file. */
const REASON = /longer than 400 lines because/i;

function targetRoom(i: Import): string {
  return target(i).split(sep)[1]!;
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
    return code.replace(/export (?:type )?(?:\{[^}]*\}|\*(?: as \w+)?) from '[^']+';/g, '').trim() !== '';
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

it('finds circles', () => {
  const imported = { a: ['b'], b: ['c', 'd'], c: ['a'], d: ['e'], e: ['d'], f: ['a', 'e'] };
  expect(circles(new Map(Object.entries(imported)))).toEqual([
    ['d', 'e'],
    ['a', 'b', 'c'],
  ]);
});

it('no file imports itself through others', () => {
  expect(circles(graph)).toEqual([]);
});

it('a long file says why it is one', () => {
  const long = files.filter((file) => {
    const text = readFileSync(join(root, file), 'utf8');
    return text.trimEnd().split('\n').length > MAX_LINES && !REASON.test(text.slice(0, text.indexOf('*/')).replace(/\s*\n \* */g, ' '));
  });
  expect(long).toEqual([]);
});

it('packages are used where the table allows them', () => {
  const wrong = imports
    .filter((i) => !i.specifier.startsWith('.') && !i.specifier.startsWith('node:'))
    .filter((i) => !packages[i.room]?.some((p) => i.specifier === p || i.specifier.startsWith(`${p}/`)))
    .map((i) => `${i.file} imports ${i.specifier}`);
  expect(wrong).toEqual([]);
});

/** Node modules that only compute, or follow the program's own calls. */
const pure = ['node:crypto', 'node:zlib', 'node:async_hooks'];

it('only sys (and what stands on it) talks to Linux through node modules', () => {
  const wrong = imports
    .filter((i) => i.specifier.startsWith('node:') && !pure.includes(i.specifier) && !['sys', 'api', 'cli'].includes(i.room))
    .map((i) => `${i.file} imports ${i.specifier}`);
  expect(wrong).toEqual([]);
});
