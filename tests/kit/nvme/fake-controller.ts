/**
 * A scripted NVMe controller for trying the driver by itself: it follows the test, odd and wrong
 * orders included. It is no model: it checks that the driver keeps the rules of the interface, and
 * throws where it does not.
 */
import type { Region, RegionInfo } from '../../../src/abi/device.ts';
import { AdminOpcode, Cap, Cc, Csts, FeatureId, NSSR_VALUE, NvmeReg, regBits, regField } from '../../../src/abi/nvme.ts';
import { Cns } from '../../../src/abi/nvme-identify.ts';
import { IdentifyController, IdentifyNamespace } from '../../../src/abi/nvme-structs.ts';
import { RegionFlags } from '../../../src/abi/vfio.ts';
import { VfioError } from '../../../src/base/errno.ts';
import { FakeDevice } from '../fake-device.ts';
import { runIo } from './fake-disk.ts';

export interface FakeCommand {
  readonly queue: number;
  readonly cid: number;
  readonly opcode: number;
  readonly nsid: number;
  readonly dw: Uint32Array;
}

interface FakeQueue {
  readonly sq: Uint32Array;
  readonly cq: Uint32Array;
  readonly entries: number;
  readonly vector: number | null;
  head: number;
  tail: number;
  cqTail: number;
  cqHead: number;
  phase: number;
}

/**
 * Bits of CAP beyond those that a field names: MQES 63, DSTRD 0, TO 2, NVM command set, 4 KiB
 * pages.
 */
export interface FakeCap {
  mqes: number;
  to: number;
  dstrd: number;
  nssrs: number;
  css: number;
  mpsmin: number;
  mpsmax: number;
  /** Controller Ready Modes Supported: CRTO is there. */
  crms: number;
}

export class FakeController extends FakeDevice {
  override readonly bar0 = new DataView(new ArrayBuffer(0x1_0000));
  override mappable = false;
  readonly cap: FakeCap = { mqes: 63, to: 2, dstrd: 0, nssrs: 0, css: 1, mpsmin: 0, mpsmax: 4, crms: 0 };
  readonly commands: FakeCommand[] = [];
  /** The fate of a command: a status it ends with, 'hold' for never; undefined: as it should be. */
  script: (command: FakeCommand) => number | 'hold' | undefined = () => undefined;
  /** Change a completion queue entry before it is written. */
  mangle: (entry: Uint32Array) => void = () => {};
  interruptsLost = false;
  /** Follows CC.EN; set to keep it from doing so. */
  neverReady = false;
  /** RDY is 0 still, whatever it will be. */
  lazy = false;
  crto = 0;
  neverDisabled = false;
  failsOnEnable = false;
  neverShutDown = false;
  queuesGranted = 64;
  vs = 0x0001_0400;
  gone = false;
  /** Everything reads as ones. */
  absent = false;
  /** Doorbell writes seen: offset and value. */
  readonly doorbells: [number, number][] = [];
  readonly controller = {
    sn: 'FAKE1',
    mn: 'A fake',
    fr: '1',
    mdts: 5,
    nn: 4,
    oncs: 0xff,
    oacs: 0x2,
    aerl: 3,
    acl: 3,
    sqes: 0x66,
    cqes: 0x44,
    oaes: 0x100,
    vwc: 1,
    lpa: 6,
  };
  /** Active ones by NSID; `lbads` and `ms` of the format in use. */
  readonly disks = new Map<number, { data: Uint8Array; lbads: number; ms: number; flbas?: number }>([
    [1, { data: new Uint8Array(2 ** 20), lbads: 9, ms: 0 }],
  ]);
  /** Commands the script held, and Asynchronous Event Requests. */
  readonly held: FakeCommand[] = [];
  readonly asyncEvents: FakeCommand[] = [];
  cc = 0;
  csts = 0;
  intms = 0;
  enables = 0;
  features = new Map<number, number>();
  shadow: Int32Array | null = null;
  eventIndexes: Int32Array | null = null;
  #aqa = 0;
  #asq = [0, 0];
  #acq = [0, 0];
  #queues = new Map<number, FakeQueue>();
  #pendingCqs = new Map<number, { cq: Uint32Array; entries: number; vector: number | null }>();

  constructor() {
    super();
    this.irqCounts[2] = 8;
  }

