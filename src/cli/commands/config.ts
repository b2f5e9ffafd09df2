import { Command, Option } from 'commander';
import { VfioError } from '../../base/errno.ts';
import { decodeConfig } from '../../pci/decode.ts';
import { formatLspci } from '../../pci/format-lspci.ts';
import { toHex } from '../../pci/hex-dump.ts';
import { headerPermissions } from '../../pci/permissions/header.ts';
import { formatPermissions, permissionsOf } from '../../pci/permissions/tables.ts';
import { addressOrDump, machineOption, selectOption } from '../arguments.ts';
import type { CommandContext } from '../command.ts';
import type { ConfigTarget } from '../config-target.ts';
import { Exit } from '../exit-codes.ts';
import { loadPciNames } from '../pci-names.ts';
import { json, say } from '../terminal.ts';
import { tokenOf, type VfTokenOptions, vfTokenOption } from '../vf-token-file.ts';

interface Options extends VfTokenOptions {
  readonly machine?: string;
  readonly user?: boolean;
  readonly hex?: boolean;
  readonly json?: boolean;
  readonly numeric?: boolean;
  readonly terse?: boolean;
  readonly permissions?: boolean;
  readonly select?: string;
}

export function configCommand({ terminal, exit }: CommandContext): Command {
  return new Command('config')
    .description('print a config space the way lspci -vvv does')
    .argument('<address>', 'the device: a BDF, sim:MODEL, unix:PATH, or a file made by lspci -xxxx', addressOrDump)
    .addOption(machineOption())
    .addOption(vfTokenOption())
    .addOption(selectOption())
    .option('-u, --user', 'what a user sees through VFIO instead of what the hardware holds')
    .option('-n, --numeric', 'numbers only, no names')
    .option('-t, --terse', 'one line')
    .addOption(new Option('-x, --hex', 'as hexadecimal that lspci -F reads').conflicts('json'))
    .addOption(
      new Option('-p, --permissions', 'which bits of its registers a user may write through VFIO, and why').conflicts([
        'json',
        'hex',
        'user',
      ]),
    )
    .option('--json', 'one JSON document for programs')
    .addHelpText(
      'after',
      `
Without --machine a BDF is a device of this computer, read through sysfs. Of a dump with several functions all are printed.

Examples:
  vfio config sim:edu
  vfio config 01:00.0 --machine examples/machines/desktop.yaml --user
  vfio config sim:edu --permissions
  vfio config sim:edu --hex > edu.txt && lspci -F edu.txt -vvv`,
    )
    .action(async (address: string, options: Options) => {
      const { configTargets, doesNotAnswer } = await import('../config-target.ts');
      const { machine, select } = options;
      const targets = await configTargets(address, { machine, select, token: tokenOf(options, terminal) });
      const shown: { readonly target: ConfigTarget; readonly bytes: Uint8Array }[] = [];
      for (const target of targets) {
        if (options.user !== true) {
          shown.push({ target, bytes: target.bytes });
          continue;
        }
        try {
          shown.push({ target, bytes: target.userView() });
          for (const warning of target.warnings()) terminal.err(`${target.bdf}: ${warning}`);
        } catch (error) {
          // Of several the others are shown.
          if (targets.length === 1 || !(error instanceof VfioError)) throw error;
          terminal.err(`${error.code}: ${error.message}`);
        }
      }
      if (shown.length === 0) exit(Exit.FAILURE);
      if (options.hex === true) {
        say(shown.map(({ target, bytes }) => toHex(bytes, target.bdf).trimEnd()).join('\n\n'), terminal.out);
        return;
      }
      const names = options.numeric === true ? null : loadPciNames();
      const decoded = shown.map(({ target: { bdf, regions, identity, host }, bytes }) =>
        decodeConfig(bytes, { bdf, names, resources: regions, identity, host }),
      );
      for (const d of decoded) if (!d.answers) terminal.err(doesNotAnswer(d.bdf));
      if (decoded.length === 1 && !decoded[0]!.answers) exit(Exit.GONE);
      if (options.permissions === true) {
        const tables = new Set([
          headerPermissions,
          ...decoded.flatMap((d) => d.capabilities.map((c) => permissionsOf(c.id, false))),
          ...decoded.flatMap((d) => d.extendedCapabilities.map((c) => permissionsOf(c.id, true))),
        ]);
        say(formatPermissions([...tables].filter((table) => table !== undefined)), terminal.out);
        return;
      }
      if (options.json === true) {
        if (decoded.length === 1) json(terminal, 'vfio-ts/config/1', decoded[0]!);
        else json(terminal, 'vfio-ts/configs/1', { functions: decoded });
        return;
      }
      const terse = options.terse === true;
      // As lspci: domain 0 is written where there are others.
      const domain = decoded.some((d) => !d.bdf.startsWith('0000:'));
      const blocks = decoded.map((d) => formatLspci(d, terse ? 0 : 3, { domain }).trimEnd());
      say(blocks.join(terse ? '\n' : '\n\n'), terminal.out);
    });
}
