/** `vfio exec DIRECTORY`: a program on the machine that another process serves. */
import { startJoined } from '../../api/join/join-machine.ts';
import { VfioError } from '../../base/errno.ts';
import type { Terminal } from '../terminal.ts';
import { tokenOf } from '../vf-token-file.ts';
import { stepNamed } from './call-names.ts';
import type { ExecOptions } from './exec-options.ts';
import { linesTo } from './trace-calls.ts';
import { untilGone } from './until-gone.ts';

/** @throws VfioError (rejects) EINVAL for options of the machine's own process; as `startJoined` */
export async function joinProgram(
  terminal: Terminal,
  options: ExecOptions,
  directory: string,
  command: readonly string[],
): Promise<number> {
  const { bars, trace = false, output, fail = [], sysfs = true } = options;
  refuseOptionsOfServer(options, directory);
  const [program] = command;
  if (program === undefined) {
    throw new VfioError('EINVAL', `${directory} is a directory, and there is no program behind it`, {
      fix: `vfio exec ${directory} -- PROGRAM`,
    });
  }
  const faults = fail.map(({ call, errno, skip }) => {
    const step = stepNamed(call);
    if (step.includes('.')) {
      throw new VfioError('EINVAL', `${step} is a step of the engine, which all programs of the machine share`, {
        fix: 'Name a call of this program: --fail MAP_DMA:2:ENOMEM.',
      });
    }
    return { step, errno, skip };
  });
  using lines = trace ? linesTo(output, terminal) : null;
  using running = await startJoined(directory, command, {
    sysfs,
    faults,
    vfToken: tokenOf(options, terminal),
    onTrace: lines?.print,
    ...(bars === undefined ? {} : { bars }),
    onLost: ({ code, message }) => {
      terminal.err(
        `the machine in ${directory} has gone (${code}: ${message}): calls of ${program} on files of VFIO fail with ENOSYS from now on`,
      );
    },
  });
  return await untilGone(running, program, terminal);
}

function refuseOptionsOfServer({ device = [], machine, events, eventsKinds, data, record }: ExecOptions, directory: string): void {
  const given: readonly (readonly [string, boolean, string])[] = [
    ['--device', device.length > 0, 'whose devices are its own'],
    ['--machine', machine !== undefined, 'whose devices are its own'],
    ['--events', events !== undefined, 'whose events vfio serve --events writes'],
    ['--events-kinds', eventsKinds !== undefined, 'whose events vfio serve --events writes'],
    ['--data', data === true, 'whose events vfio serve --events writes'],
    ['--record', record !== undefined, 'whose accesses vfio serve --record writes'],
  ];
  const [wrong] = given.filter(([, isGiven]) => isGiven);
  if (wrong === undefined) return;
  const [option, , why] = wrong;
  throw new VfioError('EINVAL', `${option} is for a machine of this command: ${directory} is that of another process, ${why}`, {
    fix: `Leave ${option} out, or the directory.`,
  });
}
