/** How a connection begins: both say what they can do, and the server what device it has. */
import { CapabilityDefaults, Command, HEADER_BYTES, VERSION_MAJOR, VERSION_MINOR } from '../../abi/vfio-user.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { UnixSocket } from '../../sys/unix-socket.ts';
import { closeAll } from '../frames.ts';
import { decodeDeviceInfo, encodeDeviceInfo } from '../messages.ts';
import { type Capabilities, decodeVersion, encodeVersion, type VersionMessage } from '../version.ts';
import type { ClientConnection } from './connection.ts';

/** Descriptors that we take in one message. A device has no more doorbells. */
const MAX_MSG_FDS = 16;
/** 4 KiB, 2 MiB, 1 GiB: what memory comes in here. */
const PAGE_SIZES = 0x4020_1000n;
/** More than any device has; a server that says so is none. */
const MAX_REGIONS = 100;
const MAX_IRQS = 50;

export type Agreed = Capabilities;

/**
 * @param vfToken for a function of an SR-IOV device that asks for one
 * @throws VfioError EPROTO when it is no server that we can talk to; EBUSY when it serves somebody else; EACCES when it wants a VF token that was not given, or
 * another one; EINVAL when it has no use for the one that was; what `request` throws
 */
export function agreeOnVersion(connection: ClientConnection, wantTwin: boolean, vfToken: Uint8Array | null = null): Agreed {
  const asked: Partial<Capabilities> = {
    maxMsgFds: connection.carriesFds ? MAX_MSG_FDS : 0,
    maxDataXferSize: connection.maxDataBytes,
    maxDmaMaps: CapabilityDefaults.MAX_DMA_MAPS,
    pgsizes: PAGE_SIZES,
    twinSocket: wantTwin && connection.carriesFds ? { supported: true } : null,
    migration: { pgsize: 4096 },
    writeMultiple: true,
  };
  const payload = encodeVersion(VERSION_MAJOR, VERSION_MINOR, asked, vfToken);
  connection.outBytes.set(payload, HEADER_BYTES);
  const errno = connection.request(Command.VERSION, payload.length);
  if (vfToken !== null) connection.outBytes.fill(0, HEADER_BYTES, HEADER_BYTES + payload.length);
  if (errno !== 0) throw refused(connection.failure(errno, `VERSION ${VERSION_MAJOR}.${VERSION_MINOR}`), connection.name, vfToken !== null);
  using fds = new Cleanup();
  const received = connection.takeReplyFds();
  fds.defer(() => closeAll(received));
  const { major, minor, capabilities } = decodeReply(connection);
  if (major !== VERSION_MAJOR || minor > VERSION_MINOR) {
    throw connection.badReply(Command.VERSION, `version ${major}.${minor} was not offered`);
  }
  const { twinSocket } = capabilities;
  if (twinSocket?.supported === true && asked.twinSocket != null) {
    const [twin] = received.splice(twinSocket.fdIndex ?? 0, 1);
    if (twin === undefined) throw connection.badReply(Command.VERSION, 'a twin socket that did not come along');
    connection.useTwin(UnixSocket.fromFd(twin));
  }
  return capabilities;
}

/** EINVAL is how servers refuse a version; anything else, as EBUSY, says why itself. */
function refused(cause: VfioError, name: string, gaveToken: boolean): VfioError {
  if (cause.code === 'EACCES') {
    const fix = 'open(address, { token }) in a driver, --vf-token-file in a command; whoever drives the physical function has set it.';
    const what = gaveToken
      ? `the VF token given for ${name} is not the current one`
      : `${name} needs a VF token: it belongs to an SR-IOV device`;
    return new VfioError('EACCES', what, { cause, fix });
  }
  if (cause.code === 'EINVAL' && gaveToken) {
    return new VfioError('EINVAL', `${name} has no use for a VF token, or speaks another version (${cause.message})`, {
      cause,
      fix: 'Open it without a token.',
    });
  }
  if (cause.code === 'EBUSY') return new VfioError('EBUSY', cause.message, { cause, fix: 'Disconnect whoever else uses the device.' });
  return cause.code === 'EINVAL' ? new VfioError('EPROTO', cause.message, { cause, fix: 'Use a server that speaks this version.' }) : cause;
}

function decodeReply(connection: ClientConnection): VersionMessage {
  try {
    return decodeVersion(connection.replyBytes.subarray(connection.replyAt, connection.replyAt + connection.replySize));
  } catch (error) {
    if (error instanceof VfioError) throw connection.badReply(Command.VERSION, error.message);
    throw error;
  }
}

export function askDeviceInfo(connection: ClientConnection): { flags: number; numRegions: number; numIrqs: number } {
  const payload = encodeDeviceInfo();
  connection.outBytes.set(payload, HEADER_BYTES);
  const errno = connection.request(Command.DEVICE_GET_INFO, payload.length);
  if (errno !== 0) throw connection.failure(errno, 'DEVICE_GET_INFO');
  const { replyAt, replySize } = connection;
  if (replySize < payload.length) throw connection.badReply(Command.DEVICE_GET_INFO, `${replySize} bytes`);
  const { flags, numRegions, numIrqs } = decodeDeviceInfo(connection.replyBytes.subarray(replyAt, replyAt + replySize));
  if (numRegions > MAX_REGIONS || numIrqs > MAX_IRQS) {
    throw connection.badReply(Command.DEVICE_GET_INFO, `${numRegions} regions and ${numIrqs} IRQ indexes`);
  }
  return { flags, numRegions, numIrqs };
}
