/**
 * A driver of Linux that Debian's kernels lack, built as a module of the guest's kernel: from
 * Debian's source package, with Debian's headers and compiler for that kernel.
 *
 * The compiler runs in the folder of its packages as its root, in a user namespace: the headers ask
 * for the compiler that has built the kernel, which this machine need not have.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { DebianPackages } from '../../src/api/linux/debian-packages.ts';
import { Unavailable } from '../../src/api/linux/unavailable.ts';

/** Programs that building a module calls; a package folder has no others. */
const TOOLS = ['gcc-14', 'make', 'binutils', 'dash', 'bash', 'coreutils', 'sed', 'grep', 'mawk', 'findutils'];

/**
 * The module, from the cache where it was built before.
 *
 * @param cache of the guest tests
 * @param kernel the version of the guest's kernel: `7.3.4+deb13-cloud-amd64`
 * @param source the driver's only file: `drivers/misc/pci_endpoint_test.c`
 * @throws Unavailable when a package cannot be had or the module cannot be built
 */
export function driverModule(cache: string, kernel: string, source: string): Uint8Array {
  const name = basename(source, '.c');
  const built = join(cache, `${name}-${kernel}.ko`);
  if (existsSync(built)) return readFileSync(built);
  const packages = new DebianPackages(join(cache, 'apt'));
  const [root, archives] = [join(cache, 'module-build'), join(cache, 'module-source')];
  try {
    packages.unpack(root, [...TOOLS, `linux-headers-${kernel}`], 'backports');
    packages.unpack(archives, ['linux-source'], 'backports', (each) => /^linux-source-\d/.test(each));
    const archive = readdirSync(join(archives, 'usr/src')).find((file) => file.endsWith('.tar.xz'));
    if (archive === undefined) throw new Unavailable("Debian's linux-source holds no archive");
    const work = join(root, 'work');
    mkdirSync(work);
    run('tar', ['-x', '-J', '-f', join(archives, 'usr/src', archive), '-C', work, '--wildcards', '--transform=s,.*/,,', `*/${source}`]);
    writeFileSync(join(work, 'Makefile'), `obj-m := ${name}.o\n`);
    // These are made when packages are configured, or by a running system.
    if (!existsSync(join(root, 'usr/bin/awk'))) symlinkSync('mawk', join(root, 'usr/bin/awk'));
    for (const place of ['dev', 'proc', 'tmp']) mkdirSync(join(root, place), { recursive: true });
    const make = `PATH=/usr/bin exec make -C /usr/lib/modules/${kernel}/build M=/work modules`;
    const script = 'mount --rbind /dev "$1/dev" && mount --rbind /proc "$1/proc" && exec chroot "$1" /bin/sh -c "$2"';
    run('unshare', ['--map-root-user', '--mount', 'sh', '-c', script, 'sh', root, make]);
    copyFileSync(join(work, `${name}.ko`), built);
    return readFileSync(built);
  } finally {
    for (const folder of [root, archives]) rmSync(folder, { recursive: true, force: true });
  }
}

function run(program: string, args: readonly string[]): void {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8', timeout: 600_000 });
  if (error === undefined && status === 0) return;
  const said = error?.message ?? `${stdout}${stderr}`.trim().split('\n').slice(-4).join(' / ');
  throw new Unavailable(`a module for the guest's kernel was not built: ${program}: ${said}`);
}
