/**
 * A computer in memory: sysfs with the behaviour of Linux's driver core, other files, processes
 * and programs. Any change can be made to fail once.
 *
 * @see linux/drivers/base/bus.c, bind_store(), unbind_store()
 */
import { VfioError } from '../../src/base/errno.ts';
import { plainPath } from '../../src/host/host-path.ts';
import type { HostChanges, Owner, ProgramResult } from '../../src/sys/host-changes.ts';
import type { HostFiles } from '../../src/sys/host-files.ts';

const PCI = '/sys/bus/pci';

export interface FakeFunction {
  readonly driver?: string;
  readonly group?: number;
  /** vendor:device, and the class. */
  readonly id?: string;
  readonly class?: string;
  /** Folder in /sys/devices. */
  readonly at?: string;
  /** Other attributes. */
  readonly attributes?: Readonly<Record<string, string>>;
}

export class FakeHost implements HostFiles, HostChanges {
  readonly origin = '/';
  readonly live = true;
  readonly uid = 0;
  /** Texts of files; links begin with `->`. */
  readonly entries = new Map<string, string>();
  readonly owners = new Map<string, Owner>();
  /** Changes that were made, as `path=value`. */
  readonly changes: string[] = [];
  /** Drivers that modprobe can load. */
  readonly modules = new Set(['vfio-pci']);
  /** Programs that print a text. */
  readonly programs = new Map<string, string>();
  /** The number of the change that fails. Default: none. */
  failAt = Number.POSITIVE_INFINITY;
  /** Changes of these paths fail always. Default: none. */
  stuck = new Set<string>();
  #count = 0;

  constructor(functions: Readonly<Record<string, FakeFunction>>, drivers: readonly string[] = []) {
    for (const driver of drivers) this.#addDriver(driver);
    for (const [bdf, fn] of Object.entries(functions)) this.#addFunction(bdf, fn);
  }

