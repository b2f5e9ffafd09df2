/**
 * Samples of the pages in docs/: a fenced block that begins with a file's name is that file. The
 * files stand under strict, and each page's commands print the output that the page shows.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';

const root = join(import.meta.dirname, '..');

/** Pages with samples, and how many of their commands run here; others need a second terminal. */
const pages: readonly (readonly [page: string, commands: number])[] = [
  ['mediation.md', 1],
  ['vm-references.md', 1],
  ['events.md', 1],
  ['iommufd.md', 1],
  ['exec.md', 1],
  ['82576.md', 1],
  ['wires.md', 1],
  ['guides/write-a-device.md', 2],
  ['guides/write-a-driver.md', 2],
  ['guides/test-a-driver.md', 1],
  ['guides/attach-to-qemu.md', 0],
];

/** A user's strict project, as in examples/devices, on the sources of the doors. */
const project = {
  extends: join(root, 'examples/devices/tsconfig.json'),
  include: ['*/*.ts'],
  compilerOptions: { paths: { 'vfio-ts': [join(root, 'src/doors/index.ts')], 'vfio-ts/*': [join(root, 'src/doors/*.ts')] } },
};

/** Below the package: samples import it by its name. */
let folder = '';
const textOf = (page: string) => readFileSync(join(root, 'docs', page), 'utf8');
const folderOf = (page: string) => join(folder, page.replaceAll(/[/.]/g, '-'));

beforeAll(() => {
  mkdirSync(join(root, '.cache'), { recursive: true });
  folder = mkdtempSync(join(root, '.cache/docs-'));
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(project));
  for (const [page] of pages) {
    mkdirSync(folderOf(page));
    symlinkSync(join(root, 'examples'), join(folderOf(page), 'examples'));
    for (const [, text, file] of textOf(page).matchAll(/^```ts\n(\/\/ ([\w.-]+\.ts)\n[\s\S]*?)^```$/gm))
      writeFileSync(join(folderOf(page), file!), text!);
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

it('every sample stands under strict', () => {
  const { stdout } = spawnSync('npx', ['tsc', '-p', folder], { cwd: root, encoding: 'utf8' });
  // The sources of the doors have settings of their own; their errors are another test's.
  expect(stdout.split('\n').filter((line) => line.startsWith('.cache'))).toEqual([]);
});

/** A command as this checkout runs it; null where it needs a second terminal. */
function runnable(command: string): readonly string[] | null {
  const words = command.split(' | ')[0]!.split(' ');
  if (words[0] === 'node') return ['--import', 'tsx', ...words.slice(1)];
  if (words[1] === 'vfio' && ['run', 'config'].includes(words[2]!)) return [join(root, 'bin/vfio.js'), ...words.slice(2)];
  return null;
}

it.each(pages)('docs/%s: its commands print the output that the page shows', (page, commands) => {
  let ran = 0;
  for (const [, command, output] of textOf(page).matchAll(/^```console\n\$ ([^\n]*)\n([\s\S]*?)^```$/gm)) {
    const words = runnable(command!);
    if (words === null) continue;
    ran++;
    const { status, stdout, stderr } = spawnSync(process.execPath, words, { cwd: folderOf(page), encoding: 'utf8' });
    expect(status, stderr + stdout).toBe(0);
    if (command!.endsWith(' | head -1')) expect(`${stdout.split('\n')[0]}\n`).toBe(output);
    // The report of Node's test runner holds times: its status decides.
    else if (!command!.startsWith('node --test')) expect(stdout, stderr).toBe(output);
  }
  expect(ran).toBe(commands);
});
