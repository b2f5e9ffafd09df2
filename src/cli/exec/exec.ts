/** `vfio exec`: a program on a machine, until it ends. */
import { type BarAccess, startOn } from '../../api/exec.ts';
import { surviveForeignCode } from '../../api/foreign-context.ts';
import { importMachine } from '../../api/machine.ts';
import { loadModel, machineAround, startMachine } from '../../api/simulation.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import type { Machine } from '../../engine/machine/machine.ts';
import { EventStream } from '../../events/stream.ts';
import type { CommandContext } from '../command.ts';
import { modelAddress } from '../serve/model-address.ts';
import { logTo } from '../serve/serve-options.ts';

export interface ExecOptions {
  readonly device?: readonly string[];
  readonly machine?: string;
  readonly bars?: BarAccess;
}

export async function execProgram({ terminal }: CommandContext, options: ExecOptions, program: string, args: string[]): Promise<number> {
  using undo = new Cleanup();
  const events = undo.use(new EventStream({ log: logTo(terminal) }));
  undo.use(surviveForeignCode(events));
  const machine = await machineFor(options, events, undo);
  const running = undo.use(startOn(machine, [program, ...args], { ...(options.bars === undefined ? {} : { bars: options.bars }) }));
  undo.use(signalsFor(running.program));
  return await running.status;
}

/** The nodes of groups are the user's, as a udev rule would make them. */
async function machineFor(options: ExecOptions, events: EventStream, undo: Cleanup): Promise<Machine> {
  const nodeOwner = process.getuid!();
  if (options.machine !== undefined) return undo.use(await importMachine(options.machine, { events, nodeOwner }));
  const [device, ...others] = options.device ?? [];
  if (device === undefined) {
    throw new VfioError('EINVAL', 'there is no device for the program', {
      fix: 'Give --device edu, --device ./card.ts, or --machine FILE.',
    });
  }
  if (others.length > 0)
    throw new VfioError('EINVAL', 'there is one device without a machine file', { fix: 'Declare all of them in a machine file.' });
  const { machine, owns } = startMachine(machineAround(await loadModel(modelAddress(device))), { events, nodeOwner });
  undo.use(owns);
  return machine;
}

/** Ctrl-C reaches the program by the terminal; signals to this process alone are handed on. */
function signalsFor(program: { kill(signal: number): void }): Disposable {
  const ignored = () => {};
  const handedOn = [
    ['SIGTERM', 15],
    ['SIGHUP', 1],
  ] as const;
  const listeners = handedOn.map(([name, number]) => {
    const listener = () => program.kill(number);
    process.on(name, listener);
    return () => void process.off(name, listener);
  });
  process.on('SIGINT', ignored);
  process.on('SIGQUIT', ignored);
  return {
    [Symbol.dispose]: () => {
      for (const off of listeners) off();
      process.off('SIGINT', ignored);
      process.off('SIGQUIT', ignored);
    },
  };
}
