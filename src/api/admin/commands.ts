/**
 * Commands of an administrator on a served machine: one row each, with its arguments as they are
 * typed. The command line, its help and the server read the same table. Each row answers as Linux's
 * sysfs or aer-inject does, or acts as a hand on the slot does.
 */
import { errorKinds } from '../../abi/device-host.ts';
import { VfioError } from '../../base/errno.ts';
import { textOf } from '../../base/foreign.ts';
import type { Machine } from '../../engine/machine/machine.ts';
import type { PciFunction } from '../../engine/machine/pci-function.ts';
import { parseBdf } from '../../pci/bdf.ts';
import type { DeviceModel } from '../../pci/declaration.ts';
import { machineDocument } from '../machine-document.ts';

export interface AdminContext {
  readonly machine: Machine;
  /**
   * The function of a command that names none: the function of the socket beside which the request
   * came.
   */
  readonly own: string | null;
  /** The machine stays. False: each client gets a new machine. */
  readonly stays: boolean;
  /** The device that `plug` names. @throws VfioError (rejects) ENOENT, EINVAL */
  readonly model: (device: string) => Promise<DeviceModel>;
  readonly progress: AdminProgress;
}

/** Reports progress before the command is done. */
export type AdminProgress = (text: string) => Promise<void>;

/** The result of a command: for people, and for programs. */
export interface AdminAnswer {
  readonly lines: readonly string[];
  readonly value?: object;
}

export type AdminArguments = Readonly<Record<string, string | boolean>>;

export interface AdminCommand {
  /**
   * The arguments in the order in which the user types them. A name that ends in `?` is optional.
   */
  readonly positional: readonly string[];
  /** From name to effect. The name of an option that takes a value ends in `=VALUE`. */
  readonly options?: Readonly<Record<string, string>>;
  readonly help: string;
  /** It changes nothing. */
  readonly looks?: true;
  readonly run: (context: AdminContext, given: AdminArguments) => AdminAnswer | Promise<AdminAnswer>;
}

const WAIT = { wait: 'wait until its users have released it. Default: the server waits, and the command ends' };

