/**
 * The rings of an 82576 alone: registers, memory, and a port that notes the frames. The test is
 * driver, switch and filter.
 */

import { ofQueue, Rctl, Reg, Srrctl, Tctl, Xdctl } from '../../../src/abi/82576.ts';
import { DESCRIPTOR_BYTES, TxCommand, TxStatus } from '../../../src/abi/82576-descriptors.ts';
import type { DmaPort } from '../../../src/abi/device-host.ts';
import type { CardPort, FunctionSide, ReceivedFrame } from '../../../src/models/82576/parts.ts';
import { PF } from '../../../src/models/82576/parts.ts';
import { RegisterSpace } from '../../../src/models/82576/register-space.ts';
import { emptyFrame } from '../../../src/models/82576/rings/packet-buffer.ts';
import { Rings } from '../../../src/models/82576/rings/rings.ts';
import { TestHost } from '../../../src/models/kit/test-host.ts';

export const MEMORY = 0x40_0000;
export const TX_RING = 0x1_0000;
export const RX_RING = 0x2_0000;
/** Where buffers are free for a test. */
export const BUFFERS = 0x8_0000;

export interface SentFrame {
  readonly queue: number;
  readonly vlan: number;
  readonly bytes: Uint8Array;
}

export class RingsRig {
  readonly host: TestHost;
  readonly registers = new RegisterSpace(0x2_0000);
  readonly sent: SentFrame[] = [];
  readonly controls: Uint8Array[] = [];
  readonly counts = new Map<number, number>();
  /** `tx 0`, `rx 3`, `icr 0x40`. */
  readonly interrupts: string[] = [];
  readonly stamped: number[] = [];
  ready = true;
  virtualized = false;
  virtualFunctions = 0;
  /** Called with each frame that leaves, before it is noted. */
  onSend: (frame: SentFrame) => void = () => undefined;
  readonly rings: Rings;
  /** The hosts of virtual functions; those that are absent are the physical one's. */
  readonly functions: TestHost[] = [];

  constructor(dma?: (host: TestHost) => DmaPort) {
    const plain = new TestHost({ base: 0n, memorySize: MEMORY });
    this.host = dma === undefined ? plain : new TestHost({ base: 0n, memory: plain.memory, dma: dma(plain) });
    const side = (index: number, host: TestHost): FunctionSide => ({ index, host });
    const pf = side(PF, this.host);
    const card: CardPort = {
      ownerOf: (queue) => (this.functions[queue % 8] === undefined ? pf : side(queue % 8, this.functions[queue % 8]!)),
      functionAt: (index) => (index === PF ? pf : this.functions[index] === undefined ? null : side(index, this.functions[index])),
      get virtualized() {
        return rig.virtualized;
      },
      get virtualFunctions() {
        return rig.virtualFunctions;
      },
    };
    const rig = this;
    this.registers.declare(
      ['CTRL', 'STATUS', 'FCAL', 'FCAH', 'FCT', 'RCTL', 'VFRE', 'VFTE', 'RAL', 'RAH'].map((name) => ({
        name,
        offset: Reg[name as 'CTRL'],
        section: '8',
      })),
    );
    this.registers.declare([{ name: 'VMOLR', offset: Reg.VMOLR, count: 8, section: '8.14.16' }]);
    this.rings = new Rings({
      card,
      registers: this.registers,
      port: {
        get ready() {
          return rig.ready;
        },
        transmit: (queue, bytes, offset, length, vlan) => {
          const frame = { queue, vlan, bytes: bytes.slice(offset, offset + length) };
          this.sent.push(frame);
          this.onSend(frame);
        },
      },
      interrupts: {
        received: (queue) => void this.interrupts.push(`rx ${queue}`),
        transmitted: (queue) => void this.interrupts.push(`tx ${queue}`),
        cause: (icr) => void this.interrupts.push(`icr 0x${icr.toString(16)}`),
        causeOfVf: () => undefined,
      },
      statistics: {
        count: (register, by = 1) => void this.counts.set(register, this.counted(register) + by),
        received: () => undefined,
        transmitted: () => undefined,
        poolReceived: () => undefined,
        poolTransmitted: () => undefined,
      },
      sendControl: (bytes, offset, length) => void this.controls.push(bytes.slice(offset, offset + length)),
      stamp: (queue) => void this.stamped.push(queue),
    });
    this.write(Reg.STATUS, 0x80);
    this.write(Reg.FCAL, 0x00c2_8001);
    this.write(Reg.FCAH, 0x0100);
    this.write(Reg.FCT, 0x8808);
  }

