/**
 * MIG_GET_PRECOPY_INFO: how much of the state of a device is left to read while the device runs.
 * Proposed for QEMU, not in the specification: the structure of the ioctl, both ways.
 */
import type { PrecopyInfo as PrecopyInfoValues } from '../../abi/device.ts';
import { PrecopyInfo } from '../../abi/vfio-structs.ts';
import { message } from './message.ts';
import { check, checkArgsz, made } from './payload.ts';
import { dec } from './shape.ts';

/** MIG_GET_PRECOPY_INFO's reply; without `info` its request. */
export function encodePrecopyInfo(info: PrecopyInfoValues = { initialBytes: 0, dirtyBytes: 0 }) {
  const { payload, view } = made(PrecopyInfo.structSize);
  PrecopyInfo.encode(view, 0, {
    argsz: PrecopyInfo.structSize,
    flags: info.flags ?? 0,
    initial_bytes: BigInt(info.initialBytes),
    dirty_bytes: BigInt(info.dirtyBytes),
  });
  return payload;
}

/** The same for request and reply. @throws VfioError EINVAL too short */
function decodePrecopyInfo(payload: Uint8Array): Required<PrecopyInfoValues> {
  const view = check('MIG_GET_PRECOPY_INFO', payload, PrecopyInfo.structSize);
  checkArgsz('MIG_GET_PRECOPY_INFO', view, PrecopyInfo.structSize);
  const { flags, initial_bytes, dirty_bytes } = PrecopyInfo.decode(view);
  return { initialBytes: Number(initial_bytes), dirtyBytes: Number(dirty_bytes), flags };
}

export const precopyInfo = message({
  name: 'MIG_GET_PRECOPY_INFO',
  number: 19,
  from: 'client',
  size: { fixed: PrecopyInfo.structSize, argsz: true },
  decode(payload): void {
    decodePrecopyInfo(payload);
  },
  answer({ stream }) {
    return { payload: encodePrecopyInfo(stream.precopyInfo()) };
  },
  encode: () => encodePrecopyInfo(),
  decodeReply: decodePrecopyInfo,
  command: { structs: [PrecopyInfo], words: [] },
  reply: {
    structs: [PrecopyInfo],
    words: [dec(PrecopyInfo.initial_bytes), ' bytes of the first state, ', dec(PrecopyInfo.dirty_bytes), ' bytes changed since'],
  },
});
