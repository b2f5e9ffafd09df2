/**
 * A whole Linux as a process: User Mode Linux on the devices of a machine, which its stock drivers
 * drive as PCI cards. It takes the devices by VFIO, from the engine, so neither a virtual machine
 * nor root is needed.
 */
import { realpathSync } from 'node:fs';
import { CapId } from '../abi/pci.ts';
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import { VFIO_PCI } from '../engine/machine/binding.ts';
import type { Machine } from '../engine/machine/machine.ts';
import { killNamespace, mountNamespace } from '../sys/mount-namespace.ts';
import { type ExecOptions, startOn } from './exec.ts';
import { BootFolder, checkPath } from './linux/boot-folder.ts';
import { findKernel } from './linux/kernel-file.ts';

/** How a Linux is booted. */
export interface LinuxOptions extends ExecOptions {
  /** A User Mode Linux built with UML_PCI_OVER_VFIO. Default: the one that `buildKernel` built. */
  readonly kernel?: string;
  /** The folder that is the guest's root file system. Default: '/'. */
  readonly root?: string;
  /**
   * The guest's changes of its root happen in that folder. Default: they stay in the memory of the
   * guest, with a kernel that has overlayfs, as the built one has; else the root cannot be written.
   */
  readonly writable?: boolean;
  /**
   * The functions that Linux takes, as BDFs. Default: those with MSI-X that vfio-pci drives. Some
   * of a card, say, whose others this process drives.
   */
  readonly functions?: readonly string[];
  /** Folders that the guest may write, at their own paths, whatever its root is. */
  readonly share?: readonly string[];
  /** Bytes of memory. Default: 256 MiB. */
  readonly memory?: number;
  /** Processors, each a thread of the kernel. Default: 1. */
  readonly processors?: number;
  /**
   * The console is a terminal of this size, on this process's standard input and output. Default:
   * the command reads nothing, and its output goes to standard output as it is.
   */
  readonly terminal?: { readonly columns: number; readonly rows: number };
  /** All messages of the kernel go to standard error. Default: its errors alone. */
  readonly verbose?: boolean;
  /** Further words of the kernel's command line. */
  readonly append?: readonly string[];
}

const DEFAULT_MEMORY = 2 ** 28;
/** Ends User Mode Linux with all of its processes. At SIGTERM it may stumble over itself. */
const SIGKILL = 9;

/**
 * The functions of a machine that User Mode Linux can take: vfio-pci drives them, and they have
 * MSI-X, the only interrupts that it knows.
 *
 * @throws VfioError EINVAL where there is none
 */
export function functionsForLinux(machine: Machine): readonly string[] {
  const driven = [...machine.functions.values()].filter((fn) => fn.driver === VFIO_PCI);
  const found = driven.filter((fn) => fn.declaration.capabilities?.some(({ id }) => id === CapId.MSIX));
  if (found.length > 0) return found.map(({ bdf }) => bdf);
  const names = driven.map(({ bdf, name }) => `${name} at ${bdf}`).join(', ');
  throw new VfioError('EINVAL', `there is no device for Linux: ${names === '' ? 'vfio-pci drives none' : `${names} has no MSI-X`}`, {
    fix: 'Give a device with MSI-X, such as nvme, endpoint-test or virtio-rng. A virtual machine also takes devices without: docs/guides/attach-to-qemu.md.',
  });
}

/**
 * Boot Linux on a machine, run a command in this process's directory, and switch it off.
 *
 * @param command the program and its arguments; empty: a shell
 * @returns the exit status of the command
 * @throws VfioError (rejects) ENOENT, EACCES for the kernel; EINVAL for a machine without functions
 *   for it, or a path that cannot be given to a kernel; EIO when Linux ends before the command;
 *   the errors of `startOn`
 */
export async function linuxOn(machine: Machine, command: readonly string[], options: LinuxOptions = {}): Promise<number> {
  using running = startLinux(machine, command, options);
  return await running.status;
}

/** A Linux that runs. Disposed: it ends. */
export interface RunningLinux extends Disposable {
  /** The exit status of the command. Rejects as `linuxOn`. */
  readonly status: Promise<number>;
  /** End it at once, as a computer without power; `status` is 128 and the number of the signal. */
  stop(signal: number): void;
}

/**
 * As `linuxOn`; the caller waits for `status`, and disposes it then.
 * @throws VfioError as `linuxOn`
 */
export function startLinux(machine: Machine, command: readonly string[], options: LinuxOptions = {}): RunningLinux {
  const { memory = DEFAULT_MEMORY, processors = 1, verbose = false, environment = process.env } = options;
  const kernel = findKernel(options.kernel);
  const functions = options.functions ?? functionsForLinux(machine);
  const { terminal = null } = options;
  using undo = new Cleanup();
  const folder = undo.use(
    new BootFolder({
      command,
      directory: process.cwd(),
      environment: guestEnvironment(environment),
      writable: options.writable === true,
      shared: (options.share ?? []).map((path) => checkPath(realpathSync(path))),
      terminal,
    }),
  );
  const words = [
    kernel,
    `mem=${Math.ceil(memory / 2 ** 20)}M`,
    // One processor needs no seccomp, with which several are possible.
    ...(processors > 1 ? [`ncpus=${processors}`, 'seccomp=on'] : ['seccomp=auto']),
    'root=/dev/root',
    'rootfstype=hostfs',
    `rootflags=${checkPath(realpathSync(options.root ?? '/'))}`,
    options.writable === true ? 'rw' : 'ro',
    ...(verbose ? [] : ['quiet']),
    'con=null',
    'ssl=null',
    // The command has one console, the kernel's messages another.
    terminal === null ? 'con0=null,fd:1' : 'con0=fd:0,fd:1',
    'con1=null,fd:2',
    'console=tty1',
    'noreboot',
    'panic=-1',
    `uml_dir=${folder.path}/`,
    'umid=linux',
    ...functions.map((bdf) => `vfio_uml.device=${bdf}`),
    ...(options.append ?? []),
    ...folder.kernelWords,
  ];
  // The guest maps all of its memory, of which nothing is locked.
  const running = undo.use(startOn(machine, words, { memlock: Number.POSITIVE_INFINITY, ...options }));
  // A process of the guest that starts while the kernel dies has no parent that would end it.
  const namespace = mountNamespace(running.program.pid);
  void running.exited.then(() => namespace !== null && killNamespace(namespace));
  const owns = undo.move();
  let stopped: number | null = null;
  return {
    status: running.status.then((ended) => {
      const { status } = folder;
      if (status !== null) return status;
      if (stopped !== null) return 128 + stopped;
      throw new VfioError('EIO', `Linux ended with status ${ended} before the command had ended`, {
        fix: 'Look at its messages: --verbose.',
      });
    }),
    stop: (signal) => {
      stopped ??= signal;
      running.program.kill(SIGKILL);
    },
    [Symbol.dispose]: () => owns[Symbol.dispose](),
  };
}

/** Variables that a guest gets of those here. */
const INHERITED = ['PATH', 'HOME', 'SHELL', 'TERM', 'LANG', 'LC_ALL', 'TZ'];

function guestEnvironment(environment: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const given = INHERITED.flatMap((name) => (environment[name] === undefined ? [] : [[name, environment[name]]]));
  return { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', ...Object.fromEntries(given) };
}
