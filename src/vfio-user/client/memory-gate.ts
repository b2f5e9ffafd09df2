/**
 * Whether a device answers to its memory BARs now: memory decoding is on, and it is awake in D0. A mapping that is plain memory would answer
 * always; this is asked before each of its accesses, and is wrong only when the device changes it of its own accord.
 */
import { CapId, Command, Config, Pm, PowerState, Status } from '../../abi/pci.ts';
import type { ClientRegionIo } from './region-io.ts';

/** Capabilities start behind the header and are at least 4 bytes: no chain is longer, whatever its pointers say. */
const CAPABILITIES_MAX = 48;

export class MemoryGate {
  readonly #config: ClientRegionIo;
  #known = false;
  #open = false;
  /** Where the power management capability is: 0 when there is none, -1 before it was looked for. */
  #pm = -1;
  /** VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY was granted, and not left again. */
  lowPower = false;

  constructor(config: ClientRegionIo) {
    this.#config = config;
    config.onWritten = () => this.changed();
  }

  /** Something was written, or reset, that it depends on. */
  changed(): void {
    this.#known = false;
  }

  /** Asks the device when something may have changed since. @throws VfioError as config space's reads do */
  get open(): boolean {
    if (!this.#known) {
      this.#open = this.#look();
      this.#known = true;
    }
    return this.#open && !this.lowPower;
  }

  #look(): boolean {
    if ((this.#read(Config.COMMAND, 2) & Command.MEMORY) === 0) return false;
    if (this.#pm < 0) this.#pm = this.#findPm();
    return this.#pm === 0 || (this.#read(this.#pm + Pm.CTRL, 2) & Pm.CTRL_STATE_MASK) === PowerState.D0;
  }

  #findPm(): number {
    if ((this.#read(Config.STATUS, 2) & Status.CAP_LIST) === 0) return 0;
    let at = this.#read(Config.CAPABILITY_LIST, 1) & 0xfc;
    for (let hops = 0; at >= 0x40 && hops < CAPABILITIES_MAX; hops++) {
      const header = this.#read(at, 2);
      if ((header & 0xff) === CapId.PM) return at;
      at = (header >>> 8) & 0xfc;
    }
    return 0;
  }

  #read(offset: number, width: 1 | 2): number {
    const errno = this.#config.load(offset, width);
    if (errno !== 0) throw this.#config.failure(errno, 'reading', offset, width);
    const { reply } = this.#config.connection;
    return width === 1 ? reply.getUint8(this.#config.loaded) : reply.getUint16(this.#config.loaded, true);
  }
}
