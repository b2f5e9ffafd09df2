/**
 * The EEPROM as a chip on four wires, which software drives bit by bit through EECD (3.3.1.4): an
 * SPI part of 32 KiB with 16 address bits.
 */

const Opcode = { WRSR: 0x01, WRITE: 0x02, READ: 0x03, WRDI: 0x04, RDSR: 0x05, WREN: 0x06 } as const;
/** Status: the write enable latch, and block protection. A write is done when it begins. */
const WEL = 0x02;
const STATUS_WRITABLE = 0x8c;
/** Bytes that one WRITE fills: it wraps within a page. */
export const PAGE_BYTES = 32;

export class SerialEeprom {
  readonly #words: Uint16Array;
  #selected = false;
  #clock = false;
  /** Bits of the byte that comes in, and how many of the command's bytes have come. */
  #shift = 0;
  #bits = 0;
  #bytes = 0;
  #opcode = 0;
  #address = 0;
  #status = 0;
  /** The byte that goes out, most significant bit first, and how many of its bits are left. */
  #out = 0;
  #outBits = 0;
  #level = false;

  constructor(words: Uint16Array) {
    this.#words = words;
  }

  /** The level of the chip's output. */
  get output(): boolean {
    return this.#level;
  }

  /** The levels of its inputs have changed. */
  drive(select: boolean, clock: boolean, input: boolean): void {
    if (select !== this.#selected) {
      this.#selected = select;
      this.#shift = this.#bits = this.#bytes = this.#outBits = 0;
      if (!select && (this.#opcode === Opcode.WRITE || this.#opcode === Opcode.WRSR)) this.#status &= ~WEL;
      this.#opcode = 0;
    }
    const rising = clock && !this.#clock;
    const falling = !clock && this.#clock;
    this.#clock = clock;
    if (!select) return;
    if (rising) this.#take(input);
    else if (falling && this.#outBits > 0) this.#level = ((this.#out >>> --this.#outBits) & 1) !== 0;
  }

  #take(input: boolean): void {
    this.#shift = ((this.#shift << 1) | Number(input)) & 0xff;
    if (++this.#bits < 8) return;
    this.#bits = 0;
    this.#byte(this.#shift, this.#bytes++);
  }

  #byte(value: number, index: number): void {
    if (index === 0) {
      this.#opcode = value;
      if (value === Opcode.WREN) this.#status |= WEL;
      else if (value === Opcode.WRDI) this.#status &= ~WEL;
      else if (value === Opcode.RDSR) this.#send(this.#status);
      return;
    }
    switch (this.#opcode) {
      case Opcode.RDSR:
        this.#send(this.#status);
        break;
      case Opcode.WRSR:
        if ((this.#status & WEL) !== 0) this.#status = (this.#status & ~STATUS_WRITABLE) | (value & STATUS_WRITABLE);
        break;
      case Opcode.READ:
      case Opcode.WRITE:
        this.#data(value, index);
        break;
    }
  }

  #data(value: number, index: number): void {
    const bytes = this.#words.length * 2;
    if (index === 1) this.#address = value << 8;
    else if (index === 2) {
      this.#address = (this.#address | value) % bytes;
      if (this.#opcode === Opcode.READ) this.#sendNext(bytes);
    } else if (this.#opcode === Opcode.READ) {
      this.#sendNext(bytes);
    } else if ((this.#status & WEL) !== 0) {
      this.#store(value);
      const page = this.#address & ~(PAGE_BYTES - 1);
      this.#address = page | ((this.#address + 1) & (PAGE_BYTES - 1));
    }
  }

  #sendNext(bytes: number): void {
    const word = this.#words[this.#address >>> 1]!;
    this.#send((this.#address & 1) === 0 ? word & 0xff : word >>> 8);
    this.#address = (this.#address + 1) % bytes;
  }

  #store(value: number): void {
    const at = this.#address >>> 1;
    const word = this.#words[at]!;
    this.#words[at] = (this.#address & 1) === 0 ? (word & 0xff00) | value : (word & 0xff) | (value << 8);
  }

  #send(byte: number): void {
    this.#out = byte;
    // Each bit is on the wire from a falling edge on.
    this.#outBits = 8;
  }
}
