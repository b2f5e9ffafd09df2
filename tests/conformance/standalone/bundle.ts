/** Bundles of conformance cases that run with nothing but Node, and the package's addon. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, join } from 'node:path';
import { build } from 'esbuild';

const root = join(import.meta.dirname, '../../..');

/** The digest of the C sources that the bundle belongs to, as tools/build.js has it. */
const digest = () => (createRequire(import.meta.url)('../../../native/addon-file.cjs') as { digest(): string }).digest();

/**
 * Bundles a TypeScript file of the tests with all that it imports. Cases run when the file calls
 * `runCases` of this folder's vitest.ts. The bundle is an ES module; it finds the addon from any
 * folder inside a package of this name.
 *
 * @param entry path of the file
 * @param outfile path of the bundle
 * @param external packages that are installed where the bundle runs
 */
export async function bundle(entry: string, outfile: string, external: readonly string[] = []): Promise<void> {
  await build({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile,
    bundle: true,
    external: [...external],
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    alias: {
      vitest: join(import.meta.dirname, 'vitest.ts'),
      yaml: join(root, 'node_modules/yaml/browser/index.js'),
    },
    define: { NATIVE_SOURCES: JSON.stringify(digest()) },
    // A package in CommonJS asks for a `require`, which ES modules lack.
    banner: {
      js: "import { createRequire as createRequireOfBundle } from 'node:module'; const require = createRequireOfBundle(import.meta.url);",
    },
    logLevel: 'warning',
  });
}

/** A folder inside the checkout for bundles; goes when it is disposed. */
export class BundleFolder implements Disposable {
  readonly path: string;

  constructor() {
    const cache = join(root, '.cache');
    mkdirSync(cache, { recursive: true });
    this.path = mkdtempSync(join(cache, 'bundle-'));
  }

  /** Bundles `entry`. Returns the path of the bundle. */
  async add(entry: string, name = `${basename(entry, '.ts')}.mjs`): Promise<string> {
    const file = join(this.path, name);
    await bundle(entry, file);
    return file;
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
