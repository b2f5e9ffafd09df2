/**
 * For tests: a host with a driver, and its disk, which moves from one server to another while it
 * works. The host keeps a reference of every block and checks each completion against it. The test
 * fails when a controller acts after its stop.
 */

import { type DeviceHost, Dma, type DmaPort, type Model, type ModelBulk } from '../../../src/abi/device-host.ts';
import { AdminOpcode, Cc, CQES, cqDoorbell, NvmeReg, NvmOpcode, regBits, SQES, sqDoorbell } from '../../../src/abi/nvme.ts';
import type { ManualClock } from '../../../src/base/clock.ts';
import { VfioError } from '../../../src/base/errno.ts';
import { EventStream } from '../../../src/events/stream.ts';
import { type NvmeOptions, nvme } from '../../../src/models/nvme/nvme.ts';
import { LateStorage } from './late-storage.ts';
import { TEST_PAGE, type TestMemory } from './test-memory.ts';

export const BLOCK = 512;
export const DEPTH = 32;
const ENTRIES = 64;
/** Pages of memory: queues below, a buffer for each command that can be in flight above. */
export const Pages = { ASQ: 0, ACQ: 1, SHADOW: 2, EVENTS: 3, SQ: 4, CQ: 8, BUFFERS: 16 } as const;

/**
 * One server: its disk, the controller, and the memory that the controller may reach while it runs.
 */
export class Server {
  readonly storage: LateStorage;
  readonly model: Model;
  /** Actions of the controller while it had to stand still. */
  readonly violations: string[] = [];
  /** Vectors that were triggered and that the host has not read. */
  readonly vectors: Set<number>;
  stopped = false;

  constructor(
    world: { memory: TestMemory; clock: ManualClock; vectors: Set<number> },
    options: Partial<NvmeOptions>,
    size: number,
    late: boolean,
  ) {
    this.storage = new LateStorage(size, late);
    this.vectors = world.vectors;
    const { memory } = world;
    const check = (what: string) => {
      if (this.stopped) this.violations.push(what);
    };
    const dma: DmaPort = {
      tryRead: (iova, into) => {
        check('tryRead');
        return this.stopped ? Dma.FAULT : memory.tryRead(iova, into);
      },
      tryWrite: (iova, from) => {
        check('tryWrite');
        return this.stopped ? Dma.FAULT : memory.tryWrite(iova, from);
      },
      read: (iova, into) => {
        check('read');
        return memory.read(iova, into);
      },
      write: (iova, from) => {
        check('write');
        return memory.write(iova, from);
      },
      view: (iova, bytes, access) => {
        check('view');
        return memory.view(iova, bytes, access);
      },
      locate: (iova, bytes, access, place) => {
        check('locate');
        return memory.locate(iova, bytes, access, place);
      },
      epoch: 0,
    };
    const host: DeviceHost = {
      dma,
      events: new EventStream().source('disk'),
      irq: {
        mode: 'msix',
        vectors: 65,
        raise: () => check('raise'),
        lower: () => {},
        trigger: (vector) => {
          check(`trigger ${vector}`);
          this.vectors.add(vector);
          return true;
        },
      },
      clock: world.clock,
      log: { log: (level, message) => void (level === 'error' && this.violations.push(message)) },
      answerAfter: () => {},
      reportError: () => false,
      wake: () => false,
      readConfig: () => 0,
      barMemory: () => {
        throw new Error('there is none');
      },
    };
    const namespaces = [{ storage: this.storage, ...(options.namespaces?.[0]?.limits ? { limits: options.namespaces[0].limits } : {}) }];
    this.model = nvme({ ...options, namespaces }).create(host);
  }

  /** Stop, and let earlier DMA land. Returns the state. */
  async leave(memory: TestMemory): Promise<Uint8Array> {
    this.model.migration!.stop();
    this.stopped = true;
    for (let tries = 0; ; tries++) {
      try {
        return this.model.migration!.save();
      } catch (error) {
        if (!(error instanceof VfioError) || error.code !== 'EAGAIN' || tries === 100) throw error;
        memory.answer();
        await turn();
      }
    }
  }

  /** Continue after a stop. */
  stay(): void {
    this.stopped = false;
    this.model.migration!.start();
  }

  /** Load a saved state, as the engine does. */
  arrive(state: Uint8Array): void {
    this.model.migration!.stop();
    this.model.reset();
    this.model.migration!.load(state, 1);
    this.model.migration!.start();
  }
}

export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Copies all blocks that are there. */
export function copyBulk(from: ModelBulk, to: ModelBulk): void {
  for (let block = 0; block < from.size / from.blockSize; block++) copyBlock(from, to, block);
}

/** Copies blocks that were written since the last call. */
export function copyDirty(from: ModelBulk, to: ModelBulk): number {
  let count = 0;
  for (let block = from.takeDirty(0); block >= 0; block = from.takeDirty(block + 1)) {
    copyBlock(from, to, block);
    count++;
  }
  return count;
}

function copyBlock(from: ModelBulk, to: ModelBulk, block: number): void {
  const bytes = new Uint8Array(from.blockSize);
  if (from.present(block)) from.read(block, bytes);
  if (from.present(block) || to.present(block)) to.write(block, bytes);
}

