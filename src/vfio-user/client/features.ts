/** DEVICE_FEATURE of a client: messages that the features of the device are made of. */
import type { FeatureRequest } from '../../abi/device.ts';
import { Feature, FeatureFlags } from '../../abi/vfio.ts';
import { DeviceFeature } from '../../abi/vfio-structs.ts';
import { HEADER_BYTES } from '../../abi/vfio-user.ts';
import { errnoName, VfioError } from '../../base/errno.ts';
import { isMember } from '../../device/feature-bytes.ts';
import type { EventFd } from '../../sys/eventfd.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import { closeAll } from '../frames.ts';
import { Command } from '../messages.ts';
import { type ClientConnection, REQUEST_DATA_BYTES } from './connection.ts';
import { nameIn } from './names.ts';

const { GET, SET, PROBE } = FeatureFlags;
const EMPTY = new Uint8Array(0);
/** The place of a request's data in the connection's buffer. */
export const DATA_AT = HEADER_BYTES + DeviceFeature.structSize;

export class ClientFeatures {
  readonly connection: ClientConnection;

  constructor(connection: ClientConnection) {
    this.connection = connection;
  }

  /**
   * Send a request whose data stands in the connection's buffer at DATA_AT.
   *
   * @param op bits of `FeatureFlags`
   * @param room bytes of data that the reply may have. Default: as many as the request has
   * @returns 0, or a positive errno
   */
  send(feature: number, op: number, bytes: number, room: number = bytes, fds?: OwnedFd[]): number {
    const { source } = this.connection.messages;
    const ask = () => this.#ask(feature, op, bytes, room, fds);
    // It has an event of its own.
    if (!source.on || (feature === Feature.MIG_DEVICE_STATE && (op & SET) !== 0)) return ask();
    const details = { name: nameIn(Feature, feature), op: (op & PROBE) !== 0 ? 'probe' : (op & SET) !== 0 ? 'set' : 'get' } as const;
    return source.attempt('feature', details, ask, (errno) => (errno === 0 ? {} : { errno: errnoName(errno) ?? `errno ${errno}` }));
  }

  #ask(feature: number, op: number, bytes: number, room: number, fds?: OwnedFd[]): number {
    const { out } = this.connection;
    DeviceFeature.encode(out, HEADER_BYTES, { argsz: DeviceFeature.structSize + room, flags: feature | op });
    return this.connection.request(Command.DEVICE_FEATURE, DeviceFeature.structSize + bytes, fds);
  }

  /** The data of the last reply. @throws VfioError EPROTO when it has fewer bytes than `least` */
  reply(least: number): Uint8Array {
    const { reply, replyBytes, replyAt, replySize } = this.connection;
    const size = DeviceFeature.structSize + least;
    const argsz = replySize < DeviceFeature.argsz.end ? 0 : DeviceFeature.argsz.get(reply, replyAt);
    if (replySize < size || argsz < size) {
      throw this.connection.badReply(Command.DEVICE_FEATURE, `${replySize} bytes, argsz ${argsz}; ${size} at least`);
    }
    return replyBytes.subarray(replyAt + DeviceFeature.structSize, replyAt + replySize);
  }

  /**
   * Whether the device has the feature and the operation.
   *
   * @throws VfioError ENOTTY, EINVAL of the server
   */
  probe(feature: number, op: number): void {
    const errno = this.send(feature, op | PROBE, 0);
    if (errno !== 0) throw this.#failure(errno, feature);
  }

  /** SET. @throws VfioError the error that the server answers */
  set(feature: number, data: Uint8Array = EMPTY, eventFds: readonly EventFd[] = []): void {
    const fds: OwnedFd[] = [];
    try {
      for (const eventFd of eventFds) fds.push(eventFd.duplicateFd());
      this.connection.outBytes.set(data, DATA_AT);
      const errno = this.send(feature, SET, data.length, data.length, fds);
      if (errno !== 0) throw this.#failure(errno, feature);
    } finally {
      // A VF token must not stay in the buffer.
      this.connection.outBytes.fill(0, DATA_AT, DATA_AT + data.length);
      closeAll(fds);
    }
  }

  /** GET of `size` bytes. @throws VfioError the error that the server answers */
  get(feature: number, size: number): DataView {
    this.connection.outBytes.fill(0, DATA_AT, DATA_AT + size);
    const errno = this.send(feature, GET, size);
    if (errno !== 0) throw this.#failure(errno, feature);
    const { buffer, byteOffset, byteLength } = this.reply(size);
    return new DataView(buffer, byteOffset, byteLength);
  }

  /**
   * `Device.feature`: a probe, or a feature that is no member of `Device`, as it is.
   *
   * @throws VfioError as there
   */
  raw(request: FeatureRequest): number {
    const { name } = this.connection;
    if (typeof request !== 'object' || request === null) throw new VfioError('EINVAL', `${name}: FEATURE without a request`);
    const { feature, data = EMPTY, probe = false, get = false, set = false } = request;
    if (!Number.isInteger(feature) || feature < 0 || feature > FeatureFlags.MASK) {
      throw new VfioError('EINVAL', `${name}: feature number ${String(feature)} does not fit 16 bits`);
    }
    if (!(data instanceof Uint8Array)) throw new VfioError('EFAULT', `data of feature ${feature} is not a Uint8Array`);
    if (data.length > REQUEST_DATA_BYTES) {
      throw new VfioError('EINVAL', `feature ${feature}: ${data.length} bytes of data; a message carries ${REQUEST_DATA_BYTES}`);
    }
    const op = (get ? GET : 0) | (set ? SET : 0);
    if (!probe && get !== set && isMember(feature)) {
      this.probe(feature, op);
      throw new VfioError('EINVAL', `${name}: feature ${feature} with ${data.length} bytes of data`, {
        fix: 'Use the member of the device.',
      });
    }
    this.connection.outBytes.set(data, DATA_AT);
    const errno = this.send(feature, op | (probe ? PROBE : 0), data.length);
    if (errno !== 0) throw this.#failure(errno, feature);
    if (!get || probe) return 0;
    const got = this.reply(0);
    if (got.length > data.length) throw this.connection.badReply(Command.DEVICE_FEATURE, `${got.length} bytes of data for ${data.length}`);
    data.set(got);
    return got.length;
  }

  #failure(errno: number, feature: number): VfioError {
    return this.connection.failure(errno, `feature ${feature}`);
  }
}
