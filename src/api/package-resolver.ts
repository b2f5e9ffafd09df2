/**
 * Lets a file outside of this package, and of any that has it installed, say `import … from
 * 'vfio-ts'`: someone's first device or driver is rarely inside our checkout. Where the name
 * resolves by itself, that is what counts. TypeScript is loaded as ES modules, whatever the
 * `package.json` around it says or does not say.
 *
 * Files can be loaded anew: node keeps modules for good, by URL, so a new round of loading is
 * another URL, and the hook hands it on to whatever the file imports, except packages and this one.
 */
import { readFileSync } from 'node:fs';
import { register } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { isCompiled, packageFile } from '../sys/package-files.ts';

const folder = pathToFileURL(packageFile(isCompiled ? 'dist/' : 'src/')).href;

/**
 * By the name that a program imports: the URL of a door of package.json. Sources of doors have the
 * names of dist/.
 */
function doors(): Readonly<Record<string, string>> {
  const { exports } = JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { exports: Record<string, { default?: string }> };
  const named = Object.entries(exports).flatMap(([name, { default: file }]) => {
    const [, door] = /^\.\/dist\/(\w+)\.js$/.exec(file ?? '') ?? [];
    return door === undefined ? [] : [[`vfio-ts${name.slice(1)}`, `${folder}${isCompiled ? `${door}.js` : `doors/${door}.ts`}`]];
  });
  return Object.fromEntries(named) as Record<string, string>;
}

// Runs in the loader's own thread, which shares no modules with this one: hence as text.
const hook = () => `
const DOORS = ${JSON.stringify(doors())};
const OWN = ${JSON.stringify(folder)};
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
 * Idempotent: from now on files of a user's may be TypeScript. Where the sources run as they are,
 * the loader that runs them has done this.
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
 * Idempotent. Does nothing for modules that are loaded by other means (a bundler, a test runner).
 */
export function resolveOwnName(): void {
  if (messages !== null) return;
  const { port1, port2 } = new MessageChannel();
  messages = port1;
  port1.unref();
  register(`data:text/javascript,${encodeURIComponent(hook())}`, { data: { port: port2 }, transferList: [port2] });
}

/**
 * The module at `url` as it is now. `onFile` is told the path of every file that it is made of,
 * some of them a moment later.
 */
export async function importAnew(url: URL, onFile: (path: string) => void): Promise<object> {
  resolveOwnName();
  const mine = ++round;
  const listener = ([from, file]: [number, string]) => {
    // The TypeScript loader has queries of its own, encoded or not.
    if (from === mine) onFile(fileURLToPath(file).split('?', 1)[0]!);
  };
  messages!.on('message', listener);
  messages!.unref();
  const fresh = new URL(url);
  fresh.searchParams.set('round', String(mine));
  try {
    return (await import(fresh.href)) as object;
  } finally {
    // What the hook told is on its way still.
    setTimeout(() => messages!.off('message', listener), 1000).unref();
  }
}
