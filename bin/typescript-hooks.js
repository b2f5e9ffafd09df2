// Runs in node's loader thread and turns TypeScript into JavaScript: by Node's own stripping of
// types where that suffices, otherwise by tsx, where tsx is installed. This module decides which
// files tsx may read to do so:
//
// - No cache. tsx keeps transformed code below the temporary directory, in a folder that another
//   user can make first.
// - For files of this package, nothing: no tsconfig.json, whatever the current directory holds.
// - For a file of the user's, the tsconfig.json of that file's own project: the nearest one above
//   the file.
// - From a directory that every user can write, such as /tmp, only the files that planted.js lets
//   through.
import { readFileSync, statSync } from 'node:fs';
import Module, { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isPlanted, refusePlanted } from './planted.js';

const OWN = new URL('../', import.meta.url).href;
const OWN_DIRECTORY = dirname(dirname(fileURLToPath(import.meta.url)));
const TYPESCRIPT = /\.m?tsx?$/;
/**
 * Errors of Node's own resolution that tsx may do better: './card' for card.ts, `paths` of
 * tsconfig.json.
 */
const NOT_FOUND = new Set(['ERR_MODULE_NOT_FOUND', 'ERR_UNSUPPORTED_DIR_IMPORT', 'ERR_PACKAGE_PATH_NOT_EXPORTED', 'MODULE_NOT_FOUND']);