export const adminCommands: Readonly<Record<string, AdminCommand>> = {
  show: {
    positional: [],
    help: 'the machine as it is now',
    looks: true,
    run: ({ machine }) => ({ lines: [], value: machineDocument(machine) }),
  },
  explain: {
    positional: ['bdf'],
    help: 'whether a user could have a function, and which user or device is in the way',
    looks: true,
    run: (context, given) => {
      const explanation = context.machine.explain(functionOf(context, given).bdf);
      return { lines: [explanation.summary], value: explanation };
    },
  },
  bind: {
    positional: ['bdf', 'driver'],
    help: 'give a function to a driver',
    run: (context, given) => {
      const fn = functionOf(context, given);
      context.machine.drivers.checkKnown(text(given, 'driver'));
      context.machine.bind(fn.bdf, text(given, 'driver'));
      return said(`${fn.bdf} is bound to ${fn.driver}`);
    },
  },
  unbind: {
    positional: ['bdf'],
    options: WAIT,
    help: 'take its driver away; the users of a function under vfio-pci are asked to release it',
    run: async (context, given) => {
      const fn = functionOf(context, given);
      const { driver } = fn;
      return await leaving(context, given, `${fn.bdf} is unbound from ${driver}`, [fn], context.machine.unbind(fn.bdf));
    },
  },
  override: {
    positional: ['bdf', 'driver'],
    help: 'only this driver may take the function from now on (driver_override); none: any driver may',
    run: (context, given) => {
      const fn = functionOf(context, given);
      const driver = text(given, 'driver');
      context.machine.setDriverOverride(fn.bdf, driver === 'none' ? null : driver);
      return said(`${fn.bdf}: ${fn.driverOverride === null ? 'any driver that matches' : `only ${fn.driverOverride}`} may take it`);
    },
  },
  probe: {
    positional: ['bdf'],
    help: 'let the driver that matches take the function (drivers_probe)',
    run: (context, given) => {
      const fn = functionOf(context, given);
      return said(`${fn.bdf}: ${context.machine.probe(fn.bdf) ?? 'no driver takes it'}`);
    },
  },
  plug: {
    positional: ['device'],
    options: {
      'at=PLACE': 'device.function on the root bus, or the full address. Default: the first free place behind the port, 00.0',
      'behind=BDF': 'the port or bridge above it',
      'driver=NAME': 'its driver. Default: vfio-pci',
    },
    help: 'plug in a device: edu, nvme,size=1G, or the file of one',
    run: async (context, given) => {
      needsMachine(context);
      const behind = optional(given, 'behind');
      const at = optional(given, 'at') ?? (behind === undefined ? undefined : '00.0');
      if (at === undefined) throw new VfioError('EINVAL', 'the place of the new device is missing', { fix: 'Give --at or --behind.' });
      const model = await context.model(text(given, 'device'));
      const fn = context.machine.add({ at, model, driver: optional(given, 'driver') ?? 'vfio-pci' }, behind);
      const refused = fn.probeError === null ? '' : `; its driver was refused: ${fn.probeError.message}`;
      return said(`${fn.bdf} is there, ${fn.driver === null ? 'without a driver' : `bound to ${fn.driver}`}${refused}`);
    },
  },
  unplug: {
    positional: ['bdf'],
    options: { ...WAIT, surprise: 'pull it out: its users are not asked' },
    help: 'take a function out, with what is behind it',
    run: async (context, given) => {
      needsMachine(context);
      const fn = functionOf(context, given);
      const all = [fn, ...(fn.vfs ?? []), ...(fn.secondary?.everything() ?? [])];
      const surprise = given.surprise === true;
      const gone = context.machine.remove(fn.bdf, { surprise });
      if (surprise) {
        await gone;
        return said(`${fn.bdf} was pulled out`);
      }
      return await leaving(context, given, `${fn.bdf} is unplugged`, all, gone);
    },
  },
  numvfs: {
    positional: ['bdf', 'count'],
    options: WAIT,
    help: 'enable so many virtual functions, or disable all with 0 (sriov_numvfs)',
    run: async (context, given) => {
      const fn = functionOf(context, given);
      const count = number(given, 'count');
      const before = [...(fn.vfs ?? [])];
      const names = () => fn.vfs.map((vf) => vf.bdf).join(', ');
      const done = context.machine.setNumVfs(fn.bdf, count);
      const now =
        count === 0 ? `${fn.bdf} has no virtual functions` : `${fn.bdf} has ${count} virtual function${count === 1 ? '' : 's'}: ${names()}`;
      return await leaving(context, given, now, before, done);
    },
  },
  reset: {
    positional: ['bdf'],
    help: 'reset a function, also one that is in use (sysfs reset)',
    run: (context, given) => {
      const fn = functionOf(context, given);
      context.machine.reset(fn.bdf);
      return said(`${fn.bdf} was reset`);
    },
  },
  suspend: {
    positional: [],
    help: 'put the machine to sleep; users of its devices hear of it first',
    run: async ({ machine }) => {
      await machine.suspend();
      return said(`${machine.name} sleeps`);
    },
  },
  resume: {
    positional: [],
    help: 'wake it up',
    run: ({ machine }) => {
      const slept = machine.suspended;
      machine.resume();
      return said(`${machine.name} ${slept ? 'is awake' : 'was awake'}`);
    },
  },
  wake: {
    positional: ['bdf'],
    help: 'wake a function from low power, as its PME does',
    run: (context, given) => {
      const fn = functionOf(context, given);
      const slept = fn.config.sleeping;
      context.machine.wake(fn.bdf);
      const now = !slept ? 'was awake' : context.machine.suspended ? 'will wake when the machine does' : 'was woken';
      return said(`${fn.bdf} ${now}`);
    },
  },
  error: {
    positional: ['bdf', 'kind'],
    help: `have a function report an error of PCI Express (AER): ${errorKinds.join(', ')}`,
    run: (context, given) => {
      const fn = functionOf(context, given);
      const kind = oneOf(given, 'kind', errorKinds);
      const sent = context.machine.reportError(fn.bdf, kind);
      return said(
        sent
          ? `${fn.bdf} has reported a ${kind} error`
          : `${fn.bdf} has noted a ${kind} error and sent no message: it is masked, or its reporting is off (Device Control, COMMAND.SERR)`,
      );
    },
  },
  power: {
    positional: ['bdf', 'state'],
    help: 'D0 or D3hot, as by its PMCSR',
    run: (context, given) => {
      const fn = functionOf(context, given);
      const state = oneOf(given, 'state', ['D0', 'D3hot'] as const);
      context.machine.setPower(fn.bdf, state);
      return said(`${fn.bdf} is in ${fn.config.sleeping ? 'D3hot' : 'D0'}`);
    },
  },
  params: {
    positional: ['parameter?'],
    help: 'the module parameters; one of them, or NAME=VALUE to set it',
    run: ({ machine }, given) => {
      const wanted = optional(given, 'parameter');
      const at = wanted?.indexOf('=') ?? -1;
      const name = at < 0 ? wanted : wanted!.slice(0, at);
      if (at >= 0) machine.setParam(name!, wanted!.slice(at + 1));
      const named = (state: (typeof machine.params)[number]) =>
        name === undefined || [state.name, state.linux, state.linux?.split('.')[1]].includes(name);
      const states = machine.params.filter(named);
      if (states.length === 0) throw new VfioError('ENOENT', `there is no parameter '${name}'`, { fix: 'vfio admin … params lists them.' });
      const lines = states.map(({ name: ours, linux, value, fixedBecause }) => {
        const also = linux === null ? '' : ` (${linux})`;
        return `${ours}${also} = ${value ?? 'none'}${fixedBecause === null ? '' : `; cannot be set now: ${fixedBecause}`}`;
      });
      return { lines, value: { params: states } };
    },
  },
};

