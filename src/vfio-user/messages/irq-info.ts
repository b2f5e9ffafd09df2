/** DEVICE_GET_IRQ_INFO: how many interrupts an index has, and what they can do. */
import { IrqIndex, IrqInfoFlags } from '../../abi/vfio.ts';
import { IrqInfo } from '../../abi/vfio-structs.ts';
import type { IrqInfoReply } from './answer-context.ts';
import { message } from './message.ts';
import { check, checkArgsz, made } from './payload.ts';
import { dec, flags as flagWords, name } from './shape.ts';

export function encodeIrqInfo(info: { readonly index: number; readonly flags?: number; readonly count?: number }): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(IrqInfo.structSize);
  IrqInfo.encode(view, 0, { argsz: IrqInfo.structSize, flags: 0, count: 0, ...info });
  return payload;
}

/** The same for request and reply. @throws VfioError EINVAL too short */
export function decodeIrqInfo(payload: Uint8Array): IrqInfoReply {
  const view = check('DEVICE_GET_IRQ_INFO', payload, IrqInfo.structSize);
  checkArgsz('DEVICE_GET_IRQ_INFO', view, IrqInfo.structSize);
  const { index, flags, count } = IrqInfo.decode(view);
  return { index, flags, count };
}

export const irqInfo = message({
  name: 'DEVICE_GET_IRQ_INFO',
  number: 7,
  from: 'client',
  size: { fixed: IrqInfo.structSize, argsz: true },
  decode: (payload): { readonly index: number } => decodeIrqInfo(payload),
  answer: ({ irqs }, { index }) => ({ payload: encodeIrqInfo(irqs.info(index)) }),
  encode: ({ index }) => encodeIrqInfo({ index }),
  decodeReply: decodeIrqInfo,
  command: { structs: [IrqInfo], words: [name(IrqInfo.index, IrqIndex, 'interrupt index')] },
  reply: {
    structs: [IrqInfo],
    words: [name(IrqInfo.index, IrqIndex, 'interrupt index'), ': ', dec(IrqInfo.count), ' ', flagWords(IrqInfo.flags, IrqInfoFlags)],
  },
});
