/** Creating and deleting I/O queues (NVMe 1.4, 5.3 to 5.6). */
import type { DmaPort } from '../../../abi/device-host.ts';
import { CQES, CreateCq, CreateSq, regField, SQES } from '../../../abi/nvme.ts';
import { refused, Status } from '../../../abi/nvme-status.ts';
import type { Command } from '../command.ts';
import { CompletionQueue } from '../completion-queue.ts';
import type { Interrupts } from '../interrupts.ts';
import { iovaOf } from '../pieces.ts';
import type { Queues } from '../queues.ts';
import { SubmissionQueue } from '../submission-queue.ts';

/** The registers' and features' limits of I/O queues. */
export interface QueueLimits {
  /** I/O queues of each kind that the host was given (5.21.1.7). */
  readonly submissionQueues: number;
  readonly completionQueues: number;
  /** CAP.MQES + 1. */
  readonly entries: number;
  /** CC.MPS in bytes. */
  readonly pageSize: number;
  /** CC.IOSQES and CC.IOCQES. */
  readonly iosqes: number;
  readonly iocqes: number;
}

export class QueueCommands {
  readonly #dma: DmaPort;
  readonly #queues: Queues;
  readonly #interrupts: Interrupts;
  readonly #limits: QueueLimits;

  constructor(dma: DmaPort, queues: Queues, interrupts: Interrupts, limits: QueueLimits) {
    this.#dma = dma;
    this.#queues = queues;
    this.#interrupts = interrupts;
    this.#limits = limits;
  }

  /** Create I/O Completion Queue (5.3): a status. */
  createCq({ dw }: Command): number {
    const id = dw[10]! & 0xffff;
    const size = (dw[10]! >>> 16) + 1;
    const limits = this.#limits;
    if (id === 0 || id > limits.completionQueues || this.#queues.cq[id] !== null) return refused(Status.INVALID_QUEUE_ID);
    if (size < 2 || size > limits.entries || limits.iocqes !== CQES) return refused(Status.INVALID_QUEUE_SIZE);
    const wrong = this.#memory(dw);
    if (wrong !== Status.SUCCESS) return wrong;
    const interrupts = (dw[11]! & CreateCq.IEN) !== 0;
    const vector = regField(dw[11]!, CreateCq.IV);
    if (interrupts && !this.#interrupts.takes(vector)) return refused(Status.INVALID_INTERRUPT_VECTOR);
    this.#queues.createCq(new CompletionQueue(this.#dma, id, iovaOf(dw[6]!, dw[7]!), size, vector, interrupts));
    return Status.SUCCESS;
  }

  /** Create I/O Submission Queue (5.4). Its priority means nothing: arbitration is round robin. */
  createSq({ dw }: Command): number {
    const id = dw[10]! & 0xffff;
    const size = (dw[10]! >>> 16) + 1;
    const cqid = regField(dw[11]!, CreateSq.CQID);
    const limits = this.#limits;
    if (id === 0 || id > limits.submissionQueues || this.#queues.sq[id] !== null) return refused(Status.INVALID_QUEUE_ID);
    if (cqid === 0 || cqid > limits.completionQueues) return refused(Status.INVALID_QUEUE_ID);
    const cq = this.#queues.cq[cqid] ?? null;
    if (cq === null) return refused(Status.CQ_INVALID);
    if (size < 2 || size > limits.entries || limits.iosqes !== SQES) return refused(Status.INVALID_QUEUE_SIZE);
    const wrong = this.#memory(dw);
    if (wrong !== Status.SUCCESS) return wrong;
    this.#queues.createSq(new SubmissionQueue(this.#dma, id, iovaOf(dw[6]!, dw[7]!), size, cq));
    return Status.SUCCESS;
  }

  /** Delete I/O Completion Queue (5.5). */
  deleteCq({ dw }: Command): number {
    const id = dw[10]! & 0xffff;
    const cq = id === 0 ? null : (this.#queues.cq[id] ?? null);
    if (cq === null) return refused(Status.INVALID_QUEUE_ID);
    if (cq.users > 0) return refused(Status.INVALID_QUEUE_DELETION);
    this.#queues.deleteCq(cq);
    return Status.SUCCESS;
  }

  /**
   * Delete I/O Submission Queue (5.6). SUCCESS: `command` ends after the commands that were fetched
   * from the queue.
   */
  deleteSq(command: Command): number {
    const id = command.dw[10]! & 0xffff;
    const sq = id === 0 ? null : (this.#queues.sq[id] ?? null);
    if (sq === null || sq.deleting !== null) return refused(Status.INVALID_QUEUE_ID);
    this.#queues.deleteSq(sq, command);
    return Status.SUCCESS;
  }

  /** PRP Entry 1 and PC: physically contiguous (CAP.CQR), from the start of a page. */
  #memory(dw: Uint32Array): number {
    if ((dw[11]! & CreateSq.PC) === 0) return refused(Status.INVALID_FIELD);
    return (dw[6]! & (this.#limits.pageSize - 1)) === 0 ? Status.SUCCESS : refused(Status.PRP_OFFSET_INVALID);
  }
}
