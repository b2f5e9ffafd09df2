/** Makes the tarball as `npm publish` would, and looks at the files in it. */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Checks, run } from './checks.ts';
import { root } from './nodes.ts';

/** The other processor's cross compiler, without which its addon cannot be made here. */
export const hasCrossCompiler =
  run(process.arch === 'x64' ? 'aarch64-linux-gnu-gcc' : 'x86_64-linux-gnu-gcc', ['--version'], root).status === 0;

/** @returns the tarball's path */
export function pack(into: string, checks: Checks): string {
  mkdirSync(into, { recursive: true });
  // Without the cross compiler `prepack` fails, so its other steps run here.
  const scripts = hasCrossCompiler ? [] : ['--ignore-scripts'];
  if (!hasCrossCompiler) {
    console.log(`WARNING: no cross compiler: the addon of the other processor is SKIPPED`);
    checks.runs('dist/ is built', run('node', ['tools/build.js'], root));
  }
  const packed = run('npm', ['pack', '--json', ...scripts, '--pack-destination', into], root);
  checks.runs('npm pack', packed);
  const { name, version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { name: string; version: string };
  return join(into, `${name}-${version}.tgz`);
}

/** Files of the tarball, below `package/`. */
export function listed(tarball: string): string[] {
  return run('tar', ['tzf', tarball], root)
    .text.trim()
    .split('\n')
    .map((line) => line.replace(/^package\//, ''));
}

/** Files that the tarball must hold, and files that it must not. */
export function checkContents(tarball: string, checks: Checks): void {
  const files = listed(tarball);
  // "vfio new" copies the tests of templates/ into projects.
  const strange = files.filter(
    (file) => /\.test\.|\.property\.|(^|\/)(tests|fixtures|fake-|kit\/fake)/.test(file) && !/^(dist\/types|templates)\//.test(file),
  );
  checks.note('the tarball has no tests or fixtures', strange.length === 0 ? null : strange.join('\n'));
  const arches = hasCrossCompiler ? ['x64', 'arm64'] : [process.arch];
  const needed = [
    'dist/index.js',
    'dist/types/doors/index.d.ts',
    'native/addon-file.cjs',
    'native/build.js',
    'src/doors/index.ts',
    'LICENSE',
  ];
  const missing = [...needed, ...arches.map((arch) => `prebuilds/linux-${arch}/node.napi.glibc.node`)].filter(
    (file) => !files.includes(file),
  );
  checks.note('the tarball has doors, declarations, sources and addons', missing.length === 0 ? null : missing.join('\n'));
  const dead = files.filter((file) => file.endsWith('.md')).flatMap((file) => deadLinks(file, files));
  checks.note('no link of a document in the tarball is dead', dead.length === 0 ? null : dead.join('\n'));
}

function deadLinks(document: string, files: readonly string[]): string[] {
  const text = readFileSync(join(root, document), 'utf8').replace(/^```[\s\S]*?^```/gm, '');
  const folder = new URL(document, 'file:///');
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, link]) => {
    if (/^[a-z]+:|^#/.test(link!)) return [];
    const path = new URL(link!, folder).pathname.slice(1).replace(/\/$/, '');
    const there = files.some((file) => file === path || file.startsWith(`${path}/`));
    return there ? [] : [`${document}: ${link}${existsSync(join(root, path)) ? ' (in the repository alone)' : ''}`];
  });
}
