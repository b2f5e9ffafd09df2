/** `vfio config`: config spaces as lspci prints them. */
import { VfioError } from '../../base/errno.ts';
import { decodeConfig } from '../../pci/decode.ts';
import { formatLspci } from '../../pci/format-lspci.ts';
import { toHex } from '../../pci/hex-dump.ts';
import { headerPermissions } from '../../pci/permissions/header.ts';
import { formatPermissions, permissionsOf } from '../../pci/permissions/tables.ts';
import type { CommandContext } from '../command.ts';
import { Exit } from '../exit-codes.ts';
import { json, say } from '../terminal.ts';
import { tokenOf, type VfTokenOptions } from '../vf-token-file.ts';
import { type ConfigTarget, configTargets, devicesIn, doesNotAnswer } from './config-target.ts';
import { loadPciNames } from './pci-names.ts';

interface Options extends VfTokenOptions {
  readonly machine?: string;
  readonly user?: boolean;
  readonly hex?: boolean;
  readonly json?: boolean;
  readonly numeric?: boolean;
  /** How often -v was given. */
  readonly verbose?: number;
  readonly terse?: boolean;
  readonly permissions?: boolean;
  readonly select?: string;
  readonly sysfs?: string;
}

export async function printConfig({ terminal }: CommandContext, options: Options, address: string): Promise<number> {
  const { machine, select, sysfs } = options;
  const targets = await configTargets(address, {
    machine,
    select,
    token: tokenOf(options, terminal),
    ...(sysfs === undefined ? {} : { sysfs: devicesIn(sysfs) }),
  });
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
      // The command shows the other functions of a dump.
      if (targets.length === 1 || !(error instanceof VfioError)) throw error;
      terminal.err(`${error.code}: ${error.message}`);
    }
  }
  let status: number = shown.length === 0 ? Exit.FAILURE : Exit.OK;
  if (options.hex === true) {
    say(shown.map(({ target, bytes }) => toHex(bytes, target.bdf).trimEnd()).join('\n\n'), terminal.out);
    return status;
  }
  const names = options.numeric === true ? null : loadPciNames();
  const decoded = shown.map(({ target: { bdf, regions, identity, host }, bytes }) =>
    decodeConfig(bytes, { bdf, names, resources: regions, identity, host }),
  );
  for (const d of decoded) if (!d.answers) terminal.err(doesNotAnswer(d.bdf));
  if (decoded.length === 1 && !decoded[0]!.answers) status = Exit.GONE;
  if (options.permissions === true) {
    const tables = new Set([
      headerPermissions,
      ...decoded.flatMap((d) => d.capabilities.map((c) => permissionsOf(c.id, false))),
      ...decoded.flatMap((d) => d.extendedCapabilities.map((c) => permissionsOf(c.id, true))),
    ]);
    say(formatPermissions([...tables].filter((table) => table !== undefined)), terminal.out);
    return status;
  }
  if (options.json === true) {
    if (decoded.length === 1) json(terminal, 'vfio-ts/config/1', decoded[0]!);
    else json(terminal, 'vfio-ts/configs/1', { functions: decoded });
    return status;
  }
  const { terse = false, verbose = 3 } = options;
  const level = terse ? 0 : verbose === 1 || verbose === 2 ? verbose : 3;
  // As lspci does, domain 0 is printed where other domains are.
  const domain = decoded.some((d) => !d.bdf.startsWith('0000:'));
  const blocks = decoded.map((d) => formatLspci(d, level, { domain }).trimEnd());
  say(blocks.join(terse ? '\n' : '\n\n'), terminal.out);
  return status;
}
