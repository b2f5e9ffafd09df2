/**
 * The demo's SR-IOV device: an NVMe card with two virtual functions, and a tenant who needs the
 * token that the PF's driver has set.
 */
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { openThrough } from '../../api/simulation.ts';
import type { Machine } from '../../engine/machine/machine.ts';
import type { PciFunction } from '../../engine/machine/pci-function.ts';
import { formatBytes } from '../quantities.ts';
import type { Terminal } from '../terminal.ts';
import { putBehindSocket, startDriver } from './served-function.ts';
import type { TenantTasks } from './tenant-worker.ts';

/** @param pf  with virtual functions enabled */
export async function tenants({ out, paint }: Terminal, machine: Machine, pf: PciFunction, number: string): Promise<void> {
  const vfs = pf.vfs;
  const vf = vfs[0]!;
  out('');
  out(`${paint.bold(`${number}. A card with ${vfs.length} virtual functions, lent to tenants`)}`);
  out(`   ${pf.bdf}     the card, physical function: group ${pf.group!.id}`);
  for (const each of vfs) out(`   ${each.bdf}     a controller and a disk of its own: group ${each.group!.id}`);

  // The driver of the PF says who may come in; then it may go.
  const token = randomUUID();
  const { device, owns } = openThrough(machine, pf.bdf, undefined, token);
  device.close();
  owns[Symbol.dispose]();

  using socket = putBehindSocket(machine, vf);
  const file = join(dirname(socket.path), 'token');
  writeFileSync(file, token, { mode: 0o600 });
  const env = { VFIO_VF_TOKEN_FILE: file };
  await using tenant = await startDriver<TenantTasks>('tenant', socket, { env, others: [file] });
  const refused = await tenant.do('knock');
  if (refused.code !== 'EACCES') throw new Error(`a tenant without the token was not refused with EACCES, but with ${refused.code}`);
  out(`   ${paint.red('refused')}  process ${tenant.pid}, uid ${tenant.uid}, without the token`);
  for (const line of refused.lines) out(`            ${line}`);
  const { serial, bytes, same } = await tenant.do('enter');
  if (!same) throw new Error('the disk of a tenant read back something else than was written');
  out(`   ${paint.green('let in')}   with the token: its disk ${serial} has ${formatBytes(bytes)}, and keeps what is written`);
}
