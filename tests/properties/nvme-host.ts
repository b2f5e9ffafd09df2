/**
 * For tests: a host that uses a whole controller through its registers, knows the contents that
 * each block may hold, and can misbehave. Every stretch of 4 KiB of a disk is written as one value.
 * So a set of values describes its allowed contents: the last value written, and those of commands
 * whose end was lost.
 */
import { expect } from 'vitest';
import {
  AdminOpcode,
  cqDoorbell,
  DsmAttribute,
  FormatCdw10,
  NSSR_VALUE,
  NvmeReg,
  NvmOpcode,
  regBits,
  sqDoorbell,
} from '../../src/abi/nvme.ts';
import { Status } from '../../src/abi/nvme-status.ts';
import { type CommandFields, ControllerUnderTest } from '../kit/nvme/controller-under-test.ts';
import { PagedHost, settle } from '../kit/nvme/paged-host.ts';
import type { TestStorage } from '../kit/nvme/test-storage.ts';

const BASE = 0x10_0000;
const PAGE = 4096;
/** Stretches of each disk. */
export const ZONES = 64;
export const PAIRS = 2;
const SQ_SIZE = 8;
const CQ_SIZE = 4;
const ADMIN_SIZE = 16;
/** Data of commands: 8 pages each, the last for PRP lists. Behind them lie unused pages. */
const SLOTS = 12;
const FIRST_SLOT = BASE + 32 * PAGE;
const NOWHERE = BASE + 200 * PAGE;

export type IoKind = 'read' | 'write' | 'zero' | 'deallocate' | 'compare' | 'verify' | 'flush';

interface UnderWay {
  readonly queue: number;
  readonly kind: IoKind | 'format' | 'other';
  readonly nsid: number;
  readonly zone: number;
  readonly zones: number;
  readonly value: number;
  /** Of its data; -1: none. */
  readonly slot: number;
  readonly start: number;
  /** Null: any status. */
  readonly status: number | null;
}

export class NvmeHost {
  readonly host: PagedHost;
  readonly c: ControllerUnderTest;
  readonly storages: readonly TestStorage[];
  /** By namespace and stretch: the allowed values. */
  readonly may: Set<number>[][];
  readonly blockSizes = [512, 512];
  /** From a misbehaviour to the next reset: commands may never end, or be done twice. */
  wild = false;
  wildSteps = 0;
  ended = 0;
  readonly #underWay = new Map<number, UnderWay>();
  readonly #freeSlots = Array.from({ length: SLOTS }, (_, i) => i);
  #shadow = 0;
  #cid = 0;
  #value = 0;

  constructor(storages: readonly TestStorage[], mode: 'intx' | 'msi' | 'msix') {
    this.host = new PagedHost(mode);
    this.storages = storages;
    this.may = storages.map(() => Array.from({ length: ZONES }, () => new Set([0])));
    this.c = new ControllerUnderTest({
      host: this.host,
      queues: PAIRS,
      queueEntries: 64,
      mdts: 3,
      namespaces: storages.map((storage, i) => (i === 0 ? { storage } : { storage, limits: { latencyMs: 2, iops: 5000 } })),
    });
  }