  override region(index: number): Region {
    if (index !== 0) return super.region(index);
    const info: RegionInfo = { index, flags: RegionFlags.READ | RegionFlags.WRITE, size: this.bar0.byteLength };
    return { ...super.region(0), info, read32: (offset) => this.#read(offset), write32: (offset, value) => this.#write(offset, value) };
  }

  override reset(): void {
    super.reset();
    this.neverDisabled = false;
    this.cc = this.csts = 0;
    this.#forget();
  }

  /** Memory at an IOVA; the driver mapped all of it. */
  memory(iova: number, size: number): Uint8Array {
    for (const [at, memory] of this.mappings) {
      const from = iova - Number(at);
      if (from >= 0 && from + size <= memory.size) return memory.windows[0]!.subarray(from, from + size);
    }
    throw new Error(`the driver gave IOVA 0x${iova.toString(16)}, where nothing is mapped`);
  }

  /** The data of a command, piece by piece, as its PRPs say (4.3). */
  data(command: FakeCommand, size: number): Uint8Array[] {
    const page = 2 ** (12 + regField(this.cc, Cc.MPS));
    const at = (i: number) => command.dw[i]! + command.dw[i + 1]! * 2 ** 32;
    const first = Math.min(size, page - (at(6) % page));
    const pieces = [this.memory(at(6), first)];
    let left = size - first;
    if (left > page) {
      const list = at(8);
      if (list % 8 !== 0) throw new Error('the PRP list is not aligned');
      const entries = Math.ceil(left / page);
      if ((list % page) + 8 * entries > page) throw new Error('the PRP list crosses a page and is not chained');
      const view = new DataView(this.memory(list, 8 * entries).slice().buffer);
      for (let i = 0; i < entries; i++, left -= page)
        pieces.push(this.#page(Number(view.getBigUint64(8 * i, true)), Math.min(left, page), page));
    } else if (left > 0) {
      pieces.push(this.#page(at(8), left, page));
    }
    return pieces;
  }

  /** End a command. */
  complete(command: FakeCommand, status = 0, result = 0): void {
    const queue = this.#queues.get(command.queue);
    if (queue === undefined) return;
    const entry = new Uint32Array([result, 0, queue.head | (command.queue << 16), command.cid | (queue.phase << 16) | (status << 17)]);
    this.mangle(entry);
    if ((queue.cqTail + 1) % queue.entries === queue.cqHead) throw new Error('the completion queue is full');
    queue.cq.set(entry, 4 * queue.cqTail);
    if (++queue.cqTail === queue.entries) {
      queue.cqTail = 0;
      queue.phase ^= 1;
    }
    this.#interrupt(queue);
  }

  /** Put what was written to the shadows to work, as a controller does that looks at them. */
  lookAtShadows(): void {
    for (const [id, queue] of this.#queues) {
      if (id === 0) continue;
      this.eventIndexes![2 * id] = this.shadow![2 * id]!;
      queue.cqHead = this.shadow![2 * id + 1]!;
      this.#tail(id, queue, this.shadow![2 * id]!);
    }
  }

  event(result: number): void {
    this.complete(this.asyncEvents.shift()!, 0, result);
  }

  #page(iova: number, size: number, page: number): Uint8Array {
    if (iova % page !== 0) throw new Error(`PRP 0x${iova.toString(16)} is not at a page's beginning`);
    return this.memory(iova, size);
  }

  #interrupt(queue: FakeQueue): void {
    if (queue.vector === null || this.interruptsLost) return;
    for (const [index, sinks] of this.sinks) {
      if (index !== 0) sinks[queue.vector % sinks.length]?.signal();
      else if ((this.intms & 1) === 0) sinks[0]?.signal();
    }
  }

  #forget(): void {
    this.#queues.clear();
    this.#pendingCqs.clear();
    this.asyncEvents.length = 0;
    this.shadow = this.eventIndexes = null;
    this.intms = 0;
  }

