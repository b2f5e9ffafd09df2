/**
 * Executes commands that cannot end at once: the storage would block, the memory is remote, or the
 * command needs more than one copy. Data passes through buffers of a bounded pool. Each step is
 * first tried synchronously; a step that has to wait continues from the storage's completion or
 * from asynchronous DMA.
 *
 * Longer than 400 lines because the commands share the steps of one state machine: each step names
 * the steps that follow it.
 */
import { type DeviceHost, Dma } from '../../abi/device-host.ts';
import { DSM_RANGES_MAX, NvmCdw12 } from '../../abi/nvme.ts';
import { refused, Status } from '../../abi/nvme-status.ts';
import { WOULD_BLOCK } from '../../abi/storage.ts';
import type { BouncePool } from './bounce-pool.ts';
import type { Command } from './command.ts';
import type { CommandEvents } from './command-events.ts';
import type { DataPointer } from './data-pointer.ts';
import { DeallocateRanges, RANGE_BYTES } from './deallocate-ranges.ts';
import { HostCopy } from './host-copy.ts';
import type { Namespace } from './namespace.ts';
import { bufferSize, type Operation, OperationKind, OperationTable, VERIFY_CHUNK } from './operation.ts';
import { readStatus, writeStatus } from './storage-status.ts';

/** Verify reads no more than this before others have their turn. */
const VERIFY_TURN = 0x40_0000;

export interface SlowPathHooks {
  /** The command is done. */
  finish(command: Command, namespace: Namespace | null, bytes: number, status: number): void;
  /** Something was queued outside of a batch, or an operation is free again. */
  kick(): void;
}

export class SlowPath {
  /** Some queue of a namespace has operations that are to be submitted. */
  queued = false;
  readonly #host: DeviceHost;
  readonly #copy: HostCopy;
  readonly #table: OperationTable;
  readonly #ranges = new DeallocateRanges();
  readonly #events: CommandEvents;
  readonly #hooks: SlowPathHooks;

  /** @param pointer  for walks that end before anything else starts one */
  constructor(host: DeviceHost, pointer: DataPointer, pool: BouncePool, events: CommandEvents, operations: number, hooks: SlowPathHooks) {
    this.#host = host;
    this.#copy = new HostCopy(host.dma, pointer, events, true);
    this.#table = new OperationTable(pool, operations);
    this.#events = events;
    this.#hooks = hooks;
  }

  /** Operations under way, those of lives gone included. */
  get active(): number {
    return this.#table.used;
  }

  /** See OperationTable. */
  conflicts(namespace: Namespace, first: number, end: number, writes: boolean): boolean {
    return this.#table.used > 0 && this.#table.conflicts(namespace, first, end, writes);
  }

  /**
   * Begin a command that touches `bytes` at `offset`. False: the command has to wait, and nothing
   * has changed.
   *
   * @param durable Read, Compare: what is cached goes to the disk first; others: they end when it
   *   is there
   * @param blocked the storage has returned WOULD_BLOCK
   */
  begin(
    kind: OperationKind,
    command: Command,
    namespace: Namespace,
    offset: number,
    bytes: number,
    durable: boolean,
    blocked: boolean,
  ): boolean {
    const writes = kind === OperationKind.WRITE || kind === OperationKind.WRITE_ZEROES;
    if (this.conflicts(namespace, offset, offset + bytes, writes)) return false;
    const operation = this.#table.take(bufferSize(kind, bytes));
    if (operation === null) return false;
    operation.kind = kind;
    operation.command = command;
    operation.namespace = namespace;
    operation.offset = offset;
    operation.bytes = bytes;
    operation.durable = durable && namespace.storage.volatile;
    operation.blocked = blocked;
    operation.first = offset;
    operation.end = offset + bytes;
    operation.writes = writes;
    namespace.operationBegan();
    this.#start(operation, namespace);
    return true;
  }