export type IoKind = 'read' | 'write' | 'zeroes' | 'deallocate' | 'flush' | 'compare' | 'verify';
export interface Io {
  readonly kind: IoKind;
  readonly lba: number;
  readonly blocks: number;
  readonly seed: number;
}

interface InFlight extends Io {
  readonly slot: number;
  readonly expected: Uint8Array | null;
}

interface Pair {
  readonly id: number;
  readonly sqPage: number;
  readonly cqPage: number;
  readonly cqSize: number;
  tail: number;
  head: number;
  phase: number;
}

/** The host: one admin queue, and I/O queues 1 and 2. */
export class Driver {
  readonly memory: TestMemory;
  /** The expected content of the disk. */
  readonly reference: Uint8Array;
  readonly pairs: Pair[];
  /** By command identifier. */
  readonly inFlight = new Map<number, InFlight>();
  readonly admin = new Map<number, (status: number, result: number) => void>();
  completed = 0;
  shadow = false;
  server: Server;
  readonly #vectors: Set<number>;
  readonly #freeSlots: number[] = Array.from({ length: DEPTH }, (_, i) => i);
  #cid = 0;

  constructor(server: Server, memory: TestMemory, vectors: Set<number>, size: number, cqSize: number) {
    this.server = server;
    this.memory = memory;
    this.#vectors = vectors;
    this.reference = new Uint8Array(size);
    this.pairs = [
      { id: 0, sqPage: Pages.ASQ, cqPage: Pages.ACQ, cqSize: 32, tail: 0, head: 0, phase: 1 },
      { id: 1, sqPage: Pages.SQ, cqPage: Pages.CQ, cqSize, tail: 0, head: 0, phase: 1 },
      { id: 2, sqPage: Pages.SQ + 1, cqPage: Pages.CQ + 1, cqSize, tail: 0, head: 0, phase: 1 },
    ];
  }

  w(register: number, value: number): void {
    this.server.model.write(0, register, 4, value >>> 0);
  }

  r(register: number): number {
    return this.server.model.read(0, register, 4);
  }

  address(page: number): number {
    return Number(this.memory.base) + page * TEST_PAGE;
  }

  async enable(): Promise<void> {
    this.w(NvmeReg.AQA, (31 << 16) | 31);
    this.w(NvmeReg.ASQ, this.address(Pages.ASQ));
    this.w(NvmeReg.ACQ, this.address(Pages.ACQ));
    this.w(NvmeReg.CC, regBits(Cc.EN, 1) | regBits(Cc.IOSQES, SQES) | regBits(Cc.IOCQES, CQES));
    for (const { id, sqPage, cqPage, cqSize } of this.pairs.slice(1)) {
      const queue = (size: number) => ((size - 1) << 16) | id;
      await this.mustRun({ opcode: AdminOpcode.CREATE_CQ, prp1: this.address(cqPage), cdw10: queue(cqSize), cdw11: (id << 16) | 3 });
      await this.mustRun({ opcode: AdminOpcode.CREATE_SQ, prp1: this.address(sqPage), cdw10: queue(ENTRIES), cdw11: (id << 16) | 1 });
    }
  }

  /** An admin command, and its result. */
  run(fields: Record<string, number>): Promise<{ status: number; result: number }> {
    const ended = new Promise<{ status: number; result: number }>((resolve) =>
      this.start(fields, (status, result) => resolve({ status, result })),
    );
    return ended;
  }

  async mustRun(fields: Record<string, number>): Promise<number> {
    const ended = this.run(fields);
    for (let i = 0; i < 50 && this.admin.size > 0; i++) {
      this.memory.answer();
      await turn();
      this.consume();
    }
    const { status, result } = await ended;
    if (status !== 0) throw new Error(`admin command ${fields.opcode} ended with 0x${status.toString(16)}`);
    return result;
  }

  start(fields: Record<string, number>, ended: (status: number, result: number) => void): number {
    const cid = this.#nextCid();
    this.admin.set(cid, ended);
    this.#put(this.pairs[0]!, cid, fields);
    return cid;
  }

