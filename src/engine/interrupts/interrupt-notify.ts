/**
 * ERR and REQ: interrupts that the host raises, not the device. One sink each; no masks.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_intrs.c, vfio_pci_set_ctx_trigger_single()
 */
import type { InterruptSink, SetIrqs } from '../../abi/device.ts';
import { notifyAct } from '../../device/set-irqs.ts';
import type { EventSource } from '../../events/source.ts';
import type { EngineContext } from '../context.ts';
import type { FaultPlan } from '../fault-plan.ts';
import { sinkAt } from './interrupt-request.ts';

export class NotifyInterrupt {
  readonly #bdf: string;
  readonly #faults: FaultPlan;
  readonly #events: EventSource;
  #sink: InterruptSink | null = null;

  constructor(bdf: string, { faults, events }: Pick<EngineContext, 'faults' | 'events'>) {
    this.#bdf = bdf;
    this.#faults = faults;
    this.#events = events;
  }

  /** False when the index has no sink. */
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

  /** @throws VfioError ENOTTY for masks; EINVAL as in the matrix (B.9) */
  set(request: SetIrqs): void {
    const act = notifyAct(this.#bdf, request, this.#sink !== null);
    switch (act.act) {
      case 'signal':
        this.signal();
        return;
      case 'release':
        this.release();
        return;
      case 'assign':
        this.#assign(sinkAt(this.#bdf, this.#events, act.sinks, 0));
        return;
      default:
    }
  }

  #assign(sink: InterruptSink | null): void {
    if (sink !== null) {
      this.#faults.step('irq.notify.set');
      sink.get();
    }
    this.release();
    this.#sink = sink;
  }
}