  counted(register: number): number {
    return this.counts.get(register) ?? 0;
  }

  read(offset: number): number {
    return this.registers.read(offset);
  }

  write(offset: number, value: number): void {
    this.registers.write(offset, value);
  }

  /** Memory as dwords and bytes. */
  get view(): DataView {
    const { memory } = this.host;
    return new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
  }

  /** Queue `queue` sends from a ring of `entries` at `at`. */
  startTransmit(queue = 0, entries = 64, at = TX_RING): void {
    this.write(ofQueue(Reg.TDBAL, queue), at);
    this.write(ofQueue(Reg.TDBAH, queue), 0);
    this.write(ofQueue(Reg.TDLEN, queue), entries * DESCRIPTOR_BYTES);
    this.write(ofQueue(Reg.TDH, queue), 0);
    this.write(ofQueue(Reg.TDT, queue), 0);
    this.write(ofQueue(Reg.TXDCTL, queue), Xdctl.ENABLE);
    this.write(Reg.TCTL, Tctl.EN | Tctl.PSP);
  }

  /** Writes a descriptor of four words. */
  put(ring: number, index: number, words: readonly number[]): void {
    for (const [i, word] of words.entries()) this.view.setUint32(ring + index * DESCRIPTOR_BYTES + i * 4, word >>> 0, true);
  }

  words(ring: number, index: number): number[] {
    return [0, 4, 8, 12].map((at) => this.view.getUint32(ring + index * DESCRIPTOR_BYTES + at, true));
  }

  /** An advanced data descriptor. */
  putData(index: number, iova: number, length: number, command: number = TxCommand.EOP, options = 0, ring = TX_RING): void {
    const word = (command | TxCommand.DEXT | TxCommand.DTYP_DATA | TxCommand.IFCS | length) >>> 0;
    this.put(ring, index, [iova, 0, word, (options | (length << TxStatus.PAYLEN_SHIFT)) >>> 0]);
  }

  ring(tail: number, queue = 0): void {
    this.write(ofQueue(Reg.TDT, queue), tail);
  }

  store(iova: number, bytes: ArrayLike<number>): void {
    this.host.memory.set(bytes, iova);
  }

  load(iova: number, length: number): Uint8Array {
    return this.host.memory.slice(iova, iova + length);
  }

  /** Queue `queue` receives into `buffers` of `size`, from `BUFFERS` on unless `at` says else. */
  startReceive(
    queue = 0,
    entries = 64,
    { ring = RX_RING, at = BUFFERS, size = 2048, srrctl = Srrctl.ADV_ONE_BUFFER as number, header = 0 } = {},
  ): void {
    for (let i = 0; i < entries; i++) this.put(ring, i, [at + i * size, 0, header === 0 ? 0 : header + i * 1024, 0]);
    this.write(Reg.RCTL, Rctl.RXEN | Rctl.SECRC);
    this.write(ofQueue(Reg.RDBAL, queue), ring);
    this.write(ofQueue(Reg.RDLEN, queue), entries * DESCRIPTOR_BYTES);
    this.write(ofQueue(Reg.SRRCTL, queue), (srrctl | (size >>> 10)) >>> 0);
    this.write(ofQueue(Reg.RDH, queue), 0);
    this.write(ofQueue(Reg.RXDCTL, queue), Xdctl.ENABLE);
    this.write(ofQueue(Reg.RDT, queue), entries - 1);
  }

  receive(bytes: Uint8Array, queues = 1, facts: Partial<ReceivedFrame> = {}): number {
    return this.rings.receive({ ...emptyFrame(bytes), length: bytes.length, ...facts }, queues);
  }
}

/** Bytes that differ from one place to the next. */
export function pattern(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 7 + (i >>> 8)) & 0xff);
}
