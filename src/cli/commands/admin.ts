import { Command } from 'commander';
import { withFullPaths } from '../../api/address.ts';
import { type AdminAnswer, type AdminCommand, adminCommands } from '../../api/admin/commands.ts';
import { optionName, positionalName } from '../../api/admin/door.ts';
import type { MachineDocument } from '../../api/machine-document.ts';
import type { Explanation } from '../../engine/machine/explain.ts';
import { parseBdf } from '../../pci/bdf.ts';
import type { CommandContext } from '../command.ts';
import { machineLines } from '../machine-tree.ts';
import { json, type Terminal } from '../terminal.ts';
import { printExplanation } from './explain.ts';

export function adminCommandLine({ terminal }: CommandContext): Command {
  return new Command('admin')
    .description('administer a machine that is served, while it is used: what sysfs, aer-inject and a hand on the slot do')
    .argument('<where>', "the directory where a machine is served; or unix:PATH, one function's socket, which needs no BDF")
    .argument('[command]', 'what to do: see below. Default: show')
    .argument('[arguments...]', 'of the command')
    .option('--json', 'the answer as JSON')
    .allowUnknownOption()
    .addHelpText('after', () => `\nCommands:\n${tableLines().join('\n')}\n${examples}`)
    .action(async (where: string, command: string | undefined, rest: string[], options: { json?: boolean }, self: Command) => {
      // commander does not parse options of the row that stand behind its name: they come with the
      // row's arguments.
      const name = command ?? 'show';
      const row = Object.hasOwn(adminCommands, name) ? adminCommands[name]! : self.error(`error: there is no command '${name}'`);
      if (where === 'unix:') self.error("error: 'unix:' needs the path of a socket");
      const given = parseArguments(self, row, name, rest, where.startsWith('unix:'));
      const answer = await ask(where, name, given, terminal);
      if (options.json === true) json(terminal, `vfio-ts/admin-${name}/1`, answer.value ?? { lines: answer.lines });
      else print(name, answer, terminal);
    });
}

const examples = `
Who may do it: the owner of the sockets, and root (PATH.manage and machine.manage have mode 0600).

Examples:
  vfio admin /tmp/card unbind 01:00.1 --wait
  vfio admin /tmp/card plug nvme,size=1G --behind 00:02.0
  vfio admin /tmp/card error 01:00.0 nonfatal
  vfio admin unix:/tmp/edu.sock reset`;

function tableLines(): string[] {
  const lines: string[] = [];
  for (const [name, { positional, options = {}, help }] of Object.entries(adminCommands)) {
    const words = positional.map((entry) => (entry.endsWith('?') ? `[${positionalName(entry)}]` : `<${entry}>`));
    lines.push(`  ${[name, ...words].join(' ').padEnd(26)} ${help}`);
    for (const [option, text] of Object.entries(options)) lines.push(`    --${option.replace('=', ' ')}`.padEnd(29) + text);
  }
  return lines;
}

/** The words that were typed behind the row's name. */
function parseArguments(
  self: Command,
  row: AdminCommand,
  name: string,
  rest: readonly string[],
  isOne: boolean,
): Record<string, string | boolean> {
  const given: Record<string, string | boolean> = {};
  const words: string[] = [];
  const flags = new Map(Object.keys(row.options ?? {}).map((entry) => [optionName(entry), entry.includes('=')]));
  for (let i = 0; i < rest.length; i++) {
    const [, flag, , inline] = /^--([a-z]+)(=(.*))?$/s.exec(rest[i]!) ?? [];
    if (flag === undefined) words.push(rest[i]!);
    else if (!flags.has(flag)) self.error(`error: ${name} has no option --${flag}`);
    else if (flags.get(flag) === false) {
      if (inline !== undefined) self.error(`error: --${flag} of ${name} takes no value`);
      given[flag] = true;
    } else {
      const value = inline ?? rest[++i];
      if (value === undefined) self.error(`error: --${flag} of ${name} needs a value`);
      given[flag] = value;
    }
  }
  const names = row.positional.map(positionalName);
  // The socket of a function says which one is meant.
  if (isOne && names[0] === 'bdf' && !isBdf(words[0])) names.shift();
  const needed = names.filter((each) => !row.positional.includes(`${each}?`)).length;
  if (words.length < needed) self.error(`error: ${name} needs ${names.slice(words.length, needed).join(' and ')}`);
  if (words.length > names.length) self.error(`error: ${name} takes no '${words[names.length]}'`);
  for (const [i, word] of words.entries()) given[names[i]!] = word;
  // The server reads the file, and has a working directory of its own.
  if (typeof given.device === 'string') given.device = withFullPaths(given.device);
  return given;
}

function isBdf(word: string | undefined): boolean {
  try {
    return word !== undefined && parseBdf(word) !== '';
  } catch {
    return false;
  }
}

async function ask(where: string, name: string, given: Record<string, string | boolean>, terminal: Terminal): Promise<AdminAnswer> {
  const progress = (text: string): void => terminal.err(text);
  if (!where.startsWith('unix:')) {
    const { administerMachine } = await import('../../api/machine-server.ts');
    return await administerMachine(where, name, given, progress);
  }
  const { connectDoor } = await import('../../api/migrate/door.ts');
  const { Link } = await import('../../api/migrate/link.ts');
  const { askAdmin } = await import('../../api/admin/door.ts');
  using link = new Link(connectDoor(where.slice('unix:'.length)));
  return await askAdmin(link, name, given, progress);
}

function print(name: string, { lines, value }: AdminAnswer, terminal: Terminal): void {
  if (name === 'explain' && value !== undefined) printExplanation(value as Explanation, terminal);
  else for (const line of name === 'show' ? machineLines(value as MachineDocument, terminal) : lines) terminal.out(line);
}
