/** `vfio exec`: a program on a machine, until it ends. */
import { statSync } from 'node:fs';
import { startOn } from '../../api/exec.ts';
import { surviveForeignCode } from '../../api/foreign-context.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { FaultPlan } from '../../engine/fault-plan.ts';
import { EventStream } from '../../events/stream.ts';
import type { CommandContext } from '../command.ts';
import { writeEventFiles } from '../events/event-files.ts';
import { logTo } from '../serve/serve-options.ts';
import { tokenOf } from '../vf-token-file.ts';
import { stepNamed } from './call-names.ts';
import { commandMachine } from './command-machine.ts';
import type { ExecOptions } from './exec-options.ts';
import { traceCalls } from './trace-calls.ts';
import { untilGone } from './until-gone.ts';

export async function execProgram({ terminal }: CommandContext, options: ExecOptions, program: string, args: string[]): Promise<number> {
  const { bars, trace = false, output, fail = [], record, sysfs = true } = options;
  if (output !== undefined && !trace) throw new VfioError('EINVAL', '--output is the file of --trace', { fix: 'Give --trace, too.' });
  if (isDirectory(program)) {
    const { joinProgram } = await import('./join.ts');
    return await joinProgram(terminal, options, program, args);
  }
  using undo = new Cleanup();
  const events = undo.use(new EventStream({ log: logTo(terminal) }));
  undo.use(writeEventFiles(events, options, terminal, { record, stdoutHas: 'the program' }));
  if (trace) undo.use(traceCalls(events, output, terminal));
  undo.use(surviveForeignCode(events));
  const faults = new FaultPlan();
  for (const { call, errno, skip } of fail) faults.failNext(stepNamed(call), errno, skip);
  const vfToken = tokenOf(options, terminal);
  const machine = await commandMachine(options, { events, faults }, undo);
  const running = undo.use(startOn(machine, [program, ...args], { sysfs, vfToken, ...(bars === undefined ? {} : { bars }) }));
  return await untilGone(running, program, terminal);
}

/** A directory is no program: it is where a machine is served. */
function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}
