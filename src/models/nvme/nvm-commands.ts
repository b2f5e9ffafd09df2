/**
 * The NVM command set (NVMe 1.4, 6): executes the commands of I/O queues. Where storage and memory
 * allow it, reads and writes copy directly between them; all other commands take the slow path.
 *
 * Longer than 400 lines because the commands share one rule of order: none may pass a command that
 * waits for a buffer, a limit or an overlapping range.
 */
import type { DeviceHost } from '../../abi/device-host.ts';
import { DsmAttribute, NSID_ALL, NvmCdw12, NvmOpcode } from '../../abi/nvme.ts';
import { Oncs, Sgls } from '../../abi/nvme-identify.ts';
import { refused, Status } from '../../abi/nvme-status.ts';
import { CommandEffects } from '../../abi/nvme-structs.ts';
import { WOULD_BLOCK } from '../../abi/storage.ts';
import { VfioError } from '../../base/errno.ts';
import { bytesOf, limitedBytes, offsetOf, rangeStatus } from './block-range.ts';
import { BouncePool } from './bounce-pool.ts';
import type { Command, CommandSet, Complete } from './command.ts';
import { CommandEvents } from './command-events.ts';
import { DataPointer, Walk } from './data-pointer.ts';
import { DirectCopy, NO_VIEW } from './direct-copy.ts';
import { type FastCommands, FastPath, type FastPathPort } from './fast-path.ts';
import { IoCounters, type NvmCounters } from './io-counters.ts';
import { type LimitedCommand, Limiter } from './limiter.ts';
import type { Namespace } from './namespace.ts';
import type { Namespaces } from './namespaces.ts';
import { OperationKind } from './operation.ts';
import { PIECES_MAX } from './pieces.ts';
import { SlowPath } from './slow-path.ts';
import { readStatus, writeStatus } from './storage-status.ts';
import type { SubmissionQueue } from './submission-queue.ts';
import { WaitingCommands } from './waiting-commands.ts';

/** Identify Controller, ONCS: what is offered beside Flush, Read, Write. */
export const NVM_ONCS = Oncs.COMPARE | Oncs.DATASET_MANAGEMENT | Oncs.WRITE_ZEROES | Oncs.VERIFY;
/** Identify Controller, SGLS. */
export const NVM_SGLS = Sgls.BYTE_ALIGNED | Sgls.BIT_BUCKET;
/** Identify Controller, AWUN and AWUPF, zero-based: one block. */
export const NVM_ATOMIC_WRITE_UNIT = 0;

export interface NvmCommandsOptions {
  /** MDTS in bytes: a power of two from 4096 to 32 MiB. */
  readonly maxTransferBytes: number;
  /**
   * Bytes of all bounce buffers together: at least twice `maxTransferBytes`. Default: 16 MiB.
   */
  readonly bounceBytes?: number;
  /** Commands on the slow path at once. Default: 1024. */
  readonly operations?: number;
}

/** Commands of a controller that stands still. */
export interface SuspendedCommands {
  /** They have done nothing yet, or nothing that doing them again would show. */
  readonly again: readonly Command[];
  readonly limited: readonly LimitedCommand[];
}

/** False: it has to wait for others to end; nothing has happened. */
type Handler = (command: Command, namespace: Namespace) => boolean;

/** CDW12 of Write: DTYPE, a directive; none is offered (9). */
const DTYPE = 0x00f0_0000;

export class NvmCommands implements CommandSet, FastCommands, Disposable {
  /**
   * Feature 06h, WCE. False: written data is on the disk when its command ends (5.21.1.6).
   */
  writeCache = true;
  readonly #namespaces: Namespaces;
  readonly #complete: Complete;
  readonly #maxBytes: number;
  readonly #pool: BouncePool;
  readonly #pointer: DataPointer;
  readonly #direct: DirectCopy;
  readonly #fast: FastPath;
  readonly #slow: SlowPath;
  readonly #handlers: (Handler | undefined)[] = new Array(256).fill(undefined);
  /** By NSID - 1; null where there are no limits. */
  readonly #limiters: (Limiter | null)[];
  readonly #waiting = new WaitingCommands();
  /** Executes a command that has waited. */
  readonly #again: (command: Command) => boolean;
  #retrying = false;
  #submitting = false;
  #life = 0;
  #pending = 0;
  readonly #counters = new IoCounters();

