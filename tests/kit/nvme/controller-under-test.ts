/**
 * A host that drives a controller through its registers and memory, for tests: admin queue at its
 * base, data pages behind. It knows nothing of the controller's inside.
 */
import type { Model } from '../../../src/abi/device-host.ts';
import { AdminOpcode, Cc, CQES, Csts, cqDoorbell, NvmeReg, regBits, regField, SQES, sqDoorbell } from '../../../src/abi/nvme.ts';
import { StatusBit } from '../../../src/abi/nvme-status.ts';
import type { RegisterAccess } from '../../../src/base/register-access.ts';
import { barAccess } from '../../../src/models/kit/test-events.ts';
import { TestHost } from '../../../src/models/kit/test-host.ts';
import type { NamespaceOptions } from '../../../src/models/nvme/namespace.ts';
import { type NvmeOptions, nvme } from '../../../src/models/nvme/nvme.ts';
import { MemoryStorage } from '../../../src/models/storage/memory-storage.ts';
import type { DeviceModel } from '../../../src/pci/declaration.ts';

const BASE = 0x10_0000;
const PAGE = 4096;

/** One completion as the host reads it. */
export interface Completion {
  readonly cid: number;
  readonly sqid: number;
  readonly sqhd: number;
  /** The code alone: SCT and SC. */
  readonly code: number;
  readonly more: boolean;
  readonly doNotRetry: boolean;
  readonly result: number;
}

/** The fields of a command; all others are 0. */
export interface CommandFields {
  readonly opcode: number;
  readonly cid?: number;
  readonly flags?: number;
  readonly nsid?: number;
  readonly prp1?: number;
  readonly prp2?: number;
  readonly cdw10?: number;
  readonly cdw11?: number;
  readonly cdw12?: number;
  readonly cdw13?: number;
}

interface QueuePair {
  readonly sq: number;
  readonly cq: number;
  readonly size: number;
  readonly cqSize: number;
  tail: number;
  head: number;
  phase: number;
}

export class ControllerUnderTest {
  readonly host: TestHost;
  readonly device: DeviceModel;
  readonly model: Model;
  readonly view: DataView;
  readonly pairs = new Map<number, QueuePair>();
  #page = 0;
  #cid = 1;

  constructor(options: Partial<NvmeOptions> & { host?: TestHost; mode?: 'intx' | 'msi' | 'msix' } = {}) {
    const { host, mode, ...rest } = options;
    this.host = host ?? new TestHost({ base: BigInt(BASE), memorySize: 256 * PAGE, mode: mode ?? 'msix', vectors: 65 });
    this.device = nvme({ serial: 'TEST', namespaces: [{ storage: new MemoryStorage(2 ** 20) }] as NamespaceOptions[], ...rest });
    // A given host may have a controller already, which this one shares memory with.
    this.model = host === undefined ? this.host.plug(this.device) : this.device.create(host);
    this.view = new DataView(this.host.memory.buffer);
  }

