/** `vfio show`: this computer, a recording of one, a machine of a file, or one that is served. */
import type { HostDocument } from '../api/host-document.ts';
import type { MachineDocument } from '../api/machine-document.ts';
import type { CommandContext } from './command.ts';
import { machineSource } from './host/host-source.ts';
import { machineLines } from './machine-tree.ts';
import { json, say, type Terminal } from './terminal.ts';

interface ShowOptions {
  readonly json?: boolean;
  readonly yaml?: boolean;
  readonly sysfs?: string;
}

export async function show({ terminal, usage }: CommandContext, options: ShowOptions, where: string | undefined): Promise<undefined> {
  const source = machineSource(where ?? null, options.sysfs);
  if (source.kind === 'host') {
    using host = await source.open();
    if (options.yaml === true) {
      const { hostYaml } = await import('../api/host-yaml.ts');
      say(hostYaml(host).trimEnd(), terminal.out);
      return;
    }
    const { hostDocument } = await import('../api/host-document.ts');
    const document = hostDocument(host);
    if (options.json === true) json(terminal, 'vfio-ts/show/1', document);
    else printHost(document, terminal);
    return;
  }
  if (options.yaml === true) usage('--yaml makes a machine file of a computer: leave it out for a machine, which has a file');
  const machine = source.kind === 'served' ? await servedMachine(source.directory) : await machineOfFile(source.path);
  if (options.json === true) json(terminal, 'vfio-ts/show/1', machine);
  else for (const line of machineLines(machine, terminal)) terminal.out(line);
}

async function servedMachine(directory: string): Promise<MachineDocument> {
  const { askMachine } = await import('../api/machine-server.ts');
  return await askMachine(directory);
}

async function machineOfFile(path: string): Promise<MachineDocument> {
  const { importMachine } = await import('../api/machine.ts');
  const { machineDocument } = await import('../api/machine-document.ts');
  using machine = await importMachine(path);
  return machineDocument(machine);
}

function printHost(document: HostDocument, terminal: Terminal): void {
  const { host } = document;
  const facts = [host.kernel === null ? '' : `Linux ${host.kernel}`, groupsText(document)];
  terminal.out(terminal.paint.bold([host.origin, ...facts].filter((text) => text !== '').join(', ')));
  for (const line of machineLines(document, terminal)) terminal.out(line);
  if (host.differences.length > 0) terminal.out('');
  for (const { recorded, computed, reason } of host.differences) {
    terminal.out(`${terminal.paint.yellow('groups differ:')} ${sets(recorded)} on the computer; ${sets(computed)} by their registers`);
    terminal.out(`  ${reason}`);
  }
  for (const note of host.notes) terminal.err(`(${note})`);
}

function groupsText({ host, groups }: HostDocument): string {
  if (!host.groupsAreRecorded) return `${groups.length} groups, computed`;
  return groups.length === 0 ? 'no groups: no IOMMU is on' : `${groups.length} groups`;
}

function sets(groups: readonly (readonly string[])[]): string {
  return groups.map((members) => `{${members.slice(0, 8).join(' ')}${members.length > 8 ? ' …' : ''}}`).join(' ');
}
