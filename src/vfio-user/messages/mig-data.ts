/**
 * MIG_DATA_READ and MIG_DATA_WRITE: the state of a device that is moved, in place of the descriptor
 * that the kernel gives.
 */
import { CapabilityDefaults } from '../../abi/vfio-user.ts';
import { VfioError } from '../../base/errno.ts';
import { struct } from '../../base/struct.ts';
import { EMPTY_ANSWER, message } from './message.ts';
import { check, checkArgsz, made, NOTHING } from './payload.ts';
import { bytes, DONE, dec, ref, type Shape } from './shape.ts';

/**
 * MIG_DATA_READ: `size` bytes are asked for, the reply has as many and the bytes. MIG_DATA_WRITE:
 * followed by `size` bytes.
 */
export const MigData = struct('vfio_user_mig_data', 8, { argsz: 'u32', size: 'u32' });

/** MIG_DATA_READ's request, or with `data` its reply; MIG_DATA_WRITE's request. */
export function encodeMigData(size: number, data: Uint8Array = NOTHING): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(MigData.structSize + data.length);
  MigData.encode(view, 0, { argsz: MigData.structSize + size, size });
  payload.set(data, MigData.structSize);
  return payload;
}

/**
 * @throws VfioError EINVAL too short, argsz that leaves no room for the data, or more than one
 *   message may carry
 */
export function decodeMigDataRead(payload: Uint8Array, max: number = CapabilityDefaults.MAX_DATA_XFER_SIZE): { readonly size: number } {
  const view = check('MIG_DATA_READ', payload, MigData.structSize);
  const { argsz, size } = MigData.decode(view);
  if (argsz < MigData.structSize + size) throw new VfioError('EINVAL', `MIG_DATA_READ: argsz ${argsz} leaves no room for ${size} bytes`);
  if (size > max) throw new VfioError('EINVAL', `MIG_DATA_READ: ${size} bytes, at most ${max}`);
  return { size };
}

/**
 * MIG_DATA_READ's reply. libvfio-user's replies have as many bytes as were asked for, however many
 * of them are data.
 *
 * @throws VfioError EINVAL too short, or fewer bytes than it says
 */
function decodeMigDataReply(payload: Uint8Array): Uint8Array {
  const view = check('MIG_DATA_READ', payload, MigData.structSize);
  checkArgsz('MIG_DATA_READ', view, MigData.structSize);
  const size = MigData.size.get(view, 0);
  if (MigData.structSize + size > payload.length) {
    throw new VfioError('EINVAL', `MIG_DATA_READ: ${size} bytes of data in ${payload.length}`);
  }
  return payload.subarray(MigData.structSize, MigData.structSize + size);
}

/** @throws VfioError EINVAL too short, or not `size` bytes of data */
export function decodeMigDataWrite(payload: Uint8Array): { readonly data: Uint8Array } {
  const view = check('MIG_DATA_WRITE', payload, MigData.structSize);
  const { argsz, size } = MigData.decode(view);
  if (size !== payload.length - MigData.structSize || argsz < payload.length) {
    throw new VfioError(
      'EINVAL',
      `MIG_DATA_WRITE: size ${size}, argsz ${argsz}, with ${payload.length - MigData.structSize} bytes of data`,
    );
  }
  return { data: payload.subarray(MigData.structSize) };
}

const withData: Shape = {
  structs: [MigData],
  words: [dec(MigData.size), ' bytes ', bytes(MigData.structSize, ref(MigData.size))],
};

export const migDataRead = message({
  name: 'MIG_DATA_READ',
  number: 17,
  from: 'client',
  size: { fixed: MigData.structSize, argsz: true },
  decode: decodeMigDataRead,
  answer({ stream }, { size }) {
    const data = stream.read(size);
    return { payload: encodeMigData(data.length, data) };
  },
  encode: ({ size }) => encodeMigData(size),
  decodeReply: decodeMigDataReply,
  command: { structs: [MigData], words: ['at most ', dec(MigData.size), ' bytes'] },
  reply: withData,
});

export const migDataWrite = message({
  name: 'MIG_DATA_WRITE',
  number: 18,
  from: 'client',
  size: { fixed: MigData.structSize, data: 'negotiated', counted: { ref: ref(MigData.size), unit: 1 } },
  decode: decodeMigDataWrite,
  answer({ stream }, { data }) {
    stream.write(data);
    return EMPTY_ANSWER;
  },
  command: withData,
  reply: DONE,
});
