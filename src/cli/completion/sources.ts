/**
 * Where suggestions come from: files, sockets, models, and functions of this computer, of a machine
 * file or of a served machine. A source that cannot be read suggests nothing.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import type { Suggestion, Typed } from './suggestion.ts';

/** Drivers that every machine has, and the word for no driver. */
const ALWAYS = ['vfio-pci', 'pci-stub', 'pci-pf-stub', 'none'];

function attempt<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

/**
 * Files whose names end in one of `endings`, and directories, whose suggestions end in `/`.
 *
 * @param endings all files without one; `['/']` for directories alone
 */
export function paths(word: string, endings: readonly string[] = []): Suggestion[] {
  const at = word.lastIndexOf('/') + 1;
  const written = word.slice(0, at);
  const folder = written === '' ? '.' : written.startsWith('~/') ? join(homedir(), written.slice(2)) : written;
  const hidden = word.slice(at).startsWith('.');
  const found: Suggestion[] = [];
  for (const name of attempt(() => readdirSync(folder), []).sort()) {
    if (!name.startsWith(word.slice(at)) || (name.startsWith('.') && !hidden)) continue;
    if (attempt(() => statSync(join(folder, name)).isDirectory(), false)) found.push({ value: `${written}${name}/` });
    else if (endings.length === 0 || endings.some((ending) => name.endsWith(ending))) found.push({ value: written + name });
  }
  return found;
}

/**
 * `unix:PATH` of sockets: those of this user's run-time directory, else of the directory that
 * `word` names.
 */
export function sockets(word: string): Suggestion[] {
  const path = word.startsWith('unix:') ? word.slice('unix:'.length) : '';
  const own = join(process.env.XDG_RUNTIME_DIR ?? '/nonexistent', 'vfio-ts/');
  const found = path === '' ? [...socketsIn(own), ...socketsIn('')] : socketsIn(path);
  return found.length === 0 && path === '' ? [{ value: 'unix:', help: 'the socket of a served device' }] : found;
}

function socketsIn(path: string): Suggestion[] {
  return paths(path)
    .filter(({ value }) => value.endsWith('/') || attempt(() => statSync(value).isSocket(), false))
    .filter(({ value }) => !value.endsWith('.manage'))
    .map(({ value }) => ({ value: `unix:${value}` }));
}

/** Models of the package. */
export async function models(): Promise<Suggestion[]> {
  const { models } = await import('../../models/registry.ts');
  return Object.keys(models).map((value) => ({ value, help: 'a model of the package' }));
}

/** Devices: `sim:MODEL`, `unix:PATH`, and functions. */
export async function addresses(word: string, typed: Typed): Promise<Suggestion[]> {
  if (word.startsWith('unix:')) return sockets(word);
  if (/^sim:.*[./]/.test(word)) return paths(word.slice(4), ['.ts', '.mts', '.js', '.mjs']).map(({ value }) => ({ value: `sim:${value}` }));
  const simulated = (await models()).map(({ value, help }) => ({ value: `sim:${value}`, help: help! }));
  return [...simulated, ...sockets(word), ...(await functions(typed))];
}

/** Functions: of the machine file or served machine on the command line, else of this computer. */
export async function functions(typed: Typed): Promise<Suggestion[]> {
  const machine = machineIn(typed);
  if (machine === undefined) return functionsOfComputer();
  if (isDirectory(machine)) {
    const served = paths(`${machine}/`, ['.sock']).map(({ value }) => basename(value, '.sock'));
    return served.filter((name) => /^[0-9a-f:]+\.[0-7]$/i.test(name)).map((value) => ({ value }));
  }
  using loaded = await loadedMachine(machine);
  return [...(loaded?.functions.values() ?? [])].map(({ bdf, name }) => ({ value: bdf, help: name }));
}

const SYSFS = '/sys/bus/pci/devices';

/** @param sysfs the directory of the computer's devices */
export function functionsOfComputer(sysfs = SYSFS): Suggestion[] {
  const ids = (bdf: string) => `${hexIn(join(sysfs, bdf, 'vendor'))}:${hexIn(join(sysfs, bdf, 'device'))}`;
  return attempt(() => readdirSync(sysfs), [])
    .sort()
    .map((bdf) => ({ value: bdf, help: ids(bdf) }));
}

const hexIn = (path: string) => attempt(() => readFileSync(path, 'utf8').trim().replace(/^0x/, ''), '????');

/** Drivers of the machine on the command line, else of this computer; and those that all have. */
export async function drivers(typed: Typed): Promise<Suggestion[]> {
  const machine = machineIn(typed);
  if (machine === undefined) return driversOfComputer();
  using loaded = isDirectory(machine) ? null : await loadedMachine(machine);
  return [...new Set([...ALWAYS, ...(loaded?.drivers.known ?? [])])].map((value) => ({ value }));
}

/** @param sysfs the directory of the computer's drivers */
export function driversOfComputer(sysfs = '/sys/bus/pci/drivers'): Suggestion[] {
  const known = attempt(() => readdirSync(sysfs), []).sort();
  return [...new Set([...ALWAYS, ...known])].map((value) => ({ value }));
}

/** Groups of this computer, by number, with a device of each. */
export function groupsOfComputer(groups = '/sys/kernel/iommu_groups'): Suggestion[] {
  const numbers = attempt(() => readdirSync(groups), []).sort((a, b) => Number(a) - Number(b));
  return numbers.map((value) => ({
    value,
    help: attempt(() => readdirSync(join(groups, value, 'devices')), [])
      .sort()
      .join(', '),
  }));
}

/** `--machine FILE`, or the first word where it is a machine file or a directory. */
function machineIn({ options, words }: Typed): string | undefined {
  const [first = ''] = words;
  const named = options.get('machine') ?? (/\.ya?ml$/.test(first) || isDirectory(first) ? first : process.env.VFIO_MACHINE);
  return named === '' ? undefined : named;
}

const isDirectory = (path: string) => attempt(() => statSync(path).isDirectory(), false);

/**
 * A machine whose file names code of its user's is not loaded: a key that asks for suggestions runs
 * no code.
 */
async function loadedMachine(path: string) {
  try {
    const { loadMachine } = await import('../../api/machine.ts');
    return loadMachine(path);
  } catch {
    return null;
  }
}
