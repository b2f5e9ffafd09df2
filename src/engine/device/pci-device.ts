/**
 * VfioPciDevice: a function while it is bound to vfio-pci, shared by all its open files. The first
 * open enables and resets the function. The last close quiesces, resets and restores it, in the
 * order of S2-30: bus mastering off, interrupts off, reset, configuration back; only then may the
 * IOMMU domain go.
 *
 * Longer than 400 lines because open, reset, sleep, revocation and close interrupt each other:
 * mediators and listeners may start any of them in the middle of another, and the order in which
 * the shared state changes stands in one file.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_enable(), vfio_pci_core_disable(),
 * vfio_pci_core_register_device()
 */
import type { DeviceEvent, RegionInfo } from '../../abi/device.ts';
import { Command, Config } from '../../abi/pci.ts';
import { NUM_REGIONS } from '../../abi/vfio.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import type { FunctionHost } from '../../hardware/function-host.ts';
import type { EngineContext } from '../context.ts';
import { mediatedDevice } from '../mediation/mediated-device.ts';
import type { Mediation } from '../mediation/mediation.ts';
import type { VmFile } from '../vm/vm-provider.ts';
import { VmReference } from '../vm/vm-reference.ts';
import { parseDeviceName } from './device-name.ts';
import { checkBindable } from './device-policy.ts';
import type { BoundDevice, HostedFunction, OpenFile } from './hosted-function.ts';
import { tryResetSet } from './hot-reset.ts';
import { enable, migrationOf, type OpenState } from './open-state.ts';
import { DevicePower } from './power.ts';
import { regionInfo } from './region-info.ts';
import { resetFunction, runReset, seenReset } from './reset.ts';
import { Suspension } from './suspend.ts';
import { ReleaseRequest, type ReleaseTarget } from './unplug.ts';
import { authorize, type TokenSubject, VfToken } from './vf-token.ts';

export class VfioPciDevice implements BoundDevice, ReleaseTarget, TokenSubject {
  readonly fn: HostedFunction;
  readonly ctx: EngineContext;
  readonly bdf: string;
  readonly host: FunctionHost;
  readonly power: DevicePower;
  /** A physical function's; null for every other. */
  readonly token: VfToken | null;
  /**
   * The device of a virtual function's PF, which made it. It never changes: a PF is not unbound
   * before its VFs are gone, nor bound while it has some.
   */
  readonly physical: BoundDevice | null;
  /**
   * Accesses have to go the long way: the device is gone, in reset, or in low power. One flag,
   * because every register access looks at it.
   */
  slow = false;
  /** The reason why the device is gone for its users; null while it is there. */
  gone: string | null = null;
  resetting = false;
  /** The device was closed without a reset: the next chance is a reset of its bus (S2-31). */
  needsReset = false;
  readonly #files = new Set<OpenFile>();
  /** Files of /dev/vfio/devices: each keeps the device registered, also while it is not bound. */
  #cdevs = 0;
  readonly #suspension: Suspension;
  #open: OpenState | null = null;
  #vm: VmReference | null = null;
  #mediation: Mediation | null = null;
  /** Ends the view of the device that mediators were shown at this open. */
  #retire: (() => void) | null = null;
  /**
   * The first open is under way. Mediators called during the first open must not open the device
   * again.
   */
  #opening = false;
  #leaving: ReleaseRequest | null = null;

  private constructor(fn: HostedFunction, ctx: EngineContext) {
    this.fn = fn;
    this.ctx = ctx;
    this.bdf = fn.bdf;
    this.host = fn.host;
    this.power = new DevicePower(fn.bdf, fn.config, {
      sleep: () => this.#open?.interrupts.sleep(),
      wake: () => this.#open?.interrupts.wake(),
      restored: () => this.#open?.interrupts.restore(),
      changed: () => this.#updateSlow(),
      pinned: () => (fn.sriov?.numVfs ?? 0) > 0,
      entered: (state) => {
        if (fn.host.events.on) fn.host.events.emit('power', { state });
      },
    });
    this.token = fn.sriov == null ? null : new VfToken();
    this.physical = fn.physical?.vfio ?? null;
    this.host.onReset = () => this.#open?.migration?.deviceReset();
    this.#suspension = new Suspension(this);
  }