  /** Submits if no command in flight touches these blocks and a slot is free. */
  submit(io: Io): boolean {
    const { kind, lba, blocks, seed } = io;
    const touched = (other: Io) => other.kind !== 'flush' && kind !== 'flush' && other.lba < lba + blocks && lba < other.lba + other.blocks;
    if (this.#freeSlots.length === 0 || [...this.inFlight.values()].some(touched)) return false;
    const slot = this.#freeSlots.shift()!;
    const bytes = this.buffer(slot);
    const at = lba * BLOCK;
    const size = blocks * BLOCK;
    let expected: Uint8Array | null = null;
    const fields: Record<string, number> = {
      nsid: 1,
      prp1: this.address(Pages.BUFFERS + slot),
      cdw10: lba,
      cdw12: blocks - 1,
      opcode: NvmOpcode.FLUSH,
    };
    bytes.fill(0xee);
    switch (kind) {
      case 'read':
        fields.opcode = NvmOpcode.READ;
        expected = this.reference.slice(at, at + size);
        break;
      case 'write':
        fields.opcode = NvmOpcode.WRITE;
        for (let i = 0; i < size; i++) bytes[i] = (seed + i * 7 + (i >>> 8)) & 0xff;
        expected = bytes.slice(0, size);
        break;
      case 'compare':
        fields.opcode = NvmOpcode.COMPARE;
        bytes.set(this.reference.subarray(at, at + size));
        break;
      case 'verify':
        fields.opcode = NvmOpcode.VERIFY;
        break;
      case 'zeroes':
        fields.opcode = NvmOpcode.WRITE_ZEROES;
        expected = new Uint8Array(size);
        break;
      case 'deallocate': {
        fields.opcode = NvmOpcode.DATASET_MANAGEMENT;
        fields.cdw10 = 0;
        fields.cdw11 = 4;
        const range = new DataView(bytes.buffer, bytes.byteOffset, 16);
        range.setUint32(4, blocks, true);
        range.setBigUint64(8, BigInt(lba), true);
        expected = new Uint8Array(size);
        break;
      }
    }
    const cid = this.#nextCid();
    this.inFlight.set(cid, { ...io, slot, expected });
    this.#put(this.pairs[1 + (seed & 1)]!, cid, fields);
    return true;
  }

  buffer(slot: number): Uint8Array {
    const at = (Pages.BUFFERS + slot) * TEST_PAGE;
    return this.memory.bytes.subarray(at, at + TEST_PAGE);
  }

  /**
   * Take the completions of the queues that interrupted.
   * @throws Error for an unexpected completion, or a wrong result
   */
  consume(): void {
    for (const pair of this.pairs) if (this.#vectors.delete(pair.id)) this.#consumeQueue(pair);
  }

  #consumeQueue(pair: Pair): void {
    const view = new DataView(this.memory.bytes.buffer);
    let any = false;
    for (;;) {
      const at = pair.cqPage * TEST_PAGE + pair.head * 16;
      const dw3 = view.getUint32(at + 12, true);
      if (((dw3 >>> 16) & 1) !== pair.phase) break;
      any = true;
      pair.head++;
      if (pair.head === pair.cqSize) {
        pair.head = 0;
        pair.phase ^= 1;
      }
      this.#ended(pair.id, dw3 & 0xffff, dw3 >>> 17, view.getUint32(at, true));
    }
    if (!any) return;
    if (this.shadow) view.setUint32(Pages.SHADOW * TEST_PAGE + 8 * pair.id + 4, pair.head, true);
    this.w(cqDoorbell(pair.id, 0), pair.head);
  }

  #ended(queue: number, cid: number, status: number, result: number): void {
    this.completed++;
    if (queue === 0) {
      const ended = this.admin.get(cid);
      if (ended === undefined) throw new Error(`admin command ${cid} ended, and is not in flight`);
      this.admin.delete(cid);
      ended(status, result);
      return;
    }
    const io = this.inFlight.get(cid);
    if (io === undefined) throw new Error(`command ${cid} ended, and is not in flight`);
    this.inFlight.delete(cid);
    this.#freeSlots.push(io.slot);
    if (status !== 0) throw new Error(`${io.kind} of ${io.lba}+${io.blocks} ended with 0x${status.toString(16)}`);
    const at = io.lba * BLOCK;
    if (io.kind === 'read') {
      const bytes = this.buffer(io.slot);
      if (io.expected!.some((byte, i) => bytes[i] !== byte)) throw new Error(`read of ${io.lba}+${io.blocks} got other bytes`);
      if (bytes.subarray(io.blocks * BLOCK).some((byte) => byte !== 0xee))
        throw new Error(`read of ${io.lba}+${io.blocks} wrote past its end`);
    } else if (io.expected !== null) this.reference.set(io.expected, at);
  }

  #nextCid(): number {
    do this.#cid = (this.#cid + 1) & 0xffff;
    while (this.inFlight.has(this.#cid) || this.admin.has(this.#cid));
    return this.#cid;
  }

  #put(pair: Pair, cid: number, fields: Record<string, number>): void {
    const view = new DataView(this.memory.bytes.buffer);
    const at = pair.sqPage * TEST_PAGE + pair.tail * 64;
    this.memory.bytes.fill(0, at, at + 64);
    view.setUint32(at, ((cid << 16) | fields.opcode!) >>> 0, true);
    view.setUint32(at + 4, fields.nsid ?? 0, true);
    view.setBigUint64(at + 24, BigInt(fields.prp1 ?? 0), true);
    view.setBigUint64(at + 32, BigInt(fields.prp2 ?? 0), true);
    for (const [i, name] of ['cdw10', 'cdw11', 'cdw12', 'cdw13'].entries()) view.setUint32(at + 40 + 4 * i, fields[name] ?? 0, true);
    pair.tail = (pair.tail + 1) % (pair.id === 0 ? 32 : ENTRIES);
    if (this.shadow) view.setUint32(Pages.SHADOW * TEST_PAGE + 8 * pair.id, pair.tail, true);
    this.w(sqDoorbell(pair.id, 0), pair.tail);
  }
}
