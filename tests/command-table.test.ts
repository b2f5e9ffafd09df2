/** Help, completion and man pages have every command and option that commander parses. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { adminRows } from '../src/cli/admin/rows.ts';
import { vfio } from '../src/cli/commands.ts';
import { suggest } from '../src/cli/completion/suggest.ts';
import { main } from '../src/cli/main.ts';
import { manPages } from '../src/cli/man-pages.ts';
import { makeProgram } from '../src/cli/program.ts';
import { recordingTerminal } from './kit/recording-terminal.ts';

const program = await makeProgram({ terminal: recordingTerminal(), exit: () => {} }, []);
const pages = new Map((await manPages('1.2.3', '2026-01-31')).map(({ file, text }) => [file, text]));
const rows = adminRows();

/** Every command with its words: ['nvme', 'bench']. */
function everyCommand(command: Command, path: readonly string[] = []): [string, string[], Command][] {
  const below = command.commands.filter((each) => each.name() !== 'suggest');
  return below.flatMap((each) => {
    const words = [...path, each.name()];
    return [[words.join(' '), words, each], ...everyCommand(each, words)];
  });
}
const commands = everyCommand(program);
const longNames = (command: Command) => command.options.map(({ long }) => long!);
const suggestedFor = async (...line: string[]) => (await suggest(vfio, line)).map(({ value }) => value);
/** The text of a man page, as a reader sees it. */
const plain = (page: string) => page.replaceAll('\\-', '-').replaceAll(/\\f[BIR]/g, '');

describe.each(commands)('vfio %s', (_, words, command) => {
  it('is suggested, with every option', async () => {
    expect(await suggestedFor(...words)).toContain(words.at(-1));
    expect((await suggestedFor(...words, '--')).sort()).toEqual([...longNames(command), '--help'].sort());
  });

  it('has every option, argument and example in its man page', () => {
    const page = plain(pages.get(`vfio-${words[0]}.1`)!);
    for (const option of longNames(command)) expect(page).toMatch(new RegExp(`^(?:-\\w, )?${option}\\b`, 'm'));
    for (const { description } of command.registeredArguments) expect(page.toLowerCase()).toContain(description.toLowerCase());
    expect(plain(pages.get('vfio.1')!)).toContain(words[0]);
  });

  it('has every option and argument in its help, in lines of at most 80 columns', async () => {
    const terminal = recordingTerminal();
    expect(await main([...words, '--help'], terminal)).toBe(0);
    for (const option of longNames(command)) expect(terminal.stdout.join('\n')).toContain(option);
    const prose = terminal.stdout.filter((line) => line.length > 80 && !/^ {2}\S/.test(line));
    expect(prose).toEqual([]);
  });
});

describe.each(rows.map((row) => [row.name, row] as const))('vfio admin WHERE %s', (name, row) => {
  it('is suggested, and in help and man page, with every option', async () => {
    const terminal = recordingTerminal();
    await main(['admin', '--help'], terminal);
    const page = plain(pages.get('vfio-admin.1')!);
    expect(await suggestedFor('admin', '/tmp', name)).toContain(name);
    const offered = await suggestedFor('admin', '/tmp', name, '--');
    for (const { flags } of row.options ?? []) {
      const long = flags.split(' ')[0]!;
      expect(offered).toContain(long);
      expect(page).toMatch(new RegExp(`^${long}\\b`, 'm'));
      expect(terminal.stdout.join('\n')).toContain(long);
    }
    expect(page).toMatch(new RegExp(`^\\.SS ${name}\\b`, 'm'));
  });
});

it('there is a man page for the command and for each of its commands', () => {
  const named = program.commands.map((command) => command.name()).filter((name) => !['help', 'suggest'].includes(name));
  expect([...pages.keys()].sort()).toEqual(['vfio.1', ...named.map((name) => `vfio-${name}.1`)].sort());
});

it('package.json names the man pages (npm run man writes the names)', () => {
  const { man } = JSON.parse(readFileSync(join(import.meta.dirname, '../package.json'), 'utf8'));
  expect(man).toEqual([...pages.keys()].map((file) => `./dist/man/${file}`));
});

const hasMandoc = spawnSync('mandoc', ['-V']).error === undefined;
describe.skipIf(!hasMandoc)('mandoc has no complaint about', () => {
  it.each([...pages])('%s', (_file, text) => {
    const { stdout, stderr } = spawnSync('mandoc', ['-T', 'lint', '-W', 'warning'], { input: text, encoding: 'utf8' });
    expect(stdout + stderr).toBe('');
  });
});

const root = join(import.meta.dirname, '..');

/** The files and packages that loading `entry` loads. */
function loadedBy(entry: string): { readonly files: ReadonlySet<string>; readonly packages: ReadonlySet<string> } {
  const files = new Set<string>();
  const packages = new Set<string>();
  const load = (file: string) => {
    if (files.has(file)) return;
    files.add(file);
    const text = readFileSync(join(root, file), 'utf8');
    // Types are not loaded, nor what `import()` names.
    for (const [, specifier] of text.matchAll(/^(?:import|export) (?!type\b)(?:[^;'"]*? from )?'([^']+)'/gm)) {
      if (specifier!.startsWith('.')) load(relative(root, join(root, dirname(file), specifier!)));
      else if (!specifier!.startsWith('node:')) packages.add(specifier!);
    }
  };
  load(entry);
  return { files, packages };
}

it('a thread of a device loads no package: each thread has its own copy of all code', () => {
  expect([...loadedBy('src/api/threads/thread-entry.ts').packages]).toEqual([]);
});

it('vfio --help loads the table, commander, and little else', () => {
  const { files, packages } = loadedBy('src/cli/main.ts');
  const light = /^src\/(?:base|abi)\/|^src\/cli\/(?:commands\/)?[a-z-]+\.ts$/;
  const others = [...files].filter((file) => !light.test(file));
  expect(others.sort()).toEqual([
    'src/api/address.ts',
    'src/api/failure-lines.ts',
    'src/api/unsettled.ts',
    'src/cli/net/values.ts',
    'src/cli/nvme/patterns.ts',
    'src/cli/serve/device-options.ts',
    'src/drivers/82576/mac-address.ts',
    'src/events/kinds.ts',
    'src/events/printers/format-files.ts',
    'src/pci/bdf.ts',
    'src/sys/package-files.ts',
    'src/sys/system-error.ts',
  ]);
  expect([...packages].sort()).toEqual(['commander', 'picocolors']);
});
