/** The rows of `vfio admin`. */
import { errorKinds } from '../../abi/device-host.ts';
import { adminCommands } from '../../api/admin/commands.ts';
import type { ArgumentSpec, CommandSpec, OptionSpec } from '../command.ts';
import { bdf, driver, oneOf, pluggable, type ValueKind } from '../values.ts';

/** Kinds of the arguments that the server's table has, by name. */
function kinds(): Readonly<Record<string, ValueKind>> {
  // The socket of one function needs no address.
  const functions: ValueKind = {
    suggest: async (word, typed) => (typed.words[0]?.startsWith('unix:') ? [] : await bdf.suggest!(word, typed)),
  };
  return { bdf: functions, driver, device: pluggable, kind: oneOf(errorKinds), state: oneOf(['D0', 'D3hot']), behind: functions };
}

/**
 * The server's table of commands, as commands of this command line. The server checks the values.
 */
export function adminRows(): readonly CommandSpec[] {
  const kindOf = kinds();
  const suggestive = (name: string): { readonly kind?: ValueKind } => {
    const { choices, suggest } = kindOf[name] ?? {};
    // The server takes values in either case, and says which it knows.
    if (choices !== undefined) return { kind: { suggest: async () => choices.map((value) => ({ value })) } };
    return suggest === undefined ? {} : { kind: { suggest } };
  };
  return Object.entries(adminCommands).map(([name, { positional, options = {}, help }]) => ({
    name,
    summary: help,
    arguments: positional.map((entry): ArgumentSpec => {
      const bare = entry.replace('?', '');
      return { name: entry === bare ? `<${bare}>` : `[${bare}]`, help: '', ...suggestive(bare) };
    }),
    options: Object.entries(options).map(([entry, text]): OptionSpec => {
      const [option = '', value] = entry.split('=');
      return { flags: `--${option}${value === undefined ? '' : ` <${value.toLowerCase()}>`}`, help: text, ...suggestive(option) };
    }),
  }));
}
