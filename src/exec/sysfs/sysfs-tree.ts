/**
 * A machine as files: a folder of ours that holds its part of /sys and /dev, the mounts that put
 * the folder's parts in place for a program, and the answers to opens of files that are more than
 * their bytes. The folder follows the machine while programs run.
 */
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { textOf } from '../../base/foreign.ts';
import type { Machine } from '../../engine/machine/machine.ts';
import { ClaimedFolder } from '../../sys/claimed-folder.ts';
import { type HostPaths, hostPaths } from '../../sys/host-paths.ts';
import type { Attribute } from './attribute.ts';
import type { Entry, Layout } from './layout.ts';
import { machineLayout } from './machine-layout.ts';
import { type MountCall, type MountOptions, mountCalls, type View } from './mounts.ts';
import { OpenAttribute } from './open-attribute.ts';
import { rootBusPath } from './sysfs-paths.ts';

/** The process that opens a file, as far as permissions depend on it. */
export interface Opener {
  readonly uid: number;
  readonly pid: number;
}

/** A file of the folder that a program opens. */
export type TreeFile =
  /** A device node: its path is the one that `KernelDoor.openPath` knows. */
  | { readonly kind: 'node'; readonly path: string }
  /** A file of sysfs. */
  | { readonly kind: 'attribute'; readonly path: string; readonly attribute: Attribute };

/** open(2): O_ACCMODE, O_RDONLY, O_WRONLY */
const ACCESS_MODE = 3;
const READ_ONLY = 0;
const WRITE_ONLY = 1;

/** iommufd; linux/drivers/iommu/iommufd/main.c */
const IOMMU_NODE = '/dev/iommu';
/** linux/namei.h: more links on a way are ELOOP. */
const LINKS_MAX = 40;

/** Directories that a program sees as the machine has them, instead of the host's. */
const replaced: readonly string[] = [
  '/sys/bus/pci',
  '/sys/kernel/iommu_groups',
  '/sys/class/vfio',
  '/sys/class/vfio-dev',
  '/sys/class/iommu',
  '/sys/class/pci_bus',
  '/sys/devices/virtual/vfio',
  '/sys/devices/virtual/iommu',
  '/sys/module/vfio',
  '/sys/module/vfio_pci',
  '/sys/module/vfio_pci_core',
  '/sys/module/vfio_iommu_type1',
  '/sys/module/iommufd',
  '/dev/vfio',
];

interface Made {
  readonly entry: Entry;
  readonly content: string | null;
}

export class SysfsTree implements Disposable {
  readonly #machine: Machine;
  readonly #uid: number;
  readonly #folder: ClaimedFolder;
  readonly #host: HostPaths;
  readonly #made = new Map<string, Made>();
  readonly #owns: Cleanup;
  #isStale = false;

