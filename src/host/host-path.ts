/** Paths of sysfs: where links lead, and which PCI function a path belongs to. */
import type { HostFiles } from '../sys/host-files.ts';

/** The last word of a path. */
export function nameIn(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** `path` without `.` and `..`. */
export function plainPath(path: string): string {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return `/${parts.join('/')}`;
}

/** The path behind the link at `path`; null where there is no link. */
export function behindLink(files: HostFiles, path: string): string | null {
  const target = files.link(path);
  if (target === null) return null;
  return target.startsWith('/') ? plainPath(target) : plainPath(`${path.slice(0, path.lastIndexOf('/'))}/${target}`);
}

const BDF = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/;

/** The function below which a device of sysfs is: the last one on its path. */
export function functionOnPath(path: string): string | null {
  return path.split('/').findLast((part) => BDF.test(part)) ?? null;
}

/**
 * The functions that a device of sysfs goes away with: the one that it is below, and controllers
 * whose PCI domain has that one, as Intel VMD's has disks.
 *
 * @see linux/drivers/pci/controller/vmd.c, vmd_enable_domain()
 */
export function functionsOfPath(path: string): readonly string[] {
  const parts = path.split('/');
  const last = parts.findLast((part) => BDF.test(part));
  if (last === undefined) return [];
  const controllers = parts.filter((part, i) => BDF.test(part) && /^pci[0-9a-f]{4,8}:[0-9a-f]{2}$/.test(parts[i + 1] ?? ''));
  return [last, ...controllers];
}