  #read(offset: number): number {
    if (this.gone) throw new VfioError('ENODEV', 'it is gone');
    if (this.absent) return 0xffff_ffff;
    const { mqes, to, dstrd, nssrs, css, mpsmin, mpsmax, crms } = this.cap;
    switch (offset) {
      case NvmeReg.CAP:
        return mqes | regBits(Cap.CQR, 1) | regBits(Cap.TO, to);
      case NvmeReg.CAP_HIGH:
        return dstrd | (nssrs << 4) | (css << 5) | (mpsmin << 16) | (mpsmax << 20) | (crms << 27);
      case NvmeReg.VS:
        return this.vs;
      case NvmeReg.CC:
        return this.cc;
      case NvmeReg.CSTS:
        return this.lazy ? this.csts & ~1 : this.csts;
      case NvmeReg.CRTO:
        if (crms === 0) throw new Error('CRTO was read, and is not there');
        return this.crto;
      default:
        return 0;
    }
  }

  #write(offset: number, value: number) {
    if (this.gone) throw new VfioError('ENODEV', 'it is gone');
    switch (offset) {
      case NvmeReg.CC:
        return this.#configure(value);
      case NvmeReg.INTMS:
        this.intms |= value;
        return;
      case NvmeReg.INTMC:
        this.intms &= ~value;
        for (const queue of this.#queues.values()) if (queue.cqHead !== queue.cqTail) this.#interrupt(queue);
        return;
      case NvmeReg.NSSR:
        if (value === NSSR_VALUE) this.reset();
        return;
      case NvmeReg.AQA:
        this.#aqa = value;
        return;
      case NvmeReg.ASQ:
      case NvmeReg.ASQ_HIGH:
        this.#asq[(offset - NvmeReg.ASQ) / 4] = value;
        return;
      case NvmeReg.ACQ:
      case NvmeReg.ACQ_HIGH:
        this.#acq[(offset - NvmeReg.ACQ) / 4] = value;
        return;
      default:
        this.#doorbell(offset, value);
    }
  }

  #configure(value: number): void {
    const was = regField(this.cc, Cc.EN);
    this.cc = value;
    if (regField(value, Cc.SHN) !== 0 && !this.neverShutDown) this.csts = (this.csts & ~regBits(Csts.SHST, 3)) | regBits(Csts.SHST, 2);
    const enabled = regField(value, Cc.EN);
    if (enabled === 1 && was === 0) {
      if ((this.csts & 1) !== 0) throw new Error('enabled while RDY is 1');
      this.enables++;
      if (this.failsOnEnable) this.csts |= regBits(Csts.CFS, 1);
      if (this.neverReady) return;
      this.csts = (this.csts & ~regBits(Csts.SHST, 3)) | 1;
      const entries = regField(this.#aqa, { msb: 11, lsb: 0, access: 'rw', reset: 0 }) + 1;
      this.#queues.set(
        0,
        this.#queue(this.#asq[0]! + this.#asq[1]! * 2 ** 32, this.#ring(this.#acq[0]! + this.#acq[1]! * 2 ** 32, 16 * entries), entries, 0),
      );
    } else if (enabled === 0 && was === 1) {
      this.#forget();
      if (!this.neverDisabled) this.csts = 0;
    }
  }

  #ring(iova: number, size: number): Uint32Array {
    if (iova % 2 ** (12 + regField(this.cc, Cc.MPS)) !== 0) throw new Error('a queue does not begin at a page');
    const bytes = this.memory(iova, size);
    return new Uint32Array(bytes.buffer, bytes.byteOffset, size / 4);
  }

  #queue(sq: number, cq: Uint32Array, entries: number, vector: number | null): FakeQueue {
    return { sq: this.#ring(sq, 64 * entries), cq, entries, vector, head: 0, tail: 0, cqTail: 0, cqHead: 0, phase: 1 };
  }

  #doorbell(offset: number, value: number): void {
    const stride = 4 << this.cap.dstrd;
    const index = (offset - NvmeReg.DOORBELLS) / stride;
    const queue = this.#queues.get(index >> 1);
    if (queue === undefined || !Number.isInteger(index)) throw new Error(`a doorbell at 0x${offset.toString(16)}, of no queue`);
    if (value >= queue.entries) throw new Error(`doorbell ${value} of a queue of ${queue.entries}`);
    this.doorbells.push([offset, value]);
    if ((index & 1) === 0) this.#tail(index >> 1, queue, value);
    else {
      if (value === queue.cqHead) throw new Error('the same head was written again');
      queue.cqHead = value;
    }
  }

  #tail(id: number, queue: FakeQueue, tail: number): void {
    while (queue.head !== tail) {
      const dw = queue.sq.slice(16 * queue.head, 16 * queue.head + 16);
      queue.head = (queue.head + 1) % queue.entries;
      const command = { queue: id, cid: dw[0]! >>> 16, opcode: dw[0]! & 0xff, nsid: dw[1]!, dw };
      this.commands.push(command);
      const scripted = this.script(command);
      if (scripted === 'hold') this.held.push(command);
      else if (scripted !== undefined) this.complete(command, scripted);
      else if (id === 0) this.#admin(command);
      else this.complete(command, runIo(this, command));
      if (this.#queues.get(id) !== queue) return;
    }
  }

  #admin(command: FakeCommand) {
    const { opcode, dw } = command;
    const id = dw[10]! & 0xffff;
    const entries = (dw[10]! >>> 16) + 1;
    const iova = dw[6]! + dw[7]! * 2 ** 32;
    switch (opcode) {
      case AdminOpcode.IDENTIFY:
        return this.complete(command, this.#identify(command));
      case AdminOpcode.CREATE_CQ:
        if (entries > this.cap.mqes + 1) return this.complete(command, 0x102);
        this.#pendingCqs.set(id, { cq: this.#ring(iova, 16 * entries), entries, vector: (dw[11]! & 2) === 0 ? null : dw[11]! >>> 16 });
        return this.complete(command);
      case AdminOpcode.CREATE_SQ: {
        const { cq, vector } = this.#pendingCqs.get(dw[11]! >>> 16)!;
        this.#queues.set(id, this.#queue(iova, cq, entries, vector));
        return this.complete(command);
      }
      case AdminOpcode.DELETE_SQ:
        this.#queues.delete(id);
        return this.complete(command);
      case AdminOpcode.SET_FEATURES:
        this.features.set(dw[10]! & 0xff, dw[11]!);
        if ((dw[10]! & 0xff) !== FeatureId.NUMBER_OF_QUEUES) return this.complete(command);
        return this.complete(command, 0, (this.queuesGranted - 1) * 0x1_0001);
      case AdminOpcode.GET_FEATURES:
        return this.complete(command, 0, this.features.get(dw[10]! & 0xff) ?? 0);
      case AdminOpcode.GET_LOG_PAGE: {
        const size = 4 * (((dw[10]! >>> 16) | (dw[11]! << 16)) + 1);
        for (const piece of this.data(command, size)) piece.fill(dw[10]! & 0xff);
        return this.complete(command);
      }
      case AdminOpcode.ASYNC_EVENT_REQUEST:
        if (this.asyncEvents.length > this.controller.aerl) return this.complete(command, 0x105);
        this.asyncEvents.push(command);
        return;
      case AdminOpcode.ABORT: {
        const at = this.held.findIndex((c) => c.queue === (dw[10]! & 0xffff) && c.cid === dw[10]! >>> 16);
        if (at < 0) return this.complete(command, 0, 1);
        this.complete(this.held.splice(at, 1)[0]!, 0x007);
        return this.complete(command);
      }
      case AdminOpcode.DOORBELL_BUFFER_CONFIG: {
        const page = (from: number) => this.#ring(dw[from]! + dw[from + 1]! * 2 ** 32, 4096);
        const [shadow, events] = [page(6), page(8)];
        this.shadow = new Int32Array(shadow.buffer, shadow.byteOffset, 1024);
        this.eventIndexes = new Int32Array(events.buffer, events.byteOffset, 1024);
        return this.complete(command);
      }
      default:
        return this.complete(command, [AdminOpcode.DELETE_CQ, AdminOpcode.FORMAT_NVM].includes(opcode as 4) ? 0 : 0x001);
    }
  }

  #identify(command: FakeCommand): number {
    const out = new Uint8Array(4096);
    const view = new DataView(out.buffer);
    const disk = this.disks.get(command.nsid);
    switch (command.dw[10]! & 0xff) {
      case Cns.CONTROLLER:
        IdentifyController.encode(view, this.controller);
        break;
      case Cns.NAMESPACE:
        if (disk === undefined) break;
        IdentifyNamespace.encode(view, {
          nsze: BigInt(disk.data.length / 2 ** disk.lbads),
          ...(disk.flbas === undefined ? {} : { flbas: disk.flbas, nlbaf: 63 }),
          lbaf: [disk.ms | (disk.lbads << 16), ...Array<number>(15).fill(0)],
        });
        break;
      case Cns.ACTIVE_NAMESPACES:
        if (this.vs < 0x1_0100) return 0x002;
        [...this.disks.keys()]
          .sort((a, b) => a - b)
          .filter((id) => id > command.nsid)
          .slice(0, 1024)
          .forEach((id, i) => void view.setUint32(4 * i, id, true));
        break;
      default:
        return 0x002;
    }
    let at = 0;
    for (const piece of this.data(command, 4096)) {
      piece.set(out.subarray(at, at + piece.length));
      at += piece.length;
    }
    return 0;
  }
}
