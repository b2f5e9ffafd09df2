/**
 * Lets a file outside of this package, and of any that has it installed, say `import … from 'vfio-ts'`: someone's first device or driver is
 * rarely inside our checkout. Where the name resolves by itself, that is what counts. TypeScript is loaded as ES modules, whatever the
 * `package.json` around it says or does not say.
 */
import { register } from 'node:module';

const frontDoor = new URL('../index.ts', import.meta.url).href;

// Runs in the loader's own thread, which shares no modules with this one: hence as text.
const hook = `
const FRONT_DOOR = ${JSON.stringify(frontDoor)};
export async function resolve(specifier, context, next) {
  let found;
  try {
    found = await next(specifier, context);
  } catch (error) {
    if (specifier !== 'vfio-ts') throw error;
    found = await next(FRONT_DOOR, context);
  }
  const typescript = found.url.startsWith('file:') && /\\.ts(\\?|$)/.test(found.url);
  return typescript ? { ...found, format: 'module' } : found;
}`;

let registered = false;

/** Idempotent. Does nothing for modules that are loaded by other means (a bundler, a test runner). */
export function resolveOwnName(): void {
  if (registered) return;
  registered = true;
  register(`data:text/javascript,${encodeURIComponent(hook)}`);
}
