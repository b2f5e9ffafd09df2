/**
 * The needs of a boot, from Debian packages in the cache: QEMU and its libraries, a kernel with its
 * modules, busybox, lspci; and our own program.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DebianPackages, type Suite } from '../../src/api/linux/debian-packages.ts';
import { Unavailable } from '../../src/api/linux/unavailable.ts';
import { type CpioEntry, cpioArchive } from './cpio.ts';
import { type KernelModule, kernelModules } from './kernel-modules.ts';
import { ProgramFolder } from './program-folder.ts';

/** Debian's kernels: one for virtual machines in clouds, and one for all computers. */
export type Flavour = 'cloud-amd64' | 'amd64';

const MODULES = ['vfio', 'vfio-pci', 'vfio_iommu_type1'];

/** The first QEMU with `vfio-user-pci`. */
const OLDEST_QEMU: readonly [number, number] = [10, 1];

export class GuestTools {
  readonly qemuVersion: string;
  readonly kernelVersion: string;
  readonly kernel: string;
  readonly #programs: ProgramFolder;
  readonly #base: readonly CpioEntry[];
  readonly #modules: string;

  private constructor(
    programs: ProgramFolder,
    qemuVersion: string,
    kernel: { version: string; image: string; modules: string },
    base: readonly CpioEntry[],
  ) {
    this.#programs = programs;
    this.qemuVersion = qemuVersion;
    this.kernelVersion = kernel.version;
    this.kernel = kernel.image;
    this.#modules = kernel.modules;
    this.#base = base;
  }

  /**
   * Fetches what `cache` lacks and builds the guest's program.
   *
   * @param flavour of the kernel: the one for clouds has few drivers of network cards
   * @throws Unavailable with the reason when this machine cannot run the guest tests
   */
  static prepare(cache: string, kernelSuite: Suite, flavour: Flavour = 'cloud-amd64'): GuestTools {
    if (process.platform !== 'linux' || process.arch !== 'x64') {
      throw new Unavailable(`the guest is an x86-64 Linux whose program is built here; this is ${process.platform} on ${process.arch}`);
    }
    mkdirSync(cache, { recursive: true });
    const packages = new DebianPackages(join(cache, 'apt'));
    const programs = new ProgramFolder(join(cache, 'programs'));
    packages.unpack(programs.path, ['qemu-system-x86', 'busybox-static', 'pciutils'], 'backports');
    const kernelRoot = join(cache, flavour === 'amd64' ? `kernel-full-${kernelSuite}` : `kernel-${kernelSuite}`);
    packages.unpack(kernelRoot, [`linux-image-${flavour}`], kernelSuite, (name) => /^linux-(image|binary|modules)-\d/.test(name));
    const version = checkQemu(programs);
    const kernel = findKernel(kernelRoot);
    return new GuestTools(programs, version, kernel, baseEntries(programs, kernel.modules, buildProgram('guest', cache)));
  }