  /**
   * Begin Dataset Management with AD: `ranges` of 16 bytes lie in the host's memory. False: it has
   * to wait.
   */
  beginDeallocate(command: Command, namespace: Namespace, ranges: number, durable: boolean): boolean {
    const bytes = Math.min(ranges, DSM_RANGES_MAX) * RANGE_BYTES;
    const operation = this.#table.take(bytes);
    if (operation === null) return false;
    operation.kind = OperationKind.DEALLOCATE;
    operation.command = command;
    operation.namespace = namespace;
    operation.bytes = bytes;
    operation.durable = durable && namespace.storage.volatile;
    operation.data = operation.host = operation.buffer!.subarray(0, bytes);
    operation.writes = true;
    // The ranges name the blocks that the command touches.
    operation.first = operation.end = 0;
    const gathered = this.#copy.copy(command, operation.host, false);
    if (
      gathered === Dma.DONE
        ? this.#bound(operation, namespace)
        : gathered === Dma.REMOTE && this.#table.conflicts(namespace, 0, Number.POSITIVE_INFINITY, true)
    ) {
      operation.namespace = null;
      this.#table.give(operation);
      return false;
    }
    namespace.operationBegan();
    if (gathered === Dma.DONE) this.#deallocate(operation, namespace);
    else if (gathered === Dma.FAULT) this.#end(operation, this.#copy.status);
    else {
      // Until then, all of it.
      operation.end = Number.POSITIVE_INFINITY;
      void this.#gatherRemote(operation);
    }
    return true;
  }

  /**
   * Begin Flush of those of `namespaces` whose storage is volatile: at least one. False: it has to
   * wait.
   */
  beginFlush(command: Command, namespaces: readonly Namespace[]): boolean {
    const operation = this.#table.take(0);
    if (operation === null) return false;
    operation.kind = OperationKind.FLUSH;
    operation.command = command;
    operation.namespace = null;
    operation.bytes = 0;
    operation.writes = false;
    for (const namespace of namespaces) if (namespace.storage.volatile) this.#flush(operation, namespace);
    return true;
  }

  /** The storage has ended what it knows by `tag`. */
  ended(tag: number, result: number): void {
    const operation = this.#table.byTag(tag);
    operation.left--;
    if (result < 0 && operation.result === 0) operation.result = result;
    if (operation.left > 0) return;
    if (!operation.alive) this.#release(operation);
    else if (!this.#events.port.on) this.#proceed(operation);
    else this.#events.within(operation.command, () => this.#proceed(operation));
    this.#hooks.kick();
  }

  /** See HostCopy. */
  quiet(): Promise<void> | null {
    return this.#copy.quiet();
  }

  /** No command under way is reported any more, or begins to touch memory. */
  reset(): void {
    for (let i = this.#table.used - 1; i >= 0; i--) {
      const operation = this.#table.at(i);
      operation.alive = false;
      if (operation.timer === null) continue;
      operation.timer[Symbol.dispose]();
      operation.timer = null;
      this.#release(operation);
    }
  }

  /**
   * Called when the storage has no operations: commands in flight wait for remote memory or for
   * their turn. Resets, and returns these commands, which are safe to execute again.
   */
  suspend(): Command[] {
    const commands: Command[] = [];
    for (let i = 0; i < this.#table.used; i++) {
      const { alive, command } = this.#table.at(i);
      if (alive) commands.push(command);
    }
    this.reset();
    return commands;
  }

  #start(operation: Operation, namespace: Namespace): void {
    const { kind, command, bytes, buffer } = operation;
    switch (kind) {
      case OperationKind.READ:
        operation.data = operation.host = buffer!.subarray(0, bytes);
        this.#read(operation, namespace);
        return;
      case OperationKind.VERIFY:
        this.#verify(operation, namespace);
        return;
      case OperationKind.WRITE_ZEROES:
        // 6.17, DEAC: only then the space is freed; the blocks read as zeroes either way.
        this.#zero(operation, namespace, operation.offset, bytes, (command.dw[12]! & NvmCdw12.DEAC) !== 0);
        return;
      case OperationKind.COMPARE:
        operation.data = buffer!.subarray(0, bytes);
        operation.host = buffer!.subarray(bytes, 2 * bytes);
        break;
      default:
        operation.data = operation.host = buffer!.subarray(0, bytes);
    }
    const gathered = this.#copy.copy(command, operation.host, false);
    if (gathered === Dma.DONE) this.#gathered(operation, namespace);
    else if (gathered === Dma.FAULT) this.#end(operation, this.#copy.status);
    else void this.#gatherRemote(operation);
  }

