/** `vfio explain`: whether a user can have a device, and what is in the way. */
import { statSync } from 'node:fs';
import type { Explanation } from '../engine/machine/explain.ts';
import { isBdf } from '../pci/bdf.ts';
import type { CommandContext } from './command.ts';
import { Exit } from './exit-codes.ts';
import { json, type Terminal } from './terminal.ts';

export async function explain(
  { terminal, usage }: CommandContext,
  options: { readonly json?: boolean },
  where: string,
  at: string | undefined,
): Promise<number> {
  if (at === undefined) {
    return usage(
      isBdf(where)
        ? `the machine file is missing: vfio explain MACHINE.yaml ${where}. Devices of this computer cannot be explained yet.`
        : `the address of a device is missing: vfio explain ${where} 0000:03:00.0`,
    );
  }
  const explanation = await explanationOf(where, at);
  if (options.json === true) json(terminal, 'vfio-ts/explain/1', explanation);
  else printExplanation(explanation, terminal);
  return explanation.usable ? Exit.OK : Exit.PROBLEMS;
}

async function explanationOf(where: string, at: string): Promise<Explanation> {
  if (statSync(where, { throwIfNoEntry: false })?.isDirectory() === true) {
    const { administerMachine } = await import('../api/machine-server.ts');
    const { value } = await administerMachine(where, 'explain', { bdf: at });
    return value as Explanation;
  }
  const { importMachine } = await import('../api/machine.ts');
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
