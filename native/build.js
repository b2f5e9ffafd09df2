// Builds the addon with `cc`: no download, no build system, a few C files and the Node-API headers
// that came with node or with the node-api-headers package.
//
//   node native/build.js [--arch x64 --arch arm64] [--output FILE] [--headers DIRECTORY]
//
// Without --output the addon goes to prebuilds/, and an addon that is there and made of the same
// sources stays. The installed package calls this file with --output when prebuilds/ has no addon
// for the computer.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const require = createRequire(import.meta.url);
const { MARK, sources, digest, libc, prebuilt, isOf } = require('./addon-file.cjs');
const here = dirname(fileURLToPath(import.meta.url));

/** By processor: the cross compiler, and the Debian package that has it. */
const cross = {
  x64: ['x86_64-linux-gnu-gcc', 'gcc-x86-64-linux-gnu'],
  arm64: ['aarch64-linux-gnu-gcc', 'gcc-aarch64-linux-gnu'],
};

/** Directories that may hold node_api.h, best first. */
function headerDirectories() {
  const directories = [join(dirname(process.execPath), '..', 'include', 'node')];
  try {
    directories.push(require('node-api-headers').include_dir);
  } catch {
    // Not installed: node's own headers have to do.
  }
  return directories;
}

/** The compiler for a processor, and the words that say how to get one. */
function compilerFor(arch) {
  if (arch === process.arch)
    return [process.env.CC || 'cc', 'install one ("apt-get install gcc libc6-dev" or "apk add gcc musl-dev"), or set CC'];
  if (cross[arch] === undefined)
    throw new Error(`there is no addon for the processor "${arch}", only for ${Object.keys(cross).join(' and ')}`);
  const [command, debian] = cross[arch];
  return [command, `install it ("apt-get install ${debian}")`];
}

/**
 * Compile into `output`, which appears whole or not at all: several processes may build at once.
 */
function build(output, arch, headers) {
  const include = headers.find((directory) => existsSync(join(directory, 'node_api.h')));
  if (include === undefined) {
    throw new Error(`node_api.h is in none of ${headers.join(', ')}; run "npm install node-api-headers"`);
  }
  const [compiler, remedy] = compilerFor(arch);
  const unfinished = `${output}.${process.pid}.tmp`;
  // nodelete: a worker that ends unloads its addons, and a signal handler is in this addon.
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
    '-s',
    `-DVFIO_TS_SOURCES="${MARK}${digest()}"`,
    '-isystem',
    include,
  ];
  const files = sources()
    .filter((name) => name.endsWith('.c'))
    .map((name) => join(here, name));
  const result = spawnSync(compiler, [...flags, '-o', unfinished, ...files], { encoding: 'utf8' });
  if (result.error !== undefined) {
    throw new Error(
      `the C compiler "${compiler}" cannot be run (${result.error.code}); ${remedy}. Without the addon everything works but eventfds, ` +
        'sockets and shared memory ("npm ci --ignore-scripts" builds nothing)',
    );
  }
  if (result.status !== 0) {
    rmSync(unfinished, { force: true });
    throw new Error(`"${compiler}" could not build native/*.c:\n${result.stderr}`);
  }
  if (result.stderr !== '') console.error(result.stderr);
  renameSync(unfinished, output);
}

/** Into prebuilds/, unless the addon that is there is made of these sources. */
function prebuild(arch, headers) {
  const output = join(here, '..', prebuilt(arch, arch === process.arch ? libc() : 'glibc'));
  if (isOf(output, digest())) return;
  mkdirSync(dirname(output), { recursive: true });
  build(output, arch, headers);
  console.log(`vfio-ts: built ${output}`);
}

const { values } = parseArgs({
  options: { arch: { type: 'string', multiple: true }, output: { type: 'string' }, headers: { type: 'string' } },
});
if (process.platform !== 'linux') {
  console.log(`vfio-ts: the addon is for Linux; nothing built on ${process.platform}`);
} else {
  try {
    const headers = values.headers === undefined ? headerDirectories() : [values.headers];
    const { arch: [arch = process.arch, ...others] = [], output } = values;
    if (output === undefined) for (const each of [arch, ...others]) prebuild(each, headers);
    else build(output, arch, headers);
  } catch (error) {
    console.error(`vfio-ts: ${error.message}`);
    process.exitCode = 1;
  }
}
