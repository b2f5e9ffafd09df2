/**
 * SET_IRQS: the checks that every `Device` makes the same way (B.7 "SET_IRQS generic", B.9), before
 * it acts or allocates (S2-21, S2-24).
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_set_irqs_validate_and_prepare();
 * drivers/vfio/pci/vfio_pci_intrs.c, vfio_pci_set_irqs_ioctl(), vfio_pci_set_ctx_trigger_single()
 */
import type { InterruptSink, SetIrqs } from '../abi/device.ts';
import { NUM_IRQS } from '../abi/vfio.ts';
import { checkIndex, checkU32 } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';

const U32_MAX = 0xffff_ffff;

type Action = SetIrqs['action'];

const ALL: readonly Action[] = ['trigger', 'mask', 'unmask'];

/** The matrix of B.9: the name of each index, and the actions that VFIO has for it. */
const indexes: readonly { readonly name: string; readonly actions: readonly Action[]; readonly why: string }[] = [
  { name: 'INTx', actions: ALL, why: '' },
  { name: 'MSI', actions: ['trigger'], why: 'has no masks in VFIO; mask in the device, or take the eventfd away' },
  { name: 'MSI-X', actions: ['trigger'], why: 'has no masks in VFIO; mask in the device, or take the eventfd away' },
  { name: 'ERR', actions: ['trigger'], why: 'has no masks; only trigger exists' },
  { name: 'REQ', actions: ['trigger'], why: 'has no masks; only trigger exists' },
];

/** `MSI-X` */
export function irqName(index: number): string {
  return indexes[index]?.name ?? `IRQ index ${index}`;
}

/** @throws VfioError EINVAL for an index that the device `name` does not have */
export function checkIrqIndex(name: string, index: number, numIrqs: number = NUM_IRQS): number {
  return checkIndex(index, numIrqs - 1, `${name}: IRQ index`);
}

/**
 * The interrupts that a request names.
 *
 * @param available the number of interrupts that the index has
 * @throws VfioError EINVAL when one of them does not exist
 */
export function checkIrqRange(name: string, index: number, start: number, count: number, available: (index: number) => number): void {
  const irq = irqName(index);
  if (count >= U32_MAX - start) throw new VfioError('EINVAL', `${name}: ${count} ${irq} interrupts from ${start} do not fit 32 bits`);
  const have = available(index);
  if (start < have && start + count <= have) return;
  throw new VfioError('EINVAL', `${name}: ${irq} interrupts [${start}, ${start + count}) were named, but it has ${have}`, {
    fix: have === 0 ? `The device has no ${irq}; use another IRQ index.` : `Stay below ${have}, the count that GET_IRQ_INFO gives.`,
  });
}

/** Whether `action` is one. @throws VfioError ENOTTY: Linux finds no handler */
export function checkAction(name: string, { index, action }: SetIrqs): void {
  if (!ALL.includes(action)) throw new VfioError('ENOTTY', `${name}: ${irqName(index)}: not exactly one action`);
}

/** Whether the index has the action in VFIO. @throws VfioError ENOTTY */
export function checkIndexAction(name: string, { index, action }: SetIrqs): void {
  const row = indexes[index]!;
  if (!row.actions.includes(action)) throw new VfioError('ENOTTY', `${name}: ${row.name} ${row.why}`);
}

/**
 * Index, range, type and length of the data. An implementation looks at the elements of the data
 * later, when it acts on them, as the kernel does.
 *
 * @param available the number of interrupts that an index has
 * @throws VfioError EINVAL
 */
export function validateSetIrqs(name: string, request: SetIrqs, available: (index: number) => number, numIrqs: number = NUM_IRQS): void {
  if (typeof request !== 'object' || request === null) throw new VfioError('EINVAL', `${name}: SET_IRQS without a request`);
  const { start, count } = request;
  const index = checkIrqIndex(name, request.index, numIrqs);
  const irq = irqName(index);
  checkU32(start, `${name}: ${irq} start`);
  checkU32(count, `${name}: ${irq} count`);
  checkIrqRange(name, index, start, count, available);
  const given = dataLength(request);
  if (given === null) throw new VfioError('EINVAL', `${name}: ${irq}: not exactly one type of data`);
  if (given < count) throw new VfioError('EINVAL', `${name}: ${irq}: data for ${given} interrupts, ${count} were named`);
}

/** Elements of the data: Infinity for a type that needs none, null for a type that is none. */
function dataLength(request: SetIrqs): number | null {
  let data: unknown;
  if (request.data === 'none') return Number.POSITIVE_INFINITY;
  if (request.data === 'bool') data = request.values;
  else if (request.data === 'sinks') data = request.action === 'unmask' ? request.sources : request.sinks;
  return Array.isArray(data) || data instanceof Uint8Array ? data.length : null;
}

/** Whether DATA_NONE, or a true DATA_BOOL, asks for vector `start + i`. */
export function asksFor(request: SetIrqs, i: number): boolean {
  return request.data === 'none' || (request.data === 'bool' && Boolean(request.values[i]));
}

/** Element `i` of a request. @throws VfioError EINVAL when it is neither a sink nor null */
export function checkedSink(name: string, sinks: readonly (InterruptSink | null)[], i: number): InterruptSink | null {
  const sink = sinks[i] ?? null;
  if (sink !== null && (typeof sink.signal !== 'function' || typeof sink.get !== 'function' || typeof sink.put !== 'function')) {
    throw new VfioError('EINVAL', `${name}: SET_IRQS element ${i} cannot be signalled`);
  }
  return sink;
}

/** An act on ERR or REQ: signal its sink, release it, take another one in its place, or nothing. */
export type NotifyAct =
  | { readonly act: 'signal' | 'release' | 'nothing' }
  | { readonly act: 'assign'; readonly sinks: readonly (InterruptSink | null)[] };

/**
 * The act that a request to ERR or REQ stands for.
 *
 * @param assigned whether the index has a sink
 * @throws VfioError ENOTTY for masks; EINVAL as the matrix says (B.9)
 */
export function notifyAct(name: string, request: SetIrqs, assigned: boolean): NotifyAct {
  checkIndexAction(name, request);
  const { count, index } = request;
  if (request.data === 'none') {
    if (!assigned) throw new VfioError('EINVAL', `${name}: ${irqName(index)} has no eventfd to signal or release`);
    return { act: count === 0 ? 'release' : 'signal' };
  }
  if (count === 0) throw new VfioError('EINVAL', `${name}: ${irqName(index)}: no data given; DATA_NONE with count 0 releases`);
  if (request.data === 'bool') return { act: asksFor(request, 0) ? 'signal' : 'nothing' };
  return { act: 'assign', sinks: 'sinks' in request ? request.sinks : [] };
}
