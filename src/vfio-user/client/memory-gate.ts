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
  /** Where capabilities that were looked for are: 0 for those that the device lacks. */
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
    const pm = this.findCapability(CapId.PM);
    return pm === 0 || (this.#read(pm + Pm.CTRL, 2) & Pm.CTRL_STATE_MASK) === PowerState.D0;
  }

  /** Offset of a capability in config space, 0 when it is not there. @throws VfioError as config space's reads do */
  findCapability(id: number): number {
    let at = this.#capabilities.get(id);
    if (at === undefined) {
      at = this.#find(id);
      this.#capabilities.set(id, at);
    }
    return at;
  }

  #find(id: number): number {
    if ((this.#read(Config.STATUS, 2) & Status.CAP_LIST) === 0) return 0;
    let at = this.#read(Config.CAPABILITY_LIST, 1) & 0xfc;
    for (let hops = 0; at >= 0x40 && hops < CAPABILITIES_MAX; hops++) {
      const header = this.#read(at, 2);
      if ((header & 0xff) === id) return at;
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
