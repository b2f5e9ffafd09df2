/**
 * Programs of unpacked Debian packages. They run with the packages' own loader and libraries, or a
 * guest gets them together with those.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Unavailable } from '../../src/api/linux/unavailable.ts';
import type { CpioEntry } from './cpio.ts';

const LOADER = 'ld-linux-x86-64.so.2';

export class ProgramFolder {
  readonly path: string;
  readonly libraries: string;

  /** @param path of unpacked packages, the C library among them */
  constructor(path: string) {
    this.path = path;
    this.libraries = join(path, 'usr/lib/x86_64-linux-gnu');
  }

  /** The command that runs a program here. @param program such as `usr/sbin/e2fsck` */
  command(program: string, args: readonly string[]): { readonly file: string; readonly args: string[] } {
    const { file, head } = this.#loader();
    return { file, args: [...head, '--argv0', basename(program), join(this.path, program), ...args] };
  }

  /**
   * `programs` as /bin/NAME, and the shared libraries that their loader finds for them, once each.
   */
  entries(...programs: string[]): CpioEntry[] {
    const found = new Set<string>();
    for (const program of programs) {
      const { file, head } = this.#loader();
      const { stdout, error } = spawnSync(file, [...head, '--list', join(this.path, program)], { encoding: 'utf8' });
      if (error) throw new Unavailable(`${file}: ${error.message}`);
      for (const [, library] of stdout.matchAll(/=> (\/\S+)/g)) found.add(library!);
    }
    const entry = (path: string, source: string): CpioEntry => ({ kind: 'file', path, bytes: readFileSync(source), executable: true });
    return [
      ...programs.map((program) => entry(`bin/${basename(program)}`, join(this.path, program))),
      entry(`lib64/${LOADER}`, join(this.libraries, LOADER)),
      ...[...found]
        .filter((library) => basename(library) !== LOADER)
        .map((library) => entry(`lib/x86_64-linux-gnu/${basename(library)}`, library)),
    ];
  }

  #loader(): { readonly file: string; readonly head: readonly string[] } {
    return { file: join(this.libraries, LOADER), head: ['--library-path', `${this.libraries}:${join(this.libraries, 'systemd')}`] };
  }
}