  #addDriver(name: string): void {
    for (const file of ['bind', 'unbind']) this.entries.set(`${PCI}/drivers/${name}/${file}`, '');
  }

  #addFunction(bdf: string, fn: FakeFunction): void {
    const { driver, group, id = '8086:10c9', class: code = '020000', at = `/sys/devices/pci0000:00/${bdf}`, attributes = {} } = fn;
    const [vendor, device] = id.split(':');
    this.entries.set(`${PCI}/devices/${bdf}`, `->${at}`);
    const files = {
      vendor: `0x${vendor}`,
      device: `0x${device}`,
      class: `0x${code}`,
      driver_override: '(null)',
      numa_node: '-1',
      ...attributes,
    };
    for (const [name, text] of Object.entries(files)) this.entries.set(`${at}/${name}`, `${text}\n`);
    if (driver !== undefined) {
      if (!this.exists(`${PCI}/drivers/${driver}`)) this.#addDriver(driver);
      this.entries.set(`${at}/driver`, `->${PCI}/drivers/${driver}`);
    }
    if (group === undefined) return;
    this.entries.set(`${at}/iommu_group`, `->/sys/kernel/iommu_groups/${group}`);
    this.entries.set(`/sys/kernel/iommu_groups/${group}/type`, 'DMA\n');
    this.#showNode(group);
  }

  /** The path with no link on the way. */
  #real(path: string, last: boolean): string {
    let at = '';
    const parts = path.split('/').filter((part) => part !== '');
    for (const [i, part] of parts.entries()) {
      at = `${at}/${part}`;
      const target = this.entries.get(at);
      if (target?.startsWith('->') !== true || (!last && i === parts.length - 1)) continue;
      const next = target.slice(2);
      at = this.#real(plainPath(next.startsWith('/') ? next : `${at.slice(0, at.lastIndexOf('/'))}/${next}`), true);
    }
    return at;
  }

  text(path: string): string | null {
    const text = this.entries.get(this.#real(path, true));
    return text === undefined || text.startsWith('->') ? null : text;
  }

  bytes(path: string): Uint8Array | null {
    const text = this.text(path);
    return text === null ? null : new TextEncoder().encode(text);
  }

  link(path: string): string | null {
    const text = this.entries.get(this.#real(path, false));
    return text?.startsWith('->') === true ? text.slice(2) : null;
  }

  list(path: string): readonly string[] {
    const at = `${this.#real(path, true)}/`;
    const names = [...this.entries.keys()].flatMap((each) => (each.startsWith(at) ? [each.slice(at.length).split('/')[0]!] : []));
    return [...new Set(names)].sort();
  }

  exists(path: string): boolean {
    return this.entries.has(this.#real(path, true)) || this.list(path).length > 0;
  }

  #step(what: string): void {
    this.#count++;
    if (this.#count === this.failAt) throw new VfioError('EIO', `the fake fails: ${what}`);
    this.changes.push(what);
  }

  attribute(path: string, value: string): void {
    this.#step(`${path}=${value}`);
    if (this.stuck.has(path)) throw new VfioError('EIO', `the fake fails: ${path}`);
    const [, driver, action] = /^\/sys\/bus\/pci\/drivers\/([^/]+)\/(bind|unbind)$/.exec(path) ?? [];
    const real = this.#real(path, true);
    if (!this.entries.has(real)) throw new VfioError('ENOENT', `${path} is not there`);
    if (action === undefined) {
      this.entries.set(real, path.endsWith('/driver_override') && value === '' ? '(null)\n' : `${value}\n`);
      return;
    }
    const at = this.#real(`${PCI}/devices/${value}`, true);
    const bound = this.entries.get(`${at}/driver`)?.slice(`->${PCI}/drivers/`.length);
    const override = this.entries.get(`${at}/driver_override`)!.trim();
    if (action === 'unbind' && bound === driver) this.entries.delete(`${at}/driver`);
    else if (action === 'bind' && bound === undefined && (override === driver || override === '(null)')) {
      this.entries.set(`${at}/driver`, `->${PCI}/drivers/${driver}`);
    } else throw new VfioError('ENODEV', `${driver} does not ${action} ${value}`);
    const group = /\d+$/.exec(this.link(`${at}/iommu_group`) ?? '')?.[0];
    if (group !== undefined) this.#showNode(Number(group));
  }

  /** /dev/vfio has a node for a group while vfio-pci has a function of it. */
  #showNode(group: number): void {
    const members = [...this.entries].filter(([path, text]) => path.endsWith('/iommu_group') && text.endsWith(`/${group}`));
    const isOurs = members.some(([path]) => this.entries.get(path.replace(/iommu_group$/, 'driver')) === `->${PCI}/drivers/vfio-pci`);
    if (isOurs) this.entries.set(`/dev/vfio/${group}`, '');
    else this.entries.delete(`/dev/vfio/${group}`);
  }

  file(path: string, text: string): void {
    this.entries.set(path, text);
  }

  remove(path: string): void {
    this.entries.delete(path);
  }

  own(path: string, owner: Owner): void {
    this.#step(`${path} is ${owner.uid}:${owner.gid} ${owner.mode.toString(8)}`);
    this.owners.set(path, owner);
  }

  ownerOf(path: string): Owner | null {
    return this.exists(path) ? (this.owners.get(path) ?? { uid: 0, gid: 0, mode: 0o600 }) : null;
  }

  permits(path: string): boolean {
    return this.exists(path);
  }

  permitsWrite(path: string): boolean {
    return this.permits(path);
  }

  run(program: string, words: readonly string[]): ProgramResult {
    const printed = this.programs.get(program);
    if (printed !== undefined) return { status: 0, printed, said: '' };
    if (program !== 'modprobe') return { status: null, printed: '', said: `${program}: there is no such file` };
    this.#step([program, ...words].join(' '));
    const [module = ''] = words;
    if (!this.modules.has(module)) return { status: 1, printed: '', said: `Module ${module} not found` };
    this.#addDriver(module);
    return { status: 0, printed: '', said: '' };
  }

  user(name: string): { readonly name: string; readonly uid: number; readonly gid: number } | null {
    return name === 'alice' ? { name, uid: 1000, gid: 1000 } : null;
  }

  lock(): Disposable {
    return { [Symbol.dispose]: () => {} };
  }

  /** sysfs, without the records and locks. */
  sysfs(): Readonly<Record<string, string>> {
    return Object.fromEntries(
      [...this.entries].filter(([path]) => path.startsWith('/sys/bus/pci/devices') || path.startsWith('/sys/devices')),
    );
  }

  /** A process that has a file open. */
  open(pid: number, program: string, path: string): void {
    this.entries.set(`/proc/${pid}/comm`, `${program}\n`);
    this.entries.set(`/proc/${pid}/fd/3`, `->${path}`);
  }
}
