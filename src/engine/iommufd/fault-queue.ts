/**
 * A queue of page requests (IOMMU_FAULT_QUEUE_ALLOC): devices of a domain with the queue would ask
 * there for pages that are not mapped. No device here sends page requests, so the queue is empty.
 *
 * @see linux/drivers/iommu/iommufd/eventq.c, iommufd_fault_fops_read(), iommufd_fault_fops_write()
 */
import { VfioError } from '../../base/errno.ts';

/** struct iommu_hwpt_pgfault, and struct iommu_hwpt_page_response. */
const FAULT_BYTES = 40;
const RESPONSE_BYTES = 8;

export class FaultQueue implements Disposable {
  readonly kind = 'fault-queue';
  readonly #closed: (queue: FaultQueue) => void;
  #open = true;

  /** @param closed called once, as its file is closed */
  constructor(closed: (queue: FaultQueue) => void) {
    this.#closed = closed;
  }

  /**
   * read(2): bytes read.
   *
   * @throws VfioError ESPIPE for a length or a position that is no multiple of a request's
   */
  read(position: number, count: number): number {
    if (count % FAULT_BYTES !== 0 || position !== 0)
      throw new VfioError('ESPIPE', `page requests have ${FAULT_BYTES} bytes each, and are read from the start`);
    return 0;
  }

  /**
   * write(2) of responses.
   *
   * @throws VfioError ESPIPE for a length that is no multiple of a response's; EINVAL for a cookie
   * that no request has
   */
  write(count: number): number {
    if (count % RESPONSE_BYTES !== 0) throw new VfioError('ESPIPE', `responses have ${RESPONSE_BYTES} bytes each`);
    if (count > 0) throw new VfioError('EINVAL', 'no page request waits for a response');
    return 0;
  }

  /** Close its file. Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#closed(this);
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
