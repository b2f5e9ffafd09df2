/** `vfio exec`: a program on a machine, until it ends. */
import { constants } from 'node:os';
import { type BarAccess, startOn } from '../../api/exec.ts';
import { surviveForeignCode } from '../../api/foreign-context.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { FaultPlan } from '../../engine/fault-plan.ts';
import { EventStream } from '../../events/stream.ts';
import type { RunningProgram } from '../../exec/launcher.ts';
import type { CommandContext } from '../command.ts';
import type { EventsOptions } from '../event-options.ts';
import { writeEventFiles } from '../events/event-files.ts';
import type { Fault } from '../fail-option.ts';
import { logTo } from '../serve/serve-options.ts';
import type { Terminal } from '../terminal.ts';
import { stepNamed } from './call-names.ts';
import { commandMachine, type MachineWords } from './command-machine.ts';
import { traceCalls } from './trace-calls.ts';

export interface ExecOptions extends EventsOptions, MachineWords {
  readonly bars?: BarAccess;
  readonly trace?: boolean;
  readonly output?: string;
  readonly fail?: readonly Fault[];
  readonly record?: string;
  /** False with --no-sysfs. */
  readonly sysfs?: boolean;
}

export async function execProgram({ terminal }: CommandContext, options: ExecOptions, program: string, args: string[]): Promise<number> {
  const { bars, trace = false, output, fail = [], record, sysfs = true } = options;
  if (output !== undefined && !trace) throw new VfioError('EINVAL', '--output is the file of --trace', { fix: 'Give --trace, too.' });
  using undo = new Cleanup();
  const events = undo.use(new EventStream({ log: logTo(terminal) }));
  undo.use(writeEventFiles(events, options, terminal, { record, stdoutHas: 'the program' }));
  if (trace) undo.use(traceCalls(events, output, terminal));
  undo.use(surviveForeignCode(events));
  const faults = new FaultPlan();
  for (const { call, errno, skip } of fail) faults.failNext(stepNamed(call), errno, skip);
  const machine = await commandMachine(options, { events, faults }, undo);
  const running = undo.use(startOn(machine, [program, ...args], { sysfs, ...(bars === undefined ? {} : { bars }) }));
  return await untilGone(running, program, terminal);
}

/** So long after the end of the program, a line says what is waited for: milliseconds. */
const WAIT_SAID_MS = 1000;

/**
 * The exit status, once the program and all programs that it has started are gone. Ctrl-C reaches
 * them by the terminal; other signals to this process alone are handed on. When the program itself
 * has ended, any of these signals ends the wait for the others.
 */
async function untilGone({ program, exited, status }: RunningProgram, name: string, terminal: Terminal): Promise<number> {
  let stop: (() => void) | null = null;
  const handlers = (['SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGHUP'] as const).map((signal) => {
    const handler = () => {
      if (stop !== null) stop();
      else if (signal === 'SIGTERM' || signal === 'SIGHUP') program.kill(constants.signals[signal]);
    };
    process.on(signal, handler);
    return () => void process.off(signal, handler);
  });
  let said: NodeJS.Timeout | null = null;
  try {
    const first = await exited;
    const stopped = new Promise<void>((settle) => {
      stop = settle;
    });
    said = setTimeout(() => {
      terminal.err(
        `${name} has ended. Programs that it started go on, and have the devices until they end; Ctrl-C takes the devices away.`,
      );
    }, WAIT_SAID_MS);
    await Promise.race([status, stopped]);
    return first;
  } finally {
    if (said !== null) clearTimeout(said);
    for (const off of handlers) off();
  }
}