  /** All of the storage's part has ended: what comes next? */
  #proceed(operation: Operation): void {
    const namespace = operation.namespace;
    const { result } = operation;
    switch (operation.kind) {
      case OperationKind.READ:
      case OperationKind.COMPARE:
        if (!operation.flushing) {
          this.#hasRead(operation, readStatus(result));
          return;
        }
        if (result < 0) {
          this.#end(operation, writeStatus(result));
          return;
        }
        operation.flushing = false;
        operation.durable = false;
        this.#read(operation, namespace!);
        return;
      case OperationKind.VERIFY:
        if (result < 0) {
          this.#end(operation, readStatus(result));
          return;
        }
        operation.progress += operation.data.length;
        this.#verify(operation, namespace!);
        return;
      case OperationKind.WRITE_ZEROES:
      case OperationKind.DEALLOCATE:
        if (result === 0 && operation.durable && !operation.flushing) {
          operation.flushing = true;
          this.#flush(operation, namespace!);
          return;
        }
        this.#end(operation, writeStatus(result));
        return;
      default:
        this.#end(operation, writeStatus(result));
        return;
    }
  }

  /** With FUA what is cached goes to the disk first (6.9). */
  #read(operation: Operation, namespace: Namespace): void {
    if (operation.durable) {
      operation.flushing = true;
      this.#flush(operation, namespace);
      return;
    }
    const result = operation.blocked ? WOULD_BLOCK : namespace.queue.tryRead(operation.offset, operation.data);
    if (result !== WOULD_BLOCK) {
      if (result < 0) namespace.onFailed(result);
      this.#hasRead(operation, readStatus(result));
      return;
    }
    this.#toQueue(operation, namespace);
    namespace.queue.read(operation.offset, operation.data, operation.tag);
  }

  #hasRead(operation: Operation, status: number): void {
    if (status !== Status.SUCCESS) this.#end(operation, status);
    else if (operation.kind === OperationKind.COMPARE) {
      this.#end(operation, same(operation.data, operation.host) ? Status.SUCCESS : Status.COMPARE_FAILURE);
    } else this.#deliver(operation);
  }

  #verify(operation: Operation, namespace: Namespace): void {
    for (let turn = 0; operation.progress < operation.bytes; ) {
      const size = Math.min(VERIFY_CHUNK, operation.bytes - operation.progress);
      if (operation.data.length !== size) operation.data = operation.buffer!.subarray(0, size);
      const offset = operation.offset + operation.progress;
      const result = namespace.queue.tryRead(offset, operation.data);
      if (result === WOULD_BLOCK) {
        this.#toQueue(operation, namespace);
        namespace.queue.read(offset, operation.data, operation.tag);
        return;
      }
      if (result < 0) {
        namespace.onFailed(result);
        this.#end(operation, readStatus(result));
        return;
      }
      operation.progress += size;
      turn += size;
      if (turn >= VERIFY_TURN && operation.progress < operation.bytes) {
        operation.timer = this.#host.clock.after(0, () => {
          operation.timer = null;
          this.#events.within(operation.command, () => this.#verify(operation, namespace));
          this.#hooks.kick();
        });
        return;
      }
    }
    this.#end(operation, Status.SUCCESS);
  }

  /** The host's data are in the buffer. */
  #gathered(operation: Operation, namespace: Namespace): void {
    if (operation.kind === OperationKind.COMPARE) {
      this.#read(operation, namespace);
      return;
    }
    if (operation.kind === OperationKind.DEALLOCATE) {
      this.#bound(operation, namespace);
      this.#deallocate(operation, namespace);
      return;
    }
    const result = operation.durable || operation.blocked ? WOULD_BLOCK : namespace.queue.tryWrite(operation.offset, operation.data);
    if (result !== WOULD_BLOCK) {
      if (result < 0) namespace.onFailed(result);
      this.#end(operation, writeStatus(result));
      return;
    }
    this.#toQueue(operation, namespace);
    namespace.queue.write(operation.offset, operation.data, operation.tag, operation.durable);
  }

  /** Reads the ranges, and sets what they span. True: one under way touches some of it. */
  #bound(operation: Operation, namespace: Namespace): boolean {
    const ranges = this.#ranges;
    operation.first = operation.end = 0;
    if (!ranges.read(operation.data, namespace) || ranges.count === 0) return false;
    if (this.#table.conflicts(namespace, ranges.first, ranges.end, true)) return true;
    operation.first = ranges.first;
    operation.end = ranges.end;
    return false;
  }

  /** 6.7: every range is looked at before the first is deallocated. */
  #deallocate(operation: Operation, namespace: Namespace): void {
    const ranges = this.#ranges;
    if (!ranges.read(operation.data, namespace)) {
      this.#end(operation, refused(Status.LBA_OUT_OF_RANGE));
      return;
    }
    for (let i = 0; i < ranges.count; i++) this.#zero(operation, namespace, ranges.offset(i), ranges.size(i), true);
    if (operation.left === 0) this.#end(operation, Status.SUCCESS);
  }

  #zero(operation: Operation, namespace: Namespace, offset: number, bytes: number, discard: boolean): void {
    this.#toQueue(operation, namespace);
    namespace.queue.zero(offset, bytes, operation.tag, discard);
  }

  #flush(operation: Operation, namespace: Namespace): void {
    this.#toQueue(operation, namespace);
    namespace.queue.flush(operation.tag);
  }

  #toQueue(operation: Operation, namespace: Namespace): void {
    operation.left++;
    namespace.queued = true;
    this.queued = true;
  }

  /** From the buffer to the host's memory. */
  #deliver(operation: Operation): void {
    const copied = this.#copy.copy(operation.command, operation.host, true);
    if (copied === Dma.REMOTE) void this.#deliverRemote(operation);
    else this.#end(operation, copied === Dma.DONE ? Status.SUCCESS : this.#copy.status);
  }

  async #gatherRemote(operation: Operation): Promise<void> {
    const status = await this.#copy.copyRemote(operation.command, operation.host, false, () => operation.alive);
    if (!operation.alive) this.#release(operation);
    else if (status !== Status.SUCCESS) this.#end(operation, status);
    else this.#events.within(operation.command, () => this.#gathered(operation, operation.namespace!));
    this.#hooks.kick();
  }

  async #deliverRemote(operation: Operation): Promise<void> {
    const status = await this.#copy.copyRemote(operation.command, operation.host, true, () => operation.alive);
    if (!operation.alive) this.#release(operation);
    else this.#end(operation, status);
    this.#hooks.kick();
  }

  #end(operation: Operation, status: number): void {
    const { command, namespace, kind } = operation;
    const bytes = kind === OperationKind.DEALLOCATE ? 0 : operation.bytes;
    this.#release(operation);
    this.#hooks.finish(command, namespace, bytes, status);
  }

  #release(operation: Operation): void {
    const { namespace } = operation;
    operation.namespace = null;
    this.#table.give(operation);
    namespace?.operationEnded();
  }
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
