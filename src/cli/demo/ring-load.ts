/**
 * A load that a disk keeps while it is moved: commands in its rings, straight, 32 of them all the
 * time. The load knows the contents of each block, so that
 * every read is checked. It can go on with the same rings in the memory that came along with the
 * device.
 */
import { AdminOpcode, Aqa, Cc, CQES, Csts, cqDoorbell, NvmeReg, NvmOpcode, regBits, regField, SQES, sqDoorbell } from '../../abi/nvme.ts';
import { VfioError } from '../../base/errno.ts';
import type { DriverDevice } from '../../drivers/kit/driver-device.ts';

const PAGE = 4096;
const DEPTH = 32;
/** Of each ring; as many commands as there can be never fill it. */
const ENTRIES = 64;
/** Pages: admin rings, I/O rings, then a buffer for each command. */
const Pages = { ASQ: 0, ACQ: 1, SQ: 2, CQ: 3, BUFFERS: 4 } as const;
const SIZE = (Pages.BUFFERS + DEPTH) * PAGE;
/** Blocks that it uses, of 4096 bytes: those of the disk. */
const BLOCKS = 1024;
const READY_MS = 120_000;

interface Command {
  readonly block: number;
  readonly write: boolean;
  /** The contents of the block: written or read. */
  readonly version: number;
}

interface Ring {
  readonly id: number;
  readonly sq: number;
  readonly cq: number;
  tail: number;
  head: number;
  phase: number;
}

export class RingLoad {
  completed = 0;
  /** Completions that should not have come, and reads of something else than was written. */
  wrong = 0;
  readonly #admin: Ring = { id: 0, sq: Pages.ASQ, cq: Pages.ACQ, tail: 0, head: 0, phase: 1 };
  readonly #io: Ring = { id: 1, sq: Pages.SQ, cq: Pages.CQ, tail: 0, head: 0, phase: 1 };
  /** By identifier, which is the buffer's number. */
  readonly #inFlight: (Command | null)[] = new Array(DEPTH).fill(null);
  readonly #versions = new Uint32Array(BLOCKS);
  readonly #busy = new Uint8Array(BLOCKS);
  #dev!: DriverDevice;
  #bytes!: Uint8Array;
  #words!: Uint32Array;
  #iova!: bigint;
  #random = 1;

  /** Set the controller up. @throws VfioError ETIMEDOUT when it does not become ready */
  async start(dev: DriverDevice): Promise<void> {
    const buffer = dev.dma.alloc(SIZE);
    this.#use(dev, buffer.bytes, buffer.iova);
    dev.busMaster = true;
    this.#write(NvmeReg.AQA, regBits(Aqa.ASQS, ENTRIES - 1) | regBits(Aqa.ACQS, ENTRIES - 1));
    for (const [register, page] of [
      [NvmeReg.ASQ, Pages.ASQ],
      [NvmeReg.ACQ, Pages.ACQ],
    ] as const) {
      const at = this.#address(page);
      this.#write(register, Number(at & 0xffff_ffffn));
      this.#write(register + 4, Number(at >> 32n));
    }
    this.#write(NvmeReg.CC, regBits(Cc.EN, 1) | regBits(Cc.IOSQES, SQES) | regBits(Cc.IOCQES, CQES));
    await this.#until('become ready', () => regField(dev.bar(0).read32(NvmeReg.CSTS), Csts.RDY) === 1);
    await this.#adminCommand(AdminOpcode.CREATE_CQ, Pages.CQ, 1);
    await this.#adminCommand(AdminOpcode.CREATE_SQ, Pages.SQ, (1 << 16) | 1);
  }