  private constructor(machine: Machine, uid: number, folder: ClaimedFolder, host: HostPaths, owns: Cleanup) {
    this.#machine = machine;
    this.#uid = uid;
    this.#folder = folder;
    this.#host = host;
    this.#owns = owns;
    owns.use(machine.on(() => this.#changed()));
    this.settle();
  }

  /**
   * The files of `machine`, for programs of the user who runs this process.
   *
   * @throws VfioError EACCES, ENOSPC, EROFS where the folder cannot be made
   */
  static open(machine: Machine, host: HostPaths = hostPaths()): SysfsTree {
    using undo = new Cleanup();
    const folder = undo.use(ClaimedFolder.make('vfio-exec'));
    return new SysfsTree(machine, process.geteuid!(), folder, host, undo.move());
  }

  /**
   * The file in which `vfio bind` of a program notes the drivers from before: these binds are the
   * machine's, not the computer's.
   */
  get bindings(): string {
    return this.#folder.place('/run/vfio-ts/bindings.json');
  }

  /** The calls of mount(2) for one program, in order; see `mounts.ts`. */
  mounts(options: MountOptions = {}): readonly MountCall[] {
    const views: View[] = [...this.#rootBuses(), ...replaced].map((target) => ({
      source: this.#folder.place(target),
      target,
      isFolder: true,
    }));
    if (this.#made.has(IOMMU_NODE)) views.push({ source: this.#folder.place(IOMMU_NODE), target: IOMMU_NODE, isFolder: false });
    return mountCalls(views, this.#keptDevices(), this.#folder, this.#host, options);
  }

  /** Root buses that are not below another function of the machine. */
  #rootBuses(): readonly string[] {
    const roots = new Set([...this.#machine.functions.values()].map((fn) => rootBusPath(fn.bus.root)));
    return [...roots].filter((path) => path.lastIndexOf('/') === '/sys/devices'.length);
  }

  /**
   * Directories of the computer's own devices on root buses that the machine has, too: links of
   * /sys/class lead there. Those at an address of the machine's are hidden.
   */
  #keptDevices(): readonly View[] {
    return this.#rootBuses().flatMap((bus) =>
      this.#host
        .list(bus)
        .filter(({ name, kind }) => kind === 'folder' && /^[0-9a-f]{4,}:[0-9a-f]{2}:/.test(name) && !this.#made.has(`${bus}/${name}`))
        .map(({ name }) => {
          const target = this.#folder.place(`${bus}/${name}`);
          this.#folder.makeFolder(`${bus}/${name}`);
          return { source: `${bus}/${name}`, target, isFolder: true };
        }),
    );
  }

  /**
   * The file that a program finds at an absolute path, as the kernel walks there: over the links of
   * the machine, and with `..` from where they lead. Null for a file of the computer's, and for a
   * directory. No file system is asked: it could make this thread wait.
   *
   * @param follow false: the last name is not followed when it is a link
   */
  lookup(path: string, follow = true): TreeFile | null {
    const at = this.#walk(path, follow);
    const found = at === null ? undefined : this.#made.get(at);
    return found === undefined ? null : treeFile(at!, found.entry);
  }

  /** Whether `path` would be a new file in a directory of the machine's, where Linux makes none. */
  refusesNew(path: string): boolean {
    const end = path.lastIndexOf('/');
    const folder = this.#walk(path.slice(0, end), true);
    return (
      folder !== null &&
      [...this.#rootBuses(), ...replaced].some((view) => `${folder}/`.startsWith(`${view}/`)) &&
      this.#walk(path, false) === null
    );
  }

  /** The place where the way of `path` ends; null when it leaves the machine's files. */
  #walk(path: string, follow: boolean): string | null {
    const names = path.split('/').reverse();
    let at = '';
    for (let links = 0; names.length > 0; ) {
      const name = names.pop()!;
      if (name === '' || name === '.') continue;
      if (name === '..') {
        at = at.slice(0, Math.max(at.lastIndexOf('/'), 0));
        continue;
      }
      const next = `${at}/${name}`;
      const entry = this.#made.get(next)?.entry;
      if (entry === undefined) return null;
      const isLast = names.every((rest) => rest === '');
      if (entry.kind !== 'link' || (isLast && !follow)) {
        at = next;
        continue;
      }
      if (++links > LINKS_MAX) return null;
      names.push(...entry.to.split('/').reverse());
    }
    return at;
  }

  /**
   * open(2) of an attribute.
   *
   * @param flags those of the program's open
   * @throws VfioError EACCES for a user who may not; an errno of the attribute's own
   */
  openAttribute(file: TreeFile & { readonly kind: 'attribute' }, flags: number, opener: Opener): OpenAttribute {
    const { path, attribute } = file;
    const access = flags & ACCESS_MODE;
    const wanted = (access === WRITE_ONLY ? 0 : 4) | (access === READ_ONLY ? 0 : 2);
    const isOwner = opener.uid === this.#uid || opener.uid === 0;
    const granted = isOwner ? attribute.mode >> 6 : attribute.mode;
    // kernfs refuses an access that the file has no operation for, to root as well.
    if ((wanted & ~granted) !== 0) {
      throw new VfioError(
        'EACCES',
        `${path} has mode ${attribute.mode.toString(8)} and belongs to uid ${this.#uid}; process ${opener.pid} is uid ${opener.uid}`,
      );
    }
    const failed = (error: unknown) => {
      const { events } = this.#machine.context;
      const why =
        error instanceof VfioError ? `${error.code}: ${error.message}${error.fix === undefined ? '' : `. ${error.fix}`}` : textOf(error);
      events.note('error', `sysfs ${path}`, `a write to ${path} failed after it had returned: ${why}`);
    };
    return new OpenAttribute(path, attribute, isOwner, () => this.settle(), failed);
  }

  #changed(): void {
    if (this.#isStale) return;
    this.#isStale = true;
    queueMicrotask(() => {
      if (this.#isStale && this.#owns.pending > 0) this.settle();
    });
  }

  /** Bring the folder up to date with the machine. */
  settle(): void {
    this.#isStale = false;
    const { entries } = machineLayout(this.#machine, { cpus: this.#host.processors });
    this.#remove(entries);
    for (const [path, entry] of entries) this.#make(path, entry);
  }

  /** The newest first, so that folders are empty when their turn comes. */
  #remove(wanted: Layout['entries']): void {
    for (const [path, { entry }] of [...this.#made].reverse()) {
      if (isSame(entry, wanted.get(path))) continue;
      this.#folder.remove(path);
      this.#made.delete(path);
    }
  }

  #make(path: string, entry: Entry): void {
    const made = this.#made.get(path);
    if (made !== undefined && entry.kind !== 'file') return;
    let content: string | null = null;
    switch (entry.kind) {
      case 'folder':
        // A directory of the host's may be mounted there already.
        this.#folder.makeFolder(path);
        break;
      case 'link':
        this.#folder.makeLink(path, entry.to);
        break;
      case 'node':
        this.#folder.makeNode(path, entry.mode);
        break;
      case 'file':
        content = this.#makeFile(path, entry.attribute, made ?? null);
    }
    this.#made.set(path, { entry, content });
  }

  /**
   * A file has the bytes that it shows now, for readers that the engine does not see.
   *
   * @returns the bytes
   */
  #makeFile(path: string, { mode, show, size }: Attribute, made: Made | null): string | null {
    const content = size === undefined ? contentOf(show) : null;
    if (made === null) this.#folder.makeFile(path, mode, content ?? size!);
    else if (content !== null && made.content !== content) this.#folder.rewriteFile(path, content);
    return content;
  }

  /** Removes the folder. Programs that still run see empty directories. Idempotent. */
  [Symbol.dispose](): void {
    this.#owns[Symbol.dispose]();
  }
}

function isSame(a: Entry, b: Entry | undefined): boolean {
  if (b === undefined || a.kind !== b.kind) return false;
  if (a.kind === 'link') return a.to === (b as typeof a).to;
  if (a.kind === 'node') return a.mode === (b as typeof a).mode && a.uid === (b as typeof a).uid;
  if (a.kind === 'file') return a.attribute.mode === (b as typeof a).attribute.mode;
  return true;
}

function treeFile(path: string, entry: Entry): TreeFile | null {
  if (entry.kind === 'node') return { kind: 'node', path };
  if (entry.kind !== 'file') return null;
  return { kind: 'attribute', path, attribute: entry.attribute };
}

function contentOf(show: Attribute['show']): string {
  const shown = show?.() ?? '';
  return typeof shown === 'string' ? shown : Buffer.from(shown).toString('latin1');
}
