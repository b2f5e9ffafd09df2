/** `vfio linux`: a Linux on a machine's devices, until its command ends. */
import { spawnSync } from 'node:child_process';
import { constants } from 'node:os';
import { surviveForeignCode } from '../../api/foreign-context.ts';
import { buildKernel } from '../../api/linux/kernel-build.ts';
import { startLinux } from '../../api/linux.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { EventStream } from '../../events/stream.ts';
import type { CommandContext } from '../command.ts';
import type { EventsOptions } from '../event-options.ts';
import { writeEventFiles } from '../events/event-files.ts';
import { commandMachine, type MachineWords } from '../exec/command-machine.ts';
import { Exit } from '../exit-codes.ts';
import { interruptible } from '../interruptible.ts';
import { logTo } from '../serve/serve-options.ts';
import type { Terminal } from '../terminal.ts';
import { endingSignals } from '../until-stopped.ts';
import { tokenOf, type VfTokenOptions } from '../vf-token-file.ts';

export interface LinuxCommandOptions extends EventsOptions, MachineWords, VfTokenOptions {
  readonly kernel?: string;
  readonly root?: string;
  readonly writable?: boolean;
  readonly share?: readonly string[];
  readonly memory?: number;
  readonly processors?: number;
  readonly verbose?: boolean;
  readonly append?: readonly string[];
  readonly build?: boolean;
  readonly source?: string;
}

export async function bootLinux({ terminal }: CommandContext, options: LinuxCommandOptions, command: readonly string[]): Promise<number> {
  const { device, machine: file, build, source, vfTokenFile, ...boot } = options;
  if (build === true) {
    const status = await interruptible((signal) => built(terminal, source, signal));
    if (status !== Exit.OK || (device === undefined && file === undefined && command.length === 0)) return status;
  } else if (source !== undefined) {
    throw new VfioError('EINVAL', '--source is a source for --build, which is not given', { fix: 'Give --build, too.' });
  }
  const vfToken = tokenOf({ vfTokenFile }, terminal);
  using undo = new Cleanup();
  const events = undo.use(new EventStream({ log: logTo(terminal) }));
  undo.use(writeEventFiles(events, options, terminal, { stdoutHas: 'the command' }));
  undo.use(surviveForeignCode(events));
  const machine = await commandMachine(file === undefined && device === undefined ? { device: ['nvme'] } : options, { events }, undo);
  const { columns, rows } = process.stdout;
  const isTerminal = process.stdin.isTTY === true && process.stdout.isTTY === true;
  const running = undo.use(startLinux(machine, command, { ...boot, vfToken, ...(isTerminal ? { terminal: { columns, rows } } : {}) }));
  for (const [signal] of endingSignals) {
    const stop = () => running.stop(constants.signals[signal]);
    process.on(signal, stop);
    undo.defer(() => process.off(signal, stop));
  }
  try {
    return await running.status;
  } catch (error) {
    // A kernel that ends early leaves the terminal as it has set it.
    if (isTerminal) spawnSync('stty', ['sane'], { stdio: 'inherit' });
    throw error;
  }
}

async function built({ err }: Terminal, source: string | undefined, signal: AbortSignal): Promise<number> {
  err(`built ${await buildKernel({ progress: err, signal, ...(source === undefined ? {} : { source }) })}`);
  return Exit.OK;
}