  /** BAR 0, whose accesses are events. */
  get #bar(): RegisterAccess {
    return barAccess(this.model, 0, this.host.events);
  }

  r(register: number): number {
    return this.#bar.read32(register);
  }

  w(register: number, value: number): void {
    this.#bar.write32(register, value >>> 0);
  }

  get csts(): { rdy: number; cfs: number; shst: number; nssro: number } {
    const value = this.r(NvmeReg.CSTS);
    return {
      rdy: regField(value, Csts.RDY),
      cfs: regField(value, Csts.CFS),
      shst: regField(value, Csts.SHST),
      nssro: regField(value, Csts.NSSRO),
    };
  }

  /** The I/O address of a zeroed page that is not in use. */
  page(count = 1): number {
    const iova = BASE + this.#page * PAGE;
    this.#page += count;
    this.bytes(iova, count * PAGE).fill(0);
    return iova;
  }

  /** Later pages are taken from the beginning again. */
  reuse(): void {
    this.#page = 0;
  }

  bytes(iova: number, size: number): Uint8Array {
    return this.host.memory.subarray(iova - BASE, iova - BASE + size);
  }

  u32(iova: number): number {
    return this.view.getUint32(iova - BASE, true);
  }

  setU32(iova: number, value: number): void {
    this.view.setUint32(iova - BASE, value, true);
  }

  /** Registers of the admin queue, and CC.EN. @param cc  other bits of CC */
  enable(size = 32, cc = 0): void {
    const pair = {
      sq: this.page(Math.ceil(size / 64)),
      cq: this.page(Math.ceil(size / 256)),
      size,
      cqSize: size,
      tail: 0,
      head: 0,
      phase: 1,
    };
    this.pairs.clear();
    this.pairs.set(0, pair);
    this.w(NvmeReg.AQA, ((size - 1) << 16) | (size - 1));
    this.w(NvmeReg.ASQ, pair.sq);
    this.w(NvmeReg.ASQ_HIGH, 0);
    this.w(NvmeReg.ACQ, pair.cq);
    this.w(NvmeReg.ACQ_HIGH, 0);
    this.w(NvmeReg.CC, regBits(Cc.EN, 1) | regBits(Cc.IOSQES, SQES) | regBits(Cc.IOCQES, CQES) | cc);
  }

  /** I/O queue pair `id`, whose vector is its id. Returns the statuses of both commands. */
  createPair(id: number, size = 16, options: { cqSize?: number; interrupts?: boolean; vector?: number } = {}): number[] {
    const { cqSize = size, interrupts = true, vector = id } = options;
    const pair = { sq: this.page(Math.ceil(size / 64)), cq: this.page(Math.ceil(cqSize / 256)), size, cqSize, tail: 0, head: 0, phase: 1 };
    const ien = interrupts ? 2 : 0;
    const cq = this.admin({
      opcode: AdminOpcode.CREATE_CQ,
      prp1: pair.cq,
      cdw10: ((cqSize - 1) << 16) | id,
      cdw11: (vector << 16) | ien | 1,
    });
    const sq = this.admin({ opcode: AdminOpcode.CREATE_SQ, prp1: pair.sq, cdw10: ((size - 1) << 16) | id, cdw11: (id << 16) | 1 });
    this.pairs.set(id, pair);
    return [cq.code, sq.code];
  }

  /** Writes a command to the queue without ringing; returns its identifier. */
  put(queue: number, fields: CommandFields): number {
    const pair = this.pairs.get(queue)!;
    const at = pair.sq + pair.tail * 64;
    const cid = fields.cid ?? this.#cid++ & 0xffff;
    this.bytes(at, 64).fill(0);
    this.setU32(at, ((cid << 16) | ((fields.flags ?? 0) << 8) | fields.opcode) >>> 0);
    this.setU32(at + 4, fields.nsid ?? 0);
    this.view.setBigUint64(at - BASE + 24, BigInt(fields.prp1 ?? 0), true);
    this.view.setBigUint64(at - BASE + 32, BigInt(fields.prp2 ?? 0), true);
    for (const [i, value] of [fields.cdw10, fields.cdw11, fields.cdw12, fields.cdw13].entries()) this.setU32(at + 40 + 4 * i, value ?? 0);
    pair.tail = (pair.tail + 1) % pair.size;
    return cid;
  }

  ringTail(queue: number): void {
    this.w(sqDoorbell(queue, 0), this.pairs.get(queue)!.tail);
  }

  submit(queue: number, fields: CommandFields): number {
    const cid = this.put(queue, fields);
    this.ringTail(queue);
    return cid;
  }

  /**
   * All completions that are there, consumed. The head doorbell is rung once.
   *
   * @param ring false: no doorbell is rung
   */
  completions(queue: number, ring = true): Completion[] {
    const pair = this.pairs.get(queue)!;
    const found: Completion[] = [];
    for (;;) {
      const at = pair.cq + pair.head * 16;
      const dw3 = this.u32(at + 12);
      if (((dw3 >>> 16) & 1) !== pair.phase || found.length === pair.cqSize) break;
      const status = dw3 >>> 17;
      const dw2 = this.u32(at + 8);
      found.push({
        cid: dw3 & 0xffff,
        sqid: dw2 >>> 16,
        sqhd: dw2 & 0xffff,
        code: status & StatusBit.CODE,
        more: (status & StatusBit.MORE) !== 0,
        doNotRetry: (status & StatusBit.DO_NOT_RETRY) !== 0,
        result: this.u32(at),
      });
      pair.head++;
      if (pair.head === pair.cqSize) {
        pair.head = 0;
        pair.phase ^= 1;
      }
    }
    if (ring && found.length > 0) this.ringHead(queue);
    return found;
  }

  ringHead(queue: number): void {
    this.w(cqDoorbell(queue, 0), this.pairs.get(queue)!.head);
  }

  /** A command that ends at once. @throws Error when it does not, or other commands end too */
  run(queue: number, fields: CommandFields): Completion {
    const cid = this.submit(queue, fields);
    const ended = this.completions(queue);
    if (ended.length !== 1 || ended[0]!.cid !== cid) throw new Error(`command ${cid} ended as ${JSON.stringify(ended)}`);
    return ended[0]!;
  }

  admin(fields: CommandFields): Completion {
    return this.run(0, fields);
  }
}
