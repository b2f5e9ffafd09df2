// Runs in node's loader thread. tsx turns TypeScript into JavaScript, and this module decides which
// files tsx may read to do so:
//
// - No cache. tsx keeps transformed code below the temporary directory, in a folder that another
//   user can make first.
// - For files of this package, nothing: no tsconfig.json, whatever the current directory holds.
// - For a file of the user's, the tsconfig.json of that file's own project: the nearest one above
//   the file.
// - From a directory that every user can write, such as /tmp, only the files that planted.js lets
//   through.
import { statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isPlanted, refusePlanted } from './planted.js';

const OWN = new URL('../', import.meta.url).href;
const OWN_DIRECTORY = dirname(dirname(fileURLToPath(import.meta.url)));
const TSX = pathToFileURL(createRequire(import.meta.url).resolve('tsx/esm')).href;
const TYPESCRIPT = /\.m?tsx?$/;

/** Hooks of tsx by tsconfig.json; `null` is for files without one. */
const transformers = new Map();
/** The tsconfig.json of a directory, or null. */
const projects = new Map();

// tsx reads both variables while it is loaded: the place of its cache, and the place where
// `tsx watch` would listen. The environment is that of this thread alone.
process.env.TSX_DISABLE_CACHE = '1';
const { TMPDIR } = process.env;
process.env.TMPDIR = '/dev/null';
await transformer(null);
if (TMPDIR === undefined) delete process.env.TMPDIR;
else process.env.TMPDIR = TMPDIR;

export async function resolve(specifier, context, next) {
  // As ES modules, whatever the package.json around them says.
  const asModule = async (specifier, context) => {
    const found = await next(specifier, context);
    return found.url.startsWith('file:') && TYPESCRIPT.test(new URL(found.url).pathname) ? { ...found, format: 'module' } : found;
  };
  const { parentURL } = context;
  if (parentURL?.startsWith('file:') !== true || isOwn(parentURL)) return await asModule(specifier, context);
  const parent = fileURLToPath(parentURL);
  const { resolve } = await transformer(tsconfigOf(parent));
  const found = await resolve(specifier, context, asModule);
  if (found.url.startsWith('file:')) refusePlanted(fileURLToPath(found.url), specifier, parent);
  return found;
}

export async function load(url, context, next) {
  if (!url.startsWith('file:')) return await next(url, context);
  const { load } = await transformer(isOwn(url) ? null : tsconfigOf(fileURLToPath(url)));
  return await load(url, context, next);
}

/**
 * tsx's hooks for one tsconfig.json. A query makes another module of them, with settings of its
 * own.
 */
function transformer(tsconfig) {
  let hooks = transformers.get(tsconfig);
  if (hooks === undefined) {
    hooks = import(`${TSX}?project=${transformers.size}`).then(async (tsx) => {
      await tsx.initialize({ tsconfig: tsconfig ?? false });
      return tsx;
    });
    transformers.set(tsconfig, hooks);
  }
  return hooks;
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

const isOwn = (url) => url.startsWith(OWN) && !url.startsWith(`${OWN}examples/`);
