/**
 * A machine's work for a device before a driver sees the device. A device file of the kernel shows
 * a device after that work, and so does our server. A server that is the bare device, as QEMU's,
 * leaves the work to its client, whose guest has firmware and a kernel for it: BARs answer only
 * where they have an address, and no message leaves while MSI-X is off in config space and its
 * vectors are masked.
 *
 * The client does the missing part only, and for such servers only.
 */
import { Bar, CapId, Command, Config, Msi, Msix } from '../../abi/pci.ts';
import { IrqIndex } from '../../abi/vfio.ts';
import type { MemoryGate } from './memory-gate.ts';
import { type ClientRegionIo, OUT_DATA } from './region-io.ts';

/** The first address that firmware gives to memory BARs: below 4 GiB, as 32-bit BARs must be. */
const MEMORY_FIRST = 0xc000_0000;
/** The first address of 64-bit BARs that do not fit below 4 GiB. */
const HIGH_FIRST = 2 ** 40;
const LOW_END = 0xfec0_0000;
const IO_FIRST = 0x1000;
const IO_END = 0x1_0000;

/** Where an index has its switch: capability, bit. */
const switches: Readonly<Record<number, { readonly capability: number; readonly enable: number }>> = {
  [IrqIndex.MSI]: { capability: CapId.MSI, enable: Msi.FLAGS_ENABLE },
  [IrqIndex.MSIX]: { capability: CapId.MSIX, enable: Msix.FLAGS_ENABLE },
};

export interface PlatformDevice {
  /** The size of a BAR; 0 for a BAR that the device lacks. */
  barSize(index: number): number;
  /** Unmasks vectors 0 to `vectors` - 1 that are masked. */
  unmask(index: number, vectors: number): void;
}

export class ClientPlatform {
  readonly #config: ClientRegionIo;
  readonly #gate: MemoryGate;
  readonly #device: PlatformDevice;
  /** BARs have addresses, as far as the client knows. */
  #placed = false;
  /** They had none at first: the server shows no device file of a kernel. */
  #bare = false;
  /** By IRQ index that is on: vectors, and whether it was switched on here. */
  readonly #messages = new Map<number, { readonly vectors: number; readonly ours: boolean }>();

  constructor(config: ClientRegionIo, gate: MemoryGate, device: PlatformDevice) {
    this.#config = config;
    this.#gate = gate;
    this.#device = device;
    config.onWritten = (offset, count) => this.#written(offset, count);
  }

  /**
   * The device was reset: a bare one has forgotten its addresses, and the switch of its messages.
   */
  wasReset(): void {
    this.#placed = false;
    this.#gate.changed();
    for (const [index, { vectors, ours }] of [...this.#messages]) if (ours) this.messages(index, vectors);
  }

  /**
   * The server has the eventfds of vectors 0 to `vectors` - 1 of an IRQ index; 0: none any more.
   */
  messages(index: number, vectors: number): void {
    const had = this.#messages.get(index);
    if (vectors === 0) this.#messages.delete(index);
    const at = vectors === 0 && had?.ours !== true ? 0 : this.#switch(index);
    if (at === 0) return;
    const { enable } = switches[index]!;
    const flags = this.#read(at, 2);
    if (vectors === 0) {
      this.#write(at, 2, flags & ~enable);
      return;
    }
    // The kernel shows the bits of MSI that its user wrote, and the true state of MSI-X
    // (vfio_pci_config.c).
    const ours = had?.ours === true || ((flags & enable) === 0 && (this.#bare || index === IrqIndex.MSIX));
    const most = Math.max(vectors, had?.vectors ?? 0);
    this.#messages.set(index, { vectors: most, ours });
    if (!ours) return;
    if (index === IrqIndex.MSI) {
      this.#write(at, 2, (flags & ~Msi.FLAGS_QSIZE) | (Math.ceil(Math.log2(most)) << Msi.FLAGS_QSIZE_SHIFT) | enable);
    } else {
      this.#write(at, 2, (flags & ~Msix.FLAGS_MASKALL) | enable);
      // From vector 0 on: QEMU takes the count for the end.
      this.#device.unmask(index, most);
    }
  }

  #written(offset: number, count: number): void {
    this.#gate.changed();
    if (this.#placed || offset > Config.COMMAND || offset + count <= Config.COMMAND) return;
    const command = this.#config.connection.out.getUint8(OUT_DATA + Config.COMMAND - offset);
    if ((command & (Command.MEMORY | Command.IO)) === 0) return;
    this.#placed = true;
    this.#placeBars();
  }

  /**
   * Gives an address to each BAR that has none: aligned to the BAR's size, and clear of the other
   * BARs. Only the device sees these addresses.
   */
  #placeBars(): void {
    const bars: { readonly at: number; readonly kind: number; readonly size: number }[] = [];
    const next = { memory: MEMORY_FIRST, high: HIGH_FIRST, io: IO_FIRST };
    for (let i = 0; i < Bar.COUNT; i++) {
      const at = Config.BASE_ADDRESS_0 + 4 * i;
      const size = this.#device.barSize(i);
      if (size === 0) continue;
      const low = this.#read(at, 4);
      const io = (low & Bar.SPACE_IO) !== 0;
      const wide = !io && (low & Bar.MEM_TYPE_MASK) === Bar.MEM_TYPE_64 && i + 1 < Bar.COUNT;
      const high = wide ? this.#read(at + 4, 4) : 0;
      const address = high * 2 ** 32 + ((low & (io ? Bar.IO_MASK : Bar.MEM_MASK)) >>> 0);
      // Firmware that gave one BAR an address gave all of them one.
      if (address !== 0) return;
      bars.push({ at, kind: io ? Bar.SPACE_IO : low & Bar.MEM_TYPE_MASK, size: 2 ** Math.ceil(Math.log2(size)) });
      if (wide) i++;
    }
    this.#bare ||= bars.length > 0;
    for (const { at, kind, size } of bars) {
      const io = kind === Bar.SPACE_IO;
      const low = Math.ceil((io ? next.io : next.memory) / size) * size;
      if (low + size <= (io ? IO_END : LOW_END)) {
        next[io ? 'io' : 'memory'] = low + size;
        this.#write(at, 4, low);
        if (kind === Bar.MEM_TYPE_64) this.#write(at + 4, 4, 0);
      } else if (kind === Bar.MEM_TYPE_64) {
        const address = Math.ceil(next.high / size) * size;
        next.high = address + size;
        this.#write(at, 4, address >>> 0);
        this.#write(at + 4, 4, Math.floor(address / 2 ** 32));
      }
    }
  }

  /** The control register of an index's capability; 0: it has none. */
  #switch(index: number): number {
    const at = switches[index] === undefined ? 0 : this.#gate.findCapability(switches[index].capability);
    return at === 0 ? 0 : at + Msi.FLAGS;
  }

  #read(offset: number, width: 2 | 4): number {
    const errno = this.#config.load(offset, width);
    if (errno !== 0) throw this.#config.failure(errno, 'reading', offset, width);
    return this.#config.loadedRegister(width);
  }

  #write(offset: number, width: 2 | 4, value: number): void {
    this.#config.putRegister(width, value);
    const errno = this.#config.store(offset, width);
    if (errno !== 0) throw this.#config.failure(errno, 'writing', offset, width);
  }
}
