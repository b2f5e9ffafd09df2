/**
 * DEVICE_SET_IRQS: the eventfds that interrupts signal, and masks. The eventfds travel beside the
 * message.
 */
import { IrqIndex, IrqSetFlags } from '../../abi/vfio.ts';
import { IrqSet } from '../../abi/vfio-structs.ts';
import { MAX_FDS } from '../../abi/vfio-user.ts';
import { hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { SetIrqsRequest } from './answer-context.ts';
import { EMPTY_ANSWER, message, showsAll } from './message.ts';
import { check, checkArgsz, made, NOTHING } from './payload.ts';
import { bytes, DONE, longer, name, pick, vectors } from './shape.ts';

const actionFlags = { mask: IrqSetFlags.ACTION_MASK, unmask: IrqSetFlags.ACTION_UNMASK, trigger: IrqSetFlags.ACTION_TRIGGER } as const;
const dataFlags = { none: IrqSetFlags.DATA_NONE, bool: IrqSetFlags.DATA_BOOL, eventfd: IrqSetFlags.DATA_EVENTFD } as const;
/** MSI-X has no more vectors, so a message has no more bools. */
const VECTORS_MAX = 2048;
const SET_IRQS_FLAGS = IrqSetFlags.DATA_TYPE_MASK | IrqSetFlags.ACTION_TYPE_MASK;

export function encodeSetIrqs(request: SetIrqsRequest): Uint8Array<ArrayBuffer> {
  const { index, start, count, action, data, values = NOTHING } = request;
  const { payload, view } = made(IrqSet.structSize + values.length);
  IrqSet.encode(view, 0, { argsz: payload.length, flags: dataFlags[data] | actionFlags[action], index, start, count });
  payload.set(values, IrqSet.structSize);
  return payload;
}

/**
 * @throws VfioError EINVAL too short, unknown flags, not exactly one DATA and one ACTION, or not
 *   `count` bytes of DATA_BOOL
 */
export function decodeSetIrqs(payload: Uint8Array): SetIrqsRequest {
  const view = check('DEVICE_SET_IRQS', payload, IrqSet.structSize);
  const argsz = checkArgsz('DEVICE_SET_IRQS', view, IrqSet.structSize);
  const { flags, index, start, count } = IrqSet.decode(view);
  const data = nameOf(dataFlags, flags & IrqSetFlags.DATA_TYPE_MASK);
  const action = nameOf(actionFlags, flags & IrqSetFlags.ACTION_TYPE_MASK);
  if ((flags & ~SET_IRQS_FLAGS) !== 0 || data === undefined || action === undefined) {
    throw new VfioError('EINVAL', `DEVICE_SET_IRQS: flags ${hex(flags)}; exactly one DATA and one ACTION must be set`);
  }
  if (data !== 'bool') return { index, start, count, action, data };
  if (payload.length - IrqSet.structSize !== count || argsz - IrqSet.structSize < count) {
    throw new VfioError('EINVAL', `DEVICE_SET_IRQS: ${payload.length - IrqSet.structSize} bytes of DATA_BOOL for ${count} interrupts`);
  }
  return { index, start, count, action, data, values: payload.slice(IrqSet.structSize) };
}

function nameOf<K extends string>(table: Readonly<Record<K, number>>, flag: number): K | undefined {
  for (const name in table) if (table[name] === flag) return name;
  return undefined;
}

export const setIrqs = message({
  name: 'DEVICE_SET_IRQS',
  number: 8,
  from: 'client',
  fds: MAX_FDS,
  size: { fixed: IrqSet.structSize, data: VECTORS_MAX, argsz: true },
  shown: showsAll,
  decode: decodeSetIrqs,
  answer({ irqs }, request, fds) {
    irqs.set(request, fds);
    return EMPTY_ANSWER;
  },
  command: {
    structs: [IrqSet],
    words: [
      name(IrqSet.index, IrqIndex, 'interrupt index'),
      ' ',
      name(IrqSet.flags, actionFlags, 'action', IrqSetFlags.ACTION_TYPE_MASK),
      ' ',
      vectors(IrqSet.start, IrqSet.count),
      ', ',
      name(IrqSet.flags, dataFlags, 'data', IrqSetFlags.DATA_TYPE_MASK),
      pick(longer(IrqSet.structSize, ' ', bytes(IrqSet.structSize))),
    ],
  },
  reply: DONE,
});
