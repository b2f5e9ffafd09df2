/**
 * Resolves `import … from 'vfio-ts'` for files outside of this package and of any project that has
 * it installed: a user's first device or driver is rarely inside a checkout. Where the name
 * resolves without help, that result stands. TypeScript is loaded as ES modules, whether the
 * `package.json` around it says so or not.
 *
 * Files can be loaded again. Node keeps modules for good, by URL: a new round of loading needs new
 * URLs. The hook adds the round to the URL of each file that the first file imports, except
 * packages and this one.
 */
import { readFileSync } from 'node:fs';
import { register } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { isCompiled, packageFile } from '../sys/package-files.ts';

/**
 * A bundle of a program has its code elsewhere, and no such folder until it loads a user's file.
 */
const ownFolder = () => pathToFileURL(packageFile(isCompiled ? 'dist/' : 'src/')).href;

/**
 * From the name that a program imports to the URL of a door of package.json. The sources of doors
 * have the names of files in dist/.
 */
function doors(): Readonly<Record<string, string>> {
  const folder = ownFolder();
  const { exports } = JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { exports: Record<string, { default?: string }> };
  const named = Object.entries(exports).flatMap(([name, { default: file }]) => {
    const [, door] = /^\.\/dist\/(\w+)\.js$/.exec(file ?? '') ?? [];
    return door === undefined ? [] : [[`vfio-ts${name.slice(1)}`, `${folder}${isCompiled ? `${door}.js` : `doors/${door}.ts`}`]];
  });
  return Object.fromEntries(named) as Record<string, string>;
}

// The hook runs in the loader's own thread, which shares no modules with this one. The hook is
// therefore text.
const hook = () => `
const DOORS = ${JSON.stringify(doors())};
const OWN = ${JSON.stringify(ownFolder())};
let port;
export function initialize(data) {
  port = data.port;
}
export async function resolve(specifier, context, next) {
  let found;
  try {
    found = await next(specifier, context);
  } catch (error) {
    if (!Object.hasOwn(DOORS, specifier)) throw error;
    found = await next(DOORS[specifier], context);
  }
  const round = /[?&]round=(\\d+)/.exec(specifier)?.[1] ?? /[?&]round=(\\d+)/.exec(context.parentURL ?? '')?.[1];
  if (round !== undefined && found.url.startsWith('file:') && !found.url.startsWith(OWN) && !found.url.includes('/node_modules/')) {
    if (!/[?&]round=/.test(found.url)) found = { ...found, url: found.url + (found.url.includes('?') ? '&' : '?') + 'round=' + round };
    port.postMessage([Number(round), found.url]);
  }
  const typescript = found.url.startsWith('file:') && /\\.ts(\\?|$)/.test(found.url);
  return typescript ? { ...found, format: 'module' } : found;
}`;

let messages: MessagePort | null = null;
let round = 0;

let typescript: Promise<unknown> | undefined;

/**
 * Load the TypeScript loader: from then on a user's files may be TypeScript. Where the sources run
 * without a build, the loader that runs them has done this. Idempotent.
 *
 * @param near the first of these files: tsx may be installed in its project
 */
export async function loadTypeScript(near: string): Promise<void> {
  if (!isCompiled) return;
  const url = pathToFileURL(packageFile('bin/typescript.js'));
  url.searchParams.set('near', near);
  typescript ??= import(url.href);
  await typescript;
}

/**
 * Register the hook. Idempotent. The hook does not reach modules that a bundler or a test runner
 * loads.
 */
export function resolveOwnName(): void {
  if (messages !== null) return;
  const { port1, port2 } = new MessageChannel();
  messages = port1;
  port1.unref();
  register(`data:text/javascript,${encodeURIComponent(hook())}`, { data: { port: port2 }, transferList: [port2] });
}

/**
 * The module at `url` as it is now. `onFile` gets the path of each file that the module consists
 * of; some paths come a moment after the import.
 */
export async function importAnew(url: URL, onFile: (path: string) => void): Promise<object> {
  resolveOwnName();
  const mine = ++round;
  const listener = ([from, file]: [number, string]) => {
    // The TypeScript loader adds queries of its own, encoded or not.
    if (from === mine) onFile(fileURLToPath(file).split('?', 1)[0]!);
  };
  messages!.on('message', listener);
  messages!.unref();
  const fresh = new URL(url);
  fresh.searchParams.set('round', String(mine));
  try {
    return (await import(fresh.href)) as object;
  } finally {
    // Messages of the hook may still be in flight.
    setTimeout(() => messages!.off('message', listener), 1000).unref();
  }
}
