import { statSync } from 'node:fs';
import { Command } from 'commander';
import type { Explanation } from '../../engine/machine/explain.ts';
import { parseBdf } from '../../pci/bdf.ts';
import { bdf } from '../arguments.ts';
import type { CommandContext } from '../command.ts';
import { Exit } from '../exit-codes.ts';
import { json, type Terminal } from '../terminal.ts';

export function explainCommand({ terminal, exit }: CommandContext): Command {
  return new Command('explain')
    .description('tell whether a user could have a device, who is in the way, and what would change that')
    .argument('<machine>', 'a machine file; or the directory where one is served, as it is now')
    .argument('[bdf]', 'the device, e.g. 0000:03:00.0 or 03:00.0', bdf)
    .option('--json', 'one JSON document for programs')
    .addHelpText(
      'after',
      '\nExit status 3 when something is in the way.\n\nExamples:\n  vfio explain examples/machines/desktop.yaml 01:00.0\n  vfio explain /tmp/card 01:00.1',
    )
    .action(async (where: string, at: string | undefined, options: { json?: boolean }, command: Command) => {
      if (at === undefined) {
        command.error(
          isBdf(where)
            ? `error: the machine file is missing: vfio explain MACHINE.yaml ${where}. Devices of this computer cannot be explained yet.`
            : `error: the address of a device is missing: vfio explain ${where} 0000:03:00.0`,
        );
      }
      const explanation = await explanationOf(where, at);
      if (options.json === true) json(terminal, 'vfio-ts/explain/1', explanation);
      else printExplanation(explanation, terminal);
      if (!explanation.usable) exit(Exit.PROBLEMS);
    });
}

function isBdf(text: string): boolean {
  try {
    parseBdf(text);
    return true;
  } catch {
    return false;
  }
}

async function explanationOf(where: string, at: string): Promise<Explanation> {
  if (statSync(where, { throwIfNoEntry: false })?.isDirectory() === true) {
    const { administerMachine } = await import('../../api/machine-server.ts');
    const { value } = await administerMachine(where, 'explain', { bdf: at });
    return value as Explanation;
  }
  const { importMachine } = await import('../../api/machine.ts');
  using machine = await importMachine(where);
  return machine.explain(at);
}

export function printExplanation(e: Explanation, { out, paint }: Terminal): void {
  out(paint.bold(e.summary));
  out('');
  out(
    `${e.bdf}  ${e.id}  ${e.name}, ${e.kind}, driver ${e.driver ?? 'none'}${e.driverOverride === null ? '' : `, override ${e.driverOverride}`}`,
  );
  const yes = (text: string, is: boolean) => `${text} ${is ? paint.green('yes') : paint.red('no')}`;
  out(`IOMMU: ${e.iommu.kind}; ${yes('isolated interrupts:', e.iommu.isolatedMsi)}; ${yes('coherent:', e.iommu.coherent)}`);
  if (e.physicalFunction !== null) {
    const token = e.tokenNeeded ? 'opens with the VF token that its driver has set' : 'needs no token: its driver is one of the host';
    out(`virtual function of ${e.physicalFunction}; ${token}`);
  }
  if (e.virtualFunctions !== null) out(`physical function; virtual ones: ${e.virtualFunctions.join(', ') || 'none enabled'}`);
  if (e.group !== null) {
    const state = e.group.viable ? paint.green('viable') : paint.red('not viable');
    out(`group ${e.group.id}: ${state}${e.group.holder === null ? '' : `, open by ${e.group.holder}`}`);
    for (const m of e.group.members) {
      const mark = m.blocks ? paint.red('x') : paint.green('✓');
      out(`  ${mark} ${m.bdf}  ${m.name}  ${m.driver ?? 'no driver'}${m.because === null ? '' : paint.dim(`  (${m.because})`)}`);
    }
  }
  if (e.blockers.length === 0) return;
  out('');
  for (const b of e.blockers) {
    out(`${paint.yellow(b.at)}: ${b.why}`);
    out(`  fix: ${b.fix}`);
  }
}
