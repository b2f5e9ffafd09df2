/**
 * The computer or machine that a command is about: this computer, a recording of one, a machine
 * file, or a machine that is served. The command looks at what it is given.
 */
import { closeSync, existsSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { shellQuoted } from '../../api/shell-quoted.ts';
import { VfioError } from '../../base/errno.ts';
import type { Host } from '../../host/host.ts';
import { loadPciNames } from '../config/pci-names.ts';

export type MachineSource =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'served'; readonly directory: string }
  | { readonly kind: 'host'; readonly open: () => Promise<Host> };

/**
 * @param where null: this computer, or the copy of its files in `sysfs`
 * @throws VfioError EINVAL for the socket of one device, or two sources
 */
export function machineSource(where: string | null, sysfs?: string): MachineSource {
  if (where === null) return { kind: 'host', open: async () => await openThisHost(sysfs) };
  if (sysfs !== undefined) {
    throw new VfioError('EINVAL', `${where} and --sysfs ${sysfs} are two computers`, { fix: 'Give one of them.' });
  }
  if (where === '-') return { kind: 'host', open: async () => await openRecording(where) };
  const found = statSync(where, { throwIfNoEntry: false });
  if (found?.isSocket() === true) {
    throw new VfioError('EINVAL', `${where} is the socket of one device, not a machine`, {
      fix: `vfio show ${shellQuoted(dirname(where))}`,
    });
  }
  if (found?.isDirectory() === true) {
    return looksRecorded(where) ? { kind: 'host', open: async () => await openRecording(where) } : { kind: 'served', directory: where };
  }
  return found === undefined || isMachineFile(where)
    ? { kind: 'file', path: where }
    : { kind: 'host', open: async () => await openRecording(where) };
}

/** An unpacked archive may have a folder of its own. */
function looksRecorded(folder: string): boolean {
  const inner = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const roots = [folder, ...inner.map(({ name }) => join(folder, name))];
  return (
    existsSync(join(folder, 'bus/pci')) ||
    roots.some((root) => existsSync(join(root, 'sys/bus/pci')) || existsSync(join(root, 'sos_commands')))
  );
}

/** A machine file is YAML: `devices:` begins a line of it. */
function isMachineFile(path: string): boolean {
  if (/\.(ya?ml|json)$/i.test(path)) return true;
  const fd = openSync(path, 'r');
  try {
    const begun = Buffer.alloc(65_536);
    const text = begun.toString('latin1', 0, readSync(fd, begun, 0, begun.length, 0));
    return /^devices:/m.test(text);
  } finally {
    closeSync(fd);
  }
}

async function openThisHost(sysfs: string | undefined): Promise<Host> {
  const { Host } = await import('../../host/host.ts');
  const { readSysfs } = await import('../../host/sysfs.ts');
  const { hostFiles } = await import('../../sys/host-files.ts');
  const files = hostFiles(sysfs);
  return Host.of(readSysfs(files), { names: loadPciNames(), users: await usersOf(files) });
}

async function usersOf(files: ReturnType<typeof import('../../sys/host-files.ts').hostFiles>): Promise<ReadonlyMap<string, string>> {
  if (!files.live) return new Map();
  const { isVfioNode, nodeUsers, userText } = await import('../../host/node-users.ts');
  return new Map(
    [...nodeUsers(files)].flatMap(([bdf, users]) => {
      const user = users.find(({ node }) => isVfioNode(node));
      return user === undefined ? [] : [[bdf, userText(user)] as const];
    }),
  );
}

async function openRecording(source: string): Promise<Host> {
  const { Host } = await import('../../host/host.ts');
  const { readHost } = await import('../../host/read-host.ts');
  return Host.of(await readHost(source), { names: loadPciNames() });
}
