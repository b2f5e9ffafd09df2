/**
 * Transfers data of admin commands from and to the controller's own buffers. Admin commands use
 * PRPs only (NVMe 1.4, 4.4: no SGLs on PCIe).
 */
import { type DeviceHost, Dma } from '../../abi/device-host.ts';
import { refused, Status } from '../../abi/nvme-status.ts';
import type { Command } from './command.ts';
import { CommandEvents } from './command-events.ts';
import { DataPointer } from './data-pointer.ts';
import { HostCopy } from './host-copy.ts';

/** Called once at the end of a transfer, with its status field. */
export type TransferDone = (status: number) => void;

export class DataTransfer {
  readonly #max: number;
  readonly #pointer: DataPointer;
  readonly #copy: HostCopy;
  #life = 0;
  #pending = 0;

  /** @param maxTransferBytes  MDTS in bytes */
  constructor(host: DeviceHost, maxTransferBytes: number, events = new CommandEvents(host)) {
    this.#max = maxTransferBytes;
    this.#pointer = new DataPointer(host.dma);
    this.#copy = new HostCopy(host.dma, this.#pointer, events, false);
  }

  /** Transfers that go on asynchronously. */
  get pending(): number {
    return this.#pending;
  }

  /** CC.MPS in bytes, when the controller is enabled. */
  set pageSize(bytes: number) {
    this.#pointer.pageSize = bytes;
  }

  /**
   * Write the first `length` of `bytes` to the memory that `command` points to. For remote memory
   * it copies `bytes` first, so the caller may reuse `bytes` on return.
   *
   * @param done called before this returns, or later where memory is remote; never after `reset`
   */
  toHost(command: Command, bytes: Uint8Array, length: number, done: TransferDone): void {
    this.#move(command, bytes, length, true, done);
  }

  /**
   * Read `length` bytes of the memory that `command` points to into `into`, which is kept until
   * `done`.
   */
  fromHost(command: Command, into: Uint8Array, length: number, done: TransferDone): void {
    this.#move(command, into, length, false, done);
  }

  /**
   * Settles when DMA to remote memory from before a reset has landed; null: no DMA is in flight.
   */
  quiet(): Promise<void> | null {
    return this.#copy.quiet();
  }

  /** No transfer under way is reported any more. */
  reset(): void {
    this.#life++;
    this.#pending = 0;
  }

  #move(command: Command, bytes: Uint8Array, length: number, toHost: boolean, done: TransferDone): void {
    if (length > this.#max || length > bytes.length) {
      done(refused(Status.INVALID_FIELD));
      return;
    }
    const part = bytes.subarray(0, length);
    const copied = this.#copy.copy(command, part, toHost);
    if (copied === Dma.REMOTE) void this.#moveRemote(command, toHost ? part.slice() : part, toHost, done);
    else done(copied === Dma.DONE ? Status.SUCCESS : this.#copy.status);
  }

  async #moveRemote(command: Command, bytes: Uint8Array, toHost: boolean, done: TransferDone): Promise<void> {
    const life = this.#life;
    this.#pending++;
    const status = await this.#copy.copyRemote(command, bytes, toHost, () => this.#life === life);
    if (this.#life !== life) return;
    this.#pending--;
    done(status);
  }
}
