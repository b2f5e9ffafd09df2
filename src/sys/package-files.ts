/** Files of this package, wherever the code that asks runs: as sources below src/, or compiled, in dist/ and its chunks. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The folder with package.json, as a URL that ends in `/`. */
const root = rootAbove(new URL('./', import.meta.url));

function rootAbove(folder: URL): URL {
  for (let at = folder; ; at = new URL('../', at)) {
    if (existsSync(new URL('package.json', at))) return at;
    if (at.pathname === '/') throw new Error(`no package.json is above ${fileURLToPath(folder)}: the package is not whole`);
  }
}

/** The path of a file of the package. @param name  from the package's folder on, such as `native/vfio_ts.node` */
export function packageFile(name: string): string {
  return fileURLToPath(new URL(name, root));
}

/** Whether this code is compiled JavaScript, as in the installed package; false where a test runner loads the sources. */
export const isCompiled = import.meta.url.endsWith('.js');

/** The version that `package.json` states. */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as { version: string }).version;
}
