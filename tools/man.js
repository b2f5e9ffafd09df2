// Writes the man pages into dist/man/, and their names into package.json, by which `npm install -g`
// finds them. They are made of the table of commands in dist/.
//
//   node tools/man.js
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** @param dist the directory of what was built   @returns the names of the pages */
export async function writeManPages(dist) {
  const { manPages } = await import(pathToFileURL(join(dist, 'man-pages.js')));
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  // As other tools of reproducible builds have it.
  const { SOURCE_DATE_EPOCH: epoch } = process.env;
  const date = (epoch === undefined ? new Date() : new Date(1000 * Number(epoch))).toISOString().slice(0, 10);
  const folder = join(dist, 'man');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  const pages = await manPages(version, date);
  for (const { file, text } of pages) writeFileSync(join(folder, file), text);
  return pages.map(({ file }) => file);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const names = await writeManPages(join(root, 'dist'));
  const file = join(root, 'package.json');
  const content = { ...JSON.parse(readFileSync(file, 'utf8')), man: names.map((name) => `./dist/man/${name}`) };
  writeFileSync(file, `${JSON.stringify(content, null, 2)}\n`);
}
