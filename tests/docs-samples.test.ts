/**
 * The samples of docs/mediation.md and docs/vm-references.md, typed in as they stand, print the
 * output that the pages show.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { expect, it } from 'vitest';

const root = join(import.meta.dirname, '..');

it.each(['mediation.md', 'vm-references.md'])('docs/%s: each sample runs, and prints the output that the page shows', (page) => {
  const document = readFileSync(join(root, 'docs', page), 'utf8');
  // Inside the package: samples import it by its name.
  mkdirSync(join(root, '.cache'), { recursive: true });
  const folder = mkdtempSync(join(root, '.cache/docs-'));
  try {
    for (const [, text, file] of document.matchAll(/^```ts\n(\/\/ ([\w-]+\.ts)\n[\s\S]*?)^```$/gm))
      writeFileSync(join(folder, file!), text!);
    const shown = [...document.matchAll(/^```console\n\$ npx tsx ([\w-]+\.ts)\n([\s\S]*?)^```$/gm)];
    expect(shown.length).toBe(1);
    for (const [, file, wanted] of shown) {
      const sample = `.cache/${basename(folder)}/${file}`;
      const { stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', sample], { cwd: root, encoding: 'utf8' });
      expect(stdout, stderr).toBe(wanted);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
