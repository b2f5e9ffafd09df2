/**
 * The versions of Node that the package is for, from the npm packages that hold Node's binaries.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './checks.ts';

export const root = join(import.meta.dirname, '../..');
const cache = join(root, '.cache/package');

export interface Node {
  readonly major: number;
  /** The path of the binary. */
  readonly path: string;
  /** Whether it strips types itself, and whether it knows `using`. */
  readonly strips: boolean;
  readonly knowsUsing: boolean;
}

/** @throws Error when npm cannot install it */
export function fetchBinary(major: number, arch: string): string {
  const prefix = join(cache, `node-${major}-${arch}`);
  const path = join(prefix, `node_modules/node-linux-${arch}/bin/node`);
  if (existsSync(path)) return path;
  mkdirSync(prefix, { recursive: true });
  const options = ['--prefix', prefix, '--no-save', '--no-package-lock', '--ignore-scripts', '--force'];
  const { status, text } = run('npm', ['install', ...options, `node-linux-${arch}@${major}`], prefix);
  if (status !== 0 || !existsSync(path)) throw new Error(`npm could not install node-linux-${arch}@${major}:\n${text}`);
  return path;
}

export function nodes(): Node[] {
  return [20, 22, 24].map((major) => {
    const path = Number(process.versions.node.split('.')[0]) === major ? process.execPath : fetchBinary(major, process.arch);
    return { major, path, strips: major >= 22, knowsUsing: major >= 24 };
  });
}
