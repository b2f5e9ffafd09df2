/**
 * A disk with Node and this package, for a guest whose own kernel is to be driven. The guest mounts
 * it, and runs Node with the disk as its root: so Node has the C library that it runs with here.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { Unavailable } from '../../src/api/linux/unavailable.ts';
import { bundle } from '../conformance/standalone/bundle.ts';
import type { DiskTools } from './disk-tools.ts';

const root = join(import.meta.dirname, '../..');

/** Files of the installed package that run in a guest: JavaScript, the addon, schemas. */
const PACKAGE = ['package.json', 'bin', 'dist', 'native/addon-file.cjs', 'prebuilds', 'schemas'];

/** Folders that the guest puts its own files into. */
const MOUNT_POINTS = ['dev', 'proc', 'sys', 'tmp', 'etc', 'root', 'run', 'var', 'bin', 'lib/modules', 'usr/share/misc'];

/** Bytes beyond the files that the file system takes for itself. */
const SPARE = 24 * 2 ** 20;

export class NodeDisk implements Disposable {
  /** The image, an ext4 file system without partitions. */
  readonly path: string;
  readonly #folder: string;

  private constructor(folder: string, path: string) {
    this.#folder = folder;
    this.path = path;
  }

  /**
   * Makes the disk.
   *
   * @param programs TypeScript files of the tests, each of which is /vfio-ts/tests/NAME.mjs
   * @throws Unavailable when a program that this needs cannot be run
   */
  static async make(tools: DiskTools, programs: readonly string[]): Promise<NodeDisk> {
    const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-node-disk-'));
    try {
      const tree = join(folder, 'tree');
      for (const name of MOUNT_POINTS) mkdirSync(join(tree, name), { recursive: true });
      addNode(tree);
      const home = join(tree, 'vfio-ts');
      for (const name of PACKAGE) {
        cpSync(join(root, name), join(home, name), {
          recursive: true,
          filter: (source) => !/\.map$|\/dist\/(types|man)$/.test(source),
        });
      }
      for (const program of programs) {
        await bundle(program, join(home, 'tests', `${basename(program, '.ts')}.mjs`), ['vfio-ts', 'vfio-ts/*']);
      }
      const path = join(folder, 'node.ext4');
      const size = `${Math.ceil((bytesIn(tree) + SPARE) / 2 ** 20)}M`;
      const { status, complaints } = tools.run('mke2fs', ['-q', '-t', 'ext4', '-O', '^has_journal', '-d', tree, path, size]);
      if (status !== 0) throw new Unavailable(`the disk for the guest was not made: mke2fs: ${complaints}`);
      rmSync(tree, { recursive: true });
      return new NodeDisk(folder, path);
    } catch (error) {
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** The words that attach it to QEMU. Several guests may run with it: they can only read it. */
  get qemuDevice(): readonly string[] {
    return ['-drive', `file=${this.path},if=none,id=node,format=raw,read-only=on`, '-device', 'virtio-blk-pci,drive=node,addr=1e'];
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Node of this process and its libraries, where its loader looks for them. */
function addNode(tree: string): void {
  const node = realpathSync(process.execPath);
  const add = (source: string, place: string) => {
    const target = join(tree, place);
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(source, target);
  };
  add(node, 'usr/bin/node');
  const { stdout, error } = spawnSync('ldd', [node], { encoding: 'utf8' });
  if (error) throw new Unavailable(`ldd: ${error.message}`);
  for (const [library] of stdout.matchAll(/\/\S+/g)) add(realpathSync(library), library);
}

function bytesIn(folder: string): number {
  return readdirSync(folder, { recursive: true, encoding: 'utf8', withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + Math.ceil(statSync(join(entry.parentPath, entry.name)).size / 4096) * 4096, 0);
}
