/** How a connection begins: both say what they can do, and the server what device it has. */
import { CapabilityDefaults, VERSION_MAJOR, VERSION_MINOR } from '../../abi/vfio-user.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { MemfdMemory } from '../../sys/memfd.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import { UnixListener } from '../../sys/unix-listener.ts';
import { UnixSocket } from '../../sys/unix-socket.ts';
import { closeAll } from '../frames.ts';
import {
  type AdoptedCapability,
  type AdoptedMapping,
  type Capabilities,
  Command,
  type DeviceInfoReply,
  decodeAdopted,
  deviceInfo,
  type VersionMessage,
  type VersionRequest,
  version,
} from '../messages.ts';
import type { ClientConnection } from './connection.ts';
import type { MappedMemory } from './mapped-memory.ts';
import type { AdoptedMemory } from './options.ts';

/** Descriptors that the client takes in one message. A device has no more doorbells. */
const MAX_MSG_FDS = 16;
/** 4 KiB, 2 MiB, 1 GiB: the page sizes of memory on this computer. */
const PAGE_SIZES = 0x4020_1000n;
/** More than any device has; a server that says so is no server. */
const MAX_REGIONS = 100;
const MAX_IRQS = 50;
/**
 * Replies of ours that must wait do so here, and none is lost. So many bytes a server of ours asks
 * for at once.
 */
const DMA_READ_BYTES = 4 * 2 ** 20;

export type Agreed = Capabilities;

/** The mappings and memories of a device that was moved to the server. */
export interface Adopted {
  readonly mappings: readonly AdoptedMapping[];
  /** With one reference each, which the receiver drops. */
  readonly memories: readonly MemfdMemory[];
}

export interface Wishes {
  readonly twinSocket: boolean;
  /** For a function of an SR-IOV device that asks for one. */
  readonly vfToken: Uint8Array | null;
  /** Whether to take the device that was moved there, and no other. */
  readonly adopt: boolean;
}

/**
 * @throws VfioError EPROTO when the client cannot talk to the server; EBUSY when the server serves
 *   a different client; EACCES when it wants a VF token that was not given, or another one; EINVAL
 *   when it has no use for the token that was given; ENXIO, EOPNOTSUPP when there is no moved
 *   device to adopt, or never is; what `ask` throws
 */
export function agreeOnVersion(
  connection: ClientConnection,
  { twinSocket: wantTwin, vfToken, adopt }: Wishes,
): { readonly agreed: Agreed; readonly adopted: Adopted | null } {
  const asked: Partial<Capabilities> = {
    maxMsgFds: connection.carriesFds ? MAX_MSG_FDS : 0,
    maxDataXferSize: connection.maxDataBytes,
    maxDmaMaps: CapabilityDefaults.MAX_DMA_MAPS,
    pgsizes: PAGE_SIZES,
    twinSocket: wantTwin && connection.carriesFds ? { supported: true } : null,
    migration: { pgsize: 4096 },
    writeMultiple: true,
  };
  const request: VersionRequest = {
    major: VERSION_MAJOR,
    minor: VERSION_MINOR,
    capabilities: asked,
    adopt,
    dmaReadBytes: DMA_READ_BYTES,
    reasons: true,
    ...(vfToken === null ? {} : { vfToken }),
  };
  let reply: VersionMessage;
  try {
    reply = connection.ask(version, request, `VERSION ${VERSION_MAJOR}.${VERSION_MINOR}`);
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    throw refused(error, connection.name, vfToken !== null, adopt);
  }
  using fds = new Cleanup();
  const received = connection.takeReplyFds();
  fds.defer(() => closeAll(received));
  const { major, minor, capabilities, adopted } = reply;
  if (major !== VERSION_MAJOR || minor > VERSION_MINOR) {
    throw connection.badReply(Command.VERSION, `version ${major}.${minor} was not offered`);
  }
  const came = adopt ? takeAdopted(connection, adopted, received) : null;
  const { twinSocket } = capabilities;
  if (twinSocket?.supported === true && asked.twinSocket != null) {
    const [twin] = received.splice(twinSocket.fdIndex ?? 0, 1);
    if (twin === undefined) throw connection.badReply(Command.VERSION, 'a twin socket that did not come along');
    connection.useTwin(UnixSocket.fromFd(twin));
  }
  return { agreed: capabilities, adopted: came };
}

