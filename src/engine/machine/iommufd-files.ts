/**
 * The files through which users have devices without groups: /dev/iommu, and the devices' own nodes
 * in /dev/vfio/devices.
 */
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import type { EngineContext } from '../context.ts';
import { checkInterrupts } from '../dma/container-domains.ts';
import { checkRawIo, type LockedAccount, OwnAccount, type Process } from '../dma/process.ts';
import { Iommufd } from '../iommufd/iommufd.ts';
import { CdevFile, type CdevSurroundings } from './cdev-file.ts';
import { type GroupTable, nodeOf } from './group-table.ts';
import type { PciFunction } from './pci-function.ts';

export interface IommufdFilesOptions {
  readonly ctx: EngineContext;
  readonly groups: GroupTable;
  readonly functions: ReadonlyMap<string, PciFunction>;
  /** The machine sleeps. */
  asleep(): boolean;
}

export class IommufdFiles implements Disposable {
  readonly #o: IommufdFilesOptions;
  readonly #iommufds = new Set<Iommufd>();
  readonly #devices = new Set<CdevFile>();
  /** Bytes that each user has locked through iommufds. */
  readonly #users = new Map<number, LockedAccount>();
  readonly #around: CdevSurroundings;

  constructor(options: IommufdFilesOptions) {
    this.#o = options;
    this.#around = { ctx: options.ctx, asleep: options.asleep, closed: (file) => void this.#devices.delete(file) };
  }

  /** open("/dev/iommu"). @throws VfioError EACCES for a process that does not own the node */
  openIommufd(process: Process): Iommufd {
    const { ctx, groups } = this.#o;
    groups.checkAccess('/dev/iommu', process);
    ctx.faults.step('iommufd.open');
    const events = ctx.stream.iommufd();
    if (events.on) events.emit('open', { step: 'opened', pid: process.pid });
    const iommufd: Iommufd = new Iommufd({
      events,
      linux: ctx.linux,
      users: (uid) => this.#account(uid),
      checkInterrupts: (group) => checkInterrupts(group, ctx),
      closed: () => {
        this.#iommufds.delete(iommufd);
        if (events.on) events.emit('open', { step: 'closed', pid: process.pid });
      },
    });
    this.#iommufds.add(iommufd);
    return iommufd;
  }

  /** Bytes that iommufds have locked for a user. */
  locked(uid: number): number {
    return this.#users.get(uid)?.bytes ?? 0;
  }

  #account(uid: number): LockedAccount {
    let account = this.#users.get(uid);
    if (account === undefined) {
      account = new OwnAccount(0);
      this.#users.set(uid, account);
    }
    return account;
  }

  /**
   * The function whose node is `vfioN`, or `noiommu-vfioN`.
   *
   * @throws VfioError ENOENT
   */
  functionOf(node: string): PciFunction {
    const bound = [...this.#o.functions.values()].filter((fn) => fn.vfioIndex !== null);
    const found = bound.find((fn) => nodeOf(fn) === node);
    if (found !== undefined) return found;
    const known = bound.map((fn) => `${nodeOf(fn)} (${fn.bdf})`);
    throw new VfioError('ENOENT', `there is no /dev/vfio/devices/${node.slice(0, 64)}`, {
      fix: known.length === 0 ? 'No device is bound to vfio-pci.' : `There are ${known.slice(0, 8).join(', ')}.`,
    });
  }

  /**
   * open("/dev/vfio/devices/vfioN").
   *
   * @throws VfioError ENOENT for a function that vfio-pci does not drive; EACCES for a process that
   * does not own the node; EPERM for a device without an IOMMU without CAP_SYS_RAWIO; as
   * `CdevFile.open`
   */
  openDevice(fn: PciFunction, process: Process): CdevFile {
    const { groups } = this.#o;
    if (fn.vfioIndex === null) {
      throw new VfioError('ENOENT', `${fn.bdf} has no node in /dev/vfio/devices: it is not bound to vfio-pci`, {
        fix: fn.bindCommand('vfio-pci'),
      });
    }
    if (fn.group !== null && !groups.hasOwnNodes(fn.group)) {
      throw new VfioError('ENOENT', `${fn.bdf} has no node in /dev/vfio/devices: it has no IOMMU, and this kernel gives it a group only`, {
        fix: `Open /dev/vfio/noiommu-${fn.group.id}, or choose a newer kernel (linux: 7.3).`,
      });
    }
    groups.checkAccess(`/dev/vfio/devices/${nodeOf(fn)}`, process);
    if (fn.group?.noIommu === true) checkRawIo(process, `${fn.bdf}, which has no IOMMU`);
    const file = CdevFile.open(fn, process, this.#around);
    this.#devices.add(file);
    return file;
  }

  /** The machine is switched off. */
  [Symbol.dispose](): void {
    using off = new Cleanup();
    for (const iommufd of this.#iommufds) off.defer(() => iommufd.close());
    for (const file of this.#devices) off.defer(() => file.close());
  }
}
