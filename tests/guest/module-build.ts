/**
 * Builds modules for the guest's kernel, and programs of Linux's source: from Debian's source
 * package, with Debian's headers and compiler for that kernel.
 *
 * The compiler runs in the folder of its packages as its root, in a user namespace: the headers ask
 * for the compiler that has built the kernel, which this machine need not have.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { DebianPackages } from '../../src/api/linux/debian-packages.ts';
import { Unavailable } from '../../src/api/linux/unavailable.ts';

/** Programs that building a module calls; a package folder has no others. */
const TOOLS = ['gcc-14', 'make', 'binutils', 'dash', 'bash', 'coreutils', 'sed', 'grep', 'mawk', 'findutils'];

/** Headers and archives that programs of Linux's source need. */
const LIBRARIES = ['libc6-dev', 'linux-libc-dev', 'uuid-dev'];

/** Compiler and sources, fetched when the first module is built, removed when it is disposed. */
export class ModuleBuild implements Disposable {
  /** The version of the guest's kernel: `7.3.4+deb13-cloud-amd64`. */
  readonly kernel: string;
  /** The cache of the guest tests, which keeps the modules. */
  readonly cache: string;
  readonly #root: string;
  readonly #archives: string;
  #archive: string | undefined;

  constructor(cache: string, kernel: string) {
    this.cache = cache;
    this.kernel = kernel;
    this.#root = join(cache, 'module-build');
    this.#archives = join(cache, 'module-source');
  }

  /**
   * Unpacks parts of Linux's source.
   *
   * @param name of a folder for them
   * @param parts files and folders of the source: `drivers/misc/pci_endpoint_test.c`
   * @returns the folder, in which the parts have their places of the source
   * @throws Unavailable when a package cannot be had
   */
  source(name: string, parts: readonly string[]): string {
    this.#archive ??= this.#fetch();
    const folder = join(this.#root, 'modules', name);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const wanted = parts.map((part) => `*/${part}`);
    run('tar', [
      '-x',
      '-J',
      '-f',
      this.#archive,
      '-C',
      folder,
      '--strip-components=1',
      '--wildcards',
      '--no-wildcards-match-slash',
      ...wanted,
    ]);
    return folder;
  }

  /**
   * Builds the modules that the Makefile in `source(name, …)` names, and strips them of what a
   * debugger needs.
   *
   * @param variables further words for make
   * @throws Unavailable when they cannot be built
   */
  make(name: string, variables: readonly string[] = []): void {
    const work = `/modules/${name}`;
    // BTF needs the kernel's own image with its types.
    const words = [`M=${work}`, 'modules', 'CONFIG_DEBUG_INFO_BTF_MODULES=', ...variables].join(' ');
    const make = `make -j2 -C /usr/lib/modules/${this.kernel}/build ${words}`;
    this.#run(`${make} && find ${work} -name '*.ko' -exec strip --strip-debug {} +`);
  }

  /**
   * Builds programs of `source(name, …)` by its own Makefiles.
   *
   * @param part the folder whose Makefile builds them
   * @param variables further words for make, in quotes of the shell where they need them
   * @returns the folder of the programs
   * @throws Unavailable when they cannot be built
   */
  makePrograms(name: string, part: string, variables: readonly string[]): string {
    const output = `/modules/${name}/output`;
    mkdirSync(join(this.#root, output));
    this.#run(`make -j2 CC=gcc-14 -C /modules/${name}/${part} OUTPUT=${output} ${variables.join(' ')}`);
    return join(this.#root, output);
  }

  /** A script with the folder of the compiler's packages as its root. */
  #run(command: string): void {
    const script = 'mount --rbind /dev "$1/dev" && mount --rbind /proc "$1/proc" && exec chroot "$1" /bin/sh -c "$2"';
    run('unshare', ['--map-root-user', '--mount', 'sh', '-c', script, 'sh', this.#root, `PATH=/usr/bin; export PATH; ${command}`]);
  }

  #fetch(): string {
    const packages = new DebianPackages(join(this.cache, 'apt'));
    packages.unpack(this.#root, [...TOOLS, ...LIBRARIES, `linux-headers-${this.kernel}`], 'backports');
    packages.unpack(this.#archives, ['linux-source'], 'backports', (each) => /^linux-source-\d/.test(each));
    const folder = join(this.#archives, 'usr/src');
    const archive = readdirSync(folder).find((file) => file.endsWith('.tar.xz'));
    if (archive === undefined) throw new Unavailable("Debian's linux-source holds no archive");
    // These are made when packages are configured, or by a running system.
    if (!existsSync(join(this.#root, 'usr/bin/awk'))) symlinkSync('mawk', join(this.#root, 'usr/bin/awk'));
    for (const place of ['dev', 'proc', 'tmp']) mkdirSync(join(this.#root, place), { recursive: true });
    return join(folder, archive);
  }

  [Symbol.dispose](): void {
    for (const folder of [this.#root, this.#archives]) rmSync(folder, { recursive: true, force: true });
  }
}

function run(program: string, args: readonly string[]): void {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8', timeout: 900_000, maxBuffer: 2 ** 28 });
  if (error === undefined && status === 0) return;
  const said = error?.message ?? `${stdout}${stderr}`.trim().split('\n').slice(-4).join(' / ');
  throw new Unavailable(`a module for the guest's kernel was not built: ${program}: ${said}`);
}
