/**
 * The driver of an NVMe disk that is moved while it works: rings of its own, 32 commands under way,
 * and memory that only the driver writes. It knows the right content of disk and memory, and
 * continues where the device has gone. Writes after its last answered access may be left behind
 * (docs/moving.md): it repeats them.
 */
import type { RegisterAccess } from '../../src/abi/device.ts';
import { VfioError } from '../../src/base/errno.ts';
import { type DriverDevice, open } from '../../src/doors/index.ts';
import type { Random } from './random.ts';

const PAGE = 4096;
const SLOTS = 32;
const ENTRIES = 64;
/** 4 KiB each, for one slot alone: commands that overlap have no order. */
const UNITS = 96;
const SCRATCH_PAGES = 512;
const BLOCKS_PER_UNIT = 8;
const Place = { ADMIN_SQ: 0, ADMIN_CQ: 1, SQ: 2, CQ: 3, DATA: 4, SCRATCH: 4 + SLOTS } as const;
const PAGES = Place.SCRATCH + SCRATCH_PAGES;
const Reg = { CC: 0x14, CSTS: 0x1c, AQA: 0x24, ASQ: 0x28, ACQ: 0x30, DOORBELLS: 0x1000 } as const;

export const DISK_BYTES = SLOTS * UNITS * PAGE;

interface Command {
  readonly slot: number;
  readonly write: boolean;
  readonly unit: number;
  /** The stamp that is written, or that a read must find. */
  readonly stamp: number;
  /** The index of its entry. */
  readonly index: number;
  readonly entry: Uint8Array;
}

export class MovedDisk {
  readonly counts = { commands: 0, pages: 0 };
  readonly #random: Random;
  #dev!: DriverDevice;
  #bar!: RegisterAccess;
  #bytes!: Uint8Array;
  #view!: DataView;
  #iova = 0n;
  #tail = 0;
  #head = 0;
  #phase = 1;
  #stamp = 1;
  /** In order of submission. */
  #underWay: Command[] = [];
  readonly #disk = new Uint32Array(SLOTS * UNITS);
  readonly #scratch = new Uint32Array(SCRATCH_PAGES);
  /** Pages that were written since the last answer. */
  readonly #unsure = new Set<number>();

  constructor(random: Random) {
    this.#random = random;
  }