  /**
   * Take completions, and keep 32 commands in flight.
   *
   * @throws VfioError ENODEV and the like when the device is gone
   */
  turn(): void {
    this.#consume();
    let any = false;
    for (let slot = 0; slot < DEPTH; slot++) {
      if (this.#inFlight[slot] !== null) continue;
      const block = this.#freeBlock();
      const write = (this.#next() & 1) === 1;
      const version = this.#versions[block]! + (write ? 1 : 0);
      this.#inFlight[slot] = { block, write, version };
      this.#busy[block] = 1;
      if (write) this.#fill(slot, block, version);
      this.#put(this.#io, slot, write ? NvmOpcode.WRITE : NvmOpcode.READ, 1, Pages.BUFFERS + slot, [block, 0, 0]);
      any = true;
    }
    if (any) this.#write(sqDoorbell(1, 0), this.#io.tail);
  }

  /** Go on where the device is now. */
  follow(dev: DriverDevice): void {
    const before = this.#bytes;
    const own = dev.adopted.find(({ iova }) => iova === this.#iova);
    if (own === undefined) throw new Error('the memory of the rings did not come along');
    this.#use(dev, own.bytes, own.iova);
    // The device may have been stopped before it heard of the last commands: they are put there
    // again, with what they write.
    this.#bytes.set(before.subarray(Pages.SQ * PAGE, (Pages.SQ + 1) * PAGE), Pages.SQ * PAGE);
    this.#inFlight.forEach((command, slot) => {
      if (command?.write === true) this.#fill(slot, command.block, command.version);
    });
    this.#write(sqDoorbell(1, 0), this.#io.tail);
    this.#write(cqDoorbell(1, 0), this.#io.head);
  }

  #use(dev: DriverDevice, bytes: Uint8Array, iova: bigint): void {
    this.#dev = dev;
    this.#bytes = bytes;
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, SIZE / 4);
    this.#iova = iova;
  }

  #consume(): void {
    const ring = this.#io;
    const before = ring.head;
    for (;;) {
      const ended = this.#take(ring);
      if (ended === null) break;
      const command = this.#inFlight[ended.id];
      this.completed++;
      if (command === null || command === undefined) {
        this.wrong++;
        continue;
      }
      this.#inFlight[ended.id] = null;
      this.#busy[command.block] = 0;
      if (ended.status !== 0) {
        this.wrong++;
        continue;
      }
      this.#versions[command.block] = command.version;
      if (!command.write && !this.#holds(ended.id, command)) this.wrong++;
    }
    if (ring.head !== before) this.#write(cqDoorbell(1, 0), ring.head);
  }

  #take(ring: Ring): { readonly id: number; readonly status: number } | null {
    const dw3 = Atomics.load(this.#words, (ring.cq * PAGE) / 4 + ring.head * 4 + 3);
    if (((dw3 >>> 16) & 1) !== ring.phase) return null;
    ring.head++;
    if (ring.head === ENTRIES) {
      ring.head = 0;
      ring.phase ^= 1;
    }
    return { id: dw3 & 0xffff, status: dw3 >>> 17 };
  }

  /** @param page  of the data   @param dwords  CDW10 and on */
  #put(ring: Ring, id: number, opcode: number, nsid: number, page: number, dwords: readonly number[]): void {
    const at = (ring.sq * PAGE) / 4 + ring.tail * 16;
    const words = this.#words;
    words.fill(0, at, at + 16);
    const address = this.#address(page);
    words[at] = (id << 16) | opcode;
    words[at + 1] = nsid;
    words[at + 6] = Number(address & 0xffff_ffffn);
    words[at + 7] = Number(address >> 32n);
    dwords.forEach((dword, i) => {
      words[at + 10 + i] = dword;
    });
    ring.tail = (ring.tail + 1) % ENTRIES;
  }

  async #adminCommand(opcode: number, page: number, cdw11: number): Promise<void> {
    const ring = this.#admin;
    this.#put(ring, 0, opcode, 0, page, [((ENTRIES - 1) << 16) | 1, cdw11]);
    this.#write(sqDoorbell(0, 0), ring.tail);
    let status = 0;
    await this.#until('create its queues', () => {
      const ended = this.#take(ring);
      status = ended?.status ?? 0;
      return ended !== null;
    });
    this.#write(cqDoorbell(0, 0), ring.head);
    if (status !== 0) throw new VfioError('EIO', `the controller did not create a queue: status 0x${status.toString(16)}`);
  }

  async #until(what: string, done: () => boolean): Promise<void> {
    const end = performance.now() + READY_MS;
    while (!done()) {
      if (performance.now() > end) throw new VfioError('ETIMEDOUT', `the controller did not ${what}`);
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  }

  #write(register: number, value: number): void {
    this.#dev.bar(0).write32(register, value >>> 0);
  }

  #address(page: number): bigint {
    return this.#iova + BigInt(page * PAGE);
  }

  /** One that no command is about. */
  #freeBlock(): number {
    let block = this.#next() % BLOCKS;
    while (this.#busy[block] === 1) block = (block + 1) % BLOCKS;
    return block;
  }

  #next(): number {
    this.#random = (Math.imul(this.#random, 1_664_525) + 1_013_904_223) >>> 0;
    return this.#random >>> 8;
  }

  /** The contents of a block at a version; zeroes before the first write. */
  #word(block: number, version: number, i: number): number {
    return version === 0 ? 0 : (Math.imul(block + 1, 0x9e37_79b1) + Math.imul(version, 0x85eb_ca6b) + i) >>> 0;
  }

  #fill(slot: number, block: number, version: number): void {
    const at = ((Pages.BUFFERS + slot) * PAGE) / 4;
    for (let i = 0; i < PAGE / 4; i++) this.#words[at + i] = this.#word(block, version, i);
  }

  #holds(slot: number, { block, version }: Command): boolean {
    const at = ((Pages.BUFFERS + slot) * PAGE) / 4;
    for (let i = 0; i < PAGE / 4; i++) if (this.#words[at + i] !== this.#word(block, version, i)) return false;
    return true;
  }
}
