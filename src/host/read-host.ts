/** The picture of a computer from any source: this computer, a folder, an archive, a text. */
import { VfioError } from '../base/errno.ts';
import { folderFiles, type HostFiles, hostFiles, isFolder } from '../sys/host-files.ts';
import { MemoryFiles } from '../sys/memory-files.ts';
import { readRecording } from '../sys/recording.ts';
import type { HostPicture } from './host-picture.ts';
import { readLspci } from './lspci.ts';
import { isWanted, rootOf } from './recorded-paths.ts';
import { isSosreport, readSosreport } from './sosreport.ts';
import { readSysfs } from './sysfs.ts';

const SOURCES = 'Give a copy of /sys, a report of sos, an archive of hwloc-gather-topology, or a file with the output of lspci -vvv -nn.';

/** The picture of this computer; with `root`, of the copy of its sysfs in a folder. */
export function readThisHost(root?: string): HostPicture {
  return readSysfs(hostFiles(root));
}

/**
 * The picture of a computer that `source` records: a folder or an archive with a copy of sysfs, of
 * hwloc-gather-topology or of sos, or a text of lspci. `-` is standard input.
 *
 * @throws VfioError ENOENT, EACCES and other errors of reading; EINVAL for a source without a PCI
 * function; EFBIG for one that is too large
 */
export async function readHost(source: string): Promise<HostPicture> {
  if (source !== '-' && isFolder(source)) return pictureOf(inFolder(source));
  const recording = await readRecording(source, isWanted);
  if ('text' in recording) return readLspci(recording.text, source === '-' ? 'standard input' : source);
  // An archive has one folder above all files, as a rule.
  const roots = [...recording.entries.keys()].flatMap((path) => rootOf(path) ?? []).sort((a, b) => a.length - b.length);
  const root = roots[0] ?? '';
  const below = [...recording.entries].filter(([path]) => path.startsWith(root));
  return pictureOf(
    new MemoryFiles(
      source,
      below.map(([path, entry]) => [path.slice(root.length), entry] as const),
    ),
  );
}

function inFolder(folder: string): HostFiles {
  const here = folderFiles(folder);
  if (here.exists('/sos_commands') || here.exists('/sys/bus/pci')) return here;
  if (here.exists('/bus/pci')) return hostFiles(folder);
  // An unpacked archive may have a folder of its own.
  const [inner] = here.list('/').filter((name) => here.exists(`/${name}/sos_commands`) || here.exists(`/${name}/sys/bus/pci`));
  if (inner !== undefined) return folderFiles(`${folder}/${inner}`);
  throw new VfioError('EINVAL', `${folder} is no recording of a computer: neither sys/bus/pci nor sos_commands is in it`, {
    fix: SOURCES,
  });
}

function pictureOf(files: HostFiles): HostPicture {
  if (files.list('/sys/bus/pci/devices').length > 0) return readSysfs(files, files.exists('/proc/hwloc-nofile-info') ? 'hwloc' : 'sysfs');
  if (isSosreport(files)) return readSosreport(files);
  throw new VfioError('EINVAL', `${files.origin} is no recording of a computer: it has no PCI devices`, {
    fix: SOURCES,
  });
}
