/**
 * Files that give functions to a driver at each boot: those of driverctl, which many
 * administrators have, or rules of udev that do the same.
 *
 * @see udev(7), driverctl(8), modprobe.d(5)
 */
import type { HostChanges } from '../sys/host-changes.ts';
import type { HostFiles } from '../sys/host-files.ts';
import { type FunctionState, functionFolder, PCI } from './function-state.ts';
import { nameIn } from './host-path.ts';

export interface PersistentFile {
  readonly path: string;
  readonly text: string;
}

const driverctlFile = (bdf: string) => `/etc/driverctl.d/pci-${bdf}`;
const ruleFile = (bdf: string) => `/etc/udev/rules.d/05-vfio-ts-${bdf.replaceAll(':', '-')}.rules`;

const isInstalled = (files: HostFiles, program: string) =>
  ['/usr/sbin', '/usr/bin', '/sbin', '/bin', '/usr/local/sbin'].some((folder) => files.exists(`${folder}/${program}`));

/**
 * A rule for one function. The ids guard against another card at the same address. The function
 * may have a driver by then, from the initramfs.
 */
function rule({ bdf, vendor, device }: FunctionState, driver: string): string {
  const at = functionFolder(bdf);
  // In a rule, $$ stands for one $.
  const script = [
    `modprobe -q ${driver}`,
    `case $$(readlink ${at}/driver) in */${driver}) exit;; ?*) echo ${bdf} > ${at}/driver/unbind;; esac`,
    `echo ${bdf} > ${PCI}/drivers_probe`,
  ].join('; ');
  const match = `ACTION=="add", SUBSYSTEM=="pci", KERNEL=="${bdf}", ATTR{vendor}=="0x${vendor}", ATTR{device}=="0x${device}"`;
  return `# vfio bind --persist; vfio restore --persist removes it.\n${match}, ATTR{driver_override}="${driver}", RUN{program}+="/bin/sh -c '${script}'"\n`;
}

/** The files that give `functions` to `driver` at each boot. */
export function persistentFiles(files: HostFiles, functions: readonly FunctionState[], driver: string): readonly PersistentFile[] {
  const driverctl = isInstalled(files, 'driverctl');
  return functions.map((fn) =>
    driverctl ? { path: driverctlFile(fn.bdf), text: `${driver}\n` } : { path: ruleFile(fn.bdf), text: rule(fn, driver) },
  );
}

/** The files that are there for a function. */
export function persistedPaths(files: HostFiles, bdf: string): readonly string[] {
  return [driverctlFile(bdf), ruleFile(bdf)].filter((path) => files.exists(path));
}

export function writePersistent(host: HostChanges, persistent: readonly PersistentFile[]): void {
  for (const { path, text } of persistent) host.file(path, text, 0o644);
}

/** Lines of a shell that write a file. */
export function fileCommand({ path, text }: PersistentFile): string {
  const quoted = (line: string) => `'${line.replaceAll("'", `'\\''`)}'`;
  return `mkdir -p ${path.slice(0, path.lastIndexOf('/'))} && printf '%s\\n' ${text.trimEnd().split('\n').map(quoted).join(' ')} > ${path}`;
}

/** The module of a driver; null for one that is built in. */
function moduleOf(files: HostFiles, driver: string): string | null {
  const module = files.link(`${PCI}/drivers/${driver}/module`);
  return module === null ? null : nameIn(module);
}

/**
 * Commands that have vfio-pci take the functions before the drivers in the initramfs. Lines that
 * begin with # are remarks.
 *
 * @param drivers the driver of each function without VFIO; null for none
 * @param all functions of the computer, of which others may have the same ids
 */
export function earlyCommands(
  files: HostFiles,
  functions: readonly FunctionState[],
  drivers: readonly (string | null)[],
  all: readonly FunctionState[],
): readonly string[] {
  const ids = [...new Set(functions.map(({ vendor, device }) => `${vendor}:${device}`))];
  const others = all.filter((fn) => ids.includes(`${fn.vendor}:${fn.device}`) && !functions.some(({ bdf }) => bdf === fn.bdf));
  const native = [...new Set(drivers)].filter((driver) => driver !== null && driver !== 'vfio-pci');
  const modules = native.map((driver) => [driver!, moduleOf(files, driver!)] as const);
  const text = [
    `options vfio-pci ids=${ids.join(',')}`,
    ...modules.flatMap(([, module]) => (module === null ? [] : [`softdep ${module} pre: vfio-pci`])),
  ].join('\n');
  return [
    ...others.map(({ bdf }) => `# vfio-pci takes ${bdf}, too: it has the same ids`),
    ...modules.flatMap(([driver, module]) =>
      module === null ? [`# ${driver} is built into this kernel: it comes first unless vfio-pci is built in, too`] : [],
    ),
    fileCommand({ path: '/etc/modprobe.d/vfio-ts.conf', text }),
    ...initramfsCommands(files),
  ];
}

function initramfsCommands(files: HostFiles): readonly string[] {
  if (isInstalled(files, 'update-initramfs'))
    return ['grep -qx vfio-pci /etc/initramfs-tools/modules || echo vfio-pci >> /etc/initramfs-tools/modules', 'update-initramfs -u'];
  if (isInstalled(files, 'dracut'))
    return [fileCommand({ path: '/etc/dracut.conf.d/vfio-ts.conf', text: 'force_drivers+=" vfio-pci "' }), 'dracut -f'];
  if (isInstalled(files, 'mkinitcpio')) return ['# put vfio_pci first into MODULES=(…) of /etc/mkinitcpio.conf', 'mkinitcpio -P'];
  return ['# build the initramfs anew with the module vfio-pci in it'];
}