  /** A reset of the given kind, and a new life. It must work after anything. */
  async begin(how: 'controller' | 'subsystem' | 'function' | 'shutdown' = 'controller'): Promise<void> {
    const { c, host } = this;
    if (how === 'shutdown') {
      c.w(NvmeReg.CC, c.r(NvmeReg.CC) | (1 << 14));
      await this.finish(false);
      expect(c.csts.shst).toBe(2);
    }
    if (how === 'subsystem') c.w(NvmeReg.NSSR, NSSR_VALUE);
    else if (how === 'function') c.model.reset();
    else c.w(NvmeReg.CC, 0);
    this.#shadow = 0;
    for (const lost of this.#underWay.values()) this.#lose(lost);
    this.#underWay.clear();
    this.#freeSlots.splice(0, SLOTS, ...Array.from({ length: SLOTS }, (_, i) => i));
    host.paged.hold = false;
    host.make('direct');
    c.pairs.clear();
    await this.finish(false);
    expect(c.csts).toMatchObject({ rdy: 0, cfs: 0, shst: 0 });
    expect(host.asserted).toBe(false);
    c.reuse();
    c.enable(ADMIN_SIZE);
    expect(c.csts).toMatchObject({ rdy: 1, cfs: 0 });
    for (let id = 1; id <= PAIRS; id++) expect(c.createPair(id, SQ_SIZE, { cqSize: CQ_SIZE, vector: 0 })).toEqual([0, 0]);
    const page = c.page();
    for (const nsid of [1, 2]) {
      expect(c.admin({ opcode: AdminOpcode.IDENTIFY, nsid, prp1: page }).code).toBe(0);
      this.blockSizes[nsid - 1] = (c.bytes(page, PAGE)[26]! & 15) === 0 ? 512 : PAGE;
    }
    this.wild = false;
  }

  /**
   * An I/O command of stretches [zone, + zones), valid unless `change` breaks it.
   *
   * @param offset of the first PRP, in dwords
   */
  io(
    queue: number,
    kind: IoKind,
    nsid: number,
    zone: number,
    zones: number,
    offset: number,
    change?: { fields: Partial<CommandFields>; status: number | null },
  ): boolean {
    const writes = kind === 'write' || kind === 'zero' || kind === 'deallocate';
    const overlaps = (u: UnderWay) => u.nsid === nsid && u.zone < zone + zones && zone < u.zone + u.zones;
    const others = [...this.#underWay.values()];
    if (
      zone + zones > ZONES ||
      (this.wild && writes) ||
      others.filter((u) => u.queue === queue).length >= SQ_SIZE - 1 ||
      others.some((u) => overlaps(u) || u.kind === 'format')
    )
      return false;
    const slot = this.#freeSlots.pop();
    if (slot === undefined) return false;
    const { c } = this;
    const at = FIRST_SLOT + slot * 8 * PAGE;
    // The one range of a deallocation lies in one page.
    const start = at + 4 * (kind === 'deallocate' ? Math.min(offset, 1020) : offset);
    const bytes = zones * PAGE;
    const blockSize = this.blockSizes[nsid - 1]!;
    // An unsupported opcode as the first byte: data that the controller takes for a command does
    // nothing.
    const value = ((++this.#value << 8) | 0xee) >>> 0;
    const words = new Uint32Array(this.host.memory.buffer, start - BASE, bytes / 4);
    if (kind === 'write') words.fill(value);
    let status: number | null = Status.SUCCESS;
    if (kind === 'compare') {
      const may = this.may[nsid - 1]!;
      for (let i = 0; i < zones; i++) words.fill([...may[zone + i]!][0]!, i * 1024, (i + 1) * 1024);
      if (may.slice(zone, zone + zones).some((set) => set.size > 1)) status = null;
    }
    if (kind === 'deallocate') {
      words.fill(0, 0, 4);
      words[1] = bytes / blockSize;
      words[2] = (zone * PAGE) / blockSize;
    }
    const pages: number[] = [];
    for (let page = at + PAGE; page < start + bytes; page += PAGE) pages.push(page);
    const list = at + 7 * PAGE;
    if (pages.length > 1) for (const [i, page] of pages.entries()) this.c.view.setBigUint64(list - BASE + 8 * i, BigInt(page), true);
    const opcode = {
      read: NvmOpcode.READ,
      write: NvmOpcode.WRITE,
      zero: NvmOpcode.WRITE_ZEROES,
      deallocate: NvmOpcode.DATASET_MANAGEMENT,
      compare: NvmOpcode.COMPARE,
      verify: NvmOpcode.VERIFY,
      flush: NvmOpcode.FLUSH,
    }[kind];
    const lba =
      kind === 'deallocate'
        ? { cdw10: 0, cdw11: DsmAttribute.DEALLOCATE }
        : { cdw10: (zone * PAGE) / blockSize, cdw12: bytes / blockSize - 1 };
    const prp2 = pages.length > 1 ? list : (pages[0] ?? 0);
    const faults = (from: number, to: number, written: boolean) => {
      for (let page = from; page < to; page += PAGE) {
        const is = this.host.paged.kinds[Math.floor((page - BASE) / PAGE)];
        if (is === 'none' || (is === 'read-only' && written)) return true;
      }
      return false;
    };
    const moves = kind === 'read' || kind === 'write' || kind === 'compare' || kind === 'deallocate';
    const last = kind === 'deallocate' ? start + 16 : start + bytes;
    const listed = kind !== 'deallocate' && pages.length > 1 && faults(list, list + PAGE, false);
    if (moves && (listed || faults(at, last, kind === 'read'))) status = Status.DATA_TRANSFER_ERROR;
    if (change !== undefined) status = change.status;
    const cid = this.#add({ queue, kind, nsid, zone, zones, value: kind === 'write' ? value : 0, slot, start, status });
    c.put(queue, { opcode, cid, nsid, prp1: start, prp2, ...lba, ...change?.fields });
    this.ring(queue);
    return true;
  }

  /** An admin command. @param status null: any end, or none */
  admin(fields: CommandFields, status: number | null = Status.SUCCESS): void {
    if ([...this.#underWay.values()].filter((u) => u.queue === 0).length >= ADMIN_SIZE - 1) return;
    const cid = this.#add({ queue: 0, kind: 'other', nsid: 0, zone: 0, zones: 0, value: 0, slot: -1, start: 0, status });
    this.c.put(0, { ...fields, cid });
    this.ring(0);
  }

  async format(nsid: number, lbaf: number): Promise<void> {
    await this.finish();
    if (this.wild) return;
    const cid = this.#add({
      queue: 0,
      kind: 'format',
      nsid,
      zone: 0,
      zones: ZONES,
      value: 0,
      slot: -1,
      start: lbaf,
      status: Status.SUCCESS,
    });
    this.c.put(0, { opcode: AdminOpcode.FORMAT_NVM, nsid, cid, cdw10: regBits(FormatCdw10.LBAF, lbaf) });
    this.ring(0);
  }

  /** Doorbell Buffer Config; the host uses the shadows from then on. */
  async shadows(): Promise<void> {
    await this.finish();
    if (this.wild || this.#shadow !== 0) return;
    const at = BASE + 20 * PAGE;
    this.c.bytes(at, 2 * PAGE).fill(0);
    const cid = this.#add({ queue: 0, kind: 'other', nsid: 0, zone: 0, zones: 0, value: 0, slot: -1, start: 0, status: 0 });
    this.c.put(0, { opcode: AdminOpcode.DOORBELL_BUFFER_CONFIG, cid, prp1: at, prp2: at + PAGE });
    this.ring(0);
    await this.finish();
    this.#shadow = at;
  }

  /** Abort: a command that has not begun ends without an effect. */
  abort(queue: number, back: number): void {
    const cid = this.#cid - (back % 4);
    const command = this.#underWay.get(cid);
    if (command === undefined || command.queue !== queue) return;
    this.#underWay.set(cid, { ...command, status: null });
    this.admin({ opcode: AdminOpcode.ABORT, cdw10: (cid << 16) | queue });
  }

  /**
   * From here on the controller may do anything but harm: old commands in the rings are made
   * harmless first.
   */
  goWild(): void {
    this.wild = true;
    this.wildSteps = 0;
    for (const { sq, size } of this.c.pairs.values()) this.c.bytes(sq, size * 64).fill(0);
  }

  lie(dword: number, value: number): void {
    if (this.#shadow === 0) return;
    this.goWild();
    this.c.setU32(this.#shadow + 4 * (dword % 8), value);
  }

  ring(queue: number): void {
    const { tail } = this.c.pairs.get(queue)!;
    if (this.#mustRing(2 * queue, tail)) this.c.w(sqDoorbell(queue, 0), tail);
  }

  /**
   * 7.13, as Linux does it: the admin queue has no shadows; the others' registers are written where
   * a value passes the event index.
   */
  #mustRing(doorbell: number, value: number): boolean {
    if (this.#shadow === 0 || doorbell < 2) return true;
    const old = this.c.u32(this.#shadow + 4 * doorbell);
    this.c.setU32(this.#shadow + 4 * doorbell, value);
    const event = this.c.u32(this.#shadow + PAGE + 4 * doorbell);
    return ((value - event - 1) & 0xffff) < ((value - old) & 0xffff);
  }

  /** Take the completions that are there. */
  look(): number {
    let seen = 0;
    for (const [queue, pair] of this.c.pairs) {
      const completions = this.c.completions(queue, false);
      for (const { cid, code } of completions) this.#end(cid, code);
      seen += completions.length;
      if (completions.length === 0) continue;
      if (this.#mustRing(2 * queue + 1, pair.head)) this.c.w(cqDoorbell(queue, 0), pair.head);
    }
    return seen;
  }

  /**
   * Storage, memory, time and the host take turns until nothing more happens.
   *
   * @param all whether all commands must have ended then
   */
  async finish(all = true): Promise<void> {
    for (let idle = 0; idle < 4; ) {
      const seen = this.look();
      const { held } = this.host.paged;
      this.host.paged.answer();
      let ended = 0;
      for (const storage of this.storages) {
        ended += storage.underWay.length;
        while (storage.underWay.length > 0) storage.underWay[(this.#cid + ended) % storage.underWay.length]!.end();
      }
      this.host.clock.advance(1);
      await settle(20);
      idle = seen + held + ended === 0 ? idle + 1 : 0;
    }
    if (!all || this.wild) return;
    expect(this.c.csts).toMatchObject({ rdy: 1, cfs: 0 });
    expect([...this.#underWay.values()].filter((u) => u.status !== null)).toEqual([]);
  }

  /** Every stretch of the disks holds an allowed value. */
  check(): void {
    for (const [i, storage] of this.storages.entries()) {
      const words = new Uint32Array(storage.bytes.buffer);
      for (let zone = 0; zone < ZONES; zone++) this.#checkZone(i + 1, zone, words.subarray(zone * 1024, (zone + 1) * 1024));
    }
  }

  /** Drop the records of a test. */
  forget(): void {
    this.host.logged.length = 0;
    this.host.irqEvents.length = 0;
    this.host.held.length = 0;
  }

  nowhere(page: number): number {
    return NOWHERE + (page % 50) * PAGE;
  }

  /** The kind of memory behind the pages of a command's data. */
  slotPages(kind: 'direct' | 'remote' | 'none' | 'read-only', page: number, count: number): void {
    // Commands under way have their expectations.
    if (this.#freeSlots.length < SLOTS) return;
    this.host.make(kind, FIRST_SLOT + (page % (SLOTS * 8)) * PAGE, Math.min(count, SLOTS * 8 - (page % (SLOTS * 8))));
  }

  #checkZone(nsid: number, zone: number, words: Uint32Array): void {
    const value = words[0]!;
    expect([...this.may[nsid - 1]![zone]!]).toContain(value);
    expect(words.every((word) => word === value)).toBe(true);
  }

  #add(command: UnderWay): number {
    this.#cid = (this.#cid % 0xfff0) + 1;
    this.#underWay.set(this.#cid, command);
    return this.#cid;
  }

  /** It may have been done, or still be done later. */
  #lose({ kind, nsid, zone, zones, value }: UnderWay): void {
    if (kind !== 'write' && kind !== 'zero' && kind !== 'deallocate' && kind !== 'format') return;
    for (let i = zone; i < zone + zones; i++) this.may[nsid - 1]![i]!.add(value);
  }

  #end(cid: number, code: number): void {
    const command = this.#underWay.get(cid);
    if (command === undefined) {
      expect([cid, this.wild]).toEqual([cid, true]);
      return;
    }
    const { kind, nsid, zone, zones, value, slot, start, status } = command;
    this.#underWay.delete(cid);
    this.ended++;
    if (slot >= 0) this.#freeSlots.push(slot);
    if (this.wild) {
      this.#lose(command);
      return;
    }
    if (status !== null) expect([kind, zone, zones, code]).toEqual([kind, zone, zones, status]);
    if (code !== Status.SUCCESS) return;
    const may = this.may[nsid - 1];
    for (let i = 0; i < zones; i++) {
      if (kind === 'write' || kind === 'zero' || kind === 'deallocate' || kind === 'format') may![zone + i] = new Set([value]);
      if (kind === 'read') this.#checkZone(nsid, zone + i, new Uint32Array(this.host.memory.buffer, start - BASE + i * PAGE, 1024));
    }
    if (kind === 'format') this.blockSizes[nsid - 1] = start === 0 ? 512 : PAGE;
  }
}