  /**
   * Bind: check that vfio-pci can drive `fn`, and put it to sleep until its first open. Does not
   * touch `fn.vfio`.
   *
   * @throws VfioError EINVAL bridge header, no IOMMU or not coherent, denied id; ENODEV with
   * requireReset and no reset method
   */
  static probe(fn: HostedFunction, ctx: EngineContext): VfioPciDevice {
    checkBindable(fn, ctx);
    ctx.faults.step('bind.token');
    const device = new VfioPciDevice(fn, ctx);
    device.#idle();
    return device;
  }

  /**
   * Compare GET_DEVICE_FD's string with this device. False: the string names another device. Sets
   * the token of a PF whose VFs are not in use (T7, S3-12).
   *
   * @param spare as in `authorize`
   * @throws VfioError EINVAL bad, unknown or unused option; EACCES token missing or wrong
   */
  matches(nameAndOptions: string, spare: Uint8Array | null = null): boolean {
    const name = parseDeviceName(this.bdf, nameAndOptions);
    if (name === null) return false;
    authorize(this, name.token, this.host.events, spare);
    return true;
  }

  get isVirtualFunction(): boolean {
    return this.fn.physical != null;
  }

  /** Called before VFs are enabled: their PF has to be awake (S3-19). */
  prepareVfs(): void {
    this.power.wake();
    this.power.setState('D0');
  }

