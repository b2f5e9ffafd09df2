/**
 * Copies between a buffer of the controller and the memory that a command's data pointer names: at
 * once, or later where the memory is remote.
 */
import { Dma, type DmaPort } from '../../abi/device-host.ts';
import { Status } from '../../abi/nvme-status.ts';
import type { Command } from './command.ts';
import type { CommandEvents } from './command-events.ts';
import { DataPointer, Walk, walkRemote } from './data-pointer.ts';
import { RemoteWork } from './remote-work.ts';

export class HostCopy {
  /** Why `copy` failed: a status field. */
  status = 0;
  readonly #dma: DmaPort;
  readonly #pointer: DataPointer;
  readonly #events: CommandEvents;
  readonly #sgl: boolean;
  readonly #remote = new RemoteWork();

  /**
   * @param pointer  used for walks that end within a call
   * @param sgl      whether the commands may use SGLs
   */
  constructor(dma: DmaPort, pointer: DataPointer, events: CommandEvents, sgl: boolean) {
    this.#dma = dma;
    this.#pointer = pointer;
    this.#events = events;
    this.#sgl = sgl;
  }

  /** Copy all of `bytes`. DONE; FAULT: see `status`; REMOTE: use `copyRemote`, from the start. */
  copy(command: Command, bytes: Uint8Array, toHost: boolean): Dma {
    const walk = this.#pointer.walk(command, bytes.length, toHost, this.#sgl);
    if (walk !== Walk.DONE) {
      this.status = this.#pointer.status;
      return walk === Walk.REMOTE ? Dma.REMOTE : Dma.FAULT;
    }
    const { pieces } = this.#pointer;
    for (let i = 0, at = 0; i < pieces.count; i++) {
      const size = pieces.size(i);
      if (!pieces.isBucket(i)) {
        const piece = size === bytes.length ? bytes : bytes.subarray(at, at + size);
        const done = toHost ? this.#dma.tryWrite(pieces.iova(i), piece) : this.#dma.tryRead(pieces.iova(i), piece);
        if (done === Dma.FAULT) this.status = Status.DATA_TRANSFER_ERROR;
        if (done !== Dma.DONE) return done;
      }
      at += size;
    }
    return Dma.DONE;
  }

  /** See RemoteWork. */
  quiet(): Promise<void> | null {
    return this.#remote.quiet();
  }

  /**
   * Resolves to a status. `bytes` must not change until then; the command may. When `alive` is
   * false the copy begins no further step, and the status has no meaning.
   */
  async copyRemote(command: Command, bytes: Uint8Array, toHost: boolean, alive: () => boolean): Promise<number> {
    const dma = this.#events.dmaOf(command, this.#dma);
    const pointer = new DataPointer(this.#dma);
    pointer.pageSize = this.#pointer.pageSize;
    this.#remote.begin();
    try {
      let walk = pointer.walk(command, bytes.length, toHost, this.#sgl);
      if (walk === Walk.REMOTE) walk = await walkRemote(pointer, dma, alive);
      if (walk === Walk.FAILED) return pointer.status;
      const { pieces } = pointer;
      for (let i = 0, at = 0; i < pieces.count && alive(); i++) {
        const piece = bytes.subarray(at, at + pieces.size(i));
        if (!pieces.isBucket(i)) await (toHost ? dma.write(pieces.iova(i), piece) : dma.read(pieces.iova(i), piece));
        at += piece.length;
      }
      return Status.SUCCESS;
    } catch {
      // The DMA port has counted and logged the fault.
      return Status.DATA_TRANSFER_ERROR;
    } finally {
      this.#remote.end();
    }
  }
}
