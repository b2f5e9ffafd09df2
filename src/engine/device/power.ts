/**
 * Power of one device under vfio-pci: D-states that the user sets through PMCSR, low power that the
 * user asks for through FEATURE (B.10), D3hot while the device is unused (B.8 idle D3), and D3hot
 * while the machine sleeps (S2-42), which goes before all others.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_set_power_state(),
 * vfio_pci_runtime_pm_entry(), vfio_pci_core_runtime_suspend()
 * @see PCI Power Management 1.2, 5.4 (D3hot to D0)
 */
import type { InterruptSink } from '../../abi/device.ts';
import { CapId, Pm, PowerState } from '../../abi/pci.ts';
import { VfioError } from '../../base/errno.ts';
import { canWakeFrom } from '../../hardware/event-registers.ts';
import type { ConfigSpace, SavedConfig } from '../../pci/config-space.ts';

/** Effects of sleeping and waking on the rest of the device. */
export interface PowerHooks {
  /** The device is about to sleep: mask INTx, where the user has not. */
  sleep(): void;
  /** The device is awake and configured again: unmask INTx when `sleep` masked it. */
  wake(): void;
  /**
   * The hardware lost its configuration, and `power` restored it: messages have to be programmed
   * again.
   */
  restored(): void;
  /** `engaged` may have changed. */
  changed(): void;
  /** For events: the states beside those of PMCSR. */
  entered?(state: 'low power' | 'awake' | 'suspended' | 'resumed'): void;
  /** A PF that has VFs: it does not leave D0 (B.10 PF, S3-19). */
  pinned?(): boolean;
}

export class DevicePower {
  /**
   * The user has asked for low power: mappings fault, and every other access wakes the device while
   * it lasts.
   */
  engaged = false;
  /** Asleep now, within `engaged`. */
  asleep = false;
  /**
   * The state to enter when the machine, which sleeps, is awake; null while it is awake. Nothing
   * else moves the device during the sleep.
   */
  #afterSleep: 'D0' | 'D3hot' | null = null;
  readonly #bdf: string;
  readonly #config: ConfigSpace;
  readonly #hooks: PowerHooks;
  /** Offset of PMCSR; -1 without a power management capability. */
  readonly #control: number;
  /**
   * A D3hot to D0 transition loses the configuration, which is therefore saved before and restored
   * after.
   */
  readonly #losesConfig: boolean;
  /** The function can signal PME from D3hot. */
  readonly #canWake: boolean;
  #saved: SavedConfig | null = null;
  #wakeup: InterruptSink | null = null;

  constructor(bdf: string, config: ConfigSpace, hooks: PowerHooks) {
    this.#bdf = bdf;
    this.#config = config;
    this.#hooks = hooks;
    const pm = config.findCapability(CapId.PM);
    this.#control = pm === 0 ? -1 : pm + Pm.CTRL;
    this.#canWake = canWakeFrom(config, PowerState.D3HOT);
    this.#losesConfig = pm !== 0 && (config.read(pm + Pm.CTRL, 2) & Pm.CTRL_NO_SOFT_RESET) === 0;
  }

  /**
   * Switch the function's wake-up by PME on or off.
   *
   * @see linux/drivers/pci/pci.c, pci_enable_wake()
   */
  #arm(on: boolean): void {
    if (!this.#canWake) return;
    const { CTRL_PME_ENABLE, CTRL_PME_STATUS } = Pm;
    this.#config.writeBits(this.#control, 2, (on ? CTRL_PME_ENABLE : 0) | CTRL_PME_STATUS, CTRL_PME_ENABLE | CTRL_PME_STATUS);
  }

  get state(): 'D0' | 'D3hot' {
    return this.#config.sleeping ? 'D3hot' : 'D0';
  }

  /** The machine sleeps. */
  get suspended(): boolean {
    return this.#afterSleep !== null;
  }

  /** As `state`, without the sleep of the machine: the state of the device after the sleep. */
  get ownState(): 'D0' | 'D3hot' {
    return this.#afterSleep ?? this.state;
  }