  /** The last VF is gone: sleep is allowed again. */
  vfsGone(): void {
    if (this.#open === null) this.#idle();
    else this.settle();
  }

  /**
   * One more file, which `make` makes once the device is enabled.
   *
   * @param vm the virtual machine that uses the device; null for none
   * @throws VfioError ENODEV being unplugged or gone, also when that begins within this open; EBUSY
   * from within its first open; EAGAIN while the device lock is held; what a fault plan makes a
   * step fail with; what `make` throws. Nothing has changed then.
   */
  open<F extends OpenFile>(vm: VmFile | null, make: () => F): F {
    this.#checkStaying();
    if (this.#opening)
      throw new VfioError('EBUSY', `${this.bdf} is being opened: a mediator that is called during the open cannot open it again`);
    if (this.#files.size > 0) return this.#newFile(make);
    this.#opening = true;
    try {
      this.#firstOpen(vm);
      try {
        return this.#newFile(make);
      } catch (error) {
        this.#disableIfOpen();
        throw error;
      }
    } finally {
      this.#opening = false;
      if (this.#leaving !== null && !this.inUse) this.#left();
    }
  }

  #newFile<F extends OpenFile>(make: () => F): F {
    this.ctx.faults.step('device.open');
    this.#checkStaying();
    const file = make();
    this.#files.add(file);
    return file;
  }

  #checkStaying(): void {
    if (this.gone !== null) throw this.goneError();
    if (this.#leaving !== null) throw new VfioError('ENODEV', `${this.bdf} is being unbound or unplugged`);
  }

  /**
   * Files not yet released, and the one that is being opened; 0 once the device was taken from
   * them.
   */
  get openCount(): number {
    return this.gone === null ? this.#files.size + (this.#opening ? 1 : 0) : 0;
  }

  /**
   * A file of /dev/vfio/devices was opened: an unbind waits for its close, bound or not.
   *
   * @throws VfioError ENODEV being unplugged or gone
   * @see linux/drivers/vfio/vfio_main.c, vfio_device_try_get_registration()
   */
  keepRegistered(): Disposable {
    this.#checkStaying();
    this.#cdevs++;
    let kept = true;
    return {
      [Symbol.dispose]: () => {
        if (!kept) return;
        kept = false;
        this.#cdevs--;
        if (this.#leaving !== null && !this.inUse) this.#left();
      },
    };
  }

  /** A file keeps it registered: an unbind waits. */
  get inUse(): boolean {
    return this.openCount > 0 || (this.gone === null && this.#cdevs > 0);
  }

  get files(): readonly OpenFile[] {
    return [...this.#files];
  }

  /** Only while open. */
  get openState(): OpenState {
    if (this.#open === null) throw this.goneError();
    return this.#open;
  }

  /** MSI or MSI-X vectors that the device holds. */
  get vectors(): number {
    return this.#open?.interrupts.vectors ?? 0;
  }

  isOpen(state: OpenState): boolean {
    return this.#open === state;
  }

  /**
   * GET_REGION_INFO, as the device's users see it.
   *
   * @throws VfioError what a mediator's hook throws
   */
  regionInfo(index: number): RegionInfo {
    const info = this.#mediation?.added(index)?.info ?? regionInfo(this.fn, index, this.openState.mappable);
    return this.#mediation?.regionInfo(index, info) ?? info;
  }

  /**
   * BARs, ROM, config space and VGA; then the device-specific regions: the device's own, and those
   * of its mediator.
   */
  get numRegions(): number {
    return NUM_REGIONS + (this.fn.declaration.regions?.length ?? 0) + (this.#mediation?.addedRegions.length ?? 0);
  }

  goneError(): VfioError {
    return new VfioError('ENODEV', `${this.bdf} is gone: ${this.gone ?? 'it is not open'}`);
  }

  /**
   * The engine takes the reference on the virtual machine before the device does anything for it
   * (S4-03).
   */
  #firstOpen(file: VmFile | null): void {
    using undo = new Cleanup();
    const vm = VmReference.take(file, this.ctx, this.host.events);
    if (vm !== null) undo.use(vm);
    this.#open = enable(this, { current: () => this.#open, userReset: () => this.#userReset(), idle: () => this.#idle() });
    undo.defer(() => this.#disableIfOpen());
    this.ctx.faults.step('device.mediate');
    const mediation = this.#mediate();
    // A mediator may have revoked the device.
    if (this.gone !== null) {
      mediation?.release();
      throw this.goneError();
    }
    this.#mediation = mediation;
    this.host.dma.notedElsewhere = this.#mediation?.notesWrites === true;
    this.#open = { ...this.#open, migration: migrationOf(this, this.#open.vconfig) };
    undo.move();
    this.#vm = vm;
  }

  #mediate(): Mediation | null {
    const { mediators } = this.ctx;
    if (mediators === undefined) return null;
    const { shown, retire } = mediatedDevice(this);
    this.#retire = retire;
    return mediators.open(shown, this.host.events);
  }

  /** The mediator's part in the device, from the first open to the last close (S0). */
  get mediation(): Mediation | null {
    return this.#mediation;
  }

  /** The virtual machine that the device works for, from the first open to the last close. */
  get vm(): VmFile | null {
    return this.#vm?.file ?? null;
  }

  /**
   * VFIO_DEVICE_RESET.
   *
   * @throws VfioError EINVAL without a working reset; EAGAIN while the device lock is held
   */
  reset(): void {
    if (!this.openState.resetWorks) {
      throw new VfioError('EINVAL', `${this.bdf} has no reset that works on it alone`, { fix: 'Reset its bus (HOT_RESET), or close it.' });
    }
    this.checkAwake();
    this.host.checkUnlocked();
    this.#resetOpen();
  }

  #resetOpen(): void {
    this.beginReset();
    try {
      resetFunction(this.fn, this.ctx);
    } finally {
      this.endReset();
    }
  }

  /**
   * The user wrote a reset bit in config space. A reset that cannot be done has no effect, as in
   * hardware.
   */
  #userReset(): void {
    if (this.host.lockedBy !== null || this.power.suspended) return;
    try {
      seenReset(this.fn, 'config space', () => this.#resetOpen());
    } catch (error) {
      this.host.events.note('warn', 'user reset', `${this.bdf}: reset asked for through config space failed: ${String(error)}`);
    }
  }

  /** A reset is about to hit the function: mappings fault, and the function is awake and in D0. */
  beginReset(): void {
    this.resetting = true;
    this.#updateSlow();
    this.power.wake();
    this.power.setState('D0');
  }

  /** The configuration is back: interrupts, which live in registers beyond it, follow. */
  endReset(): void {
    this.resetting = false;
    this.#open?.interrupts.restore();
    this.#updateSlow();
    if (this.#open === null) this.#idle();
    else this.settle();
  }

  /** A file was closed and has no mapping left. */
  released(file: OpenFile): void {
    this.#files.delete(file);
    const last = this.#files.size === 0;
    try {
      if (last && this.gone === null) this.#disable();
    } finally {
      file.holder.deviceReleased(file);
    }
    if (this.#leaving !== null && !this.inUse) this.#left();
  }

  #disableIfOpen(): void {
    if (this.#open !== null) this.#disable();
  }

  #disable(): void {
    const [vm, mediation, retire] = [this.#vm, this.#mediation, this.#retire];
    using _after = new Cleanup();
    _after.defer(() => vm?.[Symbol.dispose]());
    _after.defer(() => retire?.());
    // The mediator releases the device when the device has stopped (S0-18).
    _after.defer(() => mediation?.release());
    this.#vm = null;
    this.#mediation = null;
    this.#retire = null;
    const { interrupts, ioeventfds, resetWorks, saved, migration } = this.openState;
    const { config } = this.fn;
    this.physical?.token?.unuse();
    this.#suspension.end();
    this.power.release();
    config.writeBits(Config.COMMAND, 2, 0, Command.MASTER);
    interrupts.disableAll();
    ioeventfds.clear();
    this.host.dma.writes = null;
    migration?.close();
    this.#open = null;
    this.needsReset = true;
    this.host.areasUsed = true;
    config.restore(saved);
    if (resetWorks) this.#resetAtClose();
    config.restore(saved);
    this.#updateSlow();
    tryResetSet(this, this.ctx);
    this.#idle();
  }

  /**
   * Without the lock there is no reset: waiting for the lock could dead-lock, and the next chance
   * is the bus.
   */
  #resetAtClose(): void {
    if (this.host.lockedBy !== null) return;
    using _lock = this.host.lock('its last close');
    try {
      seenReset(this.fn, 'close', () => runReset(this.fn, this.ctx));
      this.needsReset = false;
    } catch (error) {
      this.host.events.note('warn', 'reset at close', `${this.bdf}: reset at last close failed: ${String(error)}`);
    }
  }

  /** Unused devices sleep (B.8 idle D3). */
  #idle(): void {
    if (!this.ctx.params.disableIdleD3 && this.#open === null && this.#leaving === null) this.power.setState('D3hot');
  }

  #updateSlow(): void {
    this.slow = this.gone !== null || this.resetting || this.power.engaged || this.power.suspended;
  }

  /**
   * No access reaches the device, whatever the user has switched on: the device is being reset, or
   * the machine sleeps.
   */
  get standing(): boolean {
    return this.resetting || this.power.suspended;
  }

  /** Called after an access: low power again when the user asked for it. */
  settle(): void {
    if (this.slow && this.#open !== null) this.power.settle();
  }

  /**
   * Wake from low power from outside (PME): ends LOW_POWER_ENTRY_WITH_WAKEUP, else the device goes
   * back to sleep.
   */
  wake(): void {
    if (this.#open === null) return;
    if (this.#suspension.asleep) {
      this.#suspension.wakeLater();
      return;
    }
    this.power.wake();
    this.settle();
  }

  // ---- Reasons why an access is refused now

  /** The reason why a load from a mapping faults now; null when it does not. */
  mappingFault(): string | null {
    if (this.gone !== null || this.#open === null) return 'the device is gone';
    if (this.resetting) return 'the device is being reset';
    if (this.power.suspended) return 'the machine sleeps';
    if (this.power.engaged) return 'the device is in low power';
    if (this.fn.config.sleeping) return 'the device is in D3hot';
    return this.#open.vconfig.memoryEnabled ? null : 'memory decoding is off (COMMAND.Memory)';
  }

  closedGate(what: string): VfioError {
    const cause = this.mappingFault() ?? 'it does not answer';
    const fix = this.power.suspended ? 'Await awake() of the device.' : 'Set COMMAND bit 1 and PMCSR to D0 in config space.';
    return new VfioError('EIO', `${what}: ${cause}`, { fix });
  }

  /**
   * Called before actions that cannot wait for the end of a sleep (S2-42).
   *
   * @throws VfioError EBUSY
   */
  checkAwake(): void {
    if (this.power.suspended) {
      throw new VfioError('EBUSY', `${this.bdf}: the machine sleeps`, { fix: 'Await awake() of the device, or resume the machine.' });
    }
  }

  // ---- Leaving: unbind, unplug (S2-41)

  /**
   * Unbind or unplug: refuse opens at once, and ask the users to release the device. Resolves when
   * the last file is closed, or revoked after `ctx.params.forceRevokeAfterMs`. Idempotent.
   */
  unregister(): Promise<void> {
    if (this.#leaving !== null) return this.#leaving.promise;
    this.#leaving = new ReleaseRequest(this, this.ctx);
    if (!this.inUse) this.#left();
    else this.#leaving.start();
    return this.#leaving.promise;
  }

  request(): boolean {
    let told = this.#open?.interrupts.signalRequest() ?? false;
    for (const file of this.files) {
      if (file.listeners.hears('request')) told = true;
      file.listeners.emit({ kind: 'request' });
    }
    return told;
  }

  /**
   * Take the device from its users: every call ENODEV, mappings fault, nothing of it reaches memory
   * or a sink any more.
   */
  revoke(reason: string): void {
    if (this.gone !== null) return;
    this.gone = reason;
    this.#updateSlow();
    this.#disableIfOpen();
    if (this.#files.size > 0) this.host.events.note('warn', 'revoked', `${this.bdf} was taken from its users: ${reason}`);
    this.#tell({ kind: 'gone', reason });
    if (this.#leaving !== null) this.#left();
  }

  #left(): void {
    this.gone ??= 'it was unbound';
    this.#updateSlow();
    this.power.setState('D0');
    this.token?.destroy();
    this.#leaving!.released();
  }

  #tell(event: DeviceEvent): void {
    for (const file of this.files) file.listeners.emit(event);
  }

  // ---- Events of the machine

  /**
   * S2-42: notify the users, wait for all acknowledgements or for ctx.params.suspendTimeoutMs, then
   * block DMA and power down.
   */
  suspend(): Promise<void> {
    return this.#suspension.suspend();
  }

  resume(): void {
    this.#suspension.resume();
  }

  awake(): Promise<void> | null {
    return this.#suspension.awake();
  }

  /**
   * Hold the device lock, as a sysfs reset or another driver would: opens and resets give EAGAIN
   * meanwhile (S2-32).
   *
   * @throws VfioError EAGAIN
   */
  lock(who: string): Disposable {
    return this.host.lock(who);
  }

  /**
   * An uncorrectable error was reported (AER): ERR sink and 'error' event.
   *
   * @see vfio_pci_core_aer_err_detected()
   */
  reportError(): void {
    this.#open?.interrupts.signalError();
    this.#tell({ kind: 'error' });
  }
}
