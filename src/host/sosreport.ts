/** The picture of a computer from a report of sos: what lspci printed, and files of procfs. */
import { VfioError } from '../base/errno.ts';
import { formatBdf } from '../pci/bdf.ts';
import type { HostFiles } from '../sys/host-files.ts';
import type { HostPicture } from './host-picture.ts';
import { readLspci } from './lspci.ts';
import { kernelIn, modulesIn, remappedIn } from './sysfs.ts';

const FOLDERS = ['/sos_commands/pci', '/sos_commands/hardware'];

/** Whether files are those of a report. */
export function isSosreport(files: HostFiles): boolean {
  return files.exists('/sos_commands');
}

/** @throws VfioError ENOENT for a report without the output of lspci */
export function readSosreport(files: HostFiles): HostPicture {
  const texts = FOLDERS.flatMap((folder) =>
    files
      .list(folder)
      .filter((name) => name.startsWith('lspci'))
      .map((name) => files.text(`${folder}/${name}`) ?? ''),
  );
  const line = (path: string) => files.text(path)?.trim().split('\n')[0] || null;
  if (texts.length === 0) {
    throw new VfioError('ENOENT', `${files.origin} is a report without the output of lspci`, { fix: 'Have sos run its plugin pci.' });
  }
  return readLspci(texts.join('\n\n'), files.origin, {
    source: 'sosreport',
    hostname: line('/sos_commands/host/hostname') ?? line('/hostname') ?? line('/etc/hostname'),
    kernel: kernelIn(files.text('/proc/version')) ?? releaseIn(line('/sos_commands/kernel/uname_-a') ?? line('/uname')),
    commandLine: line('/proc/cmdline'),
    interruptsRemapped: remappedIn(files.text('/proc/interrupts')),
    modules: modulesIn(files),
    configs: configsIn(files),
  });
}

/** `Linux host 6.12.48 #1 SMP …`. */
function releaseIn(uname: string | null): string | null {
  return /^Linux \S+ (\S+)/.exec(uname ?? '')?.[1] ?? null;
}

/** Config spaces in /proc/bus/pci, by address: `00/1f.0`, `0001:00/1f.0`. */
function configsIn(files: HostFiles): ReadonlyMap<string, Uint8Array> {
  const configs = new Map<string, Uint8Array>();
  const folder = '/proc/bus/pci';
  for (const bus of files.list(folder)) {
    const [, domain = '0', number] = /^(?:([0-9a-f]{4,8}):)?([0-9a-f]{2})$/i.exec(bus) ?? [];
    if (number === undefined) continue;
    for (const name of files.list(`${folder}/${bus}`)) {
      const [, device, fn] = /^([0-1][0-9a-f])\.([0-7])$/i.exec(name) ?? [];
      const bytes = device === undefined ? null : files.bytes(`${folder}/${bus}/${name}`);
      if (bytes === null || bytes.length < 64) continue;
      const at = {
        domain: Number.parseInt(domain, 16),
        bus: Number.parseInt(number, 16),
        device: Number.parseInt(device!, 16),
        fn: Number(fn),
      };
      configs.set(formatBdf(at), bytes);
    }
  }
  return configs;
}
