/**
 * The physical function as a model: the registers of BAR 0, and a window to them in I/O space
 * (8.1.2). BAR 1 is the flash, of which there is none, and BAR 3 is MSI-X, which the host has.
 */
import { I82576_BAR_BYTES } from '../../abi/82576.ts';
import type { DeviceHost, Model, Width } from '../../abi/device-host.ts';
import { Card, type CardOptions } from './card.ts';
import { type IoWindow, PhysicalMigration } from './migration/physical-migration.ts';

export const Bar = { REGISTERS: 0, FLASH: 1, IO: 2, MSIX: 3 } as const;
/** In BAR 2: the offset of the register that IODATA reaches (8.1.2). */
const IOADDR = 0;
const IODATA = 4;
const FLASH_ERASED = 0xffff_ffff;

export class PhysicalFunction implements Model {
  readonly card: Card;
  readonly migration: PhysicalMigration;
  readonly #io: IoWindow = { address: 0 };

  constructor(host: DeviceHost, options: CardOptions) {
    this.card = new Card(host, options);
    this.migration = new PhysicalMigration(this.card, this.#io);
  }

  read(bar: number, offset: number, width: Width): number {
    switch (bar) {
      case Bar.REGISTERS:
        return narrowed(this.card.registers.read(offset), offset, width);
      case Bar.IO:
        return width === 4 ? this.#readIo(offset) : 0;
      case Bar.FLASH:
        return narrowed(FLASH_ERASED, offset, width);
      default:
        return 0;
    }
  }

  /** Registers take 32 bits at a time (8.1.3: other widths are undefined; they do nothing here). */
  write(bar: number, offset: number, width: Width, value: number): void {
    if (width !== 4) return;
    if (bar === Bar.REGISTERS) this.card.registers.write(offset, value);
    else if (bar === Bar.IO) this.#writeIo(offset, value);
  }

  #readIo(offset: number): number {
    if (offset === IOADDR) return this.#io.address;
    return offset === IODATA && this.#reaches ? this.card.registers.read(this.#io.address) : 0;
  }

  #writeIo(offset: number, value: number): void {
    if (offset === IOADDR) this.#io.address = value >>> 0;
    else if (offset === IODATA && this.#reaches) this.card.registers.write(this.#io.address, value);
  }

  get #reaches(): boolean {
    return this.#io.address < I82576_BAR_BYTES && (this.#io.address & 3) === 0;
  }

  reset(): void {
    this.#io.address = 0;
    this.card.reset({ kind: 'device' });
  }

  configWritten(): void {
    this.card.interrupts.update();
  }

  power(state: 'D0' | 'D3hot'): void {
    this.card.power(state);
  }

  dispose(): void {
    this.card.dispose();
  }
}

/** `width` bytes of a register, from `offset` on. */
export function narrowed(register: number, offset: number, width: Width): number {
  const value = register >>> (8 * (offset & 3));
  return width === 4 ? value : width === 2 ? value & 0xffff : value & 0xff;
}
