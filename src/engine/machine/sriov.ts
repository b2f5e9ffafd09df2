/**
 * sriov_numvfs: enabling and disabling the virtual functions of a physical one. Only the
 * administrator of the machine does this, never the user who drives the PF (S3-15).
 *
 * @see linux/drivers/pci/iov.c, sriov_numvfs_store(); linux/drivers/vfio/pci/vfio_pci_core.c,
 * vfio_pci_core_sriov_configure(), vfio_pci_bus_notifier()
 */
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import type { EngineContext } from '../context.ts';
import { type HostDrivers, VFIO_PCI } from './binding.ts';
import type { Fabric } from './fabric.ts';
import type { GroupTable } from './group-table.ts';
import type { PciFunction } from './pci-function.ts';
import type { PhysicalFunction } from './physical-function.ts';

export interface SriovOptions {
  readonly ctx: EngineContext;
  readonly fabric: Fabric;
  readonly groups: GroupTable;
  readonly drivers: HostDrivers;
  /** Announce VFs that are in their groups, and offer them to their driver. */
  added(vfs: readonly PciFunction[]): void;
  /** Unplug a VF: the engine asks its users to close it. */
  remove(vf: PciFunction): Promise<void>;
}

export class SriovControl {
  readonly #o: SriovOptions;

  constructor(options: SriovOptions) {
    this.#o = options;
  }

  /**
   * Write `count` to the function's sriov_numvfs. Enabling happens at once, or not at all.
   * Disabling resolves when the users of VFs have closed them.
   *
   * @throws VfioError ENOENT for a function without SR-IOV, and when its driver does not do this
   * (vfio-pci only with enable_sriov); EINVAL for a value that is no number of VFs; ERANGE for more
   * than the PF can have; EBUSY to change a number that is not 0; ENOMEM, EEXIST where VFs have no
   * place
   */
  setNumVfs(fn: PciFunction, count: number): Promise<void> {
    const { sriov } = fn;
    if (sriov === null) throw new VfioError('ENOENT', `${fn.bdf} has no sriov_numvfs: it has no SR-IOV capability`);
    if (!Number.isInteger(count) || count < 0 || count > 0xffff)
      throw new VfioError('EINVAL', `${fn.bdf}: ${String(count)} is no number of virtual functions`);
    if (count > sriov.totalVfs) {
      throw new VfioError('ERANGE', `${fn.bdf} can have ${sriov.totalVfs} virtual functions; ${count} were asked for`);
    }
    if (sriov.disabling !== null && count === 0) return sriov.disabling;
    if (count === sriov.numVfs && sriov.disabling === null) return Promise.resolve();
    if (!fn.present) throw new VfioError('ENODEV', `${fn.bdf} is being unplugged`);
    if (sriov.disabling !== null || fn.unbinding !== null) {
      throw new VfioError('EBUSY', `${fn.bdf}: its virtual functions are going, and some are still in use`, {
        fix: 'Close the device files that are open.',
      });
    }
    this.#checkDriver(fn);
    if (count === 0) return this.disable(fn, sriov);
    if (sriov.numVfs > 0) {
      throw new VfioError('EBUSY', `${fn.bdf} has ${sriov.numVfs} virtual functions already`, { fix: 'Set the number to 0 first.' });
    }
    this.#enable(fn, sriov, count);
    return Promise.resolve();
  }

  /**
   * Enable the VFs that the declaration of a new function asks for. A refusal is kept and logged,
   * as that of a driver.
   */
  first(fn: PciFunction, count: number): void {
    if (count === 0 || !fn.present) return;
    try {
      void this.setNumVfs(fn, count);
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      fn.probeError ??= error;
      fn.host.events.note('warn', 'numvfs', `${fn.bdf}: its virtual functions were not enabled: ${error.message}`);
    }
  }

  /** `fn` has a new driver: drivers of the host may take its VFs, and the log says so (S3-17). */
  bound(fn: PciFunction, driver: string): void {
    if (fn.physical?.vfio == null || fn.vfio !== null) return;
    const text = `${fn.bdf} is bound to ${driver}, while its physical function ${fn.physical.bdf} is in a user's hands`;
    fn.host.events.note('warn', 'native VF', text);
  }

  /**
   * VFs go before their PF (S3-18). Null when none is left; else a promise that waits for their
   * users, then runs `unbind`.
   */
  beforeUnbind(fn: PciFunction, unbind: () => Promise<void>): Promise<void> | null {
    const { sriov } = fn;
    if (fn.vfio === null || sriov === null || sriov.numVfs === 0) return null;
    const disabled = this.disable(fn, sriov);
    if (sriov.disabling === null) return null;
    fn.unbinding = disabled.then(() => {
      fn.unbinding = null;
      return fn.driver === null ? undefined : unbind();
    });
    return fn.unbinding;
  }

  #checkDriver(fn: PciFunction): void {
    if (fn.driver === null) {
      throw new VfioError('ENOENT', `${fn.bdf} has no driver, and only a driver can enable virtual functions`, {
        fix: fn.bindCommand('vfio-pci'),
      });
    }
    if (fn.vfio !== null && !this.#o.ctx.params.enableSriov) {
      throw new VfioError('ENOENT', `vfio-pci enables no virtual functions of ${fn.bdf}: enable_sriov is off`, {
        fix: 'Set the parameter enableSriov: `params: { enableSriov: true }` in the machine file, or while it runs.',
      });
    }
    if (fn.vfio === null && !this.#o.drivers.doesSriov(fn.driver)) {
      throw new VfioError('ENOENT', `${fn.driver}, which drives ${fn.bdf}, does not support SR-IOV`, {
        fix: 'Use vfio-pci or pci-pf-stub.',
      });
    }
  }

  /** All or nothing. The PF is awake before, and stays so while it has VFs (S3-19). */
  #enable(fn: PciFunction, sriov: PhysicalFunction, count: number): void {
    const { ctx, fabric, groups } = this.#o;
    using undo = new Cleanup();
    ctx.faults.step('sriov.power');
    fn.vfio?.prepareVfs();
    undo.defer(() => fn.vfio?.vfsGone());
    ctx.faults.step('sriov.enable');
    sriov.set(count);
    undo.defer(() => sriov.set(0));
    const vfs = fabric.addVirtualFunctions(fn, count, undo);
    ctx.faults.step('sriov.group');
    groups.join(vfs, fabric.aroundVirtualFunctions(fn));
    undo.move();
    // S3-17: no driver of the host takes a VF of a user's PF by itself.
    const override = fn.vfio !== null ? VFIO_PCI : sriov.vfDriver;
    if (override !== null) for (const vf of vfs) vf.driverOverride = override;
    this.#o.added(vfs);
  }

  /**
   * Remove all VFs of `fn`. The engine asks all their users at once to close them. Resolves at once
   * when there are none.
   */
  disable(fn: PciFunction, sriov: PhysicalFunction): Promise<void> {
    if (sriov.disabling !== null) return sriov.disabling;
    const waits = fn.vfs.map((vf) => this.#o.remove(vf));
    const done = () => {
      sriov.disabling = null;
      sriov.set(0);
      fn.vfio?.vfsGone();
    };
    if (fn.vfs.length === 0) {
      done();
      return Promise.resolve();
    }
    sriov.disabling = Promise.all(waits).then(done);
    return sriov.disabling;
  }
}
