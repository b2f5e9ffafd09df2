/**
 * Files of this package, wherever the code that asks runs: as sources below src/, compiled in dist/
 * and its chunks, or in the bundle that a bundler made of a user's program.
 */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { VfioError } from '../base/errno.ts';

/**
 * Digest of the C sources that dist/ was built with. tools/build.js defines it; sources that run as
 * they are have none.
 */
declare const NATIVE_SOURCES: string | undefined;

/**
 * Whether this code is compiled JavaScript, as in the installed package; false where a test runner
 * loads the sources.
 */
export const isCompiled = typeof NATIVE_SOURCES === 'string';

/** Digest of the C sources that this JavaScript belongs to; null where it runs from sources. */
export const nativeSources: string | null = typeof NATIVE_SOURCES === 'string' ? NATIVE_SOURCES : null;

/** This module's URL. A bundle in CommonJS has no `import.meta.url`. */
export const moduleUrl: string = import.meta.url ?? pathToFileURL(__filename).href;

let root: string | undefined;

/**
 * The path of a file of the package.
 * @param name from the package's folder on, such as `bin/vfio.js`
 */
export function packageFile(name: string): string {
  root ??= packageFolder();
  return join(root, name);
}

/** The version that `package.json` states. */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { version: string }).version;
}

/**
 * The nearest package of this name above this module; for a bundle, the one that is installed where
 * the bundle is.
 * @throws VfioError ENOENT when there is none
 */
function packageFolder(): string {
  const here = fileURLToPath(moduleUrl);
  for (let at = dirname(here); at !== dirname(at); at = dirname(at)) {
    if (isThisPackage(join(at, 'package.json'))) return at;
  }
  try {
    return dirname(createRequire(moduleUrl).resolve('vfio-ts/package.json'));
  } catch {
    throw new VfioError('ENOENT', `${here} needs files of the package vfio-ts that are not JavaScript, and finds no such package`, {
      fix: 'Put the package into a node_modules folder above the bundle: "npm install vfio-ts".',
    });
  }
}

function isThisPackage(file: string): boolean {
  return existsSync(file) && (JSON.parse(readFileSync(file, 'utf8')) as { name?: string }).name === 'vfio-ts';
}