/** Takes table and memories out of the descriptors that came. */
function takeAdopted(connection: ClientConnection, capability: AdoptedCapability | undefined, received: OwnedFd[]): Adopted {
  if (capability === undefined) {
    throw new VfioError('EOPNOTSUPP', `${connection.name} does not support adopting a moved device`, {
      fix: 'Open it without adopt.',
    });
  }
  const { mappings: count, fdIndex, memories: number } = capability;
  const fds = received.splice(fdIndex, 1 + number);
  using undo = new Cleanup();
  undo.defer(() => closeAll(fds));
  if (fds.length !== 1 + number) throw connection.badReply(Command.VERSION, `${fds.length} descriptors for a table and ${number} memories`);
  try {
    const map = (fd: OwnedFd): MemfdMemory => undo.use(MemfdMemory.fromFd(fd.duplicate(), 0, fd.size));
    const table = map(fds[0]!);
    const memories = fds.slice(1).map(map);
    const sizes = memories.map(({ size }) => size);
    const mappings = decodeAdopted(table.windows[0]!, count, sizes);
    for (const memory of memories) memory.get();
    return { mappings, memories };
  } catch (cause) {
    if (!(cause instanceof VfioError)) throw cause;
    throw connection.badReply(Command.VERSION, cause.message);
  }
}

/** Servers refuse a version with EINVAL; another errno, as EBUSY, says why itself. */
function refused(cause: VfioError, name: string, gaveToken: boolean, adopts: boolean): VfioError {
  if (cause.code === 'EACCES') {
    const fix = 'open(address, { token }) in a driver, --vf-token-file in a command; the driver of the physical function has set it.';
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
  if (cause.code === 'ENXIO' && adopts) {
    return new VfioError('ENXIO', `no device that was moved to ${name} waits for a client`, {
      cause,
      fix: 'Move one there first (vfio migrate), or open it without adopt.',
    });
  }
  if (cause.code === 'EBUSY')
    return new VfioError('EBUSY', cause.message, {
      cause,
      fix: cause.fix ?? 'Disconnect the other user of the device; open a device that was moved there with { adopt: true }.',
    });
  return cause.code === 'EINVAL' ? new VfioError('EPROTO', cause.message, { cause, fix: 'Use a server that speaks this version.' }) : cause;
}

/**
 * @throws VfioError EPROTO for more regions or IRQ indexes than any device has; what `ask` throws
 */
export function askDeviceInfo(connection: ClientConnection): DeviceInfoReply {
  const info = connection.ask(deviceInfo, undefined, 'DEVICE_GET_INFO');
  if (info.numRegions > MAX_REGIONS || info.numIrqs > MAX_IRQS) {
    throw connection.badReply(Command.DEVICE_GET_INFO, `${info.numRegions} regions and ${info.numIrqs} IRQ indexes`);
  }
  return info;
}

/** A request blocks this thread until it is answered. @throws VfioError EDEADLK */
export function checkNotOurselves(path: string): void {
  if (!UnixListener.isOfThisThread(path)) return;
  throw new VfioError('EDEADLK', `${path} is served by this thread, which would wait for its own answer`, {
    fix: "Serve it in another process or in a worker thread; in one thread, open the device itself, as with open('sim:edu').",
  });
}

/**
 * Maps here the memory that is mapped at the server.
 * @throws VfioError EPROTO for mappings that overlap
 */
export function takeOver(connection: ClientConnection, memory: MappedMemory, { mappings, memories }: Adopted): AdoptedMemory[] {
  using undo = new Cleanup();
  // A memory that is mapped has a reference of its own.
  for (const each of memories) undo.defer(() => each.put());
  for (const { iova, size, memory: number, offset, access } of mappings) {
    const first = Number(iova >> 12n);
    const last = first + size / 4096 - 1;
    if (memory.overlaps(first, last)) throw connection.badReply(Command.VERSION, 'adopted mappings that overlap');
    memory.add(first, last, memories[number]!, offset, access);
  }
  return mappings.map(({ memory: number, ...rest }) => ({ ...rest, memory: memories[number]! })).sort((a, b) => (a.iova < b.iova ? -1 : 1));
}
