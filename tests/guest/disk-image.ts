/**
 * An image file on the host that a guest has as a disk: how much of it is allocated, and the files
 * in its partitions.
 */
import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { DiskTools } from './disk-tools.ts';

export class DiskImage {
  readonly path: string;
  readonly #tools: DiskTools;

  private constructor(path: string, tools: DiskTools) {
    this.path = path;
    this.#tools = tools;
  }

  /** A new image of `size` bytes, all hole. */
  static create(path: string, size: number, tools: DiskTools): DiskImage {
    const file = openSync(path, 'wx');
    ftruncateSync(file, size);
    closeSync(file);
    return new DiskImage(path, tools);
  }

  /** Writes all of it. */
  fill(): void {
    const bytes = Buffer.alloc(statSync(this.path).size, 'disk image ');
    writeFileSync(this.path, bytes, { flag: 'r+' });
  }

  /** Bytes that the host's file system has allocated. */
  allocated(): number {
    return statSync(this.path).blocks * 512;
  }

  /**
   * Bytes from the start of the image to partition `number`, counted from 1.
   *
   * @throws Error with sfdisk's output
   */
  partition(number: number): number {
    const { output, complaints } = this.#tools.run('sfdisk', ['--json', this.path]);
    if (output.length === 0) throw new Error(`sfdisk: ${complaints}`);
    const { partitiontable } = JSON.parse(output.toString()) as {
      partitiontable: { label: string; sectorsize: number; partitions: { start: number }[] };
    };
    if (partitiontable.label !== 'gpt') throw new Error(`the image has a partition table of kind ${partitiontable.label}`);
    return partitiontable.partitions[number - 1]!.start * partitiontable.sectorsize;
  }

  /**
   * Faults of the ext4 file system at `offset`; empty when there are none. A full check that
   * changes nothing.
   */
  fileSystemTrouble(offset: number): string {
    const { status, output, complaints } = this.#tools.run('e2fsck', ['-fn', `${this.path}?offset=${offset}`]);
    return status === 0 ? '' : `status ${status}: ${output}${complaints}`;
  }

  /**
   * SHA-256, in hex, of each file in a directory of the ext4 file system at `offset`.
   * @param into a folder that exists, for copies of them
   */
  checksums(offset: number, directory: string, into: string): ReadonlyMap<string, string> {
    this.#tools.run('debugfs', ['-R', `rdump ${directory} ${into}`, `${this.path}?offset=${offset}`]);
    const folder = join(into, basename(directory));
    const sum = (name: string) =>
      createHash('sha256')
        .update(readFileSync(join(folder, name)))
        .digest('hex');
    return new Map(readdirSync(folder).map((name) => [name, sum(name)]));
  }
}
