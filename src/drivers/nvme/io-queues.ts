/**
 * The I/O queues of a controller: the session asks for them at each enable, and namespaces choose
 * one for each command. A queue object stays the same over resets.
 */
import { FeatureId } from '../../abi/nvme.ts';
import { VfioError } from '../../base/errno.ts';
import type { LogLevel } from '../../base/log.ts';
import type { AdminCommands } from './admin.ts';
import type { CompletionSignals } from './completion-signals.ts';
import { NvmeError } from './errors.ts';
import type { IoQueue } from './io-queue.ts';
import type { QueueMemory } from './queue-memory.ts';
import type { QueueOwner } from './queue-pair.ts';

/** The part of the session that its queues need. */
export interface QueueHome extends QueueOwner {
  readonly admin: AdminCommands;
  readonly signals: CompletionSignals;
  /** Bytes that one command moves. */
  readonly maxTransfer: number;
  ticks(): number;
  log(level: LogLevel, message: string): void;
}

export class IoQueues {
  /**
   * Every queue since the start; those that the controller did not grant after a reset are closed.
   */
  readonly all: IoQueue[] = [];
  readonly #home: QueueHome;
  readonly #memory: QueueMemory;
  /** Number of queues to ask for. */
  readonly #wanted: number;
  /** The reason why a controller that should have I/O queues has none. */
  #refused: VfioError | null = null;
  #next = 0;

  constructor(home: QueueHome, memory: QueueMemory, wanted: number) {
    this.#home = home;
    this.#memory = memory;
    this.#wanted = wanted;
  }

  /** Whether the controller has I/O queues, when it works. */
  get usable(): boolean {
    return this.all.length > 0 && this.#refused === null;
  }

  /** The reason why nothing can be read or written, though the controller is live. */
  get whyNone(): VfioError {
    const { deviceName } = this.#home;
    return this.#refused ?? new VfioError('EOPNOTSUPP', `${deviceName} has no I/O queues: it is there for administration alone`);
  }

  /** The queues take turns. Null when none is open. */
  pick(): IoQueue | null {
    const { all } = this;
    for (let i = 0; i < all.length; i++) {
      this.#next = this.#next + 1 < all.length ? this.#next + 1 : 0;
      const queue = all[this.#next]!;
      if (queue.isOpen) return queue;
    }
    return null;
  }

  /**
   * Create the queues, after each enable. A controller that refuses all of them can still be
   * administered, because its logs may name its fault.
   *
   * @param shadows whether the controller has doorbell buffers
   */
  async create(shadows: boolean): Promise<void> {
    const { deviceName } = this.#home;
    this.#refused = null;
    try {
      await this.#createGranted(shadows);
    } catch (error) {
      if (!(error instanceof NvmeError)) throw error;
      this.#refused = new VfioError('EIO', `${deviceName} has no I/O queues, so that nothing can be read or written: ${error.message}`, {
        cause: error,
        fix: 'Its identity, health and logs can be had: vfio nvme id, vfio nvme smart.',
      });
      this.#home.log('error', this.#refused.message);
    }
    const missing = this.#refused ?? new VfioError('EIO', `${deviceName} grants fewer I/O queues than before the reset`);
    for (const queue of this.all) if (!queue.isOpen) queue.close(missing, true);
  }

  /** Delete the queues, before a shutdown: the submission queues first. @throws NvmeError */
  async delete(): Promise<void> {
    const { admin } = this.#home;
    for (const queue of this.all) if (queue.isOpen) await admin.deleteSubmissionQueue(queue.id);
    for (const queue of this.all) if (queue.isOpen) await admin.deleteCompletionQueue(queue.id);
  }

  /** @throws NvmeError when the controller grants not even one */
  async #createGranted(shadows: boolean): Promise<void> {
    const { admin, signals, maxTransfer, deviceName } = this.#home;
    await this.#memory.useShadows(shadows, admin);
    const wanted = this.#wanted;
    // Zero-based, submission queues in 15:0 and completion queues in 31:16, both ways (5.21.1.7).
    const granted = await admin.setFeature(FeatureId.NUMBER_OF_QUEUES, (wanted - 1) | ((wanted - 1) << 16));
    const count = Math.min(wanted, (granted & 0xffff) + 1, (granted >>> 16) + 1);
    for (let i = 0; i < count; i++) {
      let queue = this.all[i];
      if (queue === undefined) {
        queue = this.#memory.ioQueue(i + 1, maxTransfer, count - 1 - i, this.#home);
        this.all.push(queue);
        signals.attach(queue);
      }
      try {
        await this.#createOne(queue);
      } catch (error) {
        // The driver works with one queue.
        if (i === 0 || !(error instanceof NvmeError)) throw error;
        this.#home.log('warn', `${deviceName} works with ${i} I/O queues: ${error.message}`);
        break;
      }
    }
  }

  async #createOne(queue: IoQueue): Promise<void> {
    const { admin, signals } = this.#home;
    const { sqIova, cqIova } = this.#memory.addressesOf(queue);
    const vector = signals.kind === 'poll' ? null : signals.vectorOf(queue.id);
    await admin.createCompletionQueue(queue.id, queue.entries, cqIova, vector);
    // The controller may look at the queue from the moment it is created.
    this.#memory.clear(queue);
    try {
      await admin.createSubmissionQueue(queue.id, queue.entries, sqIova);
    } catch (error) {
      if (error instanceof NvmeError) await admin.deleteCompletionQueue(queue.id).catch(() => {});
      throw error;
    }
    queue.ringLimit = this.#home.ticks();
    queue.open();
  }
}