  /**
   * The machine goes to sleep: D3hot, for a PF with VFs too. A device without power management
   * stands still all the same.
   */
  suspend(): void {
    if (this.suspended) return;
    this.#hooks.entered?.('suspended');
    if (!this.asleep) this.#hooks.sleep();
    const { state } = this;
    if (this.#control >= 0) this.#enterD3hot();
    this.#afterSleep = state;
    this.#hooks.changed();
  }

  /**
   * The machine is awake: the device is in its old state, or in the one that its user has asked for
   * during the sleep.
   */
  resume(): void {
    const state = this.#afterSleep;
    if (state === null) return;
    this.#afterSleep = null;
    this.#hooks.entered?.('resumed');
    if (!this.asleep) {
      this.setState(state);
      this.#hooks.wake();
    }
    this.#hooks.changed();
  }

  /**
   * No effect without a power management capability. While the machine sleeps the state is the one
   * after the sleep.
   */
  setState(state: 'D0' | 'D3hot'): void {
    if (this.#control < 0) return;
    if (state === 'D3hot' && this.#hooks.pinned?.() === true) return;
    if (this.suspended) {
      this.#afterSleep = state;
      return;
    }
    if (state === 'D3hot') {
      this.#enterD3hot();
      return;
    }
    this.#write(PowerState.D0);
    const saved = this.#saved;
    if (saved === null) return;
    this.#saved = null;
    this.#config.restore(saved);
    this.#hooks.restored();
  }

  #enterD3hot(): void {
    if (this.#config.sleeping) return;
    if (this.#losesConfig) this.#saved = this.#config.save();
    this.#write(PowerState.D3HOT);
  }

  #write(state: number): void {
    if (this.#config.powerState !== state) this.#config.writeBits(this.#control, 2, state, Pm.CTRL_STATE_MASK);
  }

  /**
   * LOW_POWER_ENTRY, with `wakeup` LOW_POWER_ENTRY_WITH_WAKEUP. The device goes to sleep when the
   * call that asks is over: see `settle`.
   *
   * @throws VfioError EINVAL when the user has asked for low power already; what `wakeup.get`
   * throws: EBADF for a closed eventfd
   */
  enterLowPower(wakeup: InterruptSink | null): void {
    if (this.engaged) {
      throw new VfioError('EINVAL', `${this.#bdf} is in low power already`, { fix: 'Send LOW_POWER_EXIT first.' });
    }
    this.#wakeup = wakeup === null ? null : wakeup.get();
    this.engaged = true;
    this.#hooks.changed();
  }

  /** LOW_POWER_EXIT, and the end of a wake-up mode. Idempotent. Call while the device is awake. */
  exitLowPower(): void {
    if (!this.engaged) return;
    this.engaged = false;
    const wakeup = this.#wakeup;
    this.#wakeup = null;
    wakeup?.put();
    this.#hooks.changed();
  }

  /**
   * The device is needed now. With a wake-up descriptor this signals it and ends the mode. No
   * effect while the machine sleeps.
   */
  wake(): void {
    if (!this.asleep || this.suspended) return;
    this.asleep = false;
    this.#hooks.entered?.('awake');
    this.#arm(false);
    this.setState('D0');
    this.#hooks.wake();
    if (this.#wakeup === null) return;
    this.#wakeup.signal();
    this.exitLowPower();
  }

  /** The access is over: the device sleeps again when the user still asks for low power. */
  settle(): void {
    if (!this.engaged || this.asleep || this.#hooks.pinned?.() === true) return;
    this.#hooks.entered?.('low power');
    // A user's own D3hot is left first: the platform decides the state from here on, and waking
    // means D0.
    this.setState('D0');
    this.#hooks.sleep();
    this.setState('D3hot');
    this.#arm(true);
    this.asleep = true;
  }

  /** The last file is closing: the device is awake and in D0, and will signal no wake-up. */
  release(): void {
    this.resume();
    const wakeup = this.#wakeup;
    this.#wakeup = null;
    wakeup?.put();
    this.wake();
    this.exitLowPower();
    this.setState('D0');
  }
}