  async start(path: string): Promise<void> {
    this.#dev = await open(`unix:${path}`);
    this.#dev.busMaster = true;
    const buffer = this.#dev.dma.alloc(PAGES * PAGE);
    this.#use(buffer.iova, buffer.bytes);
    const bar = this.#bar;
    bar.write32(Reg.AQA, ((ENTRIES - 1) << 16) | (ENTRIES - 1));
    bar.write64(Reg.ASQ, this.#at(Place.ADMIN_SQ));
    bar.write64(Reg.ACQ, this.#at(Place.ADMIN_CQ));
    bar.write32(Reg.CC, (4 << 20) | (6 << 16) | 1);
    while ((bar.read32(Reg.CSTS) & 1) === 0) await turn();
    // Create I/O Completion Queue, Create I/O Submission Queue: NVMe 1.4, 5.3 and 5.4. Physically
    // contiguous, no interrupts.
    await this.#admin(0, 5, this.#at(Place.CQ), 1 | ((ENTRIES - 1) << 16), 1);
    await this.#admin(1, 1, this.#at(Place.SQ), 1 | ((ENTRIES - 1) << 16), 1 | (1 << 16));
  }

  /** Continue with the device at `path`, where its memory is now. */
  async follow(path: string): Promise<void> {
    this.#dev.close();
    this.#dev = await open(`unix:${path}`, { adopt: true });
    const [memory] = this.#dev.adopted;
    if (memory === undefined || memory.size !== PAGES * PAGE) throw new Error(`adopted ${this.#dev.adopted.length} mappings`);
    this.#use(memory.iova, memory.bytes);
    for (let page = 0; page < SCRATCH_PAGES; page++) if (!this.#unsure.has(page)) this.#checkScratch(page);
    for (const page of this.#unsure) this.#fillScratch(page);
    for (const command of this.#underWay) this.#store(command);
    this.#ring();
    this.#unsure.clear();
  }

  #use(iova: bigint, bytes: Uint8Array): void {
    this.#iova = iova;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    // Not mapped: a failed access then reports ENODEV, where a mapping has a bus error.
    this.#bar = this.#dev.device.region(0);
  }

  #at(page: number): bigint {
    return this.#iova + BigInt(page * PAGE);
  }

  async #admin(index: number, opcode: number, address: bigint, cdw10: number, cdw11: number): Promise<void> {
    const view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset + Place.ADMIN_SQ * PAGE + index * 64, 64);
    view.setUint32(0, opcode | (index << 16), true);
    view.setBigUint64(24, address, true);
    view.setUint32(40, cdw10, true);
    view.setUint32(44, cdw11, true);
    this.#bar.write32(Reg.DOORBELLS, index + 1);
    const at = Place.ADMIN_CQ * PAGE + index * 16;
    while ((this.#view.getUint16(at + 14, true) & 1) === 0) await turn();
    const status = this.#view.getUint16(at + 14, true) >> 1;
    if (status !== 0) throw new Error(`admin command ${opcode}: status 0x${status.toString(16)}`);
    this.#bar.write32(Reg.DOORBELLS + 4, index + 1);
  }

  /** One round of work. False: the device has gone. */
  step(): boolean {
    try {
      while (this.#underWay.length < SLOTS) this.#submit();
      for (let i = 0; i < 8; i++) this.#fillScratch(this.#random.below(SCRATCH_PAGES));
      this.#ring();
      // The move takes along everything that was stored before an answered access.
      this.#unsure.clear();
      if (this.#complete() > 0) this.#bar.write32(Reg.DOORBELLS + 12, this.#head);
      return true;
    } catch (error) {
      if (error instanceof VfioError && error.code === 'ENODEV') return false;
      throw error;
    }
  }

  #ring(): void {
    this.#bar.write32(Reg.DOORBELLS + 8, this.#tail);
    this.#bar.write32(Reg.DOORBELLS + 12, this.#head);
  }

  #submit(): void {
    const busy = new Set(this.#underWay.map(({ slot }) => slot));
    let slot = this.#random.below(SLOTS);
    while (busy.has(slot)) slot = (slot + 1) % SLOTS;
    const unit = slot * UNITS + this.#random.below(UNITS);
    const write = this.#random.once(2);
    const stamp = write ? this.#stamp++ : this.#disk[unit]!;
    const entry = new Uint8Array(64);
    const view = new DataView(entry.buffer);
    view.setUint32(0, (write ? 1 : 2) | (slot << 16), true);
    view.setUint32(4, 1, true);
    view.setBigUint64(24, this.#at(Place.DATA + slot), true);
    view.setBigUint64(40, BigInt(unit * BLOCKS_PER_UNIT), true);
    view.setUint32(48, BLOCKS_PER_UNIT - 1, true);
    const command: Command = { slot, write, unit, stamp, index: this.#tail, entry };
    this.#underWay.push(command);
    this.#tail = (this.#tail + 1) % ENTRIES;
    this.#store(command);
  }

  #store({ slot, write, unit, stamp, index, entry }: Command): void {
    if (write) this.#fill(Place.DATA + slot, unit, stamp);
    this.#bytes.set(entry, Place.SQ * PAGE + index * 64);
  }

  /** @returns how many were done */
  #complete(): number {
    let done = 0;
    for (;;) {
      const at = Place.CQ * PAGE + this.#head * 16;
      const status = this.#view.getUint16(at + 14, true);
      if ((status & 1) !== this.#phase) return done;
      if (status >> 1 !== 0) throw new Error(`a command ended with status 0x${(status >> 1).toString(16)}`);
      const slot = this.#view.getUint16(at + 12, true);
      const command = this.#underWay.find((each) => each.slot === slot);
      if (command === undefined) throw new Error(`slot ${slot} was completed, and has no command`);
      this.#underWay = this.#underWay.filter((each) => each !== command);
      if (command.write) this.#disk[command.unit] = command.stamp;
      else this.#check(Place.DATA + slot, command.unit, command.stamp, 'read from the disk');
      this.#head = (this.#head + 1) % ENTRIES;
      if (this.#head === 0) this.#phase ^= 1;
      done++;
      this.counts.commands++;
    }
  }

  #words(page: number): Uint32Array {
    return new Uint32Array(this.#bytes.buffer, this.#bytes.byteOffset + page * PAGE, PAGE / 4);
  }

  #fill(page: number, what: number, stamp: number): void {
    const words = this.#words(page);
    for (let i = 0; i < words.length; i++) words[i] = stamp === 0 ? 0 : Math.imul(stamp, 0x9e37_79b1) ^ (what * 1024 + i);
  }

  #check(page: number, what: number, stamp: number, where: string): void {
    const words = this.#words(page);
    for (let i = 0; i < words.length; i++) {
      const wanted = stamp === 0 ? 0 : (Math.imul(stamp, 0x9e37_79b1) ^ (what * 1024 + i)) >>> 0;
      if (words[i] !== wanted)
        throw new Error(`${where}: word ${i} of ${what} is 0x${words[i]!.toString(16)}, 0x${wanted.toString(16)} expected`);
    }
  }

  #fillScratch(page: number): void {
    this.#unsure.add(page);
    this.#scratch[page] = this.#stamp++;
    this.#fill(Place.SCRATCH + page, page, this.#scratch[page]!);
    this.counts.pages++;
  }

  #checkScratch(page: number): void {
    this.#check(Place.SCRATCH + page, page, this.#scratch[page]!, 'memory that moved with the device');
  }

  /** Waits for all commands, then checks all of the disk and all memory. */
  async finish(): Promise<void> {
    const drain = async (): Promise<void> => {
      while (this.#underWay.length > 0) {
        this.#ring();
        if (this.#complete() === 0) await turn();
      }
    };
    await drain();
    for (let page = 0; page < SCRATCH_PAGES; page++) this.#checkScratch(page);
    for (let unit = 0; unit < SLOTS * UNITS; unit++) {
      const slot = unit % SLOTS;
      const entry = new Uint8Array(64);
      const view = new DataView(entry.buffer);
      view.setUint32(0, 2 | (slot << 16), true);
      view.setUint32(4, 1, true);
      view.setBigUint64(24, this.#at(Place.DATA + slot), true);
      view.setBigUint64(40, BigInt(unit * BLOCKS_PER_UNIT), true);
      view.setUint32(48, BLOCKS_PER_UNIT - 1, true);
      const command: Command = { slot, write: false, unit, stamp: this.#disk[unit]!, index: this.#tail, entry };
      this.#underWay.push(command);
      this.#tail = (this.#tail + 1) % ENTRIES;
      this.#store(command);
      if (this.#underWay.length === SLOTS) await drain();
    }
    await drain();
    this.#dev.close();
  }
}

async function turn(): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve));
}
