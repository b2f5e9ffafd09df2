// Declarations of the package's doors, by tsc.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** @param folder gets doors/*.d.ts, and what they import */
export function declarations(folder) {
  const { status } = spawnSync(join(root, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.types.json', '--outDir', folder], {
    cwd: root,
    stdio: 'inherit',
  });
  if (status !== 0) throw new Error('tsc could not make the declarations');
  // A project may have neither lib.dom nor @types/node, and a target without Symbol.dispose.
  writeFileSync(join(folder, 'globals.d.ts'), '/// <reference lib="esnext.disposable" />\ninterface AbortSignal {}\n');
  // tsc leaves the endings of sources; a reader of declarations looks for .js, and finds .d.ts.
  for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.d.ts')) continue;
    const path = join(folder, file);
    const globals = dirname(file) === 'doors' ? '/// <reference path="../globals.d.ts" />\n' : '';
    writeFileSync(path, globals + readFileSync(path, 'utf8').replace(/((?:from|import\()\s*'\.[^']*)\.ts'/g, "$1.js'"));
  }
}
