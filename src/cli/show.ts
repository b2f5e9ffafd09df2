/** `vfio show`: a machine of a file, or one that is served. */
import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { MachineDocument } from '../api/machine-document.ts';
import { shellQuoted } from '../api/shell-quoted.ts';
import { VfioError } from '../base/errno.ts';
import type { CommandContext } from './command.ts';
import { machineLines } from './machine-tree.ts';
import { json } from './terminal.ts';

export async function show({ terminal }: CommandContext, options: { readonly json?: boolean }, where: string): Promise<undefined> {
  const machine = await documentOf(where);
  if (options.json === true) {
    json(terminal, 'vfio-ts/show/1', machine);
    return;
  }
  for (const line of machineLines(machine, terminal)) terminal.out(line);
}

async function documentOf(where: string): Promise<MachineDocument> {
  const found = statSync(where, { throwIfNoEntry: false });
  if (found?.isSocket() === true) {
    throw new VfioError('EINVAL', `${where} is the socket of one device, not a machine`, {
      fix: `vfio show ${shellQuoted(dirname(where))}`,
    });
  }
  if (found?.isDirectory() === true) {
    const { askMachine } = await import('../api/machine-server.ts');
    return await askMachine(where);
  }
  const { importMachine } = await import('../api/machine.ts');
  const { machineDocument } = await import('../api/machine-document.ts');
  using machine = await importMachine(where);
  return machineDocument(machine);
}
