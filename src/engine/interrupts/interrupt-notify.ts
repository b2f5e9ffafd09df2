/**
 * ERR and REQ: interrupts that the host raises, not the device. One sink each; no masks.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_intrs.c, vfio_pci_set_ctx_trigger_single()
 */
import type { SetIrqs } from '../../abi/device.ts';
import { notifyAct } from '../../device/set-irqs.ts';
import { type EventSource, Irq } from '../../events/source.ts';
import type { FaultPlan } from '../fault-plan.ts';
import type { GuardedSink } from './guarded-sink.ts';
import { sinkAt } from './interrupt-request.ts';

export class NotifyInterrupt {
  readonly #bdf: string;
  /** Of `Irq`. */
  readonly #irq: number;
  readonly #faults: FaultPlan;
  readonly #events: EventSource;
  #sink: GuardedSink | null = null;

  constructor(bdf: string, irq: 'err' | 'req', faults: FaultPlan, events: EventSource) {
    this.#bdf = bdf;
    this.#irq = Irq[irq];
    this.#faults = faults;
    this.#events = events;
  }

  /** False when the index has no sink. */
  signal(): boolean {
    if (this.#sink === null) return false;
    this.#sink.deliver(this.#irq, 0);
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

  #assign(sink: GuardedSink | null): void {
    if (sink !== null) {
      this.#faults.step('irq.notify.set');
      sink.get();
    }
    this.release();
    this.#sink = sink;
  }
}
