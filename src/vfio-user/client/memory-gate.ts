/**
 * Whether a device answers to its memory BARs now: memory decoding is on, and the device is awake
 * in D0. A mapping of plain memory would always answer, so it asks the gate before each of its
 * accesses. The gate is wrong only when the device closes it of its own accord.
 */
import type { Width } from '../../abi/device-host.ts';
import { CapId, CFG_SPACE_SIZE, Command, Config, Pm, PowerState } from '../../abi/pci.ts';
import { type ConfigReader, findCapability } from '../../pci/capabilities/walk.ts';
import type { ClientRegionIo } from './region-io.ts';

export class MemoryGate {
  readonly #config: ClientRegionIo;
  readonly #reader: ConfigReader = {
    size: CFG_SPACE_SIZE,
    read8: (offset) => this.#read(offset, 1),
    read16: (offset) => this.#read(offset, 2),
    read32: (offset) => this.#read(offset, 4),
  };
  #known = false;
  #open = false;
  /** The offset of each capability that was looked up; 0 for one that the device lacks. */
  readonly #capabilities = new Map<number, number>();
  /** VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY was granted, and not left again. */
  lowPower = false;

  constructor(config: ClientRegionIo) {
    this.#config = config;
  }

  /** Something was written, or reset, that it depends on. */
  changed(): void {
    this.#known = false;
  }

  /**
   * Asks the device when something may have changed since.
   * @throws VfioError as config space's reads do
   */
  get open(): boolean {
    if (!this.#known) {
      this.#open = this.#look();
      this.#known = true;
    }
    return this.#open && !this.lowPower;
  }

  #look(): boolean {
    if ((this.#read(Config.COMMAND, 2) & Command.MEMORY) === 0) return false;
    const pm = this.findCapability(CapId.PM);
    return pm === 0 || (this.#read(pm + Pm.CTRL, 2) & Pm.CTRL_STATE_MASK) === PowerState.D0;
  }

  /**
   * Offset of a capability in config space, 0 when it is not there.
   * @throws VfioError as config space's reads do
   */
  findCapability(id: number): number {
    let at = this.#capabilities.get(id);
    if (at === undefined) {
      at = findCapability(this.#reader, id);
      this.#capabilities.set(id, at);
    }
    return at;
  }

  #read(offset: number, width: Width): number {
    const errno = this.#config.load(offset, width);
    if (errno !== 0) throw this.#config.failure(errno, 'reading', offset, width);
    return this.#config.loadedRegister(width);
  }
}