/** Whether Node 22.13 or newer strips types. */
const strips = typeof Module.stripTypeScriptTypes === 'function';
const knowsUsing = canParse('{ using x = null; }');
const USING = /\busing\s+[\p{ID_Start}$_][\p{ID_Continue}$]*\s*[=:]|\bfor\s*\(\s*(?:await\s+)?using\b/u;

/** Hooks of tsx by tsconfig.json; `null` is for files without one. */
const transformers = new Map();
/** The tsconfig.json of a directory, or null. */
const projects = new Map();
/** The URL of tsx; null when it is not installed, undefined before the first look. */
let tsxUrl;
/** One tsx is loaded at a time, for the environment's sake. */
let lastStart = Promise.resolve();

// Node 20 loads tsx here or never: a hook that imports it waits for itself. `?near=FILE` names a
// file of the user's: tsx may be installed in its project.
const near = new URL(import.meta.url).searchParams.get('near') ?? fileURLToPath(import.meta.url);
if (!strips && findTsx(near) !== null) await transformer(null);

export async function resolve(specifier, context, next) {
  // As ES modules, whatever the package.json around them says.
  const asModule = async (specifier, context) => {
    const found = await next(specifier, context);
    return found.url.startsWith('file:') && TYPESCRIPT.test(new URL(found.url).pathname) ? { ...found, format: 'module' } : found;
  };
  const { parentURL } = context;
  if (parentURL?.startsWith('file:') !== true || isOwn(parentURL)) return await asModule(specifier, context);
  const parent = fileURLToPath(parentURL);
  const found = await resolveForUser(specifier, context, asModule, parent);
  if (found.url.startsWith('file:')) refusePlanted(fileURLToPath(found.url), specifier, parent);
  return found;
}

/** Where Node strips types, Node's own resolution counts first. */
async function resolveForUser(specifier, context, asModule, parent) {
  const byTsx = async () => (await transformer(tsconfigOf(parent))).resolve(specifier, context, asModule);
  if (!strips) return findTsx(parent) === null ? await asModule(specifier, context) : await byTsx();
  try {
    return await asModule(specifier, context);
  } catch (error) {
    if (!NOT_FOUND.has(error.code) || findTsx(parent) === null) throw error;
    return await byTsx();
  }
}

export async function load(url, context, next) {
  if (!url.startsWith('file:')) return await next(url, context);
  const file = fileURLToPath(url);
  const isTypeScript = TYPESCRIPT.test(file);
  const stripped = isTypeScript && strips ? strip(file) : { why: `Node ${process.versions.node} does not load TypeScript` };
  if (stripped.source !== undefined) return { format: 'module', source: stripped.source, shortCircuit: true };
  if ((strips && !isTypeScript) || (!isTypeScript && findTsx(file) === null)) return await next(url, context);
  if (findTsx(file) !== null) return await (await transformer(isOwn(url) ? null : tsconfigOf(file))).load(url, context, next);
  throw Object.assign(new Error(`${stripped.why}, and tsx, which does, is not installed`), { code: 'ERR_VFIO_NEEDS_TSX', file });
}

/** JavaScript with the types blanked out, or the reason why that is not enough. */
function strip(file) {
  const text = readFileSync(file, 'utf8');
  if (/\.m?tsx$/.test(file)) return { why: `Node ${process.versions.node} does not load JSX` };
  if (!knowsUsing && USING.test(text)) return { why: `Node ${process.versions.node} does not know 'using'` };
  const { emitWarning } = process;
  process.emitWarning = () => {}; // that the function is experimental
  try {
    return { source: Module.stripTypeScriptTypes(text) };
  } catch (error) {
    return {
      why: `Node ${process.versions.node} only strips types: ${error.message.split('\n').find((line) => /\w/.test(line)) ?? error.code}`,
    };
  } finally {
    process.emitWarning = emitWarning;
  }
}

/** The URL of tsx: of this package, else of the project of `file`; null when neither has it. */
function findTsx(file) {
  if (tsxUrl !== undefined) return tsxUrl;
  for (const from of new Set([fileURLToPath(import.meta.url), file])) {
    let found;
    try {
      found = createRequire(from).resolve('tsx/esm');
    } catch {
      continue; // not there
    }
    refusePlanted(found, 'tsx/esm', from);
    tsxUrl = pathToFileURL(found).href;
    return tsxUrl;
  }
  tsxUrl = null;
  return null;
}

/**
 * tsx's hooks for one tsconfig.json. A query makes another module of them, with settings of its
 * own.
 */
function transformer(tsconfig) {
  let hooks = transformers.get(tsconfig);
  if (hooks === undefined) {
    const number = transformers.size;
    hooks = lastStart.then(() => startTsx(number, tsconfig));
    lastStart = hooks.catch(() => {});
    transformers.set(tsconfig, hooks);
  }
  return hooks;
}

// tsx reads both variables while it is loaded: the place of its cache, and the place where
// `tsx watch` would listen. The environment is that of this thread alone.
async function startTsx(number, tsconfig) {
  const { TMPDIR } = process.env;
  process.env.TSX_DISABLE_CACHE = '1';
  process.env.TMPDIR = '/dev/null';
  try {
    const tsx = await import(`${tsxUrl}?project=${number}`);
    await tsx.initialize({ tsconfig: tsconfig ?? false });
    return tsx;
  } finally {
    if (TMPDIR === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = TMPDIR;
  }
}

/**
 * The nearest tsconfig.json above `file`; for a file of an installed package, not beyond that
 * package.
 */
function tsconfigOf(file) {
  const directory = dirname(file);
  if (directory.split('/').includes('node_modules')) return null;
  let found = projects.get(directory);
  if (found === undefined) {
    found = findUp(directory);
    projects.set(directory, found);
  }
  return found;
}

function findUp(directory) {
  for (let at = directory; ; at = dirname(at)) {
    if (at === OWN_DIRECTORY) return null;
    const candidate = join(at, 'tsconfig.json');
    if (statSync(candidate, { throwIfNoEntry: false })?.isFile() === true && !isPlanted(at, candidate)) return candidate;
    if (at === dirname(at)) return null;
  }
}

function canParse(text) {
  try {
    new Function(text);
    return true;
  } catch {
    return false;
  }
}

function isOwn(url) {
  return url.startsWith(OWN) && !url.startsWith(`${OWN}examples/`);
}
