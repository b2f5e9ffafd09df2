/** `vfio new`: a project made of the files in templates/. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import { packageFile, packageVersion } from '../sys/package-files.ts';
import { fromNode } from '../sys/system-error.ts';
import type { CommandContext } from './command.ts';

/** The name that the templates have for the project. */
const PLACEHOLDER = 'my-project';
/** A name that npm takes, and that is a folder's as it is. */
const NAME = /^[a-z][a-z0-9]*(?:[-_.][a-z0-9]+)*$/;
const NAME_MAX = 100;
const RESERVED: readonly string[] = ['node_modules', 'vfio-ts'];

export async function makeProject(
  { terminal }: CommandContext,
  _options: object,
  kind: 'device' | 'driver',
  name: string,
): Promise<undefined> {
  checkName(name);
  const folder = resolve(name);
  checkEmpty(folder, name);
  write(folder, kind, name);
  terminal.out(`${name}/ has a project:`);
  for (const file of readdirSync(folder).sort()) terminal.out(`  ${file}`);
  terminal.out('');
  terminal.out(`cd ${name} && npm install && npm test`);
}

function checkName(name: string): void {
  if (NAME.test(name) && name.length <= NAME_MAX && !RESERVED.includes(name)) return;
  throw new VfioError('EINVAL', `'${name.slice(0, NAME_MAX)}' cannot be the name of a project`, {
    fix: 'Give lower-case letters, digits and single hyphens, a letter first, such as my-card.',
  });
}

/** @throws VfioError EEXIST for a folder with files in it, and for what is not a folder */
function checkEmpty(folder: string, name: string): void {
  let entries: readonly string[];
  try {
    entries = readdirSync(folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return;
    if (code === 'ENOTDIR') throw new VfioError('EEXIST', `${name} is a file`, { fix: 'Give another name, or remove the file.' });
    throw fromNode(error, `the folder ${name} cannot be read`);
  }
  if (entries.length === 0) return;
  throw new VfioError('EEXIST', `the folder ${name} is not empty`, { fix: 'Give another name, or run the command in another folder.' });
}

/**
 * All files, or none: they are written into a folder beside `folder`, which then takes its place.
 */
function write(folder: string, kind: 'device' | 'driver', name: string): void {
  using undo = new Cleanup();
  try {
    const unfinished = mkdtempSync(join(dirname(folder), `.${name}-`));
    undo.defer(() => rmSync(unfinished, { recursive: true, force: true }));
    const project = join(unfinished, name);
    for (const part of ['common', kind]) cpSync(packageFile(`templates/${part}`), project, { recursive: true });
    for (const file of ['package.json', 'README.md']) {
      const text = readFileSync(join(project, file), 'utf8').replaceAll(PLACEHOLDER, name);
      writeFileSync(join(project, file), text);
    }
    setVersion(join(project, 'package.json'));
    renameSync(project, folder);
  } catch (error) {
    throw fromNode(error, `the folder ${name} cannot be made`);
  }
}

/** The project depends on the version of this package that made it. */
function setVersion(file: string): void {
  const content = JSON.parse(readFileSync(file, 'utf8')) as { devDependencies: Record<string, string> };
  content.devDependencies['vfio-ts'] = `^${packageVersion()}`;
  writeFileSync(file, `${JSON.stringify(content, null, 2)}\n`);
}
