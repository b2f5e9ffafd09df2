/**
 * The table of commands, in the order of `vfio --help`. A command is one file under commands/, and
 * one word here.
 */
import type { CommandSpec } from './command.ts';
import { admin } from './commands/admin.ts';
import { bind } from './commands/bind.ts';
import { completion, suggestions } from './commands/completion.ts';
import { config } from './commands/config.ts';
import { demo } from './commands/demo.ts';
import { doctor } from './commands/doctor.ts';
import { events } from './commands/events.ts';
import { exec } from './commands/exec.ts';
import { explain } from './commands/explain.ts';
import { explainWrite } from './commands/explain-write.ts';
import { grant } from './commands/grant.ts';
import { lend } from './commands/lend.ts';
import { linux } from './commands/linux.ts';
import { ls } from './commands/ls.ts';
import { migrate } from './commands/migrate.ts';
import { net } from './commands/net.ts';
import { newProject } from './commands/new.ts';
import { nvme } from './commands/nvme.ts';
import { restore } from './commands/restore.ts';
import { run } from './commands/run.ts';
import { serve } from './commands/serve.ts';
import { show } from './commands/show.ts';
import { trace } from './commands/trace.ts';
import { oneOf } from './values.ts';

export interface CommandGroup {
  readonly title: string;
  readonly commands: readonly CommandSpec[];
}

const listed: readonly CommandGroup[] = [
  { title: 'To begin with', commands: [demo, newProject] },
  { title: 'Devices at work', commands: [serve, run, exec, linux, nvme, net, migrate, trace, events] },
  { title: 'This computer', commands: [ls, doctor, bind, restore, grant, lend] },
  { title: 'Machines', commands: [show, explain, admin] },
  { title: 'Config spaces', commands: [config, explainWrite] },
];
const names = listed.flatMap(({ commands }) => commands.map(({ name }) => name));

/** commander carries it out. */
export const help: CommandSpec = {
  name: 'help',
  summary: 'print the help of a command',
  arguments: [{ name: '[command]', help: 'the command', kind: oneOf([...names, completion.name]) }],
};

export const groups: readonly CommandGroup[] = [...listed, { title: 'Other', commands: [completion, help] }];

/** Commands that other programs call, which help does not list. */
export const hidden: readonly CommandSpec[] = [suggestions];

/** `vfio` itself. */
export const vfio: CommandSpec = {
  name: 'vfio',
  summary: 'PCI devices written in TypeScript, behind the kernel’s VFIO rules, and drivers that run unchanged on models and hardware',
  commands: groups.flatMap(({ commands }) => commands),
};

/** Forms of addresses, each with its meaning. */
export const addressForms: readonly (readonly [string, string])[] = [
  ['sim:edu | sim:nvme,size=1G', 'a software device of the package'],
  ['sim:./my-device.ts,option=value', 'a software device in a file of yours'],
  ['unix:/path.sock', 'a device that a vfio-user server has'],
  ['0000:03:00.0 | 03:00.0', 'a PCI device of this computer, or of --machine FILE'],
  ['mdev:UUID', 'a mediated device of this computer'],
  ['lent:/path.sock', 'a device of this computer that vfio lend has opened'],
];

/** Exit statuses, each with its meaning. */
export const exitStatuses: readonly (readonly [string, string])[] = [
  ['0', 'ok'],
  ['1', 'failure'],
  ['2', 'usage'],
  ['3', 'a check found problems'],
  ['4', 'refused by a safety rule'],
  ['5', 'device gone'],
  ['130', 'interrupted'],
];
