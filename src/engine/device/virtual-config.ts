/**
 * VirtualConfig: config space as the user of a device file sees it. Reads and writes go through the
 * permission map: to the user's own copy, to hardware, or nowhere. Side effects (revoking mappings,
 * power states, resets, interrupt masks) are hooks.
 *
 * It lives from the first open to the last close. Its copy starts with the values that hardware
 * shows at open.
 *
 * Two things are stricter than in Linux, where a write reads hardware back and writes whole
 * registers: write-one-to-clear bits beside the bits that the user may write keep their value, and
 * writing a capability's id does not write MSI control again.
 *
 * Longer than 400 lines because the writes of all capabilities act on one copy and one set of
 * hooks, as in vfio_pci_config.c.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_config.c, vfio_pci_config_rw()
 */
import { CapId, Command, Config, Msi, Pm, PowerState } from '../../abi/pci.ts';
import { VfioError } from '../../base/errno.ts';
import { Af } from '../../pci/capabilities/advanced-features.ts';
import { PciExp } from '../../pci/capabilities/pci-express-registers.ts';
import { Vpd } from '../../pci/capabilities/vpd.ts';
import { ConfigSpace } from '../../pci/config-space.ts';
import { explainConfigWrite, type WriteExplanation } from '../../pci/explain-write.ts';
import { type ConfigRegion, PermissionMap } from '../../pci/permission-map.ts';
import { VirtualBars } from './virtual-bars.ts';

/**
 * Effects of config writes elsewhere. Hooks must not throw: a guest's write that cannot be done has
 * no effect.
 */
export interface VirtualConfigHooks {
  /**
   * Before memory decoding goes off, the device enters D3hot or is reset: revoke the mappings of
   * its BARs. Called on every such write, also when nothing changes. Mappings work again when
   * `memoryEnabled` is true.
   */
  memoryDisabled(): void;
  /** COMMAND.InterruptDisable as the user sees it has changed. */
  intxDisable(on: boolean): void;
  /**
   * The user wrote PMCSR. The host decides whether and how the state changes, and writes the
   * hardware.
   */
  setPowerState(state: 'D0' | 'D3hot'): void;
  /** The user set a reset bit that the device really has. Save, reset, restore. */
  functionReset(kind: 'flr' | 'af'): void;
  /** MSI was enabled through SET_IRQS. */
  msiEnabled(): boolean;
  /** log2 of the MSI vectors that SET_IRQS enabled; 0 before the first time. */
  msiQueueMax(): number;
}

export interface VirtualConfigOptions {
  /** A VF's hardware shows no ids and has no COMMAND.Memory: both come from the copy. */
  readonly isVirtualFunction?: boolean;
  /** The ids of a virtual function. Default: those of its declaration. */
  readonly vendor?: number;
  readonly device?: number;
  /**
   * The user gets no INTx: the pin reads 0 and hardware keeps InterruptDisable (B.9 nointx
   * devices).
   */
  readonly noIntx?: boolean;
}

/** An explanation, with the outcome of a trial. */
export interface TriedWrite extends WriteExplanation {
  /** Effects elsewhere, a phrase each. */
  readonly effects: readonly string[];
  /** The value of the same bytes afterwards. */
  readonly readsBack: number;
}

export class VirtualConfig {
  readonly config: ConfigSpace;
  readonly map: PermissionMap;
  readonly size: number;
  /** The user's copy. Only bits that the map calls virtual are answered from it. */
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  readonly #hooks: VirtualConfigHooks;
  readonly #options: VirtualConfigOptions;
  readonly #isVf: boolean;
  readonly #noIntx: boolean;
  readonly #bars: VirtualBars;
  #intxDisabled = false;

