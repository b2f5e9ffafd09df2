// Builds native/vfio_ts.node with `cc`: the package's install script, and the first load when scripts were off.
// No download, no build system: a few C files, and the Node-API headers that came with node or with the node-api-headers package.
//
//   node native/build.js [--output FILE] [--headers DIRECTORY]
import { spawnSync } from 'node:child_process';
import { existsSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const here = dirname(fileURLToPath(import.meta.url));
const sources = ['vfio_ts.c', 'memory.c', 'socket.c', 'watch.c', 'file.c', 'pages.c', 'crc.c', 'foreign.c', 'signal.c'].map((name) =>
  join(here, name),
);

/** Directories that may hold node_api.h, best first. */
function headerDirectories() {
  const directories = [join(dirname(process.execPath), '..', 'include', 'node')];
  try {
    directories.push(createRequire(import.meta.url)('node-api-headers').include_dir);
  } catch {
    // Not installed: node's own headers have to do.
  }
  return directories;
}

/** Compile into `output`, which appears whole or not at all: several processes may build at once. Throws what is missing and how to get it. */
function build(output, headers) {
  const include = headers.find((directory) => existsSync(join(directory, 'node_api.h')));
  if (include === undefined) {
    throw new Error(`node_api.h is in none of ${headers.join(', ')}; run "npm install node-api-headers"`);
  }
  const compiler = process.env.CC || 'cc';
  const unfinished = `${output}.${process.pid}.tmp`;
  // nodelete: a worker that ends unloads its addons, and a signal handler is in this one.
  const flags = [
    '-shared',
    '-fPIC',
    '-pthread',
    '-O2',
    '-std=gnu11',
    '-Wall',
    '-Wextra',
    '-fvisibility=hidden',
    '-Wl,-z,nodelete',
    '-isystem',
    include,
  ];
  const result = spawnSync(compiler, [...flags, '-o', unfinished, ...sources], { encoding: 'utf8' });
  if (result.error !== undefined) {
    throw new Error(
      `the C compiler "${compiler}" cannot be run (${result.error.code}); install one ("apt-get install gcc libc6-dev", or set CC) and run ` +
        '"node native/build.js". Without it ("npm ci --ignore-scripts") everything works but eventfds and shared memory',
    );
  }
  if (result.status !== 0) {
    rmSync(unfinished, { force: true });
    throw new Error(`"${compiler}" could not build native/*.c:\n${result.stderr}`);
  }
  if (result.stderr !== '') console.error(result.stderr);
  renameSync(unfinished, output);
  return include;
}

const { values } = parseArgs({ options: { output: { type: 'string' }, headers: { type: 'string' } } });
if (process.platform !== 'linux') {
  console.log(`vfio-ts: the addon is for Linux; nothing built on ${process.platform}`);
} else {
  try {
    const started = performance.now();
    const output = values.output ?? join(here, 'vfio_ts.node');
    const include = build(output, values.headers === undefined ? headerDirectories() : [values.headers]);
    console.log(`vfio-ts: built ${output} in ${Math.round(performance.now() - started)} ms (headers: ${include})`);
  } catch (error) {
    console.error(`vfio-ts: ${error.message}`);
    process.exitCode = 1;
  }
}
