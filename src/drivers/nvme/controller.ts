/**
 * The controller's life: enable, disable, shut down, and recovery when it does not follow (NVMe
 * 1.4, 3.1.5, 3.1.6, 7.6).
 */

import { Cc, CQES, Csts, NSSR_VALUE, regBits, regField, Shn, Shst, SQES, versionText } from '../../abi/nvme.ts';
import { VfioError } from '../../base/errno.ts';
import type { DriverView } from '../../base/registers.ts';
import type { DriverDevice } from '../kit/driver-device.ts';
import { ALL_ONES, type Capabilities, ControllerRegisters, decodeCapabilities } from './controller-registers.ts';

export interface AdminQueueAddresses {
  readonly sqIova: number;
  readonly cqIova: number;
  readonly entries: number;
}

const HIGH = 2 ** 32;
const CC_EN = regBits(Cc.EN, 1);

export class Controller {
  readonly registers: DriverView<typeof ControllerRegisters>;
  readonly capabilities: Capabilities;
  /** `1.4.0`. */
  readonly version: string;
  /** VS. */
  readonly vs: number;
  readonly #dev: DriverDevice;

  /** @throws VfioError ENODEV, EIO as `decodeCapabilities` */
  constructor(dev: DriverDevice) {
    this.#dev = dev;
    this.registers = dev.bar(0, ControllerRegisters);
    const { capLow, capHigh } = this.registers;
    this.capabilities = decodeCapabilities(capLow, capHigh, dev.name, () => this.registers.crto);
    this.vs = this.registers.vs;
    this.version = versionText(this.vs);
  }

  /**
   * CSTS.
   * @throws VfioError ENODEV when it reads as all ones, because the controller has left the bus
   */
  get status(): number {
    const value = this.registers.csts.value;
    if (value !== ALL_ONES) return value;
    throw new VfioError('ENODEV', `${this.#dev.name} does not answer any more: CSTS reads as all ones`);
  }

  get fatal(): boolean {
    return regField(this.status, Csts.CFS) === 1;
  }

  /**
   * Disable the controller and wait until RDY is 0. From then on it reaches no memory. A controller
   * that does not follow, or that still reports Controller Fatal Status, is reset as a function and
   * then as a subsystem.
   *
   * @throws VfioError EIO when it stays enabled; ENODEV
   */
  async disable(): Promise<void> {
    let disabled = await this.#clearEnable();
    for (const reset of [() => this.#resetFunction(), () => this.#resetSubsystem()]) {
      if (disabled && !this.fatal) return;
      if (reset()) disabled = await this.#clearEnable();
    }
    // A controller whose fatal status stays may recover when it is enabled. If not, the enable
    // fails and says so.
    if (disabled) return;
    throw new VfioError('EIO', `${this.#dev.name} cannot be disabled: CSTS.RDY stays 1 (CSTS 0x${this.status.toString(16)})`, {
      fix: 'Reset the device by other means, or switch it off.',
    });
  }

  /**
   * Set up the admin queues and enable, until RDY is 1 (7.6.1). The controller must be disabled.
   *
   * @throws VfioError EIO when it reports Controller Fatal Status; ETIMEDOUT when it is not ready
   * in the time that CAP.TO gives it
   */
  async enable(admin: AdminQueueAddresses): Promise<void> {
    const { registers, capabilities } = this;
    const attributes = (admin.entries - 1) | ((admin.entries - 1) << 16);
    registers.aqa = attributes;
    registers.asqLow = admin.sqIova;
    registers.asqHigh = Math.floor(admin.sqIova / HIGH);
    registers.acqLow = admin.cqIova;
    registers.acqHigh = Math.floor(admin.cqIova / HIGH);
    const fields =
      regBits(Cc.CSS, capabilities.commandSet) |
      regBits(Cc.MPS, Math.log2(capabilities.pageSize) - 12) |
      regBits(Cc.IOSQES, SQES) |
      regBits(Cc.IOCQES, CQES);
    registers.cc.value = fields | CC_EN;
    const ready = await this.#until((csts) => regField(csts, Csts.RDY) === 1 || regField(csts, Csts.CFS) === 1, capabilities.readyMs);
    if (this.fatal) throw new VfioError('EIO', `${this.#dev.name} failed while it was enabled: Controller Fatal Status`);
    if (!ready)
      throw new VfioError('ETIMEDOUT', `${this.#dev.name} did not become ready within ${capabilities.readyMs} ms, which CAP.TO gives it`);
  }

  /**
   * Normal shutdown (7.6.2), after the last command. False when it did not end within `timeoutMs`.
   * @throws VfioError ENODEV
   */
  async shutdown(timeoutMs: number): Promise<boolean> {
    this.registers.cc.shn = Shn.NORMAL;
    return this.#until((csts) => regField(csts, Csts.SHST) === Shst.COMPLETE, timeoutMs);
  }

  /** Ask the controller to shut down, or to stop, and do not wait. */
  stop(): void {
    const { cc } = this.registers;
    cc.value = (cc.value & ~CC_EN) >>> 0;
  }

  async #clearEnable(): Promise<boolean> {
    const { registers, capabilities } = this;
    const cc = registers.cc.value;
    const ended = (csts: number) => regField(csts, Csts.RDY) === 0;
    if ((cc & CC_EN) !== 0) {
      // EN may be cleared only after RDY has followed it (3.1.5). A previous driver may have set EN
      // a moment ago.
      const csts = this.status;
      const settled = (c: number) => regField(c, Csts.RDY) === 1 || regField(c, Csts.CFS) === 1;
      if (!settled(csts) && regField(csts, Csts.SHST) === Shst.NORMAL) await this.#until(settled, capabilities.readyMs);
      registers.cc.value = (cc & ~(CC_EN | regBits(Cc.SHN, 3))) >>> 0;
    }
    return this.#until(ended, capabilities.readyMs);
  }

  #resetFunction(): boolean {
    try {
      this.#dev.reset();
    } catch (error) {
      if (error instanceof VfioError && error.code !== 'ENODEV') return false;
      throw error;
    }
    this.#dev.config.memoryEnabled = true;
    this.#dev.busMaster = true;
    return true;
  }

  #resetSubsystem(): boolean {
    if (!this.capabilities.subsystemReset) return false;
    this.registers.nssr = NSSR_VALUE;
    return true;
  }

  /** @returns false when `condition` does not hold in time */
  async #until(condition: (csts: number) => boolean, timeoutMs: number): Promise<boolean> {
    if (condition(this.status)) return true;
    try {
      await this.#dev.until(() => condition(this.status), { timeoutMs });
      return true;
    } catch (error) {
      if (error instanceof VfioError && error.code === 'ETIMEDOUT') return condition(this.status);
      throw error;
    }
  }
}
