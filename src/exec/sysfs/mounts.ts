/**
 * The mounts that show a machine's folder to a program: the calls of mount(2), in order, which the
 * launcher makes in the program's own mount namespace. They need no privilege beyond that of the
 * user namespace around it.
 *
 * A view lies over a path of the host. Where the host has no such path, the nearest directory above
 * is extended by empty places to mount on: by an overlay, or by a directory of our own into which
 * each entry of the host's is bound. The second way is for /dev, whose nodes a user's overlay would
 * not open; for directories with file systems mounted below, which an overlay would hide; and for
 * all where the kernel has no overlayfs for users.
 */
import type { HostPaths } from '../../sys/host-paths.ts';
import { folderOf } from './sysfs-paths.ts';

/** The arguments of one mount(2). */
export interface MountCall {
  readonly source: string;
  readonly target: string;
  /** Null for calls that bind, or that change how mounts propagate. */
  readonly type: string | null;
  readonly flags: number;
  readonly data: string | null;
}

/** linux/mount.h */
const Ms = { RDONLY: 1, BIND: 0x1000, REC: 0x4000, SLAVE: 0x8_0000 } as const;

/** A file or a directory of the machine's folder, and the path at which the program finds it. */
export interface View {
  readonly source: string;
  readonly target: string;
  readonly isFolder: boolean;
}

/** Makes empty places to mount on; `ClaimedFolder` is one. */
export interface Scaffold {
  place(inside: string): string;
  makeFolder(inside: string): void;
  makeFile(inside: string, mode: number, content: string): void;
  makeLink(inside: string, to: string): void;
  remove(inside: string): void;
}

export interface MountOptions {
  /** False: overlayfs was refused. Default: true. */
  readonly overlay?: boolean;
}

const bind = (source: string, target: string): MountCall => ({ source, target, type: null, flags: Ms.BIND | Ms.REC, data: null });

/** Empty places are here, inside the scaffold. */
const PLACES = '/.host';
/** The master of pseudo-terminals, in /dev. */
const MASTER = 'ptmx';
/** The host's directory as a whole, in the one that stands for it. */
const WHOLE = '.host';

/**
 * The calls for `views`.
 *
 * @param kept directories of the host that a view would hide, and their places inside the view
 */
export function mountCalls(
  views: readonly View[],
  kept: readonly View[],
  scaffold: Scaffold,
  host: HostPaths,
  { overlay = true }: MountOptions = {},
): readonly MountCall[] {
  const calls: MountCall[] = [{ source: 'none', target: '/', type: null, flags: Ms.REC | Ms.SLAVE, data: null }];
  for (const { source, target } of kept) calls.push(bind(source, target));
  scaffold.remove(PLACES);
  for (const [above, places] of missingPlaces(views, host)) {
    const inside = `${PLACES}/${above.replaceAll('/', '-').slice(1)}`;
    const stub = scaffold.place(inside);
    for (const { target, isFolder } of places) makePlace(scaffold, `${inside}${target.slice(above.length)}`, isFolder);
    const canOverlay = overlay && above !== '/dev' && !host.mountPoints.some((point) => point.startsWith(`${above}/`));
    if (canOverlay) {
      const data = `lowerdir=${escaped(stub)}:${escaped(above)}`;
      calls.push({ source: 'overlay', target: above, type: 'overlay', flags: Ms.RDONLY, data });
      continue;
    }
    const ours = new Set(places.map(({ target }) => target.slice(above.length + 1).split('/')[0]!));
    // Folders first: a bind of one that holds the scaffold copies the mounts made there before.
    const entries = [...host.list(above)].sort((a, b) => Number(b.kind === 'folder') - Number(a.kind === 'folder'));
    if (above === '/dev' && entries.some(({ name, kind }) => name === MASTER && kind === 'file')) {
      // Linux looks for `pts` beside it, in the mount of the file that is opened: a file that is
      // bound alone has no slaves (linux/fs/devpts/inode.c, devpts_mntget()).
      scaffold.makeFolder(`${inside}/${WHOLE}`);
      calls.push(bind(above, `${stub}/${WHOLE}`));
      scaffold.makeLink(`${inside}/${MASTER}`, `${WHOLE}/${MASTER}`);
      ours.add(MASTER);
    }
    for (const { name, kind } of entries) {
      if (ours.has(name)) continue;
      if (kind === 'link') scaffold.makeLink(`${inside}/${name}`, host.linkTarget(`${above}/${name}`));
      else {
        makePlace(scaffold, `${inside}/${name}`, kind === 'folder');
        calls.push(bind(`${above}/${name}`, `${stub}/${name}`));
      }
    }
    calls.push(bind(stub, above));
  }
  for (const { source, target } of views) calls.push(bind(source, target));
  return calls;
}

/** By directory of the host, upper ones first: the places that it lacks. */
function missingPlaces(views: readonly View[], host: HostPaths): readonly (readonly [string, readonly View[]])[] {
  const found = new Map<string, View[]>();
  for (const view of views) {
    if (host.exists(view.target)) continue;
    let above = folderOf(view.target);
    while (!host.exists(above)) above = folderOf(above);
    const others = found.get(above);
    if (others === undefined) found.set(above, [view]);
    else others.push(view);
  }
  return [...found].sort(([a], [b]) => a.split('/').length - b.split('/').length);
}

function makePlace(scaffold: Scaffold, inside: string, isFolder: boolean): void {
  scaffold.makeFolder(isFolder ? inside : folderOf(inside));
  if (!isFolder) scaffold.makeFile(inside, 0o644, '');
}

/** Characters that separate the options of an overlay, or the layers of one. */
function escaped(path: string): string {
  return path.replaceAll(/[\\:,]/g, (character) => `\\${character}`);
}