  /** @throws VfioError EINVAL for options out of range */
  constructor(host: DeviceHost, namespaces: Namespaces, complete: Complete, options: NvmCommandsOptions, events = new CommandEvents(host)) {
    const { maxTransferBytes: max, bounceBytes = Math.max(16 * 2 ** 20, 2 * max), operations = 1024 } = options;
    if (!Number.isInteger(Math.log2(max)) || max < 4096 || max > (PIECES_MAX / 2) * 4096) {
      throw new VfioError('EINVAL', `transfers of up to ${max} bytes; it must be a power of two from 4096 to ${(PIECES_MAX / 2) * 4096}`);
    }
    if (!(bounceBytes >= 2 * max)) throw new VfioError('EINVAL', `${bounceBytes} bytes of bounce buffers; a Compare may need ${2 * max}`);
    if (!Number.isInteger(operations) || operations < 1)
      throw new VfioError('EINVAL', `${operations} operations at once; it must be 1 or more`);
    this.#namespaces = namespaces;
    this.#complete = complete;
    this.#maxBytes = max;
    this.#pool = new BouncePool(bounceBytes);
    this.#pointer = new DataPointer(host.dma);
    this.#direct = new DirectCopy(host);
    this.#fast = new FastPath(host, this.#forFastPath());
    this.#slow = new SlowPath(host, this.#pointer, this.#pool, events, operations, {
      finish: (command, _, bytes, status) => this.#finish(command, bytes, status),
      kick: () => this.#kick(),
    });
    namespaces.onOperation = (_, tag, result) => this.#slow.ended(tag, result);
    const execute = (command: Command) => this.#execute(command);
    this.#again = (command) => events.within(command, execute);
    const run = (command: Command) => this.#runLater(command);
    const released = () => this.submit();
    this.#limiters = namespaces.list.map(({ limits }) => (limits === null ? null : new Limiter(limits, host.clock, run, released)));
    this.#handlers[NvmOpcode.WRITE] = (command, namespace) => this.#write(command, namespace);
    this.#handlers[NvmOpcode.READ] = (command, namespace) => this.#read(command, namespace);
    this.#handlers[NvmOpcode.COMPARE] = (command, namespace) => this.#compare(command, namespace);
    this.#handlers[NvmOpcode.WRITE_ZEROES] = (command, namespace) => this.#writeZeroes(command, namespace);
    this.#handlers[NvmOpcode.DATASET_MANAGEMENT] = (command, namespace) => this.#datasetManagement(command, namespace);
    this.#handlers[NvmOpcode.VERIFY] = (command, namespace) => this.#verify(command, namespace);
  }

  #forFastPath(): FastPathPort {
    const { list } = this.#namespaces;
    return {
      maxBytes: this.#maxBytes,
      namespace: (nsid) => {
        const namespace = list[nsid - 1];
        if (namespace === undefined || namespace.formatting || namespace.limits !== null) return null;
        return namespace;
      },
      takesWrites: ({ storage }) => !storage.readOnly && (this.writeCache || !storage.volatile),
    };
  }

  get pending(): number {
    return this.#pending;
  }

  get counters(): NvmCounters {
    return this.#counters;
  }

  /**
   * Bytes of bounce buffers and operations in use, those from before a reset included: 0 and 0 when
   * all have ended.
   */
  get inUse(): { readonly bounceBytes: number; readonly operations: number } {
    return { bounceBytes: this.#pool.used, operations: this.#slow.active };
  }

  /** CC.MPS in bytes, when the controller is enabled. */
  set pageSize(bytes: number) {
    this.#pointer.pageSize = bytes;
    this.#fast.pageSize = bytes;
  }

  /** The I/O half of the Commands Supported and Effects log (5.14.1.5): a dword for each opcode. */
  effects(): Uint32Array {
    const effects = new Uint32Array(256);
    effects[NvmOpcode.FLUSH] = 1 << CommandEffects.CSUPP.lsb;
    for (let opcode = 0; opcode < 256; opcode++) if (this.#handlers[opcode] !== undefined) effects[opcode] = 1 << CommandEffects.CSUPP.lsb;
    for (const opcode of [NvmOpcode.WRITE, NvmOpcode.WRITE_ZEROES, NvmOpcode.DATASET_MANAGEMENT]) {
      effects[opcode]! |= 1 << CommandEffects.LBCC.lsb;
    }
    return effects;
  }

  start(command: Command): void {
    this.#pending++;
    const limiter = this.#limiters[command.nsid - 1];
    if (limiter === undefined || limiter === null) this.#run(command);
    else limiter.add(command, limitedBytes(command, this.#namespaces.get(command.nsid)!, this.#maxBytes));
  }

  get fastIds(): Uint16Array {
    return this.#fast.ids;
  }

  /** No command passes one that is under way, because both may touch the same blocks. */
  runFast(sq: SubmissionQueue, max: number): number {
    if (this.#pending > 0 || this.#slow.active > 0) return 0;
    const fast = this.#fast;
    const count = fast.run(sq, max);
    if (count > 0) this.#counters.countMany(fast.reads, fast.bytesRead, count - fast.reads, fast.bytesWritten);
    return count;
  }

  abort(command: Command): boolean {
    if (!this.#waiting.remove(command) && this.#limiters[command.nsid - 1]?.remove(command) !== true) return false;
    return this.#end(command, Status.ABORT_REQUESTED);
  }

  submit(): void {
    // Called from within a completion: the running loop takes the command too.
    if (this.#submitting) return;
    this.#submitting = true;
    try {
      this.#submitQueued();
    } finally {
      this.#submitting = false;
    }
  }

  reset(): void {
    this.#life++;
    this.#pending = 0;
    this.#waiting.clear();
    for (const limiter of this.#limiters) limiter?.reset();
    this.#slow.reset();
    this.writeCache = true;
    // The pool gets its buffers back only when queued operations end.
    this.submit();
    if (this.#slow.active === 0) this.#pool.trim();
  }

  /**
   * After `reset`: settles when earlier DMA to remote memory has landed; until then the reset is
   * not complete (CSTS.RDY). Null: no DMA is in flight.
   */
  quiet(): Promise<void> | null {
    return this.#slow.quiet();
  }

  /**
   * Waits until all operations on the storages, and those that follow from them, have ended. The
   * remaining commands need remote memory, or wait for their turn.
   */
  settle(): void {
    const { list } = this.#namespaces;
    do {
      this.#kick();
      this.submit();
      for (const namespace of list) if (namespace.queue.pending > 0) namespace.queue.drain();
    } while (this.#slow.queued || list.some(({ queue }) => queue.pending > 0));
  }

  /**
   * After `settle`: takes out all commands. Returns those to be executed again, and those that wait
   * for a limit.
   */
  suspend(): SuspendedCommands {
    const again = [...this.#slow.suspend(), ...this.#waiting.take()];
    const limited = this.#limiters.flatMap((limiter) => limiter?.take() ?? []);
    this.#pending -= again.length + limited.length;
    return { again, limited };
  }

  /** Begin what was suspended. */
  resume({ again, limited }: SuspendedCommands): void {
    this.#pending += again.length + limited.length;
    for (const each of limited) this.#limiters[each.command.nsid - 1]!.put(each);
    const life = this.#life;
    for (const command of again) if (this.#life === life) this.#runLater(command);
  }

  /** By NSID - 1; null where there are no limits. */
  get limiters(): readonly (Limiter | null)[] {
    return this.#limiters;
  }

  /** The counts continue elsewhere. */
  clearCounters(): void {
    this.#counters.clear();
  }

  /** For good. Their maker disposes the namespaces. */
  [Symbol.dispose](): void {
    this.reset();
  }

  #run(command: Command): void {
    if (!this.#execute(command)) this.#waiting.push(command);
  }

  #runLater(command: Command): void {
    if (!this.#again(command)) this.#waiting.push(command);
  }

  #submitQueued(): void {
    const { list } = this.#namespaces;
    while (this.#slow.queued) {
      this.#slow.queued = false;
      for (let i = 0; i < list.length; i++) {
        const namespace = list[i]!;
        if (!namespace.queued) continue;
        namespace.queued = false;
        namespace.queue.submit();
      }
    }
  }

  /** False: it has to wait. */
  #execute(command: Command): boolean {
    const { opcode } = command;
    const handler = this.#handlers[opcode];
    if (handler === undefined && opcode !== NvmOpcode.FLUSH) return this.#refuse(command, Status.INVALID_OPCODE);
    // 6.2: the controller does not support fused operations (FUSES).
    if (command.fused !== 0) return this.#refuse(command, Status.INVALID_FIELD);
    if (handler === undefined) return this.#flush(command);
    const namespace = this.#namespaces.get(command.nsid);
    if (namespace === undefined) return this.#refuse(command, Status.INVALID_NAMESPACE);
    if (namespace.formatting) return this.#end(command, Status.FORMAT_IN_PROGRESS);
    return handler(command, namespace);
  }

  /** 6.9. */
  #read(command: Command, namespace: Namespace): boolean {
    const wrong = rangeStatus(command, namespace, this.#maxBytes);
    if (wrong !== Status.SUCCESS) return this.#refuse(command, wrong);
    const offset = offsetOf(command, namespace);
    const bytes = bytesOf(command, namespace);
    const slow = this.#slow;
    if (slow.active > 0 && slow.conflicts(namespace, offset, offset + bytes, false)) return false;
    const walk = this.#pointer.walk(command, bytes, true);
    if (walk === Walk.FAILED) return this.#end(command, this.#pointer.status);
    // With FUA the cache goes to the disk first.
    const commit = (command.dw[12]! & NvmCdw12.FUA) !== 0 && namespace.storage.volatile;
    let result = NO_VIEW;
    if (walk === Walk.DONE && !commit) result = this.#direct.copy(namespace, offset, this.#pointer.pieces, true);
    if (result <= 0) {
      if (result < 0) namespace.onFailed(result);
      this.#finish(command, bytes, readStatus(result));
      return true;
    }
    return this.#slowly(OperationKind.READ, command, namespace, commit, result === WOULD_BLOCK);
  }

  /** 6.15. */
  #write(command: Command, namespace: Namespace): boolean {
    const wrong = rangeStatus(command, namespace, this.#maxBytes);
    if (wrong !== Status.SUCCESS) return this.#refuse(command, wrong);
    if (namespace.storage.readOnly) return this.#refuse(command, Status.WRITE_TO_READ_ONLY_RANGE);
    if ((command.dw[12]! & DTYPE) !== 0) return this.#refuse(command, Status.INVALID_FIELD);
    const offset = offsetOf(command, namespace);
    const bytes = bytesOf(command, namespace);
    const slow = this.#slow;
    if (slow.active > 0 && slow.conflicts(namespace, offset, offset + bytes, true)) return false;
    const walk = this.#pointer.walk(command, bytes, false);
    if (walk === Walk.FAILED) return this.#end(command, this.#pointer.status);
    const durable = this.#durable(command, namespace);
    let result = NO_VIEW;
    if (walk === Walk.DONE && !durable) result = this.#direct.copy(namespace, offset, this.#pointer.pieces, false);
    if (result <= 0) {
      if (result < 0) namespace.onFailed(result);
      this.#finish(command, bytes, writeStatus(result));
      return true;
    }
    return this.#slowly(OperationKind.WRITE, command, namespace, durable, result === WOULD_BLOCK);
  }

  /** 6.6. */
  #compare(command: Command, namespace: Namespace): boolean {
    const wrong = rangeStatus(command, namespace, this.#maxBytes);
    if (wrong !== Status.SUCCESS) return this.#refuse(command, wrong);
    return this.#slowly(OperationKind.COMPARE, command, namespace, (command.dw[12]! & NvmCdw12.FUA) !== 0, false);
  }

  /** 6.14: not bounded by MDTS, as no data are transferred. */
  #verify(command: Command, namespace: Namespace): boolean {
    const wrong = rangeStatus(command, namespace, Number.POSITIVE_INFINITY);
    if (wrong !== Status.SUCCESS) return this.#refuse(command, wrong);
    return this.#slowly(OperationKind.VERIFY, command, namespace, false, false);
  }

  /** 6.17: not bounded by MDTS either. */
  #writeZeroes(command: Command, namespace: Namespace): boolean {
    const wrong = rangeStatus(command, namespace, Number.POSITIVE_INFINITY);
    if (wrong !== Status.SUCCESS) return this.#refuse(command, wrong);
    if (namespace.storage.readOnly) return this.#refuse(command, Status.WRITE_TO_READ_ONLY_RANGE);
    return this.#slowly(OperationKind.WRITE_ZEROES, command, namespace, this.#durable(command, namespace), false);
  }

  /** 6.7: hints are ignored, AD deallocates. */
  #datasetManagement(command: Command, namespace: Namespace): boolean {
    const { dw } = command;
    if ((dw[11]! & DsmAttribute.DEALLOCATE) === 0) return this.#end(command, Status.SUCCESS);
    if (namespace.storage.readOnly) return this.#refuse(command, Status.WRITE_TO_READ_ONLY_RANGE);
    if (this.#mustQueue()) return false;
    return this.#slow.beginDeallocate(command, namespace, (dw[10]! & 0xff) + 1, !this.writeCache);
  }

  /**
   * 6.8: flushes one namespace, or with FFFFFFFFh all. When Flush ends, the data of every command
   * that had ended before its fetch is on the disk.
   */
  #flush(command: Command): boolean {
    const { nsid } = command;
    const { list } = this.#namespaces;
    let chosen: readonly Namespace[] = list;
    if (nsid !== NSID_ALL) {
      const namespace = this.#namespaces.get(nsid);
      if (namespace === undefined) return this.#refuse(command, Status.INVALID_NAMESPACE);
      if (namespace.formatting) return this.#end(command, Status.FORMAT_IN_PROGRESS);
      if (!namespace.storage.volatile) return this.#end(command, Status.SUCCESS);
      chosen = [namespace];
    } else if (!list.some((n) => n.storage.volatile)) return this.#end(command, Status.SUCCESS);
    return !this.#mustQueue() && this.#slow.beginFlush(command, chosen);
  }

  /** Whether what is written is to be on the disk when the command ends. */
  #durable(command: Command, namespace: Namespace): boolean {
    return ((command.dw[12]! & NvmCdw12.FUA) !== 0 || !this.writeCache) && namespace.storage.volatile;
  }

  /** @param durable  see SlowPath   @param blocked  the storage has said WOULD_BLOCK */
  #slowly(kind: OperationKind, command: Command, namespace: Namespace, durable: boolean, blocked: boolean): boolean {
    if (this.#mustQueue()) return false;
    return this.#slow.begin(kind, command, namespace, offsetOf(command, namespace), bytesOf(command, namespace), durable, blocked);
  }

  /** Others wait already: no command passes them. */
  #mustQueue(): boolean {
    return !this.#retrying && this.#waiting.any;
  }

  /** There may be room for those that wait, and something to submit. */
  #kick(): void {
    if (!this.#retrying && this.#waiting.any) {
      this.#retrying = true;
      try {
        this.#waiting.retry(this.#again);
      } finally {
        this.#retrying = false;
      }
    }
    if (this.#slow.queued) this.submit();
  }

  #refuse(command: Command, status: number): true {
    return this.#end(command, refused(status));
  }

  #end(command: Command, status: number): true {
    this.#pending--;
    this.#complete(command, status);
    return true;
  }

  /** The end of a command that touched `bytes` of the storage. */
  #finish(command: Command, bytes: number, status: number): void {
    this.#counters.count(command.opcode, bytes, status);
    this.#pending--;
    this.#complete(command, status);
  }
}
