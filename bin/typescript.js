// Loads TypeScript in this process and in the workers that it starts: `node --import
// ./bin/typescript.js file.ts`. The command loads it before it loads a user's file.
import Module, { register } from 'node:module';
import { isAbsolute } from 'node:path';
import { refusePlanted } from './planted.js';

try {
  process.cwd();
} catch {
  // The loader's thread would fail without a message, and this thread would wait for it.
  process.stderr.write('vfio: ENOENT: the current directory is not there any more\n  fix: Go to one that is there.\n');
  process.exit(1);
}

process.setSourceMapsEnabled(true);
register(`./typescript-hooks.js${new URL(import.meta.url).search}`, import.meta.url);

// `require` in CommonJS does not call the hooks.
const { _resolveFilename: resolveFilename } = Module;
Module._resolveFilename = function (request, parent, ...rest) {
  const found = resolveFilename.call(this, request, parent, ...rest);
  if (parent?.filename != null && isAbsolute(found)) refusePlanted(found, request, parent.filename);
  return found;
};
