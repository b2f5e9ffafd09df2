// Makes dist/ of src/: JavaScript and its maps by esbuild, declarations by tsc, man pages of the
// table of commands. Makes the addon for this computer of native/, too, unless it is there.
//
//   node tools/build.js [--no-types]
//
// Library and command are built together and split into chunks that they share, so that a card.ts
// that imports 'vfio-ts' and the command that loads it have one VfioError and one registry. `using`
// is lowered, since Node 20 and 22 do not know it.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { declarations } from './declarations.js';
import { writeManPages } from './man.js';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

const doors = readdirSync(join(root, 'src/doors')).map((file) => [basename(file, '.ts'), `src/doors/${file}`]);

/**
 * Files of dist/ that something outside names: the doors of package.json, the command, the maker
 * of its man pages, the code of threads, and the drivers that the demo starts as processes.
 */
const entryPoints = {
  ...Object.fromEntries(doors),
  cli: 'src/cli/main.ts',
  'man-pages': 'src/cli/man-pages.ts',
  thread: 'src/api/threads/thread-entry.ts',
  'demo/disk-worker': 'src/cli/demo/disk-worker.ts',
  'demo/edu-worker': 'src/cli/demo/edu-worker.ts',
  'demo/moving-worker': 'src/cli/demo/moving-worker.ts',
  'demo/tenant-worker': 'src/cli/demo/tenant-worker.ts',
};

/**
 * The folder that is built, beside dist/. It takes the place of dist/ in one step, so a command
 * that starts meanwhile finds all files of one build.
 */
const unfinished = join(root, `dist.${process.pid}.tmp`);

/** commander is CommonJS, and output of ES modules has no `require`. */
const builtinsOfCommonJs = {
  name: 'builtins of CommonJS',
  setup({ onLoad }) {
    onLoad({ filter: /\/node_modules\/commander\/.*\.js$/ }, async ({ path }) => ({
      contents: (await readFile(path, 'utf8')).replace(/\brequire\('(node:\w+)'\)/g, "globalThis.process.getBuiltinModule('$1')"),
    }));
  },
};

/** The licences of the packages in the output ask for their text. */
function licences(inputs) {
  const packages = new Set(inputs.flatMap((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? []));
  const texts = [...packages].sort().map((name) => {
    const folder = join(root, 'node_modules', name);
    const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
    return `${name}\n\n${readFileSync(join(folder, file), 'utf8').trim()}\n`;
  });
  writeFileSync(join(unfinished, 'LICENSES.txt'), `dist/ contains code of these packages.\n\n${texts.join('\n---\n\n')}`);
}

async function javascript() {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints,
    outdir: unfinished,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    // Dependencies are part of the output: a bundled command starts faster, and projects install
    // less. yaml's build for browsers is ES modules, which need no `require` of Node.
    alias: { yaml: join(root, 'node_modules/yaml/browser/index.js') },
    plugins: [builtinsOfCommonJs],
    legalComments: 'none',
    metafile: true,
    sourcemap: true,
    sourcesContent: false,
    chunkNames: 'chunks/[name]-[hash]',
    // src/sys/addon-file.ts loads an addon of these C sources only.
    define: { NATIVE_SOURCES: JSON.stringify(createRequire(import.meta.url)('../native/addon-file.cjs').digest()) },
    logLevel: 'warning',
  });
  licences(Object.keys(metafile.inputs));
}

const { values } = parseArgs({ options: { 'no-types': { type: 'boolean', default: false } } });
try {
  await javascript();
  await writeManPages(unfinished);
  if (!values['no-types']) declarations(join(unfinished, 'types'));
  const before = `${unfinished}.old`;
  try {
    renameSync(join(root, 'dist'), before);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  renameSync(unfinished, join(root, 'dist'));
  rmSync(before, { recursive: true, force: true });
} finally {
  rmSync(unfinished, { recursive: true, force: true });
}

const { status } = spawnSync(process.execPath, [join(root, 'native/build.js')], { stdio: 'inherit' });
if (status !== 0) process.exitCode = 1;
