// Writes the report of the public API: per door, every name with its declaration, without comments.
//
//   node tools/api.js [--check]
//
// It reads dist/types, which `npm run build` makes. With --check it writes nothing, prints what
// differs and ends with status 1.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const doors = join(root, 'dist/types/doors');
const reports = join(root, 'tests/package/api');

/**
 * @typedef {{ own: Map<string, string[]>, from: Map<string, { file: string, name: string | null }>,
 *   all: string[] }} Module
 */
/** @type {Map<string, Module>} */
const modules = new Map();

/**
 * Statements of a declaration file as tsc writes it: a statement begins in the first column, and so
 * does a closing brace.
 */
function statements(text) {
  const bare = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\/\/.*$/gm, '');
  const found = [];
  for (const line of bare.split('\n')) {
    if (line.trim() === '') continue;
    if (/^[a-z]/.test(line)) found.push(line.trimEnd());
    else found[found.length - 1] += `\n${line.trimEnd()}`;
  }
  return found.map((each) => each.replace(/\n\s*(#private;|private [^\n]*)/g, ''));
}

/** @returns {Module} */
function moduleAt(file) {
  const known = modules.get(file);
  if (known !== undefined) return known;
  const module = { own: new Map(), from: new Map(), all: [] };
  modules.set(file, module);
  for (const statement of statements(readFileSync(file, 'utf8'))) {
    const imported = /^(?:export|import) (?:type )?\{([\s\S]*)\} from '(\.[^']+)';$/.exec(statement);
    if (imported !== null) {
      const source = join(dirname(file), imported[2].replace(/\.js$/, '.d.ts'));
      for (const part of imported[1].split(',')) {
        const [name, as] = part
          .trim()
          .replace(/^type /, '')
          .split(' as ');
        if (name !== '') module.from.set(as ?? name, { file: source, name });
      }
      continue;
    }
    const all = /^export \* as (\w+) from '(\.[^']+)';$/.exec(statement);
    if (all !== null) {
      module.from.set(all[1], { file: join(dirname(file), all[2].replace(/\.js$/, '.d.ts')), name: null });
      continue;
    }
    const everything = /^export (?:type )?\* from '(\.[^']+)';$/.exec(statement);
    if (everything !== null) {
      const source = join(dirname(file), everything[1].replace(/\.js$/, '.d.ts'));
      module.all.push(source);
      for (const name of exported(source)) module.from.set(name, { file: source, name });
      continue;
    }
    const [, name] =
      /^(?:export )?(?:declare )?(?:abstract )?(?:class|interface|function|const|type|namespace) (\w+)/.exec(statement) ?? [];
    if (name !== undefined) module.own.set(name, [...(module.own.get(name) ?? []), statement]);
  }
  return module;
}

/** Declarations of a name; of a namespace, those of every name in it. */
function declarations(file, name) {
  const module = moduleAt(file);
  const own = module.own.get(name);
  if (own !== undefined) return own.map((each) => each.replace(/^export /, ''));
  const from = module.from.get(name);
  if (from === undefined) throw new Error(`${file} has no ${name}`);
  if (from.name !== null) return declarations(from.file, from.name);
  const names = exported(from.file);
  return [`namespace ${name} {`, ...names.flatMap((each) => declarations(from.file, each)).map((each) => each.replace(/^/gm, '    ')), '}'];
}

function exported(file) {
  const { own, from, all } = moduleAt(file);
  const names = [...own].filter(([, [first]]) => first.startsWith('export ')).map(([name]) => name);
  const text = readFileSync(file, 'utf8');
  const passed = [...from.keys()].filter((name) => new RegExp(`^export [^;]*\\b${name}\\b[^;]*from `, 'm').test(text));
  return [...new Set([...names, ...passed, ...all.flatMap(exported)])].sort();
}

const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } });
if (!existsSync(doors)) {
  console.error('dist/types is not there: run "npm run build"');
  process.exit(1);
}
mkdirSync(reports, { recursive: true });
for (const file of readdirSync(doors).filter((each) => each.endsWith('.d.ts'))) {
  const door = basename(file, '.d.ts');
  const path = join(doors, file);
  const parts = exported(path).map((name) => declarations(path, name).join('\n'));
  const text = `${door === 'index' ? 'vfio-ts' : `vfio-ts/${door}`}\n\n${parts.join('\n\n')}\n`;
  const report = join(reports, `${door}.txt`);
  if (!values.check) writeFileSync(report, text);
  else differences(report, text);
}

/** Prints lines that only one of the two has. */
function differences(report, text) {
  const before = existsSync(report) ? readFileSync(report, 'utf8') : '';
  if (before === text) return;
  process.exitCode = 1;
  const [old, now] = [before.split('\n'), text.split('\n')];
  console.error(`the public API differs from ${report}; "npm run api" writes it anew:`);
  for (const line of old.filter((each) => !now.includes(each))) console.error(`- ${line}`);
  for (const line of now.filter((each) => !old.includes(each))) console.error(`+ ${line}`);
}