  /** A static busybox, which runs here too. */
  get busybox(): string {
    return join(this.#programs.path, 'usr/bin/busybox');
  }

  /** The command line that starts QEMU: its own loader and libraries, from the cache. */
  qemuCommand(args: readonly string[]): { readonly file: string; readonly args: string[]; readonly env: Record<string, string> } {
    return qemuCommand(this.#programs, args);
  }

  /**
   * Modules of the guest's kernel with those that they need, and their order in /modules/`list`.
   *
   * @param names modules wanted; one that is not there is taken to be built in
   * @param instead a folder of modules that take the place of the kernel's own
   */
  modules(list: string, names: readonly string[], instead?: string): CpioEntry[] {
    const modules = kernelModules(this.#modules, names, this.busybox, instead);
    return moduleEntries(list, modules, instead === undefined ? '' : `${list}-`);
  }

  /**
   * A first root file system whose init runs `scenario`, a shell script.
   *
   * @param further files that it holds besides
   */
  initramfs(scenario: string, further: readonly CpioEntry[] = []): Buffer {
    return cpioArchive([...this.#base, ...further, { kind: 'file', path: 'scenario', bytes: Buffer.from(scenario), executable: true }]);
  }
}

function qemuCommand(programs: ProgramFolder, args: readonly string[]) {
  const firmware = ['usr/share/qemu', 'usr/share/seabios', 'usr/lib/ipxe/qemu'].flatMap((folder) => ['-L', join(programs.path, folder)]);
  return {
    ...programs.command('usr/bin/qemu-system-x86_64', [...firmware, ...args]),
    env: { ...(process.env as Record<string, string>), QEMU_MODULE_DIR: join(programs.libraries, 'qemu') },
  };
}

function checkQemu(programs: ProgramFolder): string {
  const ask = (...question: string[]) => {
    const { file, args, env } = qemuCommand(programs, question);
    const { stdout, stderr, error } = spawnSync(file, args, { env, timeout: 600_000, encoding: 'utf8' });
    if (error) throw new Unavailable(`QEMU does not start: ${error.message}`);
    return stdout || stderr;
  };
  const said = ask('--version');
  const match = /version (\d+)\.(\d+)\S*/.exec(said);
  if (match === null) throw new Unavailable(`QEMU does not start: ${said.trim()}`);
  const [major, minor] = [Number(match[1]), Number(match[2])];
  const [oldMajor, oldMinor] = OLDEST_QEMU;
  if (major < oldMajor || (major === oldMajor && minor < oldMinor)) {
    throw new Unavailable(`QEMU is ${major}.${minor}; vfio-user-pci came with ${OLDEST_QEMU.join('.')}`);
  }
  if (!ask('-device', 'help').includes('"vfio-user-pci"')) throw new Unavailable('this QEMU was built without vfio-user-pci');
  return match[0].slice('version '.length);
}

/** Kernel packages keep the image in /boot or, since Linux 7, beside the modules. */
function findKernel(root: string): { version: string; image: string; modules: string } {
  const [version] = readdirSync(join(root, 'usr/lib/modules'));
  if (version === undefined) throw new Unavailable(`there is no kernel in ${root}`);
  const modules = join(root, 'usr/lib/modules', version);
  const image = [join(modules, 'vmlinuz'), join(root, `boot/vmlinuz-${version}`)].find((file) => existsSync(file));
  if (image === undefined) throw new Unavailable(`there is no kernel image in ${root}`);
  return { version, image, modules };
}

/** A program for the guest, NAME.c of this folder, without shared libraries. */
export function buildProgram(name: string, cache: string): Uint8Array {
  const output = join(cache, name);
  const source = join(import.meta.dirname, `${name}.c`);
  const { status, stderr, error } = spawnSync('cc', ['-static', '-O1', '-Wall', '-Wextra', '-Werror', '-o', output, source], {
    encoding: 'utf8',
  });
  if (error) throw new Unavailable(`cc: ${error.message}`);
  if (status !== 0) throw new Error(`${name}.c does not compile:\n${stderr}`);
  return readFileSync(output);
}

function baseEntries(programs: ProgramFolder, modulesFolder: string, guest: Uint8Array): CpioEntry[] {
  const busybox = join(programs.path, 'usr/bin/busybox');
  const program = (path: string, bytes: Uint8Array): CpioEntry => ({ kind: 'file', path, bytes, executable: true });
  const modules = kernelModules(modulesFolder, MODULES, busybox);
  return [
    ...['dev', 'proc', 'sys', 'tmp', 'root'].map((path): CpioEntry => ({ kind: 'directory', path })),
    program('init', readFileSync(join(import.meta.dirname, 'init.sh'))),
    program('bin/busybox', readFileSync(busybox)),
    { kind: 'link', path: 'bin/sh', target: 'busybox' },
    program('bin/guest', guest),
    ...programs.entries('usr/bin/lspci'),
    ...moduleEntries('order', modules),
  ];
}

function moduleEntries(list: string, modules: readonly KernelModule[], prefix = ''): CpioEntry[] {
  return [
    ...modules.map((m): CpioEntry => ({ kind: 'file', path: `modules/${prefix}${m.name}.ko`, bytes: m.bytes })),
    { kind: 'file', path: `modules/${list}`, bytes: Buffer.from(modules.map((m) => `${prefix}${m.name}\n`).join('')) },
  ];
}
