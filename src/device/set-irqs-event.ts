/** The event of a SET_IRQS request. */
import type { SetIrqs } from '../abi/device.ts';
import type { EventDetails } from '../abi/event.ts';
import { IrqIndex } from '../abi/vfio.ts';

const irqs: { readonly [index: number]: EventDetails<'set-irqs'>['irq'] | undefined } = {
  [IrqIndex.INTX]: 'intx',
  [IrqIndex.MSI]: 'msi',
  [IrqIndex.MSIX]: 'msix',
  [IrqIndex.ERR]: 'err',
  [IrqIndex.REQ]: 'req',
};
const actions: readonly string[] = ['mask', 'unmask', 'trigger'] satisfies readonly EventDetails<'set-irqs'>['action'][];
const kinds: { readonly [data: string]: EventDetails<'set-irqs'>['with'] | undefined } = { none: 'none', bool: 'bool', sinks: 'eventfd' };

/**
 * Null for a request that names no interrupt, action or data, or has no numbers: it is refused, and
 * has no event.
 */
export function setIrqsEvent(request: SetIrqs): EventDetails<'set-irqs'> | null {
  if (typeof request !== 'object' || request === null) return null;
  const { index, action, data, start, count } = request;
  if (typeof start !== 'number' || typeof count !== 'number') return null;
  const irq = irqs[index];
  const beside = Object.hasOwn(kinds, data) ? kinds[data] : undefined;
  if (irq === undefined || beside === undefined || !actions.includes(action)) return null;
  return { irq, action, with: beside, start, count };
}

/** The answer of SET_IRQS: with fewer vectors than were asked for, nothing has changed. */
export function fewer(vectors: number): { readonly reason?: string } {
  return vectors === 0 ? {} : { reason: `the device can have ${vectors}` };
}
