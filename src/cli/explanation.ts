/** `vfio explain`: whether a user can have a device, and what is in the way. */
import type { Explanation } from '../engine/machine/explain.ts';
import { isBdf, parseBdf } from '../pci/bdf.ts';
import type { CommandContext } from './command.ts';
import { Exit } from './exit-codes.ts';
import { type MachineSource, machineSource } from './host/host-source.ts';
import { json, type Terminal } from './terminal.ts';

interface ExplainOptions {
  readonly json?: boolean;
  readonly sysfs?: string;
}

export async function explain(
  { terminal, usage }: CommandContext,
  options: ExplainOptions,
  source: string,
  of: string | undefined,
): Promise<number> {
  // One word is a device of this computer.
  const at = of ?? (isBdf(source) ? parseBdf(source) : null);
  if (at === null) return usage(`the address of a device is missing: vfio explain ${source} 0000:03:00.0`);
  const explanation = await explanationOf(machineSource(of === undefined ? null : source, options.sysfs), at);
  if (options.json === true) json(terminal, 'vfio-ts/explain/1', explanation);
  else printExplanation(explanation, terminal);
  return explanation.usable ? Exit.OK : Exit.PROBLEMS;
}

async function explanationOf(source: MachineSource, at: string): Promise<Explanation> {
  switch (source.kind) {
    case 'host': {
      using host = await source.open();
      return host.explain(at);
    }
    case 'served': {
      const { administerMachine } = await import('../api/machine-server.ts');
      const { value } = await administerMachine(source.directory, 'explain', { bdf: at });
      return value as Explanation;
    }
    case 'file': {
      const { importMachine } = await import('../api/machine.ts');
      using machine = await importMachine(source.path);
      return machine.explain(at);
    }
  }
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
  // A machine that an older version serves has no notes.
  for (const note of e.notes ?? []) out(paint.dim(note));
  if (e.blockers.length === 0) return;
  out('');
  for (const b of e.blockers) {
    out(`${paint.yellow(b.at)}: ${b.why}`);
    out(`  fix: ${b.fix}`);
  }
}
