import { Command, Option } from 'commander';
import { decodeConfig, formatLspci } from '../../../pci/decode.ts';
import { toHex } from '../../../pci/hex-dump.ts';
import { formatPermissions, permissionsOf } from '../../../pci/permission-check.ts';
import { headerPermissions } from '../../../pci/permissions.ts';
import { loadPciNames } from '../../pci-names.ts';
import { tokenOf, type VfTokenOptions, vfTokenOption } from '../../vf-token-file.ts';
import { addressOrDump, machineOption } from '../arguments.ts';
import type { CommandContext } from '../command.ts';
import { json } from '../terminal.ts';

interface Options extends VfTokenOptions {
  readonly machine?: string;
  readonly user?: boolean;
  readonly hex?: boolean;
  readonly json?: boolean;
  readonly numeric?: boolean;
  readonly terse?: boolean;
  readonly permissions?: boolean;
}

export function configCommand({ terminal }: CommandContext): Command {
  return new Command('config')
    .description('print a config space the way lspci -vvv does')
    .argument('<address>', 'the device: a BDF, sim:MODEL, unix:PATH, or a file made by lspci -xxxx', addressOrDump)
    .addOption(machineOption())
    .addOption(vfTokenOption())
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
Without --machine a BDF is a device of this computer, read through sysfs.

Examples:
  vfio config sim:edu
  vfio config 01:00.0 --machine examples/machines/desktop.yaml --user
  vfio config sim:edu --permissions
  vfio config sim:edu --hex > edu.txt && lspci -F edu.txt -vvv`,
    )
    .action(async (address: string, options: Options) => {
      const { configTarget } = await import('../../config-target.ts');
      const target = await configTarget(address, options.machine, tokenOf(options, terminal));
      const bytes = options.user === true ? target.userView() : target.bytes;
      if (options.hex === true) {
        terminal.out(toHex(bytes, target.bdf).trimEnd());
        return;
      }
      const names = options.numeric === true ? null : loadPciNames();
      const decoded = decodeConfig(bytes, { bdf: target.bdf, names });
      if (options.permissions === true) {
        const tables = [
          headerPermissions,
          ...decoded.capabilities.map((c) => permissionsOf(c.id, false)),
          ...decoded.extendedCapabilities.map((c) => permissionsOf(c.id, true)),
        ];
        terminal.out(formatPermissions(tables.filter((table) => table !== undefined)));
        return;
      }
      if (options.json === true) json(terminal, 'vfio-ts/config/1', decoded);
      else terminal.out(formatLspci(decoded, options.terse === true ? 0 : 3).trimEnd());
    });
}
