/**
 * Builds a User Mode Linux that takes PCI devices over VFIO (UML_PCI_OVER_VFIO, since Linux 6.16)
 * into the cache: from Debian's source package, or from a source tree. It takes about four minutes
 * on two processors and 3 GB of disk space, of which 10 MB stay.
 */
import { spawn } from 'node:child_process';
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { DebianPackages } from './debian-packages.ts';
import { kernelFolder } from './kernel-file.ts';
import { Unavailable } from './unavailable.ts';

/** How a kernel is built. */
export interface KernelBuildOptions {
  /** A source tree of Linux 6.16 or newer. Default: Debian's newest source package. */
  readonly source?: string;
  /** Hears what is being done, a line each. */
  readonly progress?: (line: string) => void;
  /** Ends the build. */
  readonly signal?: AbortSignal;
}

/** Symbols of Kconfig without which no kernel is built. Older sources lack the first. */
const REQUIRED = 'UML_PCI_OVER_VFIO PCI_MSI BLOCK HOSTFS DEVTMPFS_MOUNT PROC_FS SYSFS TMPFS BINFMT_ELF BINFMT_SCRIPT TTY NULL_CHAN SSL';

/** Symbols that are built in where the source has them; `allnoconfig` decides on all others. */
const WANTED = {
  'PCI devices': 'UML_PCI PCI PCI_IOV',
  'several processors, up to 16': 'SMP NR_CPUS=16',
  'drivers of devices':
    'BLK_DEV BLK_DEV_NVME NVME_CORE NETDEVICES NET_CORE ETHERNET NET_VENDOR_INTEL IGB IGBVF E1000E VIRTIO_MENU VIRTIO_PCI VIRTIO_NET VIRTIO_BLK HW_RANDOM HW_RANDOM_VIRTIO MISC_DEVICES PCI_ENDPOINT_TEST',
  'file systems': 'EXT4_FS OVERLAY_FS TMPFS_XATTR PROC_SYSCTL DEVTMPFS SHMEM PARTITION_ADVANCED MSDOS_PARTITION EFI_PARTITION',
  'programs and their calls':
    '64BIT FUTEX EPOLL SIGNALFD TIMERFD EVENTFD AIO MULTIUSER FILE_LOCKING INOTIFY_USER POSIX_TIMERS SYSVIPC ADVISE_SYSCALLS MEMBARRIER NET UNIX INET PACKET',
  'networks of containers, tagged frames': 'NAMESPACES NET_NS VLAN_8021Q',
  'consoles, time, the end':
    'PRINTK UNIX98_PTYS STDERR_CONSOLE FD_CHAN TTY_CHAN MCONSOLE MAGIC_SYSRQ NO_HZ_IDLE HIGH_RES_TIMERS KALLSYMS BUG',
} as const;
const required = REQUIRED.split(' ');
const symbols = [...required, ...Object.values(WANTED).flatMap((names) => names.split(' '))];

/** Programs that a build calls, and Debian's package of each. */
const PROGRAMS = { make: 'make', gcc: 'gcc', ld: 'binutils', bison: 'bison', flex: 'flex', bc: 'bc', tar: 'tar', xz: 'xz-utils' } as const;

/** Parts of a source tree that this kernel does not need, without their Kconfig files. */
const UNNEEDED = [
  '*/Documentation/*.rst',
  '*/Documentation/*.yaml',
  '*/drivers/gpu/*.[ch]',
  '*/sound/*/*.[ch]',
  '*/arch/*/boot/dts/*',
  '*/tools/testing/*',
];

/**
 * Build a kernel, and put it where `findKernel` looks.
 *
 * @returns its path
 * @throws VfioError (rejects) ENOENT with the list of what is missing; EINVAL for a source that has
 *   no UML_PCI_OVER_VFIO; EIO for a build that fails, with the end of its log; EINTR
 */
