/** DEVICE_GET_IRQ_INFO and DEVICE_SET_IRQS. The eventfds travel beside the message. */
import { IrqSetFlags } from '../../abi/vfio.ts';
import { IrqInfo, IrqSet } from '../../abi/vfio-structs.ts';
import { Command } from '../../abi/vfio-user.ts';
import { hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { check, checkArgsz, made, NOTHING } from './payload.ts';

export interface IrqInfoReply {
  readonly index: number;
  /** `IrqInfoFlags` */
  readonly flags: number;
  readonly count: number;
}

export function encodeIrqInfo(info: { readonly index: number; readonly flags?: number; readonly count?: number }): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(IrqInfo.structSize);
  IrqInfo.encode(view, 0, { argsz: IrqInfo.structSize, flags: 0, count: 0, ...info });
  return payload;
}

/** The same for request and reply. @throws VfioError EINVAL too short */
export function decodeIrqInfo(payload: Uint8Array): IrqInfoReply {
  const view = check(Command.DEVICE_GET_IRQ_INFO, payload, IrqInfo.structSize);
  checkArgsz(Command.DEVICE_GET_IRQ_INFO, view, IrqInfo.structSize);
  const { index, flags, count } = IrqInfo.decode(view);
  return { index, flags, count };
}

export interface SetIrqsRequest {
  readonly index: number;
  readonly start: number;
  readonly count: number;
  readonly action: 'mask' | 'unmask' | 'trigger';
  readonly data: 'none' | 'bool' | 'eventfd';
  /** With 'bool': a byte for each. */
  readonly values?: Uint8Array;
}

const actionFlags = { mask: IrqSetFlags.ACTION_MASK, unmask: IrqSetFlags.ACTION_UNMASK, trigger: IrqSetFlags.ACTION_TRIGGER } as const;
const dataFlags = { none: IrqSetFlags.DATA_NONE, bool: IrqSetFlags.DATA_BOOL, eventfd: IrqSetFlags.DATA_EVENTFD } as const;
const SET_IRQS_FLAGS = IrqSetFlags.DATA_TYPE_MASK | IrqSetFlags.ACTION_TYPE_MASK;

export function encodeSetIrqs(request: SetIrqsRequest): Uint8Array<ArrayBuffer> {
  const { index, start, count, action, data, values = NOTHING } = request;
  const { payload, view } = made(IrqSet.structSize + values.length);
  IrqSet.encode(view, 0, { argsz: payload.length, flags: dataFlags[data] | actionFlags[action], index, start, count });
  payload.set(values, IrqSet.structSize);
  return payload;
}

/** @throws VfioError EINVAL too short, unknown flags, not exactly one DATA and one ACTION, or not `count` bytes of DATA_BOOL */
export function decodeSetIrqs(payload: Uint8Array): SetIrqsRequest {
  const view = check(Command.DEVICE_SET_IRQS, payload, IrqSet.structSize);
  const argsz = checkArgsz(Command.DEVICE_SET_IRQS, view, IrqSet.structSize);
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
