/** `vfio admin`: an administrator's commands for a served machine. */
import { withFullPaths } from '../../api/address.ts';
import type { AdminAnswer } from '../../api/admin/commands.ts';
import type { MachineDocument } from '../../api/machine-document.ts';
import type { Explanation } from '../../engine/machine/explain.ts';
import { isBdf } from '../../pci/bdf.ts';
import type { CommandContext, CommandSpec } from '../command.ts';
import { printExplanation } from '../explanation.ts';
import { machineLines } from '../machine-tree.ts';
import { json, type Terminal } from '../terminal.ts';
import { adminRows } from './rows.ts';

type Given = Record<string, string | boolean>;

/** @param rest words behind the row's name, with its options, which commander leaves to the row */
export async function administer(
  context: CommandContext,
  options: { readonly json?: boolean },
  where: string,
  name = 'show',
  rest: readonly string[] = [],
): Promise<undefined> {
  const { terminal, usage } = context;
  const row = adminRows().find((each) => each.name === name) ?? usage(`there is no command '${name}'`);
  if (where === 'unix:') usage("'unix:' needs the path of a socket");
  const given = await parsed(row, rest, where.startsWith('unix:'), context);
  const answer = await ask(where, name, given, terminal);
  if (options.json === true) json(terminal, `vfio-ts/admin-${name}/1`, answer.value ?? { lines: answer.lines });
  else print(name, answer, terminal);
}

/** The row's arguments by name. @param isOne the socket of one function, which needs no address */
async function parsed(row: CommandSpec, rest: readonly string[], isOne: boolean, context: CommandContext): Promise<Given> {
  const [first, ...others] = row.arguments ?? [];
  const omitted = isOne && first?.name === '<bdf>' && !isBdf(rest.find((word) => !word.startsWith('-')) ?? '');
  const spec = omitted ? { ...row, arguments: others } : row;
  const given: Given = {};
  const read = async (_context: CommandContext, options: Given, ...words: (string | undefined)[]): Promise<undefined> => {
    Object.assign(given, options);
    for (const [i, { name }] of (spec.arguments ?? []).entries()) {
      if (words[i] !== undefined) given[name.slice(1, -1)] = words[i];
    }
  };
  await context.runRow({ ...spec, run: async () => read }, rest);
  // The server reads the file, and has a working directory of its own.
  if (typeof given.device === 'string') given.device = withFullPaths(given.device);
  return given;
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
