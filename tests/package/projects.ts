/**
 * Fresh projects outside of the repository that have the tarball installed, and the programs in
 * them.
 */
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Checks, type Result, run } from './checks.ts';
import { type Node, root } from './nodes.ts';

const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { devDependencies: Record<string, string> };

export class Project {
  readonly name: string;
  readonly folder: string;
  readonly #bin: string;

  /** @param tools npm packages beside vfio-ts, in the versions that this repository uses */
  constructor(place: string, name: string, tarball: string, tools: readonly string[], checks: Checks) {
    this.name = name;
    this.folder = join(place, name);
    this.#bin = join(place, 'bin');
    mkdirSync(this.folder, { recursive: true });
    writeFileSync(
      join(this.folder, 'package.json'),
      JSON.stringify({ name: `a-${name}`, version: '1.0.0', type: 'module', private: true }),
    );
    const packages = tools.map((tool) => `${tool}@${devDependencies[tool]}`);
    const install = run(
      'npm',
      ['install', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', tarball, ...packages],
      this.folder,
    );
    checks.runs(`${name}: npm install --ignore-scripts`, install);
  }

  /** The files of tests/package/projects/NAME. */
  copy(name: string): this {
    const from = join(root, 'tests/package/projects', name);
    for (const file of readdirSync(from)) cpSync(join(from, file), join(this.folder, file));
    return this;
  }

  write(file: string, text: string): this {
    const path = join(this.folder, file);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, text);
    return this;
  }

  /** Run a program of the project by a Node, with a PATH that has this Node and no compiler. */
  node(node: Node, ...args: readonly string[]): Result {
    const bin = `${this.#bin}-${node.major}`;
    mkdirSync(bin, { recursive: true });
    try {
      symlinkSync(node.path, join(bin, 'node'));
      symlinkSync('/bin/sh', join(bin, 'sh'));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const XDG_CACHE_HOME = join(this.folder, 'no-cache');
    return run(node.path, args, this.folder, { PATH: bin, CC: '/no/compiler', XDG_CACHE_HOME });
  }

  /** The command, as npx finds it. */
  vfio(node: Node, ...args: readonly string[]): Result {
    return this.node(node, 'node_modules/.bin/vfio', ...args);
  }
}