/**
 * A row, by its name.
 *
 * @throws VfioError EINVAL for a name that is not a command's
 */
export function adminCommand(name: string): AdminCommand {
  if (Object.hasOwn(adminCommands, name)) return adminCommands[name]!;
  throw new VfioError('EINVAL', `there is no command '${name.slice(0, 40)}'`, {
    fix: `There are ${Object.keys(adminCommands).join(', ')}.`,
  });
}

const said = (line: string): AdminAnswer => ({ lines: [line] });

/**
 * The answer `done` once the users of `functions` have released them; the progress first says which
 * users the server waits for.
 */
async function leaving(
  { progress, machine }: AdminContext,
  given: AdminArguments,
  done: string,
  functions: readonly PciFunction[],
  gone: Promise<void>,
): Promise<AdminAnswer> {
  const waiting = functions.filter((fn) => fn.unbinding !== null);
  if (waiting.length === 0) {
    await gone;
    return said(done);
  }
  // The work goes on when the administrator does not wait for it, or has left.
  gone.catch((error: unknown) => machine.context.events.note('warn', `admin ${done}`, `not done: ${done}: ${textOf(error)}`));
  const who = waiting.map((fn) => `${fn.bdf} is used by ${fn.group?.file?.holder ?? 'a user'}, which is asked to release it`);
  if (given.wait === true) {
    for (const line of who) await progress(line);
    await gone;
    return said(done);
  }
  return { lines: [...who, `once it is released: ${done}`] };
}

/** @throws VfioError EOPNOTSUPP where each client gets a new machine */
function needsMachine({ stays }: AdminContext): void {
  if (stays) return;
  throw new VfioError('EOPNOTSUPP', 'one device is served here, in a machine of its own', {
    fix: 'Serve a machine: vfio serve machine.yaml --socket-path DIRECTORY.',
  });
}

// --- arguments

function functionOf({ machine, own }: AdminContext, given: AdminArguments): PciFunction {
  const named = optional(given, 'bdf') ?? own ?? undefined;
  if (named === undefined)
    throw new VfioError('EINVAL', 'the address of a function is missing', { fix: 'Give its address, e.g. 0000:01:00.0.' });
  return machine.function(parseBdf(named));
}

function optional(given: AdminArguments, name: string): string | undefined {
  const value = given[name];
  return typeof value === 'string' ? value : undefined;
}

function text(given: AdminArguments, name: string): string {
  const value = optional(given, name);
  if (value === undefined) throw new VfioError('EINVAL', `the ${name} is missing`);
  return value;
}

function number(given: AdminArguments, name: string): number {
  const value = text(given, name);
  if (/^\d{1,6}$/.test(value)) return Number(value);
  throw new VfioError('EINVAL', `the ${name} is ${JSON.stringify(value.slice(0, 40))}; give a whole number`);
}

function oneOf<T extends string>(given: AdminArguments, name: string, choices: readonly T[]): T {
  const value = text(given, name);
  const found = choices.find((choice) => choice.toLowerCase() === value.toLowerCase());
  if (found !== undefined) return found;
  throw new VfioError('EINVAL', `the ${name} is ${JSON.stringify(value.slice(0, 40))}`, { fix: `Give one of ${choices.join(', ')}.` });
}
