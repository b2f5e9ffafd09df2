/**
 * A machine as files: a folder of ours that holds its part of /sys and /dev, the mounts that put
 * the folder's parts in place for a program, and the answers to opens of files that are more than
 * their bytes. The folder follows the machine while programs run.
 */
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import type { Machine } from '../../engine/machine/machine.ts';
import { ClaimedFolder } from '../../sys/claimed-folder.ts';
import { type HostPaths, hostPaths } from '../../sys/host-paths.ts';
import type { Attribute } from './attribute.ts';
import type { Entry, Layout } from './layout.ts';
import { IOMMU_NODE, machineLayout } from './machine-layout.ts';
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
  /** A file of sysfs whose content or writes are the machine's. */
  | { readonly kind: 'attribute'; readonly path: string; readonly attribute: Attribute };

/** open(2): O_ACCMODE, O_RDONLY, O_WRONLY */
const ACCESS_MODE = 3;
const READ_ONLY = 0;
const WRITE_ONLY = 1;

/** Directories that a program sees as the machine has them, instead of the host's. */
const replaced = [
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
  readonly inode: bigint;
  readonly content: string | null;
}

export class SysfsTree implements Disposable {
  /** st_dev of its files. */
  readonly device: bigint;
  readonly #machine: Machine;
  readonly #uid: number;
  readonly #folder: ClaimedFolder;
  readonly #host: HostPaths;
  readonly #made = new Map<string, Made>();
  readonly #byInode = new Map<bigint, TreeFile>();
  readonly #owns: Cleanup;
  #isStale = false;

  private constructor(machine: Machine, uid: number, folder: ClaimedFolder, host: HostPaths, owns: Cleanup) {
    this.#machine = machine;
    this.#uid = uid;
    this.#folder = folder;
    this.#host = host;
    this.#owns = owns;
    this.device = folder.identity('/').device;
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

  /** The calls of mount(2) for one program, in order; see `mounts.ts`. */
  mounts(options: MountOptions = {}): readonly MountCall[] {
    const views: View[] = [...this.#rootBuses(), ...replaced].map((target) => ({
      source: this.#folder.place(target),
      target,
      isFolder: true,
    }));
    views.push({ source: this.#folder.place(IOMMU_NODE), target: IOMMU_NODE, isFolder: false });
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

  /** The file with that inode on the file system `device`; null for a file that is only bytes. */
  lookup(device: bigint, inode: bigint): TreeFile | null {
    return device === this.device ? (this.#byInode.get(inode) ?? null) : null;
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
    const open = new OpenAttribute(path, attribute, isOwner, () => this.settle());
    return open;
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
    for (const [path, { entry, inode }] of [...this.#made].reverse()) {
      if (isSame(entry, wanted.get(path))) continue;
      this.#folder.remove(path);
      this.#byInode.delete(inode);
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
    const inode = made?.inode ?? this.#folder.identity(path).inode;
    this.#made.set(path, { entry, inode, content });
    const file = treeFile(path, entry);
    if (file !== null) this.#byInode.set(inode, file);
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
  if (entry.kind !== 'file' || entry.attribute.constant === true) return null;
  return { kind: 'attribute', path, attribute: entry.attribute };
}

function contentOf(show: Attribute['show']): string {
  const shown = show?.() ?? '';
  return typeof shown === 'string' ? shown : Buffer.from(shown).toString('latin1');
}
