/**
 * ERR and REQ: interrupts that the host raises, not the device. One sink each; no masks.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_intrs.c, vfio_pci_set_ctx_trigger_single()
 */
import type { InterruptSink, SetIrqs } from '../../abi/device.ts';
import { VfioError } from '../../base/errno.ts';
import type { RateLimitedLogger } from '../../base/log.ts';
import type { EngineContext } from '../context.ts';
import type { FaultPlan } from '../fault-plan.ts';
import { asksFor, sinkAt } from './interrupt-request.ts';

export class NotifyInterrupt {
  readonly #bdf: string;
  readonly #name: string;
  readonly #faults: FaultPlan;
  readonly #log: RateLimitedLogger;
  #sink: InterruptSink | null = null;

  constructor(bdf: string, name: string, { faults, log }: Pick<EngineContext, 'faults' | 'log'>) {
    this.#bdf = bdf;
    this.#name = name;
    this.#faults = faults;
    this.#log = log;
  }

  /** False when nobody listens. */
  signal(): boolean {
    if (this.#sink === null) return false;
    this.#sink.signal();
    return true;
  }

  release(): void {
    const sink = this.#sink;
    this.#sink = null;
    sink?.put();
  }

  /** @throws VfioError ENOTTY for masks; EINVAL as the matrix says (B.9) */
  set(request: SetIrqs): void {
    if (request.action !== 'trigger') {
      throw new VfioError('ENOTTY', `${this.#bdf}: ${this.#name} cannot be ${request.action}ed; only trigger exists`);
    }
    const { count } = request;
    if (request.data === 'none') {
      if (this.#sink === null) throw new VfioError('EINVAL', `${this.#bdf}: ${this.#name} has no eventfd to signal or release`);
      if (count === 0) this.release();
      else this.signal();
      return;
    }
    if (count === 0) throw new VfioError('EINVAL', `${this.#bdf}: ${this.#name}: no data given; DATA_NONE with count 0 releases`);
    if (request.data === 'bool') {
      if (asksFor(request, 0)) this.signal();
      return;
    }
    const sink = sinkAt(this.#bdf, this.#log, request.sinks, 0);
    if (sink !== null) {
      this.#faults.step('irq.notify.set');
      sink.get();
    }
    this.release();
    this.#sink = sink;
  }
}