export async function buildKernel(options: KernelBuildOptions = {}): Promise<string> {
  const { progress = () => {} } = options;
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Unavailable(`User Mode Linux runs on x86-64 alone; this is ${process.platform} on ${process.arch}`);
  }
  checkPrograms(options.source === undefined);
  const folder = kernelFolder();
  removeAbandoned(folder);
  const work = join(folder, `build-${process.pid}`);
  mkdirSync(work, { recursive: true });
  using undo = new Cleanup();
  undo.defer(() => rmSync(work, { recursive: true, force: true }));
  const log = join(folder, `build-${process.pid}.log`);
  writeFileSync(log, '');
  const run = (file: string, args: readonly string[]) => runLogged(file, args, log, options.signal);

  const source = options.source === undefined ? await debianSource(work, run, progress) : resolve(options.source);
  const output = join(work, 'output');
  mkdirSync(output);
  const make = (...words: string[]) => run('make', ['-s', '-C', source, 'ARCH=um', `O=${output}`, ...words]);
  const wanted = join(output, 'wanted.config');
  writeFileSync(wanted, symbols.map((symbol) => `CONFIG_${symbol}${symbol.includes('=') ? '' : '=y'}\n`).join(''));
  await make(`KCONFIG_ALLCONFIG=${wanted}`, 'allnoconfig');
  checkConfig(readFileSync(join(output, '.config'), 'utf8'), source);
  progress(`Building it with ${availableParallelism()} processors: some minutes. Its log is ${log}.`);
  await make(`-j${availableParallelism()}`, 'linux');
  const built = join(output, 'stripped');
  await run('strip', ['-o', built, join(output, 'linux')]);
  const kernel = join(folder, 'linux');
  renameSync(built, kernel);
  rmSync(log);
  return kernel;
}

/** Removes what builds have left that were killed. */
function removeAbandoned(folder: string): void {
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    const pid = /^build-(\d+)/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(folder, name), { recursive: true, force: true });
  }
}

/** @throws Unavailable naming all programs that are missing, with their packages */
function checkPrograms(withSource: boolean): void {
  const needed = { ...PROGRAMS, ...(withSource ? { 'apt-get': 'apt', 'dpkg-deb': 'dpkg' } : {}) };
  const missing = Object.entries(needed).filter(([program]) => !isThere(program));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map(([, name]) => name))].join(' ');
  throw new Unavailable(
    `a kernel cannot be built here: ${missing.map(([program]) => program).join(', ')} ${missing.length === 1 ? 'is' : 'are'} missing`,
    `Install ${missing.length === 1 ? 'it' : 'them'}: apt-get install ${packages}`,
  );
}

function isThere(program: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Debian's newest source package, unpacked. */
async function debianSource(
  work: string,
  run: (file: string, args: readonly string[]) => Promise<void>,
  progress: (line: string) => void,
): Promise<string> {
  progress("Fetching Debian's newest linux-source, about 150 MB.");
  const fetched = join(work, 'package');
  new DebianPackages(join(kernelFolder(), 'apt')).unpack(fetched, ['linux-source'], 'backports', (name) => /^linux-source-\d/.test(name));
  const folder = join(fetched, 'usr/src');
  const archive = existsSync(folder) ? readdirSync(folder).find((file) => /^linux-source-.*\.tar\.xz$/.test(file)) : undefined;
  if (archive === undefined) throw new Unavailable("Debian's package linux-source holds no source archive");
  progress(`Unpacking ${archive}.`);
  const source = join(work, 'source');
  mkdirSync(source);
  await run('tar', [
    '-x',
    '-J',
    '-f',
    join(folder, archive),
    '-C',
    source,
    '--strip-components=1',
    ...UNNEEDED.map((each) => `--exclude=${each}`),
  ]);
  return source;
}

/** @throws VfioError EINVAL */
function checkConfig(config: string, source: string): void {
  const lacking = required.filter((symbol) => !config.includes(`\nCONFIG_${symbol}=y\n`));
  if (lacking.length === 0) return;
  throw new VfioError('EINVAL', `the source in ${source} builds no such kernel: it has no ${lacking.join(', ')}`, {
    fix: 'Give Linux 6.16 or newer.',
  });
}

/** Runs a program whose output goes to the log. @throws VfioError (rejects) EIO, ENOENT, EINTR */
async function runLogged(file: string, args: readonly string[], log: string, signal: AbortSignal | undefined): Promise<void> {
  const output = openSync(log, 'a');
  const child = spawn(file, args, { stdio: ['ignore', output, output], env: { ...process.env, LC_ALL: 'C' }, detached: true });
  closeSync(output);
  const stop = () => {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGTERM');
  };
  signal?.addEventListener('abort', stop, { once: true });
  try {
    const status = await new Promise<number | NodeJS.Signals | null>((settle, fail) => {
      child.on('error', fail);
      child.on('exit', (code, by) => settle(code ?? by));
    });
    if (signal?.aborted === true) throw new VfioError('EINTR', 'the build of the kernel was ended');
    if (status === 0) return;
    const end = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-10).join('\n');
    throw new VfioError('EIO', `${file} failed (${status}) while a kernel was built; ${log} ends with:\n${end}`);
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}
