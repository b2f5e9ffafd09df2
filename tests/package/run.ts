/**
 * `npm run test:package`: packs the package, installs the tarball without install scripts into
 * fresh projects outside of the repository, and uses it there as its users do, on every version of
 * Node that it is for and without a C compiler. Ends with status 1 when a check fails.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { checkArm64 } from './arm64.ts';
import { Checks, run } from './checks.ts';
import { nodes, root } from './nodes.ts';
import { Project } from './projects.ts';
import { checkRefusal, checkSamples, typeSamples } from './readme.ts';
import { checkContents, pack } from './tarball.ts';
import { checkTypes } from './types.ts';

/** The installed copy, and the one of this repository. */
const twoCopies = `
  import { VfioError } from 'vfio-ts';
  import { NvmeError } from 'vfio-ts/nvme';
  const other = await import(${JSON.stringify(pathToFileURL(join(root, 'dist/index.js')).href)});
  const error = new other.VfioError('EBUSY', 'text');
  console.log(other.VfioError !== VfioError, error instanceof VfioError, !(error instanceof NvmeError));
`;

const checks = new Checks();
const place = mkdtempSync(join(tmpdir(), 'vfio-ts-package-'));
try {
  const tarball = pack(place, checks);
  checkContents(tarball, checks);
  checks.runs('publint has no complaint', run('npx', ['publint', 'run', tarball, '--strict'], root), 'All good!');
  // Of one kind, ES modules: require() loads them on each Node, and TypeScript before 5.8 does not
  // know that.
  checks.runs('arethetypeswrong has no complaint', run('npx', ['attw', tarball, '--profile', 'esm-only'], root), '"vfio-ts"');
  checks.runs('the public API is the reported one', run('node', ['tools/api.js', '--check'], root));
  checkArm64(checks);

  const plain = new Project(place, 'plain', tarball, ['esbuild'], checks).copy('esm').copy('cjs');
  const bundled = bundles(plain, 'main', plain.folder);
  const alone = bundles(plain, 'alone', place);
  typeSamples(plain);
  plain.write('copies.mjs', twoCopies);
  const tools = new Project(place, 'tools', tarball, ['typescript', '@types/node', 'tsx', 'vitest'], checks)
    .copy('typescript')
    .copy('vitest');
  typeSamples(tools);
  checkTypes(tools, checks);
  for (const node of nodes()) {
    const on = (project: Project, what: string) => `${project.name}: Node ${node.major}: ${what}`;
    checks.runs(on(plain, 'ES modules'), plain.node(node, 'main.js'), '42 1n true true true EBUSY');
    checks.runs(on(plain, 'require()'), plain.node(node, 'main.cjs'), '7n EBUSY', 'ERR_PACKAGE_PATH_NOT_EXPORTED');
    for (const file of bundled) checks.runs(on(plain, `esbuild's ${basename(file)}`), plain.node(node, file), '42 1n true true true EBUSY');
    for (const file of alone) {
      checks.runs(
        on(plain, `esbuild's ${basename(file)}, away from the package`),
        plain.node(node, file),
        '42 ENOENT',
        'npm install vfio-ts',
      );
    }
    checks.runs(on(plain, 'two copies of the package'), plain.node(node, 'copies.mjs'), 'true true true');
    checks.runs(on(plain, 'vfio --version'), plain.vfio(node, '--version'), '.');
    if (node.strips && node.knowsUsing) checkSamples(plain, node, [], checks);
    else checkRefusal(plain, node, checks);
    checkSamples(tools, node, ['--import', 'tsx'], checks);
    const typescript = node.strips ? [] : ['--import', 'tsx'];
    checks.runs(on(tools, 'TypeScript'), tools.node(node, ...typescript, 'main.ts'), '42');
    checks.runs(on(tools, 'vitest'), tools.node(node, 'node_modules/vitest/vitest.mjs', 'run', 'card.spec.ts'), '1 passed');
  }
} finally {
  rmSync(place, { recursive: true });
}
console.log(checks.summary());
if (checks.failed > 0) process.exitCode = 1;

/** Bundles in `folder` of a program in plain JavaScript: paths of their files. */
function bundles(project: Project, program: string, folder: string): string[] {
  return ['esm', 'cjs'].map((format) => {
    const file = join(folder, `${program}.bundle.${format === 'esm' ? 'mjs' : 'cjs'}`);
    const args = [`${program}.js`, '--bundle', '--platform=node', `--format=${format}`, `--outfile=${file}`, '--log-level=error'];
    checks.runs(`${project.name}: esbuild makes ${basename(file)}`, run('node_modules/.bin/esbuild', args, project.folder));
    return file;
  });
}