  constructor(config: ConfigSpace, hooks: VirtualConfigHooks, options: VirtualConfigOptions = {}) {
    this.config = config;
    this.map = new PermissionMap(config);
    this.size = config.size;
    this.bytes = this.map.initial.slice();
    this.#view = new DataView(this.bytes.buffer);
    this.#hooks = hooks;
    this.#options = options;
    this.#isVf = options.isVirtualFunction === true;
    this.#noIntx = options.noIntx === true;
    this.#bars = new VirtualBars(config, this.#view, this.#isVf);
    if (this.#isVf) {
      this.#view.setUint16(Config.VENDOR_ID, options.vendor ?? config.declaration.vendor, true);
      this.#view.setUint16(Config.DEVICE_ID, options.device ?? config.declaration.device, true);
      this.bytes[Config.COMMAND] = this.bytes[Config.COMMAND]! | Command.MEMORY;
    }
    if (this.#isVf || this.#noIntx) this.bytes[Config.INTERRUPT_PIN] = 0;
    if (this.#noIntx) this.#keepIntxDisabled();
  }

  /**
   * Memory BARs answer: the user has COMMAND.Memory on and the device is not in D3hot. Linux looks
   * at the user's bit, not the hardware's. After a reset that the engine did not see this stays
   * true, while the device answers all ones (`config.memoryEnabled` is false).
   */
  get memoryEnabled(): boolean {
    return (this.#isVf || (this.bytes[Config.COMMAND]! & Command.MEMORY) !== 0) && !this.config.sleeping;
  }

  /** COMMAND.InterruptDisable as the user set it. */
  get intxDisabled(): boolean {
    return this.#intxDisabled;
  }

  /** The pin that the user sees; 0: no INTx. */
  get interruptPin(): number {
    return this.bytes[Config.INTERRUPT_PIN]!;
  }

  #checkRange(offset: number, count: number): void {
    if (Number.isInteger(offset) && offset >= 0 && offset < this.size && offset + count <= this.size) return;
    throw new VfioError(
      'EFAULT',
      `config space of ${this.config.declaration.name} has ${this.size} bytes; ${count} bytes at ${String(offset)} are outside of it`,
    );
  }

  /**
   * Bytes read: all of `into`, or nothing at all.
   *
   * @throws VfioError EFAULT when any byte of it is outside of config space (an empty read never
   * is)
   */
  read(offset: number, into: Uint8Array): number {
    const count = into.length;
    if (count === 0) return 0;
    this.#checkRange(offset, count);
    if (this.#bars.dirty && VirtualBars.overlaps(offset, offset + count)) this.#bars.fix();
    this.config.refresh(offset, count);
    const { virt } = this.map;
    const hardware = this.config.bytes;
    for (let i = 0; i < count; i++) {
      const at = offset + i;
      const mask = virt[at]!;
      into[i] = (this.bytes[at]! & mask) | (hardware[at]! & ~mask);
    }
    // Virtual functions have no COMMAND.Memory in hardware: the user's own bit is added.
    if (this.#isVf && offset <= Config.COMMAND && offset + count > Config.COMMAND) {
      into[Config.COMMAND - offset] = into[Config.COMMAND - offset]! | (this.bytes[Config.COMMAND]! & Command.MEMORY);
    }
    return count;
  }

  /**
   * Bytes written: all of `from`. Bits that the user may not write are dropped in silence, as
   * hardware does with read-only bits; `explain` reports them.
   *
   * @throws VfioError EFAULT when any byte of it is outside of config space
   */
  write(offset: number, from: Uint8Array): number {
    const count = from.length;
    if (count === 0) return 0;
    this.#checkRange(offset, count);
    for (let done = 0; done < count; ) {
      const at = offset + done;
      const width = this.map.chunk(at, count - done);
      let value = from[done]!;
      if (width >= 2) value |= from[done + 1]! << 8;
      if (width === 4) value = (value | (from[done + 2]! << 16) | (from[done + 3]! << 24)) >>> 0;
      this.#writeChunk(at, width, value);
      done += width;
    }
    return count;
  }

  /**
   * The effects of such a write (S2-44): the place where each bit lands and why, effects elsewhere,
   * and the value that reads back. Changes nothing: the trial runs on a copy of the hardware's
   * registers, so it does not show the device's own reaction.
   *
   * @throws VfioError EFAULT outside of config space; EINVAL for a width or value that is none
   */
  explain(offset: number, width: 1 | 2 | 4, value: number): TriedWrite {
    if (this.#bars.dirty) this.#bars.fix();
    const explanation = explainConfigWrite(
      this.map,
      { virtual: this.bytes, hardware: this.config, isVirtualFunction: this.#isVf },
      offset,
      width,
      value,
    );
    const hardware = new ConfigSpace(this.config.declaration);
    hardware.bytes.set(this.config.bytes);
    const pm = hardware.findCapability(CapId.PM);
    const effects: string[] = [];
    const hooks: VirtualConfigHooks = {
      memoryDisabled: () => void effects.push('mappings of the BARs are revoked'),
      intxDisable: (on) => void effects.push(`the INTx interrupt is ${on ? 'masked' : 'unmasked'}`),
      setPowerState: (state) => {
        effects.push(`the host puts the device into ${state}`);
        hardware.writeBits(pm + Pm.CTRL, 2, state === 'D0' ? PowerState.D0 : PowerState.D3HOT, Pm.CTRL_STATE_MASK);
      },
      functionReset: (kind) => void effects.push(`the host resets the function (${kind.toUpperCase()}) and restores its config space`),
      msiEnabled: () => this.#hooks.msiEnabled(),
      msiQueueMax: () => this.#hooks.msiQueueMax(),
    };
    const trial = new VirtualConfig(hardware, hooks, this.#options);
    trial.bytes.set(this.bytes);
    trial.#intxDisabled = this.#intxDisabled;
    const data = new Uint8Array(width);
    for (let i = 0; i < width; i++) data[i] = (value >>> (8 * i)) & 0xff;
    trial.write(offset, data);
    trial.read(offset, data);
    let readsBack = 0;
    for (let i = width - 1; i >= 0; i--) readsBack = readsBack * 256 + data[i]!;
    return { ...explanation, effects, readsBack };
  }

  /** The user's writes, for `loadUser` of the same device elsewhere. */
  saveUser(): Uint8Array<ArrayBuffer> {
    return this.bytes.slice();
  }

  /**
   * Take the user's writes from elsewhere, and the registers that the device had there. The host
   * here keeps its own: the BARs' addresses, messages and their enable bits (SET_IRQS), and the
   * power state.
   *
   * @param saved of `saveUser`
   * @param hardware bytes of config space, as long
   */
  loadUser(saved: Uint8Array, hardware: Uint8Array): void {
    const { virt, write } = this.map;
    const registers = this.config.bytes.slice();
    const flags = this.config.findCapability(CapId.MSI) + Msi.FLAGS;
    for (let at = 0; at < this.size; at++) {
      const mask = write[at]! & ~virt[at]!;
      registers[at] = (registers[at]! & ~mask) | (hardware[at]! & mask);
      const user = flags !== Msi.FLAGS && (at === flags || at === flags + 1) ? 0 : write[at]! & virt[at]!;
      this.bytes[at] = (this.bytes[at]! & ~user) | (saved[at]! & user);
    }
    this.config.restore({ bytes: registers });
    const decoding = Command.MEMORY | Command.IO;
    this.bytes[Config.COMMAND] = (this.bytes[Config.COMMAND]! & ~decoding) | (saved[Config.COMMAND]! & decoding);
    this.#bars.dirty = true;
    const disabled = (this.bytes[Config.COMMAND + 1]! & (Command.INTX_DISABLE >> 8)) !== 0;
    if (disabled === this.#intxDisabled) return;
    this.#intxDisabled = disabled;
    this.#hooks.intxDisable(disabled);
  }

  #writeChunk(at: number, width: 1 | 2 | 4, value: number): void {
    const owner = this.map.ownerAt(at);
    if (owner?.kind === 'header') this.#writeHeader(at, width, value);
    else if (owner?.kind === 'capability') this.#writeCapability(owner, at, width, value);
    else this.#land(at, width, value);
  }

  /**
   * Write the bits: to the copy where they are virtual, to hardware where not, nowhere where the
   * user may not write.
   */
  #land(at: number, width: 1 | 2 | 4, value: number): void {
    let hardwareMask = 0;
    for (let i = 0; i < width; i++) {
      const write = this.map.write[at + i]!;
      const virt = this.map.virt[at + i]!;
      const toCopy = write & virt;
      this.bytes[at + i] = (this.bytes[at + i]! & ~toCopy) | ((value >>> (8 * i)) & toCopy);
      hardwareMask |= (write & ~virt) << (8 * i);
    }
    if (hardwareMask !== 0) this.config.writeBits(at, width, value, hardwareMask >>> 0);
  }

  #writeHeader(at: number, width: 1 | 2 | 4, value: number): void {
    const decoding = Command.MEMORY | Command.IO;
    if (at === Config.COMMAND) {
      if ((value & Command.MEMORY) === 0) this.#hooks.memoryDisabled();
      // The user turns decoding on, the copy has it on, and hardware has it off: the function was
      // reset by a way that the engine did not see.
      const lost = value & this.bytes[Config.COMMAND]! & ~this.config.command & decoding;
      if (lost !== 0 || this.#bars.moved) this.#restoreBars();
    }
    // The copy keeps the user's bits, for the test above.
    if (at === Config.COMMAND) this.bytes[Config.COMMAND] = (this.bytes[Config.COMMAND]! & ~decoding) | (value & decoding);
    this.#land(at, width, value);
    if (at <= Config.COMMAND + 1 && at + width > Config.COMMAND) {
      const disabled = (this.bytes[Config.COMMAND + 1]! & (Command.INTX_DISABLE >> 8)) !== 0;
      if (disabled !== this.#intxDisabled) {
        this.#intxDisabled = disabled;
        this.#hooks.intxDisable(disabled);
      }
    }
    if (VirtualBars.overlaps(at, at + width)) this.#bars.dirty = true;
  }

  /**
   * Whether these registers are there: inside config space, and not covered by another capability
   * of a broken device.
   */
  #owns(owner: ConfigRegion, offset: number, count: number): boolean {
    if (owner.start + offset + count > this.size) return false;
    for (let i = 0; i < count; i++) if (this.map.ownerAt(owner.start + offset + i) !== owner) return false;
    return true;
  }

  #writeCapability(owner: ConfigRegion, at: number, width: 1 | 2 | 4, value: number): void {
    const offset = at - owner.start;
    switch (owner.id) {
      case CapId.PM:
        this.#land(at, width, value);
        if (offset === Pm.CTRL && this.#owns(owner, Pm.PMC, 4)) this.#changePowerState(owner.start, value & Pm.CTRL_STATE_MASK);
        return;
      case CapId.VPD:
        this.#land(at, width, value);
        if (offset <= Vpd.ADDR + 1 && offset + width > Vpd.ADDR + 1 && this.#owns(owner, Vpd.ADDR, 6)) this.#accessVpd(owner.start);
        return;
      case CapId.MSI:
        this.#land(at, width, value);
        if (offset <= Msi.FLAGS && offset + width > Msi.FLAGS && this.#owns(owner, Msi.FLAGS, 2)) this.#applyMsiControl(owner.start);
        return;
      case CapId.EXP:
        if (this.#owns(owner, PciExp.DEVCAP, 6)) this.#writeExpress(owner.start, at, width, value);
        else this.#land(at, width, value);
        return;
      case CapId.AF:
        this.#land(at, width, value);
        if (this.#owns(owner, Af.CAP, 2)) this.#resetByAf(owner.start);
        return;
      default:
        this.#land(at, width, value);
    }
  }

  /** @see vfio_pm_config_write() */
  #changePowerState(start: number, state: number): void {
    if (state === PowerState.D3HOT) {
      this.#hooks.memoryDisabled();
      this.#hooks.setPowerState('D3hot');
    } else if (state === PowerState.D0) {
      this.#hooks.setPowerState('D0');
    } else {
      // A device enters D1 and D2 from a shallower state only, and only where it has them:
      // otherwise the write has no effect.
      const supported = this.config.read(start + Pm.PMC, 2) & (state === PowerState.D1 ? Pm.PMC_D1 : Pm.PMC_D2);
      if (supported !== 0 && this.config.powerState < state) this.config.writeBits(start + Pm.CTRL, 2, state, Pm.CTRL_STATE_MASK);
    }
  }

  /**
   * The host does the access by the hardware's own protocol; without completion the user's flag is
   * not toggled.
   *
   * @see vfio_vpd_config_write()
   */
  #accessVpd(start: number): void {
    const address = this.#view.getUint16(start + Vpd.ADDR, true);
    const done = () => (this.config.read(start + Vpd.ADDR, 2) & Vpd.ADDR_F) !== (address & Vpd.ADDR_F);
    if ((address & Vpd.ADDR_F) !== 0) {
      this.config.write(start + Vpd.DATA, 4, this.#view.getUint32(start + Vpd.DATA, true));
      this.config.write(start + Vpd.ADDR, 2, address);
      if (!done()) return;
    } else {
      this.config.write(start + Vpd.ADDR, 2, address);
      if (!done()) return;
      this.#view.setUint32(start + Vpd.DATA, this.config.read(start + Vpd.DATA, 4), true);
    }
    this.#view.setUint16(start + Vpd.ADDR, address ^ Vpd.ADDR_F, true);
  }

  /** @see vfio_msi_config_write() */
  #applyMsiControl(start: number): void {
    let flags = this.#view.getUint16(start + Msi.FLAGS, true);
    if (!this.#hooks.msiEnabled()) flags &= ~Msi.FLAGS_ENABLE;
    const most = this.#hooks.msiQueueMax();
    if ((flags & Msi.FLAGS_QSIZE) >> Msi.FLAGS_QSIZE_SHIFT > most) flags = (flags & ~Msi.FLAGS_QSIZE) | (most << Msi.FLAGS_QSIZE_SHIFT);
    this.#view.setUint16(start + Msi.FLAGS, flags, true);
    this.config.write(start + Msi.FLAGS, 2, flags);
  }

  /** @see vfio_exp_config_write() */
  #writeExpress(start: number, at: number, width: 1 | 2 | 4, value: number): void {
    const control = start + PciExp.DEVCTL;
    const before = this.#view.getUint16(control, true) & PciExp.DEVCTL_READRQ;
    this.#land(at, width, value);
    const now = this.#view.getUint16(control, true);
    if ((now & PciExp.DEVCTL_BCR_FLR) !== 0) {
      this.#view.setUint16(control, now & ~PciExp.DEVCTL_BCR_FLR, true);
      if ((this.config.read(start + PciExp.DEVCAP, 4) & PciExp.DEVCAP_FLR) !== 0) {
        this.#hooks.memoryDisabled();
        this.#hooks.functionReset('flr');
      }
    }
    const wanted = (now & PciExp.DEVCTL_READRQ) >> PciExp.DEVCTL_READRQ_SHIFT;
    if (wanted === before >> PciExp.DEVCTL_READRQ_SHIFT) return;
    // A size below the payload only costs speed: the user does not know the fabric's payload size.
    const payload = (this.config.read(control, 2) & PciExp.DEVCTL_PAYLOAD) >> PciExp.DEVCTL_PAYLOAD_SHIFT;
    const size = Math.max(wanted, payload);
    if (size <= 5) this.config.writeBits(control, 2, size << PciExp.DEVCTL_READRQ_SHIFT, PciExp.DEVCTL_READRQ);
  }

  /** @see vfio_af_config_write() */
  #resetByAf(start: number): void {
    const control = this.bytes[start + Af.CTRL]!;
    if ((control & Af.CTRL_FLR) === 0) return;
    this.bytes[start + Af.CTRL] = control & ~Af.CTRL_FLR;
    const needed = Af.CAP_FLR | Af.CAP_TP;
    if ((this.config.read(start + Af.CAP, 1) & needed) !== needed) return;
    this.#hooks.memoryDisabled();
    this.#hooks.functionReset('af');
  }

  /** @see vfio_bar_restore() */
  #restoreBars(): void {
    if (this.#isVf) return;
    this.#bars.restore();
    if (this.#noIntx) this.#keepIntxDisabled();
  }

  #keepIntxDisabled(): void {
    this.config.writeBits(Config.COMMAND, 2, Command.INTX_DISABLE, Command.INTX_DISABLE);
  }
}
